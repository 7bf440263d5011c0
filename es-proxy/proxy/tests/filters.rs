//! A filter that may be remembered goes with the question; what the source says decides the way.

#![allow(missing_docs, reason = "a test")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use common::{Upstream, proxy_from, send};
use es_proxy::{
    BoxFuture, BuildCommand, Cluster, KnnHit, KnnQuestion, KnnSource, KnnUnavailable, Mode, Modes, NodeFacts,
    Scope,
};
use es_wire::{Acknowledged, Capabilities, Catalog, IndexInfo};
use knn_types::{DocKey, SeqNo};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;

const UPSTREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\n{  }";
const RED: &str = r#"{"term":{"k":"red"}}"#;

/// A cluster with the index `i`, its fields `v` and `k`, and the alias `reds` with a filter.
struct OneIndex {
    catalog: Arc<Catalog>,
    security_absent: bool,
}

impl OneIndex {
    fn new(security_absent: bool) -> Arc<Self> {
        let state = r#"{"version":1,"metadata":{"indices":{"i":{"state":"open",
            "settings":{"index":{"number_of_shards":"1","uuid":"u","version":{"created":"9039001"}}},
            "mappings":{"_doc":{"properties":{"k":{"type":"keyword"},"v":{"type":"dense_vector","dims":2,"index":true,"similarity":"l2_norm","meta":{"outrigger.ivf":"default"}}}}}}}}}"#;
        let aliases = r#"{"i":{"aliases":{"reds":{"filter":{"term":{"k":"red"}}}}}}"#;
        let catalog = Arc::new(Catalog::parse(state, aliases, &capabilities()).unwrap());
        Arc::new(Self { catalog, security_absent })
    }
}

fn capabilities() -> Capabilities {
    Capabilities::of("9.2.0".parse().unwrap()).unwrap()
}

impl Cluster for OneIndex {
    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog)
    }
    fn node(&self) -> Option<Arc<NodeFacts>> {
        let capabilities = capabilities();
        Some(Arc::new(NodeFacts {
            version: capabilities.version,
            capabilities: Some(capabilities),
            security_absent: self.security_absent,
        }))
    }
    fn published(&self, _: Scope) -> BoxFuture<'_, bool> {
        Box::pin(async { true })
    }
    fn invalidate(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
    fn acknowledged(&self, _: Vec<Acknowledged>) {}
    fn may_show_ignored(&self, _: &IndexInfo) -> bool {
        false
    }
    fn build(&self, _: &str, _: BuildCommand) -> bool {
        false
    }
    fn field_state(&self, _: &IndexInfo, _: &str) -> &'static str {
        "ready"
    }
    fn report(&self, _: &str) -> Option<String> {
        None
    }
}

/// Knows what `RED` lets through, is fetching what it does not know, and notes what it is asked.
#[derive(Default)]
struct Source(Mutex<Vec<Option<String>>>);

impl Source {
    fn asked(&self) -> Vec<Option<String>> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl KnnSource for Source {
    fn knn<'a>(&'a self, question: KnnQuestion<'a>) -> BoxFuture<'a, Result<Vec<KnnHit>, KnnUnavailable>> {
        let filter = question.filter.map(|filter| filter.query().to_owned());
        self.0.lock().push(filter.clone());
        let hit = |id: &str| KnnHit {
            doc: DocKey::new(id),
            order: Some(SeqNo { seq_no: 1, primary_term: 1 }),
            score: 0.5,
            shard: 0,
        };
        Box::pin(async move {
            match filter.as_deref() {
                None => Ok(vec![hit("any"), hit("red")]),
                Some(RED) => Ok(vec![hit("red")]),
                Some(_) => Err(KnnUnavailable::FilterUnknown),
            }
        })
    }
    fn vectors(&self, _: &IndexInfo, _: &str) -> u64 {
        2
    }
}

struct Setup {
    upstream: Upstream,
    source: Arc<Source>,
    proxy: SocketAddr,
}

impl Setup {
    async fn new(security_absent: bool) -> Self {
        let (upstream, source) = (Upstream::answering(UPSTREAM).await, Arc::new(Source::default()));
        let (cluster, modes) = (OneIndex::new(security_absent), Arc::new(Modes::new(Mode::Serve)));
        let engine: Arc<dyn KnnSource> = source.clone();
        let proxy =
            proxy_from(upstream.address, cluster, engine, modes, &mut Registry::default(), |_| {}).await;
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
