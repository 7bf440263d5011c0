//! Finding our fields in a mapping as the cluster state holds it.

use std::collections::BTreeMap;
use std::sync::Arc;

use knn_types::{Element, FieldSpec};
use serde_json::Value;

use super::VectorField;
use crate::mapping::{META_KEY, Stored};
use crate::score::Similarity;
use crate::version::Capabilities;
use crate::wildcard::matches_wildcard;

/// The engine takes no longer vectors; of bits eight times as many.
const MAX_DIMS: u64 = 4096;

#[derive(Default)]
pub(super) struct Found {
    pub(super) ours: BTreeMap<Arc<str>, VectorField>,
    pub(super) has_nested: bool,
    pub(super) may_ignore: bool,
}

/// Reads `mappings` of an index; the cluster state puts the mapping below `_doc`.
pub(super) fn read(mappings: &Value, caps: &Capabilities) -> Found {
    let mut found = Found::default();
    let mappings = mappings.get("_doc").unwrap_or(mappings);
    walk(mappings, "", false, caps, &mut found);
    for (path, field) in &mut found.ours {
        field.readable = caps.docvalue_vectors || source_holds(mappings.get("_source"), path);
    }
    found
}

/// Whether documents keep a field in their `_source`.
fn source_holds(source: Option<&Value>, path: &str) -> bool {
    let Some(source) = source else { return true };
    let is_off = |value: &Value| value == false || value == "false";
    if source.get("enabled").is_some_and(is_off) || source.get("mode").is_some_and(|mode| mode == "disabled")
    {
        return false;
    }
    let names = |key: &str| {
        let patterns = source.get(key).and_then(Value::as_array)?;
        Some(patterns.iter().filter_map(Value::as_str).any(|pattern| covers(pattern, path)))
    };
    let included = source.get("includes").and_then(Value::as_array).is_none_or(Vec::is_empty)
        || names("includes") == Some(true);
    included && names("excludes") != Some(true)
}

/// Whether a pattern of `includes` or `excludes` names a field or an object around it.
fn covers(pattern: &str, path: &str) -> bool {
    let around = path.match_indices('.').map(|(dot, _)| &path[..dot]);
    around.chain([path]).any(|name| matches_wildcard(pattern, name))
}

fn walk(parent: &Value, prefix: &str, below_nested: bool, caps: &Capabilities, found: &mut Found) {
    let Some(properties) = parent.get("properties").and_then(Value::as_object) else { return };
    for (name, definition) in properties {
        found.may_ignore |= may_ignore(definition);
        let path = format!("{prefix}{name}");
        match definition.get("type").and_then(Value::as_str) {
            Some("dense_vector") if !below_nested => {
                if let Some(field) = vector_field(definition, caps) {
                    found.ours.insert(path.into(), field);
                }
            }
            kind => {
                let nested = kind == Some("nested");
                found.has_nested |= nested;
                walk(definition, &format!("{path}."), below_nested || nested, caps, found);
            }
        }
    }
}

/// Whether a value of this field, or of one of its multi-fields, can be dropped silently.
fn may_ignore(definition: &Value) -> bool {
    let drops = definition.get("ignore_above").is_some()
        || definition
            .get("ignore_malformed")
            .is_some_and(|value| !matches!(value.as_str(), Some("false")) && value != false);
    let multi_fields = definition.get("fields").and_then(Value::as_object);
    drops || multi_fields.is_some_and(|fields| fields.values().any(may_ignore))
}

/// `None` unless the field is ours and can be searched now.
fn vector_field(definition: &Value, caps: &Capabilities) -> Option<VectorField> {
    let text = |key: &str| definition.get(key).and_then(Value::as_str);
    let stored = definition.get("meta")?.get(META_KEY)?.as_str()?;
    let Stored { options, .. } = Stored::read(stored)?;
    let indexed = definition.get("index").map_or(caps.index_by_default, |index| index == &Value::Bool(true));
    let element = Element::named(text("element_type").unwrap_or("float"))?;
    let dims = definition.get("dims")?.as_u64().filter(|dims| match element {
        // 8.15 takes any number of bits in a mapping, and then cannot start the shard.
        Element::Bit => (8..=8 * MAX_DIMS).contains(dims) && dims.is_multiple_of(8),
        _ => (1..=MAX_DIMS).contains(dims),
    })?;
    if !indexed {
        return None;
    }
    let default = if element == Element::Bit { "l2_norm" } else { "cosine" };
    let similarity: Similarity = text("similarity").unwrap_or(default).parse().ok()?;
    if element == Element::Bit && similarity != Similarity::L2Norm {
        return None;
    }
    Some(VectorField {
        spec: FieldSpec { element, dims: dims as usize, metric: similarity.metric(), options },
        similarity,
        stored: stored.into(),
        readable: true,
    })
}
