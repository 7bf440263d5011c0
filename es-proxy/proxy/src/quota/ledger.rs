//! All accounts: whose an index is, and what there is of each resource.
//!
//! Whose an index is says its name, by the patterns that a tenant is bound to (or, where it is not bound, by those
//! that requests are its own by): whoever writes to it. So quotas hold whatever way a request came, and what is
//! enforced is what is measured.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use es_wire::{Catalog, IndexPatterns, data_stream_of};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::door::tenant::TenantSpec;
use crate::door::tenant::names::Names;
use crate::quota::account::{Account, Census, Usage};
use crate::quota::amount::{Amount, Resource};
use crate::quota::metrics::QuotaMetrics;
use crate::quota::pending::{Cut, Seen};

/// What a measurement found in one index.
#[derive(Clone, Copy, Debug, Default)]
pub struct IndexMeasured {
    /// Vectors and bytes; indices and shards are counted from the catalog.
    pub amount: Amount,
    /// Times that its primaries were refreshed.
    pub refreshes: u64,
    /// Whether all that was written is in segments: nothing waits for a refresh.
    pub is_written: bool,
}

/// See the head of this file.
pub struct Ledger {
    table: ArcSwap<Table>,
    census: Mutex<Option<CountedAt>>,
    /// What the newest measurement found.
    last: ArcSwap<HashMap<String, IndexMeasured>>,
    measured: watch::Sender<u64>,
    pub(crate) metrics: QuotaMetrics,
}

/// Indices and shards of every account, in their order, as one catalog has them.
#[derive(Clone)]
struct CountedAt {
    catalog: Arc<Catalog>,
    table: Arc<Table>,
    counts: Arc<[Census]>,
}

#[derive(Default)]
struct Table {
    accounts: Vec<Arc<Account>>,
    by_tenant: HashMap<Box<str>, usize>,
    owners: Names,
    /// Something is limited.
    any_quota: bool,
    /// Usage of all is known.
    is_known: AtomicBool,
}

impl Table {
    fn owner(&self, index: &str) -> Option<usize> {
        let name = data_stream_of(index).unwrap_or(index);
        let number = self.owners.find(name)? as usize;
        self.accounts[number].patterns.contains(name).then_some(number)
    }
}

/// A measurement that has begun.
pub struct Measuring {
    table: Arc<Table>,
    cuts: Vec<Cut>,
}

impl Ledger {
    /// Without accounts.
    pub fn new(registry: &mut prometheus_client::registry::Registry) -> Arc<Self> {
        Arc::new(Self {
            table: ArcSwap::default(),
            census: Mutex::default(),
            last: ArcSwap::default(),
            measured: watch::channel(0).0,
            metrics: QuotaMetrics::new(registry),
        })
    }

