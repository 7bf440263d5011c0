//! Writes that the proxy saw acknowledged, on their way to the engine, which holds them until a refresh
//! shows them ([`crate::confirm`]). A queue bounded in bytes, emptied by one task: what does not fit, or
//! comes for a shard that is not followed, is left to the feed, which finds every write.
//!
//! **Which writes may be used.** The order that Elasticsearch acknowledged (`_seq_no` and primary term,
//! within the history of a shard) names one operation for ever: whichever copy shows a document under that
//! order shows what that operation indexed. A fail-over gives a number away again only under a higher
//! term, and never one that was acknowledged; a restored or re-created shard has another history or uuid.
//! So all that can go wrong is that Elasticsearch indexed something else than the request said. Three
//! things could make it do so, and each shows in the index's settings or mapping:
//!
//! - an ingest pipeline. A bulk response without `ingest_took` proves that none ran. Otherwise
//!   `index.default_pipeline` and `index.final_pipeline` must not have changed between the scan of the
//!   request and the response. Both are settings, and every change of settings raises `settings_version`,
//!   which never comes back. So if a state that was read *after* the response has the version of the scan,
//!   the write ran under that version. The state is asked of the node itself (`local=true`), since a node
//!   applies a new state before the master shows it;
//! - a `copy_to` into a vector field, which could give a document a vector that its request does not have.
//!   A document that brings its own vector would be refused then, so only absences need a look at a later
//!   mapping;
//! - a field that became ours after the scan. It is not among the fields of the write, so its vector is
//!   fetched, as for everything that is not held.
//!
//! Dimensions, element type and similarity of a field never change.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use es_wire::{Acknowledged, Catalog, Wrote};
use knn_types::{Change, ChangeKind, DocKey, SeqNo};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::context::Context;
use crate::registry::IndexEntry;
use crate::response::{self, StateTicker};
use crate::shard::{FieldIndex, Shard};
use crate::upstream::UpstreamError;

/// Writes are gathered for so long, unless a pull waits for them: many are coded faster than one.
const GATHER: Duration = Duration::from_millis(5);
/// A pull waits so long for what was queued before it; then it fetches what it lacks.
const SETTLE: Duration = Duration::from_secs(2);
/// A response may reach us a moment after the refresh that it speaks of was seen.
const LATE: Duration = Duration::from_millis(10);
/// Longest wait for a catalog that proves what a write did.
const PROOF: Duration = Duration::from_secs(2);
/// Bytes of a queued write besides its vectors, about.
const WRITE_BYTES: usize = 200;
/// The state that the node itself has applied.
const LOCAL_STATE: &str = "/_cluster/state/version,blocks?local=true&filter_path=version,blocks.global";

/// See the head of this file.
pub(crate) struct Acknowledgements {
    limit: usize,
    queue: Mutex<Queue>,
    /// Something was queued.
    came: Notify,
    /// A pull waits.
    wanted: Notify,
    /// Batches that were taken care of since the start.
    settled: watch::Sender<u64>,
}

#[derive(Default)]
struct Queue {
    batches: Vec<Vec<Acknowledged>>,
    bytes: usize,
    /// Batches that came since the start.
    came: u64,
}

impl Acknowledgements {
    /// An empty queue for so many bytes.
    pub(crate) fn new(limit: usize) -> Self {
        let (queue, settled) = (Mutex::default(), watch::channel(0).0);
        Self { limit, queue, came: Notify::new(), wanted: Notify::new(), settled }
    }

    /// Queues a batch; false if there is no room for it. Never waits.
    pub(crate) fn offer(&self, writes: Vec<Acknowledged>) -> bool {
        let bytes: usize = writes.iter().map(bytes_of).sum();
        let mut queue = self.queue.lock();
        if queue.bytes + bytes > self.limit {
            return false;
        }
        queue.bytes += bytes;
        queue.came += 1;
        queue.batches.push(writes);
        drop(queue);
        self.came.notify_one();
        true
    }

    fn take(&self) -> (Vec<Acknowledged>, u64) {
        let mut queue = self.queue.lock();
        queue.bytes = 0;
        (std::mem::take(&mut queue.batches).into_iter().flatten().collect(), queue.came)
    }

    /// Returns when everything queued before this call was taken care of, or after a while.
    pub(crate) async fn settle(&self) {
        let came = self.queue.lock().came;
        let mut settled = self.settled.subscribe();
        if *settled.borrow_and_update() >= came {
            return;
        }
        self.wanted.notify_one();
        // Too late: the feed fetches what is not held by then.
        let _ = timeout(SETTLE, settled.wait_for(|settled| *settled >= came)).await;
    }

    /// Returns when something more was taken care of, or after a moment. A response may still be on
    /// its way to us while the refresh that it asked for is shown already.
    pub(crate) async fn settle_late(&self) {
        let mut settled = self.settled.subscribe();
        self.settle().await;
        // None came: they did not pass here.
        let _ = timeout(LATE, settled.changed()).await;
    }
}

fn bytes_of(write: &Acknowledged) -> usize {
    let vectors = match &write.wrote {
        Wrote::Document(fields) => fields.iter().map(|(_, vector)| vector.as_ref().map_or(0, Vec::len)).sum(),
        Wrote::Deletion => 0,
    };
    WRITE_BYTES + write.doc.id.len() + 4 * vectors
}

/// Empties the queue until shutdown.
pub(crate) async fn run(ctx: Arc<Context>) {
    let queue = &ctx.acknowledgements;
    loop {
        tokio::select! {
            () = ctx.cancel.cancelled() => break,
            () = queue.came.notified() => {}
        }
        // Either ends the wait: a pull that waits, or time.
        let _ = timeout(GATHER, queue.wanted.notified()).await;
        let (writes, came) = queue.take();
        take_care(&ctx, writes).await;
        queue.settled.send_replace(came);
    }
    queue.settled.send_replace(u64::MAX);
}

