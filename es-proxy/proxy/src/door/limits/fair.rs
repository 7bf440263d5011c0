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
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;

    type Entering = Pin<Box<dyn Future<Output = Result<Place, Full>>>>;

    fn entering(gate: &Arc<FairGate>, key: u64, weight: u32) -> Entering {
        let gate = Arc::clone(gate);
        Box::pin(async move { gate.enter(Flow { key, weight }, 1, Duration::from_secs(60)).await })
    }

    fn poll(future: &mut Entering) -> Option<Result<Place, Full>> {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// Lets all through one after the other; the keys in that order.
    fn served(gate: &Arc<FairGate>, place: Place, mut waiting: Vec<(u64, Entering)>) -> Vec<u64> {
        let (mut order, mut place) = (Vec::new(), Some(place));
        while !waiting.is_empty() {
            drop(place.take());
            let next = waiting.iter_mut().position(|(_, entering)| match poll(entering) {
                Some(result) => {
                    place = Some(result.unwrap());
                    true
                }
                None => false,
            });
            order.push(waiting.swap_remove(next.expect("a place for somebody")).0);
        }
        drop(place);
        assert_eq!((gate.waiting(), gate.state.lock().free), (0, 1));
        order
    }

    #[tokio::test]
    async fn one_who_comes_late_does_not_wait_for_all_of_another() {
        let gate = FairGate::new(1, GateMetrics::default());
        let place = poll(&mut entering(&gate, 0, 1)).unwrap().unwrap();
        let mut waiting: Vec<_> = (0..50).map(|_| (1, entering(&gate, 1, 1))).collect();
        waiting.push((2, entering(&gate, 2, 1)));
        waiting.iter_mut().for_each(|(_, entering)| assert!(poll(entering).is_none()));
        let order = served(&gate, place, waiting);
        let turn = order.iter().position(|&key| key == 2).unwrap();
        assert!(turn <= 1, "{turn}");
    }

    #[tokio::test]
    async fn places_are_shared_by_weight() {
        let gate = FairGate::new(1, GateMetrics::default());
        let place = poll(&mut entering(&gate, 0, 1)).unwrap().unwrap();
        let mut waiting: Vec<_> = (0..40)
            .flat_map(|_| [(1, 1), (3, 3)])
            .map(|(key, weight)| (key, entering(&gate, key, weight)))
            .collect();
        waiting.iter_mut().for_each(|(_, entering)| assert!(poll(entering).is_none()));
        let order = served(&gate, place, waiting);
        let early = order[..40].iter().filter(|&&key| key == 3).count();
        assert!((28..=32).contains(&early), "{early} of 40");
    }

    #[tokio::test]
    async fn one_who_always_has_just_one_waiting_leaves_others_their_share() {
        for (busy, other) in [(1, 2), (2, 1)] {
            let gate = FairGate::new(1, GateMetrics::default());
            let mut place = poll(&mut entering(&gate, busy, 1)).unwrap().ok();
            let mut next = entering(&gate, busy, 1);
            let mut others: Vec<_> = (0..10).map(|_| entering(&gate, other, 1)).collect();
            others.iter_mut().for_each(|entering| assert!(poll(entering).is_none()));
            let mut rounds = 0;
            while !others.is_empty() {
                assert!(poll(&mut next).is_none());
                drop(place.take());
                if let Some(entered) = poll(&mut next) {
                    place = entered.ok();
                    next = entering(&gate, busy, 1);
                } else {
                    let entered = others.iter_mut().find_map(poll).expect("a place for somebody");
                    place = entered.ok();
                    drop(others.remove(0));
                }
                rounds += 1;
                assert!(rounds <= 22, "{} of 10 wait after {rounds} turns", others.len());
            }
        }
    }

    #[tokio::test]
    async fn who_gave_up_has_used_nothing() {
        let gate = FairGate::new(1, GateMetrics::default());
        let place = poll(&mut entering(&gate, 0, 1)).unwrap().unwrap();
        let mut others: Vec<_> = (0..20).map(|_| (2, entering(&gate, 2, 1))).collect();
        let mut gone: Vec<_> = (0..20).map(|_| entering(&gate, 1, 1)).collect();
        others.iter_mut().for_each(|(_, entering)| assert!(poll(entering).is_none()));
        gone.iter_mut().for_each(|entering| assert!(poll(entering).is_none()));
        drop(gone);
        let mut late = entering(&gate, 1, 1);
        assert!(poll(&mut late).is_none());
        others.push((1, late));
        let order = served(&gate, place, others);
        assert!(order.iter().position(|&key| key == 1).unwrap() <= 1, "{order:?}");
    }

    #[tokio::test]
    async fn beyond_its_limit_a_tenant_is_turned_away_and_others_are_not() {
        let gate = FairGate::new(1, GateMetrics::default());
        let _place = poll(&mut entering(&gate, 0, 1)).unwrap().unwrap();
        let mut waiting: Vec<_> = (0..MAX_WAITING_OF_ONE).map(|_| entering(&gate, 1, 1)).collect();
        waiting.iter_mut().for_each(|entering| assert!(poll(entering).is_none()));
        assert!(gate.is_full(Flow { key: 1, weight: 1 }) && !gate.is_full(Flow { key: 2, weight: 1 }));
        assert_eq!(poll(&mut entering(&gate, 1, 1)).unwrap().unwrap_err(), Full);
        assert_eq!(gate.metrics.turned_away.get(), 1);
        let mut other = entering(&gate, 2, 1);
        assert!(poll(&mut other).is_none());
        drop((waiting, other));
        assert_eq!(gate.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let gate = FairGate::new(1, GateMetrics::default());
        let (flow, patience) = (Flow::default(), Duration::from_secs(3));
        let place = gate.enter(flow, 1, patience).await.unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(gate.enter(flow, 1, patience).await.unwrap_err(), Full);
        assert_eq!((began.elapsed(), gate.waiting()), (patience, 0));
        drop(place);
        gate.enter(flow, 1, patience).await.unwrap();
    }

    proptest! {
        /// Whatever happens, no place is lost or doubled and nobody is forgotten.
        #[test]
        fn places_are_neither_lost_nor_doubled(
            places in 1usize..4,
            steps in prop::collection::vec((0u8..4, 0u64..5, 0usize..64), 1..300),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let _timers = runtime.enter();
            let gate = FairGate::new(places, GateMetrics::default());
            let (mut waiting, mut inside): (Vec<Entering>, Vec<Place>) = (Vec::new(), Vec::new());
            for (what, key, at) in steps {
                match what {
                    0 | 1 => waiting.push(entering(&gate, key, key as u32 + 1)),
                    2 if !inside.is_empty() => drop(inside.swap_remove(at % inside.len())),
                    3 if !waiting.is_empty() => drop(waiting.swap_remove(at % waiting.len())),
                    _ => {}
                }
                // Now and then a turn stays unseen for a while.
                if at % 3 > 0 {
                    waiting.retain_mut(|entering| match poll(entering) {
                        Some(result) => {
                            inside.push(result.unwrap());
                            false
                        }
                        None => true,
                    });
                }
                prop_assert!(inside.len() <= places);
            }
            loop {
                let before = waiting.len();
                waiting.retain_mut(|entering| match poll(entering) {
                    Some(result) => {
                        inside.push(result.unwrap());
                        false
                    }
                    None => true,
                });
                if waiting.is_empty() {
                    break;
                }
                prop_assert!(waiting.len() < before || !inside.is_empty(), "somebody waits for ever");
                inside.clear();
            }
            drop(inside);
            let state = gate.state.lock();
            prop_assert_eq!((state.free, state.waiting, state.flows.len(), state.first.len()), (places, 0, 0, 0));
        }
    }
}
