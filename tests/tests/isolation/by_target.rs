//! Attempts by what stands in the request line: names, endpoints, ids of contexts.

use outrigger_tests::Api;
use serde_json::json;

use crate::attempt::{Attempt, attempt, encoded};

/// Names outside in all spellings, at endpoints that read and write.
pub(crate) fn by_name() -> Vec<Attempt> {
    let names = [
        "secret",
        "%73ecret",
        "_all",
        "%5Fall",
        "*",
        "%2A",
        "sec*",
        "*cret",
        "s*t",
        "a*",
        "acme*",
        "*-1",
        "acme-1,secret",
        "acme-1%2Csecret",
        "acme-1,%2A",
        "acme-n*,secret",
        "acme-n*,-secret",
        "-acme-1",
        "-secret,*",
        "*,-acme-1",
        "acme-out",
        "acme-o*",
        "acme-*",
        "c:acme-1",
        "*:acme-1",
        "acme-1,c:secret",
        "%3Csecret%3E",
        "%3Csecret-%7Bnow%2Fd%7D%3E",
        "%3C%7Bnow%7B%27secret%27%7D%7D%3E",
        "%3Ca%7Bnow%7D%3E",
        "acme-1%2F..%2Fsecret",
        "acme-1%252Csecret,secret",
        "acme-1;,secret",
        "%20secret",
        "acme-1,,secret",
        "+secret",
        ".ds-secret",
        "secret::data",
        "acme-1::failures",
    ];
    let mut all = Vec::new();
    for name in names {
        all.push(attempt("POST", format!("/{name}/_search"), r#"{"size":100}"#));
        all.push(attempt("GET", format!("/{name}/_doc/1"), ""));
        all.push(attempt("DELETE", format!("/{name}"), ""));
        all.push(attempt("GET", format!("/{name}/_mapping"), ""));
        all.push(attempt("PUT", format!("/{name}/_doc/9"), r#"{"t":"mine"}"#));
        all.push(attempt("GET", format!("/_cat/indices/{name}?format=json"), ""));
        all.push(attempt("GET", format!("/_resolve/index/{name}"), ""));
        all.push(attempt("POST", format!("/{name}/_delete_by_query"), r#"{"query":{"match_all":{}}}"#));
    }
    for target in [
        "//secret/_search",
        "/acme-1//_search",
        "/./secret/_search",
        "/acme-1/../secret/_search",
        "/acme-1/%2e%2e/secret/_search",
        "/acme-1/%2E%2E/_search",
        "/acme-1/_search%2F",
        "/acme-1/%5Fsearch",
        "/%2Fsecret/_search",
        "/secret%2F_search",
        "/acme-1/_search/../../secret/_search",
        "/acme-1%00/_search",
        "/acme-1/_search%3Findex=secret",
    ] {
        all.push(attempt("POST", target, "{}"));
    }
    for query in [
        "index=secret",
        "%69ndex=secret",
        "pretty&index=secret",
        "pretty;index=*",
        "source=%7B%7D&source_content_type=application%2Fjson",
        "name=secret",
        "target=secret",
    ] {
        all.push(attempt("GET", format!("/acme-1/_search?{query}"), ""));
        all.push(attempt("GET", format!("/_search?{query}"), ""));
        all.push(attempt("POST", format!("/_bulk?{query}"), "{\"index\":{\"_id\":\"9\"}}\n{}\n"));
        all.push(attempt("GET", format!("/_mget?{query}"), r#"{"ids":["1"]}"#));
        all.push(attempt("GET", format!("/_msearch?{query}"), "{}\n{}\n"));
    }
    all
}

/// Endpoints that list, store or act beyond a tenant's indices.
pub(crate) fn by_endpoint() -> Vec<Attempt> {
    let get = [
        "/_cat/indices",
        "/_cat/aliases",
        "/_cat/shards",
        "/_cat/nodes",
        "/_cat/segments",
        "/_cat/count",
        "/_cat/recovery",
        "/_cat/templates",
        "/_cat/tasks",
        "/_cat/fielddata",
        "/_cat/allocation",
        "/_search",
        "/_count",
        "/_mapping",
        "/_settings",
        "/_alias",
        "/_aliases",
        "/_stats",
        "/_segments",
        "/_recovery",
        "/_field_caps?fields=*",
        "/_cluster/state",
        "/_cluster/health",
        "/_cluster/stats",
        "/_cluster/settings",
        "/_cluster/pending_tasks",
        "/_nodes",
        "/_nodes/stats",
        "/_nodes/hot_threads",
        "/_tasks",
        "/_index_template",
        "/_component_template",
        "/_template",
        "/_ingest/pipeline",
        "/_snapshot",
        "/_data_stream",
        "/_resolve/cluster/*",
        "/_index_template/others",
        "/_search_shards",
        "/_validate/query",
        "/_ivf",
        "/_ivf/secret/_stats",
        "/_ivf/*",
        "/_ivf/_tenants/other",
        "/_scripts/x",
        "/_remote/info",
        "/_dangling",
        "/acme-1/_search_shards",
        "/acme-1/_shard_stores",
        "/_cluster/state/metadata/acme-1",
        "/_xpack",
        "/_rank_eval",
        "/_flush",
        "/_refresh",
        "/_unheard_of",
        "/acme-1/_unheard_of",
        "/_mtermvectors?ids=1&index=x",
    ];
    let mut all: Vec<Attempt> = get.into_iter().map(|target| attempt("GET", target, "")).collect();
    for (method, target, body) in [
        ("POST", "/_query", r#"{"query":"FROM secret"}"#),
        ("POST", "/_sql", r#"{"query":"SELECT * FROM secret"}"#),
        ("POST", "/secret/_eql/search", r#"{"query":"any where true"}"#),
        ("POST", "/_search/template", r#"{"source":"{}"}"#),
        (
            "POST",
            "/acme-1/_search/template",
            r#"{"source":"{\"query\":{\"terms\":{\"t\":{\"index\":\"{{i}}\",\"id\":\"1\",\"path\":\"t\"}}}}","params":{"i":"secret"}}"#,
        ),
        ("POST", "/acme-1/_msearch/template", "{}\n{\"source\":\"{}\"}\n"),
        ("PUT", "/_scripts/s", r#"{"script":{"lang":"mustache","source":"{}"}}"#),
        ("PUT", "/_ingest/pipeline/p", r#"{"processors":[]}"#),
        ("PUT", "/_snapshot/r", r#"{"type":"fs"}"#),
        ("PUT", "/_cluster/settings", "{}"),
        ("POST", "/_cluster/reroute", "{}"),
        ("POST", "/_data_stream/_modify", r#"{"actions":[]}"#),
        ("POST", "/_security/api_key", r#"{"name":"k"}"#),
        ("POST", "/_tasks/_cancel", ""),
        ("POST", "/_refresh", ""),
        ("POST", "/_forcemerge", ""),
        ("POST", "/_cache/clear", ""),
        ("DELETE", "/_index_template/others", ""),
        ("PUT", "/_index_template/others", r#"{"index_patterns":["acme-t*"]}"#),
        ("PUT", "/_ivf/_tenants/acme", "{}"),
        ("PUT", "/_ivf/secret/v", ""),
        ("POST", "/_index_template/_simulate_index/acme-1", ""),
        ("POST", "/acme-1/_rank_eval", r#"{"requests":[]}"#),
        ("HEAD", "/secret", ""),
        ("HEAD", "/_alias/acme-out", ""),
        ("PATCH", "/acme-1", ""),
    ] {
        all.push(attempt(method, target, body));
    }
    all
}

/// Scrolls and points in time of somebody else.
pub(crate) async fn by_context(direct: &Api) -> Vec<Attempt> {
    let scroll = direct.post("/secret/_search?scroll=5m", json!({"size": 1})).await.ok();
    let scroll = scroll["_scroll_id"].as_str().unwrap().to_owned();
    let inside = direct.post("/acme-1/_search?scroll=5m", json!({"size": 1})).await.ok();
    let inside = inside["_scroll_id"].as_str().unwrap().to_owned();
    let pit = direct.call("POST", "/secret/_pit?keep_alive=5m", None).await.ok();
    let pit = pit["id"].as_str().unwrap().to_owned();
    let mut all = Vec::new();
    for id in [&scroll, &inside] {
        all.push(attempt("POST", "/_search/scroll", json!({"scroll_id": id, "scroll": "1m"}).to_string()));
        all.push(attempt("GET", format!("/_search/scroll?scroll_id={}", encoded(id)), ""));
        all.push(attempt("GET", format!("/_search/scroll/{}", encoded(id)), ""));
        all.push(attempt("DELETE", "/_search/scroll", json!({"scroll_id": [id]}).to_string()));
        all.push(attempt("DELETE", format!("/_search/scroll/{}", encoded(id)), ""));
    }
    all.push(attempt("DELETE", "/_search/scroll/_all", ""));
    all.push(attempt("DELETE", "/_search/scroll", json!({"scroll_id": "_all"}).to_string()));
    all.push(attempt("POST", "/_search", json!({"pit": {"id": pit}}).to_string()));
    all.push(attempt("POST", "/acme-1/_search", json!({"pit": {"id": pit}}).to_string()));
    all.push(attempt("POST", "/_msearch", format!("{{}}\n{}\n", json!({"pit": {"id": pit}}))));
    all.push(attempt("DELETE", "/_pit", json!({"id": pit}).to_string()));
    all.push(attempt("GET", "/_async_search/FjFoeU8xMjM0", ""));
    all
}
