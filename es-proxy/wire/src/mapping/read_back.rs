//! Whether Elasticsearch can tell the vectors of a field again once they are indexed.

use serde_json::Value;

use super::Nesting;
use crate::version::Capabilities;
use crate::wildcard::matches_wildcard;

/// Doc values tell them from 8.17 on. Before, and below `nested`, only `_source` does, where the mapping keeps it
/// and the field in it.
pub(crate) fn can_read_back(mapping: &Value, path: &str, nesting: Nesting, caps: &Capabilities) -> bool {
    if caps.docvalue_vectors && nesting == Nesting::None {
        return true;
    }
    let Some(source) = mapping.get("_source") else { return true };
    let is_off = source.get("enabled").is_some_and(|enabled| enabled == false || enabled == "false")
        || source.get("mode").is_some_and(|mode| mode == "disabled");
    let list = |key: &str| -> Vec<&str> {
        match source.get(key) {
            Some(Value::Array(patterns)) => patterns.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(pattern)) => vec![pattern],
            _ => Vec::new(),
        }
    };
    let (includes, excludes) = (list("includes"), list("excludes"));
    let is_kept = includes.is_empty() || names(&includes, path);
    !is_off && is_kept && !names(&excludes, path)
}

/// Whether a pattern means the path or an object that it stands in.
fn names(patterns: &[&str], path: &str) -> bool {
    let mut objects = path.match_indices('.').map(|(at, _)| &path[..at]).chain([path]);
    objects.any(|object| patterns.iter().any(|pattern| matches_wildcard(pattern, object)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_source_keeps_can_be_read_back_before_8_17() {
        let caps = |version: &str| Capabilities::of(version.parse().unwrap()).unwrap();
        for (source, readable) in [
            ("{}", true),
            (r#"{"_source":{}}"#, true),
            (r#"{"_source":{"enabled":false}}"#, false),
            (r#"{"_source":{"mode":"disabled"}}"#, false),
            (r#"{"_source":{"enabled":true,"excludes":["t","o.w"]}}"#, true),
            (r#"{"_source":{"excludes":["o"]}}"#, false),
            (r#"{"_source":{"excludes":["*.v"]}}"#, false),
            (r#"{"_source":{"includes":["t"]}}"#, false),
            (r#"{"_source":{"includes":["o"]}}"#, true),
        ] {
            let mapping: Value = serde_json::from_str(source).unwrap();
            let can = |nesting, version| can_read_back(&mapping, "o.v", nesting, &caps(version));
            assert_eq!(can(Nesting::None, "8.16.0"), readable, "{source}");
            assert_eq!(can(Nesting::Once, "9.2.0"), readable, "{source}");
            assert!(can(Nesting::None, "8.17.0"), "{source}");
        }
    }
}
