//! What of an `_msearch` reaches Elasticsearch, under whose credentials, and what becomes of its answer.

#![allow(missing_docs, reason = "a test")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::one_index::{self, Source};
use common::{Upstream, proxy_from, send};
use es_proxy::{KnnSource, Mode, Modes, TenantConfig, Tenants};
use prometheus_client::registry::Registry;

const KNN: &str = r#"{"knn":{"field":"v","query_vector":[1,2],"k":2,"num_candidates":5},"_source":false}"#;
const WITH_SOURCE: &str = r#"{"knn":{"field":"v","query_vector":[1,2],"k":2,"num_candidates":5}}"#;
const MATCH: &str = r#"{"query":{"match_all":{}}}"#;

struct Setup {
    upstream: Upstream,
    proxy: SocketAddr,
}

impl Setup {
    /// Elasticsearch answers everything with `status` and `body`.
    async fn new(security_absent: bool, status: &str, body: &str) -> Self {
        Self::limited(security_absent, status, body, "{}").await
    }

    /// The same for tenants as in this JSON, and an index so large that an exact scan counts.
    async fn limited(security_absent: bool, status: &str, body: &str, tenants: &str) -> Self {
        let tenants = serde_json::from_str(tenants).unwrap();
        let tenants = Tenants::new(TenantConfig { tenants, ..TenantConfig::default() }).unwrap();
        let response = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let upstream = Upstream::answering(response.leak()).await;
        let (cluster, modes) = (one_index::cluster(security_absent), Arc::new(Modes::new(Mode::Serve)));
        let source = Source::default();
        source.vectors.store(1_000, Ordering::Relaxed);
        let engine: Arc<dyn KnnSource> = Arc::new(source);
        let proxy =
            proxy_from(upstream.address, cluster, engine, modes, &mut Registry::default(), |config| {
                config.tenants = Arc::new(tenants);
            })
            .await;
        Self { upstream, proxy }
    }

    async fn msearch(&self, url: &str, lines: &str) -> String {
        self.msearch_as("application/x-ndjson", url, lines).await
    }

    async fn msearch_as(&self, content_type: &str, url: &str, lines: &str) -> String {
        let request = format!(
            "POST {url} HTTP/1.1\r\nhost: x\r\nauthorization: Basic bWU6aXQ=\r\nx-outrigger-explain: true\r\n\
             content-type: {content_type}\r\ncontent-length: {}\r\n\r\n{lines}",
            lines.len()
        );
        send(self.proxy, &request).await
    }
}

fn way(response: &str) -> &str {
    response.lines().find_map(|line| line.strip_prefix("x-outrigger: ")).unwrap_or("none")
}

