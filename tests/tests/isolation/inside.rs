//! What lies inside: answered as by Elasticsearch alone, and what was handed out goes on.

use std::time::Duration;

use outrigger_tests::{Elasticsearch, Outrigger, eventually};
use serde_json::json;

use crate::UNNAMED;
use crate::attempt::{Attempt, attempt};

/// What a tenant was handed out it may go on with, and nobody else may.
pub(crate) async fn contexts_go_on(elasticsearch: &Elasticsearch, outrigger: &Outrigger) -> usize {
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
pub(crate) async fn what_is_inside_is_answered_alike(
    elasticsearch: &Elasticsearch,
    outrigger: &Outrigger,
) -> usize {
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