    /// Takes in who the tenants are. What is known of those that were there stays.
    pub fn set_tenants<'t>(&self, tenants: impl IntoIterator<Item = (&'t str, &'t TenantSpec)>) {
        let before = self.table.load_full();
        let mut table = Table::default();
        let tenants: BTreeMap<&str, &TenantSpec> = tenants.into_iter().collect();
        for (tenant, spec) in tenants {
            let Some(patterns) = patterns_of(spec) else { continue };
            let number = table.accounts.len();
            let listed = patterns.to_string();
            for pattern in listed.split(',').filter(|pattern| !pattern.starts_with('-')) {
                if let Err(error) = table.owners.add(pattern, number as u32) {
                    tracing::warn!(tenant, pattern, ?error, "quotas do not count these indices");
                }
            }
            let earlier = before.by_tenant.get(tenant).map(|at| &*before.accounts[*at]);
            table.any_quota |= !spec.quotas.is_empty();
            table.accounts.push(Arc::new(Account::new(tenant, patterns, spec.quotas, earlier)));
            table.by_tenant.insert(tenant.into(), number);
        }
        self.table.store(Arc::new(table));
    }

    /// Nothing is limited: nothing is to be counted.
    #[inline]
    pub(crate) fn is_free(&self) -> bool {
        !self.table.load().any_quota
    }

    /// Whose an index of that name is.
    pub(crate) fn owner(&self, index: &str) -> Option<Arc<Account>> {
        let table = self.table.load();
        table.owner(index).map(|number| Arc::clone(&table.accounts[number]))
    }

    /// The account of a tenant.
    pub(crate) fn account(&self, tenant: &str) -> Option<Arc<Account>> {
        let table = self.table.load();
        table.by_tenant.get(tenant).map(|number| Arc::clone(&table.accounts[*number]))
    }

    /// A tenant's usage.
    pub(crate) fn usage(&self, account: &Account, catalog: &Arc<Catalog>) -> Usage {
        account.usage(self.count(account, catalog), catalog)
    }

    /// How many indices and shards the catalog has of an account. Counted once for each catalog; that takes a
    /// microsecond for each of the cluster's indices.
    pub(crate) fn count(&self, account: &Account, catalog: &Arc<Catalog>) -> Census {
        let table = self.table.load_full();
        let counts = self.counts(&table, catalog);
        table
            .by_tenant
            .get(&account.tenant)
            .and_then(|number| counts.get(*number))
            .copied()
            .unwrap_or_default()
    }

    /// Counts a catalog that was not counted yet, where that may take its time.
    pub(crate) async fn count_aside(
        self: &Arc<Self>,
        catalog: &Arc<Catalog>,
        aside: &tokio::runtime::Handle,
    ) {
        let table = self.table.load_full();
        let is_counted = {
            let known = self.census.lock();
            known.as_ref().is_some_and(|known| {
                Arc::ptr_eq(&known.catalog, catalog) && Arc::ptr_eq(&known.table, &table)
            })
        };
        if !is_counted {
            let (this, catalog) = (Arc::clone(self), Arc::clone(catalog));
            // It does not panic; if it did, whoever needs the counts makes them.
            let _ = aside.spawn_blocking(move || this.counts(&table, &catalog)).await;
        }
    }

    fn counts(&self, table: &Arc<Table>, catalog: &Arc<Catalog>) -> Arc<[Census]> {
        let known = self.census.lock().clone();
        if let Some(known) = known
            && Arc::ptr_eq(&known.catalog, catalog)
            && Arc::ptr_eq(&known.table, table)
        {
            return known.counts;
        }
        let mut counts = vec![Census::default(); table.accounts.len()];
        for index in catalog.indices() {
            if let Some(number) = table.owner(&index.name) {
                counts[number].indices += 1;
                counts[number].shards += u64::from(index.shards);
            }
        }
        let counts: Arc<[Census]> = counts.into();
        let counted =
            CountedAt { catalog: Arc::clone(catalog), table: Arc::clone(table), counts: Arc::clone(&counts) };
        *self.census.lock() = Some(counted);
        counts
    }

    /// Whether an account exists that wants to be measured.
    pub fn has_accounts(&self) -> bool {
        !self.table.load().accounts.is_empty()
    }

    /// The patterns of all accounts.
    pub fn patterns(&self) -> Vec<String> {
        self.table.load().accounts.iter().map(|account| account.patterns.to_string()).collect()
    }

    /// A measurement begins: whatever ends from now on may be missing in it.
    pub fn measuring(&self) -> Measuring {
        let table = self.table.load_full();
        let cuts = table.accounts.iter().map(|account| account.measuring()).collect();
        Measuring { table, cuts }
    }

    /// It brought nothing.
    pub fn not_measured(&self, measuring: Measuring) {
        for (account, cut) in measuring.table.accounts.iter().zip(measuring.cuts) {
            account.not_measured(cut);
        }
        self.metrics.failed();
    }

    /// It found this, by index.
    pub fn measured(
        &self,
        measuring: Measuring,
        mut indices: HashMap<String, IndexMeasured>,
        catalog: &Arc<Catalog>,
    ) {
        // Of which nothing is told while its metadata are blocked: it has what it had.
        let is_hidden = |name: &str| catalog.index(name).is_some_and(|index| index.hides_metadata());
        for (name, known) in self.last.load().iter().filter(|(name, _)| is_hidden(name)) {
            indices.entry(name.clone()).or_insert(*known);
        }
        let (Measuring { table, cuts }, indices) = (measuring, Arc::new(indices));
        let mut sums = vec![Amount::default(); table.accounts.len()];
        for (index, measured) in &*indices {
            if let Some(number) = table.owner(index) {
                sums[number] = sums[number].plus(measured.amount);
            }
        }
        let counts = self.counts(&table, catalog);
        let before = self.last.swap(Arc::clone(&indices));
        let seen = |written: &str| {
            let name =
                catalog.written(written).map_or_else(|| written.into(), |index| Arc::clone(&index.name));
            let now = indices.get(&*name).copied();
            let before = before.get(&*name).map_or(Amount::default(), |before| before.amount);
            Seen {
                grown: now.map_or(Amount::default(), |now| now.amount.minus(before)),
                refreshes: now.map(|now| now.refreshes),
                is_written: now.is_some_and(|now| now.is_written),
                is_gone: now.is_none() && catalog.index(&name).is_none(),
            }
        };
        self.metrics.begin();
        for (number, (account, cut)) in table.accounts.iter().zip(cuts).enumerate() {
            let census = counts.get(number).copied().unwrap_or_default();
            let crossings = account.measured(cut, sums[number], seen, census, catalog);
            for crossing in crossings {
                self.metrics.crossed(&account.tenant, &crossing);
            }
            self.metrics.show(&account.tenant, account.usage(census, catalog).total(), &account.quotas);
        }
        self.measured.send_modify(|count| *count += 1);
    }

    /// What is measured of every tenant, for history.
    pub fn snapshot(&self, catalog: &Arc<Catalog>) -> Vec<(String, Amount)> {
        let table = self.table.load_full();
        let counts = self.counts(&table, catalog);
        let of = |(account, census): (&Arc<Account>, &Census)| {
            let measured = account.usage(*census, catalog).measured?;
            Some((account.tenant.to_string(), measured))
        };
        table.accounts.iter().zip(counts.iter()).filter_map(of).collect()
    }

    /// Waits until usage of all is known, or until that takes too long.
    pub(crate) async fn all_known(&self, limit: std::time::Duration) {
        if self.table.load().is_known.load(Ordering::Acquire) {
            return;
        }
        let accounts = self.table.load_full();
        for account in &accounts.accounts {
            if !self.known(account, limit).await {
                return;
            }
        }
        accounts.is_known.store(true, Ordering::Release);
    }

    /// Waits until usage is known; false where that took too long.
    pub(crate) async fn known(&self, account: &Account, limit: std::time::Duration) -> bool {
        let mut measured = self.measured.subscribe();
        let known = async {
            while !account.is_known() {
                if measured.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, known).await.is_ok()
    }

    /// A refusal is counted.
    pub(crate) fn refused(&self, tenant: &str, resource: Resource) {
        self.metrics.refused(tenant, resource);
    }
}

