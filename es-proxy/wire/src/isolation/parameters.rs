//! Parameters of URLs. Elasticsearch reads path and query into one map, so that `?index=` names what the
//! path leaves out, and `?source=` is a body. What is not listed here is refused; a parameter that
//! Elasticsearch does not know would be refused there.

use super::Refusal;
use crate::Params;

/// Those that name no index and hold no query in a language of its own, sorted.
#[rustfmt::skip]
const HARMLESS: &[&str] = &[
    "_source", "_source_exclude_vectors", "_source_excludes", "_source_includes", "active_only", "all_shards",
    "allow_closed", "allow_no_indices", "allow_no_match", "allow_partial_search_results",
    "allow_partial_sequence_results", "analyze_wildcard", "analyzer", "batched_reduce_size", "bytes", "cause",
    "ccs_minimize_roundtrips", "completion_fields", "conflicts", "create", "default_operator", "detailed",
    "df", "docvalue_fields", "dry_run", "error_trace", "exact_bounds", "expand_wildcards", "explain",
    "extent", "features", "field", "field_statistics", "fielddata", "fielddata_fields", "fields",
    "filter_path", "filters", "flat_settings", "flush", "forbid_closed_indices", "force",
    "force_synthetic_source", "format", "from", "full_id", "grid_agg", "grid_precision", "grid_type",
    "groups", "h", "health", "help", "human", "ids", "if_primary_term", "if_seq_no", "ignore_throttled",
    "ignore_unavailable", "include_defaults", "include_deleted", "include_empty_fields",
    "include_named_queries_score", "include_segment_file_sizes", "include_source_on_error",
    "include_type_name", "include_unloaded_segments", "include_unmapped", "keep_alive", "keep_on_completion",
    "lang", "lazy", "lenient", "level", "list_executed_pipelines", "local", "master_timeout",
    "max_concurrent_searches", "max_concurrent_shard_requests", "max_docs", "max_num_segments", "merge_type",
    "min_score", "mode", "nprobe", "offsets", "only_expunge_deletes", "op_type", "order", "payloads",
    "positions", "pre_filter_shard_size", "preference", "preserve_existing", "pretty", "pri", "q", "query",
    "realtime", "refresh", "reopen", "request", "request_cache", "requests_per_second", "require_alias",
    "require_data_stream", "resource", "rest_total_hits_as_int", "retry_on_conflict", "rewrite", "routing",
    "run_expensive_tasks", "s", "scroll", "scroll_size", "search_timeout", "search_type",
    "seq_no_primary_term", "settings_filter", "size", "slices", "sort", "stats", "stored_fields",
    "suggest_field", "suggest_mode", "suggest_size", "suggest_text", "term_statistics", "terminate_after",
    "time", "timeout", "track_scores", "track_total_hits", "ts", "typed_keys", "types", "v", "verbose",
    "version", "version_type", "wait_for_active_shards", "wait_for_completion", "wait_for_completion_timeout",
    "wait_for_events", "wait_for_index", "wait_for_no_initializing_shards", "wait_for_no_relocating_shards",
    "wait_for_nodes", "wait_for_status", "wait_if_ongoing", "with_labels", "write_index_only",
];

/// Whether all of them may pass.
pub(super) fn check(params: &Params) -> Result<(), Refusal> {
    params.0.iter().try_for_each(|(name, value)| {
        let is_harmless = HARMLESS.binary_search(&name.as_str()).is_ok()
            // Another pipeline could write elsewhere.
            || (name == "pipeline" && value == "_none");
        if is_harmless { Ok(()) } else { Err(Refusal::Parameter(name.clone())) }
    })
}

/// Whether a parameter may stand in a URL.
#[cfg(test)]
pub(super) fn is_harmless(name: &str) -> bool {
    HARMLESS.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::HARMLESS;

    #[test]
    fn the_list_can_be_searched() {
        assert!(HARMLESS.is_sorted(), "{:?}", HARMLESS.windows(2).find(|pair| pair[0] >= pair[1]));
    }
}
