//! Document keys as bytes: equal keys give equal bytes, different ones different bytes.
//!
//! A key with routing, and every `_id` that has no shorter form, is its text: `_id`, and after a
//! 0xff byte (never part of UTF-8) the routing. The forms that most ids have take fewer bytes, behind
//! a mark that no UTF-8 text starts with:
//!
//! ```text
//! 0x80      15 bytes   20 characters of URL-safe base64: what Elasticsearch gives a document
//! 0x81      16 bytes   a UUID, 8-4-4-4-12 in lower case
//! 0x82      16 bytes   22 characters of URL-safe base64: a UUID too
//! 0x83      n/2 bytes  n hexadecimal digits in lower case, n even and 16 or more: checksums
//! 0x88 + n  n bytes    a decimal number without leading zeros below 2^64, n in 1..=8
//! ```

use knn_types::DocKey;

const ROUTING_MARK: u8 = 0xff;
const AUTO: u8 = 0x80;
const UUID: u8 = 0x81;
const BASE64_UUID: u8 = 0x82;
const HEX: u8 = 0x83;
const NUMBER: u8 = 0x88;
/// Hexadecimal ids shorter than this are as well kept as text.
const SHORTEST_HEX: usize = 16;
/// Where a UUID has its hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// Replaces `into` with the bytes of `key`.
pub(crate) fn encode(key: &DocKey, into: &mut Vec<u8>) {
    into.clear();
    let id = key.id.as_bytes();
    match &key.routing {
        Some(routing) => {
            into.extend_from_slice(id);
            into.push(ROUTING_MARK);
            into.extend_from_slice(routing.as_bytes());
        }
        None if encode_short(id, into).is_some() => {}
        None => {
            into.clear();
            into.extend_from_slice(id);
        }
    }
}

/// Writes the short form of an id; `None`, and anything in `into`, if it has none.
fn encode_short(id: &[u8], into: &mut Vec<u8>) -> Option<()> {
    if let Some(number) = decimal(id) {
        let bytes = number.to_be_bytes();
        let used = &bytes[(number.leading_zeros() as usize / 8).min(7)..];
        into.push(NUMBER + used.len() as u8);
        into.extend_from_slice(used);
        return Some(());
    }
    if id.len() >= SHORTEST_HEX && id.len().is_multiple_of(2) && id.iter().all(|&c| hex_digit(c).is_some()) {
        into.push(HEX);
        return push_hex(id.iter().copied(), into);
    }
    match id.len() {
        20 => {
            into.push(AUTO);
            push_base64(id, into)
        }
        22 => {
            into.push(BASE64_UUID);
            push_base64(id, into)
        }
        36 if HYPHENS.iter().all(|&at| id[at] == b'-') => {
            into.push(UUID);
            let digits = id.iter().enumerate().filter(|(at, _)| !HYPHENS.contains(at));
            push_hex(digits.map(|(_, &c)| c), into)
        }
        _ => None,
    }
}

/// The key behind bytes that [`encode`] made; `None` for most others.
pub(crate) fn decode(bytes: &[u8]) -> Option<DocKey> {
    if let Some((&mark @ 0x80..=0xbf, packed)) = bytes.split_first() {
        return decode_short(mark, packed).map(DocKey::new);
    }
    let (id, routing) = split(bytes);
    let id = std::str::from_utf8(id).ok()?;
    let routing = routing.map(std::str::from_utf8).transpose().ok()?;
    Some(DocKey { id: id.into(), routing: routing.map(Into::into) })
}

/// Whether [`decode`] understands the bytes, without making the key.
pub(crate) fn is_sound(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((&mark @ 0x80..=0xbf, packed)) => match mark {
            AUTO => packed.len() == 15,
            UUID | BASE64_UUID => packed.len() == 16,
            HEX => !packed.is_empty(),
            _ => (1..=8).contains(&packed.len()) && mark == NUMBER + packed.len() as u8,
        },
        _ => {
            let (id, routing) = split(bytes);
            std::str::from_utf8(id).is_ok()
                && routing.is_none_or(|routing| std::str::from_utf8(routing).is_ok())
        }
    }
}

fn split(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match bytes.iter().position(|&byte| byte == ROUTING_MARK) {
        Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
        None => (bytes, None),
    }
}

