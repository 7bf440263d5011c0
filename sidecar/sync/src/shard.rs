//! What is known of one shard, and which next step follows from it. No I/O: this is the part of
//! the feed that can be read and tested as a state machine.
//!
//! An *incarnation* is one copy on one node, started once: its refresh counter only grows. Another
//! node, a counter that went back, or another primary term is another incarnation.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use es_wire::Similarity;
use knn_types::{FieldSpec, IndexKey, KnnIndex};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::checkpoints::Checkpoints;
use crate::filters::ShardFilters;
use crate::pages::exists;
use crate::poll::Primary;
use crate::report::{AgreementReport, AuditReport};
use crate::upkeep::Upkeep;
use crate::written::Written;

/// A shard up to this size is worth waiting for when a client's refresh hits its first build.
const SMALL_BUILD: i64 = 10_000;

/// A refresh of one incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refreshed {
    pub(crate) incarnation: u64,
    pub(crate) refreshes: u64,
}

impl Refreshed {
    /// Whether publishing `self` also published `other`. A later incarnation holds all that an
    /// earlier one had made durable.
    fn covers(self, other: Refreshed) -> bool {
        self.incarnation > other.incarnation
            || (self.incarnation == other.incarnation && self.refreshes >= other.refreshes)
    }
}

/// The index of one field on this shard.
pub(crate) struct FieldIndex {
    pub(crate) key: IndexKey,
    pub(crate) spec: FieldSpec,
    pub(crate) similarity: Similarity,
    /// The `nested` object that the field stands below.
    pub(crate) nested: Option<Arc<str>>,
    pub(crate) index: Arc<dyn KnnIndex>,
    /// Published since this process runs, and so fit to be searched.
    pub(crate) built: AtomicBool,
    pub(crate) last_audit: Mutex<Option<AuditReport>>,
    pub(crate) last_agreement: Mutex<Option<AgreementReport>>,
    pub(crate) upkeep: Mutex<Upkeep>,
    /// Held by the lane of upkeep that is at work here.
    pub(crate) attended: tokio::sync::Mutex<()>,
}

impl FieldIndex {
    /// The query for documents that have the field.
    pub(crate) fn present(&self) -> Value {
        let exists = exists(&self.key.field);
        match &self.nested {
            None => exists,
            Some(path) => json!({"nested": {"path": path, "query": exists}}),
        }
    }
}

impl fmt::Debug for FieldIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FieldIndex({})", self.key)
    }
}

/// A first build on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Held when this try began.
    pub(crate) before: u64,
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) since: Instant,
}

impl Progress {
    /// At the rate so far.
    pub(crate) fn eta(&self) -> Option<Duration> {
        let left = self.total.saturating_sub(self.done) as f64;
        let read = self.done.saturating_sub(self.before);
        (read > 0).then(|| self.since.elapsed().mul_f64(left / read as f64))
    }
}

/// One shard of an adopted index.
pub(crate) struct Shard {
    pub(crate) number: u32,
    pub(crate) state: Mutex<State>,
    pub(crate) written: Mutex<Written>,
    pub(crate) filters: ShardFilters,
    /// Some document of the published state carries `_ignored`, or nobody has looked yet.
    pub(crate) any_ignored: AtomicBool,
}

#[derive(Default)]
pub(crate) struct State {
    /// The newest poll.
    pub(crate) seen: Option<Primary>,
    incarnation: u64,
    out_of_sight: bool,
    checkpoints: Checkpoints,
    /// Lowest of the newest global checkpoints of the incarnations since the last published pull:
    /// fail-overs lost nothing up to here. -1 when that is not known.
    checkpoint_before: Option<i64>,
    /// Primary term, read after this incarnation was first seen.
    pub(crate) term: Option<u64>,
    /// History that `fields` follow.
    pub(crate) history: Option<Arc<str>>,
    pub(crate) fields: BTreeMap<Arc<str>, Arc<FieldIndex>>,
    /// The newest refresh that is published, and the highest `_seq_no` given out when it was seen.
    pub(crate) shown: Option<(Refreshed, i64)>,
    /// A refresh that somebody waits for, even if the index is asleep.
    wanted: Option<Refreshed>,
    /// A refresh that must be published before the shard may be called built.
    floor: Option<Refreshed>,
    /// When a refresh was first seen, while the index was awake, that is not published yet.
    pub(crate) moved_at: Option<Instant>,
    /// A pull is due although no counter moved: a field came, or an audit did not end equal.
    again: bool,
    pub(crate) pulling: bool,
    failures: u32,
    retry_at: Option<Instant>,
    /// The engine refused; tried again, but searches go elsewhere.
    pub(crate) broken: bool,
    pub(crate) progress: Option<Progress>,
    /// Nothing is learnt for the first time until somebody starts that again.
    pub(crate) build_cancelled: bool,
    /// The index is closed or deleted: nobody needs to wait any more.
    pub(crate) departed: bool,
}

