//! So much per second, and a burst after a rest: GCRA, decided by `governor`.
//!
//! Two kinds. A [`Rate`] counts requests, which are known before anything is done for them. A [`Budget`]
//! counts what is only known afterwards (bytes of a stream, documents of a bulk, the work of a search): who
//! owes nothing is let in, and what it then uses is charged, which may leave a debt that time pays.
//!
//! Governor keeps its state, the *theoretical arrival time*, in a store of ours: so that a debt can be charged,
//! and that what is left can be shown without taking it.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use governor::clock::{Clock, QuantaClock, QuantaInstant, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

const SECOND: f64 = 1e9;

/// One request is so many cells of governor's,
const CELLS: u32 = 16;
/// up to so many requests per second: beyond, a cell would be less than some nanoseconds.
const FINEST: f64 = 100_000.0;

/// The furthest that a debt reaches: whoever owes more is let in again after that time.
const LONGEST_DEBT: u64 = 3_600_000_000_000;

/// One clock for all limiters: each its own would be most of what they take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessClock;

static CLOCK: LazyLock<QuantaClock> = LazyLock::new(QuantaClock::default);

impl Clock for ProcessClock {
    type Instant = QuantaInstant;

    fn now(&self) -> QuantaInstant {
        CLOCK.now()
    }
}

/// The moment at which nothing is used any more, in nanoseconds since the limiter was made.
#[derive(Clone, Debug, Default)]
struct ArrivalTime(Arc<AtomicU64>);

impl StateStore for ArrivalTime {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut before = self.0.load(Ordering::Acquire);
        loop {
            let (outcome, after) = decide(Some(Nanos::new(before)))?;
            let swapped =
                self.0.compare_exchange_weak(before, after.as_u64(), Ordering::Release, Ordering::Acquire);
            match swapped {
                Ok(_) => return Ok(outcome),
                Err(now) => before = now,
            }
        }
    }
}

/// Requests per second.
#[derive(Debug)]
pub(crate) struct Rate<C: Clock = ProcessClock> {
    limiter: RateLimiter<NotKeyed, ArrivalTime, C, NoOpMiddleware<C::Instant>>,
    /// Cells of the limiter that one takes.
    cells: NonZeroU32,
    meter: Meter<C>,
}

/// Other things per second; see the head of this file.
#[derive(Debug)]
pub(crate) struct Budget<C: Clock = ProcessClock> {
    meter: Meter<C>,
    clock: C,
}

/// How much is used, in time.
#[derive(Debug)]
struct Meter<C: Clock> {
    used: ArrivalTime,
    start: C::Instant,
    /// Nanoseconds that one takes to come back.
    period: f64,
    /// Nanoseconds that all of a burst take.
    depth: u64,
}

impl Rate {
    /// `per_second` in the mean, `burst` at once.
    pub(crate) fn new(per_second: f64, burst: Option<u32>) -> Self {
        Self::with_clock(per_second, burst, ProcessClock)
    }
}

impl<C: Clock> Rate<C> {
    pub(crate) fn with_clock(per_second: f64, burst: Option<u32>, clock: C) -> Self {
        let of_a_second = per_second.ceil().clamp(1.0, f64::from(u32::MAX)) as u32;
        let burst = burst.unwrap_or(of_a_second).clamp(1, u32::MAX / (2 * CELLS));
        // Half of one more than may come at once: who comes a little later than he might loses nothing, and the
        // rate is met also where only one may come at once.
        let (cells, all) = if per_second <= FINEST { (CELLS, burst * CELLS + CELLS / 2) } else { (1, burst) };
        let cell = (SECOND / per_second / f64::from(cells)).clamp(1.0, 1e16).round();
        let used = ArrivalTime::default();
        // Neither a period of at least a nanosecond nor so many cells are ever refused.
        let of_cells = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(Duration::from_nanos(cell as u64));
        let quota = quota.unwrap_or(Quota::per_second(NonZeroU32::MAX)).allow_burst(of_cells(all));
        let depth = (cell * f64::from(all)).min(1e18) as u64;
        let meter = Meter { used: used.clone(), start: clock.now(), period: cell * f64::from(cells), depth };
        Self { limiter: RateLimiter::new(quota, used, clock), cells: of_cells(cells), meter }
    }

