//! A cluster of one index and what finds its documents, for tests of the ways of a search.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use es_proxy::{
    BoxFuture, BuildCommand, Cluster, KnnHit, KnnQuestion, KnnSource, KnnUnavailable, NodeFacts, Scope,
};
use es_wire::{Acknowledged, Capabilities, Catalog, IndexInfo};
use knn_types::{DocKey, SeqNo};
use parking_lot::Mutex;

/// A filter that [`Source`] knows.
pub const RED: &str = r#"{"term":{"k":"red"}}"#;

/// A cluster with the index `i`, its fields `v` and `k`, and the alias `reds` with a filter.
pub struct OneIndex {
    catalog: Arc<Catalog>,
    security_absent: bool,
}

impl OneIndex {
    pub fn new(security_absent: bool) -> Arc<Self> {
        let state = r#"{"version":1,"metadata":{"indices":{"i":{"state":"open",
            "settings":{"index":{"number_of_shards":"1","uuid":"u","version":{"created":"9039001"}}},
            "mappings":{"_doc":{"properties":{"k":{"type":"keyword"},"v":{"type":"dense_vector","dims":2,"index":true,"similarity":"l2_norm","meta":{"outrigger.ivf":"default"}}}}}}}}}"#;
        let aliases = r#"{"i":{"aliases":{"reds":{"filter":{"term":{"k":"red"}}}}}}"#;
        let catalog = Arc::new(Catalog::parse(state, aliases, &capabilities()).unwrap());
        Arc::new(Self { catalog, security_absent })
    }
}

pub fn capabilities() -> Capabilities {
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
pub struct Source {
    asked: Mutex<Vec<Option<String>>>,
    /// How many vectors an exact scan would compare.
    pub vectors: AtomicU64,
}

impl Source {
    pub fn asked(&self) -> Vec<Option<String>> {
        std::mem::take(&mut *self.asked.lock())
    }
}

impl KnnSource for Source {
    fn knn<'a>(&'a self, question: KnnQuestion<'a>) -> BoxFuture<'a, Result<Vec<KnnHit>, KnnUnavailable>> {
        let filter = question.filter.map(|filter| filter.query().to_owned());
        self.asked.lock().push(filter.clone());
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
        self.vectors.load(Ordering::Relaxed)
    }
}
