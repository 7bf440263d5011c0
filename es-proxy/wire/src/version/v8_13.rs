//! 8.13 to 8.18 and 9.0: flat types, but no rescoring in the mapping: plain `flat`, whose scores are
//! exact and which keeps to `k` in these versions.

use super::{Capabilities, EsVersion, Mode};

pub(super) fn capabilities(version: EsVersion) -> Capabilities {
    let since = |minor: u32| version.major > 8 || version.minor >= minor;
    Capabilities {
        version,
        mode: Mode::Offload,
        index_options: r#"{"type":"flat"}"#,
        byte_index_options: r#"{"type":"flat"}"#,
        nested_index_options: r#"{"type":"flat"}"#,
        k_required: false,
        index_by_default: true,
        dims_optional: true,
        index_options_updatable: since(15),
        retrievers: since(14),
        hex_vectors: since(14),
        docvalue_vectors: since(17),
        unmapped_field_is_empty: since(16),
        source_exclude_vectors: false,
        url_exclude_vectors: false,
        boosts_after_merging: true,
        filter_keeps_empty_arrays: since(16),
    }
}
