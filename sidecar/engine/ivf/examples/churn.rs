//! Recall after churn: part of the documents deleted, as many put in from another part of the
//! space, some of them under the names of deleted ones; against a fresh build of the same vectors
//! at equal effort, that is, at as many entries scanned per query.
//!
//! `churn BASE METRIC QUERIES [SHARE]`: files as `ivf_index::tool` reads them; SHARE (0.3) of the
//! documents change. Prints one line of JSON.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Failure;
use ivf_index::tool::{Vectors, metric_named, read_vectors};
use knn_types::{Change, Element, KnnIndex, Metric, Query};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::{Value, json};

const K: usize = 10;
/// Steps in which the change arrives, each published and followed by upkeep.
const STEPS: usize = 20;
/// Share of the new rows that come from the far side of the space; by chance alone it were a half.
const FAR: f64 = 0.9;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [base, metric, queries, rest @ ..] = args.as_slice() else {
        return Err("usage: churn BASE METRIC QUERIES [SHARE]".into());
    };
    let metric = metric_named(metric).ok_or("metric: l2, cosine, dot or mip")?;
    let share: f64 = rest.first().map_or(Ok(0.3), |share| share.parse())?;
    let (mut base, mut queries) = (read_vectors(Path::new(base))?, read_vectors(Path::new(queries))?);
    base.prepare(Element::Float, metric);
    queries.prepare(Element::Float, metric);

    let plan = Plan::new(&base, share);
    let index = common::empty(base.dims(), metric)?;
    let began = Instant::now();
    common::fill(&*index, &plan.old)?;
    let first_build = began.elapsed();
    let imbalance_before = index.stats().imbalance;
    let (live, longest) = churn(&*index, &plan)?;
    let upkeep = index.stats().upkeep;

    let fresh = common::empty(base.dims(), metric)?;
    common::fill(&*fresh, &live)?;
    let floors = common::floors(metric, &live, &queries, K);
    let far: Vec<bool> = queries.rows().map(|query| plan.is_far(query)).collect();
    let judge =
        |index: &Arc<dyn KnnIndex>, nprobe| measure(&**index, metric, &queries, nprobe, &floors, &far);
    let fresh_default = judge(&fresh, None)?;
    let nprobe = nprobe_for(fresh_default.scanned, index.stats().nlist, |nprobe| {
        Ok(judge(&index, Some(nprobe))?.scanned)
    })?;
    let report = json!({
        "vectors": live.len(),
        "dims": base.dims(),
        "metric": metric.name(),
        "share": share,
        "steps": STEPS,
        "upkeep_longest_s": longest.as_secs_f64(),
        "first_build_s": first_build.as_secs_f64(),
        "trained_anew": upkeep.trainings > 1,
        "splits": upkeep.splits,
        "merges": upkeep.merges,
        "reassigned": upkeep.reassigned,
        "before": { "imbalance": imbalance_before },
        "fresh": fresh_default.report(&*fresh),
        "churned": judge(&index, Some(nprobe))?.report(&*index),
        "churned_by_default": judge(&index, None)?.report(&*index),
    });
    println!("{report}");
    Ok(())
}

/// Which rows are there at first, and which come later.
struct Plan<'a> {
    old: Vec<&'a [f32]>,
    new: Vec<&'a [f32]>,
    /// The space is cut in halves across this direction.
    direction: Vec<f32>,
    middle: f32,
}

impl<'a> Plan<'a> {
    fn new(base: &'a Vectors, share: f64) -> Self {
        let mut source = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut rows: Vec<&[f32]> = base.rows().collect();
        rows.shuffle(&mut source);
        let direction: Vec<f32> = rows[0].iter().zip(rows[1]).map(|(a, b)| a - b).collect();
        let mut places: Vec<f32> = rows.iter().map(|row| ivf_kernels::dot(row, &direction)).collect();
        let half = places.len() / 2;
        let middle = *places.select_nth_unstable_by(half, f32::total_cmp).1;
        let mut plan = Self { old: Vec::new(), new: Vec::new(), direction, middle };
        let wanted = (rows.len() as f64 * share / (1.0 + share)) as usize;
        for row in rows {
            let late = if plan.is_far(row) { FAR } else { 1.0 - FAR };
            // Half of the rows are far: so this takes the share that is wanted, and no more.
            let chance = late * 2.0 * share / (1.0 + share);
            if plan.new.len() < wanted && source.gen_bool(chance.min(1.0)) {
                plan.new.push(row);
            } else {
                plan.old.push(row);
            }
        }
        plan
    }