#[tokio::test]
async fn what_is_answered_here_does_not_reach_elasticsearch() {
    let answer = r#"{"took":4,"responses":[{"took":1,"kept":"as it is","status":200},{"error":{"type":"t"},"status":404}]}"#;
    let setup = Setup::new(true, "200 OK", answer).await;
    let lines = format!("{{}}\n{MATCH}\n{{\"index\":\"i\"}}\n{KNN}\n{{\"index\":\"nope\"}}\n{KNN}\n");
    let response = setup.msearch("/i/_msearch?typed_keys=true", &lines).await;
    assert_eq!(way(&response), "answer; reason=partly");
    let passed = setup.upstream.request().await;
    assert!(passed.starts_with("POST /i/_msearch?typed_keys=true HTTP/1.1\r\n"), "{passed}");
    assert!(passed.to_lowercase().contains("authorization: basic bwu6axq="), "{passed}");
    let body = passed.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(body, format!("{{}}\n{MATCH}\n{{\"index\":\"nope\"}}\n{KNN}\n"));
    let (first, rest) = response.split_once(r#""kept":"as it is","status":200},{"took""#).expect(&response);
    assert!(first.contains(r#""responses":[{"took":1,"#), "{response}");
    assert!(rest.contains(r#""_id":"any","_score":0.5"#), "{response}");
    assert!(rest.contains(r#"]},"status":200},{"error":{"type":"t"},"status":404}]}"#), "{response}");
}

#[tokio::test]
async fn nothing_is_asked_where_everything_is_answered() {
    let setup = Setup::new(true, "500 Oops", "{}").await;
    let response = setup.msearch("/i/_msearch", &format!("{{}}\n{KNN}\n\n{KNN}\n")).await;
    assert_eq!(way(&response), "answer; reason=ok");
    assert_eq!(response.matches(r#""status":200}"#).count(), 2, "{response}");
    assert_eq!(setup.upstream.connections(), 0);
}

#[tokio::test]
async fn a_refusal_of_the_whole_is_elasticsearchs_own() {
    let setup = Setup::new(true, "400 Bad Request", r#"{"error":"its own"}"#).await;
    let lines = format!("{{}}\n{KNN}\n{{}}\n{{\"knnx\":1}}\n");
    let response = setup.msearch("/i/_msearch", &lines).await;
    assert!(response.starts_with("HTTP/1.1 400") && response.contains("its own"), "{response}");
    assert_eq!(way(&response), "pass; reason=refused_by_elasticsearch");
    let asked = setup.upstream.request().await;
    assert!(asked.ends_with("\r\n\r\n{}\n{\"knnx\":1}\n"), "{asked}");
    assert!(setup.upstream.request().await.ends_with(&lines), "then the whole, as it came");
}

#[tokio::test]
async fn documents_that_are_not_shown_are_no_answer() {
    // Elasticsearch finds neither of our hits: the search goes there as it is.
    let empty = r#"{"took":1,"responses":[{"took":1,"timed_out":false,"_shards":{"total":1,"successful":1,"skipped":0,"failed":0},"hits":{"max_score":null,"hits":[]},"status":200}]}"#;
    for security_absent in [true, false] {
        let setup = Setup::new(security_absent, "200 OK", empty).await;
        let response = setup.msearch("/_msearch", &format!("{{\"index\":\"i\"}}\n{WITH_SOURCE}\n")).await;
        if !security_absent {
            let rights = setup.upstream.request().await;
            assert!(rights.starts_with("GET /_security/user/_privileges "), "{rights}");
            assert!(rights.contains("authorization: Basic "), "as the caller: {rights}");
        }
        let asked = setup.upstream.request().await;
        assert!(asked.contains(r#"{"index":["i"]}"#), "{asked}");
        let ids = r#"{"ids":{"values":["any","red"]}}"#;
        let seen = format!(r#"{{"bool":{{"must":{ids},"filter":{{"exists":{{"field":"v"}}}}}}}}"#);
        let query = if security_absent { ids } else { &seen };
        assert!(asked.contains(&format!(r#"{{"query":{query},"size":2,"#)), "{asked}");
        let again = setup.upstream.request().await;
        assert!(again.ends_with(&format!("{{\"index\":\"i\"}}\n{WITH_SOURCE}\n")), "{again}");
        assert!(response.ends_with(&format!("{}\r\n0\r\n\r\n", &empty[10..])), "{response}");
    }
}

#[tokio::test]
async fn where_rights_count_every_hit_is_asked_for() {
    let setup = Setup::new(false, "403 Forbidden", r#"{"error":"not you"}"#).await;
    let response = setup.msearch("/i/_msearch", &format!("{{}}\n{KNN}\n")).await;
    assert!(response.starts_with("HTTP/1.1 403") && response.contains("not you"), "{response}");
}

#[tokio::test]
async fn each_search_counts_however_many_there_are() {
    let limits = r#"{"default":{"limits":{"knn":{"requests_per_second":0.01,"burst":2}}}}"#;
    let setup = Setup::limited(true, "500 Oops", "{}", limits).await;
    let response = setup.msearch("/i/_msearch", &format!("{{}}\n{KNN}\n").repeat(1_200)).await;
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    let count = |status: &str| response.matches(&format!(r#""status":{status}}}"#)).count();
    assert_eq!((count("200"), count("429")), (2, 1_198));
    assert_eq!(setup.upstream.connections(), 0);
}

#[tokio::test]
async fn searches_that_pass_in_one_request_are_a_debt() {
    let limits = r#"{"default":{"limits":{"knn":{"requests_per_second":1,"burst":1}}}}"#;
    // What is not read as lines here may hold as many.
    for (content_type, lines) in [
        ("application/smile", format!("{{}}\n{KNN}\n").repeat(50)),
        ("application/x-ndjson", format!("{{}}\n{KNN}\n").repeat(50) + "{}"),
    ] {
        let setup = Setup::limited(true, "200 OK", r#"{"responses":[]}"#, limits).await;
        let passed = setup.msearch_as(content_type, "/i/_msearch", &lines).await;
        assert!(way(&passed).starts_with("pass; "), "{passed}");
        let refused = setup.msearch("/i/_msearch", &format!("{{}}\n{KNN}\n")).await;
        assert!(refused.contains("\"status\":429"), "{refused}");
        let search = format!(
            "POST /i/_search HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{KNN}",
            KNN.len()
        );
        let refused = send(setup.proxy, &search).await.to_lowercase();
        assert!(refused.starts_with("http/1.1 429") && refused.contains("retry-after: 50"), "{refused}");
    }
}

#[tokio::test]
async fn exact_scans_among_searches_are_limited_one_by_one() {
    let limits = r#"{"default":{"limits":{"passed_knn":{"requests_per_second":0.01,"burst":1}}}}"#;
    let one = r#"{"took":1,"responses":[{"kept":"as it is","status":200}]}"#;
    let setup = Setup::limited(true, "200 OK", one, limits).await;
    let scan = r#"{"knn":{"field":"v","query_vector":[1,2],"k":2,"num_candidates":5,"filter":{"prefix":{"k":"b"}}}}"#;
    let lines = format!("{{}}\n{KNN}\n{{}}\n{scan}\n{{}}\n{scan}\n");
    let response = setup.msearch("/i/_msearch", &lines).await;
    let body = setup.upstream.request().await;
    assert!(body.ends_with(&format!("\r\n\r\n{{}}\n{scan}\n")), "{body}");
    assert!(response.contains(r#""kept":"as it is""#), "{response}");
    assert_eq!(response.matches("passed_knn request of tenant [default]").count(), 2, "{response}");
    assert_eq!(response.matches(r#""status":200}"#).count(), 2, "{response}");
}
