//! `?filter_path=`: which parts of an answer the client wants, decided as Elasticsearch's generator
//! decides while it writes.

use std::borrow::Cow;

use crate::scan::{MAX_DEPTH, Malformed, elements_of_answer, members_of_answer, unquote};

/// A parsed `filter_path`: dotted paths with `*` and `**`, a leading `-` excludes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterPath {
    includes: Vec<Vec<String>>,
    excludes: Vec<Vec<String>>,
}

/// A path and how many of its segments the surrounding keys have matched.
type State<'f> = Vec<(&'f [String], usize)>;

/// What a filter says of one key.
enum Verdict<'f> {
    Matched,
    Deeper(State<'f>),
    Unmatched,
}

#[derive(Clone, Copy)]
struct Pass {
    including: bool,
    keep_empty: bool,
}

impl FilterPath {
    /// Reads the decoded value of the parameter.
    pub fn parse(text: &str) -> Self {
        let mut filter = Self::default();
        for path in text.split(',').map(str::trim).filter(|path| !path.is_empty()) {
            match path.strip_prefix('-').map(str::trim) {
                Some("") => {}
                Some(excluded) => filter.excludes.push(split(excluded)),
                None => filter.includes.push(split(path)),
            }
        }
        filter
    }

    /// Whether it keeps everything.
    pub fn is_empty(&self) -> bool {
        self.includes.is_empty() && self.excludes.is_empty()
    }

    /// Whether some path includes; otherwise all is wanted but what is excluded.
    pub(crate) fn includes_anything(&self) -> bool {
        !self.includes.is_empty()
    }

    /// Whether anything at or below the keys `path` can be in the filtered answer.
    pub fn may_keep(&self, path: &[&str]) -> bool {
        let included =
            self.includes.is_empty() || !matches!(follow(&self.includes, path), Verdict::Unmatched);
        included && !matches!(follow(&self.excludes, path), Verdict::Matched)
    }

    /// Applies the filter to valid JSON text; what is kept keeps its bytes. `keep_empty` says what an
    /// exclusion does to arrays and objects that were empty before: see
    /// [`crate::Capabilities::filter_keeps_empty_arrays`].
    pub fn apply(&self, json: &str, keep_empty: bool) -> String {
        let mut text = json.trim_ascii().to_owned();
        for (paths, including) in [(&self.includes, true), (&self.excludes, false)] {
            if !paths.is_empty() {
                // Text that is no JSON is no answer of Elasticsearch's either: leave it.
                text = run(&text, paths, Pass { including, keep_empty }).unwrap_or(text);
            }
        }
        text
    }
}

/// The root object is always written, even when nothing of it is left.
fn run(json: &str, paths: &[Vec<String>], pass: Pass) -> Result<String, Malformed> {
    let state = start(paths);
    let mut out = String::with_capacity(json.len());
    if !filtered(json, (&state, 0), pass, &mut out)? {
        out.push_str(if json.starts_with('[') { "[]" } else { "{}" });
    }
    Ok(out)
}

