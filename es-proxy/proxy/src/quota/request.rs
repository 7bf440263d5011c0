//! What a request would add, by its request line and, where that matters, its body. Pure.
//!
//! Paths are read more leniently than elsewhere: what Elasticsearch's router takes (empty segments) must not get
//! past a quota.

use es_wire::Params;
use http::Method;
use percent_encoding::percent_decode_str;
use serde_json::Value;

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Adds {
    /// Nothing that is counted, or it takes away.
    Nothing,
    /// The items of a bulk, into the index of the path where they name none.
    Bulk { index: Option<String> },
    /// A document.
    Document { index: String, is_update: bool },
    /// An index. The body may say how many shards; else it has as many as that one.
    Index { name: String, shards_of: Option<String>, is_rollover: bool },
    /// Documents from elsewhere, into the index that the body names.
    Reindex,
    /// The indices of a snapshot.
    Restore { repository: String, snapshot: String },
}

impl Adds {
    /// Reads a request line.
    pub(crate) fn of(method: &Method, path: &str, query: Option<&str>) -> Self {
        if !matches!(*method, Method::PUT | Method::POST) {
            return Self::Nothing;
        }
        let segments: Vec<String> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
            .collect();
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        let is_put = *method == Method::PUT;
        let index = |name: &str, shards_of: Option<&str>, is_rollover| Self::Index {
            name: name.to_owned(),
            shards_of: shards_of.map(str::to_owned),
            is_rollover,
        };
        match *parts.as_slice() {
            ["_bulk"] => Self::Bulk { index: None },
            [target, "_bulk"] | [target, _, "_bulk"] if is_name(target) => {
                Self::Bulk { index: Some(target.to_owned()) }
            }
            ["_reindex"] => Self::Reindex,
            ["_snapshot", repository, snapshot, "_restore" | "_mount"] => {
                Self::Restore { repository: repository.to_owned(), snapshot: snapshot.to_owned() }
            }
            ["_data_stream", name] => index(name, None, false),
            ["_create_from", source, target] => index(target, Some(source), false),
            [target] if is_name(target) && is_put => index(target, None, false),
            [source, "_clone" | "_split" | "_downsample", target] if is_name(source) => {
                index(target, Some(source), false)
            }
            [source, "_shrink", target] if is_name(source) => index(target, None, false),
            [target, "_ccr", "follow"] if is_name(target) => index(target, None, false),
            [alias, "_rollover"] | [alias, "_rollover", _] if is_name(alias) => {
                let dry = query.and_then(Params::parse).and_then(|params| params.flag("dry_run"));
                if dry == Some(true) { Self::Nothing } else { index(alias, None, true) }
            }
            [target, "_doc" | "_create"] | [target, "_doc" | "_create", _] if is_name(target) => {
                document(target, false)
            }
            [target, "_update", _] if is_name(target) => document(target, true),
            // With a type, as clients of version 7 do under 8.
            [target, kind, _, "_create"] if is_name(target) && is_name(kind) => document(target, false),
            [target, kind, _, "_update"] if is_name(target) && is_name(kind) => document(target, true),
            [target, kind] | [target, kind, _] if is_name(target) && is_name(kind) => document(target, false),
            _ => Self::Nothing,
        }
    }
}

fn document(index: &str, is_update: bool) -> Adds {
    Adds::Document { index: index.to_owned(), is_update }
}

fn is_name(segment: &str) -> bool {
    !segment.starts_with('_')
}

/// A name that stands for the one that Elasticsearch will reckon: what counts is how it begins.
pub(crate) fn plain_name(name: &str) -> String {
    let Some(inner) = name.strip_prefix('<').and_then(|name| name.strip_suffix('>')) else {
        return name.to_owned();
    };
    let mut depth = 0usize;
    let mut plain = String::new();
    for c in inner.chars() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    plain.push('0');
                }
            }
            c if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    plain
}

/// How many shards the body of a creation asks for.
pub(crate) fn shards_in(body: &Value) -> Option<u64> {
    let settings = body.get("settings").or_else(|| body.get("settings_override"))?;
    let of = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    ["number_of_shards", "index.number_of_shards"]
        .iter()
        .find_map(|key| settings.get(key))
        .or_else(|| settings.get("index")?.get("number_of_shards"))
        .and_then(of)
}

