//! A search over lists, stage by stage: rank the lists, scan the nearest ones for candidates,
//! compare the best candidates exactly.

use std::cell::RefCell;

use ivf_kernels::{ByteQuery, Candidates, Lut};
use knn_types::{Metric, SearchStats};

use crate::coarse::ListNo;
use crate::effort::Effort;
use crate::exact;
use crate::generation::Generation;
use crate::lists::{List, Lists};
use crate::store::{Slot, Store};
use crate::topk::{Ranked, TopK};

/// How many of the nearest lists are visited in order: they set the limit early.
const SORTED_LISTS: usize = 16;
/// Standard errors that estimates are too hopeful by where vectors differ in length: a long vector
/// has a large error, and an unlucky estimate shall not hide the best match.
const OPTIMISM: f32 = 1.0;
/// Rows asked for ahead of their comparison.
const ROWS_AHEAD: usize = 4;

/// Buffers of one search, kept per thread.
#[derive(Default)]
pub(crate) struct Scratch {
    rotated: Vec<f32>,
    bytes: ByteQuery,
    pub(crate) bases: Vec<f32>,
    /// What lists are visited by.
    ranks: Vec<f32>,
    tables: Vec<[f32; 16]>,
    pub(crate) lut: Lut,
    /// Ordered rank and number of each list, the nearest first once chosen.
    pub(crate) order: Vec<u64>,
    pub(crate) found: Candidates,
    pub(crate) keys: Vec<u64>,
}

/// Runs `work` with this thread's buffers.
pub(crate) fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    SCRATCH.with_borrow_mut(work)
}

/// Searches with an effort; fewer than `k` results mean that the lists visited hold no more.
pub(crate) fn search(
    scratch: &mut Scratch,
    lists: &Lists,
    store: &Store,
    query: &[f32],
    k: usize,
    effort: Effort,
) -> (Vec<Ranked>, SearchStats) {
    scratch.prepare(&lists.generation, query);
    scratch.choose(effort.nprobe);
    let scanned = scratch.scan(lists, store, effort.depth);
    let best = rerank(store, &lists.generation, query, k, &scratch.found.names);
    let stats = SearchStats { lists: scratch.order.len(), scanned, reranked: scratch.found.names.len() };
    (best, stats)
}

/// Compares candidates by their full vectors.
fn rerank(
    store: &Store,
    generation: &Generation,
    query: &[f32],
    k: usize,
    candidates: &[Slot],
) -> Vec<Ranked> {
    let mut best = TopK::new(k);
    for (number, &slot) in candidates.iter().enumerate() {
        if let Some(&later) = candidates.get(number + ROWS_AHEAD) {
            store.prefetch(later);
        }
        exact::offer(store, generation.metric, query, slot, &mut best);
    }
    best.into_sorted()
}

impl Scratch {
    /// Rotates the query, ranks all lists and makes the look-up tables.
    pub(crate) fn prepare(&mut self, generation: &Generation, query: &[f32]) {
        self.rotated.clear();
        self.rotated.extend_from_slice(query);
        generation.rotation.apply(&mut self.rotated);
        self.bytes.set(&self.rotated);
        generation.coarse.bases(&self.rotated, &self.bytes, &mut self.bases);
        generation.coarse.ranks(&self.rotated, &self.bases, &mut self.ranks);
        generation.coder.tables(&self.rotated, &mut self.tables);
        self.lut.set(generation.coder.shape(), &self.tables);
        if generation.metric == Metric::MaxInnerProduct {
            let length = ivf_kernels::dot(query, query).sqrt();
            self.lut.shift(OPTIMISM * length * generation.coder.error());
        }
    }

    /// Picks the `nprobe` nearest lists, the very nearest in order.
    pub(crate) fn choose(&mut self, nprobe: usize) {
        self.choose_among(nprobe, |_| true);
    }

    /// The same among some lists only.
    pub(crate) fn choose_among(&mut self, nprobe: usize, mut among: impl FnMut(ListNo) -> bool) {
        self.order.clear();
        let keys = self.ranks.iter().enumerate().map(|(list, &rank)| key(rank, list as u32));
        self.order.extend(keys.filter(|&key| among(key as u32)));
        keep_smallest(&mut self.order, nprobe);
        let sorted = self.order.len().min(SORTED_LISTS);
        keep_first_sorted(&mut self.order, sorted);
    }

    /// For each list how many lists are nearer.
    pub(crate) fn places(&self) -> Vec<ListNo> {
        let mut order: Vec<u64> =
            self.ranks.iter().enumerate().map(|(list, &rank)| key(rank, list as u32)).collect();
        order.sort_unstable();
        let mut places = vec![0; order.len()];
        for (place, key) in order.into_iter().enumerate() {
            places[key as u32 as usize] = place as u32;
        }
        places
    }

