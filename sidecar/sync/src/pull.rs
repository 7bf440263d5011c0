//! One pull: what one refresh of one shard shows, staged, audited, published as one epoch per field.
//!
//! In order: learn the primary term, open the indexes of the fields, open a point in time, read what
//! is newer than anything seen, look again at what a gap may hide, compare counts, publish.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::future::try_join_all;
use knn_types::{Epoch, IndexKey, SeqNo};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::audit::{Depth, Differences};
use crate::build;
use crate::context::Context;
use crate::filters::Pulling;
use crate::pages::{Fields, PullError, Reader, exists};
use crate::pit::Pit;
use crate::registry::IndexEntry;
use crate::report::{AgreementReport, AuditReport};
use crate::response::{self, StateTerms};
use crate::shard::{FieldIndex, Plan, Progress, Shard};
use crate::upkeep::Upkeep;
use crate::upstream::{UpstreamError, encoded};

/// Fields read in one search; `index.max_docvalue_fields_search` is 100 by default.
const FIELDS_AT_ONCE: usize = 50;

/// Where a field stands before the pull.
struct Start {
    field: Arc<FieldIndex>,
    /// Up to here nothing is missing.
    cursor: i64,
    /// Above here nothing was read.
    read_up_to: i64,
    /// Highest term that the index knows.
    term: u64,
    /// How closely to look at what was read before.
    doubt: Doubt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// Empty: nothing was read before.
    Nothing,
    /// What lies between the cursor and the highest number seen may have gaps.
    Gaps,
    /// A fail-over or an interrupted build: all of it.
    All,
    /// As All, and nothing tells what a fail-over may have lost.
    Each,
}

/// A pull from start to end, with its place in the queue and its bookkeeping.
pub(crate) async fn run(ctx: Arc<Context>, entry: Arc<IndexEntry>, shard: Arc<Shard>) {
    match pull_in_turn(&ctx, &entry, &shard).await {
        Ok(()) | Err(PullError::Cancelled) => {}
        Err(PullError::BuildCancelled) => {
            shard.state.lock().progress = None;
            tracing::info!(index = %entry.info.load().name, shard = shard.number, "the first build is cancelled");
        }
        Err(error) => note_failure(&ctx, &entry, &shard, error),
    }
    shard.state.lock().pulling = false;
    ctx.reschedule.notify_one();
}

fn note_failure(ctx: &Context, entry: &IndexEntry, shard: &Shard, error: PullError) {
    let mut state = shard.state.lock();
    state.failed(Instant::now(), ctx.config.retry_max);
    state.progress = None;
    match &error {
        PullError::Engine(_) | PullError::Blocking(_) => {
            ctx.metrics.error("engine");
            state.broken = true;
        }
        PullError::Rewound(field) => {
            // The rest of the shard is unharmed: only this field starts from zero.
            shard.filters.forget_all();
            state.fields.remove(&field.key.field);
            state.pull_again();
            ctx.engine.remove(&field.key);
        }
        PullError::Upstream(_) | PullError::Cancelled | PullError::BuildCancelled => {
            ctx.metrics.error("pull")
        }
    }
    drop(state);
    entry.refresh_states();
    tracing::warn!(index = %entry.info.load().name, shard = shard.number, %error, "a pull failed; it is tried again");
}

async fn pull_in_turn(
    ctx: &Arc<Context>,
    entry: &Arc<IndexEntry>,
    shard: &Arc<Shard>,
) -> Result<(), PullError> {
    // First builds are long and must not keep the changes of other shards waiting.
    let built = shard.state.lock().shown.is_some();
    let places: &Semaphore = if built { &ctx.changes } else { &ctx.first_builds };
    let place = tokio::select! {
        place = places.acquire() => place,
        () = entry.cancel.cancelled() => return Err(PullError::Cancelled),
    };
    let Ok(_place) = place else { return Err(PullError::Cancelled) };

    let Some(mut plan) = shard.state.lock().plan() else { return Ok(()) };
    let term = match plan.term {
        Some(term) => term,
        None => {
            let term = read_term(ctx, entry, shard.number).await?;
            let mut state = shard.state.lock();
            // Only if the copy is still the one that was asked about.
            match state.plan() {
                Some(now) if now.at.incarnation == plan.at.incarnation => {
                    state.term = Some(term);
                    plan = now;
                }
                _ => return Ok(()),
            }
            term
        }
    };
    let fields = open_fields(ctx, entry, shard, &plan.primary.history_uuid).await?;
    let all_built = fields.iter().all(|field| field.built.load(Ordering::Acquire));
    let pulling = shard.filters.begin_pull(plan.at.incarnation, all_built);
    let pit = Pit::open(ctx, &entry.info.load().name, shard.number, &plan.primary.node).await?;
    // What it shows was written before: where that passed by, it is held soon.
    ctx.acknowledgements.settle().await;
    let reader = Reader::new(ctx, entry, shard, pit);
    let outcome = tokio::select! {
        outcome = follow(&reader, fields, &plan, term, &pulling) => outcome,
        () = entry.cancel.cancelled() => Err(PullError::Cancelled),
        () = build_cancelled(entry, built) => Err(PullError::BuildCancelled),
    };
    // Not waited for: what was published is published.
    ctx.tasks.spawn(async move { reader.pit.close().await });
    outcome
}