    /// Lets one in, or says when the next may be.
    pub(crate) fn check(&self) -> Result<(), Duration> {
        match self.limiter.check_n(self.cells) {
            Ok(Err(until)) => Err(until.wait_time_from(self.limiter.clock().now())),
            _ => Ok(()),
        }
    }

    /// How many would be let in now.
    pub(crate) fn left(&self) -> f64 {
        self.meter.left(self.limiter.clock())
    }
}

impl Budget {
    /// `per_second` in the mean, as much at once.
    pub(crate) fn new(per_second: f64) -> Self {
        Self::with_clock(per_second, ProcessClock)
    }
}

impl<C: Clock> Budget<C> {
    pub(crate) fn with_clock(per_second: f64, clock: C) -> Self {
        let meter = Meter {
            used: ArrivalTime::default(),
            start: clock.now(),
            period: SECOND / per_second,
            depth: SECOND as u64,
        };
        Self { meter, clock }
    }

    /// Whether something is left, or when it will be.
    pub(crate) fn check(&self) -> Result<(), Duration> {
        let owed = self.meter.ahead(&self.clock).saturating_sub(self.meter.depth);
        if owed == 0 { Ok(()) } else { Err(Duration::from_nanos(owed)) }
    }

    /// Uses so much, whether it is there or not.
    pub(crate) fn charge(&self, amount: f64) {
        let taken = (amount * self.meter.period).clamp(0.0, LONGEST_DEBT as f64) as u64;
        let now = self.meter.now(&self.clock);
        let charged = self.meter.used.measure_and_replace(&NotKeyed::NonKey, |used| {
            let used = used.map_or(0, Nanos::as_u64).max(now);
            let charged = used.saturating_add(taken).min(now.saturating_add(LONGEST_DEBT));
            Ok::<_, std::convert::Infallible>(((), Nanos::new(charged)))
        });
        match charged {
            Ok(()) => {}
        }
    }

    /// How much is left; less than nothing where something is owed.
    pub(crate) fn left(&self) -> f64 {
        self.meter.left(&self.clock)
    }
}

impl<C: Clock> Meter<C> {
    fn now(&self, clock: &C) -> u64 {
        clock.now().duration_since(self.start).as_u64()
    }

    /// How far the arrival time lies ahead.
    fn ahead(&self, clock: &C) -> u64 {
        self.used.0.load(Ordering::Acquire).saturating_sub(self.now(clock))
    }

