//! Every request and every call of the engine, in many histories of one shard, goes wrong once: lost,
//! unanswered, cut, refused, failed, or the last thing before the process dies. Between two of those
//! points a follower only holds what it loses with its life, so these are all the points at which it can
//! be interrupted. Whatever happened: each published state is one that a refresh showed, none is older
//! than the one before, a barrier that says "published" tells the truth, and in the end both sides agree.

mod crash;
#[allow(dead_code, reason = "tests against real nodes use all of it")]
#[path = "../real_node/fake_engine.rs"]
mod fake_engine;
mod faulty_engine;
mod follower;
mod played_shard;
mod server;

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;

use follower::{Fault, play};

/// Histories, each with all its points; `KILL_POINT_HISTORIES` for more.
const HISTORIES: u64 = 2;
/// Runs at the same time: they mostly wait for each other's sockets.
const THREADS: usize = 6;

#[test]
fn whatever_goes_wrong_at_any_point_both_sides_agree() {
    let mut points: Vec<(u64, Option<Fault>)> = Vec::new();
    let histories = std::env::var("KILL_POINT_HISTORIES").ok();
    for seed in 0..histories.map_or(HISTORIES, |text| text.parse().expect("a number")) {
        let seen = play(seed, None);
        points.extend(Fault::all(&seen).into_iter().map(|fault| (seed, Some(fault))));
    }
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some((seed, fault)) = points.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    // The panic says why; here it is only gathered which.
                    if catch_unwind(|| play(*seed, *fault)).is_err() {
                        failed.lock().push(fault.map_or(String::new(), |fault| format!("{seed} {fault}")));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    assert!(failed.is_empty(), "{} of {} points failed: {failed:?}", failed.len(), points.len());
    assert!(points.len() > 1_000, "{} points", points.len());
}

/// One point again, with `RUST_LOG=shard_sync=debug`: `KILL_POINT="3 request 17 Cut" cargo test …`.
#[test]
fn one_point() {
    let Ok(point) = std::env::var("KILL_POINT") else { return };
    let words: Vec<&str> = point.split(' ').collect();
    let [seed, kind, number, wrong] = words[..] else { panic!("SEED request|call NUMBER WRONG") };
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    play(seed.parse().unwrap(), Some(Fault::named(kind, number.parse().unwrap(), wrong)));
}
