//! Attempts by what stands in the body: lookups, lines, definitions, and bodies that hide what they say.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::attempt::{Attempt, attempt};

/// Queries that fetch from another index, at endpoints that take queries.
pub(crate) fn by_lookup() -> Vec<Attempt> {
    let lookup = json!({"terms": {"t": {"index": "secret", "id": "1", "path": "t"}}});
    let aliased = json!({"terms": {"t": {"index": "acme-out", "id": "1", "path": "t"}}});
    let shape = json!({"geo_shape": {"g": {"indexed_shape": {"index": "secret", "id": "1", "path": "g"}}}});
    let queries = [
        lookup.clone(),
        aliased,
        shape,
        json!({"geo_shape": {"g": {"indexed_shape": {"id": "1", "path": "g"}}}}),
        json!({"bool": {"must_not": [{"bool": {"filter": lookup}}]}}),
        json!({"constant_score": {"filter": lookup}}),
        json!({"terms": {"term": {"index": "secret", "id": "1", "path": "t"}}}),
        json!({"terms": {"index": {"index": "secret", "id": "1", "path": "t"}}}),
        json!({"terms": {"t": {"index": ["secret"], "id": "1", "path": "t"}}}),
        json!({"more_like_this": {"fields": ["t"], "like": [{"_index": "secret", "_id": "1"}], "min_term_freq": 1, "min_doc_freq": 1}}),
        json!({"more_like_this": {"fields": ["t"], "like": "x", "unlike": {"_index": "secret", "_id": "1"}}}),
        json!({"percolate": {"field": "q", "index": "secret", "id": "1"}}),
        json!({"pinned": {"docs": [{"_index": "secret", "_id": "1"}], "organic": {"match_all": {}}}}),
        json!({"wrapper": {"query": "eyJ0ZXJtcyI6eyJ0Ijp7ImluZGV4Ijoic2VjcmV0IiwiaWQiOiIxIiwicGF0aCI6InQifX19"}}),
        json!({"function_score": {"functions": [{"filter": lookup, "weight": 2}]}}),
        json!({"nested": {"path": "n", "query": lookup}}),
        json!({"term": {"_index": "secret"}}),
    ];
    let mut all = Vec::new();
    for query in &queries {
        let body = json!({"query": query});
        for endpoint in
            ["_search", "_count", "_validate/query", "_explain/1", "_delete_by_query", "_update_by_query"]
        {
            all.push(attempt("POST", format!("/acme-1/{endpoint}"), body.to_string()));
        }
        all.push(attempt("POST", "/acme-1/_msearch", format!("{{}}\n{body}\n")));
    }
    let lookup = &queries[0];
    for body in [
        json!({"aggs": {"a": {"filter": lookup}}}),
        json!({"aggs": {"a": {"filters": {"filters": {"x": lookup}}}}}),
        json!({"post_filter": lookup}),
        json!({"rescore": {"query": {"rescore_query": lookup}}}),
        json!({"knn": {"field": "v", "query_vector": [1], "k": 1, "num_candidates": 1, "filter": lookup}}),
        json!({"sort": [{"n.t": {"nested": {"path": "n", "filter": lookup}}}]}),
        json!({"highlight": {"fields": {"t": {"highlight_query": lookup}}}}),
        json!({"retriever": {"standard": {"query": lookup}}}),
        json!({"indices_boost": [{"secret": 2.0}]}),
        json!({"indices_boost": {"secret": 2.0}}),
        json!({"runtime_mappings": {"r": {"type": "lookup", "target_index": "secret", "input_field": "t", "target_field": "t", "fetch_fields": ["t"]}}, "fields": ["r"]}),
        json!({"pit": {"id": "AAAA"}}),
    ] {
        all.push(attempt("POST", "/acme-1/_search", body.to_string()));
    }
    for body in [
        json!({"docs": [{"_index": "secret", "_id": "1"}]}),
        json!({"docs": [{"_id": "1"}, {"_index": "acme-out", "_id": "1"}]}),
        json!({"docs": [{"_index": ["secret"], "_id": "1"}]}),
    ] {
        for target in ["/_mget", "/acme-1/_mget", "/_mtermvectors", "/acme-1/_mtermvectors"] {
            all.push(attempt("POST", target, body.to_string()));
        }
    }
    all.push(attempt("POST", "/acme-1/_termvectors/1", json!({"_index": "secret"}).to_string()));
    all.push(attempt("POST", "/acme-1/_field_caps?fields=*", json!({"index_filter": lookup}).to_string()));
    all.push(attempt(
        "POST",
        "/acme-1/_terms_enum",
        json!({"field": "t", "index_filter": lookup}).to_string(),
    ));
    all.push(attempt("POST", "/acme-1/_pit?keep_alive=1m", json!({"index_filter": lookup}).to_string()));
    for text in [
        r#"{"query":{"terms":{"t":{"ind\u0065x":"secret","id":"1","path":"t"}}}}"#,
        r#"{"query":{"terms":{"t":{"index":"acme-1","index":"secret","id":"1","path":"t"}}}}"#,
        r#"{"query":{"match_all":{}}}{"query":{"match_all":{}}}"#,
        r#"{"query":{"match_all":{}}/* */}"#,
        r#"{"query":{"match_all":{}}"#,
        r#"{query:{match_all:{}}}"#,
    ] {
        all.push(attempt("POST", "/acme-1/_search", text));
    }
    all
}

