//! Request smuggling: every raw case of [`corpus`] is played through the request path to an upstream that
//! writes down what it gets and takes nothing ambiguous ([`recorder`]). What it got must be what was meant, in
//! order; each response must be the one to its own request; and each request must have been counted.
//!
//! Random changes of these cases follow ([`mutate`]), for as long as `scripts/fuzz wire` says. What such bytes
//! mean nobody knows beforehand; that they mean the same on both sides can be checked all the same.

mod common;
#[allow(missing_docs, unreachable_pub, reason = "modules of a test")]
mod smuggling {
    pub mod corpus;
    pub mod mutate;
    pub mod play;
    pub mod recorder;
}

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use smuggling::corpus::{BEFORE, Case, End, behind, cases};
use smuggling::mutate::mutated;
use smuggling::play::{Stage, check, check_unknown};

#[tokio::test]
async fn nothing_reaches_elasticsearch_that_was_not_meant() {
    let cases = cases();
    assert!(cases.len() >= 500, "{} cases", cases.len());
    let stage = Stage::set().await;
    let mut wrong = Vec::new();
    for case in &cases {
        for step in [usize::MAX, 7, 1] {
            wrong.extend(fault(&stage, case, step).await);
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// What is wrong with a case that comes `step` bytes at a time.
async fn fault(stage: &Stage, case: &Case, step: usize) -> Option<String> {
    let fault = check(stage, case, step).await.err()?;
    let raw = String::from_utf8_lossy(&case.raw).into_owned();
    Some(format!("{} (in steps of {step}): {fault}\n  {raw:?}", case.name))
}

/// A request that comes in one piece with another is judged as if it came alone.
#[tokio::test]
async fn what_came_before_a_request_changes_nothing() {
    let stage = Stage::set().await;
    let mut wrong = Vec::new();
    for (case, first) in cases().iter().zip(BEFORE.iter().cycle()) {
        let case = behind(first, case);
        for step in [usize::MAX, 5] {
            wrong.extend(fault(&stage, &case, step).await);
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// A head is judged alike wherever it is cut: each case at other places, all places by some case.
#[tokio::test]
async fn heads_may_be_cut_anywhere() {
    let stage = Stage::set().await;
    let mut wrong = Vec::new();
    let is_read_alike = |case: &&Case| case.name.starts_with("pass") || case.name.starts_with("line");
    for (number, case) in cases().iter().filter(is_read_alike).enumerate() {
        for cut in (1 + number % CUTS..case.raw.len().min(250)).step_by(CUTS) {
            wrong.extend(fault(&stage, case, cut).await);
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Every so many bytes a case is cut.
const CUTS: usize = 11;

/// What a case looks like can be read off its name, and each stands once.
#[test]
fn cases_are_told_apart_by_their_names() {
    let mut names: Vec<String> = cases().into_iter().map(|case: Case| case.name).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(cases().iter().any(|case| case.end == End::Refused));
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[tokio::test]
async fn random_changes_of_the_cases_mean_the_same_on_both_sides() {
    let (seed, only) = (setting("WIRE_SEED").unwrap_or(1), setting("WIRE_CASE"));
    let end = setting("WIRE_MINUTES").map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let cases = cases();
    let stage = Stage::set().await;
    let mut number = only.unwrap_or(0);
    loop {
        // Each is drawn from the seed and its number alone.
        let mut random =
            Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number));
        let raw = mutated(&cases, &mut random);
        let step = [usize::MAX, 64, 7, 1][random.gen_range(0..4)];
        if let Err(fault) = check_unknown(&stage, &raw, step).await {
            panic!(
                "WIRE_SEED={seed} WIRE_CASE={number} (in steps of {step}): {fault}\n{:?}",
                String::from_utf8_lossy(&raw)
            );
        }
        number += 1;
        match end {
            _ if only.is_some() => break,
            Some(end) if Instant::now() < end => {}
            None if number < 400 => {}
            _ => break,
        }
    }
    println!("{number} changed cases, seed {seed}");
}
