//! Document keys as bytes: `_id`, and after a 0xff byte (never part of UTF-8) the routing.

use knn_types::DocKey;

const ROUTING_MARK: u8 = 0xff;

/// Replaces `into` with the bytes of `key`.
pub(crate) fn encode(key: &DocKey, into: &mut Vec<u8>) {
    into.clear();
    into.extend_from_slice(key.id.as_bytes());
    if let Some(routing) = &key.routing {
        into.push(ROUTING_MARK);
        into.extend_from_slice(routing.as_bytes());
    }
}

/// The key behind bytes that [`encode`] made; `None` for any others.
pub(crate) fn decode(bytes: &[u8]) -> Option<DocKey> {
    let mut parts = bytes.splitn(2, |&byte| byte == ROUTING_MARK);
    let id = std::str::from_utf8(parts.next()?).ok()?;
    let routing = parts.next().map(std::str::from_utf8).transpose().ok()?;
    Some(DocKey { id: id.into(), routing: routing.map(Into::into) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_and_differ_by_routing() {
        let mut seen = std::collections::HashSet::new();
        for (id, routing) in
            [("a", None), ("a", Some("")), ("a", Some("b")), ("ab", None), ("", None), ("ü", Some("ÿ"))]
        {
            let key = DocKey { id: id.into(), routing: routing.map(Into::into) };
            let mut bytes = Vec::new();
            encode(&key, &mut bytes);
            assert_eq!(decode(&bytes), Some(key));
            assert!(seen.insert(bytes));
        }
        assert_eq!(decode(&[0xfe]), None);
    }
}
