//! The model test: random histories of writes, refreshes, index life and faults against a real
//! Elasticsearch with real sidecars in front of it. The truth is Elasticsearch's exact answer.
//!
//! A history is a seed: [`step`] draws each step from it and the step's number. [`history`] plays
//! them and compares answers; [`watcher`] watches what must hold at any moment. Each document carries
//! the number of the write that made it in a vector of its own ([`document`]), and hits carry `_seq_no`:
//! so a search tells which write it shows.

mod answer;
mod document;
mod history;
mod indices;
mod nodes;
mod perform;
mod requests;
mod shared;
mod sidecar;
mod step;
mod watcher;

use std::time::{Duration, Instant};

use history::History;
pub use step::Scope;

/// What of a history is played, from the environment.
#[derive(Clone, Copy, Debug)]
struct Extent {
    /// `MODEL_SEED`, else drawn.
    seed: u64,
    /// `MODEL_SECONDS` (20).
    time: Duration,
    /// `MODEL_STEPS`: `FROM..TO`, or only a number of steps.
    from: u64,
    /// The step before which it ends, whatever the time.
    to: u64,
}

impl Extent {
    /// Reads the environment.
    fn from_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
        let steps = std::env::var("MODEL_STEPS").ok();
        let (from, to) = match steps.as_deref().map(|steps| steps.split_once("..")) {
            Some(Some((from, to))) => (from.parse().expect("MODEL_STEPS"), to.parse().expect("MODEL_STEPS")),
            Some(None) => (0, number("MODEL_STEPS").expect("MODEL_STEPS")),
            None => (0, u64::MAX),
        };
        Self {
            seed: number("MODEL_SEED").unwrap_or_else(rand::random),
            time: Duration::from_secs(number("MODEL_SECONDS").unwrap_or(20)),
            from,
            to,
        }
    }
}

/// Plays a history; panics with all that is known where it fails.
pub async fn play(label: &str, scope: Scope) {
    let extent = Extent::from_environment();
    eprintln!("{label}: seed {} {scope:?} {extent:?}", extent.seed);
    let mut history = History::begin(label, extent.seed, scope).await;
    let began = Instant::now();
    let mut said = Instant::now();
    let mut number = extent.from;
    while number < extent.to && began.elapsed() < extent.time {
        play_step(&mut history, number, label, extent).await;
        if said.elapsed() > Duration::from_secs(30) {
            said = Instant::now();
            eprintln!("{label}: step {number}, {:?}", history.counts());
        }
        number += 1;
    }
    if let Err(what) = history.finish().await {
        panic!(
            "{label}, MODEL_SEED={} MODEL_STEPS={}..{number}, at its end: {what}",
            extent.seed, extent.from
        );
    }
    let counts = history.counts();
    let (watched, hits) = (history.watched(), history.hits());
    eprintln!(
        "{label}: seed {}, passed: {counts:?}, {watched} watched answers, {hits} requests hit by faults",
        extent.seed
    );
    let compared = counts.strict + counts.eventual;
    assert!(
        compared == 0 || counts.own * 2 > compared,
        "the sidecars answered only {} of {compared}",
        counts.own
    );
}

async fn play_step(history: &mut History, number: u64, label: &str, extent: Extent) {
    if let Err(what) = history.play(number).await {
        panic!(
            "{label} failed: MODEL_SEED={} MODEL_STEPS={}..{} plays it again\n{what}",
            extent.seed,
            extent.from,
            number + 1
        );
    }
}
