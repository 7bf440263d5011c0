//! 9.2: as 9.1, and vectors leave `_source` by default.
//!
//! A knn *query* on a `flat` field matches every document here. Bytes and bits have no quantised type that keeps to
//! `k` as floats have, so Elasticsearch keeps a graph for them: a search that passes whole (its index is being learnt,
//! a filter that is not understood) must be answered rightly too. The same is true below `nested`, where `flat`
//! takes the mean of a document's vectors and `int8_flat` prints estimates in inner hits.

use super::{Capabilities, EsVersion, v8_19};

pub(super) fn capabilities(version: EsVersion) -> Capabilities {
    Capabilities {
        byte_index_options: r#"{"type":"hnsw","m":16,"ef_construction":100}"#,
        nested_index_options: r#"{"type":"hnsw","m":16,"ef_construction":100}"#,
        url_exclude_vectors: true,
        ..v8_19::capabilities(version)
    }
}
