//! What searches took on this machine: nanoseconds per unit of work, as moving averages.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use knn_types::SearchStats;

/// Share of a new measurement in the average.
const WEIGHT: f32 = 1.0 / 16.0;
/// A full comparison against an estimate: a row is some hundred times as many bytes as a code.
const RERANK_UNITS: usize = 40;

/// A moving average that threads update without waiting; a lost update does no harm.
struct Average(AtomicU32);

impl Average {
    fn starting_at(value: f32) -> Self {
        Self(AtomicU32::new(value.to_bits()))
    }

    fn get(&self) -> f32 {
        f32::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn add(&self, took: Duration, units: usize) {
        if units > 0 {
            let old = self.get();
            let new = took.as_nanos() as f32 / units as f32;
            self.0.store((old + (new - old) * WEIGHT).to_bits(), Ordering::Relaxed);
        }
    }

    fn predict(&self, units: usize) -> Duration {
        Duration::from_nanos((self.get() * units as f32) as u64)
    }
}

/// Costs of one index; shared by its views.
pub(crate) struct Costs {
    /// Per vector of an exact scan.
    exact: Average,
    /// Per unit of a search over lists.
    lists: Average,
}

impl Costs {
    /// Guesses until something was measured.
    pub(crate) fn guess(dims: usize) -> Self {
        let exact = Average::starting_at(10.0 + dims as f32 * 0.4);
        Self { exact, lists: Average::starting_at(2.0 + dims as f32 * 0.01) }
    }

    pub(crate) fn exact_took(&self, vectors: usize, took: Duration) {
        self.exact.add(took, vectors);
    }

    pub(crate) fn exact(&self, vectors: usize) -> Duration {
        self.exact.predict(vectors)
    }

    pub(crate) fn lists_took(&self, nlist: usize, stats: &SearchStats, took: Duration) {
        self.lists.add(took, units(nlist, stats));
    }

    pub(crate) fn lists(&self, nlist: usize, expected: &SearchStats) -> Duration {
        self.lists.predict(units(nlist, expected))
    }
}

fn units(nlist: usize, stats: &SearchStats) -> usize {
    nlist * 4 + stats.scanned + stats.reranked * RERANK_UNITS
}
