//! 8.19 and 9.1: rescoring in the mapping, so `int8_flat` prints exact scores and keeps to `k`. Not in inner
//! hits, which are estimates: below `nested` stands plain `flat`, which keeps to `k` here, too.

use super::{Capabilities, EsVersion, Mode};

pub(super) fn capabilities(version: EsVersion) -> Capabilities {
    Capabilities {
        version,
        mode: Mode::Offload,
        index_options: r#"{"type":"int8_flat","rescore_vector":{"oversample":3.0}}"#,
        byte_index_options: r#"{"type":"flat"}"#,
        nested_index_options: r#"{"type":"flat"}"#,
        k_required: false,
        index_by_default: true,
        dims_optional: true,
        index_options_updatable: true,
        retrievers: true,
        hex_vectors: true,
        docvalue_vectors: true,
        unmapped_field_is_empty: true,
        source_exclude_vectors: true,
        url_exclude_vectors: false,
        boosts_after_merging: true,
        filter_keeps_empty_arrays: true,
    }
}