/// Writes what is left of `json` under a filter that has matched it only in part. Returns whether
/// anything was written. What lies deeper than anything is read is not matched.
fn filtered(
    json: &str,
    (state, depth): (&State<'_>, usize),
    pass: Pass,
    out: &mut String,
) -> Result<bool, Malformed> {
    match json.as_bytes().first() {
        _ if depth > MAX_DEPTH => Ok(whole(json, !pass.including, out)),
        Some(b'{') => {
            let members = members_of_answer(json)?;
            if members.is_empty() {
                return Ok(empty(json, pass, out));
            }
            let start = out.len();
            for member in members {
                let before = out.len();
                out.push(if before == start { '{' } else { ',' });
                out.push_str(member.key);
                out.push(':');
                // A name with half a character in it is no name that a path could have.
                let name = unquote(member.key).unwrap_or(Cow::Borrowed(member.key));
                let kept = match verdict(state, &name) {
                    Verdict::Deeper(deeper) => filtered(member.value, (&deeper, depth + 1), pass, out)?,
                    Verdict::Matched => whole(member.value, pass.including, out),
                    Verdict::Unmatched => whole(member.value, !pass.including, out),
                };
                if !kept {
                    out.truncate(before);
                }
            }
            Ok(close(out, start, '}'))
        }
        Some(b'[') => {
            let elements = elements_of_answer(json)?;
            if elements.is_empty() {
                return Ok(empty(json, pass, out));
            }
            let start = out.len();
            for element in elements {
                let before = out.len();
                out.push(if before == start { '[' } else { ',' });
                if !filtered(element, (state, depth + 1), pass, out)? {
                    out.truncate(before);
                }
            }
            Ok(close(out, start, ']'))
        }
        _ => Ok(whole(json, !pass.including, out)),
    }
}

fn whole(json: &str, kept: bool, out: &mut String) -> bool {
    if kept {
        out.push_str(json);
    }
    kept
}

fn empty(json: &str, pass: Pass, out: &mut String) -> bool {
    whole(json, !pass.including && pass.keep_empty, out)
}

fn close(out: &mut String, start: usize, bracket: char) -> bool {
    let wrote = out.len() > start;
    if wrote {
        out.push(bracket);
    }
    wrote
}

fn start(paths: &[Vec<String>]) -> State<'_> {
    paths.iter().map(|path| (path.as_slice(), 0)).collect()
}

fn verdict<'f>(state: &State<'f>, name: &str) -> Verdict<'f> {
    let mut deeper = State::new();
    for &(path, matched) in state {
        if glob(&path[matched], name) {
            if matched + 1 == path.len() {
                return Verdict::Matched;
            }
            deeper.push((path, matched + 1));
        }
        if matched > 0 && path[matched - 1] == "**" {
            deeper.push((path, matched));
        }
    }
    if deeper.is_empty() { Verdict::Unmatched } else { Verdict::Deeper(deeper) }
}

fn follow<'f>(paths: &'f [Vec<String>], keys: &[&str]) -> Verdict<'f> {
    let mut state = start(paths);
    for key in keys {
        match verdict(&state, key) {
            Verdict::Deeper(deeper) => state = deeper,
            settled => return settled,
        }
    }
    Verdict::Deeper(state)
}

/// Splits at dots that no backslash precedes. As in Elasticsearch a dot at the very start of what is
/// left belongs to the name.
fn split(path: &str) -> Vec<String> {
    let mut segments = Vec::new();
    let mut segment = String::new();
    let mut at_start = true;
    let mut chars = path.chars().peekable();
    let mut literal_rest = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&'.') => {
                chars.next();
                segment.push('.');
            }
            '.' if at_start => {
                literal_rest = true;
                segment.push('.');
            }
            '.' if !literal_rest => {
                segments.push(std::mem::take(&mut segment));
                at_start = true;
                continue;
            }
            _ => segment.push(c),
        }
        at_start = false;
    }
    segments.push(segment);
    segments
}

