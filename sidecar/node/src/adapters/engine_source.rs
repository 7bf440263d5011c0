//! Knn hits from the engine: the only crossing between async and sync code on the search path.
//!
//! A search that is predicted to be cheaper than a hand-over to another thread runs where it is;
//! others run on the blocking pool, as many at a time as there are cores, tenant by tenant where they must
//! wait. Now and then an answered
//! search is sampled for its recall, on the blocking pool too. What a filter lets through is known by the
//! feed or not at all: no search waits here for Elasticsearch to tell it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use es_proxy::{
    BoxFuture, DocumentFate, FairGate, Flow, KnnAnswer, KnnHit, KnnQuestion, KnnSource, KnnUnavailable,
    ProfiledAnswer, RecallMeasure, RecallPoint,
};
use es_wire::{IndexInfo, IndexPatterns, Reach, Scoring};
use futures_util::{StreamExt, stream};
use knn_types::{DocKey, EngineError, Hit, KnnIndex, KnnView, Query};
use shard_sync::{FieldState, Filtered, Sync};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::insight::{Measurement, fate, works};
use crate::live_recall::{Answered, LiveRecall};
use crate::searched::Searched;

/// Nothing on an async thread may take longer.
const IN_PLACE: Duration = Duration::from_micros(500);

/// How long a search may wait for Elasticsearch to wake an idle shard and for its publication.
const WAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a search on a strict index may wait for the publication of what Elasticsearch shows.
const STRICT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a search may wait for a thread.
const THREAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Questions of one batch that are worked on at once.
const SIDE_BY_SIDE: usize = 8;

/// See the head of this file.
pub(crate) struct EngineSource {
    sync: Arc<Sync>,
    pool: Handle,
    /// As many searches as there are threads for them; of others' tenants' none stands before them all.
    threads: Arc<FairGate>,
    /// One measurement of recall at a time.
    measuring: Arc<Semaphore>,
    live_recall: Arc<LiveRecall>,
    strict: IndexPatterns,
}

impl EngineSource {
    /// Long searches go to the blocking pool of the runtime this is called on.
    pub(crate) fn new(
        sync: Arc<Sync>,
        threads: Arc<FairGate>,
        live_recall: Arc<LiveRecall>,
        strict: IndexPatterns,
    ) -> Self {
        let measuring = Arc::new(Semaphore::new(1));
        Self { sync, pool: Handle::current(), threads, measuring, live_recall, strict }
    }

    async fn search(&self, question: KnnQuestion<'_>) -> Result<Vec<KnnHit>, KnnUnavailable> {
        let (shards, scoring) = self.searched(&question).await?;
        let query = query_of(&question);
        let cost: Duration = shards.iter().map(|shard| shard.view.predicted_cost(&shard.query(&query))).sum();
        let found = if cost < IN_PLACE {
            merged(&shards, &query, question.reach, scoring)
        } else {
            self.on_a_thread(&shards, &query, question.reach, scoring, (question.flow, cost)).await?
        };
        let Found { mut hits, estimated } = found.map_err(failed)?;
        if let Some(numbers) = question.shards {
            hits.iter_mut().for_each(|hit| hit.shard = numbers[hit.shard as usize]);
        }
        if estimated && self.live_recall.claim() {
            self.sample(question, shards, scoring, &hits);
        }
        Ok(hits)
    }

    /// What a question is about: what is published of each shard, under its filter.
    async fn searched(&self, question: &KnnQuestion<'_>) -> Result<(Vec<Searched>, Scoring), KnnUnavailable> {
        let (indexes, scoring) = self.indexes(question.index, question.field).await?;
        let shards: Vec<Searched> = match question.filter {
            None => indexes.iter().map(|index| Searched::whole(index.view())).collect(),
            Some(filter) => match self.sync.filtered(&question.index.uuid, question.field, filter).await {
                Filtered::Ready(shards) => shards.into_iter().map(Searched::from).collect(),
                Filtered::Unknown => return Err(KnnUnavailable::FilterUnknown),
                Filtered::Refused => return Err(KnnUnavailable::FilterRefused),
            },
        };
        let Some(numbers) = question.shards else { return Ok((shards, scoring)) };
        let wanted = |number: &u32| shards.get(*number as usize).cloned();
        let shards = numbers.iter().map(wanted).collect::<Option<_>>();
        Ok((shards.ok_or(KnnUnavailable::Absent)?, scoring))
    }

    /// What is published of each shard, and how the field is scored.
    async fn views(
        &self,
        index: &IndexInfo,
        field: &str,
    ) -> Result<(Vec<Arc<dyn KnnView>>, Scoring), KnnUnavailable> {
        let (indexes, scoring) = self.indexes(index, field).await?;
        Ok((indexes.iter().map(|index| index.view()).collect(), scoring))
    }

