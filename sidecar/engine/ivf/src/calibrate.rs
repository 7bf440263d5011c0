//! Calibration: sampled vectors as queries, exact truth, and from it the effort that each recall
//! needs.
//!
//! A sampled vector never counts as its own neighbour. Real queries still lie a little farther
//! from the data than the data from itself, and a sample has noise: allowed errors are scaled by
//! [`MARGIN`] before they are met.

use rand::SeedableRng;
use rand::seq::index;
use rand_xoshiro::Xoshiro256Plus;
use rayon::prelude::*;

use crate::coarse::ListNo;
use crate::effort::{Curve, Point};
use crate::lists::Lists;
use crate::search::Scratch;
use crate::store::{Slot, Store};
use crate::truth::nearest_neighbours;

/// Share of an allowed error that the sample may show.
const MARGIN: f64 = 0.6;
/// Share of the error that comes from candidates cut by their estimates, not from lists left out.
const DEPTH_SHARE: f64 = 0.15;
/// Sampled queries.
const QUERIES: usize = 384;
/// True neighbours that must lie beyond a place for it to be read off the sample.
const RARE: usize = 10;
/// Allowed errors at whose number of lists depth is measured; looser ones use it too, since fewer
/// lists bring fewer rivals.
const DEPTH_ERRORS: [f32; 3] = [0.1, 0.01, 0.001];
/// Neighbours looked for, and by how many of the queries: many neighbours of few queries say as much
/// as few of many. A value is left out where the index is not well larger.
const NEIGHBOURS: [(usize, usize); 3] = [(10, 384), (100, 192), (1_000, 96)];
/// Allowed errors that get a point.
const ERRORS: [f32; 8] = [0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.003, 0.001];

/// A sampled query with what it should find.
struct Sample {
    slot: Slot,
    /// True neighbours, nearest first.
    truth: Vec<Slot>,
    /// For each true neighbour, how many lists are nearer than its own.
    places: Vec<usize>,
}

/// Measures the curve of freshly built lists. `list_of` names the list of each slot.
pub(crate) fn calibrate(store: &Store, lists: &Lists, list_of: &[ListNo]) -> Curve {
    let live: Vec<Slot> = store.live_slots().collect();
    let ks: Vec<(usize, usize)> = NEIGHBOURS.into_iter().filter(|(k, _)| k * 20 <= live.len()).collect();
    if ks.is_empty() {
        return Curve::default();
    }
    let mut rng = Xoshiro256Plus::seed_from_u64(0x0ca1_1b4a);
    let chosen = index::sample(&mut rng, live.len(), QUERIES.min(live.len()));
    let queries: Vec<Slot> = chosen.iter().map(|at| live[at]).collect();
    let wanted = |at: usize| ks.iter().rev().find(|(_, queries)| at < *queries).map_or(0, |(k, _)| *k);
    let asked: Vec<(Slot, usize)> =
        queries.iter().enumerate().map(|(at, &slot)| (slot, wanted(at))).collect();
    let truths = nearest_neighbours(store, lists.generation.metric, &asked);
    let sample = |(&slot, truth): (&Slot, Vec<Slot>)| Sample { slot, truth, places: Vec::new() };
    let mut samples: Vec<Sample> = queries.iter().zip(truths).map(sample).collect();
    samples.par_iter_mut().for_each_init(Scratch::default, |scratch, sample| {
        sample.places = places(scratch, store, lists, list_of, sample);
    });
    let mut curve = Curve::default();
    for (k, queries) in ks {
        let samples = &samples[..queries.min(samples.len())];
        let efforts = ERRORS.map(|error| {
            let allowed = f64::from(error) * MARGIN;
            let (nprobe, reached) =
                nprobe_for(samples, k, 1.0 - allowed * (1.0 - DEPTH_SHARE), lists.nlist());
            (error, nprobe, reached, allowed * DEPTH_SHARE)
        });
        let mut depths: Option<Depths> = None;
        let mut points: Vec<Point> = Vec::new();
        // From the strictest, so that what is measured there serves the looser ones.
        for (error, nprobe, reached, loss) in efforts.into_iter().rev() {
            if DEPTH_ERRORS.contains(&error) {
                depths = Some(Depths::measure(samples, store, lists, k, nprobe));
            }
            let depth = depths.as_ref().map_or(k, |depths| depths.at(loss)).max(k);
            points.push(Point { k, error, nprobe, depth, recall: (reached - loss) as f32 });
        }
        points.reverse();
        for at in 1..points.len() {
            points[at].depth = points[at].depth.max(points[at - 1].depth);
        }
        curve.points.extend(points);
    }
    curve
}