pub(crate) fn by_lines() -> Vec<Attempt> {
    let mut all = Vec::new();
    for lines in [
        "{\"index\":{\"_index\":\"secret\",\"_id\":\"9\"}}\n{}\n",
        "{\"create\":{\"_index\":\"secret\",\"_id\":\"9\"}}\n{}\n",
        "{\"delete\":{\"_index\":\"secret\",\"_id\":\"1\"}}\n",
        "{\"update\":{\"_index\":\"secret\",\"_id\":\"1\"}}\n{\"doc\":{}}\n",
        "{\"index\":{\"_index\":\"acme-1\",\"_id\":\"9\"}}\n{}\n{\"delete\":{\"_index\":\"secret\",\"_id\":\"1\"}}\n",
        "{\"delete\":{\"_index\":\"acme-1\",\"_id\":\"9\"}}\n{\"delete\":{\"_index\":\"secret\",\"_id\":\"1\"}}\n",
        "{\"delete\":{\"_index\":\"acme-1\",\"_index\":\"secret\",\"_id\":\"1\"}}\n",
        "{\"delete\":{\"_ind\\u0065x\":\"secret\",\"_id\":\"1\"}}\n",
        "{\"delete\":{\"_index\":\"acme-out\",\"_id\":\"1\"}}\n",
        "\n{\"delete\":{\"_index\":\"secret\",\"_id\":\"1\"}}\n",
        "{\"index\":{\"_index\":\"acme-1\",\"pipeline\":\"others\"}}\n{}\n",
        "{\"delete\":{\"_index\":\"acme-1\",\"_id\":\"9\"}} {\"delete\":{\"_index\":\"secret\",\"_id\":\"1\"}}\n",
        "{\"delete\":{\"_index\":\"secret\",\"_id\":\"1\"}}",
        "{\"delete\":{\"_index\":\"<secret-{now/d}>\",\"_id\":\"1\"}}\n",
        "{\"index\":{\"_index\":\"acme-1\"}}\n\n{\"delete\":{\"_index\":\"secret\",\"_id\":\"1\"}}\n",
    ] {
        all.push(attempt("POST", "/_bulk", lines));
        all.push(attempt("PUT", "/acme-1/_bulk", lines));
    }
    for lines in [
        "{\"index\":\"secret\"}\n{}\n",
        "{\"index\":[\"acme-1\",\"secret\"]}\n{}\n",
        "{\"indices\":\"*\"}\n{}\n",
        "{\"index\":\"acme-1\"}\n{}\n{\"index\":\"secret\"}\n{}\n",
        "{\"index\":[]}\n{}\n",
        "{\"index\":\"\"}\n{}\n",
        "{\"index\":\"acme-1\",\"index\":\"secret\"}\n{}\n",
        "{\"ind\\u0065x\":\"secret\"}\n{}\n",
        "\n{\"index\":\"secret\"}\n{}\n",
        "{\"index\":\"acme-out\"}\n{}\n",
        "{\"unheard\":\"of\"}\n{}\n",
    ] {
        all.push(attempt("POST", "/_msearch", lines));
        all.push(attempt("GET", "/acme-1/_msearch", lines));
    }
    all.push(attempt("POST", "/_msearch", "{}\n{}\n"));
    all.push(attempt("POST", "/_msearch", "\n{}\n"));
    all
}

