//! The fields of an index on which a filter may rest: concrete, mapped, indexed, not below `nested`.
//! Names that mean something else (aliases, runtime fields and what they shadow, objects) are left out.
//!
//! An index may have thousands of fields and a cluster thousands of indices, most of them alike: names
//! stand in one string, an entry is a few bytes, and equal sets are shared ([`Shared`]).

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde_json::Value;

/// What kind of values a field compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// Whole strings.
    Keyword,
    /// Analysed strings, by an analyzer that only a change of the mapping or a closed index can change.
    Text,
    /// Numbers of the types that Elasticsearch itself has.
    Number,
    /// `true` and `false`.
    Boolean,
    /// Points in time.
    Date,
    /// Addresses.
    Ip,
    /// Others, of which only their existence may be asked.
    Opaque,
}

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilterFields {
    /// All names, in order, without separators.
    names: Box<str>,
    entries: Box<[Entry]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Entry {
    /// Where its name stands.
    start: u32,
    end: u32,
    /// Changes with everything that decides which documents a query on the field matches.
    print: u32,
    kind: FieldKind,
}

/// The sets that indices of one catalog have in common.
#[derive(Debug, Default)]
pub(super) struct Shared(HashSet<Arc<FilterFields>>);

impl Shared {
    pub(super) fn intern(&mut self, fields: FilterFields) -> Arc<FilterFields> {
        if let Some(known) = self.0.get(&fields) {
            return Arc::clone(known);
        }
        let fields = Arc::new(fields);
        self.0.insert(Arc::clone(&fields));
        fields
    }
}

impl FilterFields {
    /// The kind of a field by its full path, and its print: another one as soon as the mapping of the
    /// field or the analysis of the index is another.
    pub fn get(&self, name: &str) -> Option<(FieldKind, u32)> {
        let name_of = |entry: &Entry| &self.names[entry.start as usize..entry.end as usize];
        let found = self.entries.binary_search_by(|entry| name_of(entry).cmp(name));
        found.ok().map(|at| (self.entries[at].kind, self.entries[at].print))
    }

    /// Reads `mappings` of an index (the mapping itself, not what stands around it) and its settings.
    pub(crate) fn read(mapping: &Value, settings: &Value) -> Self {
        let analysis = Analysis::read(settings);
        let mut found = BTreeMap::new();
        walk(mapping, "", &analysis, &mut found);
        if let Some(runtime) = mapping.get("runtime").and_then(Value::as_object) {
            found.retain(|name, _| !runtime.contains_key(name));
        }
        let mut names = String::with_capacity(found.keys().map(String::len).sum());
        let mut entries = Vec::with_capacity(found.len());
        for (name, (kind, print)) in found {
            let start = names.len() as u32;
            names.push_str(&name);
            // A mapping of gigabytes does not exist; were it so, no filter would rest on it.
            let Ok(end) = u32::try_from(names.len()) else { return Self::default() };
            entries.push(Entry { start, end, print, kind });
        }
        Self { names: names.into(), entries: entries.into() }
    }
}

/// What the settings say of analysis.
struct Analysis {
    /// Of all of it.
    print: u64,
    /// Words may come from files or sets that change while the index is open, or the analyzer of queries
    /// is another than the documents'.
    may_change: bool,
}

impl Analysis {
    fn read(settings: &Value) -> Self {
        let mut hasher = DefaultHasher::new();
        let mut text = String::new();
        if let Some(nested) = settings.get("index").and_then(|index| index.get("analysis")) {
            hash(nested, &mut hasher);
            text = nested.to_string();
        }
        let flat = settings.as_object().into_iter().flatten();
        for (key, value) in flat.filter(|(key, _)| key.starts_with("index.analysis.")) {
            key.hash(&mut hasher);
            hash(value, &mut hasher);
            text.push_str(key);
            text.push('"');
        }
        let signs = [
            "_path\"",
            "synonyms_set",
            "updateable",
            "default_search",
            "hunspell",
            "user_dictionary",
            "rule_files",
        ];
        Self { print: hasher.finish(), may_change: signs.iter().any(|sign| text.contains(sign)) }
    }
}

fn walk(parent: &Value, prefix: &str, analysis: &Analysis, found: &mut BTreeMap<String, (FieldKind, u32)>) {
    let Some(properties) = parent.get("properties").and_then(Value::as_object) else { return };
    for (name, definition) in properties {
        let path = format!("{prefix}{name}");
        let kind = definition.get("type").and_then(Value::as_str);
        if kind == Some("nested") {
            continue;
        }
        walk(definition, &format!("{path}."), analysis, found);
        if let Some(multi_fields) = definition.get("fields").and_then(Value::as_object) {
            for (name, definition) in multi_fields {
                add(format!("{path}.{name}"), definition, analysis, found);
            }
        }
        add(path, definition, analysis, found);
    }
}

fn add(
    path: String,
    definition: &Value,
    analysis: &Analysis,
    found: &mut BTreeMap<String, (FieldKind, u32)>,
) {
    let Some(kind) = kind_of(definition, analysis) else { return };
    let mut hasher = DefaultHasher::new();
    analysis.print.hash(&mut hasher);
    for key in sorted_keys(definition) {
        // Neither says anything of how this field is searched; the latter holds options of our own.
        if !["fields", "properties", "meta", "index_options"].contains(&key) {
            key.hash(&mut hasher);
            hash(&definition[key], &mut hasher);
        }
    }
    found.insert(path, (kind, hasher.finish() as u32));
}

fn kind_of(definition: &Value, analysis: &Analysis) -> Option<FieldKind> {
    let is_off = |key: &str| definition.get(key).is_some_and(|value| value == false || value == "false");
    let says = |key: &str| definition.get(key).is_some();
    if is_off("index") {
        return None;
    }
    Some(match definition.get("type")?.as_str()? {
        "keyword" if says("normalizer") && analysis.may_change => FieldKind::Opaque,
        "keyword" => FieldKind::Keyword,
        "text" if analysis.may_change || says("search_analyzer") || says("search_quote_analyzer") => {
            FieldKind::Opaque
        }
        "text" => FieldKind::Text,
        "long" | "integer" | "short" | "byte" | "double" | "float" | "half_float" => FieldKind::Number,
        "boolean" => FieldKind::Boolean,
        "date" | "date_nanos" => FieldKind::Date,
        "ip" => FieldKind::Ip,
        "dense_vector" | "geo_point" => FieldKind::Opaque,
        _ => return None,
    })
}

fn sorted_keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys
}

