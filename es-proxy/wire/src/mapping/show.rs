//! From Elasticsearch's mapping to what the client wrote.

/// Shows `ivf` wherever `response` holds a field that carries our options. `None`: nothing to change.
pub fn show_ivf(response: &str) -> Option<String> {
    let _ = response;
    None
}
