//! A tenant bound to `acme-*` against a real Elasticsearch: hundreds of attempts to see or change what lies
//! outside, and what it is allowed to do, which must be answered as by Elasticsearch alone. And the audit log,
//! which has a line for each.

#![allow(missing_docs, reason = "a test")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use outrigger_tests::{Api, Elasticsearch, Outrigger, eventually};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::{Value, json};

/// Stands in documents outside, and nowhere else.
const MARKER: &str = "marker-5c1d";
/// An index outside that no attempt names: where it shows, something was listed.
const UNNAMED: &str = "zz-unnamed";
/// Sent with every request; must never be logged.
const CREDENTIALS: &str = "Basic YWNtZTpodW50ZXIy";

const CONFIG: &str = r#"
tenant_header_from = "127.0.0.1"
[tenants.acme]
headers = ["acme"]
bound_to = ["acme-*"]
[tenants.other]
bound_to = ["nothing"]
"#;

#[derive(Clone)]
struct Attempt {
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    content_type: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

fn attempt(method: &'static str, target: impl Into<String>, body: impl Into<Vec<u8>>) -> Attempt {
    let (target, body) = (target.into(), body.into());
    let lines = target.contains("_bulk") || target.contains("_msearch");
    let kind = if lines { "application/x-ndjson" } else { "application/json" };
    let headers = if body.is_empty() { vec![] } else { vec![("content-type", kind.to_owned())] };
    Attempt { method, target, headers, body }
}

impl Attempt {
    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Sends the bytes as they are: no client in between that would tidy up the path.
    async fn send(&self, base: &str, tenant: Option<&str>, id: &str) -> Answer {
        let mut head =
            format!("{} {} HTTP/1.1\r\nhost: es\r\nconnection: close\r\n", self.method, self.target);
        head.push_str(&format!("x-opaque-id: {id}\r\nauthorization: {CREDENTIALS}\r\n"));
        if let Some(tenant) = tenant {
            head.push_str(&format!("x-tenant-id: {tenant}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        let (mut bytes, address) = (head.into_bytes(), base.trim_start_matches("http://").to_owned());
        bytes.extend_from_slice(&self.body);
        tokio::task::spawn_blocking(move || exchange(&address, &bytes)).await.expect("an exchange")
    }
}

fn exchange(address: &str, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    // A refusal may come before everything was sent.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let header = |wanted: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.trim().to_owned())
            .next()
            .unwrap_or_default()
    };
    let body = bytes.get(end + 4..).unwrap_or_default();
    let body = if header("transfer-encoding") == "chunked" { unchunked(body) } else { body.to_vec() };
    Answer { status, content_type: header("content-type"), body }
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|window| window == b"\r\n") {
        let length =
            std::str::from_utf8(&body[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(length) = length.filter(|length| *length > 0 && body.len() >= end + 4 + length) else {
            break;
        };
        whole.extend_from_slice(&body[end + 2..end + 2 + length]);
        body = &body[end + 4 + length..];
    }
    whole
}

#[tokio::test]
async fn a_bound_tenant_stays_inside() {
    let elasticsearch = Elasticsearch::start("isolation").await;
    let folder = tempfile::tempdir().unwrap();
    let (config, audit) = (folder.path().join("outrigger.toml"), folder.path().join("audit.json"));
    std::fs::write(&config, CONFIG).unwrap();
    let direct = elasticsearch.api();
    fill(&direct).await;
    let flags = [
        "--config",
        config.to_str().unwrap(),
        "--audit-log",
        audit.to_str().unwrap(),
        "--audit-events",
        "refused,answered,passed,failed,changed",
    ];
    let outrigger = Outrigger::start_with(elasticsearch.url(), &folder.path().join("data"), &flags).await;

    let mut sent = nothing_gets_out(&elasticsearch, &outrigger).await;
    direct
        .post("/_aliases", json!({"actions": [{"remove": {"index": "*", "alias": "acme-out"}}]}))
        .await
        .ok();
    sent += contexts_go_on(&elasticsearch, &outrigger).await;
    sent += what_is_inside_is_answered_alike(&elasticsearch, &outrigger).await;
    random_expressions(&outrigger).await;
    the_log_is_opened_again(&outrigger, &audit).await;
    outrigger.terminate();
    every_decision_has_its_line(&audit, sent);
}

/// Two indices inside, two outside, and an alias that leads out.
async fn fill(direct: &Api) {
    let mapping = json!({"settings": {"number_of_shards": 1, "number_of_replicas": 0},
        "mappings": {"properties": {"t": {"type": "keyword"}}}});
    for index in ["acme-1", "acme-2", "secret", UNNAMED] {
        direct.put(&format!("/{index}"), mapping.clone()).await.ok();
    }
    for index in ["acme-1", "acme-2"] {
        direct.put(&format!("/{index}/_doc/1?refresh=true"), json!({"t": "red"})).await.ok();
        direct.put(&format!("/{index}/_doc/2?refresh=true"), json!({"t": "blue"})).await.ok();
    }
    for index in ["secret", UNNAMED] {
        let document = json!({"t": ["red", MARKER]});
        direct.put(&format!("/{index}/_doc/1?refresh=true"), document).await.ok();
    }
    let actions = json!({"actions": [
        {"add": {"indices": ["acme-1", "acme-2"], "alias": "acme-in"}},
        {"add": {"indices": ["acme-1", "secret"], "alias": "acme-out"}},
    ]});
    direct.post("/_aliases", actions).await.ok();
    direct.put("/_index_template/others", json!({"index_patterns": ["zz-*"], "priority": 1})).await.ok();
}

/// Everything outside, as Elasticsearch shows it.
async fn outside(direct: &Api) -> Vec<Value> {
    direct.call("POST", "/_refresh", None).await.ok();
    let search = "/secret,zz-unnamed/_search?seq_no_primary_term=true&sort=_index&filter_path=hits.hits";
    let mut seen = vec![direct.get(search).await.ok(), direct.get("/secret,zz-unnamed").await.ok()];
    for path in [
        "/_index_template",
        "/_component_template",
        "/_template",
        "/_ingest/pipeline",
        "/_snapshot",
        "/_cluster/settings",
    ] {
        seen.push(direct.get(path).await.body);
    }
    let indices =
        direct.get("/_cat/indices?format=json&h=index,status&expand_wildcards=all&s=index").await.body;
    let is_outside = |row: &&Value| !row["index"].as_str().unwrap_or_default().starts_with("acme-");
    seen.push(indices.as_array().unwrap().iter().filter(is_outside).cloned().collect());
    let aliases = direct.get("/_cat/aliases?format=json&h=alias,index&s=alias,index").await.body;
    let leads_out = |row: &&Value| {
        let starts = |key: &str| row[key].as_str().unwrap_or_default().starts_with("acme-");
        !starts("index") || !starts("alias")
    };
    seen.push(aliases.as_array().unwrap().iter().filter(leads_out).cloned().collect());
    seen
}

async fn nothing_gets_out(elasticsearch: &Elasticsearch, outrigger: &Outrigger) -> usize {
    let direct = elasticsearch.api();
    let before = outside(&direct).await;
    let mut attempts = by_name();
    attempts.extend(by_lookup());
    attempts.extend(by_lines());
    attempts.extend(by_definition());
    attempts.extend(by_endpoint());
    attempts.extend(by_encoding());
    attempts.extend(by_context(&direct).await);
    assert!(attempts.len() >= 400, "{}", attempts.len());
    for (number, attempt) in attempts.iter().enumerate() {
        let answer = attempt.send(outrigger.url(), Some("acme"), &format!("sent-{number}")).await;
        let what =
            format!("{} {} {}", attempt.method, attempt.target, String::from_utf8_lossy(&attempt.body));
        assert_eq!(answer.status, 403, "{what}: {}", answer.text());
        let error = &answer.json()["error"];
        if attempt.method != "HEAD" {
            assert_eq!(error["type"], "security_exception", "{what}");
            assert!(
                error["reason"].as_str().unwrap().starts_with("tenant [acme] is bound to [acme-*]: "),
                "{what}"
            );
        }
        assert!(
            !answer.text().contains(MARKER) && !answer.text().contains(UNNAMED),
            "{what}: {}",
            answer.text()
        );
    }
    assert_eq!(outside(&direct).await, before);
    eprintln!("{} attempts", attempts.len());
    attempts.len()
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Names outside in all spellings, at endpoints that read and write.
fn by_name() -> Vec<Attempt> {
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

/// Queries that fetch from another index, at endpoints that take queries.
fn by_lookup() -> Vec<Attempt> {
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

fn by_lines() -> Vec<Attempt> {
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

fn by_definition() -> Vec<Attempt> {
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

/// Endpoints that list, store or act beyond a tenant's indices.
fn by_endpoint() -> Vec<Attempt> {
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

/// Lookups that hide in the encoding of the body.
fn by_encoding() -> Vec<Attempt> {
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

/// Scrolls and points in time of somebody else.
async fn by_context(direct: &Api) -> Vec<Attempt> {
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

/// What a tenant was handed out it may go on with, and nobody else may.
async fn contexts_go_on(elasticsearch: &Elasticsearch, outrigger: &Outrigger) -> usize {
    // The alias that led out is gone for the sidecar, too.
    let probe = attempt("POST", "/acme-*/_search", "{}");
    eventually("names are known again", Duration::from_secs(20), || async {
        (probe.send(outrigger.url(), Some("acme"), "probe").await.status == 200).then_some(())
    })
    .await;
    let send = async |attempt: Attempt, tenant: &'static str| {
        attempt.send(outrigger.url(), Some(tenant), "context").await
    };
    let opened = send(
        attempt("POST", "/acme-*/_search?scroll=1m&pretty", r#"{"size":1,"sort":["_index","_doc"]}"#)
            .with("accept-encoding", "gzip"),
        "acme",
    )
    .await;
    assert_eq!(opened.status, 200, "{}", opened.text());
    let mut id = opened.json()["_scroll_id"].as_str().unwrap().to_owned();
    let mut seen = 1;
    loop {
        let next = attempt("POST", "/_search/scroll", json!({"scroll_id": id, "scroll": "1m"}).to_string());
        assert_eq!(send(next.clone(), "unheard-of").await.status, 403, "another tenant");
        let page = send(next, "acme").await;
        assert_eq!(page.status, 200, "{}", page.text());
        id = page.json()["_scroll_id"].as_str().unwrap().to_owned();
        match page.json()["hits"]["hits"].as_array().unwrap().len() {
            0 => break,
            hits => seen += hits,
        }
    }
    assert_eq!(seen, 4);
    let cleared =
        send(attempt("DELETE", "/_search/scroll", json!({"scroll_id": [id]}).to_string()), "acme").await;
    assert_eq!(cleared.json()["num_freed"], 2, "{}", cleared.text());

    let pit = send(attempt("POST", "/acme-1/_pit?keep_alive=1m", ""), "acme").await;
    let pit = pit.json()["id"].as_str().unwrap().to_owned();
    let search = attempt("POST", "/_search", json!({"pit": {"id": pit, "keep_alive": "1m"}}).to_string());
    assert_eq!(send(search.clone(), "unheard-of").await.status, 403);
    let found = send(search, "acme").await;
    assert_eq!(found.json()["hits"]["hits"].as_array().map(Vec::len), Some(2), "{}", found.text());
    let lines = format!("{{}}\n{}\n", json!({"pit": {"id": pit}}));
    assert_eq!(send(attempt("POST", "/_msearch", lines), "acme").await.status, 200);
    let closed = send(attempt("DELETE", "/_pit", json!({"id": pit}).to_string()), "acme").await;
    assert_eq!(closed.json()["num_freed"], 1, "{}", closed.text());

    // Nobody is bound whose request names no tenant.
    let free = attempt("GET", "/_cat/indices?h=index", "").send(outrigger.url(), None, "context").await;
    assert!(free.text().contains(UNNAMED), "{}", free.text());
    let direct = attempt("GET", "/secret/_doc/1", "");
    assert_eq!(
        direct.send(outrigger.url(), None, "context").await.body,
        direct.send(elasticsearch.url(), None, "context").await.body
    );
    0
}

/// What is allowed is answered byte for byte as by Elasticsearch alone.
async fn what_is_inside_is_answered_alike(elasticsearch: &Elasticsearch, outrigger: &Outrigger) -> usize {
    let lookup = r#"{"query":{"terms":{"t":{"index":"acme-2","id":"1","path":"t"}}}}"#;
    let requests = [
        attempt("GET", "/", ""),
        attempt("HEAD", "/", ""),
        attempt("HEAD", "/acme-1", ""),
        attempt("GET", "/acme-1", ""),
        attempt("GET", "/acme-1/_mapping", ""),
        attempt("GET", "/acme-*/_settings/index.number_of_shards", ""),
        attempt("GET", "/acme-1/_doc/1", ""),
        attempt("GET", "/acme-1/_doc/unheard%2Fof", ""),
        attempt("GET", "/acme-1/_source/1?pretty", ""),
        attempt("GET", "/acme-unheard/_doc/1", ""),
        attempt("POST", "/acme-1/_search", r#"{"query":{"term":{"t":"red"}}}"#),
        attempt("POST", "/acme-1,acme-2/_search?pretty", "{}"),
        attempt("POST", "/acme-1%2Cacme-2/_search", "{}"),
        attempt("POST", "/acme-*,-acme-2/_search", "{}"),
        attempt("POST", "/acme-in/_search", r#"{"size":0,"aggs":{"t":{"terms":{"field":"t"}}}}"#),
        attempt("POST", "/acme-1/_search", lookup),
        attempt("POST", "/acme-1/_search", r#"{"query":{"term":{"index":"red"}}}"#),
        attempt("POST", "/acme-1/_search?format=yaml", "{}"),
        attempt("POST", "/acme-1/_search", r#"{"query":{"unheard_of":{}}}"#),
        attempt("GET", "/acme-1/_search?q=t:red&filter_path=hits.total", ""),
        attempt("POST", "/acme-1/_count", lookup),
        attempt("POST", "/acme-1/_explain/1", lookup),
        attempt("POST", "/acme-1/_validate/query", r#"{"query":{"match_all":{}}}"#),
        attempt("GET", "/acme-1/_field_caps?fields=*", ""),
        attempt(
            "POST",
            "/_mget",
            r#"{"docs":[{"_index":"acme-1","_id":"1"},{"_index":"acme-2","_id":"2"}]}"#,
        ),
        attempt("POST", "/acme-1/_mget", r#"{"ids":["1","2"]}"#),
        attempt("POST", "/acme-1/_msearch", "{}\n{\"size\":0}\n{\"index\":\"acme-2\"}\n{}\n"),
        attempt("GET", "/_resolve/index/acme-*", ""),
        attempt("GET", "/_cat/indices/acme-*?h=index,docs.count&s=index", ""),
        attempt("GET", "/_cat/aliases/acme-in", ""),
        attempt("GET", "/_cat/count/acme-1?h=count", ""),
        attempt("GET", "/_alias/acme-in", ""),
        attempt("GET", "/acme-1/_alias", ""),
        attempt("GET", "/acme-1/_stats/docs", ""),
        attempt("GET", "/_cluster/health/acme-1?level=indices", ""),
        attempt("POST", "/acme-1/_analyze", r#"{"text":"a b"}"#),
        attempt("POST", "/acme-1/_refresh", ""),
        attempt("OPTIONS", "/acme-1/_search", ""),
    ];
    let first = 1_000_000;
    for (number, request) in requests.iter().enumerate() {
        let what = format!("{} {}", request.method, request.target);
        let ours = request.send(outrigger.url(), Some("acme"), &format!("sent-{}", first + number)).await;
        let theirs = request.send(elasticsearch.url(), None, "x").await;
        assert_eq!(ours.status, theirs.status, "{what}: {}", ours.text());
        assert_eq!(ours.content_type, theirs.content_type, "{what}");
        assert_eq!(untimed(&ours.text()), untimed(&theirs.text()), "{what}");
    }
    // Writes, through us alone.
    for (number, (write, status)) in [
        (attempt("PUT", "/acme-new", r#"{"settings":{"number_of_replicas":0},"aliases":{"acme-newer":{}}}"#), 200),
        (attempt("PUT", "/acme-new/_doc/1?refresh=true", r#"{"index":"secret"}"#), 201),
        (attempt("POST", "/_bulk?refresh=true", "{\"index\":{\"_index\":\"acme-new\",\"_id\":\"2\"}}\n{\"index\":\"secret\"}\n\n{\"delete\":{\"_index\":\"acme-newer\",\"_id\":\"1\"}}\n"), 200),
        (attempt("POST", "/_aliases", r#"{"actions":[{"add":{"index":"acme-new","alias":"acme-newest"}}]}"#), 200),
        (attempt("PUT", "/_index_template/acme-t", r#"{"index_patterns":["acme-t*"]}"#), 200),
        (attempt("DELETE", "/_index_template/acme-t", ""), 200),
        (attempt("PUT", "/%3Cacme-%7Bnow%2Fd%7D%3E", ""), 200),
        (attempt("DELETE", "/acme-new", ""), 200),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("sent-{}", first + requests.len() + number);
        let answer = write.send(outrigger.url(), Some("acme"), &id).await;
        assert_eq!(answer.status, status, "{} {}: {}", write.method, write.target, answer.text());
        assert_ne!(answer.json()["errors"], true, "{}", answer.text());
    }
    requests.len() + 8
}

/// A text without what a clock decides.
fn untimed(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("took") {
        let after = &rest[at + 4..];
        let digits = after.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
        let end = digits + after[digits..].find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
        out.push_str(&rest[..at + 4]);
        rest = &after[end..];
    }
    out.push_str(rest);
    out
}

/// Whatever a name is: if it is let through, Elasticsearch resolves it to nothing outside.
async fn random_expressions(outrigger: &Outrigger) {
    let seed: u64 = std::env::var("ISOLATION_SEED").map_or(11, |seed| seed.parse().unwrap());
    eprintln!("ISOLATION_SEED={seed}");
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let pieces = [
        "acme-", "acme", "*", "-", "1", "2", "in", "secret", "zz", "a", ",", "<", ">", "{now/d}", ".",
        "_all", "::data", " ",
    ];
    let mut passed = 0;
    for _ in 0..1_500 {
        let mut expression = if random.gen_bool(0.6) { "acme-".to_owned() } else { String::new() };
        for _ in 0..random.gen_range(1..6) {
            expression.push_str(pieces.choose(&mut random).unwrap());
        }
        let target = format!("/_resolve/index/{}?expand_wildcards=all", encoded(&expression));
        let answer = attempt("GET", target, "").send(outrigger.url(), Some("acme"), "random").await;
        if answer.status == 403 {
            continue;
        }
        passed += 1;
        let found = answer.json();
        let names = |key: &str, name: &str| -> Vec<Value> {
            let all = found[key].as_array().cloned().unwrap_or_default();
            all.into_iter().map(|entry| entry[name].clone()).collect()
        };
        let mut all = names("indices", "name");
        all.extend(
            names("aliases", "indices")
                .into_iter()
                .flat_map(|list| list.as_array().cloned().unwrap_or_default()),
        );
        for name in all {
            assert!(name.as_str().unwrap().starts_with("acme-"), "{expression} means {name}");
        }
    }
    assert!(passed > 200, "{passed} were let through");
}

async fn the_log_is_opened_again(outrigger: &Outrigger, audit: &std::path::Path) {
    let moved = audit.with_extension("moved");
    std::fs::rename(audit, &moved).unwrap();
    outrigger.signal("HUP");
    eventually("the log is there again", Duration::from_secs(20), || async { audit.exists().then_some(()) })
        .await;
}

fn every_decision_has_its_line(audit: &std::path::Path, sent: usize) {
    let text = std::fs::read_to_string(audit.with_extension("moved")).unwrap()
        + &std::fs::read_to_string(audit).unwrap();
    let mut lines: HashMap<String, Vec<Value>> = HashMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_ne!(line["event.action"], "lost", "{line}");
        let id = line["opaque_id"].as_str().unwrap_or_default().to_owned();
        lines.entry(id).or_default().push(line);
    }
    let decided = lines.iter().filter(|(id, _)| id.starts_with("sent-"));
    let mut count = 0;
    for (id, lines) in decided {
        let [line] = lines.as_slice() else { panic!("{id} has {} lines", lines.len()) };
        let is_inside = id.len() > "sent-100000".len();
        assert_eq!(line["tenant"], "acme", "{line}");
        assert_eq!(line["tenant.rule"], "header", "{line}");
        assert!(line["origin.address"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
        if is_inside {
            assert_ne!(line["event.action"], "refused", "{line}");
        } else {
            assert_eq!(
                (&line["event.action"], &line["http.status"]),
                (&json!("refused"), &json!(403)),
                "{line}"
            );
            assert!(line["reason"].as_str().unwrap().starts_with("isolation_"), "{line}");
            assert!(line["detail"].as_str().unwrap().starts_with("tenant [acme]"), "{line}");
        }
        count += 1;
    }
    assert_eq!(count, sent, "requests with a line");
    for secret in [
        CREDENTIALS,
        "YWNtZTpodW50ZXIy",
        MARKER,
        "match_all",
        "scroll_id=",
        "DXF1ZXJ5",
        "FGluY2x1ZGVfY29udGV4dF91dWlk",
    ] {
        assert!(!text.contains(secret), "the log holds {secret}");
    }
}
