//! What searches took on this machine: nanoseconds per entry looked at, as a moving average.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Share of a new measurement in the average.
const WEIGHT: f32 = 1.0 / 16.0;

/// A moving average that threads update without waiting; a lost update does no harm.
pub(crate) struct Average(AtomicU32);

impl Average {
    pub(crate) fn starting_at(value: f32) -> Self {
        Self(AtomicU32::new(value.to_bits()))
    }

    pub(crate) fn get(&self) -> f32 {
        f32::from_bits(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn add(&self, value: f32) {
        let old = self.get();
        self.0.store((old + (value - old) * WEIGHT).to_bits(), Ordering::Relaxed);
    }
}

/// Costs of one index; shared by its views.
pub(crate) struct Costs {
    /// Nanoseconds per vector of an exact scan.
    exact: Average,
}

impl Costs {
    /// Guesses until something was measured: about 5 GB/s of vectors.
    pub(crate) fn guess(dims: usize) -> Self {
        Self { exact: Average::starting_at(10.0 + dims as f32 * 0.8) }
    }

    pub(crate) fn exact_took(&self, scanned: usize, took: Duration) {
        if scanned > 0 {
            self.exact.add(took.as_nanos() as f32 / scanned as f32);
        }
    }

    pub(crate) fn exact(&self, scanned: usize) -> Duration {
        Duration::from_nanos((self.exact.get() * scanned as f32) as u64)
    }
}
