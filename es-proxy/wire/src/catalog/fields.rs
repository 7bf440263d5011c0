//! Finding our fields in a mapping as the cluster state holds it.

use std::collections::BTreeMap;
use std::sync::Arc;

use knn_types::{Element, FieldSpec, IvfOptions};
use serde_json::Value;

use super::{ForeignField, Origin, VectorField};
use crate::mapping::{Key, META_KEY, Nesting, can_read_back};
use crate::score::Similarity;
use crate::version::Capabilities;

/// The engine takes no longer vectors; of bits eight times as many.
const MAX_DIMS: u64 = 4096;

#[derive(Default)]
pub(super) struct Found {
    pub(super) ours: BTreeMap<Arc<str>, VectorField>,
    pub(super) foreign: BTreeMap<Arc<str>, ForeignField>,
    pub(super) has_nested: bool,
    pub(super) may_ignore: bool,
}

/// Reads `mappings` of an index; the cluster state puts the mapping below `_doc`. With `adopt` every field that
/// can be ours is, unless it was released.
pub(super) fn read(mappings: &Value, caps: &Capabilities, adopt: bool) -> Found {
    let mut found = Found::default();
    let mapping = mappings.get("_doc").unwrap_or(mappings);
    walk(mapping, "", &Above::default(), caps, &mut found);
    // A runtime field stands before the mapped one of its name: a knn search of it is an error.
    if let Some(runtime) = mapping.get("runtime").and_then(Value::as_object) {
        found.ours.retain(|path, _| !runtime.contains_key(&**path));
        found.foreign.retain(|path, _| !runtime.contains_key(&**path));
    }
    let foreign = found.foreign.iter_mut().map(|(path, foreign)| (path, &mut foreign.field));
    for (path, field) in found.ours.iter_mut().chain(foreign) {
        let nesting = if field.nested.is_some() { Nesting::Once } else { Nesting::None };
        field.readable = can_read_back(mapping, path, nesting, caps);
    }
    if adopt {
        let free = |_: &Arc<str>, foreign: &mut ForeignField| !foreign.released && foreign.field.readable;
        for (path, foreign) in found.foreign.extract_if(.., free) {
            found.ours.insert(path, foreign.field);
        }
    }
    found
}

/// What stands above a field.
#[derive(Clone)]
struct Above {
    nesting: Nesting,
    /// The innermost nested object.
    nested: Option<Arc<str>>,
}

impl Default for Above {
    fn default() -> Self {
        Self { nesting: Nesting::None, nested: None }
    }
}

fn walk(parent: &Value, prefix: &str, above: &Above, caps: &Capabilities, found: &mut Found) {
    let Some(properties) = parent.get("properties").and_then(Value::as_object) else { return };
    for (name, definition) in properties {
        found.may_ignore |= may_ignore(definition);
        let path = format!("{prefix}{name}");
        match definition.get("type").and_then(Value::as_str) {
            // Its name is not the one that Elasticsearch knows it by, or means others too where documents are
            // asked for.
            Some("dense_vector") if path.contains([char::REPLACEMENT_CHARACTER, '*']) => {}
            Some("dense_vector") if above.nesting != Nesting::Deeper => {
                let Some(field) = vector_field(definition, caps) else { continue };
                let field = VectorField { nested: above.nested.clone(), ..field };
                match key_of(definition) {
                    None => drop(found.foreign.insert(path.into(), ForeignField { field, released: false })),
                    Some(Key::Released) => {
                        found.foreign.insert(path.into(), ForeignField { field, released: true });
                    }
                    Some(key @ (Key::Ivf(options) | Key::Adopted(options))) => {
                        let spec = FieldSpec { options, ..field.spec };
                        let adopted = matches!(key, Key::Adopted(_));
                        let origin = if adopted { Origin::Adopted } else { Origin::Mapping };
                        let field = VectorField { spec, stored: key.text().into(), origin, ..field };
                        found.ours.insert(path.into(), field);
                    }
                }
            }
            kind => {
                let mut above = Above { nesting: above.nesting.below_value(definition), ..above.clone() };
                if kind == Some("nested") {
                    found.has_nested = true;
                    above.nested = Some(path.as_str().into());
                }
                walk(definition, &format!("{path}."), &above, caps, found);
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

fn key_of(definition: &Value) -> Option<Key> {
    Key::read(definition.get("meta")?.get(META_KEY)?.as_str()?)
}

/// The field as it would be if a pattern adopted it; `None` where we could not search it now, or where our key
/// holds something that we do not understand.
fn vector_field(definition: &Value, caps: &Capabilities) -> Option<VectorField> {
    let text = |key: &str| definition.get(key).and_then(Value::as_str);
    if definition.get("meta").is_some_and(|meta| meta.get(META_KEY).is_some()) {
        key_of(definition)?;
    }
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
        spec: FieldSpec {
            element,
            dims: dims as usize,
            metric: similarity.metric(),
            options: IvfOptions::default(),
        },
        similarity,
        nested: None,
        readable: true,
        stored: Key::Adopted(IvfOptions::default()).text().into(),
        origin: Origin::Pattern,
        index_options: definition.get("index_options").map(|options| options.to_string().into()),
    })
}
