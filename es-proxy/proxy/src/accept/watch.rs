//! What each client connection is doing, in coarse time, so that clients which hold us up can be found.
//!
//! A timer per connection would cost memory and a wake-up per request. Instead each worker has one [`Clock`]
//! that moves a few times a second; connections note on it when they began to wait for their client, and
//! the [`Watchman`] of the worker looks at all of them with each move. Slow is who sends the head of a request
//! or a body too slowly, or does not take its response. Who is idle is left alone, as in Elasticsearch, until
//! the last place for a connection is taken: then the oldest idle ones make room.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::config::ClientTimeouts;
use crate::telemetry::WireMetrics;

/// A worker's coarse time: milliseconds since it began, never 0.
#[derive(Clone, Debug)]
pub(crate) struct Clock(Rc<Cell<u64>>);

impl Clock {
    pub(crate) fn new() -> Self {
        Self(Rc::new(Cell::new(1)))
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.get()
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// For a request.
    Idle,
    /// For the rest of the head of one.
    Head,
    /// For the end of the response.
    Serving,
}

/// One connection, shared by its socket, its requests and the watchman.
#[derive(Debug)]
pub(crate) struct Watch {
    clock: Clock,
    phase: Cell<Phase>,
    /// When the phase began; 0 for none of these and those below.
    since: Cell<u64>,
    /// The client shall send more of a body.
    body_wanted: Cell<u64>,
    /// The client shall take more of a response.
    write_blocked: Cell<u64>,
    /// All bytes of our responses have been written: what is written now is hyper's own.
    flushed: Cell<bool>,
    task: RefCell<Option<AbortHandle>>,
}

impl Watch {
    fn new(clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            phase: Cell::new(Phase::Idle),
            since: Cell::new(clock.now()),
            body_wanted: Cell::new(0),
            write_blocked: Cell::new(0),
            flushed: Cell::new(true),
            task: RefCell::new(None),
        }
    }

    /// The worker's coarse time.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.clock.now());
    }

    /// Bytes arrived. Whether they are the first of a head.
    pub(crate) fn received(&self) -> bool {
        let first = self.phase.get() == Phase::Idle;
        if first {
            self.enter(Phase::Head);
        }
        self.body_wanted.set(0);
        first
    }

    /// Whether the head of a request is being received.
    pub(crate) fn in_head(&self) -> bool {
        self.phase.get() == Phase::Head
    }

    /// The head of a request was received; until what is returned is dropped, it is being served.
    pub(crate) fn serving(self: &Rc<Self>) -> Serving {
        self.enter(Phase::Serving);
        self.flushed.set(false);
        Serving(Rc::clone(self))
    }

    /// The client is waited for to send more of a body.
    pub(crate) fn wants_body(&self) {
        if self.body_wanted.get() == 0 {
            self.body_wanted.set(self.clock.now());
        }
    }

    /// What was to be written has been taken, or has not.
    pub(crate) fn wrote(&self, taken: bool) {
        if taken {
            self.write_blocked.set(0);
        } else if self.write_blocked.get() == 0 {
            self.write_blocked.set(self.clock.now());
        }
    }

    /// Nothing is left to be written at the moment.
    pub(crate) fn flushed(&self) {
        if self.phase.get() != Phase::Serving {
            self.flushed.set(true);
        }
    }

    /// Whether what is written now answers no request that was handed to us.
    pub(crate) fn is_unasked(&self) -> bool {
        self.flushed.get()
    }

    /// Why the connection must end, if so.
    fn overdue(&self, limits: &ClientTimeouts) -> Option<&'static str> {
        let now = self.clock.now();
        let past = |since: u64, limit: Duration| {
            since != 0 && u128::from(now.saturating_sub(since)) > limit.as_millis()
        };
        if self.in_head() && past(self.since.get(), limits.head) {
            Some("head_timeout")
        } else if past(self.body_wanted.get(), limits.body) {
            Some("body_timeout")
        } else if past(self.write_blocked.get(), limits.write) {
            Some("write_timeout")
        } else {
            None
        }
    }

    /// The task to end where the connection must.
    pub(super) fn attended_by(&self, task: AbortHandle) {
        self.task.replace(Some(task));
    }

    fn end(&self) {
        if let Some(task) = self.task.borrow_mut().take() {
            task.abort();
        }
    }
}