/// The order of keys does not count: the cluster state keeps none.
fn hash(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Object(_) => {
            for key in sorted_keys(value) {
                key.hash(hasher);
                hash(&value[key], hasher);
            }
            '}'.hash(hasher);
        }
        Value::Array(elements) => {
            elements.iter().for_each(|element| hash(element, hasher));
            ']'.hash(hasher);
        }
        scalar => scalar.to_string().hash(hasher),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(mapping: Value) -> FilterFields {
        FilterFields::read(&mapping, &json!({}))
    }

    #[test]
    fn concrete_fields_have_kinds_and_nothing_else_has() {
        let fields = read(json!({
            "runtime": {"shadowed": {"type": "keyword"}, "made": {"type": "long"}},
            "properties": {
                "k": {"type": "keyword"}, "n": {"type": "half_float"}, "on": {"type": "boolean"},
                "d": {"type": "date_nanos"}, "i": {"type": "ip"}, "v": {"type": "dense_vector", "dims": 3},
                "t": {"type": "text", "fields": {"raw": {"type": "keyword", "ignore_above": 256}}},
                "o": {"properties": {"deep": {"properties": {"k": {"type": "keyword"}}}, "dot.ted": {"type": "long"}}},
                "c": {"type": "nested", "properties": {"k": {"type": "keyword"}}},
                "odd": {"type": "text", "search_analyzer": "simple"},
                "silent": {"type": "keyword", "index": false},
                "shadowed": {"type": "keyword"},
                "a": {"type": "alias", "path": "k"},
                "s": {"type": "scaled_float", "scaling_factor": 10},
            }
        }));
        let kind = |name: &str| fields.get(name).map(|(kind, _)| kind);
        for (name, wanted) in [
            ("k", Some(FieldKind::Keyword)),
            ("n", Some(FieldKind::Number)),
            ("on", Some(FieldKind::Boolean)),
            ("d", Some(FieldKind::Date)),
            ("i", Some(FieldKind::Ip)),
            ("v", Some(FieldKind::Opaque)),
            ("t", Some(FieldKind::Text)),
            ("t.raw", Some(FieldKind::Keyword)),
            ("o.deep.k", Some(FieldKind::Keyword)),
            ("o.dot.ted", Some(FieldKind::Number)),
            ("odd", Some(FieldKind::Opaque)),
            ("o", None),
            ("c", None),
            ("c.k", None),
            ("silent", None),
            ("shadowed", None),
            ("made", None),
            ("a", None),
            ("s", None),
            ("", None),
            ("zzz", None),
        ] {
            assert_eq!(kind(name), wanted, "{name}");
        }
        assert_eq!(read(json!({})), FilterFields::default());
    }

    #[test]
    fn a_print_changes_with_what_decides_and_with_nothing_else() {
        let print = |definition: Value, settings: Value| {
            let fields = FilterFields::read(&json!({"properties": {"k": definition}}), &settings);
            fields.get("k").unwrap()
        };
        let plain = print(json!({"type": "keyword", "ignore_above": 5, "norms": true}), json!({}));
        let meta = json!({"norms": true, "meta": {"a": "b"}, "ignore_above": 5, "type": "keyword"});
        assert_eq!(print(meta, json!({})), plain);
        assert_ne!(print(json!({"type": "keyword", "ignore_above": 6, "norms": true}), json!({})), plain);
        let analysis = json!({"index": {"analysis": {"analyzer": {"default": {"type": "simple"}}}}});
        let text = || json!({"type": "text"});
        assert_ne!(print(text(), analysis.clone()), print(text(), json!({})));
        assert_eq!(print(text(), analysis).0, FieldKind::Text);
    }

    #[test]
    fn an_analysis_that_may_change_while_open_makes_text_opaque() {
        for settings in [
            json!({"index": {"analysis": {"filter": {"s": {"type": "synonym", "synonyms_path": "a.txt"}}}}}),
            json!({"index": {"analysis": {"filter": {"s": {"type": "synonym", "synonyms_set": "a", "updateable": "true"}}}}}),
            json!({"index.analysis.filter.s.synonyms_path": "a.txt"}),
            json!({"index": {"analysis": {"analyzer": {"default_search": {"type": "simple"}}}}}),
        ] {
            let mapping = json!({"properties": {"t": {"type": "text"}, "k": {"type": "keyword", "normalizer": "n"}, "p": {"type": "keyword"}}});
            let fields = FilterFields::read(&mapping, &settings);
            let kind = |name: &str| fields.get(name).unwrap().0;
            assert_eq!(
                ["t", "k", "p"].map(kind),
                [FieldKind::Opaque, FieldKind::Opaque, FieldKind::Keyword],
                "{settings}"
            );
        }
    }

    #[test]
    fn equal_sets_are_shared() {
        let mut shared = Shared::default();
        let one = || read(json!({"properties": {"k": {"type": "keyword"}}}));
        let (a, b) = (shared.intern(one()), shared.intern(one()));
        assert!(Arc::ptr_eq(&a, &b));
        assert!(!Arc::ptr_eq(&a, &shared.intern(FilterFields::default())));
    }
}
