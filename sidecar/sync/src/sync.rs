//! The face of this crate: what the proxy and the binary may ask of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use es_wire::{Acknowledged, Catalog, DocFilter, Resolved};
use knn_types::{BuildState, KnnEngine, Upkeep};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::acknowledged::Acknowledgements;
use crate::barrier::{self, Barriers, Scope};
use crate::build::Pace;
use crate::catalog_watch::{self, Invalidations};
use crate::config::SyncConfig;
use crate::context::Context;
use crate::filters::{FilterCache, Filtered};
use crate::metrics::Metrics;
use crate::node::{NodeInfo, Openness};
use crate::own_call::{self, CallError, Verb};
use crate::registry::{FieldState, IndexEntry, Registry};
use crate::report::{CurveReport, FieldReport, IndexReport, ProgressReport, ShardReport, ShardState};
use crate::restore::Losses;
use crate::shard::{FieldIndex, Shard};
use crate::upkeep::{self, Lane};
use crate::upstream::Upstream;
use crate::{acknowledged, feed, filters, sleep};

/// Longest that shutdown waits for pulls to end.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);

/// What `_stats` says of a field that this version does not give back.
const UNREADABLE: &str =
    "_source is without this field, and Elasticsearch before 8.17 returns vectors in no other way";

/// Follows one cluster and keeps the indexes of its adopted fields equal to what it shows.
pub struct Sync {
    ctx: Arc<Context>,
}

impl Sync {
    /// Begins to follow; spawns on the current tokio runtime. Returns at once: an upstream that is
    /// away is tried again until it comes.
    pub fn start(
        config: SyncConfig,
        engine: Arc<dyn KnnEngine>,
        registry: &mut prometheus_client::registry::Registry,
    ) -> Arc<Self> {
        let places = config.pull_concurrency.max(1);
        let acknowledgements = Acknowledgements::new(config.acknowledged_bytes);
        let ctx = Arc::new(Context {
            upstream: Upstream::new(&config),
            engine,
            metrics: Metrics::register(registry, config.metric_indices),
            pace: Pace::new(config.build_rate),
            node: ArcSwapOption::empty(),
            node_stale: AtomicBool::new(false),
            openness: watch::Sender::default(),
            catalog: ArcSwap::from_pointee(Catalog::empty()),
            catalog_read: AtomicBool::new(false),
            was_ready: AtomicBool::new(false),
            registry: Registry::default(),
            invalidations: Invalidations::default(),
            losses: Losses::default(),
            barriers: Barriers::default(),
            acknowledgements,
            filters: FilterCache::new(config.filter_memory, registry),
            poll_now: Notify::new(),
            reschedule: Notify::new(),
            published: watch::channel(0).0,
            upkeep: Notify::new(),
            first_builds: Semaphore::new(places),
            changes: Semaphore::new(places),
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            config,
        });
        ctx.tasks.spawn(catalog_watch::run(Arc::clone(&ctx)));
        ctx.tasks.spawn(feed::run(Arc::clone(&ctx)));
        ctx.tasks.spawn(acknowledged::run(Arc::clone(&ctx)));
        ctx.tasks.spawn(filters::run(Arc::clone(&ctx)));
        for lane in [Lane::Maintenance, Lane::Files] {
            ctx.tasks.spawn(upkeep::run(Arc::clone(&ctx), lane));
        }
        ctx.tasks.spawn(catalog_watch::sweep_when_ready(Arc::clone(&ctx)));
        Arc::new(Self { ctx })
    }