    fn is_far(&self, row: &[f32]) -> bool {
        ivf_kernels::dot(row, &self.direction) > self.middle
    }
}

/// Deletes and inserts in steps; returns what is live, and how long the longest upkeep took.
fn churn<'a>(index: &dyn KnnIndex, plan: &Plan<'a>) -> Result<(Vec<&'a [f32]>, Duration), Failure> {
    let mut source = Xoshiro256PlusPlus::seed_from_u64(2);
    let mut live: Vec<Option<&[f32]>> = plan.old.iter().copied().map(Some).collect();
    let mut leaving: Vec<usize> = (0..live.len()).collect();
    leaving.shuffle(&mut source);
    leaving.truncate(plan.new.len());
    let mut seq_no = live.len();
    let mut longest = Duration::ZERO;
    let step = plan.new.len().div_ceil(STEPS).max(1);
    for (leaving, coming) in leaving.chunks(step).zip(plan.new.chunks(step)) {
        let mut changes: Vec<Change> = Vec::new();
        for (&number, &row) in leaving.iter().zip(coming) {
            changes.push(common::delete(number, seq_no));
            live[number] = None;
            // Half of them take the name of a document that has just gone.
            let name = if source.gen_bool(0.5) { number } else { live.len() };
            changes.push(common::upsert(name, seq_no + 1, row));
            if name == live.len() {
                live.push(None);
            }
            live[name] = Some(row);
            seq_no += 2;
        }
        index.stage(changes)?;
        index.publish(common::epoch(seq_no))?;
        let began = Instant::now();
        while index.maintain()? {}
        longest = longest.max(began.elapsed());
    }
    let live: Vec<&[f32]> = live.into_iter().flatten().collect();
    assert_eq!(live.len() as u64, index.live());
    Ok((live, longest))
}

/// What searches found, and the work they did.
struct Measured {
    recall: f64,
    recall_far: f64,
    lists: f64,
    scanned: f64,
    reranked: f64,
}

impl Measured {
    fn report(&self, index: &dyn KnnIndex) -> Value {
        let stats = index.stats();
        json!({
            "recall": self.recall, "recall_far": self.recall_far, "lists": self.lists, "scanned": self.scanned,
            "reranked": self.reranked, "nlist": stats.nlist, "imbalance": stats.imbalance,
        })
    }
}

fn measure(
    index: &dyn KnnIndex,
    metric: Metric,
    queries: &Vectors,
    nprobe: Option<usize>,
    floors: &[f32],
    far: &[bool],
) -> Result<Measured, Failure> {
    let view = index.view();
    let (mut found, mut found_far) = (0, 0);
    let (mut lists, mut scanned, mut reranked) = (0, 0, 0);
    for ((vector, &floor), &far) in queries.rows().zip(floors).zip(far) {
        let answer = view.search(&Query { nprobe, ..Query::new(vector, K) })?;
        let near = answer.hits.iter().filter(|hit| common::near_enough(metric, hit.value, floor)).count();
        found += near;
        found_far += if far { near } else { 0 };
        lists += answer.stats.lists;
        scanned += answer.stats.scanned;
        reranked += answer.stats.reranked;
    }
    let count = queries.len() as f64;
    let count_far = far.iter().filter(|&&far| far).count().max(1) as f64;
    Ok(Measured {
        recall: found as f64 / (count * K as f64),
        recall_far: found_far as f64 / (count_far * K as f64),
        lists: lists as f64 / count,
        scanned: scanned as f64 / count,
        reranked: reranked as f64 / count,
    })
}

/// The largest of `nlist` numbers of lists with which no more entries are scanned.
fn nprobe_for(
    scanned: f64,
    nlist: usize,
    scanned_with: impl Fn(usize) -> Result<f64, Failure>,
) -> Result<usize, Failure> {
    let (mut enough, mut too_many) = (1, nlist.max(1) + 1);
    while too_many - enough > 1 {
        let middle = enough.midpoint(too_many);
        if scanned_with(middle)? <= scanned { enough = middle } else { too_many = middle }
    }
    Ok(enough)
}
