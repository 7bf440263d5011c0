//! What all requests together hold of writes in flight: one number, one limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::gauge::Gauge;

/// Bytes held by all watches.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: AtomicUsize,
    limit: usize,
    gauge: Gauge,
}

impl Held {
    pub(crate) fn new(limit: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), limit, gauge })
    }
}

/// One request's part of it; given back on drop.
#[derive(Debug)]
pub(crate) struct Share {
    all: Arc<Held>,
    mine: usize,
}

impl Share {
    pub(crate) fn of(all: &Arc<Held>) -> Self {
        Self { all: Arc::clone(all), mine: 0 }
    }

    /// Holds `bytes` from now on; false where that is more than may be held by all.
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        let before = self.mine;
        if bytes == before {
            return true;
        }
        let grown = bytes.saturating_sub(before);
        if grown > 0 {
            let total = self.all.bytes.fetch_add(grown, Ordering::Relaxed) + grown;
            if total > self.all.limit {
                self.all.bytes.fetch_sub(grown, Ordering::Relaxed);
                return false;
            }
        } else {
            self.all.bytes.fetch_sub(before - bytes, Ordering::Relaxed);
        }
        self.mine = bytes;
        self.all.gauge.set(self.all.bytes.load(Ordering::Relaxed) as i64);
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn together_they_stay_within_the_limit() {
        let all = Held::new(100, Gauge::default());
        let (mut one, mut two) = (Share::of(&all), Share::of(&all));
        assert!(one.resize(60));
        assert!(!two.resize(50));
        assert!(two.resize(40));
        assert!(one.resize(10) && two.resize(90));
        assert_eq!(all.gauge.get(), 100);
        drop(two);
        assert_eq!(all.gauge.get(), 10);
        assert!(one.resize(100));
    }
}
