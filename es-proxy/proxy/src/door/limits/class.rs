//! Who comes in: the requests of one tenant of one class are let in, made to wait or refused by its limits, and
//! counted.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::door::limits::limiter::{Limiter, Reason, Work};
use crate::door::limits::slots::Slot;
use crate::door::tenant::{Class, ClassLimits};

/// A request that must not go on now.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) retry_after: Duration,
    /// The response, ready to be sent.
    pub(crate) body: Bytes,
}

/// What was counted; kept when limits change.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) admitted: AtomicU64,
    pub(crate) refused: [AtomicU64; Reason::ALL.len()],
    pub(crate) in_flight: AtomicI64,
    pub(crate) waiting: AtomicI64,
}

impl Counts {
    /// Whether anybody asked for anything.
    pub(crate) fn is_used(&self) -> bool {
        self.admitted.load(Ordering::Relaxed) > 0
            || Reason::ALL.iter().any(|&reason| self.refused(reason) > 0)
    }

    pub(crate) fn refused(&self, reason: Reason) -> u64 {
        self.refused[reason as usize].load(Ordering::Relaxed)
    }
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Made for who comes first: of many tenants few ask for anything of a class.
    counts: OnceLock<Arc<Counts>>,
    pub(crate) limiter: Option<Arc<Limiter>>,
}

/// A request that was let in; its slot is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    counts: Arc<Counts>,
    limiter: Option<Arc<Limiter>>,
    _slot: Option<Slot>,
}

impl Gate {
    /// Limits as said; `before` is what they and their counts were, which goes on where they are the same.
    pub(crate) fn new(
        whose: &Arc<str>,
        class: Class,
        limits: Option<&Arc<ClassLimits>>,
        before: Option<&Self>,
    ) -> Self {
        let counted = before.and_then(|before| before.counts.get().cloned());
        let counts = counted.map_or_else(OnceLock::new, OnceLock::from);
        let before = before.and_then(|before| before.limiter.as_ref());
        let limiter = limits.map(|limits| match before {
            Some(before) if before.limits == *limits => Arc::clone(before),
            before => Arc::new(Limiter::new(whose, class, limits, before.map(|before| &**before))),
        });
        Self { counts, limiter }
    }

    /// What was counted, if anything.
    pub(crate) fn counted(&self) -> Option<&Counts> {
        self.counts.get().map(|counts| &**counts)
    }

    pub(super) fn counts(&self) -> &Arc<Counts> {
        self.counts.get_or_init(Arc::default)
    }

    /// Lets a request in, at once or after a wait, or refuses it.
    pub(crate) async fn admit(&self, bytes: Option<u64>) -> Result<Permit, Refusal> {
        let Some(limiter) = &self.limiter else { return Ok(self.let_in(None)) };
        let admitted = match limiter.try_admit() {
            Err((_, after)) if !limiter.wait.is_zero() && after <= limiter.wait => self.wait(limiter).await,
            decided => decided,
        };
        match admitted {
            Ok(slot) => {
                if let (Some(budget), Some(bytes)) = (&limiter.bytes, bytes) {
                    budget.charge(bytes as f64);
                }
                Ok(self.let_in(slot))
            }
            Err((reason, retry_after)) => Err(self.refuse(limiter, reason, retry_after)),
        }
    }

    /// Lets in one more of a request that has a permit already: rates and budgets count, slots do not.
    pub(crate) fn admit_more(&self) -> Result<(), Refusal> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        match limiter.try_rates() {
            Ok(()) => {
                self.counts().admitted.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err((reason, retry_after)) => Err(self.refuse(limiter, reason, retry_after)),
        }
    }

    fn refuse(&self, limiter: &Limiter, reason: Reason, retry_after: Duration) -> Refusal {
        self.counts().refused[reason as usize].fetch_add(1, Ordering::Relaxed);
        Refusal { reason, retry_after, body: limiter.body(reason) }
    }

    fn let_in(&self, slot: Option<Slot>) -> Permit {
        let counts = Arc::clone(self.counts());
        counts.admitted.fetch_add(1, Ordering::Relaxed);
        counts.in_flight.fetch_add(1, Ordering::Relaxed);
        Permit { counts, limiter: self.limiter.clone(), _slot: slot }
    }

