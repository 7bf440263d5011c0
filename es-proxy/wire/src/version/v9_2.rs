//! 9.2: as 9.1, and vectors leave `_source` by default.
//!
//! A knn *query* on a `flat` field, as byte and bit fields are, matches every document here: once such queries
//! are answered by way of Elasticsearch (*splice*), it must not see them on those fields.

use super::{Capabilities, EsVersion, v8_19};

pub(super) fn capabilities(version: EsVersion) -> Capabilities {
    Capabilities { url_exclude_vectors: true, ..v8_19::capabilities(version) }
}