    fn left(&self, clock: &C) -> f64 {
        (self.depth as f64 - self.ahead(clock) as f64) / self.period
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;

    use super::*;

    /// How many are let in within `seconds` by somebody who tries `per_step` times every step.
    fn admitted(
        rate: &Rate<FakeRelativeClock>,
        clock: &FakeRelativeClock,
        seconds: f64,
        offered: f64,
    ) -> f64 {
        let step = Duration::from_secs_f64(1.0 / offered);
        let tries = (seconds * offered) as u64;
        let let_in = (0..tries).filter(|_| {
            clock.advance(step);
            rate.check().is_ok()
        });
        let_in.count() as f64
    }

    #[test]
    fn what_is_let_in_is_what_is_configured_within_two_percent() {
        for per_second in [1.0, 3.0, 10.0, 33.3, 100.0, 777.0, 1_000.0, 3_333.0, 10_000.0] {
            let clock = FakeRelativeClock::default();
            let rate = Rate::with_clock(per_second, Some(1), clock.clone());
            let seconds = (10_000.0 / per_second).max(10.0);
            let let_in = admitted(&rate, &clock, seconds, per_second * 10.0 + 0.7);
            let error = (let_in / (seconds * per_second) - 1.0).abs();
            assert!(error < 0.02, "{per_second}/s: {let_in} in {seconds} s");
        }
    }

    #[test]
    fn a_rest_gives_a_burst_and_no_more() {
        let clock = FakeRelativeClock::default();
        let rate = Rate::with_clock(10.0, Some(5), clock.clone());
        clock.advance(Duration::from_secs(3600));
        assert_eq!((0..100).filter(|_| rate.check().is_ok()).count(), 5);
        assert_eq!(rate.check(), Err(Duration::from_millis(50)));
        assert!(rate.left() < 1.0);
        clock.advance(Duration::from_millis(50));
        assert!((rate.left() - 1.0).abs() < 1e-6);
        assert_eq!((rate.check(), rate.check().is_err()), (Ok(()), true));
    }

    #[test]
    fn a_debt_is_paid_by_time() {
        let clock = FakeRelativeClock::default();
        let budget = Budget::with_clock(1_000.0, clock.clone());
        assert_eq!((budget.check(), budget.left()), (Ok(()), 1_000.0));
        budget.charge(3_500.0);
        assert_eq!(budget.check(), Err(Duration::from_millis(2_500)));
        clock.advance(Duration::from_millis(2_499));
        assert!(budget.check().is_err());
        clock.advance(Duration::from_millis(1));
        assert_eq!(budget.check(), Ok(()));
        // A rest fills it once, however long it was.
        clock.advance(Duration::from_secs(100));
        assert_eq!(budget.left(), 1_000.0);
        // And no debt is for ever.
        budget.charge(f64::MAX);
        clock.advance(Duration::from_nanos(LONGEST_DEBT));
        assert_eq!(budget.check(), Ok(()));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_together(
            per_second in 0.1f64..5_000.0,
            burst in 1u32..200,
            steps in prop::collection::vec((0u64..3_000_000, 1u8..20), 1..300),
        ) {
            let clock = FakeRelativeClock::default();
            let rate = Rate::with_clock(per_second, Some(burst), clock.clone());
            let (mut elapsed, mut let_in) = (0.0, 0u64);
            for (micros, tries) in steps {
                clock.advance(Duration::from_micros(micros));
                elapsed += micros as f64 / 1e6;
                for _ in 0..tries {
                    match rate.check() {
                        Ok(()) => let_in += 1,
                        Err(wait) => {
                            prop_assert!(wait > Duration::ZERO);
                            prop_assert!(wait.as_secs_f64() <= 1.0 / per_second + 1e-6);
                        }
                    }
                    // A nanosecond of rounding for each one.
                    let most = f64::from(burst) + elapsed * per_second * 1.001 + 1.0;
                    prop_assert!(let_in as f64 <= most, "{} of {}", let_in, most);
                    prop_assert!(rate.left() <= f64::from(burst) + 0.5 + 1e-6);
                }
            }
        }

        #[test]
        fn a_budget_lets_in_at_most_a_second_and_the_last_charge(
            per_second in 1.0f64..1e9,
            steps in prop::collection::vec((0u64..3_000_000, 0.0f64..2.0), 1..200),
        ) {
            let clock = FakeRelativeClock::default();
            let budget = Budget::with_clock(per_second, clock.clone());
            let (mut elapsed, mut used, mut largest) = (0.0, 0.0, 0.0f64);
            for (micros, seconds) in steps {
                clock.advance(Duration::from_micros(micros));
                elapsed += micros as f64 / 1e6;
                let amount = seconds * per_second;
                if budget.check().is_ok() {
                    budget.charge(amount);
                    used += amount;
                    largest = largest.max(amount);
                }
                let most = (1.0 + elapsed) * per_second * 1.001 + largest + 1.0;
                prop_assert!(used <= most, "{} of {}", used, most);
            }
        }
    }
}