/// Returns when a pull should end because it is a first build and somebody cancelled that.
async fn build_cancelled(entry: &IndexEntry, built: bool) {
    if built {
        return std::future::pending().await;
    }
    // The sender lives as long as the entry.
    let _ = entry.build_cancelled.subscribe().wait_for(|cancelled| *cancelled).await;
}

async fn read_term(ctx: &Context, entry: &IndexEntry, shard: u32) -> Result<u64, PullError> {
    let name = Arc::clone(&entry.info.load().name);
    let path =
        format!("/_cluster/state/metadata/{}?filter_path=metadata.indices.*.primary_terms", encoded(&name));
    let state: StateTerms = response::json(&ctx.upstream.get(&path).await?)?;
    let terms = state.metadata.indices.get(&*name).map(|index| &index.primary_terms);
    let term = terms.and_then(|terms| terms.get(&shard.to_string())).copied();
    Ok(term.ok_or_else(|| UpstreamError::Unreadable("the cluster state names no primary term".to_owned()))?)
}

/// Opens what the catalog names on the history that is followed now, and lets go of everything else.
async fn open_fields(
    ctx: &Arc<Context>,
    entry: &Arc<IndexEntry>,
    shard: &Arc<Shard>,
    history: &Arc<str>,
) -> Result<Vec<Arc<FieldIndex>>, PullError> {
    let info = entry.info.load_full();
    let mut let_go = Vec::new();
    {
        let mut state = shard.state.lock();
        let rewritten = state.history.as_ref().is_some_and(|known| known != history);
        state.history = Some(Arc::clone(history));
        state.fields.retain(|name, field| {
            let wanted = info.fields.get(name);
            let wanted = wanted.filter(|wanted| wanted.readable);
            let keep = !rewritten && wanted.is_some_and(|wanted| wanted.spec == field.spec);
            if !keep {
                let_go.push((Arc::clone(field), rewritten || wanted.is_none()));
            }
            keep
        });
    }
    if !let_go.is_empty() {
        entry.refresh_states();
    }
    for (field, remove) in let_go {
        tracing::info!(index = %field.key, remove, "let go: another history, other options, or no longer ours");
        if remove {
            let engine = Arc::clone(&ctx.engine);
            entry.tasks.spawn_blocking(move || engine.remove(&field.key)).await?;
        }
    }
    let outlived: Vec<IndexKey> = entry
        .earlier
        .lock()
        .extract_if(.., |key| key.shard == shard.number)
        .filter(|key| key.history_uuid != *history)
        .collect();
    if !outlived.is_empty() {
        let engine = Arc::clone(&ctx.engine);
        entry.tasks.spawn_blocking(move || outlived.iter().for_each(|key| engine.remove(key))).await?;
    }
    for (name, wanted) in info.fields.iter().filter(|(_, wanted)| wanted.readable) {
        if shard.state.lock().fields.contains_key(name) {
            continue;
        }
        let key = IndexKey {
            index_uuid: Arc::clone(&info.uuid),
            shard: shard.number,
            history_uuid: Arc::clone(history),
            field: Arc::clone(name),
        };
        let engine = Arc::clone(&ctx.engine);
        let (opened, spec) = (key.clone(), wanted.spec);
        let index = entry.tasks.spawn_blocking(move || engine.open(&opened, &spec)).await??;
        let field = FieldIndex {
            key,
            spec,
            similarity: wanted.similarity,
            nested: wanted.nested.clone(),
            index,
            built: AtomicBool::new(false),
            last_audit: Mutex::default(),
            last_agreement: Mutex::default(),
            upkeep: Mutex::new(Upkeep::default()),
            attended: tokio::sync::Mutex::default(),
        };
        shard.state.lock().fields.insert(Arc::clone(name), Arc::new(field));
    }
    Ok(shard.state.lock().fields.values().cloned().collect())
}

