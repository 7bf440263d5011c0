//! What each client connection is doing, in coarse time, so that clients which hold us up can be found.
//!
//! A timer per connection would cost memory and a wake-up per request. Instead each worker has one [`Clock`]
//! that moves a few times a second; connections note on it when they began to wait for their client, and
//! the [`Watchman`] of the worker looks at all of them with each move. Slow is who sends the head of a request
//! or a body too slowly, or does not take its response. Who is idle is left alone, as in Elasticsearch, until
//! the last place for a connection is taken: then the oldest idle ones make room.
//!
//! A response may end before its request has been read. What is left of it then is no head yet: where one begins
//! is known by [`Inbound`](crate::accept::inbound::Inbound), which says what is [`Receiving`].

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::accept::inbound::Framing;
use crate::accept::leftover::Leftover;
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
    /// For the rest of a request that has had its response.
    Rest,
}

/// What the client's next bytes belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiving {
    /// Nothing that has begun.
    Nothing,
    Head,
    Body,
}

/// One connection, shared by its socket, its requests and the watchman.
#[derive(Debug)]
pub(crate) struct Watch {
    clock: Clock,
    phase: Cell<Phase>,
    receiving: Cell<Receiving>,
    /// How long the body is whose head was read last, until somebody asked.
    framing: Cell<Option<Framing>>,
    closing: Cell<bool>,
    /// Where bodies go that nobody wants to read.
    leftovers: mpsc::UnboundedSender<Leftover>,
    /// When the phase began; 0 for none of these and those below.
    since: Cell<u64>,
    /// The client shall send more of a body.
    body_wanted: Cell<u64>,
    /// The client shall take more of a response.
    write_blocked: Cell<u64>,
    /// All bytes of our responses have been written: what is written now is hyper's own.
    flushed: Cell<bool>,
    task: RefCell<Option<AbortHandle>>,
    /// The worker takes no further requests.
    stopped: Cell<bool>,
    /// Who waits for that.
    to_be_told: RefCell<Option<Waker>>,
}

impl Watch {
    fn new(clock: &Clock, leftovers: mpsc::UnboundedSender<Leftover>) -> Self {
        Self {
            clock: clock.clone(),
            phase: Cell::new(Phase::Idle),
            receiving: Cell::new(Receiving::Nothing),
            framing: Cell::new(None),
            closing: Cell::new(false),
            leftovers,
            since: Cell::new(clock.now()),
            body_wanted: Cell::new(0),
            write_blocked: Cell::new(0),
            flushed: Cell::new(true),
            task: RefCell::new(None),
            stopped: Cell::new(false),
            to_be_told: RefCell::new(None),
        }
    }

