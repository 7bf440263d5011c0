//! Giving a field our key in `meta`, or another one, or none of meaning: a mapping update that repeats all that
//! the field is, since Elasticsearch resets what an update leaves out.

use serde_json::{Map, Value, json};

use super::options::{self, Key, META_KEY, bad_value};
use super::translate::MAX_META_ENTRIES;
use super::{MappingError, Nesting, can_read_back};
use crate::json::Object;
use crate::version::Capabilities;

/// What shall become of our key.
#[derive(Clone, Copy, Debug)]
pub enum KeyChange<'a> {
    /// The field is ours from now on: with these options (a JSON object as `index_options` has them), or as it
    /// is where there are none.
    Adopt(Option<&'a str>),
    /// The field is not ours any more.
    Release {
        /// A pattern adopted it, so that there is no key; it gets one that says so.
        by_pattern: bool,
    },
    /// The field is what it was before somebody took the key away.
    Restore {
        /// The key's value.
        stored: &'a str,
        /// Elasticsearch's `index_options` that go with it; `None` leaves those that it has now.
        index_options: Option<&'a str>,
    },
}

/// The body of the `PUT /{index}/_mapping` that does it, from the answer to `GET /{index}/_mapping` of one index.
/// `None`: nothing is to be done.
pub fn change_key(
    mapping: &str,
    path: &str,
    change: KeyChange<'_>,
    caps: &Capabilities,
) -> Result<Option<String>, MappingError> {
    let answer: Value = serde_json::from_str(mapping).unwrap_or_default();
    let mapping = answer.as_object().and_then(|indices| indices.values().next()?.get("mappings"));
    let mapping = mapping.unwrap_or(&Value::Null);
    let Place { mut definition, nested } = find(mapping, path, "", Nesting::None)?;
    let nesting = if nested.is_some() { Nesting::Once } else { Nesting::None };
    let old = definition.get("meta").and_then(|meta| meta.get(META_KEY)).and_then(Value::as_str);
    let old = old.map(str::to_owned);
    let new = match change {
        KeyChange::Adopt(wanted) => {
            if !can_read_back(mapping, path, nesting, caps) {
                let without = match nesting {
                    Nesting::None => " (Elasticsearch can tell them without from 8.17 on)",
                    _ => "",
                };
                return Err(bad_value(format!(
                    "field [{path}] cannot be adopted: its vectors can't be read back, because [_source] does not keep them{without}"
                )));
            }
            adopted(path, &definition, old.as_deref(), wanted)?
        }
        KeyChange::Release { by_pattern: false } if old.is_none() => return Ok(None),
        KeyChange::Release { .. } => Key::Released.text(),
        KeyChange::Restore { stored, .. } => stored.to_owned(),
    };
    if let KeyChange::Restore { index_options: Some(options), .. } = change {
        definition.insert("index_options".to_owned(), serde_json::from_str(options).unwrap_or_default());
    } else if old.as_deref() == Some(&*new) {
        return Ok(None);
    }
    let meta = definition.entry("meta").or_insert_with(|| json!({}));
    if let Some(meta) = meta.as_object_mut() {
        meta.insert(META_KEY.to_owned(), new.into());
        if meta.len() > MAX_META_ENTRIES {
            return Err(MappingError {
                kind: "mapper_parsing_exception",
                reason: format!("[meta] of field [{path}] has no room for the entry of [ivf]"),
            });
        }
    }
    let properties = match nested {
        None => json!({path: definition}),
        Some(object) => {
            let rest = &path[object.len() + 1..];
            json!({object: {"type": "nested", "properties": {rest: definition}}})
        }
    };
    Ok(Some(json!({"properties": properties}).to_string()))
}

