//! The target of a request line, where Elasticsearch takes more characters than `http::Uri` does.
//!
//! Elasticsearch reads the bytes of a target as ISO 8859-1 and decodes escapes as UTF-8. So a character that
//! would be refused here, or read as another one (bytes above 0x7f), is replaced by an escape of what
//! Elasticsearch makes of it, before anything here looks at it.

use bytes::BytesMut;

/// What the beginning of a head holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Empty lines, which do not count.
    Empty,
    /// A part of a line.
    Partial,
    /// A whole line; all bytes as they must be, where that is not what they are.
    Whole(Option<BytesMut>),
}

/// Looks at the first line of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Line {
    let Some(start) = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')) else {
        return Line::Empty;
    };
    let Some(length) = memchr::memchr(b'\n', &bytes[start..]) else { return Line::Partial };
    Line::Whole(target_of(bytes, start, start + length).and_then(|(start, end)| escaped(bytes, start, end)))
}

/// Where the target stands in a line that looks like a request line.
fn target_of(bytes: &[u8], start: usize, end: usize) -> Option<(usize, usize)> {
    let line = bytes[start..end].strip_suffix(b"\r").unwrap_or(&bytes[start..end]);
    let line = line.strip_suffix(b" HTTP/1.1").or_else(|| line.strip_suffix(b" HTTP/1.0"))?;
    let target = start + memchr::memchr(b' ', line)? + 1;
    Some((target, start + line.len()))
}

/// All bytes, with what is odd in the target escaped; `None` where nothing is.
fn escaped(bytes: &[u8], start: usize, end: usize) -> Option<BytesMut> {
    let target = &bytes[start..end];
    if !target.iter().any(|byte| is_odd(*byte)) {
        return None;
    }
    let mut out = BytesMut::with_capacity(bytes.len() + 6 * target.len());
    out.extend_from_slice(&bytes[..start]);
    for &byte in target {
        match byte {
            byte if !is_odd(byte) => out.extend_from_slice(&[byte]),
            byte => {
                let mut utf8 = [0; 2];
                for &byte in char::from(byte).encode_utf8(&mut utf8).as_bytes() {
                    out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
                }
            }
        }
    }
    out.extend_from_slice(&bytes[end..]);
    Some(out)
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

const fn is_odd(byte: u8) -> bool {
    matches!(byte, b'<' | b'>' | b'"' | b'`' | 0x7f..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(bytes: &[u8]) -> Option<String> {
        match read(bytes) {
            Line::Whole(changed) => changed.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_uri_cannot_hold_is_escaped_as_elasticsearch_reads_it() {
        for (line, target) in [
            ("GET /<a>/_search?q=\"x`y\" HTTP/1.0\r\n", "/%3Ca%3E/_search?q=%22x%60y%22"),
            ("GET /é HTTP/1.1\n", "/%C3%83%C2%A9"),
            ("GET /\u{7f} HTTP/1.1\r\n", "/%7F"),
        ] {
            let changed = changed(line.as_bytes()).unwrap();
            assert_eq!(changed.split(' ').nth(1), Some(target), "{line}");
            assert!(changed.ends_with('\n'), "{changed}");
        }
        let with_rest = changed(b"\r\nPUT /a<b HTTP/1.1\r\nX: <\r\n\r\n<").unwrap();
        assert_eq!(with_rest, "\r\nPUT /a%3Cb HTTP/1.1\r\nX: <\r\n\r\n<");
    }

    #[test]
    fn everything_else_stays() {
        for bytes in [
            &b"GET /a#b/_doc/1?x={y}|z&w=[1] HTTP/1.1\r\nHost: <\r\n"[..],
            b"X-Header: <\r\n",
            b"GET /<\r\n",
            b"GET /< HTTP/2.0\r\n",
            b"<\n",
        ] {
            assert_eq!(changed(bytes), None, "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(read(b"\r\n\n"), Line::Empty);
        assert_eq!(read(b"\r\nGET /<"), Line::Partial);
    }
}
