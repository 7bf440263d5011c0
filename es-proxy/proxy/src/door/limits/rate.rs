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

/// The longest that a burst may take to come back, in nanoseconds: thirty years.
const DEEPEST: f64 = 1e18;

/// The furthest that a debt reaches, beyond what may come at once: whoever owes more is let in again after that time.
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
        // Of a slow rate no more at once than decades bring: governor counts nanoseconds in 64 bits.
        let all = all.min((DEEPEST / cell) as u32).max(cells);
        let used = ArrivalTime::default();
        // Neither a period of at least a nanosecond nor so many cells are ever refused.
        let of_cells = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(Duration::from_nanos(cell as u64));
        let quota = quota.unwrap_or(Quota::per_second(NonZeroU32::MAX)).allow_burst(of_cells(all));
        let depth = (cell * f64::from(all)) as u64;
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

    /// Takes so many more, whether they may come now or not: a debt.
    pub(crate) fn charge(&self, count: f64) {
        self.meter.charge(count, self.limiter.clock());
    }

    /// Goes on from what was used of another rate.
    pub(crate) fn carry(&self, before: &Self) {
        self.meter.carry(&before.meter, self.limiter.clock());
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
        self.check_owing(Duration::ZERO)
    }

    /// Whether no more is owed than time pays in so long, or when that will be.
    pub(crate) fn check_owing(&self, debt: Duration) -> Result<(), Duration> {
        let owed = Duration::from_nanos(self.meter.ahead(&self.clock).saturating_sub(self.meter.depth));
        if owed <= debt { Ok(()) } else { Err(owed - debt) }
    }

    /// Uses so much, whether it is there or not.
    pub(crate) fn charge(&self, amount: f64) {
        self.meter.charge(amount, &self.clock);
    }

    /// Goes on from what was used of another budget.
    pub(crate) fn carry(&self, before: &Self) {
        self.meter.carry(&before.meter, &self.clock);
    }

    /// How much is left; less than nothing where something is owed.
    pub(crate) fn left(&self) -> f64 {
        self.meter.left(&self.clock)
    }
}

impl<C: Clock> Meter<C> {
    fn charge(&self, amount: f64, clock: &C) {
        let most = self.depth + LONGEST_DEBT;
        let taken = (amount * self.period).clamp(0.0, most as f64) as u64;
        let now = self.now(clock);
        let charged = self.used.measure_and_replace(&NotKeyed::NonKey, |used| {
            let used = used.map_or(0, Nanos::as_u64).max(now);
            let charged = used.saturating_add(taken).min(now.saturating_add(most));
            Ok::<_, std::convert::Infallible>(((), Nanos::new(charged)))
        });
        match charged {
            Ok(()) => {}
        }
    }

    /// As full as the other one; what is owed there is owed here.
    fn carry(&self, before: &Self, clock: &C) {
        let ahead = before.ahead(clock);
        let full = ahead.min(before.depth) as f64 / before.depth.max(1) as f64;
        let owed = ahead.saturating_sub(before.depth) as f64 / before.period;
        self.charge(full * self.depth as f64 / self.period + owed, clock);
    }

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
    fn requests_within_a_request_are_a_debt() {
        let clock = FakeRelativeClock::default();
        let rate = Rate::with_clock(10.0, Some(5), clock.clone());
        assert_eq!(rate.check(), Ok(()));
        rate.charge(24.0);
        // All of 25 but what may come at once, and the half that is always left.
        assert_eq!(rate.check(), Err(Duration::from_millis(2_050)));
        clock.advance(Duration::from_millis(2_050));
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
        assert_eq!(budget.check(), Err(Duration::from_nanos(LONGEST_DEBT)));
        clock.advance(Duration::from_nanos(LONGEST_DEBT));
        assert_eq!(budget.check(), Ok(()));
    }

    #[test]
    fn a_burst_that_takes_long_to_come_back_is_not_forgotten() {
        let clock = FakeRelativeClock::default();
        let hourly = |burst| Rate::with_clock(1.0 / 3600.0, Some(burst), clock.clone());
        let rate = hourly(24);
        assert_eq!((0..100).filter(|_| rate.check().is_ok()).count(), 24);
        // Neither by what is found within a request nor by other limits.
        rate.charge(1.0);
        let other = hourly(25);
        other.carry(&rate);
        for rate in [rate, other] {
            assert!(rate.left() < 0.0, "{}", rate.left());
            assert!(rate.check().unwrap_err() > Duration::from_secs(3_600));
        }
    }

    #[test]
    fn the_slowest_and_the_fastest_rates_are_rates() {
        for (per_second, burst, at_once) in [
            (1e-6, u32::MAX, 1_000),
            (1e-6, 1, 1),
            (1e12, 1, 1),
            (1e12, u32::MAX, 100_000),
            (0.5, u32::MAX, 100_000),
        ] {
            let rate = Rate::with_clock(per_second, Some(burst), FakeRelativeClock::default());
            let let_in = (0..100_000).take_while(|_| rate.check().is_ok()).count();
            assert_eq!(let_in, at_once, "{per_second}/s, {burst}");
            rate.charge(f64::MAX);
            assert!(rate.check().is_err() && rate.left() <= 0.0);
        }
    }

    proptest! {
        #[test]
        fn whoever_waits_as_told_is_let_in_and_no_body_starves(
            per_second in 0.01f64..10_000.0,
            seconds in 0.0f64..500.0,
            debt in 0u64..30,
        ) {
            let clock = FakeRelativeClock::default();
            let budget = Budget::with_clock(per_second, clock.clone());
            let (items, debt) = ((seconds * per_second) as u64 + 1, Duration::from_secs(debt));
            // Many small ones are told apart in steps, or this would take long.
            let step = (items / 1_000).max(1);
            let (mut left, mut waited) = (items, Duration::ZERO);
            for _ in 0..2_000 {
                if let Err(wait) = budget.check() {
                    clock.advance(wait);
                    waited += wait;
                    prop_assert_eq!(budget.check(), Ok(()));
                }
                let before = left;
                while left > 0 && budget.check_owing(debt).is_ok() {
                    let some = left.min(step);
                    budget.charge(some as f64);
                    left -= some;
                }
                prop_assert!(left < before);
                if left == 0 {
                    break;
                }
            }
            prop_assert_eq!(left, 0);
            // Nobody got more than the rate, what may come at once, what may be owed, and the last step.
            let most = (1.0 + waited.as_secs_f64() + debt.as_secs_f64()) * per_second + step as f64 + 1.0;
            prop_assert!(items as f64 <= most * 1.001, "{} of {}", items, most);
        }

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