fn adopted(
    path: &str,
    definition: &Map<String, Value>,
    old: Option<&str>,
    wanted: Option<&str>,
) -> Result<String, MappingError> {
    if definition.get("index") == Some(&Value::Bool(false)) {
        return Err(bad_value(format!("field [{path}] cannot be adopted: it is not indexed")));
    }
    let old = old.and_then(Key::read);
    let options = match (wanted, old.and_then(Key::options)) {
        (Some(wanted), _) => {
            let wanted = Object::parse(wanted).map_err(|_| MappingError {
                kind: "mapper_parsing_exception",
                reason: format!("options of field [{path}] must be a JSON object"),
            })?;
            options::read(path, &wanted)?
        }
        (None, Some(options)) => options,
        (None, None) => Default::default(),
    };
    let is_ivf = matches!(old, Some(Key::Ivf(_)));
    Ok(if is_ivf { Key::Ivf(options) } else { Key::Adopted(options) }.text())
}

/// A vector field in a mapping.
struct Place {
    definition: Map<String, Value>,
    /// The nested object that it stands below.
    nested: Option<String>,
}

/// The definition of a vector field, whether its path is nested or dotted. `above` is the path of `mapping`,
/// an object.
fn find(mapping: &Value, path: &str, above: &str, nesting: Nesting) -> Result<Place, MappingError> {
    let Some(properties) = mapping.get("properties").and_then(Value::as_object) else {
        return Err(no_such_field(path));
    };
    for (name, definition) in properties {
        let Some(rest) = path.strip_prefix(name.as_str()) else { continue };
        let kind = definition.get("type").and_then(Value::as_str);
        if rest.is_empty() {
            return match (kind, definition.as_object()) {
                (Some("dense_vector"), Some(definition)) => {
                    Ok(Place { definition: definition.clone(), nested: None })
                }
                _ => {
                    let kind = kind.unwrap_or("object");
                    Err(bad_value(format!("field [{path}] is of type [{kind}], not [dense_vector]")))
                }
            };
        }
        let Some(rest) = rest.strip_prefix('.') else { continue };
        let (object, below) = (format!("{above}{name}"), nesting.below_value(definition));
        match find(definition, rest, &format!("{object}."), below) {
            Ok(_) if below == Nesting::Deeper => {
                return Err(bad_value(format!(
                    "field [{path}] cannot be adopted: it stands below the nested object [{name}], which is nested itself or included in another"
                )));
            }
            Ok(place) if kind == Some("nested") => return Ok(Place { nested: Some(object), ..place }),
            Err(MappingError { kind: NO_SUCH_FIELD, .. }) => {}
            found => return found,
        }
    }
    Err(no_such_field(path))
}

const NO_SUCH_FIELD: &str = "resource_not_found_exception";