/// Everything between opening and closing the point in time.
async fn follow(
    reader: &Arc<Reader>,
    fields: Vec<Arc<FieldIndex>>,
    plan: &Plan,
    term: u64,
    pulling: &Pulling,
) -> Result<(), PullError> {
    let kept = reader.shard.filters.kept();
    let counts = try_join_all(fields.iter().map(|field| reader.count(field.present()))).await?;
    let mut starts = Vec::with_capacity(fields.len());
    for field in &fields {
        starts.push(prepare(reader, field, plan, term).await?);
    }
    if starts.iter().any(|start| start.read_up_to < 0 || start.doubt == Doubt::All) {
        let total = counts.iter().copied().max().unwrap_or(0);
        let done = fields.iter().map(|field| field.index.live()).min().unwrap_or(0).min(total);
        let progress = Progress { before: done, done, total, since: Instant::now() };
        reader.shard.state.lock().progress = Some(progress);
    }

    let judged_up_to = starts.iter().map(|start| start.read_up_to).min().unwrap_or(-1);
    reader.judged_up_to(judged_up_to);
    let learn = async {
        let max_seq_no = learn_new(reader, &starts, plan, term).await?;
        reader.apply_deletions(&fields).await?;
        let mut equal = true;
        for (start, count) in starts.iter().zip(&counts) {
            equal &= check(reader, start, *count, max_seq_no).await?;
        }
        Ok::<_, PullError>((max_seq_no, equal))
    };
    let judge = async {
        reader.judge_above(&kept, judged_up_to).await;
        Ok(())
    };
    let ((max_seq_no, equal), ()) = tokio::try_join!(learn, judge)?;
    reader.judge_owed(&kept).await;
    // Where no mapping ignores values nobody looks, so a mapping that comes to do so finds "not known".
    let any_ignored = !reader.entry.info.load().may_ignore || reader.count(exists("_ignored")).await? > 0;
    reader.shard.any_ignored.store(any_ignored, Ordering::Release);
    publish(reader, starts, plan, term, max_seq_no, equal).await?;
    let all_built = reader.shard.state.lock().is_built();
    reader.shard.filters.published(pulling, &kept, all_built);
    reader.ctx.published.send_modify(|count| *count += 1);
    Ok(())
}

/// Decides where to begin, and forgets what a fail-over may have lost.
async fn prepare(
    reader: &Arc<Reader>,
    field: &Arc<FieldIndex>,
    plan: &Plan,
    term: u64,
) -> Result<Start, PullError> {
    let epoch = field.index.view().epoch();
    let mut start = Start {
        field: Arc::clone(field),
        cursor: epoch.cursor,
        read_up_to: epoch.max_seq_no,
        term: epoch.primary_term,
        doubt: Doubt::Gaps,
    };
    if build::unfinished(&epoch) {
        start.doubt = match field.index.live() {
            0 => Doubt::Nothing,
            _ if epoch.primary_term == term => Doubt::All,
            // A fail-over may have given the numbers of what was read to other documents.
            _ => Doubt::Each,
        };
        return Ok(start);
    }
    if term > epoch.primary_term {
        let kept = plan.checkpoint_before.unwrap_or(-1).max(epoch.cursor).min(epoch.max_seq_no);
        tracing::info!(index = %field.key, term, before = epoch.primary_term, kept, "another primary");
        if let Ok(seq_no) = u64::try_from(kept) {
            let order = SeqNo { primary_term: epoch.primary_term, seq_no };
            let index = Arc::clone(&field.index);
            reader.entry.tasks.spawn_blocking(move || index.rollback_above(order)).await??;
            start.read_up_to = kept;
            start.doubt = Doubt::All;
        } else {
            start.doubt = Doubt::Each;
        }
    }
    if plan.primary.max_seq_no < start.read_up_to && start.doubt == Doubt::Gaps {
        // Same history and term, but numbers went back: nothing that we hold can be trusted.
        return Err(PullError::Rewound(Arc::clone(field)));
    }
    start.read_up_to = start.read_up_to.min(plan.primary.max_seq_no);
    Ok(start)
}

