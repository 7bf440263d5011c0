//! Filters whose verdict on a document depends on that document alone, so that what Elasticsearch said
//! of it once stays true until the document, the mapping or the settings change.

use std::fmt;
use std::sync::Arc;

/// Such a filter: one query clause, in one spelling for all that mean the same to the letter. What may be
/// remembered under it belongs to one index and to its mapping and settings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DocFilter(Arc<str>);

impl DocFilter {
    /// The caller answers for it that the clause looks at nothing but the document.
    pub fn new(query: impl Into<Arc<str>>) -> Self {
        Self(query.into())
    }

    /// The clause, as JSON.
    pub fn query(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DocFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
