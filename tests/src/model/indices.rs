//! The indices of the model.

use serde_json::{Value, json};

use super::document::FIELDS;

/// One index.
#[derive(Debug)]
pub(super) struct Index {
    /// Its name.
    pub(super) name: &'static str,
    /// `number_of_shards`.
    pub(super) shards: usize,
    /// `refresh_interval` at first.
    pub(super) interval: &'static str,
}

/// Their steps name them by their place here.
pub(super) const INDICES: [Index; 3] = [
    Index { name: "m-manual", shards: 1, interval: "-1" },
    Index { name: "m-quick", shards: 2, interval: "1s" },
    Index { name: "m-pairs", shards: 1, interval: "-1" },
];

/// The index that holds the pairs, too. Nothing but the history refreshes it.
pub(super) const PAIRS: usize = 2;

/// Points at one of them.
pub(super) const ALIAS: &str = "m-live";

impl Index {
    /// The body that makes it.
    pub(super) fn body(&self, replicas: usize) -> Value {
        let mut properties = json!({"n": {"type": "long"}});
        for (field, similarity, dims) in FIELDS {
            let mapping = json!({
                "type": "dense_vector", "dims": dims, "index": true, "similarity": similarity,
                "index_options": {"type": "ivf"},
            });
            match field.split_once('.') {
                Some((object, inner)) => properties[object] = json!({"properties": {inner: mapping}}),
                None => properties[field] = mapping,
            }
        }
        json!({
            "settings": {
                "number_of_shards": self.shards,
                "number_of_replicas": replicas,
                "refresh_interval": self.interval,
            },
            "mappings": {"properties": properties},
        })
    }
}