/// How many lists a search visits before the list of each true neighbour.
fn places(
    scratch: &mut Scratch,
    store: &Store,
    lists: &Lists,
    list_of: &[ListNo],
    sample: &Sample,
) -> Vec<usize> {
    scratch.prepare(&lists.generation, store.row(sample.slot));
    let place_of = scratch.places();
    sample.truth.iter().map(|&slot| place_of[list_of[slot as usize] as usize] as usize).collect()
}

/// The fewest lists that hold so large a share of the first `k` true neighbours, and the share.
fn nprobe_for(samples: &[Sample], k: usize, share: f64, nlist: usize) -> (usize, f64) {
    let mut by_place = vec![0usize; nlist];
    for sample in samples {
        sample.places.iter().take(k).for_each(|&place| by_place[place] += 1);
    }
    let total: usize = by_place.iter().sum();
    let mut held = 0;
    for (place, count) in by_place.iter().enumerate() {
        held += count;
        if held as f64 >= share * total as f64 {
            return (place + 1, held as f64 / total as f64);
        }
    }
    (nlist, 1.0)
}

/// At which place, by estimate, true neighbours stand among the candidates of a search.
struct Depths {
    /// Ascending, one per true neighbour in a visited list.
    places: Vec<usize>,
}

impl Depths {
    fn measure(samples: &[Sample], store: &Store, lists: &Lists, k: usize, nprobe: usize) -> Self {
        let widest = 16 * k + 1_000;
        let places_of = |scratch: &mut Scratch, sample: &Sample| -> Vec<usize> {
            scratch.prepare(&lists.generation, store.row(sample.slot));
            scratch.choose(nprobe);
            scratch.scan(lists, store, widest + 1);
            let candidates: Vec<(f32, Slot)> =
                scratch.candidates().filter(|(_, slot)| *slot != sample.slot).collect();
            let nearest = sample.truth.iter().zip(&sample.places).take(k);
            let mut wanted: Vec<Slot> =
                nearest.filter(|(_, place)| **place < nprobe).map(|(slot, _)| *slot).collect();
            wanted.sort_unstable();
            let mut ranks: Vec<f32> = candidates.iter().map(|(rank, _)| *rank).collect();
            ranks.sort_unstable_by(f32::total_cmp);
            let found = candidates.iter().filter(|(_, slot)| wanted.binary_search(slot).is_ok());
            let place = |(rank, _): &(f32, Slot)| ranks.partition_point(|other| other < rank) + 1;
            let mut places: Vec<usize> = found.map(place).collect();
            places.resize(wanted.len(), widest);
            places
        };
        let mut places: Vec<usize> =
            samples.par_iter().map_init(Scratch::default, places_of).flatten().collect();
        places.sort_unstable();
        Self { places }
    }

    /// The fewest candidates that hold all but `loss` of the true neighbours. What is rarer than the
    /// sample can show follows the power law of what it does show.
    fn at(&self, loss: f64) -> usize {
        let rarest = RARE as f64 / self.places.len().max(1) as f64;
        if loss >= rarest || self.places.len() < 8 * RARE {
            return self.quantile(loss);
        }
        let (common, rare) = (self.quantile(4.0 * rarest) as f64, self.quantile(rarest) as f64);
        let exponent = (rare / common).ln() / 4f64.ln();
        (rare * (rarest / loss).powf(exponent)).ceil() as usize
    }

    fn quantile(&self, loss: f64) -> usize {
        let kept = ((1.0 - loss) * self.places.len() as f64).ceil() as usize;
        self.places.get(kept.saturating_sub(1)).copied().unwrap_or(1)
    }
}
