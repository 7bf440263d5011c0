//! Endpoints that take the body of a search: their knn parts are restricted, everything else goes its way.

#![allow(missing_docs, reason = "a test")]

mod common;

use std::sync::Arc;

use common::one_index::{self, Source};
use common::{Upstream, proxy_from, send};
use es_proxy::{KnnSource, Mode, Modes};
use prometheus_client::registry::Registry;

const UPSTREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\n{  }";

/// What reaches Elasticsearch of a request, and the way that it took.
async fn passed(url: &str, body: &str) -> (String, String) {
    let upstream = Upstream::answering(UPSTREAM).await;
    let (cluster, modes) = (one_index::cluster(true), Arc::new(Modes::new(Mode::Serve)));
    let engine: Arc<dyn KnnSource> = Arc::new(Source::default());
    let proxy = proxy_from(upstream.address, cluster, engine, modes, &mut Registry::default(), |_| {}).await;
    let request = format!(
        "POST {url} HTTP/1.1\r\nhost: x\r\nx-outrigger-explain: true\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let response = send(proxy, &request).await;
    let way = response.lines().find_map(|line| line.strip_prefix("x-outrigger: ")).unwrap_or_default();
    (way.to_owned(), upstream.request().await)
}

fn query(more: &str) -> String {
    format!(r#"{{"query":{{"knn":{{"field":"v","query_vector":[1,2],"num_candidates":5{more}}}}}}}"#)
}

const IDS: &str = r#","filter":{"ids":{"values":["any","red"]}}"#;

#[tokio::test]
async fn an_async_search_is_restricted_as_it_is_handed_in() {
    let url = "/i/_async_search?wait_for_completion_timeout=2s&keep_on_completion=true&keep_alive=1d&size=3";
    let (way, request) = passed(url, &query(r#","k":2"#)).await;
    assert_eq!(way, "splice; reason=ok");
    assert!(request.starts_with(&format!("POST {url} HTTP/1.1\r\n")), "{request}");
    assert!(request.ends_with(&query(&format!(r#","k":2{IDS}"#))), "{request}");
    let (way, request) = passed("/i/_async_search?lookup=me", &query("")).await;
    assert_eq!(way, "pass; reason=parameter");
    assert!(request.ends_with(&query("")), "{request}");
}

#[tokio::test]
async fn a_count_says_itself_how_many_it_means() {
    let (way, request) = passed("/i/_count", &query(r#","k":2"#)).await;
    assert_eq!(way, "splice; reason=ok");
    assert!(request.ends_with(&query(&format!(r#","k":2{IDS}"#))), "{request}");
    // Nothing: what that means differs by version and is Elasticsearch's to say.
    let (way, request) = passed("/i/_count", &query("")).await;
    assert_eq!(way, "pass; reason=k");
    assert!(request.ends_with(&query("")), "{request}");
}