/// Which of a snapshot's indices a restore wants.
pub(crate) fn restored<'a>(all: &'a [String], body: &Value) -> Vec<&'a str> {
    let wanted: Vec<&str> = match body.get("indices") {
        None | Some(Value::Null) => vec!["*"],
        Some(Value::String(list)) => list.split(',').map(str::trim).collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        Some(_) => vec!["*"],
    };
    let is_wanted = |index: &str| {
        let mut is_in = wanted.first().is_some_and(|first| first.starts_with('-'));
        for pattern in &wanted {
            match pattern.strip_prefix('-') {
                Some(pattern) if es_wire::matches_wildcard(pattern, index) => is_in = false,
                None if *pattern == "_all" || es_wire::matches_wildcard(pattern, index) => is_in = true,
                _ => {}
            }
        }
        is_in
    };
    all.iter().map(String::as_str).filter(|index| is_wanted(index)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_adds_something_is_known_by_its_request_line() {
        let bulk = |index: Option<&str>| Adds::Bulk { index: index.map(str::to_owned) };
        let index = |name: &str, of: Option<&str>, is_rollover| Adds::Index {
            name: name.into(),
            shards_of: of.map(str::to_owned),
            is_rollover,
        };
        let restore = Adds::Restore { repository: "r".into(), snapshot: "s".into() };
        for (method, uri, adds) in [
            ("POST", "/_bulk", bulk(None)),
            ("PUT", "/a/_bulk?refresh", bulk(Some("a"))),
            ("POST", "//a//_bulk/", bulk(Some("a"))),
            ("POST", "/a/type/_bulk", bulk(Some("a"))),
            ("PUT", "/a", index("a", None, false)),
            ("PUT", "/%3Ca-%7Bnow%2Fd%7D%3E", index("<a-{now/d}>", None, false)),
            ("POST", "/a", Adds::Nothing),
            ("PUT", "/_create_from/a/b", index("b", Some("a"), false)),
            ("POST", "/a/_clone/b", index("b", Some("a"), false)),
            ("PUT", "/a/_shrink/b", index("b", None, false)),
            ("POST", "/a/_downsample/b", index("b", Some("a"), false)),
            ("POST", "/a/_rollover", index("a", None, true)),
            ("POST", "/a/_rollover/b", index("a", None, true)),
            ("POST", "/a/_rollover?dry_run", Adds::Nothing),
            ("PUT", "/_data_stream/a", index("a", None, false)),
            ("POST", "/_snapshot/r/s/_restore?wait_for_completion=true", restore),
            ("POST", "/_reindex", Adds::Reindex),
            ("PUT", "/a/_doc/1", document("a", false)),
            ("POST", "/a/_doc", document("a", false)),
            ("PUT", "/a//_create/b%2Fc", document("a", false)),
            ("POST", "/a/_update/1", document("a", true)),
            ("PUT", "/a/type/1", document("a", false)),
            ("POST", "/a/type/1/_update", document("a", true)),
            ("DELETE", "/a/_doc/1", Adds::Nothing),
            ("GET", "/_bulk", Adds::Nothing),
            ("POST", "/a/_search", Adds::Nothing),
            ("POST", "/a/_delete_by_query", Adds::Nothing),
            ("PUT", "/a/_mapping", Adds::Nothing),
            ("PUT", "/a/_alias/b", Adds::Nothing),
            ("PUT", "/_index_template/a", Adds::Nothing),
            ("PUT", "/_ivf/a/v", Adds::Nothing),
        ] {
            let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
            assert_eq!(Adds::of(&method.parse().unwrap(), path, query), adds, "{method} {uri}");
        }
    }

    #[test]
    fn date_math_counts_by_its_beginning() {
        for (name, plain) in
            [("a", "a"), ("<a-{now/d}>", "a-0"), ("<a-{now/d{yyyy|+12:00}}-x>", "a-0-x"), ("<a", "<a")]
        {
            assert_eq!(plain_name(name), plain);
        }
    }

    #[test]
    fn shards_are_read_in_every_spelling() {
        for (body, shards) in [
            (json!({"settings": {"number_of_shards": 3}}), Some(3)),
            (json!({"settings": {"index.number_of_shards": "4"}}), Some(4)),
            (json!({"settings": {"index": {"number_of_shards": 5}}}), Some(5)),
            (json!({"settings_override": {"index": {"number_of_shards": 6}}}), Some(6)),
            (json!({"settings": {"number_of_replicas": 1}}), None),
            (json!({"mappings": {}}), None),
        ] {
            assert_eq!(shards_in(&body), shards, "{body}");
        }
    }

    #[test]
    fn a_restore_takes_what_it_names() {
        let all: Vec<String> = ["a-1", "a-2", "b"].map(str::to_owned).into();
        for (body, wanted) in [
            (json!({}), vec!["a-1", "a-2", "b"]),
            (json!({"indices": "a-*,-a-2"}), vec!["a-1"]),
            (json!({"indices": ["b", "c"]}), vec!["b"]),
            (json!({"indices": "-b"}), vec!["a-1", "a-2"]),
            (json!({"indices": "_all"}), vec!["a-1", "a-2", "b"]),
        ] {
            assert_eq!(restored(&all, &body), wanted, "{body}");
        }
    }
}
