//! The path of a URL, split and decoded as Elasticsearch's router does.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::params::escapes_are_whole;

/// The decoded segments of a path.
pub type Segments<'a> = Vec<Cow<'a, str>>;

/// Splits first and decodes each part after, so that `%2F` stays inside its segment and `%2C` becomes
/// a comma. Trailing slashes are ignored; a double slash elsewhere, a missing first slash or a
/// malformed escape is not ours, nor a raw byte above ASCII, which Elasticsearch reads as another
/// character than its UTF-8. `+` stays a plus.
pub fn segments(path: &str) -> Option<Segments<'_>> {
    let inner = path.strip_prefix('/')?.trim_end_matches('/');
    if inner.is_empty() {
        // `//` is no route of Elasticsearch, `/` is its root.
        return (path == "/").then(Vec::new);
    }
    let mut segments = Vec::with_capacity(4);
    for raw in inner.split('/') {
        segments.push(segment(raw)?);
    }
    Some(segments)
}

fn segment(raw: &str) -> Option<Cow<'_, str>> {
    if raw.is_empty() || !raw.is_ascii() {
        return None;
    }
    if !raw.contains('%') {
        return Some(Cow::Borrowed(raw));
    }
    if !escapes_are_whole(raw) {
        return None;
    }
    percent_decode_str(raw).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_before_it_decodes() {
        assert_eq!(segments("/m2%2Cm1/_search/").unwrap(), ["m2,m1", "_search"]);
        assert_eq!(segments("/i/_doc/a%2Fb+c").unwrap(), ["i", "_doc", "a/b+c"]);
        assert_eq!(segments("/").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn odd_paths_are_not_ours() {
        for path in ["", "a", "//", "//m2/_search", "/a//b", "/a%", "/a%ff", "/é"] {
            assert_eq!(segments(path), None, "{path}");
        }
    }
}