    /// The index of each shard, awake and caught up as far as a search demands.
    async fn indexes(
        &self,
        index: &IndexInfo,
        field: &str,
    ) -> Result<(Arc<[Arc<dyn KnnIndex>]>, Scoring), KnnUnavailable> {
        let shards = match self.sync.field(&index.uuid, field) {
            FieldState::Ready(shards) => shards,
            FieldState::Building => return Err(KnnUnavailable::Building),
            FieldState::Broken => return Err(KnnUnavailable::Failed),
            FieldState::Unknown | FieldState::Unreadable => return Err(KnnUnavailable::Absent),
        };
        if self.sync.touch(&index.uuid) && !self.sync.wake(&index.uuid, WAKE_TIMEOUT).await {
            return Err(KnnUnavailable::Overloaded);
        }
        if self.strict.contains(&index.name) && !self.shown(&index.name).await {
            return Err(KnnUnavailable::Overloaded);
        }
        let scoring = index.fields.get(field).ok_or(KnnUnavailable::Absent)?.scoring();
        Ok((shards, scoring))
    }

    async fn measured(&self, measure: RecallMeasure<'_>) -> Result<Vec<RecallPoint>, KnnUnavailable> {
        let turn = Arc::clone(&self.measuring).try_acquire_owned();
        let turn = turn.map_err(|_| KnnUnavailable::Overloaded)?;
        let (views, scoring) = self.views(measure.index, measure.field).await?;
        let abandoned = Arc::new(AtomicBool::new(false));
        // Nobody waits any more when this future is dropped.
        let _guard = Abandons(Arc::clone(&abandoned));
        let RecallMeasure { queries, k, num_candidates, curve, .. } = measure;
        let measurement = Measurement { views, scoring, queries, k, num_candidates, curve, abandoned };
        let measured = self.pool.spawn_blocking(move || {
            let _turn = turn;
            measurement.run()
        });
        let points = measured.await.map_err(died)?.map_err(failed)?;
        points.ok_or(KnnUnavailable::Failed)
    }

    async fn fate_of(
        &self,
        question: KnnQuestion<'_>,
        doc: DocKey,
    ) -> Result<Option<DocumentFate>, KnnUnavailable> {
        let (shards, scoring) = self.searched(&question).await?;
        let asked = Owned::of(&query_of(&question));
        let looked = self.pool.spawn_blocking(move || fate(&shards, scoring, &asked.query(), &doc));
        looked.await.map_err(died)?.map_err(failed)
    }

    async fn profile(&self, question: KnnQuestion<'_>) -> ProfiledAnswer {
        let (shards, scoring) = self.searched(&question).await?;
        let (asked, reach) = (Owned::of(&query_of(&question)), question.reach);
        let profiled = self.pool.spawn_blocking(move || {
            let found = merged(&shards, &asked.query(), reach, scoring)?;
            Ok((found.hits, works(&shards, &asked.query())?))
        });
        let (mut hits, mut works) = profiled.await.map_err(died)?.map_err(failed)?;
        if let Some(numbers) = question.shards {
            hits.iter_mut().for_each(|hit| hit.shard = numbers[hit.shard as usize]);
            works.iter_mut().for_each(|work| work.shard = numbers[work.shard as usize]);
        }
        Ok((hits, works))
    }

    /// Waits until everything that Elasticsearch shows now is published. Concurrent searches share one look.
    async fn shown(&self, index: &str) -> bool {
        self.sync.published(shard_sync::Scope::Index(index.to_owned()), STRICT_TIMEOUT).await
    }

    async fn on_a_thread(
        &self,
        shards: &[Searched],
        query: &Query<'_>,
        reach: Reach,
        scoring: Scoring,
        (flow, cost): (Flow, Duration),
    ) -> Result<Result<Found, EngineError>, KnnUnavailable> {
        let cost = u64::try_from(cost.as_micros()).unwrap_or(u64::MAX);
        let thread = self.threads.enter(flow, cost, THREAD_TIMEOUT).await;
        let thread = thread.map_err(|_| KnnUnavailable::Overloaded)?;
        let (shards, asked) = (shards.to_vec(), Owned::of(query));
        let searched = self.pool.spawn_blocking(move || {
            let _thread = thread;
            merged(&shards, &asked.query(), reach, scoring)
        });
        searched.await.map_err(died)
    }

    /// Has the recall of an answered search measured in the background.
    fn sample(&self, question: KnnQuestion<'_>, shards: Vec<Searched>, scoring: Scoring, hits: &[KnnHit]) {
        let answered = Answered {
            field: (Arc::clone(&question.index.uuid), question.field.into()),
            scoring,
            vector: question.vector.to_vec(),
            k: question.k,
            shards,
            scores: hits.iter().map(|hit| hit.score).collect(),
        };
        let live_recall = Arc::clone(&self.live_recall);
        self.pool.spawn_blocking(move || live_recall.measure(&answered));
    }
}

