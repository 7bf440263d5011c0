//! What one tenant has, what was let in since that was measured, and whether there is room for more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use es_wire::{Catalog, IndexPatterns};
use parking_lot::Mutex;

use crate::door::tenant::Quotas;
use crate::quota::amount::{Amount, Exceeded, Resource};
use crate::quota::crossing::{Crossing, Crossings};
use crate::quota::pending::{Cut, Pending, Seen};

/// An index that was let in and that the catalog does not have after so long was not created.
const CREATION: Duration = Duration::from_secs(60);
/// The same where the request was given up.
const GIVEN_UP: Duration = Duration::from_secs(5);

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) tenant: Box<str>,
    /// Which indices are its own.
    pub(crate) patterns: IndexPatterns,
    pub(crate) quotas: Quotas,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Vectors and bytes as they were last measured; `None` before that.
    measured: Option<Amount>,
    pending: Pending,
    /// Indices that were let in and that the catalog may not have yet.
    creations: HashMap<Box<str>, Creation>,
    crossings: Crossings,
}

#[derive(Clone, Copy, Debug)]
struct Creation {
    shards: u64,
    until: Instant,
}

/// A tenant's usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// What Elasticsearch and the engine tell; `None` where that was not measured yet.
    pub(crate) measured: Option<Amount>,
    /// What was let in here and may be missing in it.
    pub(crate) pending: Amount,
}

impl Usage {
    /// What counts.
    pub(crate) fn total(&self) -> Amount {
        self.measured.unwrap_or_default().plus(self.pending)
    }
}

/// Indices and shards of a tenant, as the catalog has them.
pub(crate) type Census = Amount;

impl Account {
    /// `earlier` is the same tenant's account under quotas that were replaced.
    pub(crate) fn new(tenant: &str, patterns: IndexPatterns, quotas: Quotas, earlier: Option<&Self>) -> Self {
        let state = earlier.map(|earlier| Arc::clone(&earlier.state)).unwrap_or_default();
        Self { tenant: tenant.into(), patterns, quotas, state }
    }

    /// Whether vectors or bytes are limited.
    pub(crate) fn limits_ingest(&self) -> bool {
        let quotas = &self.quotas;
        quotas.vectors.is_some() || quotas.vector_bytes.is_some() || quotas.document_bytes.is_some()
    }

    /// Whether indices or shards are limited.
    pub(crate) fn limits_creation(&self) -> bool {
        self.quotas.indices.is_some() || self.quotas.shards.is_some()
    }

    /// Whether usage is known as far as something is limited by it.
    pub(crate) fn is_known(&self) -> bool {
        !self.limits_ingest() || self.state.lock().measured.is_some()
    }

    /// Usage, where the catalog counts so many indices and shards.
    pub(crate) fn usage(&self, census: Census, catalog: &Catalog) -> Usage {
        self.state.lock().usage(census, catalog, Instant::now())
    }

    /// Lets so much into an index of the tenant, or says what would be exceeded. What another request creates
    /// already is there for this one.
    pub(crate) fn admit(
        &self,
        index: &str,
        amount: Amount,
        census: Census,
        catalog: &Catalog,
    ) -> Result<Admitted, Exceeded> {
        let (mut state, now) = (self.state.lock(), Instant::now());
        let usage = state.usage(census, catalog, now).total();
        let creates = amount.indices > 0 && !state.creations.contains_key(index);
        let amount = if creates { amount } else { Amount { indices: 0, shards: 0, ..amount } };
        for resource in Resource::ALL {
            let (usage, requested) = (usage.of(resource), amount.of(resource));
            let Some(limit) = resource.limit(&self.quotas) else { continue };
            if requested > 0 && usage.saturating_add(requested) > limit {
                return Err(Exceeded { tenant: self.tenant.clone(), resource, usage, requested, limit });
            }
        }
        if creates {
            let creation = Creation { shards: amount.shards, until: now + CREATION };
            state.creations.insert(index.into(), creation);
        }
        let stored = Amount { indices: 0, shards: 0, ..amount };
        let key = state.pending.begin(index, stored).into();
        Ok(Admitted { key, stored, creates })
    }

    /// What was let in has ended.
    pub(crate) fn end(&self, admitted: &Admitted, came_about: bool) {
        self.state.lock().pending.end(&admitted.key, admitted.stored, came_about);
    }

    /// An index that was let in was not created, or the catalog has it now.
    fn created(&self, index: &str) {
        self.state.lock().creations.remove(index);
    }

    /// Nobody waits any more for an index that was let in.
    fn given_up(&self, index: &str) {
        if let Some(creation) = self.state.lock().creations.get_mut(index) {
            creation.until = creation.until.min(Instant::now() + GIVEN_UP);
        }
    }

    /// A measurement begins.
    pub(crate) fn measuring(&self) -> Cut {
        self.state.lock().pending.measuring()
    }

    /// It failed.
    pub(crate) fn not_measured(&self, cut: Cut) {
        self.state.lock().pending.not_measured(cut);
    }

    /// It is there; what came near to its quota by it.
    pub(crate) fn measured(
        &self,
        cut: Cut,
        measured: Amount,
        seen: impl Fn(&str) -> Seen,
        census: Census,
        catalog: &Catalog,
    ) -> Vec<Crossing> {
        let (mut state, now) = (self.state.lock(), Instant::now());
        state.measured = Some(measured);
        state.pending.measured(cut, now, seen);
        let usage = state.usage(census, catalog, now).total();
        state.crossings.update(usage, &self.quotas, now)
    }
}

