//! A cluster of one index and what finds its documents, for tests of the ways of a search.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use es_proxy::{BoxFuture, KnnHit, KnnQuestion, KnnSource, KnnUnavailable};
use es_wire::IndexInfo;
use knn_types::{DocKey, SeqNo};
use parking_lot::Mutex;

use super::ports::FakeCluster;

/// A filter that [`Source`] knows.
pub const RED: &str = r#"{"term":{"k":"red"}}"#;

/// A cluster with the index `i`, its fields `v` and `k`, and the alias `reds` with a filter.
pub fn cluster(security_absent: bool) -> Arc<FakeCluster> {
    let state = r#"{"version":1,"metadata":{"indices":{"i":{"state":"open",
        "settings":{"index":{"number_of_shards":"1","uuid":"u","version":{"created":"9039001"}}},
        "mappings":{"_doc":{"properties":{"k":{"type":"keyword"},"v":{"type":"dense_vector","dims":2,"index":true,"similarity":"l2_norm","index_options":{"type":"flat"},"meta":{"outrigger.ivf":"default"}}}}}}}}}"#;
    let aliases = r#"{"i":{"aliases":{"reds":{"filter":{"term":{"k":"red"}}}}}}"#;
    FakeCluster::of(state, aliases, security_absent)
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
