//! A gate that lets so many through at once. Those who must wait are let through tenant by tenant, each as
//! its weight says (start-time fair queueing), so that one tenant's thousand do not stand before another's one.
//!
//! Who gives up waiting leaves the queue at once. Queues have limits, each tenant's and all together: beyond
//! them a request is turned away.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;

/// Requests that may wait, of all tenants.
const MAX_WAITING: usize = 4_096;
/// Requests of one tenant that may wait.
const MAX_WAITING_OF_ONE: usize = 512;
/// What a cost of 1 takes of virtual time at weight 1.
const UNIT: u64 = 1 << 16;

/// On whose account something waits: equal keys share a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Whose it is.
    pub key: u64,
    /// Its share.
    pub weight: u32,
}

impl Default for Flow {
    /// What is nobody's.
    fn default() -> Self {
        Self { key: 0, weight: 1 }
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct FairGate {
    state: Mutex<State>,
    metrics: GateMetrics,
}

/// What is counted at a gate.
#[derive(Clone, Debug, Default)]
pub struct GateMetrics {
    waiting: Gauge,
    turned_away: Counter,
}

impl GateMetrics {
    /// Registers the metrics, named after what lies beyond the gate.
    pub fn new(registry: &mut Registry, name: &str) -> Self {
        let this = Self::default();
        registry.register(
            format!("outrigger_{name}_waiting"),
            "Requests that wait for their turn",
            this.waiting.clone(),
        );
        registry.register(
            format!("outrigger_{name}_turned_away"),
            "Requests that found no room to wait, or waited too long",
            this.turned_away.clone(),
        );
        this
    }
}

/// A place beyond the gate; given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<FairGate>);

/// Too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

#[derive(Debug)]
struct State {
    free: usize,
    waiting: usize,
    /// The start tag of whoever was let through last.
    virtual_time: u64,
    next_waiter: u64,
    /// Those who wait, and those whose share is used up for now.
    flows: HashMap<u64, Queue>,
    /// With so many flows those that are of no use any more are looked for.
    prune_at: usize,
    /// The start tag of each flow's first waiter.
    first: BTreeSet<(u64, u64)>,
}

#[derive(Debug, Default)]
struct Queue {
    waiters: VecDeque<Waiter>,
    /// Where the last waiter's turn ends.
    finish: u64,
    /// The same of who was let through last.
    served: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    start: u64,
    finish: u64,
    turn: oneshot::Sender<()>,
}

impl FairGate {
    /// Lets `places` through at once.
    pub fn new(places: usize, metrics: GateMetrics) -> Arc<Self> {
        let state = State {
            free: places.max(1),
            waiting: 0,
            virtual_time: 0,
            next_waiter: 0,
            flows: HashMap::new(),
            prune_at: MAX_WAITING,
            first: BTreeSet::new(),
        };
        Arc::new(Self { state: Mutex::new(state), metrics })
    }

    /// Waits for a place, not longer than `patience`. `cost` is what it counts against the flow's share.
    /// Dropping the future gives up.
    pub async fn enter(self: &Arc<Self>, flow: Flow, cost: u64, patience: Duration) -> Result<Place, Full> {
        let (number, turn) = {
            let mut state = self.state.lock();
            if state.free > 0 && state.waiting == 0 {
                state.free -= 1;
                return Ok(Place(Arc::clone(self)));
            }
            let queued = state.queue(flow, cost).ok_or_else(|| self.turn_away())?;
            self.metrics.waiting.set(state.waiting as i64);
            queued
        };
        let mut waiting = Waiting { gate: self, key: flow.key, number, turn, is_over: false };
        match tokio::time::timeout(patience, &mut waiting.turn).await {
            // Whoever sent it has taken the place from the free ones.
            Ok(Ok(())) => {
                waiting.is_over = true;
                Ok(Place(Arc::clone(self)))
            }
            _ => Err(self.turn_away()),
        }
    }

    /// Whether a request of this flow would be turned away.
    pub fn is_full(&self, flow: Flow) -> bool {
        let state = self.state.lock();
        state.waiting > 0 && state.is_full(flow.key)
    }

    /// Counts a request that found no room to wait.
    pub(crate) fn turn_away(&self) -> Full {
        self.metrics.turned_away.inc();
        Full
    }

    /// How many wait now.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting
    }

    fn give_back(&self) {
        let mut state = self.state.lock();
        state.free += 1;
        state.let_through();
        self.metrics.waiting.set(state.waiting as i64);
    }
}

impl State {
    fn is_full(&self, key: u64) -> bool {
        self.waiting >= MAX_WAITING
            || self.flows.get(&key).is_some_and(|queue| queue.waiters.len() >= MAX_WAITING_OF_ONE)
    }