impl State {
    fn usage(&mut self, census: Census, catalog: &Catalog, now: Instant) -> Usage {
        self.creations.retain(|name, creation| catalog.written(name).is_none() && now < creation.until);
        let creations = Amount {
            indices: self.creations.len() as u64,
            shards: self.creations.values().map(|creation| creation.shards).sum(),
            ..Amount::default()
        };
        let measured = self.measured.map(|stored| stored.plus(census));
        // What the catalog tells is known from the beginning.
        let known = if measured.is_none() { census } else { Amount::default() };
        Usage { measured, pending: self.pending.total().plus(creations).plus(known) }
    }
}

/// What was let in, to be given back to [`Account::end`].
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    key: Box<str>,
    stored: Amount,
    creates: bool,
}

impl Admitted {
    /// Whether an index was let in with it.
    pub(crate) fn creates(&self) -> bool {
        self.creates
    }

    /// What tells it from what must be ended apart.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Takes in another one of the same key.
    pub(crate) fn add(&mut self, other: &Self) {
        self.stored = self.stored.plus(other.stored);
    }
}

/// Indices that a request was let in to create. They count beside those of the catalog until the request has ended and
/// the catalog was read after that; where nobody knows how it ended, for some seconds more.
#[derive(Default)]
pub(crate) struct Creations(Vec<(Arc<Account>, Box<str>)>);

impl Creations {
    pub(crate) fn add(&mut self, account: Arc<Account>, index: &str) {
        self.0.push((account, index.into()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// From now on the catalog tells.
    pub(crate) fn settle(&mut self) {
        self.0.drain(..).for_each(|(account, index)| account.created(&index));
    }
}

impl Drop for Creations {
    fn drop(&mut self) {
        self.0.iter().for_each(|(account, index)| account.given_up(index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(quotas: Quotas) -> Account {
        Account::new("acme", "acme-*".parse().unwrap(), quotas, None)
    }

    fn indices(count: u64) -> Amount {
        Amount { indices: count, shards: count, ..Amount::default() }
    }

    #[test]
    fn requests_at_the_same_time_do_not_exceed_a_quota_together() {
        let account = account(Quotas { indices: Some(3), shards: Some(4), ..Quotas::default() });
        let catalog = Catalog::empty();
        account.admit("acme-1", indices(1), indices(1), &catalog).unwrap();
        let exceeded = account.admit("acme-2", Amount { shards: 3, ..indices(1) }, indices(1), &catalog);
        let exceeded = exceeded.unwrap_err();
        assert_eq!(exceeded.to_string(), "quota exceeded: shards usage 2 + 3 > limit 4");
        account.admit("acme-2", indices(1), indices(1), &catalog).unwrap();
        let exceeded = account.admit("acme-3", indices(1), indices(1), &catalog).unwrap_err();
        assert_eq!(exceeded.to_string(), "quota exceeded: indices usage 3 + 1 > limit 3");
        // What is being created is there for others.
        assert!(!account.admit("acme-2", indices(1), indices(1), &catalog).unwrap().creates());
        // One that was not created makes room.
        account.created("acme-2");
        assert!(account.admit("acme-3", indices(1), indices(1), &catalog).unwrap().creates());
    }

    #[test]
    fn a_creation_that_ended_is_not_counted_and_one_given_up_for_seconds() {
        let account = Arc::new(account(Quotas { indices: Some(1), ..Quotas::default() }));
        let (catalog, none) = (Catalog::empty(), Amount::default());
        let creating = |index: &str| {
            let mut creations = Creations::default();
            account
                .admit(index, indices(1), none, &catalog)
                .map(|_| creations.add(Arc::clone(&account), index))?;
            Ok::<_, Exceeded>(creations)
        };
        creating("acme-1").unwrap().settle();
        drop(creating("acme-2").unwrap());
        assert!(creating("acme-3").is_err());
        let count =
            |after| account.state.lock().usage(none, &catalog, Instant::now() + after).total().indices;
        assert_eq!((count(Duration::ZERO), count(GIVEN_UP)), (1, 0));
        creating("acme-3").unwrap();
    }

    #[test]
    fn what_adds_nothing_goes_also_beyond_the_quota() {
        let account = account(Quotas { vectors: Some(2), ..Quotas::default() });
        let (catalog, many) = (Catalog::empty(), Amount { vectors: 9, ..Amount::default() });
        assert!(!account.is_known());
        assert_eq!(
            account
                .measured(account.measuring(), many, |_| Seen::default(), Amount::default(), &catalog)
                .len(),
            1
        );
        assert!(account.is_known());
        let text = Amount { document_bytes: 100, ..Amount::default() };
        account.admit("acme-1", text, Amount::default(), &catalog).unwrap();
        let one = Amount { vectors: 1, ..Amount::default() };
        let exceeded = account.admit("acme-1", one, Amount::default(), &catalog).unwrap_err();
        assert_eq!((exceeded.resource, exceeded.usage), (Resource::Vectors, 9));
    }

    #[test]
    fn other_quotas_keep_what_is_known() {
        let before = account(Quotas { vectors: Some(10), ..Quotas::default() });
        let (catalog, none) = (Catalog::empty(), Amount::default());
        let five = Amount { vectors: 5, ..none };
        before.measured(before.measuring(), five, |_| Seen::default(), none, &catalog);
        let admitted = before.admit("acme-1", five, none, &catalog).unwrap();
        let after = Account::new(
            "acme",
            before.patterns.clone(),
            Quotas { vectors: Some(11), ..Quotas::default() },
            Some(&before),
        );
        after.admit("acme-1", Amount { vectors: 1, ..none }, none, &catalog).unwrap();
        after.admit("acme-1", Amount { vectors: 1, ..none }, none, &catalog).unwrap_err();
        before.end(&admitted, false);
        assert_eq!(after.usage(none, &catalog).total().vectors, 6);
    }
}
