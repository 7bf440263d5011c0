//! Knn hits from the engine: the only crossing between async and sync code on the search path.
//!
//! A search that is predicted to be cheaper than a hand-over to another thread runs where it is;
//! others run on the blocking pool, as many at a time as there are cores.

use std::sync::Arc;
use std::time::Duration;

use es_proxy::{BoxFuture, KnnHit, KnnQuestion, KnnSource, KnnUnavailable};
use es_wire::{IndexInfo, Similarity};
use knn_types::{EngineError, Hit, KnnIndex, Query};
use shard_sync::{FieldState, Sync};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Nothing on an async thread may take longer.
const IN_PLACE: Duration = Duration::from_micros(500);

/// How long a search may wait for Elasticsearch to wake an idle shard and for its publication.
const WAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a search may wait for a thread.
const THREAD_TIMEOUT: Duration = Duration::from_secs(5);

/// See the head of this file.
pub(crate) struct EngineSource {
    sync: Arc<Sync>,
    pool: Handle,
    threads: Arc<Semaphore>,
}

impl EngineSource {
    /// Long searches go to the blocking pool of the runtime this is called on.
    pub(crate) fn new(sync: Arc<Sync>, threads: usize) -> Self {
        Self { sync, pool: Handle::current(), threads: Arc::new(Semaphore::new(threads.max(1))) }
    }

    async fn search(&self, question: KnnQuestion<'_>) -> Result<Vec<KnnHit>, KnnUnavailable> {
        let uuid = &*question.index.uuid;
        let shards = match self.sync.field(uuid, question.field) {
            FieldState::Ready(shards) => shards,
            FieldState::Building => return Err(KnnUnavailable::Building),
            FieldState::Broken => return Err(KnnUnavailable::Failed),
            FieldState::Unknown => return Err(KnnUnavailable::Absent),
        };
        if self.sync.touch(uuid) && !self.sync.wake(uuid, WAKE_TIMEOUT).await {
            return Err(KnnUnavailable::Overloaded);
        }
        let similarity = question.index.fields.get(question.field).ok_or(KnnUnavailable::Absent)?.similarity;
        let query = Query {
            vector: question.vector,
            k: question.k,
            num_candidates: question.num_candidates,
            nprobe: None,
            filter: None,
        };
        let cost: Duration = shards.iter().map(|shard| shard.view().predicted_cost(&query)).sum();
        if cost < IN_PLACE {
            return merged(&shards, &query, similarity).map_err(failed);
        }
        let thread = tokio::time::timeout(THREAD_TIMEOUT, Arc::clone(&self.threads).acquire_owned()).await;
        let Ok(Ok(thread)) = thread else { return Err(KnnUnavailable::Overloaded) };
        let vector = question.vector.to_vec();
        let (k, num_candidates) = (question.k, question.num_candidates);
        let searched = self.pool.spawn_blocking(move || {
            let _thread = thread;
            merged(
                &shards,
                &Query { vector: &vector, k, num_candidates, nprobe: None, filter: None },
                similarity,
            )
        });
        match searched.await {
            Ok(result) => result.map_err(failed),
            Err(error) => {
                tracing::error!(%error, "search thread failed");
                Err(KnnUnavailable::Failed)
            }
        }
    }
}

impl KnnSource for EngineSource {
    fn knn<'a>(&'a self, question: KnnQuestion<'a>) -> BoxFuture<'a, Result<Vec<KnnHit>, KnnUnavailable>> {
        Box::pin(self.search(question))
    }

    fn vectors(&self, index: &IndexInfo, field: &str) -> u64 {
        if let FieldState::Ready(shards) = self.sync.field(&index.uuid, field) {
            return shards.iter().map(|shard| shard.view().len() as u64).sum();
        }
        // Not learnt yet: as many as Elasticsearch is known to show.
        let report = self.sync.stats(&index.name);
        let fields = report.iter().flat_map(|report| &report.fields).filter(|report| report.field == field);
        fields
            .flat_map(|field| &field.shards)
            .map(|s| s.progress.map_or(s.docs, |progress| progress.total))
            .sum()
    }
}

fn failed(error: EngineError) -> KnnUnavailable {
    // Logged when the memory ran out, not with every search.
    if matches!(error, EngineError::Memory { .. }) {
        return KnnUnavailable::Memory;
    }
    tracing::error!(%error, "search failed");
    KnnUnavailable::Failed
}

/// Searches every shard and keeps the best `k` of all: by score, then by shard, then by age, as
/// Elasticsearch's coordinator does.
fn merged(
    shards: &[Arc<dyn KnnIndex>],
    query: &Query<'_>,
    similarity: Similarity,
) -> Result<Vec<KnnHit>, EngineError> {
    let mut hits: Vec<(f32, usize, Hit)> =
        Vec::with_capacity(query.k.saturating_mul(shards.len()).min(10_000));
    for (number, shard) in shards.iter().enumerate() {
        let found = shard.view().search(query)?;
        hits.extend(found.hits.into_iter().map(|hit| (similarity.score(hit.value), number, hit)));
    }
    if shards.len() > 1 {
        hits.sort_by(|a, b| {
            b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.order.seq_no.cmp(&b.2.order.seq_no))
        });
        hits.truncate(query.k);
    }
    Ok(hits
        .into_iter()
        .map(|(score, _, hit)| KnnHit { doc: hit.doc, order: Some(hit.order), score })
        .collect())
}