    fn queue(&mut self, flow: Flow, cost: u64) -> Option<(u64, oneshot::Receiver<()>)> {
        if self.is_full(flow.key) {
            return None;
        }
        if self.flows.len() >= self.prune_at {
            let now = self.virtual_time;
            self.flows.retain(|_, queue| !queue.is_over(now));
            self.prune_at = MAX_WAITING.max(2 * self.flows.len());
        }
        let (turn, receiver) = oneshot::channel();
        let number = self.next_waiter;
        self.next_waiter += 1;
        let queue = self.flows.entry(flow.key).or_default();
        let start = queue.finish.max(self.virtual_time);
        let finish = start.saturating_add(cost.max(1).saturating_mul(UNIT) / u64::from(flow.weight.max(1)));
        queue.finish = finish;
        if queue.waiters.is_empty() {
            self.first.insert((start, flow.key));
        }
        queue.waiters.push_back(Waiter { number, start, finish, turn });
        self.waiting += 1;
        Some((number, receiver))
    }

    /// Gives free places to those who wait.
    fn let_through(&mut self) {
        while self.free > 0 {
            let Some((start, key)) = self.first.pop_first() else { return };
            let Some(queue) = self.flows.get_mut(&key) else { continue };
            let Some(waiter) = queue.waiters.pop_front() else { continue };
            queue.served = waiter.finish;
            self.waiting -= 1;
            self.virtual_time = start;
            self.settle(key);
            if waiter.turn.send(()).is_ok() {
                self.free -= 1;
            }
        }
    }

    /// Somebody gave up.
    fn leave(&mut self, key: u64, number: u64) {
        let Some(queue) = self.flows.get_mut(&key) else { return };
        let Ok(at) = queue.waiters.binary_search_by_key(&number, |waiter| waiter.number) else { return };
        if at == 0
            && let Some(first) = queue.waiters.front()
        {
            self.first.remove(&(first.start, key));
        }
        queue.waiters.remove(at);
        if queue.waiters.is_empty() {
            // Who gave up has used nothing.
            queue.finish = queue.served;
        }
        self.waiting -= 1;
        if at == 0 {
            self.settle(key);
        }
    }

    /// After a flow's first waiter went: the next one is first. A flow of which nobody waits is remembered until
    /// others had as much, or who has just one waiting at a time would always be the next.
    fn settle(&mut self, key: u64) {
        if self.waiting == 0 {
            self.flows.clear();
            return;
        }
        let Some(queue) = self.flows.get_mut(&key) else { return };
        if let Some(next) = queue.waiters.front() {
            self.first.insert((next.start, key));
        } else if queue.is_over(self.virtual_time) {
            self.flows.remove(&key);
        } else {
            queue.waiters = VecDeque::new();
        }
    }
}

impl Queue {
    /// Nobody waits, and others had as much as was had here.
    fn is_over(&self, virtual_time: u64) -> bool {
        self.waiters.is_empty() && self.finish <= virtual_time
    }
}

/// Somebody in the queue.
struct Waiting<'a> {
    gate: &'a FairGate,
    key: u64,
    number: u64,
    turn: oneshot::Receiver<()>,
    is_over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.gate.state.lock();
        self.turn.close();
        if self.turn.try_recv().is_ok() {
            // The turn came while its owner went.
            state.free += 1;
            state.let_through();
        } else {
            state.leave(self.key, self.number);
        }
        self.gate.metrics.waiting.set(state.waiting as i64);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

#[cfg(test)]
mod tests;