/// What a pull has to work with.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) primary: Primary,
    pub(crate) at: Refreshed,
    /// What the point in time will surely show.
    pub(crate) shown_by_then: Option<i64>,
    pub(crate) checkpoint_before: Option<i64>,
    pub(crate) term: Option<u64>,
}

/// What a waiting client needs of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: not searchable anyway, and what was seen now will be part of the first build.
    Nothing,
    /// This refresh published.
    Shown(Refreshed),
}

impl Shard {
    pub(crate) fn new(number: u32) -> Self {
        Self {
            number,
            state: Mutex::default(),
            written: Mutex::default(),
            filters: ShardFilters::default(),
            any_ignored: AtomicBool::new(true),
        }
    }
}

impl State {
    /// Takes in one poll. What an index does not follow because it is asleep is no lag.
    pub(crate) fn record(&mut self, primary: Primary, asleep: bool, now: Instant) {
        let in_sight = !std::mem::take(&mut self.out_of_sight);
        let same_copy = self.seen.as_ref().is_some_and(|before| {
            in_sight
                && before.node == primary.node
                && before.history_uuid == primary.history_uuid
                && before.refreshes <= primary.refreshes
        });
        if !same_copy {
            let checkpoint = self.seen.as_ref().map(|before| before.global_checkpoint);
            self.new_incarnation(checkpoint);
        }
        self.checkpoints.record(primary.refreshes, primary.global_checkpoint);
        self.seen = Some(primary);
        self.moved_at = if self.lags(asleep) { self.moved_at.or(Some(now)) } else { None };
    }

    /// Takes in the primary term of the cluster state. Another term than the one known means that
    /// the copy was started anew even if its counter does not tell. A term that is not known is left
    /// to the pull: this one may have been read before the incarnation began.
    pub(crate) fn check_term(&mut self, term: u64) {
        if self.term.is_some_and(|known| known != term) {
            // The newest poll may have seen the new copy already: its checkpoint proves nothing.
            self.new_incarnation(Some(-1));
            self.term = Some(term);
        }
    }

    /// Elasticsearch, or this shard in it, was out of sight: what comes next may have been started
    /// anew even if its counter happens to be no lower, so it counts as another incarnation.
    pub(crate) fn doubt(&mut self) {
        self.term = None;
        self.out_of_sight = true;
    }

    fn new_incarnation(&mut self, checkpoint: Option<i64>) {
        if let Some(checkpoint) = checkpoint {
            self.checkpoint_before =
                Some(self.checkpoint_before.map_or(checkpoint, |lowest| lowest.min(checkpoint)));
        }
        self.incarnation += 1;
        self.checkpoints = Checkpoints::default();
        self.term = None;
        self.retry_at = None;
    }

    fn now_at(&self) -> Option<Refreshed> {
        let seen = self.seen.as_ref()?;
        Some(Refreshed { incarnation: self.incarnation, refreshes: seen.refreshes })
    }

    fn shows(&self, wanted: Refreshed) -> bool {
        self.shown.is_some_and(|(shown, _)| shown.covers(wanted))
    }

    /// Elasticsearch shows something that is not published here.
    pub(crate) fn moved(&self) -> bool {
        self.again || self.now_at().is_some_and(|now| !self.shows(now))
    }

    /// Something shown by Elasticsearch should be published and is not.
    pub(crate) fn lags(&self, asleep: bool) -> bool {
        self.moved() && (!asleep || self.is_wanted())
    }

