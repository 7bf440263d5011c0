//! Calibration: sampled vectors as queries, their true neighbours, and from both the effort that
//! each recall needs.
//!
//! A sampled vector never counts as its own neighbour. A true neighbour is found if its list is
//! visited and its lower bound does not lie beyond the k-th rank: both are counted together,
//! neighbour by neighbour. The sample has noise, and it lies a little nearer to the data than real
//! queries: the mean recall less its standard error and a small [`MARGIN`] has to reach the wish.

use std::time::Instant;

use hashbrown::HashMap;
use knn_types::SearchStats;
use rand::SeedableRng;
use rand::seq::index;
use rand_xoshiro::Xoshiro256Plus;
use rayon::prelude::*;

use crate::coarse::ListNo;
use crate::effort::{Curve, Effort, Point, SURE};
use crate::exact;
use crate::lists::{Homes, Lists};
use crate::search::{self, Scratch};
use crate::store::{Slot, Store};
use crate::truth::nearest_neighbours;

/// Neighbours looked for and how many sampled queries look for them; a line is left out where the
/// index is not well larger. Neighbours of one query are found or missed together, so that many
/// of them do not make up for few queries, but their truth costs more.
const PLANS: [(usize, usize); 3] = [(10, 1_024), (100, 192), (1_000, 48)];
/// Share of an allowed error that the sample may show.
const MARGIN: f64 = 0.85;
/// Standard errors of the sample's mean recall that are taken off.
const DEVIATIONS: f64 = 1.64;
/// Share of the error that comes from bounds that fail, not from lists left out.
const BOUNDS_SHARE: f64 = 0.3;
/// Sampled queries that tell what a search costs.
const READERS: usize = 32;
/// Allowed errors that get a point.
const ERRORS: [f32; 8] = [0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.003, 0.001];

/// What a sampled query should find.
struct Sample {
    slot: Slot,
    /// Nearest first.
    truth: Vec<Neighbour>,
}

/// A true neighbour.
#[derive(Clone, Copy)]
struct Neighbour {
    /// How many lists are nearer than its own.
    place: usize,
    /// Its exact rank.
    rank: f32,
    estimate: f32,
    /// Standard error of the estimate.
    error: f32,
}

/// Measures the curve of freshly built lists. `homes` names the lists of each slot.
pub(crate) fn calibrate(store: &Store, lists: &Lists, homes: &Homes) -> Curve {
    let live: Vec<Slot> = store.live_slots().collect();
    let plans: Vec<(usize, usize)> = PLANS.into_iter().filter(|(k, _)| k * 20 <= live.len()).collect();
    let most = plans.first().map_or(0, |(_, queries)| *queries);
    let mut rng = Xoshiro256Plus::seed_from_u64(0x0ca1_1b4a);
    let chosen = index::sample(&mut rng, live.len(), most.min(live.len()));
    let wanted = |at: usize| plans.iter().rev().find(|(_, queries)| at < *queries).map_or(0, |(k, _)| *k);
    let asked: Vec<(Slot, usize)> = chosen.iter().enumerate().map(|(at, n)| (live[n], wanted(at))).collect();
    let truths = nearest_neighbours(store, lists.generation.metric, &asked);
    let sample = |scratch: &mut Scratch, (&(slot, _), truth): (&(Slot, usize), &Vec<Slot>)| Sample {
        slot,
        truth: neighbours(scratch, store, lists, homes, slot, truth),
    };
    let pairs = asked.par_iter().zip(&truths);
    let samples: Vec<Sample> = pairs.map_init(Scratch::default, sample).collect();
    let of_plan =
        |(k, queries): (usize, usize)| points(store, lists, &samples[..queries.min(samples.len())], k);
    Curve { points: plans.into_iter().flat_map(of_plan).collect() }
}

/// Where the true neighbours of a stored vector stand, and how they are estimated.
fn neighbours(
    scratch: &mut Scratch,
    store: &Store,
    lists: &Lists,
    homes: &Homes,
    slot: Slot,
    truth: &[Slot],
) -> Vec<Neighbour> {
    let metric = lists.generation.metric;
    scratch.prepare(&lists.generation, &store.form().expanded(store.row(slot)));
    let place_of = scratch.places();
    // Where a vector stands in two lists, the one that is visited first finds it.
    let home = |slot: Slot| -> ListNo {
        let first = homes.of(slot).iter().min_by_key(|list| place_of[**list as usize]);
        *first.expect("every slot has a home")
    };
    let mut own: Vec<ListNo> = truth.iter().map(|&slot| home(slot)).collect();
    own.sort_unstable();
    own.dedup();
    let mut wanted: Vec<Slot> = truth.to_vec();
    wanted.sort_unstable();
    let mut estimates: HashMap<Slot, (f32, f32)> = HashMap::with_capacity(truth.len());
    for list in own {
        let entries = scratch.estimates(lists, list);
        let among = entries
            .into_iter()
            .filter(|(slot, ..)| wanted.binary_search(slot).is_ok() && home(*slot) == list);
        estimates.extend(among.map(|(slot, rank, error)| (slot, (rank, error))));
    }
    let neighbour = |&other: &Slot| {
        let (estimate, error) = estimates.get(&other).copied().unwrap_or((f32::INFINITY, 0.0));
        let rank = exact::rank(metric, store.form().value(metric, store.row(slot), store.row(other)));
        Neighbour { place: place_of[home(other) as usize] as usize, rank, estimate, error }
    };
    truth.iter().map(neighbour).collect()
}