    /// The newest picture of the cluster.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.ctx.catalog.load_full()
    }

    /// Version, capabilities and security; `None` until first contact.
    pub fn node(&self) -> Option<Arc<NodeInfo>> {
        self.ctx.node.load_full()
    }

    /// Whether Elasticsearch has security, as far as that is known.
    pub fn openness(&self) -> watch::Receiver<Openness> {
        self.ctx.openness.subscribe()
    }

    /// Whether a field can be searched. Cheap: two hash look-ups and the clone of an `Arc`.
    pub fn field(&self, index_uuid: &str, field: &str) -> FieldState {
        self.ctx.registry.field(index_uuid, field)
    }

    /// What may be searched of a field under a filter: its views, each with what the filter lets through. Where
    /// that is not known yet it may be found out because of this question; it does not wait for that.
    pub async fn filtered(&self, index_uuid: &str, field: &str, filter: &DocFilter) -> Filtered {
        let (Some(entry), FieldState::Ready(indexes)) =
            (self.ctx.registry.get(index_uuid), self.ctx.registry.field(index_uuid, field))
        else {
            return Filtered::Refused;
        };
        filters::ask(&self.ctx, &entry, &indexes, field, filter).await
    }

    /// A client searches this index now. True: it is asleep, and [`Sync::wake`] must be awaited
    /// before the search may be answered here.
    pub fn touch(&self, index_uuid: &str) -> bool {
        self.ctx.registry.touch(index_uuid)
    }

    /// Wakes an index as a search would, and waits until what it then shows is published. False when
    /// that did not come within `limit`.
    pub async fn wake(&self, index_uuid: &str, limit: Duration) -> bool {
        sleep::wake(&self.ctx, index_uuid, limit).await
    }

    /// Whether a document that a search of the index finds may carry `_ignored`; true when not known.
    pub fn may_show_ignored(&self, index_uuid: &str) -> bool {
        let any = |shard: &Arc<Shard>| shard.any_ignored.load(Ordering::Acquire);
        self.ctx.registry.get(index_uuid).is_none_or(|entry| entry.shards.iter().any(any))
    }

    /// Waits until everything that Elasticsearch shows when this is called is published. False when
    /// that did not come within `limit`. Fields that are still being built are not waited for unless
    /// they are small; they become searchable only with all that was shown by then.
    pub async fn published(&self, scope: Scope, limit: Duration) -> bool {
        barrier::published(&self.ctx, scope, limit).await
    }

    /// Writes that were acknowledged through the proxy. Returns at once; what is not taken here comes by
    /// the feed.
    pub fn acknowledged(&self, writes: Vec<Acknowledged>) {
        let (metrics, count) = (&self.ctx.metrics, writes.len() as u64);
        metrics.acknowledged.inc_by(count);
        if !self.ctx.acknowledgements.offer(writes) {
            metrics.left("queue", count);
        }
    }

    /// The cluster state may have changed: returns when a read that began after this call is in
    /// effect. Does not return while Elasticsearch is away.
    pub async fn invalidate(&self) {
        self.ctx.invalidations.read_again().await;
    }

    /// Asks Elasticsearch under our own credentials, for other parts of the node.
    pub async fn call(&self, verb: Verb, path: &str, body: Option<String>) -> Result<Vec<u8>, CallError> {
        own_call::call(&self.ctx.upstream, verb, path, body).await
    }

    /// Where an adopted index stands, by name or alias.
    pub fn stats(&self, index_name: &str) -> Option<IndexReport> {
        let Resolved::One(info) = self.ctx.catalog.load().resolve(index_name) else { return None };
        let entry = self.ctx.registry.get(&info.uuid)?;
        Some(report(&entry))
    }

    /// Cancels the first build of an index, by name or alias: searches pass until it is started again,
    /// what was read is kept. False when that name means no index of ours.
    pub fn cancel_build(&self, index_name: &str) -> bool {
        self.switch_build(index_name, true)
    }

    /// Starts a cancelled first build again, from where it was. False when that name means no index of ours.
    pub fn start_build(&self, index_name: &str) -> bool {
        self.switch_build(index_name, false)
    }

    fn switch_build(&self, index_name: &str, cancelled: bool) -> bool {
        let Resolved::One(info) = self.ctx.catalog.load().resolve(index_name) else { return false };
        let Some(entry) = self.ctx.registry.get(&info.uuid) else { return false };
        entry.cancel_build(cancelled);
        self.ctx.published.send_modify(|count| *count += 1);
        self.ctx.reschedule.notify_one();
        true
    }

    /// The catalog is read and every adopted open index can be searched.
    pub fn ready(&self) -> bool {
        ready(&self.ctx)
    }

    /// That was so at some time since the start. What came later is learnt while Elasticsearch answers for it.
    pub fn was_ready(&self) -> bool {
        self.ctx.was_ready.load(Ordering::Acquire)
    }

    /// Stops following and writes final snapshots. Searches on indexes already handed out go on.
    pub async fn shutdown(&self) {
        let ctx = &self.ctx;
        let entries = ctx.registry.all();
        ctx.cancel.cancel();
        entries.iter().for_each(|entry| {
            entry.tasks.close();
        });
        let pulls = async {
            for entry in &entries {
                entry.tasks.wait().await;
            }
        };
        if timeout(SHUTDOWN_LIMIT, pulls).await.is_err() {
            tracing::warn!("some pulls did not end in time");
        }
        for entry in &entries {
            upkeep::last_snapshots(ctx, entry).await;
        }
        ctx.tasks.close();
        if timeout(SHUTDOWN_LIMIT, ctx.tasks.wait()).await.is_err() {
            tracing::warn!("some tasks did not end in time");
        }
    }
}

