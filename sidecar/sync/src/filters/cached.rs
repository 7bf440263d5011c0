//! One remembered filter of one index, and the filters that an index remembers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use es_wire::DocFilter;
use parking_lot::{Mutex, RwLock};

use super::numbers::Numbers;
use crate::shard::Shard;

/// Bytes of a filter besides what it lets through and its text, about.
const OVERHEAD: u64 = 512;

/// A filter with a set of numbers for each shard, where there is one.
#[derive(Debug)]
pub(crate) struct Cached {
    filter: DocFilter,
    shards: Box<[ArcSwapOption<Numbers>]>,
    /// Held while sets are put in and taken out; whether they may still be put in.
    removed: Mutex<bool>,
    fetching: AtomicBool,
    uses: AtomicU64,
    /// In milliseconds of the cache's clock.
    last_used: AtomicU64,
    /// The floor of the cache when it was used last, as bits; see [`Cached::worth`].
    floor: AtomicU64,
    /// What fetching took.
    cost_micros: AtomicU64,
    /// In milliseconds of the cache's clock.
    refused_until: AtomicU64,
}

impl Cached {
    pub(super) fn new(filter: DocFilter, shards: usize, now: u64) -> Self {
        Self {
            filter,
            shards: (0..shards).map(|_| ArcSwapOption::empty()).collect(),
            removed: Mutex::new(false),
            fetching: AtomicBool::new(false),
            uses: AtomicU64::new(0),
            last_used: AtomicU64::new(now),
            floor: AtomicU64::new(0),
            cost_micros: AtomicU64::new(0),
            refused_until: AtomicU64::new(0),
        }
    }

    pub(super) fn filter(&self) -> &DocFilter {
        &self.filter
    }

    /// The set of a shard, if it is being kept up.
    pub(super) fn numbers(&self, shard: usize) -> Option<Arc<Numbers>> {
        let numbers = self.shards.get(shard)?.load_full()?;
        (!numbers.is_forgotten()).then_some(numbers)
    }

    pub(super) fn used(&self, now: u64, floor: f64) {
        self.uses.fetch_add(1, Ordering::Relaxed);
        self.last_used.store(now, Ordering::Relaxed);
        self.floor.store(floor.to_bits(), Ordering::Relaxed);
    }

    pub(super) fn idle_for(&self, now: u64) -> u64 {
        now.saturating_sub(self.last_used.load(Ordering::Relaxed))
    }

    pub(super) fn refuse_until(&self, until: u64) {
        self.refused_until.store(until, Ordering::Relaxed);
    }

    pub(super) fn is_refused(&self, now: u64) -> bool {
        now < self.refused_until.load(Ordering::Relaxed)
    }

    /// True for one caller, who must fetch and then call [`Cached::end_fetch`].
    pub(super) fn begin_fetch(&self) -> bool {
        !self.fetching.swap(true, Ordering::AcqRel)
    }

    pub(super) fn end_fetch(&self, took_micros: Option<u64>) {
        if let Some(took) = took_micros {
            self.cost_micros.store(took, Ordering::Relaxed);
        }
        self.fetching.store(false, Ordering::Release);
    }

    pub(super) fn is_fetching(&self) -> bool {
        self.fetching.load(Ordering::Acquire)
    }

    /// Whether a shard lacks its set, or has one that holds much that is gone.
    pub(super) fn wants(&self, shard: usize) -> bool {
        self.numbers(shard).is_none_or(|numbers| numbers.has_grown())
    }

    /// Whether every shard has a set and some are worth fetching anew.
    pub(super) fn has_grown(&self) -> bool {
        let all: Option<Vec<_>> = (0..self.shards.len()).map(|shard| self.numbers(shard)).collect();
        all.is_some_and(|all| all.iter().any(|numbers| numbers.has_grown()))
    }

    /// Puts in the set of a shard; the one before is kept up no longer. If the filter was removed
    /// meanwhile, neither is this one.
    pub(super) fn put(&self, shard: &Shard, numbers: Arc<Numbers>) {
        let removed = self.removed.lock();
        let unwanted = match self.shards.get(shard.number as usize) {
            Some(place) if !*removed => place.swap(Some(numbers)),
            _ => Some(numbers),
        };
        drop(removed);
        unwanted.iter().for_each(|numbers| shard.filters.forget(numbers));
    }

    fn remove(&self, shards: &[Arc<Shard>]) {
        *self.removed.lock() = true;
        self.clear(shards);
    }

    /// Lets go of all sets.
    pub(super) fn clear(&self, shards: &[Arc<Shard>]) {
        let _no_other = self.removed.lock();
        for (place, shard) in self.shards.iter().zip(shards) {
            place.swap(None).iter().for_each(|numbers| shard.filters.forget(numbers));
        }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        let held: u64 =
            self.shards.iter().filter_map(|set| set.load_full()).map(|set| set.memory_bytes()).sum();
        OVERHEAD + 2 * self.filter.query().len() as u64 + held
    }

    /// What it saves for each byte, on top of the floor below which others were removed when it was used
    /// last: filters that are cheap to fetch, large or rarely used go first, and what is not used any
    /// more is overtaken (GreedyDual-Size with frequency, Cherkasova 1998).
    pub(super) fn worth(&self, bytes: u64) -> f64 {
        let uses = self.uses.load(Ordering::Relaxed) as f64;
        let cost = self.cost_micros.load(Ordering::Relaxed).max(1) as f64;
        f64::from_bits(self.floor.load(Ordering::Relaxed)) + uses * cost / bytes as f64
    }
}

/// What one index remembers.
#[derive(Debug, Default)]
pub(crate) struct IndexFilters {
    by_filter: RwLock<HashMap<DocFilter, Arc<Cached>>>,
}

impl IndexFilters {
    pub(super) fn get(&self, filter: &DocFilter) -> Option<Arc<Cached>> {
        self.by_filter.read().get(filter).cloned()
    }

    pub(super) fn get_or_insert(&self, filter: &DocFilter, shards: usize, now: u64) -> Arc<Cached> {
        let mut by_filter = self.by_filter.write();
        let cached = by_filter
            .entry(filter.clone())
            .or_insert_with(|| Arc::new(Cached::new(filter.clone(), shards, now)));
        Arc::clone(cached)
    }

    pub(super) fn all(&self) -> Vec<Arc<Cached>> {
        self.by_filter.read().values().cloned().collect()
    }

    pub(super) fn remove(&self, cached: &Cached, shards: &[Arc<Shard>]) {
        self.by_filter.write().remove(cached.filter());
        cached.remove(shards);
    }
}
