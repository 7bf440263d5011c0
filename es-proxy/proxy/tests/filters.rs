//! A filter that may be remembered goes with the question; what the source says decides the way.

#![allow(missing_docs, reason = "a test")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::one_index::{self, RED, Source};
use common::{Upstream, proxy_from, send};
use es_proxy::{KnnSource, Mode, Modes, ProxyConfig, TenantConfig, Tenants};
use prometheus_client::registry::Registry;

const UPSTREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\n{  }";

struct Setup {
    upstream: Upstream,
    source: Arc<Source>,
    proxy: SocketAddr,
}

impl Setup {
    async fn new(security_absent: bool) -> Self {
        Self::answering(security_absent, UPSTREAM).await
    }

    async fn answering(security_absent: bool, response: &'static str) -> Self {
        Self::with(security_absent, response, |_| {}).await
    }

    async fn with(
        security_absent: bool,
        response: &'static str,
        change: impl FnOnce(&mut ProxyConfig),
    ) -> Self {
        let (upstream, source) = (Upstream::answering(response).await, Arc::new(Source::default()));
        let (cluster, modes) = (one_index::cluster(security_absent), Arc::new(Modes::new(Mode::Serve)));
        let engine: Arc<dyn KnnSource> = source.clone();
        let proxy =
            proxy_from(upstream.address, cluster, engine, modes, &mut Registry::default(), change).await;
        Self { upstream, source, proxy }
    }

