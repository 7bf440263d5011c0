//! 9.2: as 9.1, and vectors leave `_source` by default.
//!
//! A knn *query* on a `flat` field matches every document here. Bytes and bits have no quantised type that keeps to
//! `k` as floats have, so until such queries are answered by way of Elasticsearch with our own hits (*splice*),
//! Elasticsearch keeps a graph for them: what passes must be answered rightly. With that, `flat` is the type here too.

use super::{Capabilities, EsVersion, v8_19};

pub(super) fn capabilities(version: EsVersion) -> Capabilities {
    Capabilities {
        byte_index_options: r#"{"type":"hnsw","m":16,"ef_construction":100}"#,
        url_exclude_vectors: true,
        ..v8_19::capabilities(version)
    }
}
