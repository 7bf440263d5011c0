//! Limits in force for one tenant and one class of requests: what of them is left, what is owed, and what is said
//! when one is reached.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;

use crate::door::limits::rate::{Budget, Rate};
use crate::door::limits::slots::{Slot, Slots};
use crate::door::tenant::{Class, ClassLimits};

/// Requests that may wait for their turn where nothing is said.
const WAITING: u32 = 100;
/// While a debt is paid in this time the items of a request that was let in go on, beyond it they are refused
/// one by one: a bulk of usual size is let in whole, and no bulk can owe an hour.
const DEBT_OF_ITEMS: Duration = Duration::from_secs(10);

/// What ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Requests,
    Bytes,
    Vectors,
    Cost,
    Concurrency,
}

impl Reason {
    pub(crate) const ALL: [Self; 5] =
        [Self::Requests, Self::Bytes, Self::Vectors, Self::Cost, Self::Concurrency];

    /// The word in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Bytes => "bytes",
            Self::Vectors => "vectors",
            Self::Cost => "cost",
            Self::Concurrency => "concurrency",
        }
    }
}

/// What a request is found to ask for, beside itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Work {
    /// Further ones within one request.
    pub(crate) requests: f64,
    pub(crate) bytes: u64,
    pub(crate) vectors: f64,
    pub(crate) cost: f64,
}

/// Limits in force.
#[derive(Debug)]
pub(crate) struct Limiter {
    pub(crate) limits: Arc<ClassLimits>,
    requests: Option<Rate>,
    // Seldom there: they shall take no room where they are not.
    pub(super) bytes: Option<Box<Budget>>,
    vectors: Option<Box<Budget>>,
    cost: Option<Budget>,
    pub(super) slots: Option<Slots>,
    pub(super) wait: Duration,
    pub(super) waiting: i64,
    /// Whose they are, for people.
    whose: Arc<str>,
    class: Class,
    /// What is said of each limit, once one was reached.
    bodies: OnceLock<Box<Bodies>>,
}

/// A response for each reason.
type Bodies = [OnceLock<Bytes>; Reason::ALL.len()];

/// What is left of each limit, for `_whoami`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Left {
    pub(crate) requests: Option<f64>,
    pub(crate) bytes: Option<f64>,
    pub(crate) vectors: Option<f64>,
    pub(crate) cost: Option<f64>,
    pub(crate) concurrency: Option<usize>,
}

impl Limiter {
    /// What was used under the limits of `before` is used under these, too: else a change would give all of it again.
    pub(crate) fn new(
        whose: &Arc<str>,
        class: Class,
        limits: &Arc<ClassLimits>,
        before: Option<&Self>,
    ) -> Self {
        let requests = limits.requests_per_second.map(|rate| Rate::new(rate, limits.burst));
        if let (Some(now), Some(before)) = (&requests, before.and_then(|before| before.requests.as_ref())) {
            now.carry(before);
        }
        let budget = |per_second: Option<f64>, of: fn(&Self) -> Option<&Budget>| {
            let now = per_second.map(Budget::new);
            if let (Some(now), Some(before)) = (&now, before.and_then(of)) {
                now.carry(before);
            }
            now
        };
        let bytes = limits.bytes_per_second.map(|bytes| bytes.0 as f64);
        let slots_before = before.and_then(|before| before.slots.as_ref());
        Self {
            requests,
            bytes: budget(bytes, |before| before.bytes.as_deref()).map(Box::new),
            vectors: budget(limits.vectors_per_second, |before| before.vectors.as_deref()).map(Box::new),
            cost: budget(limits.cost_per_second, |before| before.cost.as_ref()),
            slots: limits.concurrency.map(|size| Slots::new(size, slots_before)),
            wait: limits.wait.unwrap_or_default().0,
            waiting: i64::from(limits.waiting.unwrap_or(WAITING)),
            whose: Arc::clone(whose),
            class,
            limits: Arc::clone(limits),
            bodies: OnceLock::new(),
        }
    }

