//! Which documents filters let through: what Elasticsearch said once, kept up to date by the feed, so that
//! a search under a filter that was seen before needs no Elasticsearch.
//!
//! A filter looks at one document alone ([`DocFilter`]), and within a history of a shard a `_seq_no` names
//! one version of one document for ever. So what Elasticsearch said of a version stays said, and a filter
//! is a set of numbers ([`numbers`]). Numbers of versions that are gone, or not published yet, do no harm
//! in it. What must hold is this: *whatever a search can see was judged*, by every filter that it may use.
//!
//! How a set begins ([`fetch`]): it is registered; then a point in time P is opened on the followed copy and
//! everything that matches there is read; then, with the first pull published whose point in time Q was
//! opened after P, it may be used. Every pull whose point in time was opened after a set was registered
//! asks Elasticsearch, in that point in time, which of the documents that it stages match ([`increments`]),
//! and only then publishes. Why nothing is missing: a version that the view of pull Q shows was staged by Q
//! or by a pull opened after P, and was judged by it; or it was staged by a pull opened before P, and is
//! still shown by Q. Copies go forward only, so P showed it too, and it was read there.
//!
//! "What a pull stages" is everything above the numbers seen before (one range), and what came late, in gaps
//! below: that is noted as it is staged ([`ShardFilters::owe`]) and asked for by number. It stays
//! noted until it was asked for, however many pulls fail in between.
//!
//! A search reads the count of publications, then loads the view, then the set, and takes it only if the
//! first publication of which the set is right was counted. So the view is not older; and since sets grow
//! before views are published, it is not too new.
//!
//! All of this is said of one incarnation of one copy: sets are forgotten when another one is followed, when a
//! shard goes back in time, and while a field is learnt for the first time. Mapping and analysis are
//! part of what a [`DocFilter`] is: where they change, it is another filter. After a shrink two
//! documents of one shard may have one number; then no filter is kept.
//!
//! What is worth fetching decides [`admission`]; what stays, [`keeper`]. Nothing is written to disk.

mod admission;
mod cached;
mod fetch;
mod increments;
mod keeper;
mod metrics;
mod numbers;
mod slots;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use es_wire::DocFilter;
use knn_types::{KnnIndex, KnnView, SlotFilter};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, Semaphore};

use crate::context::Context;
use crate::registry::IndexEntry;
use admission::{Admission, Doorkeeper};
use cached::Cached;

pub(crate) use cached::IndexFilters;
pub(crate) use keeper::run;
pub(crate) use metrics::FilterMetrics;
pub(crate) use numbers::{Numbers, Pulling, ShardFilters};

/// Shards of which filters are read at the same time, and filters that may be under way.
const FETCHES: usize = 2;
const MOST_UNDER_WAY: usize = 64;
/// A set may be replaced, or become right, between two looks; then it is looked at again.
const LOOKS: usize = 3;
/// A filter that cannot be used for reasons that do not pass is refused for so long, in milliseconds.
const UNUSABLE: u64 = 600_000;

/// One shard of a field, to be searched under a filter.
#[derive(Clone)]
pub struct FilteredShard {
    /// The newest published state.
    pub view: Arc<dyn KnnView>,
    /// What the filter lets through of it, all of it.
    pub filter: Arc<dyn SlotFilter>,
}

/// Whether a search under a filter can be answered.
#[derive(Clone)]
pub enum Filtered {
    /// By these, in shard order.
    Ready(Vec<FilteredShard>),
    /// What the filter lets through is not known yet. It is being read, or will be if it is asked for again.
    Unknown,
    /// It is not going to be known for a while.
    Refused,
}

impl Filtered {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Ready(_) => "hit",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
        }
    }
}

/// What all indices share.
pub(crate) struct FilterCache {
    budget: u64,
    began: Instant,
    hasher: RandomState,
    doorkeeper: Mutex<Doorkeeper>,
    fetches: Semaphore,
    under_way: AtomicUsize,
    /// Of the worth of filters, as bits; see [`Cached::worth`].
    floor: AtomicU64,
    /// Something was fetched or made.
    changed: Notify,
    pub(crate) metrics: FilterMetrics,
}

impl FilterCache {
    pub(crate) fn new(budget: u64, registry: &mut Registry) -> Self {
        Self {
            budget,
            began: Instant::now(),
            hasher: RandomState::new(),
            doorkeeper: Mutex::default(),
            fetches: Semaphore::new(FETCHES),
            under_way: AtomicUsize::new(0),
            floor: AtomicU64::new(0),
            changed: Notify::new(),
            metrics: FilterMetrics::register(registry, budget),
        }
    }

    fn budget(&self) -> u64 {
        self.budget
    }

    /// Milliseconds of the clock of everything here.
    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn hash(&self, uuid: &str, filter: &DocFilter) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(uuid.as_bytes());
        hasher.write(filter.query().as_bytes());
        hasher.finish()
    }

    fn floor(&self) -> f64 {
        f64::from_bits(self.floor.load(Ordering::Relaxed))
    }

    fn raise_floor(&self, worth: f64) {
        if worth > self.floor() {
            self.floor.store(worth.to_bits(), Ordering::Relaxed);
        }
    }

    fn ban(&self, uuid: &str, filter: &DocFilter, now: u64) {
        self.doorkeeper.lock().ban(self.hash(uuid, filter), now);
    }
}

/// What may be searched under `filter`. `indexes` are those of the field, in shard order.
pub(crate) async fn ask(
    ctx: &Arc<Context>,
    entry: &Arc<IndexEntry>,
    indexes: &[Arc<dyn KnnIndex>],
    field: &str,
    filter: &DocFilter,
) -> Filtered {
    let found = look_up(ctx, entry, indexes, field, filter).await;
    ctx.filters.metrics.asked(found.outcome());
    found
}