impl Drop for Sync {
    fn drop(&mut self) {
        self.ctx.cancel.cancel();
    }
}

pub(crate) fn ready(ctx: &Context) -> bool {
    let ready =
        ctx.catalog_read.load(Ordering::Acquire) && ctx.registry.all().iter().all(|entry| entry.settled());
    if ready {
        ctx.was_ready.store(true, Ordering::Release);
    }
    ready
}

fn report(entry: &IndexEntry) -> IndexReport {
    let info = entry.info.load();
    let states = entry.states.load();
    let field_report = |(name, field): (&Arc<str>, &es_wire::VectorField)| {
        let shards: Vec<_> = entry.shards.iter().map(|shard| shard_report(shard, name)).collect();
        FieldReport {
            field: name.to_string(),
            dims: field.spec.dims,
            element_type: field.spec.element.name(),
            mode: field.mode().name(),
            adopted_by: field.origin.name(),
            metric: field.spec.metric.name(),
            ready: matches!(states.get(name), Some(FieldState::Ready(_))),
            unreadable: (!field.readable).then_some(UNREADABLE),
            docs: shards.iter().map(|shard| shard.docs).sum(),
            shards,
        }
    };
    IndexReport {
        index: info.name.to_string(),
        uuid: info.uuid.to_string(),
        ready: entry.ready(),
        asleep: entry.asleep(),
        fields: info.fields.iter().map(field_report).collect(),
    }
}

fn shard_report(shard: &Shard, field: &str) -> ShardReport {
    let (index, behind, progress, broken, cancelled) = {
        let state = shard.state.lock();
        (
            state.fields.get(field).cloned(),
            state.behind(Instant::now()),
            state.progress,
            state.broken,
            state.build_cancelled,
        )
    };
    let state = match &index {
        _ if broken => ShardState::Broken,
        Some(index) if index.built.load(Ordering::Acquire) => ShardState::Ready,
        _ if cancelled => ShardState::Cancelled,
        Some(_) => ShardState::Building,
        None => ShardState::Waiting,
    };
    let progress = progress.map(|progress| ProgressReport {
        done: progress.done,
        total: progress.total,
        eta_seconds: progress.eta().map(|eta| eta.as_secs_f64()),
    });
    let mut report = ShardReport {
        shard: shard.number,
        state,
        docs: 0,
        staged: 0,
        held: 0,
        cursor: -1,
        published_max_seq_no: -1,
        primary_term: 0,
        behind_operations: behind.0,
        behind_seconds: behind.1.as_secs_f64(),
        progress,
        last_audit: None,
        last_agreement: None,
        build: "exact",
        nlist: 0,
        nprobe: 0,
        recall: None,
        curve: Vec::new(),
        imbalance: 1.0,
        upkeep: Upkeep::default().into(),
        memory_bytes: 0,
        disk_bytes: 0,
    };
    if let Some(index) = index {
        add_engine_numbers(&mut report, &index);
    }
    report
}

fn add_engine_numbers(report: &mut ShardReport, field: &FieldIndex) {
    let stats = field.index.stats();
    report.docs = stats.docs;
    report.staged = stats.staged;
    report.held = stats.held;
    report.cursor = stats.epoch.cursor;
    report.published_max_seq_no = stats.epoch.max_seq_no;
    report.primary_term = stats.epoch.primary_term;
    report.last_audit = *field.last_audit.lock();
    report.last_agreement = *field.last_agreement.lock();
    report.build = match stats.state {
        BuildState::Exact => "exact",
        BuildState::Training => "training",
        BuildState::Lists => "lists",
    };
    report.nlist = stats.nlist;
    report.nprobe = stats.nprobe;
    report.recall = stats.recall;
    report.curve = stats.curve.into_iter().map(CurveReport::from).collect();
    report.imbalance = stats.imbalance;
    report.upkeep = stats.upkeep.into();
    report.memory_bytes = stats.memory_bytes;
    report.disk_bytes = stats.disk_bytes;
}
