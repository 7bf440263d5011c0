//! Keeps the catalog equal to the cluster state: a cheap look at its version, a whole read when it
//! changed or when the proxy says that it let a change pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use es_wire::{CATALOG_PATHS, Capabilities, Catalog};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;

use crate::aliases;
use crate::context::Context;
use crate::node::{self, NodeInfo, Openness, Security};
use crate::registry::{Departed, IndexEntry};
use crate::response::{self, StateTerms, StateTicker};
use crate::restore;
use crate::upkeep;
use crate::upstream::UpstreamError;

const TICKER: &str = "/_cluster/state/version,blocks?filter_path=version,blocks.global";
const TERMS: &str = "/_cluster/state/metadata?filter_path=metadata.indices.*.primary_terms";

/// Callers who wait for a read that begins after they called.
#[derive(Default)]
pub(crate) struct Invalidations {
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
    called: Notify,
    again: AtomicBool,
}

impl Invalidations {
    /// The catalog is to be read anew, and nobody waits.
    pub(crate) fn look_again(&self) {
        self.again.store(true, Ordering::Release);
        self.called.notify_one();
    }

    /// Returns when the catalog was read anew.
    pub(crate) async fn read_again(&self) {
        let (done, read) = oneshot::channel();
        self.waiting.lock().push(done);
        self.called.notify_one();
        // An error means shutdown: nobody reads any more, and nobody needs to wait.
        let _ = read.await;
    }
}

/// Runs until shutdown.
pub(crate) async fn run(ctx: Arc<Context>) {
    let mut seen = None;
    let mut failures = 0u32;
    loop {
        let waiting = std::mem::take(&mut *ctx.invalidations.waiting.lock());
        let asked = ctx.invalidations.again.swap(false, Ordering::AcqRel) || !waiting.is_empty();
        match look(&ctx, &mut seen, asked).await {
            Ok(()) => {
                failures = 0;
                for done in waiting {
                    // Whoever gave up waiting needs no answer.
                    let _ = done.send(());
                }
            }
            Err(error) => {
                ctx.metrics.error("catalog");
                ctx.node_stale.store(true, Ordering::Release);
                if failures == 0 {
                    tracing::warn!(%error, "the cluster state cannot be read; the known one stays");
                }
                failures = failures.saturating_add(1);
                let still_there = waiting.into_iter().filter(|done| !done.is_closed());
                ctx.invalidations.waiting.lock().extend(still_there);
                ctx.invalidations.again.fetch_or(asked, Ordering::AcqRel);
            }
        }
        let pause = match failures {
            0 => ctx.config.catalog_interval,
            n => (Duration::from_millis(50) * 2u32.saturating_pow(n.min(10))).min(ctx.config.retry_max),
        };
        tokio::select! {
            () = ctx.cancel.cancelled() => break,
            () = sleep(pause) => {}
            () = ctx.invalidations.called.notified(), if failures == 0 => {}
        }
    }
    ctx.invalidations.waiting.lock().clear();
}

async fn look(ctx: &Arc<Context>, seen: &mut Option<i64>, asked: bool) -> Result<(), UpstreamError> {
    if ctx.node_stale.load(Ordering::Acquire) || ctx.node.load().is_none() {
        contact(ctx).await?;
        *seen = None;
    }
    let Some(caps) = ctx.node.load().as_ref().and_then(|node| node.caps) else {
        // Nobody has looked at this version: nothing is adopted, everything passes.
        adopt(ctx, Catalog::empty());
        return Ok(());
    };
    let ticker: StateTicker = response::json(&ctx.upstream.get(TICKER).await?)?;
    if !ticker.recovered() {
        return Err(UpstreamError::Unreadable("the cluster state is not recovered yet".to_owned()));
    }
    if *seen == Some(ticker.version) && !asked {
        return Ok(());
    }
    let mut catalog = read(ctx, &caps).await?;
    // A node that restarted between the two requests shows an older, maybe empty, state.
    if catalog.version < ticker.version {
        return Err(UpstreamError::Unreadable("the cluster state went back".to_owned()));
    }
    *seen = Some(catalog.version);
    let terms: StateTerms = response::json(&ctx.upstream.get(TERMS).await?)?;
    let lost = restore::carry_over(ctx, &mut catalog);
    adopt(ctx, catalog);
    restore::begin(ctx, lost);
    check_terms(ctx, &terms);
    Ok(())
}