fn no_such_field(path: &str) -> MappingError {
    MappingError { kind: NO_SUCH_FIELD, reason: format!("no such field: [{path}]") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPPING: &str = r#"{"i":{"mappings":{"_source":{"excludes":["o"]},"properties":{
        "v":{"type":"dense_vector","dims":3,"index":true,"similarity":"l2_norm","index_options":{"type":"hnsw","m":8,"ef_construction":50},"meta":{"unit":"m"},"copy_to":["w"]},
        "ours":{"type":"dense_vector","dims":3,"index_options":{"type":"flat"},"meta":{"outrigger.ivf":"nlist=3"}},
        "o":{"properties":{"w":{"type":"dense_vector","dims":3},"t":{"type":"text"}}},
        "a.b":{"type":"dense_vector","dims":2},
        "off":{"type":"dense_vector","dims":2,"index":false},
        "full":{"type":"dense_vector","dims":2,"meta":{"1":"1","2":"2","3":"3","4":"4","5":"5"}},
        "n":{"type":"nested","properties":{"v":{"type":"dense_vector","dims":2},"m":{"type":"nested","properties":{"v":{"type":"dense_vector","dims":2}}}}},
        "x":{"properties":{"n":{"type":"nested","properties":{"o":{"properties":{"v":{"type":"dense_vector","dims":2}}}}}}}}}}}"#;

    fn changed(path: &str, change: KeyChange<'_>) -> Result<Option<Value>, MappingError> {
        let caps = Capabilities::of("8.15.3".parse().unwrap()).unwrap();
        Ok(change_key(MAPPING, path, change, &caps)?.map(|body| serde_json::from_str(&body).unwrap()))
    }

    fn key_of(path: &str, change: KeyChange<'_>) -> Value {
        changed(path, change).unwrap().unwrap()["properties"][path]["meta"][META_KEY].clone()
    }

    #[test]
    fn all_that_a_field_is_is_said_again() {
        let expected = json!({"properties": {"v": {
            "type": "dense_vector", "dims": 3, "index": true, "similarity": "l2_norm",
            "index_options": {"type": "hnsw", "m": 8, "ef_construction": 50},
            "meta": {"unit": "m", META_KEY: "adopted"}, "copy_to": ["w"],
        }}});
        assert_eq!(changed("v", KeyChange::Adopt(None)), Ok(Some(expected)));
        assert_eq!(key_of("a.b", KeyChange::Adopt(Some(r#"{"nlist":9}"#))), "adopted nlist=9");
        assert_eq!(key_of("ours", KeyChange::Adopt(Some(r#"{"nlist":9}"#))), "nlist=9");
        assert_eq!(changed("ours", KeyChange::Adopt(None)), Ok(None), "it is already");
        assert_eq!(key_of("ours", KeyChange::Release { by_pattern: false }), "released");
        assert_eq!(key_of("v", KeyChange::Release { by_pattern: true }), "released");
        assert_eq!(changed("v", KeyChange::Release { by_pattern: false }), Ok(None), "it never was");
        let restore = KeyChange::Restore { stored: "nlist=7", index_options: Some(r#"{"type":"flat"}"#) };
        let restored = changed("v", restore).unwrap().unwrap();
        assert_eq!(restored["properties"]["v"]["meta"], json!({"unit": "m", META_KEY: "nlist=7"}));
        assert_eq!(restored["properties"]["v"]["index_options"], json!({"type": "flat"}));
    }

    #[test]
    fn a_nested_object_stays_nested() {
        let v = json!({"type": "dense_vector", "dims": 2, "meta": {META_KEY: "adopted"}});
        let expected = json!({"properties": {"n": {"type": "nested", "properties": {"v": v}}}});
        assert_eq!(changed("n.v", KeyChange::Adopt(None)), Ok(Some(expected)));
        let expected = json!({"properties": {"x.n": {"type": "nested", "properties": {"o.v": v}}}});
        assert_eq!(changed("x.n.o.v", KeyChange::Adopt(None)), Ok(Some(expected)));
    }

    #[test]
    fn what_cannot_be_adopted_says_why() {
        for (path, options, kind, reason) in [
            ("y", None, NO_SUCH_FIELD, "no such field: [y]"),
            ("o.x", None, NO_SUCH_FIELD, "no such field"),
            ("o.t", None, "illegal_argument_exception", "is of type [text], not [dense_vector]"),
            ("o", None, "illegal_argument_exception", "is of type [object]"),
            ("o.w", None, "illegal_argument_exception", "can't be read back"),
            ("n.m.v", None, "illegal_argument_exception", "below the nested object [m]"),
            ("off", None, "illegal_argument_exception", "it is not indexed"),
            ("full", None, "mapper_parsing_exception", "has no room"),
            ("v", Some("[]"), "mapper_parsing_exception", "must be a JSON object"),
            ("v", Some(r#"{"nlist":0}"#), "illegal_argument_exception", "[nlist] must be an integer"),
            ("v", Some(r#"{"x":0}"#), "mapper_parsing_exception", "unsupported parameters"),
        ] {
            let error = changed(path, KeyChange::Adopt(options)).unwrap_err();
            assert_eq!(error.kind, kind, "{path}: {error}");
            assert!(error.reason.contains(reason), "{path}: {error}");
        }
    }
}
