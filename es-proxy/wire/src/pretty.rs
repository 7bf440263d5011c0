//! `?pretty`: Elasticsearch's way to lay out JSON, tokens unchanged.

/// Lays out `json` as Elasticsearch does with `?pretty`: two blanks a level, `"k" : v`, `[ ]` and
/// `{ }` when empty, a newline at the end. Tokens keep their bytes, whatever stood between them. The
/// text must be valid JSON.
pub fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0usize;
    let mut rest = json.trim_ascii_start();
    while let Some(&byte) = rest.as_bytes().first() {
        let token = token_length(rest);
        match byte {
            b'{' | b'[' => {
                out.push(char::from(byte));
                let inside = rest[1..].trim_ascii_start();
                if inside.starts_with(['}', ']']) {
                    out.push(' ');
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                // An empty container put a blank where others put a line.
                if !out.ends_with(' ') || out.trim_end_matches(' ').ends_with('\n') {
                    depth = depth.saturating_sub(1);
                    new_line(&mut out, depth);
                }
                out.push(char::from(byte));
            }
            b',' => {
                out.push(',');
                new_line(&mut out, depth);
            }
            b':' => out.push_str(" : "),
            _ => out.push_str(&rest[..token]),
        }
        rest = rest[token..].trim_ascii_start();
    }
    out.push('\n');
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

/// Bytes of the token at the start of `text`, at least one character.
fn token_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes[0] {
        b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
        b'"' => {
            let mut at = 1;
            while at < bytes.len() && bytes[at] != b'"' {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            (at + 1).min(bytes.len())
        }
        _ => text.find(['{', '}', '[', ']', ',', ':', '"', ' ', '\n', '\r', '\t']).unwrap_or(text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::{elements, members};
    use proptest::prelude::*;

    /// Removes all that is not part of a token.
    fn compact(json: &str) -> String {
        match json.trim_ascii().as_bytes()[0] {
            b'{' => {
                let parts: Vec<_> = members(json)
                    .unwrap()
                    .iter()
                    .map(|m| format!("{}:{}", m.key, compact(m.value)))
                    .collect();
                format!("{{{}}}", parts.join(","))
            }
            b'[' => {
                let parts: Vec<_> = elements(json).unwrap().into_iter().map(compact).collect();
                format!("[{}]", parts.join(","))
            }
            _ => json.trim_ascii().to_owned(),
        }
    }

    #[test]
    fn looks_like_elasticsearch() {
        let expected = "{\n  \"a\" : [\n    1,\n    2.50\n  ],\n  \"b\" : { },\n  \"c\" : [ ],\n  \"d\" : {\n    \"e\" : \"x, {\\\"} \"\n  }\n}\n";
        let json = r#"{"a":[1,2.50],"b":{},"c":[ ],"d":{"e":"x, {\"} "}}"#;
        assert_eq!(pretty(json), expected);
        assert_eq!(pretty(expected), expected);
        assert_eq!(pretty("{}"), "{ }\n");
        assert_eq!(pretty("[[]]"), "[\n  [ ]\n]\n");
    }

    pub(crate) fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i32>().prop_map(Into::into),
            "[a-z\"\\\\{}:, é]{0,6}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::vec(("[a-d\"]{0,3}", inner), 0..4)
                    .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn tokens_survive(value in any_json()) {
            let json = value.to_string();
            let pretty = pretty(&json);
            prop_assert_eq!(compact(&pretty), json);
            prop_assert_eq!(super::pretty(&pretty), pretty);
        }
    }
}