pub(crate) fn by_definition() -> Vec<Attempt> {
    let mut all = Vec::new();
    for action in [
        json!({"add": {"index": "secret", "alias": "acme-x"}}),
        json!({"add": {"indices": ["acme-1", "secret"], "alias": "acme-x"}}),
        json!({"add": {"index": "*", "alias": "acme-x"}}),
        json!({"add": {"index": "acme-1", "alias": "theirs"}}),
        json!({"remove": {"index": "secret", "alias": "*"}}),
        json!({"remove_index": {"index": "secret"}}),
        json!({"add": {"index": "acme-1", "alias": "acme-x", "filter": {"terms": {"t": {"index": "secret", "id": "1", "path": "t"}}}}}),
    ] {
        all.push(attempt(
            "POST",
            "/_aliases",
            json!({"actions": [{"add": {"index": "acme-1", "alias": "acme-y"}}, action]}).to_string(),
        ));
    }
    for body in [
        json!({"index": "secret"}),
        json!({"alias": "theirs"}),
        json!({"filter": {"terms": {"t": {"index": "secret", "id": "1", "path": "t"}}}}),
    ] {
        all.push(attempt("PUT", "/acme-1/_alias/acme-x", body.to_string()));
    }
    for body in [
        json!({"aliases": {"theirs": {}}}),
        json!({"settings": {"index": {"default_pipeline": "others"}}}),
        json!({"settings": {"final_pipeline": "others"}}),
        json!({"settings": {"index.lifecycle.name": "others"}}),
        json!({"mappings": {"runtime": {"r": {"type": "lookup", "target_index": "secret", "input_field": "t", "target_field": "t", "fetch_fields": ["t"]}}}}),
        json!({"mappings": {"properties": {"q": {"type": "percolator"}}}}),
    ] {
        all.push(attempt("PUT", "/acme-new", body.to_string()));
        all.push(attempt(
            "PUT",
            "/_index_template/acme-t",
            json!({"index_patterns": ["acme-t*"], "template": body}).to_string(),
        ));
        all.push(attempt("PUT", "/_component_template/acme-t", json!({"template": body}).to_string()));
        all.push(attempt("POST", "/acme-in/_rollover/acme-000002", body.to_string()));
    }
    for body in [
        json!({"index_patterns": ["*"]}),
        json!({"index_patterns": ["acme-t*", "secret*"]}),
        json!({"index_patterns": "acme*"}),
        json!({"index_patterns": ["acme-t*"], "composed_of": ["others"]}),
    ] {
        all.push(attempt("PUT", "/_index_template/acme-t", body.to_string()));
        all.push(attempt("PUT", "/_template/acme-t", body.to_string()));
    }
    for (source, dest) in
        [("secret", "acme-x"), ("acme-1", "secret-2"), ("*", "acme-x"), ("acme-1,secret", "acme-x")]
    {
        all.push(attempt(
            "POST",
            "/_reindex",
            json!({"source": {"index": source}, "dest": {"index": dest}}).to_string(),
        ));
        for endpoint in ["_clone", "_shrink", "_split"] {
            all.push(attempt("POST", format!("/{source}/{endpoint}/{dest}"), "{}"));
        }
        all.push(attempt("POST", format!("/_create_from/{source}/{dest}"), "{}"));
    }
    all.push(attempt("POST", "/_reindex", json!({"source": {"index": "acme-1"}, "dest": {"index": "acme-2"}, "script": {"source": "ctx._index='secret'"}}).to_string()));
    all.push(attempt("POST", "/_reindex", json!({"source": {"index": "acme-1", "remote": {"host": "http://127.0.0.1:9200"}}, "dest": {"index": "acme-2"}}).to_string()));
    all.push(attempt(
        "PUT",
        "/acme-1/_settings",
        json!({"index": {"default_pipeline": "others"}}).to_string(),
    ));
    all.push(attempt(
        "PUT",
        "/acme-1/_mapping",
        json!({"runtime": {"r": {"type": "lookup", "target_index": "secret"}}}).to_string(),
    ));
    all.push(attempt("PUT", "/acme-1/_doc/9?pipeline=others", "{}"));
    all
}

/// Lookups that hide in the encoding of the body.
pub(crate) fn by_encoding() -> Vec<Attempt> {
    let lookup = r#"{"query":{"terms":{"t":{"index":"secret","id":"1","path":"t"}}}}"#;
    let search = |body: Vec<u8>| attempt("POST", "/acme-1/_search", body);
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(lookup.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_be_bytes).collect() };
    vec![
        search(packed.clone()).with("content-encoding", "gzip"),
        search(packed.clone()).with("content-encoding", "GZIP"),
        search(packed).with("content-encoding", "gzip, gzip"),
        search(lookup.into()).with("content-encoding", "br"),
        search(lookup.into()).with("content-encoding", "gzip"),
        search(wide(lookup)),
        search([b"\xef\xbb\xbf", lookup.as_bytes()].concat()),
        search(b"query: {terms: {t: {index: secret, id: '1', path: t}}}".to_vec())
            .with("content-type", "application/yaml"),
        search(b"---\nquery: {match_all: {}}".to_vec()),
        search(lookup.into()).with("content-type", "application/yaml"),
        search(lookup.into()).with("content-type", "application/cbor"),
        search(lookup.into()).with("content-type", "application/smile"),
        search(lookup.into()).with("content-type", "text/plain"),
        search(lookup.into()).with("x-outrigger-mode", "pass"),
        search(lookup.into()).with("x-http-method-override", "GET"),
    ]
}
