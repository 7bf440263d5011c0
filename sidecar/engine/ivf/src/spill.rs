//! Whether a second list for every vector pays for the index at hand.
//!
//! It pays where a query's neighbours hide behind many lists, as embeddings of many dimensions do:
//! then the nearer of two lists comes so much earlier that fewer entries are scanned although each
//! list holds twice as many.

use rand::SeedableRng;
use rand::seq::index;
use rand_xoshiro::Xoshiro256Plus;
use rayon::prelude::*;

use crate::coarse::{Coarse, ListNo};
use crate::coder::Coder;
use crate::generation::Generation;
use crate::search::Scratch;
use crate::store::{Slot, Store};
use crate::truth::nearest_neighbours;

/// Bytes per vector that codes, factors, slots and centroids may take.
const TARGET_BYTES: f64 = 85.0;
/// What the padding of blocks adds, about.
const PADDING_SHARE: f64 = 1.16;
/// Entries scanned with one list against those with two from which two are taken.
const CLEARLY: f64 = 1.25;
/// Sampled queries, neighbours of each, and the share of these to be found.
const QUERIES: usize = 256;
const NEIGHBOURS: usize = 10;
const RECALL: f64 = 0.95;

/// Whether two codes per vector keep the index within the target.
pub(crate) fn is_small_enough(coder: Coder, coarse: &Coarse, vectors: usize) -> bool {
    let block = coder.shape().lines() * size_of::<ivf_kernels::Line>() / ivf_kernels::BLOCK;
    let entry = (block + size_of::<Slot>()) as f64 * PADDING_SHARE;
    2.0 * entry + coarse.memory_bytes() as f64 / vectors.max(1) as f64 <= TARGET_BYTES
}

/// Whether sampled queries reach their neighbours with clearly fewer entries scanned where every
/// vector stands in two lists.
pub(crate) fn pays(store: &Store, generation: &Generation) -> bool {
    let live: Vec<Slot> = store.live_slots().collect();
    if live.len() < 20 * NEIGHBOURS {
        return false;
    }
    let mut rng = Xoshiro256Plus::seed_from_u64(0x5b11_1ed0);
    let chosen = index::sample(&mut rng, live.len(), QUERIES.min(live.len()));
    let queries: Vec<(Slot, usize)> = chosen.iter().map(|at| (live[at], NEIGHBOURS)).collect();
    let truths = nearest_neighbours(store, generation.metric, &queries);
    let places = |scratch: &mut Scratch, ((query, _), truth): (&(Slot, usize), &Vec<Slot>)| {
        scratch.prepare(generation, &store.form().expanded(store.row(*query)));
        let place_of = scratch.places();
        let place = |list: &ListNo| place_of[*list as usize] as usize;
        let mut rows = store.gather(truth);
        rows.chunks_exact_mut(store.dims()).for_each(|row| generation.rotation.apply(row));
        let homes = generation.coarse.assign(&rows, true);
        homes.chunks_exact(2).map(|two| (place(&two[0]), place(&two[0]).min(place(&two[1])))).collect()
    };
    let found: Vec<Vec<(usize, usize)>> =
        queries.par_iter().zip(&truths).map_init(Scratch::default, places).collect();
    let (mut one, mut two): (Vec<usize>, Vec<usize>) = found.into_iter().flatten().unzip();
    // Lists hold twice as many.
    lists_for(&mut one) as f64 > CLEARLY * 2.0 * lists_for(&mut two) as f64
}

/// The fewest lists that hold so many of the neighbours.
fn lists_for(places: &mut [usize]) -> usize {
    places.sort_unstable();
    let at = (RECALL * places.len() as f64).ceil() as usize;
    places.get(at.saturating_sub(1)).map_or(0, |place| place + 1)
}
