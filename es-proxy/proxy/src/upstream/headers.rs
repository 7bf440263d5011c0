//! Hop-by-hop headers (RFC 9110 §7.6.1): they belong to one connection and never cross the proxy.

use http::HeaderMap;
use http::header::{CONNECTION, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Asks for `x-outrigger` on the response.
pub(crate) const EXPLAIN: HeaderName = HeaderName::from_static("x-outrigger-explain");
/// Chooses the mode of one request.
pub(crate) const MODE: HeaderName = HeaderName::from_static("x-outrigger-mode");

/// Says how many lists a search visits in each shard, for experiments.
pub(crate) const NPROBE: HeaderName = HeaderName::from_static("x-outrigger-nprobe");

/// Removes what belongs to the connection that the message came on, in either direction.
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
        headers.remove(CONNECTION);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

/// Removes the headers that are addressed to us.
pub(crate) fn strip_ours(headers: &mut HeaderMap) {
    headers.remove(EXPLAIN);
    headers.remove(MODE);
    headers.remove(NPROBE);
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
}
