//! What of an index decides whether a write can be understood from its request and response alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::index::{StateIndex, setting};
use super::{VectorField, is_true};
use crate::routing::Routing;

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteRules {
    /// Grows with every change of the index's settings; pipelines are settings.
    pub settings_version: u64,
    /// How documents find their shard; `None` where that is not known.
    pub routing: Option<Routing>,
    /// `_routing.required`.
    pub routing_required: bool,
    /// `index.default_pipeline` or `index.final_pipeline` names a pipeline: a document may become another.
    pub has_pipeline: bool,
    /// `index.mode` is the standard one: others route documents by their content.
    pub standard_mode: bool,
    /// Some field has `copy_to` into a field of ours, so a vector may stand elsewhere in the document.
    pub copies_into_vectors: bool,
}

impl WriteRules {
    pub(super) fn read(index: &StateIndex, shards: u32, ours: &BTreeMap<Arc<str>, VectorField>) -> Self {
        let number = |key, default| setting(&index.settings, key).map_or(Ok(default), str::parse::<u32>);
        let names_pipeline = |key| setting(&index.settings, key).is_some_and(|name| name != "_none");
        let mapping = index.mappings.get("_doc").unwrap_or(&index.mappings);
        let required = mapping.get("_routing").and_then(|routing| routing.get("required"));
        Self {
            settings_version: index.settings_version,
            routing: number("routing_partition_size", 1)
                .ok()
                .and_then(|partition_size| Routing::new(index.routing_num_shards, shards, partition_size)),
            routing_required: required.is_some_and(is_true),
            has_pipeline: names_pipeline("default_pipeline") || names_pipeline("final_pipeline"),
            standard_mode: setting(&index.settings, "mode").is_none_or(|mode| mode == "standard"),
            copies_into_vectors: copies_into(mapping, &|path| ours.contains_key(path)),
        }
    }

    /// Whether a write to the index, sent without a pipeline of its own, does what it says.
    pub fn are_plain(&self) -> bool {
        self.routing.is_some() && self.standard_mode && !self.has_pipeline && !self.copies_into_vectors
    }
}

/// Whether `copy_to` of any field below `parent` names a field of ours.
fn copies_into(parent: &Value, is_ours: &impl Fn(&str) -> bool) -> bool {
    let Some(properties) = parent.get("properties").and_then(Value::as_object) else { return false };
    properties.values().any(|definition| {
        let here = match definition.get("copy_to") {
            Some(Value::String(path)) => is_ours(path),
            Some(Value::Array(paths)) => paths.iter().filter_map(Value::as_str).any(is_ours),
            _ => false,
        };
        here || copies_into(definition, is_ours)
    })
}