async fn contact(ctx: &Context) -> Result<(), UpstreamError> {
    // Cleared first: whoever loses the connection meanwhile sets it again.
    ctx.node_stale.store(false, Ordering::Release);
    let contact = node::contact(&ctx.upstream, &ctx.config.allow_versions).await;
    let openness = Openness::of(&contact);
    if openness != Openness::Unknown {
        ctx.openness.send_if_modified(|known| std::mem::replace(known, openness) != openness);
    }
    match contact {
        Ok(info) => {
            let before = ctx.node.swap(Some(Arc::new(info.clone())));
            if before.as_deref() != Some(&info) {
                tracing::info!(version = %info.version, known = info.caps.is_some(), security = ?info.security, "Elasticsearch answers");
                if info.security == Security::Absent {
                    tracing::warn!(
                        "Elasticsearch has no security: whoever reaches its port or ours may read and change everything"
                    );
                }
            }
            Ok(())
        }
        Err(error) => {
            ctx.node_stale.store(true, Ordering::Release);
            ctx.metrics.error("contact");
            if openness == Openness::Guarded {
                guard(ctx);
            }
            Err(error)
        }
    }
}

/// Elasticsearch asks who we are, and does not take us for anybody. Where it had no security when we met it, it has now:
/// what was known must let nobody in to whom it would not answer.
fn guard(ctx: &Context) {
    let open = ctx.node.load_full().filter(|known| known.security == Security::Absent);
    let Some(open) = open else { return };
    tracing::error!(
        "Elasticsearch has security now and refuses us: nothing is answered here without asking it about the caller, and \
         nothing is learnt until upstream_auth has credentials that it knows"
    );
    ctx.node.store(Some(Arc::new(NodeInfo { security: Security::Present, ..NodeInfo::clone(&open) })));
}

async fn read(ctx: &Context, caps: &Capabilities) -> Result<Catalog, UpstreamError> {
    let aliases = async {
        match ctx.upstream.get(CATALOG_PATHS[1]).await {
            Err(error) if error.is_block() => aliases::around_blocks(&ctx.upstream).await,
            answer => answer,
        }
    };
    let (state, aliases) = tokio::try_join!(ctx.upstream.get(CATALOG_PATHS[0]), aliases)?;
    let (caps, patterns) = (*caps, ctx.config.adopt.clone());
    let parse = move || -> Result<Catalog, UpstreamError> {
        let text =
            |bytes| String::from_utf8(bytes).map_err(|error| UpstreamError::Unreadable(error.to_string()));
        Catalog::parse_adopting(&text(state)?, &text(aliases)?, &caps, &patterns)
            .map_err(|error| UpstreamError::Unreadable(error.to_string()))
    };
    // Large clusters have states of many megabytes.
    tokio::task::spawn_blocking(parse).await.map_err(|error| UpstreamError::Unreadable(error.to_string()))?
}

/// Swaps the catalog and follows it. When this returns, every field of the catalog is known to
/// [`crate::Sync::field`], if only as being built.
fn adopt(ctx: &Arc<Context>, catalog: Catalog) {
    tell_left(&ctx.catalog.load(), &catalog);
    let departed = ctx.registry.reconcile(&catalog, ctx.config.search_idle_after, &ctx.cancel);
    ctx.catalog.store(Arc::new(catalog));
    ctx.catalog_read.store(true, Ordering::Release);
    ctx.reschedule.notify_one();
    ctx.poll_now.notify_one();
    depart(ctx, departed);
}