/// One point for each allowed error.
fn points(store: &Store, lists: &Lists, samples: &[Sample], k: usize) -> Vec<Point> {
    let needed = SlackNeeded::of(samples, k);
    let mut points: Vec<Point> = Vec::new();
    for error in ERRORS {
        let allowed = f64::from(error) * MARGIN;
        let slack = needed.at(allowed * BOUNDS_SHARE);
        let (mut low, mut high) = (1, lists.nlist());
        while low < high {
            let middle = usize::midpoint(low, high);
            let (mean, deviation) = needed.recall(middle, slack);
            if mean - DEVIATIONS * deviation >= 1.0 - allowed { high = middle } else { low = middle + 1 }
        }
        let least = points.last().map_or(1, |point| point.nprobe);
        let nprobe = low.max(least);
        let effort = Effort { nprobe, depth: store.slots(), slack };
        let cost = Cost::of(store, lists, samples, k, effort);
        points.push(Point {
            k,
            error,
            nprobe,
            depth: cost.reads.max(points.last().map_or(k, |point| point.depth)),
            slack,
            recall: needed.recall(nprobe, slack).0 as f32,
            scanned: Some(cost.scanned),
            microseconds: Some(cost.microseconds),
        });
    }
    points
}

/// For every true neighbour the slack with which it is found, by sample.
struct SlackNeeded {
    /// Place of its list, and slack.
    samples: Vec<Vec<(usize, f32)>>,
    /// All, ascending.
    sorted: Vec<f32>,
}

impl SlackNeeded {
    fn of(samples: &[Sample], k: usize) -> Self {
        let needs = |sample: &Sample| -> Vec<(usize, f32)> {
            let truth = &sample.truth[..k.min(sample.truth.len())];
            let last = truth.last().map_or(f32::INFINITY, |last| last.rank);
            let need = |neighbour: &Neighbour| {
                let beyond = neighbour.estimate - last;
                let slack = if beyond <= 0.0 { 0.0 } else { beyond / neighbour.error };
                (neighbour.place, slack)
            };
            truth.iter().map(need).collect()
        };
        let samples: Vec<Vec<(usize, f32)>> = samples.iter().map(needs).collect();
        let mut sorted: Vec<f32> = samples.iter().flatten().map(|&(_, slack)| slack).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        Self { samples, sorted }
    }

    /// The least slack with which no more than `loss` of the neighbours are missed.
    fn at(&self, loss: f64) -> f32 {
        let kept = ((1.0 - loss) * self.sorted.len() as f64).ceil() as usize;
        self.sorted.get(kept.saturating_sub(1)).map_or(SURE, |slack| slack.min(SURE))
    }

    /// Mean recall of the samples and its standard error.
    fn recall(&self, nprobe: usize, slack: f32) -> (f64, f64) {
        let found = |sample: &Vec<(usize, f32)>| {
            let hits = sample.iter().filter(|(place, need)| *place < nprobe && *need <= slack).count();
            hits as f64 / sample.len().max(1) as f64
        };
        let count = self.samples.len() as f64;
        let (sum, squares) = self
            .samples
            .iter()
            .map(found)
            .fold((0.0, 0.0), |(sum, squares), recall| (sum + recall, squares + recall * recall));
        let mean = sum / count;
        (mean, ((squares / count - mean * mean).max(0.0) / count).sqrt())
    }
}

/// What a search costs with an effort.
struct Cost {
    /// Entries compared by their full vectors and entries scanned, in the mean.
    reads: usize,
    scanned: usize,
    /// In the median: the threads of a pool interrupt each other, and others interrupt them.
    microseconds: f32,
}

impl Cost {
    fn of(store: &Store, lists: &Lists, samples: &[Sample], k: usize, effort: Effort) -> Self {
        let search = |scratch: &mut Scratch, sample: &Sample| {
            let query = store.form().stored(store.row(sample.slot));
            let started = Instant::now();
            let (_, stats) = search::search(scratch, lists, store, &query, (k, k), effort);
            (stats, started.elapsed().as_secs_f32() * 1e6)
        };
        let readers = &samples[..samples.len().min(READERS)];
        let costs: Vec<(SearchStats, f32)> = readers.par_iter().map_init(Scratch::default, search).collect();
        let mean = |of: fn(&SearchStats) -> usize| {
            costs.iter().map(|(stats, _)| of(stats)).sum::<usize>().div_ceil(costs.len().max(1))
        };
        let mut times: Vec<f32> = costs.iter().map(|(_, time)| *time).collect();
        times.sort_unstable_by(f32::total_cmp);
        Self {
            reads: mean(|stats| stats.reranked),
            scanned: mean(|stats| stats.scanned),
            microseconds: times.get(times.len() / 2).copied().unwrap_or(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_counts_if_its_list_is_visited_and_its_bound_holds() {
        let neighbour = |place, estimate| Neighbour { place, rank: 1.0, estimate, error: 0.5 };
        let truth = vec![neighbour(0, 0.5), neighbour(3, 2.0), neighbour(9, 1.5), neighbour(1, 1.25)];
        let samples = [Sample { slot: 0, truth: truth.clone() }, Sample { slot: 1, truth }];
        let needed = SlackNeeded::of(&samples, 4);
        assert_eq!(needed.at(0.5), 0.5);
        assert_eq!(needed.at(0.25), 1.0);
        assert_eq!(needed.at(0.0), 2.0);
        for (nprobe, slack, recall) in [(1, 9.0, 0.25), (4, 2.0, 0.75), (4, 1.9, 0.5), (10, 0.0, 0.25)] {
            assert_eq!(needed.recall(nprobe, slack), (recall, 0.0), "{nprobe} {slack}");
        }
    }
}