/// Which indices are a tenant's.
fn patterns_of(spec: &TenantSpec) -> Option<IndexPatterns> {
    let patterns = if spec.bound_to.is_empty() { &spec.indices } else { &spec.bound_to };
    if patterns.is_empty() { None } else { patterns.join(",").parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use es_wire::Capabilities;
    use serde_json::json;

    fn catalog(indices: &[(&str, u32)]) -> Arc<Catalog> {
        let of = |(name, shards): &(&str, u32)| {
            let settings = json!({"uuid": name, "number_of_shards": shards.to_string(), "version": {"created": "9039001"}});
            ((*name).to_owned(), json!({"state": "open", "settings": {"index": settings}, "mappings": {}}))
        };
        let indices: serde_json::Map<_, _> = indices.iter().map(of).collect();
        let state = json!({"version": 1, "metadata": {"indices": indices}}).to_string();
        let caps = Capabilities::of("9.2.0".parse().unwrap()).unwrap();
        Arc::new(Catalog::parse(&state, "{}", &caps).unwrap())
    }

    fn ledger(tenants: serde_json::Value) -> Arc<Ledger> {
        let ledger = Ledger::new(&mut prometheus_client::registry::Registry::default());
        let tenants: BTreeMap<String, TenantSpec> = serde_json::from_value(tenants).unwrap();
        ledger.set_tenants(tenants.iter().map(|(name, spec)| (name.as_str(), spec)));
        ledger
    }

    #[test]
    fn indices_are_counted_for_whom_their_names_say() {
        let ledger = ledger(json!({
            "acme": {"bound_to": ["acme-*", "-acme-lab-*"], "quotas": {"indices": 5}},
            "lab": {"indices": ["acme-lab-*"], "bound_to": ["acme-lab-*"]},
            "open": {"indices": ["pub-*"], "users": ["x"]},
            "nobody": {"users": ["y"], "quotas": {"indices": 1}},
        }));
        assert!(!ledger.is_free());
        let catalog = catalog(&[
            ("acme-1", 2),
            ("acme-lab-1", 3),
            (".ds-acme-logs-2026.11.21-000001", 1),
            (".ds-acme-2", 7),
            ("pub-1", 1),
            ("other", 9),
        ]);
        let of = |tenant: &str| {
            let usage = ledger.usage(&ledger.account(tenant).unwrap(), &catalog).total();
            (usage.indices, usage.shards)
        };
        assert_eq!((of("acme"), of("lab"), of("open")), ((2, 3), (1, 3), (1, 1)));
        assert!(ledger.account("nobody").is_none() && ledger.owner("other").is_none());
        assert_eq!(&*ledger.owner("acme-lab-9").unwrap().tenant, "lab");
    }

    #[test]
    fn measured_numbers_are_summed_and_told_when_high() {
        let ledger = ledger(json!({"acme": {"bound_to": ["acme-*"], "quotas": {"vectors": 10}}}));
        let catalog = catalog(&[("acme-1", 1), ("acme-2", 1), ("b", 1)]);
        let of = |vectors| IndexMeasured {
            amount: Amount { vectors, ..Amount::default() },
            ..IndexMeasured::default()
        };
        let measured: HashMap<String, IndexMeasured> = [("acme-1", of(4)), ("acme-2", of(5)), ("b", of(100))]
            .map(|(name, of)| (name.to_owned(), of))
            .into();
        assert_eq!(ledger.snapshot(&catalog), []);
        ledger.measured(ledger.measuring(), measured.clone(), &catalog);
        let expected = Amount { vectors: 9, indices: 2, shards: 2, ..Amount::default() };
        assert_eq!(ledger.snapshot(&catalog), [("acme".to_owned(), expected)]);
        assert_eq!(ledger.metrics.crossings("acme", Resource::Vectors), 1);
        ledger.measured(ledger.measuring(), measured.clone(), &catalog);
        assert_eq!(ledger.metrics.crossings("acme", Resource::Vectors), 1);
        // Whose metadata are blocked counts as before; what is gone does not.
        let state = json!({"version": 2, "metadata": {"indices": {"acme-1": {"settings": {"index":
            {"uuid": "acme-1", "number_of_shards": "1", "version": {"created": "9039001"}, "blocks": {"metadata": "true"}}}}}}});
        let caps = Capabilities::of("9.2.0".parse().unwrap()).unwrap();
        let catalog = Arc::new(Catalog::parse(&state.to_string(), "{}", &caps).unwrap());
        for _ in 0..2 {
            ledger.measured(ledger.measuring(), HashMap::new(), &catalog);
            let expected = Amount { vectors: 4, indices: 1, shards: 1, ..Amount::default() };
            assert_eq!(ledger.snapshot(&catalog), [("acme".to_owned(), expected)]);
        }
    }
}
