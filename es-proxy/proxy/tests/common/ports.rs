//! Doubles of the ports: a cluster that knows what it was made with and keeps what it is told, and a source
//! without hits.

use std::sync::Arc;

use es_proxy::{
    BoxFuture, BuildCommand, Cluster, KnnHit, KnnQuestion, KnnSource, KnnUnavailable, NodeFacts, Scope,
};
use es_wire::{Acknowledged, Capabilities, Catalog, IndexInfo, Wrote};
use parking_lot::Mutex;

/// A cluster that never changes.
pub struct FakeCluster {
    catalog: Arc<Catalog>,
    node: Option<Arc<NodeFacts>>,
    told: Mutex<Vec<Told>>,
}

/// What the request path said to it.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Id, sequence number, vector.
    Acknowledged(Vec<(String, u64, Option<Vec<f32>>)>),
    Awaited(Scope),
}

impl FakeCluster {
    /// Without indices, and nothing is known of the node.
    pub fn empty() -> Arc<Self> {
        Self::new(Catalog::empty(), None)
    }

    /// With what a cluster state and a list of aliases say, behind a node of 9.2.
    pub fn of(state: &str, aliases: &str, security_absent: bool) -> Arc<Self> {
        let capabilities = Capabilities::of("9.2.0".parse().unwrap()).unwrap();
        let catalog = Catalog::parse(state, aliases, &capabilities).unwrap();
        let version = capabilities.version;
        Self::new(catalog, Some(NodeFacts { version, capabilities: Some(capabilities), security_absent }))
    }

    fn new(catalog: Catalog, node: Option<NodeFacts>) -> Arc<Self> {
        Arc::new(Self { catalog: Arc::new(catalog), node: node.map(Arc::new), told: Mutex::default() })
    }

    /// All that it was told, in order.
    pub fn told(&self) -> Vec<Told> {
        self.told.lock().clone()
    }
}

impl Cluster for FakeCluster {
    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog)
    }

    fn node(&self) -> Option<Arc<NodeFacts>> {
        self.node.clone()
    }

    fn published(&self, scope: Scope) -> BoxFuture<'_, bool> {
        self.told.lock().push(Told::Awaited(scope));
        Box::pin(async { true })
    }

    fn invalidate(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn acknowledged(&self, writes: Vec<Acknowledged>) {
        let vector = |wrote: Wrote| match wrote {
            Wrote::Document(mut fields) => fields.pop().unwrap().1,
            Wrote::Deletion => None,
        };
        let told =
            writes.into_iter().map(|write| (write.doc.id.into(), write.order.seq_no, vector(write.wrote)));
        self.told.lock().push(Told::Acknowledged(told.collect()));
    }

    fn may_show_ignored(&self, _: &IndexInfo) -> bool {
        self.node.is_none()
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

/// A source without hits.
pub struct NoHits;

impl KnnSource for NoHits {
    fn knn<'a>(&'a self, _: KnnQuestion<'a>) -> BoxFuture<'a, Result<Vec<KnnHit>, KnnUnavailable>> {
        Box::pin(async { Err(KnnUnavailable::Absent) })
    }

    fn vectors(&self, _: &IndexInfo, _: &str) -> u64 {
        0
    }
}
