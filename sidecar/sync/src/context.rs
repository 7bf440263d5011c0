//! What all parts of this crate share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::{ArcSwap, ArcSwapOption};
use es_wire::Catalog;
use knn_types::KnnEngine;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::acknowledged::Acknowledgements;
use crate::barrier::Barriers;
use crate::build::Pace;
use crate::catalog_watch::Invalidations;
use crate::config::SyncConfig;
use crate::filters::FilterCache;
use crate::metrics::Metrics;
use crate::node::{NodeInfo, Openness};
use crate::registry::Registry;
use crate::restore::Losses;
use crate::upstream::Upstream;

pub(crate) struct Context {
    pub(crate) config: SyncConfig,
    pub(crate) upstream: Upstream,
    pub(crate) engine: Arc<dyn KnnEngine>,
    pub(crate) metrics: Metrics,
    /// `None` until first contact, and again after the connection was lost (`node_stale`).
    pub(crate) node: ArcSwapOption<NodeInfo>,
    pub(crate) node_stale: AtomicBool,
    /// What is known of whether it has security; what was known stays while it does not answer.
    pub(crate) openness: watch::Sender<Openness>,
    pub(crate) catalog: ArcSwap<Catalog>,
    pub(crate) catalog_read: AtomicBool,
    /// Every adopted index could be searched at some time.
    pub(crate) was_ready: AtomicBool,
    pub(crate) registry: Registry,
    pub(crate) invalidations: Invalidations,
    pub(crate) losses: Losses,
    pub(crate) barriers: Barriers,
    pub(crate) acknowledgements: Acknowledgements,
    pub(crate) filters: FilterCache,
    /// A poll is wanted at once.
    pub(crate) poll_now: Notify,
    /// A pull ended: others may be due.
    pub(crate) reschedule: Notify,
    /// Counts published epochs; waiting clients look again at each.
    pub(crate) published: watch::Sender<u64>,
    /// Some index has upkeep due.
    pub(crate) upkeep: Notify,
    pub(crate) first_builds: Semaphore,
    pub(crate) pace: Pace,
    pub(crate) changes: Semaphore,
    pub(crate) cancel: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// Where everything here runs, whoever calls.
    pub(crate) runtime: Handle,
}
