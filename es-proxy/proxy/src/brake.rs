//! The brake: a knn search that passes to an offload field is an exact scan in Elasticsearch. Few of
//! them run at once, and together they may compare only so many vectors per second; over that the
//! client gets 429 in Elasticsearch's shape, which official clients retry.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::PassedKnnLimits;

/// Scans of fewer vectors than this cost no more than any other search and are not counted.
const FREE_VECTORS: u64 = 10_000;

/// Requests that may wait for their turn; further ones are refused at once.
const MAX_WAITING: usize = 256;

/// See the head of this file.
pub(crate) struct Brake {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    wait: Duration,
    concurrency: usize,
    rate: DefaultDirectRateLimiter,
    vectors_per_second: u32,
    clock: DefaultClock,
}

/// A scan's turn; given back when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

/// A scan was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: String,
    pub(crate) retry_after: Duration,
}

impl Brake {
    pub(crate) fn new(limits: PassedKnnLimits) -> Self {
        let per_second = NonZeroU32::new(limits.vectors_per_second.max(1)).unwrap_or(NonZeroU32::MIN);
        Self {
            turns: Arc::new(Semaphore::new(limits.concurrency.max(1))),
            waiting: AtomicUsize::new(0),
            wait: limits.wait,
            concurrency: limits.concurrency.max(1),
            rate: RateLimiter::direct(Quota::per_second(per_second)),
            vectors_per_second: per_second.get(),
            clock: DefaultClock::default(),
        }
    }

    /// Takes a turn for a scan over `vectors` vectors.
    pub(crate) async fn take(&self, vectors: u64) -> Result<Turn, Refused> {
        if vectors >= FREE_VECTORS {
            self.spend(vectors)?;
        }
        self.take_turn(vectors).await
    }

    /// The same for a scan of which a filter leaves an unknown part, often a small one: it takes a turn, but
    /// does not count as so many vectors compared.
    pub(crate) async fn take_filtered(&self, vectors: u64) -> Result<Turn, Refused> {
        self.take_turn(vectors).await
    }

    async fn take_turn(&self, vectors: u64) -> Result<Turn, Refused> {
        if vectors < FREE_VECTORS {
            return Ok(Turn { _permit: None });
        }
        let busy = || Refused {
            reason: format!(
                "rejected execution of knn search that passes to an offload field: an exact scan over \
                 {vectors} vectors [concurrency={}, wait={:?}]",
                self.concurrency, self.wait
            ),
            retry_after: self.wait.max(Duration::from_secs(1)),
        };
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(busy());
        }
        let _waiting = Leaves(&self.waiting);
        match tokio::time::timeout(self.wait, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Turn { _permit: Some(permit) }),
            _ => Err(busy()),
        }
    }

    /// One scan may always use a whole second's worth, however large its index is.
    fn spend(&self, vectors: u64) -> Result<(), Refused> {
        let cost = u32::try_from(vectors).unwrap_or(u32::MAX).min(self.vectors_per_second);
        let Some(cost) = NonZeroU32::new(cost) else { return Ok(()) };
        match self.rate.check_n(cost) {
            Ok(Err(not_until)) => Err(Refused {
                reason: format!(
                    "rejected execution of knn search that passes to an offload field: exact scans may \
                     compare [{}] vectors per second",
                    self.vectors_per_second
                ),
                retry_after: not_until.wait_time_from(self.clock.now()),
            }),
            _ => Ok(()),
        }
    }
}

/// Counts a waiting request down, also when its client goes away meanwhile.
struct Leaves<'a>(&'a AtomicUsize);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(concurrency: usize, vectors_per_second: u32) -> PassedKnnLimits {
        PassedKnnLimits { concurrency, wait: Duration::from_millis(20), vectors_per_second }
    }

    #[tokio::test]
    async fn more_scans_than_allowed_are_refused_and_a_finished_one_makes_room() {
        let brake = Brake::new(limits(1, 1_000_000));
        let first = brake.take(20_000).await.unwrap();
        let refused = brake.take(20_000).await.unwrap_err();
        assert!(refused.reason.contains("20000 vectors"), "{}", refused.reason);
        drop(first);
        brake.take(20_000).await.unwrap();
    }

    #[tokio::test]
    async fn filtered_scans_wait_for_turns_but_cost_no_vectors() {
        let brake = Brake::new(limits(1, 100_000));
        for _ in 0..10 {
            brake.take_filtered(10_000_000).await.unwrap();
        }
        let _turn = brake.take(10_000_000).await.unwrap();
        brake.take_filtered(10_000_000).await.unwrap_err();
    }

    #[tokio::test]
    async fn small_indices_are_never_refused() {
        let brake = Brake::new(limits(1, 1));
        let _all: Vec<_> = {
            let mut turns = Vec::new();
            for _ in 0..100 {
                turns.push(brake.take(FREE_VECTORS - 1).await.unwrap());
            }
            turns
        };
    }

    #[tokio::test]
    async fn vectors_per_second_are_limited_and_the_wait_is_told() {
        let brake = Brake::new(limits(8, 100_000));
        brake.take(10_000_000).await.unwrap();
        let refused = brake.take(100_000).await.unwrap_err();
        assert!(refused.retry_after > Duration::from_millis(500), "{:?}", refused.retry_after);
    }
}
