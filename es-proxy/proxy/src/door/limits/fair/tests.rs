//! Whose turn it is, who leaves, what is too many: by hand, and by any order of arrivals and weights.

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