/// Reads everything above what was read before; fields that stand at the same place share a pass.
/// Returns the highest `_seq_no` that is now known.
async fn learn_new(reader: &Arc<Reader>, starts: &[Start], plan: &Plan, term: u64) -> Result<i64, PullError> {
    let mut groups: BTreeMap<i64, Vec<Arc<FieldIndex>>> = BTreeMap::new();
    for start in starts {
        groups.entry(start.read_up_to).or_default().push(Arc::clone(&start.field));
    }
    let mut max_seq_no = plan.primary.max_seq_no.min(plan.shown_by_then.unwrap_or(-1));
    if starts.iter().any(|start| start.read_up_to < 0 && start.doubt != Doubt::Nothing) {
        // What an interrupted build holds may have any number.
        max_seq_no = plan.primary.max_seq_no;
    }
    for (read_up_to, fields) in groups {
        max_seq_no = max_seq_no.max(read_up_to);
        let expected = (plan.primary.max_seq_no - read_up_to).max(0) as u64;
        for fields in fields.chunks(FIELDS_AT_ONCE) {
            let fields: Fields = fields.into();
            // An empty index that is searched already must not show parts of what comes.
            let searched = fields.iter().all(|field| field.built.load(Ordering::Acquire));
            let learnt = if read_up_to < 0 && !searched {
                build::read(reader, &fields, plan, term).await?
            } else {
                reader.learn_above(read_up_to, expected, &fields).await?
            };
            max_seq_no = max_seq_no.max(learnt);
        }
    }
    Ok(max_seq_no)
}

/// Looks again where doubt is, then compares the number of documents; closer and closer while it
/// differs. Returns whether it agrees in the end.
async fn check(reader: &Arc<Reader>, start: &Start, count: u64, max_seq_no: i64) -> Result<bool, PullError> {
    let (field, metrics) = (&start.field, &reader.ctx.metrics);
    let end = (max_seq_no + 1) as u64;
    let mut found = Differences::default();
    found += match start.doubt {
        Doubt::Nothing => Differences::default(),
        Doubt::Gaps => {
            let gaps = (start.cursor + 1) as u64..(start.read_up_to + 1) as u64;
            metrics.gap_checks.inc_by(u64::from(!gaps.is_empty()));
            reader.audit(field, gaps, Depth::Sums).await?
        }
        Doubt::All | Doubt::Each => {
            let depth = if start.doubt == Doubt::All { Depth::Sums } else { Depth::Listing };
            metrics.audits.inc();
            reader.audit(field, 0..end, depth).await?
        }
    };
    for depth in [Depth::Counts, Depth::Sums, Depth::Listing] {
        if field.index.live() == count {
            break;
        }
        metrics.audits.inc();
        found += reader.audit(field, 0..end, depth).await?;
    }
    let live = field.index.live();
    let equal = live == count;
    if equal {
        *field.last_agreement.lock() = Some(AgreementReport::now(live));
    } else {
        metrics.audits_unequal.inc();
        tracing::warn!(index = %field.key, live, shown = count, "an audit did not end equal; it is tried again");
    }
    let Differences { missing, extra, stale } = found;
    *field.last_audit.lock() = Some(AuditReport { missing, extra, stale, equal });
    Ok(equal)
}

async fn publish(
    reader: &Arc<Reader>,
    starts: Vec<Start>,
    plan: &Plan,
    term: u64,
    max_seq_no: i64,
    equal: bool,
) -> Result<(), PullError> {
    let (ctx, entry, shard) = (&reader.ctx, &reader.entry, &reader.shard);
    let fields: Vec<Arc<FieldIndex>> = starts.iter().map(|start| Arc::clone(&start.field)).collect();
    let shown_by_then = plan.shown_by_then.unwrap_or(-1);
    let passed = starts.iter().map(|start| start.cursor.max(shown_by_then).min(max_seq_no)).min();
    let publish = move || {
        starts.into_iter().try_for_each(|start| {
            let cursor = start.cursor.max(shown_by_then).min(max_seq_no);
            start.field.index.publish(Epoch { cursor, max_seq_no, primary_term: term.max(start.term) })
        })
    };
    entry.tasks.spawn_blocking(publish).await??;

    shard.written.lock().passed(passed.unwrap_or(-1));
    let now = Instant::now();
    let newly_built = {
        let mut state = shard.state.lock();
        // A sleeping index that was pulled for its debt waited for nobody.
        if let Some(since) = state.moved_at {
            ctx.metrics.publish_latency.observe(now.duration_since(since).as_secs_f64());
        }
        let was_broken = state.broken;
        let complete = state.pulled(plan, equal, now);
        let newly =
            fields.iter().filter(|field| complete && !field.built.swap(true, Ordering::AcqRel)).count();
        newly > 0 || was_broken != state.broken
    };
    fields.iter().for_each(|field| field.upkeep.lock().published());
    if newly_built {
        entry.refresh_states();
        if entry.ready() {
            // The first build searched Elasticsearch, so its shards are awake, and so are we.
            entry.activity.searched();
            tracing::info!(index = %entry.info.load().name, "all shards are searchable");
        }
    }
    ctx.metrics.pulls.inc();
    ctx.upkeep.notify_one();
    Ok(())
}