    /// Waits until there is room, not longer than may be waited.
    async fn wait(&self, limiter: &Limiter) -> Result<Option<Slot>, (Reason, Duration)> {
        let deadline = Instant::now() + limiter.wait;
        if self.counts().waiting.fetch_add(1, Ordering::Relaxed) >= limiter.waiting {
            self.counts().waiting.fetch_sub(1, Ordering::Relaxed);
            return limiter.try_admit();
        }
        let _waiting = Waiting(self.counts());
        loop {
            match limiter.try_admit() {
                Ok(slot) => return Ok(slot),
                Err((Reason::Concurrency, after)) => {
                    let Some(slots) = &limiter.slots else { return Err((Reason::Concurrency, after)) };
                    // Who comes first is served first. The slot is tried for again together with the rest.
                    match tokio::time::timeout_at(deadline, slots.take()).await {
                        Ok(Some(slot)) => match limiter.try_rates() {
                            Ok(()) => return Ok(Some(slot)),
                            Err((reason, after)) if Instant::now() + after > deadline => {
                                return Err((reason, after));
                            }
                            Err((_, after)) => tokio::time::sleep(after).await,
                        },
                        _ => return Err((Reason::Concurrency, after)),
                    }
                }
                Err((reason, after)) if Instant::now() + after > deadline => return Err((reason, after)),
                Err((_, after)) => tokio::time::sleep(after).await,
            }
        }
    }
}

impl Permit {
    /// Charges what was found out of a request that was let in.
    pub(crate) fn charge(&self, work: Work) {
        if let Some(limiter) = &self.limiter {
            limiter.charge(work);
        }
    }