    async fn search(&self, target: &str, body: &str) -> String {
        let request = format!(
            "POST /{target}/_search HTTP/1.1\r\nhost: x\r\nx-outrigger-explain: true\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        send(self.proxy, &request).await
    }

    /// The body of the next request that reached Elasticsearch.
    async fn passed(&self) -> String {
        self.upstream.request().await.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

fn knn(filter: &str) -> String {
    format!(r#"{{"field":"v","query_vector":[1,2],"k":1,"num_candidates":5{filter}}}"#)
}

fn bare(filter: &str) -> String {
    format!(r#"{{"knn":{},"_source":false}}"#, knn(filter))
}

fn way(response: &str) -> &str {
    response.lines().find_map(|line| line.strip_prefix("x-outrigger: ")).unwrap_or("none")
}

#[tokio::test]
async fn a_known_filter_is_answered_and_an_unknown_one_passes() {
    let setup = Setup::new(true).await;
    let red = setup.search("i", &bare(r#","filter":[ {"term": {"k":"\u0072ed"} } ]"#)).await;
    assert_eq!(way(&red), "answer; reason=ok");
    assert!(red.contains(r#""_id":"red""#) && !red.contains(r#""_id":"any""#), "{red}");
    assert_eq!(setup.source.asked(), [Some(RED.to_owned())]);

    let unknown = bare(r#","filter":{"term":{"k":"blue"}}"#);
    assert_eq!(way(&setup.search("i", &unknown).await), "pass; reason=filter_unknown");
    assert_eq!(setup.passed().await, unknown);

    let foreign = bare(r#","filter":{"prefix":{"k":"b"}}"#);
    setup.source.asked();
    assert_eq!(way(&setup.search("i", &foreign).await), "pass; reason=filter_query");
    assert_eq!(setup.passed().await, foreign);
    assert_eq!(setup.source.asked(), [], "the source is not asked what it could not answer");
}

const ONE: &str = concat!(
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 98\r\n\r\n",
    r#"{"timed_out":false,"_shards":{"failed":0},"hits":{"total":{"value":1,"relation":"eq"},"hits":[]} }"#
);
const NONE: &str = concat!(
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 98\r\n\r\n",
    r#"{"timed_out":false,"_shards":{"failed":0},"hits":{"total":{"value":0,"relation":"eq"},"hits":[]} }"#
);

#[tokio::test]
async fn elasticsearch_picks_from_the_nearest_what_an_unknown_filter_lets_through() {
    let blue = bare(r#","filter":{"term":{"k":"blue"}}"#);
    let setup = Setup::answering(true, ONE).await;
    setup.source.vectors.store(1_000_000, Ordering::Relaxed);
    let answer = setup.search("i", &blue).await;
    assert_eq!(way(&answer), "splice; reason=filter_first");
    assert!(answer.ends_with("0\r\n\r\n") && answer.contains(r#""value":1"#), "{answer}");
    let named = bare(r#","filter":[{"term":{"k":"blue"}},{"ids":{"values":["any","red"]}}]"#);
    assert_eq!(setup.passed().await, named);
}

#[tokio::test]
async fn a_search_is_charged_once_however_often_we_look_for_it() {
    // Next to nothing comes back while this runs.
    let text = r#"{"default":{"limits":{"knn":{"requests_per_second":0.001,"burst":5,"cost_per_second":0.01,
        "vectors_per_second":0.01}}}}"#;
    let tenants = TenantConfig { tenants: serde_json::from_str(text).unwrap(), ..TenantConfig::default() };
    for (response, reason) in [(ONE, "splice; reason=filter_first"), (NONE, "pass; reason=filter_unknown")] {
        let tenants = Arc::new(Tenants::new(tenants.clone()).unwrap());
        let setup = Setup::with(true, response, |config| config.tenants = tenants).await;
        setup.source.vectors.store(1_000_000, Ordering::Relaxed);
        let answer = setup.search("i", &bare(r#","filter":{"term":{"k":"blue"}}"#)).await;
        assert_eq!(way(&answer), reason);
        let whoami = send(setup.proxy, "GET /_ivf/_whoami HTTP/1.1\r\nhost: x\r\n\r\n").await;
        // 0.01 - (1 + (1 + 5) / 100), 0.01 - 1, rounded down.
        let left = r#""left":{"requests":4,"vectors":-1,"cost":-2}"#;
        assert!(whoami.contains(left), "{whoami}");
    }
}

#[tokio::test]
async fn a_filter_that_leaves_too_few_of_the_nearest_passes_and_its_shape_is_not_tried_again() {
    let of = |color: &str| bare(&format!(r#","filter":{{"term":{{"k":"{color}"}}}}"#));
    let setup = Setup::answering(true, NONE).await;
    setup.source.vectors.store(1_000_000, Ordering::Relaxed);
    assert_eq!(way(&setup.search("i", &of("blue")).await), "pass; reason=filter_unknown");
    assert!(setup.passed().await.contains("ids"));
    assert_eq!(setup.passed().await, of("blue"));
    assert_eq!(way(&setup.search("i", &of("green")).await), "pass; reason=filter_unknown");
    assert_eq!(setup.passed().await, of("green"));
}

#[tokio::test]
async fn the_filter_of_an_alias_is_one_more() {
    let setup = Setup::new(true).await;
    let reds = setup.search("reds", &bare("")).await;
    assert_eq!(way(&reds), "answer; reason=ok");
    assert!(reds.contains(r#""_index":"i""#), "{reds}");
    assert_eq!(setup.source.asked(), [Some(RED.to_owned())]);
    setup.search("reds", &bare(r#","filter":{"exists":{"field":"v"}}"#)).await;
    let both = r#"{"bool":{"filter":[{"exists":{"field":"v"}},{"term":{"k":"red"}}]}}"#;
    assert_eq!(setup.source.asked(), [Some(both.to_owned())]);
    let made = format!(r#"{{"knn":{},"runtime_mappings":{{"k":{{"type":"keyword"}}}}}}"#, knn(""));
    assert_eq!(way(&setup.search("reds", &made).await), "pass; reason=runtime_mappings");
}

#[tokio::test]
async fn a_splice_leaves_the_clients_filter_and_asks_for_every_unknown_one() {
    let setup = Setup::new(true).await;
    let search = |first: &str, second: &str| format!(r#"{{"knn":[{},{}]}}"#, knn(first), knn(second));
    let red = format!(r#","filter":{RED}"#);
    let spliced = setup.search("i", &search(&red, "")).await;
    assert_eq!(way(&spliced), "splice; reason=ok");
    let ids = |ids: &str| format!(r#"{{"ids":{{"values":[{ids}]}}}}"#);
    let wanted = search(
        &format!(r#","filter":[{RED},{}]"#, ids(r#""red""#)),
        &format!(r#","filter":{}"#, ids(r#""any","red""#)),
    );
    assert_eq!(setup.passed().await, wanted);

    setup.source.asked();
    let blue = |word: &str| format!(r#","filter":{{"term":{{"k":"{word}"}}}}"#);
    let unknown = search(&blue("blue"), &blue("green"));
    assert_eq!(way(&setup.search("i", &unknown).await), "pass; reason=filter_unknown");
    assert_eq!(setup.passed().await, unknown);
    assert_eq!(setup.source.asked().len(), 2);
}

#[tokio::test]
async fn where_rights_count_no_filter_is_answered_here() {
    let setup = Setup::new(false).await;
    for (target, filter) in [("i", format!(r#","filter":{RED}"#)), ("reds", String::new())] {
        assert_eq!(way(&setup.search(target, &bare(&filter)).await), "pass; reason=security");
    }
    assert_eq!(setup.source.asked(), []);
}
