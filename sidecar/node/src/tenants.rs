//! Tenants as far as the node keeps them: stored in Elasticsearch ([`store`]), read again when they changed, and
//! their usage measured ([`meter`]) and written down by the hour ([`history`]).

mod documents;
mod history;
mod meter;
mod store;

use std::sync::Arc;
use std::time::Duration;

use es_proxy::{Ledger, Tenants};
use shard_sync::Sync;
use tokio::sync::Notify;

pub(crate) use store::Store;

/// How often something is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intervals {
    /// Changes of stored tenants.
    pub(crate) tenants: Duration,
    /// Usage.
    pub(crate) usage: Duration,
}

/// Who the tenants are, and what they have.
pub(crate) struct Shared {
    pub(crate) sync: Arc<Sync>,
    pub(crate) tenants: Arc<Tenants>,
    pub(crate) ledger: Arc<Ledger>,
    /// Usage is wanted at once: there are other tenants.
    pub(crate) measure: Notify,
}

impl Shared {
    /// The ledger counts for the tenants that are in force now.
    pub(crate) fn tenants_changed(&self) {
        let all = self.tenants.all();
        self.ledger.set_tenants(all.iter().map(|tenant| (tenant.name(), tenant.spec())));
        self.measure.notify_one();
    }
}

/// Begins to follow; ends with the runtime.
pub(crate) fn start(
    sync: Arc<Sync>,
    tenants: Arc<Tenants>,
    ledger: Arc<Ledger>,
    intervals: Intervals,
) -> Arc<Store> {
    let shared = Arc::new(Shared { sync, tenants, ledger, measure: Notify::new() });
    shared.tenants_changed();
    let store = Arc::new(Store::new(Arc::clone(&shared)));
    tokio::spawn(store::follow(Arc::clone(&store), intervals.tenants));
    tokio::spawn(meter::run(shared, intervals.usage));
    store
}