/// An operator must hear of an index that is left to Elasticsearch, once.
fn tell_left(before: &Catalog, now: &Catalog) {
    for index in now.adopted() {
        let Some(left) = index.left else { continue };
        if before.index(&index.name).is_none_or(|known| known.uuid != index.uuid || known.left != index.left)
        {
            tracing::warn!(index = %index.name, reason = %left, "left to Elasticsearch: it cannot be followed");
        }
    }
}

/// Ends the following of what is gone: waiters go free, pulls end, then files go or stay.
fn depart(ctx: &Arc<Context>, departed: Departed) {
    for entry in departed.gone.iter().chain(&departed.closed) {
        entry.shards.iter().for_each(|shard| shard.state.lock().departed = true);
        entry.tasks.close();
    }
    ctx.published.send_modify(|count| *count += 1);
    for entry in departed.closed {
        let closing = Arc::clone(ctx);
        ctx.tasks.spawn(async move {
            entry.tasks.wait().await;
            upkeep::last_snapshots(&closing, &entry).await;
            tracing::info!(index = %entry.info.load().name, "closed or left to Elasticsearch: no longer followed, files stay");
            follow_again(&closing, &entry);
        });
    }
    for entry in departed.gone {
        let leaving = Arc::clone(ctx);
        ctx.tasks.spawn(async move { remove(leaving, entry).await });
    }
    if !departed.gone_keys.is_empty() {
        let engine = Arc::clone(&ctx.engine);
        ctx.tasks.spawn_blocking(move || departed.gone_keys.iter().for_each(|key| engine.remove(key)));
    }
}

async fn remove(ctx: Arc<Context>, entry: Arc<IndexEntry>) {
    entry.tasks.wait().await;
    let keys = entry.keys();
    let engine = Arc::clone(&ctx.engine);
    let removal = tokio::task::spawn_blocking(move || keys.iter().for_each(|key| engine.remove(key)));
    if let Err(panic) = removal.await {
        ctx.metrics.error("engine");
        tracing::error!(%panic, "removing an index failed");
    }
    tracing::info!(index = %entry.info.load().name, uuid = %entry.uuid, "gone: its files are removed");
    follow_again(&ctx, &entry);
}

/// It may be back in the catalog already: then only the next look follows it.
fn follow_again(ctx: &Context, entry: &IndexEntry) {
    ctx.registry.has_departed(&entry.uuid);
    if ctx.catalog.load().by_uuid(&entry.uuid).is_some() {
        ctx.invalidations.look_again();
    }
}

fn check_terms(ctx: &Context, terms: &StateTerms) {
    for entry in ctx.registry.all() {
        let Some(index) = terms.metadata.indices.get(&*entry.info.load().name) else { continue };
        for shard in &entry.shards {
            if let Some(term) = index.primary_terms.get(&shard.number.to_string()) {
                shard.state.lock().check_term(*term);
            }
        }
    }
}

/// When everything is known once, files of histories that nobody follows any more can go.
pub(crate) async fn sweep_when_ready(ctx: Arc<Context>) {
    let mut published = ctx.published.subscribe();
    let began = Instant::now();
    while !crate::sync::ready(&ctx) {
        tokio::select! {
            () = ctx.cancel.cancelled() => return,
            changed = published.changed() => if changed.is_err() { return },
            () = sleep(Duration::from_secs(1)) => {}
        }
    }
    tracing::info!(seconds = began.elapsed().as_secs_f32(), "all adopted indices are searchable");
    let (catalog, registry) = (ctx.catalog.load_full(), Arc::clone(&ctx));
    let engine = Arc::clone(&ctx.engine);
    let sweep = move || {
        engine.sweep(&|key| {
            let Some(info) = catalog.by_uuid(&key.index_uuid) else { return false };
            let followed = registry.registry.get(&key.index_uuid);
            let history = followed
                .as_ref()
                .and_then(|entry| entry.shards.get(key.shard as usize)?.state.lock().history.clone());
            info.fields.contains_key(&key.field) && history.is_none_or(|history| history == key.history_uuid)
        });
    };
    if let Err(panic) = tokio::task::spawn_blocking(sweep).await {
        ctx.metrics.error("engine");
        tracing::error!(%panic, "sweeping old files failed");
    }
}