    /// Whether one more item of the request that was let in may go on; the error says why not. Nothing is charged.
    pub(crate) fn check_item(&self, work: Work) -> Result<(), String> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        limiter.check_item(work).map_err(|reason| {
            self.counts.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
            limiter.sentence(reason)
        })
    }

    /// The limits that it was let in under.
    pub(crate) fn limiter(&self) -> Option<&Limiter> {
        self.limiter.as_deref()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.counts.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a waiting request down, also when its client goes away meanwhile.
struct Waiting<'a>(&'a Counts);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(text: &str) -> Gate {
        Gate::new(
            &"tenant [a]".into(),
            Class::Search,
            Some(&Arc::new(serde_json::from_str(text).unwrap())),
            None,
        )
    }

    fn text(refusal: &Refusal) -> &str {
        std::str::from_utf8(&refusal.body).unwrap()
    }

    #[tokio::test]
    async fn requests_beyond_the_burst_are_refused_with_the_limit_named() {
        let gate = gate(r#"{"requests_per_second":0.1,"burst":2}"#);
        let _first = gate.admit(None).await.unwrap();
        gate.admit(None).await.unwrap();
        let refusal = gate.admit(None).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::Requests);
        assert!(refusal.retry_after > Duration::from_secs(4), "{:?}", refusal.retry_after);
        let named = "rejected execution of search request of tenant [a]: requests_per_second=0.1";
        assert!(
            text(&refusal).contains(named) && text(&refusal).ends_with("\"status\":429}"),
            "{}",
            text(&refusal)
        );
        let counts = gate.counts();
        assert_eq!(counts.admitted.load(Ordering::Relaxed), 2);
        assert_eq!(counts.refused[Reason::Requests as usize].load(Ordering::Relaxed), 1);
        assert_eq!(counts.in_flight.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_is_charged_afterwards_keeps_the_next_one_out() {
        for (limits, work, reason) in [
            (r#"{"bytes_per_second":"1kb"}"#, Work { bytes: 5 << 10, ..Work::default() }, Reason::Bytes),
            (r#"{"vectors_per_second":10}"#, Work { vectors: 50.0, ..Work::default() }, Reason::Vectors),
            (r#"{"cost_per_second":10}"#, Work { cost: 50.0, ..Work::default() }, Reason::Cost),
        ] {
            let gate = gate(limits);
            gate.admit(None).await.unwrap().charge(work);
            let refusal = gate.admit(None).await.unwrap_err();
            assert_eq!(refusal.reason, reason);
            assert!(refusal.retry_after > Duration::from_secs(3), "{:?}", refusal.retry_after);
        }
        let bytes = gate(r#"{"bytes_per_second":"1kb"}"#);
        bytes.admit(Some(5 << 10)).await.unwrap();
        assert_eq!(bytes.admit(None).await.unwrap_err().reason, Reason::Bytes);
        // Of several debts the longest is told.
        let several = gate(r#"{"bytes_per_second":"1kb","vectors_per_second":1,"cost_per_second":1}"#);
        let work = Work { bytes: 5 << 10, vectors: 1_000.0, cost: 10.0, ..Work::default() };
        several.admit(None).await.unwrap().charge(work);
        let refusal = several.admit(None).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::Vectors);
        assert!(refusal.retry_after > Duration::from_secs(900), "{:?}", refusal.retry_after);
    }

    #[tokio::test]
    async fn a_slot_is_taken_until_its_permit_goes_and_costs_no_rate_when_it_is_not_there() {
        let gate = gate(r#"{"concurrency":1,"requests_per_second":0.001,"burst":2}"#);
        let first = gate.admit(None).await.unwrap();
        assert_eq!(gate.admit(None).await.unwrap_err().reason, Reason::Concurrency);
        drop(first);
        gate.admit(None).await.unwrap();
        assert_eq!(gate.admit(None).await.unwrap_err().reason, Reason::Requests);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_a_slot_as_long_as_it_may() {
        let gate = Arc::new(gate(r#"{"concurrency":1,"wait":"2s","waiting":1}"#));
        let first = gate.admit(None).await.unwrap();
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.admit(None).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(gate.counts().waiting.load(Ordering::Relaxed), 1);
        assert_eq!(gate.admit(None).await.unwrap_err().reason, Reason::Concurrency, "one may wait");
        drop(first);
        let second = waiting.await.unwrap().unwrap();
        let began = Instant::now();
        assert_eq!(gate.admit(None).await.unwrap_err().reason, Reason::Concurrency);
        assert_eq!(began.elapsed(), Duration::from_secs(2));
        assert_eq!(gate.counts().waiting.load(Ordering::Relaxed), 0);
        drop(second);
    }

    #[test]
    fn the_same_limits_go_on_and_others_begin_where_they_were() {
        let one = gate(r#"{"concurrency":1}"#);
        let same = Gate::new(
            &"tenant [a]".into(),
            Class::Search,
            one.limiter.as_ref().map(|l| &l.limits),
            Some(&one),
        );
        assert!(Arc::ptr_eq(one.limiter.as_ref().unwrap(), same.limiter.as_ref().unwrap()));
        one.counts();
        let slot = one.limiter.as_ref().unwrap().try_admit().unwrap();
        let other = Arc::new(serde_json::from_str(r#"{"concurrency":2}"#).unwrap());
        let other = Gate::new(&"tenant [a]".into(), Class::Search, Some(&other), Some(&one));
        assert!(!Arc::ptr_eq(one.limiter.as_ref().unwrap(), other.limiter.as_ref().unwrap()));
        assert!(Arc::ptr_eq(one.counts(), other.counts()));
        assert_eq!(other.limiter.as_ref().unwrap().left().concurrency, Some(1));
        drop(slot);
        assert_eq!(other.limiter.as_ref().unwrap().left().concurrency, Some(2));
    }

    #[tokio::test]
    async fn a_change_of_limits_gives_nothing_again() {
        let before = gate(r#"{"requests_per_second":0.01,"burst":2,"cost_per_second":0.01}"#);
        before.admit(None).await.unwrap();
        before.admit(None).await.unwrap();
        let changed = |text: &str| {
            let limits = Arc::new(serde_json::from_str(text).unwrap());
            Gate::new(&"tenant [a]".into(), Class::Search, Some(&limits), Some(&before))
        };
        let after = changed(r#"{"requests_per_second":0.02,"burst":4}"#);
        assert_eq!(after.admit(None).await.unwrap_err().reason, Reason::Requests);
        before.limiter.as_ref().unwrap().charge(Work { cost: 10.0, ..Work::default() });
        let after = changed(r#"{"cost_per_second":0.1}"#);
        let refusal = after.admit(None).await.unwrap_err();
        // Ten are owed, less what might come at once under the limits before.
        assert_eq!((refusal.reason, refusal.retry_after.as_secs()), (Reason::Cost, 99));
        changed(r#"{"concurrency":1}"#).admit(None).await.unwrap();
    }
}