/// `*` stands for any run of characters.
fn glob(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == name };
    let Some(rest) = name.strip_prefix(head) else { return false };
    let mut places = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    places.any(|at| glob(tail, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANSWER: &str = r#"{"took":5,"_shards":{"total":1},"hits":{"total":{"value":2},"max_score":0.8,"hits":[{"_id":"1","_score":0.8,"_source":{"a":{"b":2.50,"c":[]},"t":[1,{"b":3}]}},{"_id":"2","_score":0.5}]}}"#;

    #[test]
    fn paths_as_elasticsearch_reads_them() {
        let cases = [
            ("took", r#"{"took":5}"#),
            ("hits.hits._id", r#"{"hits":{"hits":[{"_id":"1"},{"_id":"2"}]}}"#),
            (" took , _shards.* ", r#"{"took":5,"_shards":{"total":1}}"#),
            ("hits.*.value", r#"{"hits":{"total":{"value":2}}}"#),
            ("**.b", r#"{"hits":{"hits":[{"_source":{"a":{"b":2.50},"t":[{"b":3}]}}]}}"#),
            ("**.took", "{}"),
            ("hits.h*._s*.a.b", r#"{"hits":{"hits":[{"_source":{"a":{"b":2.50}}}]}}"#),
            ("nothing", "{}"),
            ("took.deeper", "{}"),
            ("hits.hits,-hits.hits._source,-**._score", r#"{"hits":{"hits":[{"_id":"1"},{"_id":"2"}]}}"#),
            ("-hits,-_shards", r#"{"took":5}"#),
            ("-hits.hits.*,-hits.total", r#"{"took":5,"_shards":{"total":1},"hits":{"max_score":0.8}}"#),
        ];
        for (filter, expected) in cases {
            assert_eq!(FilterPath::parse(filter).apply(ANSWER, true), expected, "{filter}");
        }
        assert_eq!(FilterPath::parse("**").apply(ANSWER, true), ANSWER);
        // What nobody reads is in nobody's way.
        let deep = format!("{}1{}", r#"{"a":["#.repeat(500), "]}".repeat(500));
        let strange = format!(r#"{{"took":5,"x":{deep},"\ud800":{{"b":1}}}}"#);
        for (filter, expected) in [
            ("took", r#"{"took":5}"#),
            ("**.b", r#"{"\ud800":{"b":1}}"#),
            ("-*.b,-took", &format!(r#"{{"x":{deep}}}"#)),
        ] {
            assert_eq!(FilterPath::parse(filter).apply(&strange, true), expected, "{filter}");
        }
        assert_eq!(FilterPath::parse("-outrigger").apply(ANSWER, true), ANSWER);
    }

    #[test]
    fn empty_arrays_under_an_exclusion_depend_on_the_version() {
        let none = r#"{"took":5,"hits":{"max_score":null,"hits":[]}}"#;
        let filter = FilterPath::parse("-hits.hits._source");
        assert_eq!(filter.apply(none, true), none);
        assert_eq!(filter.apply(none, false), r#"{"took":5,"hits":{"max_score":null}}"#);
        assert_eq!(FilterPath::parse("-took").apply(none, false), r#"{"hits":{"max_score":null,"hits":[]}}"#);
        assert_eq!(FilterPath::parse("hits.hits._id").apply(none, true), "{}");
    }

    #[test]
    fn escaped_dots_belong_to_the_name() {
        assert_eq!(split(r"a\.b.c"), ["a.b", "c"]);
        assert_eq!(split("a..b"), ["a", ".b"]);
        let dotted = r#"{"a.b":{"c":1},"a":{"b":2}}"#;
        assert_eq!(FilterPath::parse(r"a\.b.c").apply(dotted, true), r#"{"a.b":{"c":1}}"#);
    }

    #[test]
    fn may_keep_knows_partial_matches() {
        let source = ["hits", "hits", "_source"];
        for (filter, keeps) in [
            ("", true),
            ("hits", true),
            ("hits.hits._source.a", true),
            ("**.a", true),
            ("hits.hits._id", false),
            ("took", false),
            ("-hits.hits._source", false),
            ("-hits.hits._source.a", true),
            ("hits.hits,-**._source", false),
        ] {
            assert_eq!(FilterPath::parse(filter).may_keep(&source), keeps, "{filter}");
        }
    }

    proptest! {
        #[test]
        fn filtering_twice_changes_nothing_more(filter in "-?[a-d*]{1,3}(\\.[a-d*]{1,3}){0,3}(,-?[a-d*]{1,2}(\\.[a-d]{1,2}){0,2}){0,2}", value in any_json()) {
            let filter = FilterPath::parse(&filter);
            let root = serde_json::json!({"a": value, "b": {"c": value, "d": [value, 1]}}).to_string();
            let once = filter.apply(&root, false);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&once).is_ok());
            prop_assert_eq!(filter.apply(&once, false), once);
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf =
            prop_oneof![any::<i32>().prop_map(serde_json::Value::from), "[a-c]{0,2}".prop_map(Into::into)];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::vec(("[a-d]{1,2}", inner), 0..4)
                    .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
            ]
        })
    }
}
