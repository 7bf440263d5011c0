//! What anybody may put into the state of a cluster, and our reader of JSON refuses: halves of surrogate pairs
//! in names (Java's strings take them), and values inside values without end (`_meta`). One index with such
//! a mapping must not hide all others from us.

use std::borrow::Cow;

/// `text` with `\uFFFD` in the place of each lone half of a surrogate pair, and with `null` in that of each object
/// or array that stands more than `deepest` others deep. Any other fault of the text stays.
pub fn readable(text: &str, deepest: usize) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    // What is written to `out` already.
    let mut done = 0;
    let (mut at, mut depth, mut in_string) = (0, 0_usize, false);
    // Where the value began that is left out.
    let mut hidden = None;
    while let Some(&byte) = bytes.get(at) {
        let mut next = at + 1;
        match byte {
            b'\\' if in_string => {
                next = at + 2;
                match (unit(bytes, at), unit(bytes, at + 6)) {
                    (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => next = at + 12,
                    (Some(0xd800..=0xdfff), _) => {
                        next = at + 6;
                        if hidden.is_none() {
                            out.push_str(&text[done..at]);
                            out.push_str("\\uFFFD");
                            done = next;
                        }
                    }
                    _ => {}
                }
            }
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                if depth == deepest && hidden.is_none() {
                    hidden = Some(at);
                }
                depth += 1;
            }
            b'}' | b']' if !in_string => {
                depth = depth.saturating_sub(1);
                if depth == deepest
                    && let Some(start) = hidden.take()
                {
                    out.push_str(&text[done..start]);
                    out.push_str("null");
                    done = next;
                }
            }
            _ => {}
        }
        at = next;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// The number of a `\uXXXX`, where one stands.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn lone_surrogates_and_depths_are_left_out() {
        for (text, wanted) in [
            (r#"{"a\uD800":1}"#, r#"{"a\uFFFD":1}"#),
            (r#"["\uDC00\uD83D\uDE00\ud83d\ud83d\ude00"]"#, r#"["\uFFFD\uD83D\uDE00\uFFFD\ud83d\ude00"]"#),
            (r#"["\\uD800\"\\\uD800"]"#, r#"["\\uD800\"\\\uFFFD"]"#),
            (r#"["\uD8","\u"]"#, r#"["\uD8","\u"]"#),
            (r#"[[[1,"]"],{}],[2]]"#, r#"[[null,null],[2]]"#),
            (r#"[[["\uD800",[{"a":"}\""}]],"\uD800"]]"#, r#"[[null,"\uFFFD"]]"#),
            (r#"[[["#, r#"[[["#),
            (r#"["\"#, r#"["\"#),
        ] {
            assert_eq!(readable(text, 2), wanted, "{text}");
        }
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(serde_json::from_str::<Value>(&readable(&deep, 100)).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_readable_stays(text in r#"([{}\[\]",:\\a-f0-9uD8é]|\\uD8[0-9a-f]{2}|\\uDc00){0,40}"#) {
            if serde_json::from_str::<Value>(&text).is_ok() {
                prop_assert_eq!(readable(&text, 100), text.as_str());
            }
        }
    }
}
