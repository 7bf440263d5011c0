//! The `ivf` index type in mappings, both ways: what clients write becomes what Elasticsearch knows,
//! with our options kept in the field's `meta`; what Elasticsearch shows becomes `ivf` again.

mod change;
mod existing;
mod nesting;
mod options;
mod read_back;
mod show;
mod template;
mod translate;

pub use change::{KeyChange, change_key};
pub use existing::existing_fields;
pub(crate) use nesting::Nesting;
pub use options::META_KEY;
pub(crate) use options::{Key, shown_options};
pub(crate) use read_back::can_read_back;
pub use show::show_ivf;
pub use template::translate_template;
pub use translate::{translate_create, translate_update};

use crate::error::error_body_caused_by;
use crate::version::Capabilities;

/// What a field already is, in the indices that a mapping update goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExistingField {
    /// Of type `ivf`.
    Ivf {
        /// Its options as stored (the value of [`META_KEY`]).
        stored: String,
        /// Elasticsearch's options of it, as printed; `None` where it prints none, or not the same in all indices.
        index_options: Option<String>,
    },
    /// Of another type, and indexed by us beside.
    Adopted {
        /// As above.
        stored: String,
    },
    /// Anything else.
    Other,
    /// Not the same in all indices.
    Differing,
}

/// What translation must know besides the body.
pub struct MappingContext<'a> {
    /// Of the Elasticsearch that gets the mapping.
    pub caps: &'a Capabilities,
    /// Whether a `dense_vector` without `index_options` becomes `ivf`.
    pub unspecified_is_ivf: bool,
    /// What the field with this full path is now; `None` where it does not exist.
    pub existing: &'a dyn Fn(&str) -> Option<ExistingField>,
}

/// A mapping that asks for `ivf` wrongly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct MappingError {
    /// `mapper_parsing_exception` or `illegal_argument_exception`, as Elasticsearch has it for the
    /// comparable mistake.
    pub kind: &'static str,
    /// The sentence.
    pub reason: String,
}

impl MappingError {
    /// Elasticsearch's 400 for it.
    pub fn body(&self) -> String {
        let outer = format!("Failed to parse mapping: {}", self.reason);
        let cause = (self.kind, self.reason.as_str());
        let outer = ("mapper_parsing_exception", outer.as_str());
        // Only Elasticsearch's own exceptions can be a root cause.
        let root_cause = if self.kind == "illegal_argument_exception" { outer } else { cause };
        error_body_caused_by(400, outer, root_cause, cause)
    }
}

#[cfg(test)]
mod tests;
