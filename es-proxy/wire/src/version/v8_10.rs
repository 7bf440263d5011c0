//! 8.10 to 8.12: no flat index types, so Elasticsearch keeps its graph (*mirror*).

use super::{Capabilities, EsVersion, Mode};

pub(super) fn capabilities(version: EsVersion) -> Capabilities {
    let since_8_11 = version.minor >= 11;
    Capabilities {
        version,
        mode: Mode::Mirror,
        index_options: r#"{"type":"hnsw","m":16,"ef_construction":100}"#,
        byte_index_options: r#"{"type":"hnsw","m":16,"ef_construction":100}"#,
        nested_index_options: r#"{"type":"hnsw","m":16,"ef_construction":100}"#,
        k_required: true,
        index_by_default: since_8_11,
        dims_optional: since_8_11,
        index_options_updatable: false,
        retrievers: false,
        hex_vectors: false,
        docvalue_vectors: false,
        unmapped_field_is_empty: false,
        source_exclude_vectors: false,
        url_exclude_vectors: false,
        boosts_after_merging: false,
        filter_keeps_empty_arrays: false,
    }
}