    /// What takes nothing is asked first: who is refused has used nothing up.
    pub(super) fn try_admit(&self) -> Result<Option<Slot>, (Reason, Duration)> {
        let slot = match &self.slots {
            // When one becomes free is for others' requests to say.
            Some(slots) => Some(slots.try_take().ok_or((Reason::Concurrency, Duration::ZERO))?),
            None => None,
        };
        self.try_rates()?;
        Ok(slot)
    }

    pub(super) fn try_rates(&self) -> Result<(), (Reason, Duration)> {
        let budgets = [
            (Reason::Bytes, self.bytes.as_deref()),
            (Reason::Vectors, self.vectors.as_deref()),
            (Reason::Cost, self.cost.as_ref()),
        ];
        // Who comes back when the longest debt is paid owes nothing of the others.
        let owed = budgets.into_iter().filter_map(|(reason, budget)| Some((reason, budget?.check().err()?)));
        if let Some(longest) = owed.max_by_key(|(_, after)| *after) {
            return Err(longest);
        }
        match &self.requests {
            Some(rate) => rate.check().map_err(|after| (Reason::Requests, after)),
            None => Ok(()),
        }
    }

    /// Uses so much, whether it is there or not: a debt keeps later requests out.
    pub(crate) fn charge(&self, work: Work) {
        let amounts = [
            (self.bytes.as_deref(), work.bytes as f64),
            (self.vectors.as_deref(), work.vectors),
            (self.cost.as_ref(), work.cost),
        ];
        for (budget, amount) in amounts {
            if let Some(budget) = budget.as_ref().filter(|_| amount > 0.0) {
                budget.charge(amount);
            }
        }
        if let Some(rate) = self.requests.as_ref().filter(|_| work.requests > 0.0) {
            rate.charge(work.requests);
        }
    }

    /// Whether one more item of a request that was let in may go on.
    pub(super) fn check_item(&self, work: Work) -> Result<(), Reason> {
        let budgets = [
            (Reason::Vectors, self.vectors.as_deref(), work.vectors),
            (Reason::Cost, self.cost.as_ref(), work.cost),
        ];
        for (reason, budget, amount) in budgets {
            if let Some(budget) = budget.filter(|_| amount > 0.0) {
                budget.check_owing(DEBT_OF_ITEMS).map_err(|_| reason)?;
            }
        }
        Ok(())
    }

    /// Whether vectors are limited.
    pub(crate) fn counts_vectors(&self) -> bool {
        self.vectors.is_some()
    }

    /// Whether bytes of bodies are limited.
    pub(crate) fn counts_bytes(&self) -> bool {
        self.bytes.is_some()
    }

    /// Whether the documents or searches in a body are limited.
    pub(crate) fn counts_cost(&self) -> bool {
        self.cost.is_some()
    }

    pub(crate) fn left(&self) -> Left {
        Left {
            requests: self.requests.as_ref().map(Rate::left),
            bytes: self.bytes.as_deref().map(Budget::left),
            vectors: self.vectors.as_deref().map(Budget::left),
            cost: self.cost.as_ref().map(Budget::left),
            concurrency: self.slots.as_ref().map(Slots::free),
        }
    }

    /// The response for what ran out, made once.
    pub(super) fn body(&self, reason: Reason) -> Bytes {
        let made = self.bodies.get_or_init(Box::default)[reason as usize]
            .get_or_init(|| es_wire::rejected_body(&self.sentence(reason)).into());
        made.clone()
    }

    pub(super) fn sentence(&self, reason: Reason) -> String {
        let limits = &self.limits;
        let mut text = format!("rejected execution of {} request of {}: ", self.class.name(), self.whose);
        let of = |number: Option<f64>| number.unwrap_or_default();
        // Writing to a string does not fail.
        let _ = match reason {
            Reason::Requests => write!(text, "requests_per_second={}", of(limits.requests_per_second)),
            Reason::Bytes => write!(text, "bytes_per_second={}", limits.bytes_per_second.unwrap_or_default()),
            Reason::Vectors => write!(text, "vectors_per_second={}", of(limits.vectors_per_second)),
            Reason::Cost => write!(text, "cost_per_second={}", of(limits.cost_per_second)),
            Reason::Concurrency => write!(text, "concurrency={}", limits.concurrency.unwrap_or_default()),
        };
        text
    }
}