impl KnnSource for EngineSource {
    fn knn<'a>(&'a self, question: KnnQuestion<'a>) -> BoxFuture<'a, Result<Vec<KnnHit>, KnnUnavailable>> {
        Box::pin(self.search(question))
    }

    fn profiled<'a>(&'a self, question: KnnQuestion<'a>) -> BoxFuture<'a, ProfiledAnswer> {
        Box::pin(self.profile(question))
    }

    /// Searches that run where they are give way to others after each; those on threads run side by side.
    fn knn_batch<'a>(&'a self, questions: &'a [KnnQuestion<'a>]) -> BoxFuture<'a, Vec<KnnAnswer>> {
        let answers = stream::iter(questions).map(move |question| async move {
            tokio::task::yield_now().await;
            self.search(*question).await
        });
        Box::pin(answers.buffered(SIDE_BY_SIDE).collect())
    }

    fn recall<'a>(
        &'a self,
        measure: RecallMeasure<'a>,
    ) -> BoxFuture<'a, Result<Vec<RecallPoint>, KnnUnavailable>> {
        Box::pin(self.measured(measure))
    }

    fn explain<'a>(
        &'a self,
        question: KnnQuestion<'a>,
        doc: DocKey,
    ) -> BoxFuture<'a, Result<Option<DocumentFate>, KnnUnavailable>> {
        Box::pin(self.fate_of(question, doc))
    }

    fn vectors(&self, index: &IndexInfo, field: &str) -> u64 {
        if let FieldState::Ready(shards) = self.sync.field(&index.uuid, field) {
            return shards.iter().map(|shard| shard.view().vectors() as u64).sum();
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

/// The engine's question, without a shard's filter.
fn query_of<'a>(question: &KnnQuestion<'a>) -> Query<'a> {
    Query {
        num_candidates: question.num_candidates,
        nprobe: question.nprobe,
        ..Query::new(question.vector, question.k)
    }
}

/// A question that goes to another thread.
struct Owned {
    vector: Vec<f32>,
    k: usize,
    num_candidates: usize,
    nprobe: Option<usize>,
}

impl Owned {
    fn of(query: &Query<'_>) -> Self {
        let Query { k, num_candidates, nprobe, .. } = *query;
        Self { vector: query.vector.to_vec(), k, num_candidates, nprobe }
    }

    fn query(&self) -> Query<'_> {
        let Self { num_candidates, nprobe, .. } = *self;
        Query { num_candidates, nprobe, ..Query::new(&self.vector, self.k) }
    }
}

/// Sets its flag when it is dropped.
struct Abandons(Arc<AtomicBool>);

impl Drop for Abandons {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn died(error: tokio::task::JoinError) -> KnnUnavailable {
    tracing::error!(%error, "search thread failed");
    KnnUnavailable::Failed
}

fn failed(error: EngineError) -> KnnUnavailable {
    // Logged when the memory ran out, not with every search.
    if matches!(error, EngineError::Memory { .. }) {
        return KnnUnavailable::Memory;
    }
    tracing::error!(%error, "search failed");
    KnnUnavailable::Failed
}

/// Hits over all shards.
struct Found {
    hits: Vec<KnnHit>,
    /// Some shard was searched by its lists, so that a hit may have been missed.
    estimated: bool,
}

/// Searches every shard and keeps the best `k` of all (or of each): by score, then by shard, then by
/// age, as Elasticsearch's coordinator does.
fn merged(
    shards: &[Searched],
    query: &Query<'_>,
    reach: Reach,
    scoring: Scoring,
) -> Result<Found, EngineError> {
    let mut hits: Vec<(f32, usize, Hit)> =
        Vec::with_capacity(query.k.saturating_mul(shards.len()).min(10_000));
    let mut estimated = false;
    for (number, shard) in shards.iter().enumerate() {
        let found = shard.view.search(&shard.query(query))?;
        estimated |= found.stats.lists > 0;
        hits.extend(found.hits.into_iter().map(|hit| (scoring.score(hit.value), number, hit)));
    }
    if shards.len() > 1 {
        hits.sort_by(|a, b| {
            b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.order.seq_no.cmp(&b.2.order.seq_no))
        });
        if reach == Reach::Global {
            hits.truncate(query.k);
        }
    }
    let hit = |(score, number, hit): (f32, usize, Hit)| KnnHit {
        doc: hit.doc,
        order: Some(hit.order),
        score,
        shard: number as u32,
    };
    Ok(Found { hits: hits.into_iter().map(hit).collect(), estimated })
}