/// Fields of a document and their vectors.
type Vectors = Vec<(Arc<str>, Option<Vec<f32>>)>;

/// What one shard is given.
#[derive(Default)]
struct OfShard {
    documents: Vec<(DocKey, SeqNo, Vectors)>,
    deletions: Vec<(DocKey, SeqNo)>,
}

async fn take_care(ctx: &Arc<Context>, writes: Vec<Acknowledged>) {
    let needs_proof = |write: &Acknowledged| match &write.wrote {
        Wrote::Document(fields) => !write.no_pipeline || fields.iter().any(|(_, vector)| vector.is_none()),
        Wrote::Deletion => false,
    };
    // Everything here was acknowledged before now.
    let now = if writes.iter().any(needs_proof) { catalog_now(ctx).await } else { None };
    let mut shards: HashMap<(Arc<str>, u32), OfShard> = HashMap::new();
    let mut stale = 0;
    for write in writes {
        if needs_proof(&write) && !now.as_ref().is_some_and(|now| still_plain(&write, now)) {
            stale += 1;
            continue;
        }
        let of_shard = shards.entry((Arc::clone(&write.index.uuid), write.shard)).or_default();
        match write.wrote {
            Wrote::Document(fields) => of_shard.documents.push((write.doc, write.order, fields)),
            Wrote::Deletion => of_shard.deletions.push((write.doc, write.order)),
        }
    }
    ctx.metrics.left("stale", stale);
    for ((uuid, number), of_shard) in shards {
        let entry = ctx.registry.get(&uuid).filter(|entry| !entry.cancel.is_cancelled());
        let shard = entry.as_ref().and_then(|entry| entry.shards.get(number as usize));
        match (&entry, shard) {
            (Some(entry), Some(shard)) => give(ctx, entry, shard, of_shard).await,
            _ => ctx.metrics.left("shard", (of_shard.documents.len() + of_shard.deletions.len()) as u64),
        }
    }
}

/// Whether a write was understood under rules that were in force when it ran.
fn still_plain(write: &Acknowledged, now: &Catalog) -> bool {
    now.index(&write.index.name).filter(|index| index.uuid == write.index.uuid).is_some_and(|index| {
        index.writes.settings_version == write.index.writes.settings_version && index.writes.are_plain()
    })
}

/// A catalog that is current at some moment after this call began; `None` if none comes in time.
async fn catalog_now(ctx: &Context) -> Option<Arc<Catalog>> {
    let current = async {
        let ticker: StateTicker = response::json(&ctx.upstream.get(LOCAL_STATE).await?)?;
        if !ticker.recovered() || ticker.version != ctx.catalog.load().version {
            ctx.invalidations.read_again().await;
        }
        Ok::<_, UpstreamError>(ctx.catalog.load_full())
    };
    match timeout(PROOF, current).await {
        Ok(Ok(catalog)) => Some(catalog),
        Ok(Err(error)) => {
            tracing::debug!(%error, "acknowledged writes are left to the feed");
            None
        }
        Err(_) => None,
    }
}

/// Gives the fields of a shard what was written to it.
async fn give(ctx: &Arc<Context>, entry: &Arc<IndexEntry>, shard: &Arc<Shard>, writes: OfShard) {
    let (term, fields) = {
        let state = shard.state.lock();
        let built = state.fields.values().filter(|field| field.built.load(Ordering::Acquire));
        (state.term, built.cloned().collect::<Vec<_>>())
    };
    let count = writes.documents.len() + writes.deletions.len();
    // While the term is in doubt nobody knows whose numbers these are.
    let Some(term) = term.filter(|_| !fields.is_empty()) else {
        return ctx.metrics.left("shard", count as u64);
    };
    let is_current = |order: &SeqNo| order.primary_term >= term;
    let deletions = writes.deletions.into_iter().filter(|(_, order)| is_current(order));
    let (kept, left) = shard.written.lock().remember(deletions, Instant::now());
    ctx.metrics.left("deletions", left);
    let mut changes: Vec<(Arc<FieldIndex>, Vec<Change>)> =
        fields.into_iter().map(|field| (field, Vec::new())).collect();
    let mut taken = 0;
    for (doc, order, vectors) in writes.documents.into_iter().filter(|(_, order, _)| is_current(order)) {
        taken += 1;
        for (name, vector) in vectors {
            let Some((field, changes)) = changes.iter_mut().find(|(field, _)| field.key.field == name) else {
                continue;
            };
            let kind = match vector {
                Some(vector) if vector.len() == field.spec.values() => ChangeKind::Upsert(vector),
                Some(_) => continue,
                None => ChangeKind::Delete,
            };
            changes.push(Change { doc: doc.clone(), order, kind });
        }
    }
    ctx.metrics.left("term", count as u64 - kept - left - taken);
    let hold = move || {
        let filled = changes.into_iter().filter(|(_, changes)| !changes.is_empty());
        filled.into_iter().try_for_each(|(field, changes)| field.index.hold(changes))
    };
    match entry.tasks.spawn_blocking(hold).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            ctx.metrics.error("engine");
            tracing::warn!(index = %entry.info.load().name, %error, "acknowledged writes are left to the feed");
        }
        Err(panic) => {
            ctx.metrics.error("engine");
            tracing::error!(index = %entry.info.load().name, %panic, "holding acknowledged writes failed");
        }
    }
}