    /// Scans the chosen lists and leaves the best `depth` live candidates; returns how many entries
    /// were estimated.
    pub(crate) fn scan(&mut self, lists: &Lists, store: &Store, depth: usize) -> usize {
        let anything_dead = store.live() < store.slots();
        let full = depth + depth.max(120);
        let mut limit = f32::INFINITY;
        let mut scanned = 0;
        self.found.ranks.clear();
        self.found.names.clear();
        for at in 0..self.order.len() {
            let number = self.order[at] as u32;
            let list = &*lists.lists[number as usize];
            let held = self.found.ranks.len();
            self.scan_list(&lists.generation, list, self.bases[number as usize], limit);
            scanned += list.len();
            if anything_dead {
                self.retain(held, |slot| !store.is_dead(slot));
            }
            if self.found.ranks.len() >= full {
                limit = self.cut(depth);
            }
        }
        if self.found.ranks.len() > depth {
            self.cut(depth);
        }
        scanned
    }

    /// What the last scan left: estimated rank and slot.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = (f32, Slot)> + '_ {
        self.found.ranks.iter().copied().zip(self.found.names.iter().copied())
    }

    pub(crate) fn scan_list(&mut self, generation: &Generation, list: &List, base: f32, limit: f32) {
        let shape = generation.coder.shape();
        for part in [&*list.frozen, &list.fresh] {
            if part.len > 0 {
                ivf_kernels::scan(shape, &self.lut, base, &part.lines, &part.slots, limit, &mut self.found);
            }
        }
    }

    /// Of those found from `held` on keeps the ones for which `keep` says yes.
    pub(crate) fn retain(&mut self, held: usize, keep: impl Fn(Slot) -> bool) {
        let mut kept = held;
        for at in held..self.found.names.len() {
            let slot = self.found.names[at];
            self.found.names[kept] = slot;
            self.found.ranks[kept] = self.found.ranks[at];
            kept += usize::from(keep(slot));
        }
        self.found.names.truncate(kept);
        self.found.ranks.truncate(kept);
    }

    /// All that was found, as keys; the best `count` come first, in order.
    pub(crate) fn sort_first(&mut self, count: usize) {
        self.keys.clear();
        let found = self.found.ranks.iter().zip(&self.found.names);
        self.keys.extend(found.map(|(&rank, &slot)| key(rank, slot)));
        let count = count.min(self.keys.len());
        keep_first_sorted(&mut self.keys, count);
    }

    /// Keeps the best `depth` candidates; returns the rank that a further one must beat.
    pub(crate) fn cut(&mut self, depth: usize) -> f32 {
        self.keys.clear();
        let found = self.found.ranks.iter().zip(&self.found.names);
        self.keys.extend(found.map(|(&rank, &slot)| key(rank, slot)));
        keep_smallest(&mut self.keys, depth);
        self.found.ranks.clear();
        self.found.ranks.extend(self.keys.iter().map(|&key| rank_of(key)));
        self.found.names.clear();
        self.found.names.extend(self.keys.iter().map(|&key| key as u32));
        // The selection leaves the largest of the kept ones last.
        self.found.ranks.last().copied().unwrap_or(f32::INFINITY)
    }
}

/// Rank and number as one integer that orders as the rank does.
fn key(rank: f32, number: u32) -> u64 {
    let bits = rank.to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(ordered) << 32 | u64::from(number)
}

/// The rank in a key.
pub(crate) fn rank_of(key: u64) -> f32 {
    let ordered = (key >> 32) as u32;
    f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
}

/// Keeps the `count` smallest keys, the largest of them last.
fn keep_smallest(keys: &mut Vec<u64>, count: usize) {
    if count < keys.len() {
        if count > 0 {
            keys.select_nth_unstable(count - 1);
        }
        keys.truncate(count);
    }
}

/// Brings the `count` smallest keys to the front, in order.
fn keep_first_sorted(keys: &mut [u64], count: usize) {
    if count > 0 && count < keys.len() {
        keys.select_nth_unstable(count - 1);
    }
    keys[..count].sort_unstable();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_ranks_do() {
        let ranks = [f32::NEG_INFINITY, -3.5, -1e-30, 0.0, 1e-30, 2.0, 1e30, f32::INFINITY];
        for pair in ranks.windows(2) {
            assert!(key(pair[0], 9) < key(pair[1], 0));
        }
        for rank in ranks {
            assert_eq!(rank_of(key(rank, 5)), rank);
            assert_eq!(key(rank, 5) as u32, 5);
        }
    }
}
