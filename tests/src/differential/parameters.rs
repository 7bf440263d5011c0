//! What may stand in the URL.

use super::Since;

/// A row of the table: a parameter and its values.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) since: Since,
    pub(super) values: &'static [&'static str],
}

const fn parameter(name: &'static str, values: &'static [&'static str]) -> Parameter {
    Parameter { name, since: (8, 0), values }
}

const FLAG: &[&str] = &["true", "false", ""];
const SWITCH: &[&str] = &["true", "false"];

/// See the head of this file. Those that lack the meaning of the request stand at the end.
pub(super) const PARAMETERS: &[Parameter] = &[
    parameter(
        "filter_path",
        &[
            "hits.hits._id",
            "hits.hits._id,hits.hits._score",
            "hits.total",
            "-_shards",
            "**.value",
            "hits.hits._source.n,took",
            "-hits.hits._source",
            "aggregations",
            "nope",
            "hits.*",
            "*.hits.*",
            "-hits.hits",
        ],
    ),
    parameter("typed_keys", FLAG),
    parameter("rest_total_hits_as_int", FLAG),
    parameter("pretty", FLAG),
    parameter("human", FLAG),
    parameter("format", &["yaml", "json", "cbor", "smile", "nope"]),
    parameter("error_trace", FLAG),
    parameter("size", &["0", "1", "7", "30"]),
    parameter("from", &["0", "2", "9"]),
    parameter("track_total_hits", &["true", "false", "5"]),
    parameter("track_scores", SWITCH),
    parameter("_source", &["true", "false", "n,a", "t*"]),
    parameter("_source_includes", &["n", "n,t"]),
    parameter("_source_excludes", &["v,w", "t"]),
    parameter("docvalue_fields", &["n", "a,n"]),
    parameter("stored_fields", &["_none_", "_routing"]),
    parameter("version", SWITCH),
    parameter("seq_no_primary_term", SWITCH),
    parameter("explain", SWITCH),
    parameter("sort", &["n:asc", "_score", "n:desc,_score"]),
    parameter("q", &["t:red", "a:blue OR n:[0 TO 20]"]),
    parameter("preference", &["_local", "session-1", "_only_local", "_shards:0"]),
    parameter("routing", &["one", "d1,d2"]),
    parameter("request_cache", SWITCH),
    parameter("allow_partial_search_results", SWITCH),
    parameter("ignore_unavailable", SWITCH),
    parameter("allow_no_indices", SWITCH),
    parameter("expand_wildcards", &["open", "all", "none", "open,hidden", "nope", "OPEN"]),
    parameter("batched_reduce_size", &["2", "512"]),
    parameter("max_concurrent_shard_requests", &["1", "5"]),
    parameter("pre_filter_shard_size", &["1", "128"]),
    parameter("ccs_minimize_roundtrips", SWITCH),
    parameter("timeout", &["10s"]),
    parameter("terminate_after", &["100000"]),
    parameter("search_type", &["query_then_fetch", "dfs_query_then_fetch"]),
    Parameter { name: "include_named_queries_score", since: (8, 8), values: SWITCH },
    parameter("stats", &["group"]),
    Parameter { name: "_source_exclude_vectors", since: (9, 2), values: SWITCH },
    parameter("nope", &["1"]),
];