    /// Waits until the worker takes no further requests. Asked at each turn of the connection, so it takes no
    /// lock; its task is the only one that asks.
    pub(super) async fn stopped(&self) {
        poll_fn(|cx| {
            if self.stopped.get() {
                return Poll::Ready(());
            }
            self.to_be_told.borrow_mut().get_or_insert_with(|| cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn stop(&self) {
        self.stopped.set(true);
        if let Some(waker) = self.to_be_told.borrow_mut().take() {
            waker.wake();
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

    /// Bytes arrived.
    pub(super) fn received(&self) {
        self.body_wanted.set(0);
    }

    /// What they belong to.
    pub(super) fn receives(&self, what: Receiving) {
        if self.receiving.replace(what) == what {
            return;
        }
        match (self.phase.get(), what) {
            (Phase::Idle | Phase::Rest, Receiving::Head) => self.enter(Phase::Head),
            (Phase::Rest, Receiving::Nothing) => self.enter(Phase::Idle),
            _ => {}
        }
    }

    /// The head of a request was read, and its body is so long; until what is returned is dropped, it is being
    /// served.
    pub(crate) fn serving(self: &Rc<Self>, framing: Framing) -> Serving {
        self.enter(Phase::Serving);
        self.receiving.set(if framing == Framing::Length(0) { Receiving::Nothing } else { Receiving::Body });
        self.framing.set(Some(framing));
        self.flushed.set(false);
        Serving(Rc::clone(self))
    }

    /// How long the body is whose head was read last, once.
    pub(super) fn framing(&self) -> Option<Framing> {
        self.framing.take()
    }

    /// What the client sends next must be read by nobody: whether it is a body cannot be told.
    pub(super) fn reads_no_more(&self) {
        self.framing.set(None);
        self.closing.set(true);
    }

    /// Whether the connection ends with the response.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// The client sends more of this body, up to so many bytes, and nobody needs it.
    pub(super) fn leave(self: &Rc<Self>, body: Incoming, limit: u64) {
        // Without its worker there is no connection either.
        let _ = self.leftovers.send(Leftover::new(body, limit, Rc::clone(self)));
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
        if self.phase.get() == Phase::Head && past(self.since.get(), limits.head) {
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
        self.0.enter(match self.0.receiving.get() {
            Receiving::Nothing => Phase::Idle,
            Receiving::Head => Phase::Head,
            Receiving::Body => Phase::Rest,
        });
        self.0.body_wanted.set(0);
        if self.0.phase.get() == Phase::Rest {
            // Whoever reads it may have asked already, and asks again only when something came.
            self.0.wants_body();
        }
    }
}

/// All connections of one worker.
pub(super) struct Watchman {
    clock: Clock,
    limits: ClientTimeouts,
    metrics: WireMetrics,
    connections: RefCell<Vec<Weak<Watch>>>,
    leftovers: mpsc::UnboundedSender<Leftover>,
}

impl Watchman {
    /// With a queue for what is left of requests; there is one for each connection at most.
    pub(super) fn new(
        limits: ClientTimeouts,
        metrics: WireMetrics,
        leftovers: mpsc::UnboundedSender<Leftover>,
    ) -> Self {
        Self { clock: Clock::new(), limits, metrics, connections: RefCell::default(), leftovers }
    }

    /// A new connection.
    pub(super) fn admit(&self) -> Rc<Watch> {
        let watch = Rc::new(Watch::new(&self.clock, self.leftovers.clone()));
        self.connections.borrow_mut().push(Rc::downgrade(&watch));
        watch
    }

    /// No connection takes a further request.
    pub(super) fn stop(&self) {
        self.connections.borrow().iter().filter_map(Weak::upgrade).for_each(|watch| watch.stop());
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
        let metrics = WireMetrics::new(&mut prometheus_client::registry::Registry::default());
        Watchman::new(limits, metrics, mpsc::unbounded_channel().0)
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
        watch.receives(Receiving::Head);
        assert_eq!(overdue_at(1_000_100), None);
        assert_eq!(overdue_at(1_000_101), Some("head_timeout"));
        let serving = watch.serving(Framing::Length(9));
        assert_eq!(overdue_at(2_000_000), None, "Elasticsearch may take its time");
        watch.wants_body();
        assert_eq!(overdue_at(2_000_201), Some("body_timeout"));
        watch.received();
        watch.wrote(false);
        assert_eq!(overdue_at(2_000_500), None);
        assert_eq!(overdue_at(2_000_502), Some("write_timeout"));
        watch.wrote(true);
        drop(serving);
        assert_eq!(overdue_at(2_000_502 + 200), None);
        assert_eq!(
            overdue_at(2_000_502 + 201),
            Some("body_timeout"),
            "also of a request that has its response"
        );
        watch.received();
        watch.receives(Receiving::Nothing);
        assert_eq!(overdue_at(9_900_000), None);
    }

    #[test]
    fn a_head_that_came_early_has_begun() {
        let watchman = watchman();
        let watch = watchman.admit();
        let serving = watch.serving(Framing::Length(0));
        watch.receives(Receiving::Head);
        watchman.clock.0.set(1_000);
        drop(serving);
        watch.flushed();
        assert!(!watchman.make_room());
        watchman.clock.0.set(1_101);
        assert_eq!(watch.overdue(&watchman.limits), Some("head_timeout"));
    }

    #[test]
    fn room_is_made_by_idle_connections_alone() {
        let watchman = watchman();
        let (old, busy) = (watchman.admit(), watchman.admit());
        let serving = busy.serving(Framing::Length(0));
        assert!(watchman.make_room());
        old.receives(Receiving::Head);
        assert!(!watchman.make_room(), "a head has begun on one, the other is being served");
        drop(serving);
        assert!(!watchman.make_room(), "its response is not written yet");
        busy.flushed();
        assert!(watchman.make_room());
    }
}
