//! A vector field: ours, or one that could be.

use std::sync::Arc;

use knn_types::FieldSpec;
use serde_json::Value;

use crate::mapping::{Key, shown_options};
use crate::score::{Scoring, Similarity};
use crate::version::Mode;

/// A field that is ours: searchable, with known dims.
#[derive(Clone, Debug)]
pub struct VectorField {
    /// What the engine must know.
    pub spec: FieldSpec,
    /// How scores are computed.
    pub similarity: Similarity,
    /// The `nested` object that it stands below, if it does: documents have several vectors then.
    pub nested: Option<Arc<str>>,
    /// Our options as stored in the field's `meta`.
    pub stored: Box<str>,
    /// Its vectors can be read back. Elasticsearch before 8.17 returns them out of `_source` alone,
    /// which an index may be without, wholly or for this field.
    pub readable: bool,
    /// How it became ours.
    pub origin: Origin,
    /// Elasticsearch's own `index_options`, as printed; `None` where it prints none.
    pub index_options: Option<Box<str>>,
}

impl VectorField {
    /// How its vectors are judged and scored.
    pub fn scoring(&self) -> Scoring {
        Scoring { similarity: self.similarity, element: self.spec.element, dims: self.spec.dims }
    }

    /// Whether Elasticsearch keeps a graph (or lists) of its own for the field.
    pub fn mode(&self) -> Mode {
        let options = self.index_options.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
        match options.as_ref().and_then(|options| options.get("type")?.as_str()) {
            Some(kind) if kind.ends_with("flat") => Mode::Offload,
            _ => Mode::Mirror,
        }
    }

    /// Our options as `index_options` of a mapping has them.
    pub fn shown_options(&self) -> String {
        shown_options(&self.spec.options)
    }

    /// What is stored for the same options beside an index type of Elasticsearch's own.
    pub fn stored_beside(&self) -> String {
        Key::Adopted(self.spec.options).text()
    }

    /// Whether both are the same field, whoever indexes it with whatever options.
    pub fn is_same_field(&self, other: &Self) -> bool {
        let identity = |field: &Self| (field.spec.element, field.spec.dims, field.similarity);
        identity(self) == identity(other) && self.nested == other.nested
    }
}

/// How a field became ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Its index type is `ivf`.
    Mapping,
    /// By `PUT /_ivf/{index}/{field}`.
    Adopted,
    /// By a pattern of our own configuration; the mapping knows nothing of it.
    Pattern,
}

impl Origin {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Mapping => "mapping",
            Origin::Adopted => "api",
            Origin::Pattern => "pattern",
        }
    }
}

/// A vector field that is not ours.
#[derive(Clone, Debug)]
pub struct ForeignField {
    /// What it would be.
    pub field: VectorField,
    /// Whether it is not ours because somebody said so.
    pub released: bool,
}