    /// Whether to start a pull now.
    pub(crate) fn due(&self, asleep: bool, now: Instant) -> bool {
        if self.pulling || self.seen.is_none() || self.retry_at.is_some_and(|at| now < at) || !self.moved() {
            return false;
        }
        let built = self.is_built();
        if !built && self.build_cancelled {
            return false;
        }
        !asleep || !built || self.is_wanted() || self.again
    }

    /// Every field is learnt.
    pub(crate) fn is_built(&self) -> bool {
        !self.fields.is_empty() && self.fields.values().all(|f| f.built.load(Ordering::Acquire))
    }

    /// Somebody waits for a refresh that is not published.
    fn is_wanted(&self) -> bool {
        self.wanted.is_some_and(|wanted| !self.shows(wanted))
    }

    /// When a failed pull is tried again.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        if self.pulling { None } else { self.retry_at }
    }

    /// Asks for a pull that no counter calls for.
    pub(crate) fn pull_again(&mut self) {
        self.again = true;
    }

    /// What a client must wait for that came after the newest poll was sent.
    pub(crate) fn need(&mut self) -> Need {
        let Some(now) = self.now_at() else { return Need::Nothing };
        if self.shows(now) {
            return Need::Nothing;
        }
        let built = self.is_built();
        let small = self.seen.as_ref().is_some_and(|seen| seen.max_seq_no < SMALL_BUILD);
        // After the first failure searches may still be answered here for a moment.
        let left = self.broken && self.failures > 1;
        if left || !(built || small && !self.build_cancelled) {
            self.floor = Some(now);
            return Need::Nothing;
        }
        self.wanted = Some(now);
        Need::Shown(now)
    }

    /// Whether what was needed is there.
    pub(crate) fn satisfied(&self, need: Need) -> bool {
        match need {
            _ if self.departed => true,
            Need::Nothing => true,
            Need::Shown(wanted) => self.shows(wanted),
        }
    }

    /// Starts a pull of what the newest poll saw.
    pub(crate) fn plan(&self) -> Option<Plan> {
        let primary = self.seen.clone()?;
        let at = self.now_at()?;
        let shown_by_then = self.checkpoints.shown_by(at.refreshes);
        Some(Plan { primary, at, shown_by_then, checkpoint_before: self.checkpoint_before, term: self.term })
    }

    /// The pull of `plan` is published. Returns whether the shard may be called built.
    pub(crate) fn pulled(&mut self, plan: &Plan, equal: bool, now: Instant) -> bool {
        self.shown = Some((plan.at, plan.primary.max_seq_no));
        if plan.at.incarnation == self.incarnation {
            self.checkpoint_before = None;
        }
        self.failures = 0;
        self.retry_at = None;
        // Whoever asked while it was broken was not made to wait: that must be shown first.
        let complete = self.floor.is_none_or(|floor| self.shows(floor));
        self.broken = self.broken && !complete;
        self.progress = None;
        self.again = false;
        if !equal {
            self.again = true;
            self.retry_at = Some(now + Duration::from_secs(5));
        }
        self.moved_at = self.moved().then_some(now);
        complete
    }

    /// The pull failed; the next try comes later and later.
    pub(crate) fn failed(&mut self, now: Instant, longest: Duration) {
        let pause = Duration::from_millis(50) * 2u32.saturating_pow(self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + pause.min(longest));
    }

    /// Operations and time that the published state lacks.
    pub(crate) fn behind(&self, now: Instant) -> (u64, Duration) {
        let Some(seen) = &self.seen else { return (0, Duration::ZERO) };
        if !self.moved() {
            return (0, Duration::ZERO);
        }
        let published = match self.shown {
            Some((shown, max_seq_no)) if shown.incarnation == self.incarnation => max_seq_no,
            Some((_, max_seq_no)) => max_seq_no.min(seen.max_seq_no),
            None => -1,
        };
        let operations = (seen.max_seq_no - published).max(0) as u64;
        (operations, self.moved_at.map_or(Duration::ZERO, |since| now.duration_since(since)))
    }
}

#[cfg(test)]
mod tests;