/// A request is being served.
#[derive(Debug)]
pub(crate) struct Serving(Rc<Watch>);

impl Serving {
    pub(crate) fn watch(&self) -> &Rc<Watch> {
        &self.0
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.enter(Phase::Idle);
        self.0.body_wanted.set(0);
    }
}

/// All connections of one worker.
pub(super) struct Watchman {
    clock: Clock,
    limits: ClientTimeouts,
    metrics: WireMetrics,
    connections: RefCell<Vec<Weak<Watch>>>,
}

impl Watchman {
    pub(super) fn new(limits: ClientTimeouts, metrics: WireMetrics) -> Self {
        Self { clock: Clock::new(), limits, metrics, connections: RefCell::default() }
    }

    /// A new connection.
    pub(super) fn admit(&self) -> Rc<Watch> {
        let watch = Rc::new(Watch::new(&self.clock));
        self.connections.borrow_mut().push(Rc::downgrade(&watch));
        watch
    }

    /// Looks at all connections again and again.
    pub(super) async fn watch(&self) {
        let began = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval(self.limits.tick());
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.clock.0.set(millis.max(1));
            self.connections.borrow_mut().retain(|connection| {
                let Some(watch) = connection.upgrade() else { return false };
                if let Some(reason) = watch.overdue(&self.limits) {
                    self.metrics.ended(reason);
                    watch.end();
                }
                true
            });
        }
    }

    /// Ends the connections that have been idle for longest, some at once since looking for them costs a walk
    /// over all. Whether there were any.
    pub(super) fn make_room(&self) -> bool {
        let mut idle: Vec<Rc<Watch>> = {
            let connections = self.connections.borrow();
            let live = connections.iter().filter_map(Weak::upgrade);
            live.filter(|watch| watch.phase.get() == Phase::Idle && watch.flushed.get()).collect()
        };
        idle.sort_by_key(|watch| watch.since.get());
        let count = (idle.len() / 100).max(1);
        for watch in idle.iter().take(count) {
            self.metrics.ended("made_room");
            watch.end();
        }
        !idle.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watchman() -> Watchman {
        let limits = ClientTimeouts {
            head: Duration::from_millis(100),
            body: Duration::from_millis(200),
            write: Duration::from_millis(300),
        };
        Watchman::new(limits, WireMetrics::new(&mut prometheus_client::registry::Registry::default()))
    }

    #[test]
    fn only_who_lets_us_wait_is_overdue() {
        let watchman = watchman();
        let watch = watchman.admit();
        let overdue_at = |now: u64| {
            watchman.clock.0.set(now);
            watch.overdue(&watchman.limits)
        };
        assert_eq!(overdue_at(1_000_000), None, "idle connections stay");
        assert!(watch.received(), "the first bytes of a head");
        assert!(!watch.received());
        assert_eq!(overdue_at(1_000_100), None);
        assert_eq!(overdue_at(1_000_101), Some("head_timeout"));
        let serving = watch.serving();
        assert_eq!(overdue_at(2_000_000), None, "Elasticsearch may take its time");
        watch.wants_body();
        assert_eq!(overdue_at(2_000_201), Some("body_timeout"));
        watch.received();
        watch.wrote(false);
        assert_eq!(overdue_at(2_000_500), None);
        assert_eq!(overdue_at(2_000_502), Some("write_timeout"));
        watch.wrote(true);
        drop(serving);
        assert_eq!(overdue_at(9_000_000), None);
    }

    #[test]
    fn room_is_made_by_idle_connections_alone() {
        let watchman = watchman();
        let (old, busy) = (watchman.admit(), watchman.admit());
        let serving = busy.serving();
        assert!(watchman.make_room());
        let _head = old.received();
        assert!(!watchman.make_room(), "a head has begun on one, the other is being served");
        drop(serving);
        assert!(!watchman.make_room(), "its response is not written yet");
        busy.flushed();
        assert!(watchman.make_room());
    }
}
