//! Hop-by-hop headers (RFC 9110 §7.6.1): they belong to one connection and never cross the proxy.

use http::HeaderMap;
use http::header::{CONNECTION, HeaderName};

/// Asks for `x-outrigger` on the response.
pub(crate) const EXPLAIN: HeaderName = HeaderName::from_static("x-outrigger-explain");
/// Chooses the mode of one request.
pub(crate) const MODE: HeaderName = HeaderName::from_static("x-outrigger-mode");

/// Says how many lists a search visits in each shard, for experiments.
pub(crate) const NPROBE: HeaderName = HeaderName::from_static("x-outrigger-nprobe");

/// Says how long the client will wait, as `500ms` or `2s`.
pub(crate) const TIMEOUT: HeaderName = HeaderName::from_static("x-outrigger-timeout");

/// Removes what belongs to a client's connection. Other headers stay although `Connection` names them: who else
/// can write that header could take from a request what says whose it is, or what a load balancer put there,
/// and Elasticsearch itself pays no heed to such names.
pub(crate) fn strip_connection(headers: &mut HeaderMap) {
    strip(headers, |name| {
        matches!(
            name,
            "connection"
                | "keep-alive"
                | "proxy-connection"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
                | "http2-settings"
        )
    });
}

/// Most messages have none of what is sought: to look is cheaper than to remove name by name.
fn strip(headers: &mut HeaderMap, is_sought: impl Fn(&str) -> bool) {
    while let Some(name) = headers.keys().find(|name| is_sought(name.as_str())).cloned() {
        headers.remove(name);
    }
}

/// Removes what belongs to the connection that a response came on, and what it says does.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    strip_connection(headers);
}

/// Removes the headers that are addressed to us.
pub(crate) fn strip_ours(headers: &mut HeaderMap) {
    strip(headers, |name| {
        name.starts_with("x-outrigger-") && [EXPLAIN, MODE, NPROBE, TIMEOUT].iter().any(|ours| name == ours)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_headers_and_what_they_name_are_removed() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-opaque-id", "stays"),
            ("content-length", "3"),
        ] {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "x-opaque-id"]);
    }

    #[test]
    fn a_client_cannot_have_other_headers_removed() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, Authorization, X-Forwarded-For, upgrade"),
            ("authorization", "Basic eDp5"),
            ("x-forwarded-for", "10.0.0.1"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ] {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        strip_connection(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "x-forwarded-for"]);
    }
}