fn decode_short(mark: u8, packed: &[u8]) -> Option<String> {
    match (mark, packed.len()) {
        (AUTO, 15) => Some(base64_text(packed, 20)),
        (BASE64_UUID, 16) => Some(base64_text(packed, 22)),
        (UUID, 16) => {
            let mut text = hex_text(packed);
            HYPHENS.iter().for_each(|&at| text.insert(at, '-'));
            Some(text)
        }
        (HEX, 1..) => Some(hex_text(packed)),
        (_, len @ 1..=8) if mark == NUMBER + len as u8 => {
            let number = packed.iter().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
            Some(number.to_string())
        }
        _ => None,
    }
}

/// The number, if the text is how it is written.
fn decimal(id: &[u8]) -> Option<u64> {
    let canonical = matches!(id, [b'0'] | [b'1'..=b'9', ..]) && id.len() <= 20;
    if !canonical || !id.iter().all(u8::is_ascii_digit) {
        return None;
    }
    id.iter().try_fold(0u64, |number, &c| number.checked_mul(10)?.checked_add(u64::from(c - b'0')))
}

fn hex_digit(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    }
}

fn push_hex(mut digits: impl Iterator<Item = u8>, into: &mut Vec<u8>) -> Option<()> {
    while let Some(high) = digits.next() {
        into.push(hex_digit(high)? << 4 | hex_digit(digits.next()?)?);
    }
    Some(())
}

fn hex_text(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).expect("a nibble");
    bytes.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// RFC 4648 section 5, without padding. The bits beyond the last whole byte must be zero, or the
/// text would not come back.
fn push_base64(text: &[u8], into: &mut Vec<u8>) -> Option<()> {
    let (mut held, mut bits) = (0u32, 0);
    for &c in text {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            into.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    (held == 0).then_some(())
}

fn base64_text(bytes: &[u8], characters: usize) -> String {
    let sextet = |at: usize| {
        let bit = at * 6;
        let two = u16::from(bytes[bit / 8]) << 8 | u16::from(bytes.get(bit / 8 + 1).copied().unwrap_or(0));
        char::from(BASE64[usize::from(two >> (10 - bit % 8)) & 63])
    };
    (0..characters).map(sextet).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(key: &DocKey) -> Vec<u8> {
        let mut bytes = vec![1, 2, 3];
        encode(key, &mut bytes);
        bytes
    }

    #[test]
    fn keys_come_back_and_differ_by_routing() {
        let mut seen = std::collections::HashSet::new();
        for (id, routing) in
            [("a", None), ("a", Some("")), ("a", Some("b")), ("ab", None), ("", None), ("ü", Some("ÿ"))]
        {
            let key = DocKey { id: id.into(), routing: routing.map(Into::into) };
            let bytes = encoded(&key);
            assert_eq!(decode(&bytes), Some(key));
            assert!(seen.insert(bytes));
        }
        assert_eq!(decode(&[0xfe]), None);
        assert!(!is_sound(&[0xfe]) && !is_sound(&[AUTO, 1]) && !is_sound(&[NUMBER]) && !is_sound(&[0xbf, 0]));
    }

    #[test]
    fn common_ids_are_short() {
        for (id, bytes) in [
            ("0", 2),
            ("255", 2),
            ("256", 3),
            ("18446744073709551615", 9),
            ("VuaCtJkBqGnrBUGr5Pgk", 16),
            ("f81d4fae-7dec-11d0-a765-00a0c91e6bf6", 17),
            ("-B1Prn3sEdCnZQCgyR5r9g", 17),
            ("d41d8cd98f00b204e9800998ecf8427e", 17),
        ] {
            let key = DocKey::new(id);
            assert_eq!(encoded(&key).len(), bytes, "{id}");
            assert_eq!(decode(&encoded(&key)), Some(key));
        }
    }

    proptest! {
        /// Texts near the short forms, most of them not quite of one.
        #[test]
        fn every_id_comes_back(
            id in prop_oneof![
                "[0-9]{0,21}",
                "[0-9a-f]{14,41}",
                "[A-Za-z0-9_-]{20}",
                "[A-Za-z0-9_-]{21}[AQgwB]",
                "[0-9a-fA]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
                "[a-f-]{36}",
                "\\PC{0,40}",
            ],
            routing in proptest::option::of("\\PC{0,5}"),
        ) {
            let key = DocKey { id: id.as_str().into(), routing: routing.as_deref().map(Into::into) };
            let bytes = encoded(&key);
            prop_assert!(is_sound(&bytes));
            prop_assert_eq!(decode(&bytes), Some(key));
        }
    }
}
