//! Which vector fields an index already has, from a `GET /{index}/_mapping` response: an update that
//! repeats one of them must not reset it.

use serde_json::{Map, Value};

use super::{ExistingField, META_KEY};

/// Every `dense_vector` field in the response with its full path; one entry per index that has it.
/// Empty when the response is not of the expected shape.
pub fn existing_fields(response: &str) -> Vec<(String, ExistingField)> {
    let mut found = Vec::new();
    if let Ok(Value::Object(indices)) = serde_json::from_str(response) {
        for index in indices.values() {
            if let Some(properties) = index.pointer("/mappings/properties").and_then(Value::as_object) {
                collect("", properties, &mut found);
            }
        }
    }
    found
}

fn collect(parent: &str, properties: &Map<String, Value>, found: &mut Vec<(String, ExistingField)>) {
    for (name, field) in properties {
        let path = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
        if field.get("type").and_then(Value::as_str) == Some("dense_vector") {
            let stored = field.get("meta").and_then(|meta| meta.get(META_KEY)).and_then(Value::as_str);
            let existing =
                stored.map_or(ExistingField::Other, |options| ExistingField::Ivf(options.to_owned()));
            found.push((path, existing));
        } else if let Some(properties) = field.get("properties").and_then(Value::as_object) {
            collect(&path, properties, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(
            found,
            [
                ("v".to_owned(), ExistingField::Ivf("nlist=7".into())),
                ("o.w".to_owned(), ExistingField::Other)
            ]
        );
        assert!(existing_fields("[]").is_empty());
    }
}
