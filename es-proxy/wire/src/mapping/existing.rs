//! Which vector fields indices already have, from a `GET /{target}/_mapping` response: an update that
//! repeats one of them must not reset it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::{Map, Value};

use super::{ExistingField, Key, META_KEY};

/// Every `dense_vector` field in the response by its full path, one entry for all indices that have it.
/// Empty when the response is not of the expected shape.
pub fn existing_fields(response: &str) -> BTreeMap<String, ExistingField> {
    let mut found = BTreeMap::new();
    if let Ok(Value::Object(indices)) = serde_json::from_str(response) {
        for index in indices.values() {
            if let Some(properties) = index.pointer("/mappings/properties").and_then(Value::as_object) {
                collect("", properties, &mut found);
            }
        }
    }
    found
}

fn collect(parent: &str, properties: &Map<String, Value>, found: &mut BTreeMap<String, ExistingField>) {
    for (name, field) in properties {
        let path = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
        if field.get("type").and_then(Value::as_str) == Some("dense_vector") {
            match found.entry(path) {
                Entry::Vacant(entry) => drop(entry.insert(read(field))),
                Entry::Occupied(mut entry) => {
                    let both = merged(entry.get(), read(field));
                    entry.insert(both);
                }
            }
        } else if let Some(properties) = field.get("properties").and_then(Value::as_object) {
            collect(&path, properties, found);
        }
    }
}

fn read(field: &Value) -> ExistingField {
    let stored = field.get("meta").and_then(|meta| meta.get(META_KEY)).and_then(Value::as_str);
    let Some(stored) = stored else { return ExistingField::Other };
    match Key::read(stored) {
        Some(Key::Adopted(_)) => ExistingField::Adopted { stored: stored.to_owned() },
        Some(Key::Released) => ExistingField::Other,
        // What a later version of ours wrote stays, too.
        Some(Key::Ivf(_)) | None => ExistingField::Ivf {
            stored: stored.to_owned(),
            index_options: field.get("index_options").map(Value::to_string),
        },
    }
}

fn merged(one: &ExistingField, other: ExistingField) -> ExistingField {
    match (one, other) {
        (one, other) if *one == other => other,
        (ExistingField::Ivf { stored, .. }, ExistingField::Ivf { stored: same, .. }) if *stored == same => {
            ExistingField::Ivf { stored: same, index_options: None }
        }
        _ => ExistingField::Differing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(stored: &str, index_options: Option<&str>) -> ExistingField {
        ExistingField::Ivf { stored: stored.into(), index_options: index_options.map(str::to_owned) }
    }

    #[test]
    fn vector_fields_are_found_at_any_depth() {
        let response = format!(
            r#"{{"a":{{"mappings":{{"properties":{{
                "t":{{"type":"text"}},
                "v":{{"type":"dense_vector","meta":{{"{META_KEY}":"nlist=7"}}}},
                "o":{{"properties":{{"w":{{"type":"dense_vector","index_options":{{"type":"hnsw"}}}}}}}}
            }}}}}}}}"#
        );
        let found = existing_fields(&response);
        let expected = [("o.w".to_owned(), ExistingField::Other), ("v".to_owned(), ours("nlist=7", None))];
        assert_eq!(found, BTreeMap::from(expected));
        assert!(existing_fields("[]").is_empty());
    }

    #[test]
    fn several_indices_may_differ() {
        let with = |fields: [&str; 2]| {
            let index = |field: &str| format!(r#"{{"mappings":{{"properties":{{"v":{field}}}}}}}"#);
            let response = format!(r#"{{"a":{},"b":{}}}"#, index(fields[0]), index(fields[1]));
            existing_fields(&response).remove("v").unwrap()
        };
        let flat =
            r#"{"type":"dense_vector","index_options":{"type":"flat"},"meta":{"outrigger.ivf":"default"}}"#;
        let int8 = flat.replace("flat", "int8_flat");
        let other_options = flat.replace("default", "nlist=7");
        let foreign = r#"{"type":"dense_vector"}"#;
        assert_eq!(with([flat, flat]), ours("default", Some(r#"{"type":"flat"}"#)));
        assert_eq!(with([flat, &int8]), ours("default", None));
        assert_eq!(with([foreign, foreign]), ExistingField::Other);
        assert_eq!(with([flat, &other_options]), ExistingField::Differing);
        assert_eq!(with([foreign, flat]), ExistingField::Differing);
        let adopted = r#"{"type":"dense_vector","index_options":{"type":"hnsw"},"meta":{"outrigger.ivf":"adopted nlist=7"}}"#;
        let stored = "adopted nlist=7".to_owned();
        assert_eq!(with([adopted, &adopted.replace("hnsw", "flat")]), ExistingField::Adopted { stored });
    }
}