async fn look_up(
    ctx: &Arc<Context>,
    entry: &Arc<IndexEntry>,
    indexes: &[Arc<dyn KnnIndex>],
    field: &str,
    filter: &DocFilter,
) -> Filtered {
    let cache = &ctx.filters;
    if cache.budget == 0 {
        return Filtered::Refused;
    }
    let now = cache.now();
    let Some(cached) = entry.filters.get(filter) else {
        return admit(ctx, entry, filter, now);
    };
    cached.used(now, cache.floor());
    if cached.is_refused(now) {
        return Filtered::Refused;
    }
    let mut shards = Vec::with_capacity(indexes.len());
    for (shard, index) in indexes.iter().enumerate() {
        let Some((view, numbers)) = right_now(entry, &cached, shard, index) else {
            return if fetch(ctx, entry, &cached, None) { Filtered::Unknown } else { Filtered::Refused };
        };
        match numbers.slots(field, &view, &ctx.runtime).await {
            Ok(made) => {
                if made.is_new {
                    cache.changed.notify_one();
                }
                shards.push(FilteredShard { view, filter: made.filter });
            }
            Err(error) => {
                tracing::warn!(index = %entry.info.load().name, shard, %filter, %error, "a filter cannot be used");
                cached.refuse_until(now + UNUSABLE);
                cached.clear(&entry.shards);
                return Filtered::Refused;
            }
        }
    }
    Filtered::Ready(shards)
}

/// A view and a set that is right for it.
fn right_now(
    entry: &IndexEntry,
    cached: &Cached,
    shard: usize,
    index: &Arc<dyn KnnIndex>,
) -> Option<(Arc<dyn KnnView>, Arc<Numbers>)> {
    let filters = &entry.shards.get(shard)?.filters;
    for _ in 0..LOOKS {
        let publications = filters.publications();
        let view = index.view();
        let numbers = cached.numbers(shard)?;
        if numbers.is_right_after(publications) {
            return Some((view, numbers));
        }
    }
    None
}

/// A filter that is not remembered was asked for.
fn admit(ctx: &Arc<Context>, entry: &Arc<IndexEntry>, filter: &DocFilter, now: u64) -> Filtered {
    let cache = &ctx.filters;
    let admission = cache.doorkeeper.lock().ask(cache.hash(&entry.uuid, filter), now);
    let speculation = match admission {
        Admission::Refused => return Filtered::Refused,
        Admission::Wait => return Filtered::Unknown,
        Admission::Fetch { speculative } => {
            speculative.then(|| Speculation { ctx: Arc::clone(ctx), began: cache.now() })
        }
    };
    let cached = entry.filters.get_or_insert(filter, entry.shards.len(), now);
    cached.used(now, cache.floor());
    if fetch(ctx, entry, &cached, speculation) { Filtered::Unknown } else { Filtered::Refused }
}

/// A fetch at first sight; when it is over, however it ends, the doorkeeper hears of it.
struct Speculation {
    ctx: Arc<Context>,
    began: u64,
}

impl Drop for Speculation {
    fn drop(&mut self) {
        let now = self.ctx.filters.now();
        self.ctx.filters.doorkeeper.lock().speculated(now - self.began, now);
    }
}

/// Has what is wanted of a filter read in the background, unless that is under way. False where too many
/// others are under way.
fn fetch(
    ctx: &Arc<Context>,
    entry: &Arc<IndexEntry>,
    cached: &Arc<Cached>,
    speculation: Option<Speculation>,
) -> bool {
    let cache = &ctx.filters;
    if entry.cancel.is_cancelled() || !cached.begin_fetch() {
        return true;
    }
    if cache.under_way.fetch_add(1, Ordering::AcqRel) >= MOST_UNDER_WAY {
        cache.under_way.fetch_sub(1, Ordering::AcqRel);
        cached.end_fetch(None);
        return false;
    }
    let (ctx, of_entry, cached) = (Arc::clone(ctx), Arc::clone(entry), Arc::clone(cached));
    let runtime = ctx.runtime.clone();
    let fetching = async move {
        tokio::select! {
            () = fetch_now(&ctx, &of_entry, &cached) => {}
            () = of_entry.cancel.cancelled() => cached.end_fetch(None),
        }
        drop(speculation);
        ctx.filters.under_way.fetch_sub(1, Ordering::AcqRel);
        ctx.filters.changed.notify_one();
    };
    entry.tasks.spawn_on(fetching, &runtime);
    true
}

async fn fetch_now(ctx: &Arc<Context>, entry: &Arc<IndexEntry>, cached: &Cached) {
    let cache = &ctx.filters;
    let began = Instant::now();
    let fetched = fetch::run(ctx, entry, cached).await;
    let took = began.elapsed();
    let name = || entry.info.load().name.to_string();
    match &fetched {
        Ok(documents) => {
            cache.metrics.fetched_documents.inc_by(*documents);
            tracing::debug!(index = name(), filter = %cached.filter(), documents, ?took, "a filter is remembered");
        }
        Err(error) => {
            tracing::debug!(index = name(), filter = %cached.filter(), %error, "a filter could not be fetched");
            if let Some(penalty) = fetch::penalty(error) {
                cached.refuse_until(cache.now() + penalty.as_millis() as u64);
            }
        }
    }
    cache.metrics.fetched(fetch::outcome(&fetched), took);
    cached.end_fetch(Some(took.as_micros() as u64));
}
