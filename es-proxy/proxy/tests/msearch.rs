//! What of an `_msearch` reaches Elasticsearch, under whose credentials, and what becomes of its answer.

#![allow(missing_docs, reason = "a test")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use common::one_index::{OneIndex, Source};
use common::{Upstream, proxy_from, send};
use es_proxy::{KnnSource, Mode, Modes};
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
        let response = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let upstream = Upstream::answering(response.leak()).await;
        let (cluster, modes) = (OneIndex::new(security_absent), Arc::new(Modes::new(Mode::Serve)));
        let engine: Arc<dyn KnnSource> = Arc::new(Source::default());
        let proxy =
            proxy_from(upstream.address, cluster, engine, modes, &mut Registry::default(), |_| {}).await;
        Self { upstream, proxy }
    }

    async fn msearch(&self, url: &str, lines: &str) -> String {
        let request = format!(
            "POST {url} HTTP/1.1\r\nhost: x\r\nauthorization: Basic bWU6aXQ=\r\nx-outrigger-explain: true\r\n\
             content-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n{lines}",
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
        assert!(asked.contains(r#"{"query":{"ids":{"values":["any","red"]}},"size":2,"#), "{asked}");
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
