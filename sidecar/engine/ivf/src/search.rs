//! A search over lists, stage by stage: rank the lists, scan the nearest ones for candidates,
//! compare the best candidates exactly.
//!
//! A scan gives each entry a lower bound of its rank: the estimate less so many standard errors
//! (`slack`; RaBitQ, arXiv 2405.12497, theorem 3.2: the error is that of a random direction, so it
//! is known for each entry from its factor and the query's distance to the centroid). Candidates
//! are read in the order of their bounds until the next bound lies beyond the k-th exact rank:
//! how many are read is decided by the query, not in advance.

use std::cell::RefCell;
use std::time::Instant;

use ivf_kernels::{ByteQuery, Candidates, Lut, Run};
use knn_types::{Metric, SearchStats};

use crate::coarse::ListNo;
use crate::effort::Effort;
use crate::exact::{self, ROWS_AHEAD};
use crate::form::Probe;
use crate::generation::Generation;
use crate::lists::{List, Lists};
use crate::store::{Slot, Store};
use crate::topk::{Ranked, TopK};

/// How many of the nearest lists are visited in order: they set the limit early.
const SORTED_LISTS: usize = 16;
/// After so many lists the first candidates are read: their k-th rank limits all further scans.
const FIRST_LOOK: usize = 4;
/// Lists visited grow by this factor from one look to the next.
const LOOK_FACTOR: usize = 4;
/// Candidates that are put in order at a time.
const READ_ROUND: usize = 64;
/// Lists whose heads are asked for ahead of their scan.
const LIST_AHEAD: usize = 6;
/// Rows that the system is told of ahead of their comparison where they come from a disk.
const ANNOUNCED: usize = 16;

/// Buffers of one search, kept per thread.
#[derive(Default)]
pub(crate) struct Scratch {
    rotated: Vec<f32>,
    /// Squared length of the query.
    square: f32,
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

/// Searches with an effort; fewer than `k` results mean that the lists visited hold no more, or where
/// documents have several slots, that those read belong to fewer documents. `slots` of them are taken to
/// belong to `k` documents.
pub(crate) fn search(
    scratch: &mut Scratch,
    lists: &Lists,
    store: &Store,
    query: &Probe<'_>,
    (k, slots): (usize, usize),
    effort: Effort,
) -> (Vec<Ranked>, SearchStats) {
    scratch.prepare(&lists.generation, &query.floats);
    scratch.choose(effort.nprobe);
    let best = lists.top(store, k);
    let mut reader = Reader { lists, store, query: &query.row, best, wanted: slots, read: 0 };
    let scanned = scratch.scan(&mut reader, effort);
    let stats = SearchStats { lists: scratch.order.len(), scanned, reranked: reader.read };
    (reader.best.into_sorted(), stats)
}

/// Compares candidates by their full vectors.
struct Reader<'a> {
    lists: &'a Lists,
    store: &'a Store,
    query: &'a [u32],
    best: TopK,
    /// Entries that are looked for.
    wanted: usize,
    /// Vectors read so far.
    read: usize,
}

impl Reader<'_> {
    /// Reads candidates in ascending order of their bounds, until one lies beyond the k-th rank.
    fn read(&mut self, keys: &[u64]) {
        let (started, before) = (Instant::now(), self.read);
        let ahead = self.store.reads().go_ahead();
        if ahead {
            self.announce(&keys[..keys.len().min(ANNOUNCED)]);
        }
        for &key in keys.iter().take(ROWS_AHEAD) {
            self.store.prefetch(key as u32);
        }
        for (at, &key) in keys.iter().enumerate() {
            if rank_of(key) > self.best.limit() {
                break;
            }
            if ahead && let Some(&later) = keys.get(at + ANNOUNCED) {
                self.announce(&[later]);
            }
            if let Some(&later) = keys.get(at + ROWS_AHEAD) {
                self.store.prefetch(later as u32);
            }
            exact::offer(self.store, self.lists.generation.metric, self.query, key as u32, &mut self.best);
            self.read += 1;
        }
        if !ahead {
            self.store.reads().took(started.elapsed(), self.read - before);
        }
    }

    /// Lets the system read rows, as far as it is known by now that they will be compared.
    fn announce(&self, keys: &[u64]) {
        let limit = self.best.limit();
        keys.iter().filter(|&&key| rank_of(key) <= limit).for_each(|&key| self.store.will_need(key as u32));
    }
}

impl Scratch {
    /// Rotates the query, ranks all lists and makes the look-up tables.
    pub(crate) fn prepare(&mut self, generation: &Generation, query: &[f32]) {
        self.rotated.clear();
        self.rotated.extend_from_slice(query);
        generation.rotation.apply(&mut self.rotated);
        self.bytes.set(&self.rotated);
        self.square = ivf_kernels::dot(&self.rotated, &self.rotated);
        generation.coarse.bases(self.square, &self.bytes, &mut self.bases);
        generation.coarse.ranks(self.square, &self.bases, &mut self.ranks);
        generation.coder.tables(&self.rotated, &mut self.tables);
        self.lut.set(generation.coder.shape(), &self.tables);
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

    /// Scans the chosen lists and reads the best candidates; returns how many entries were
    /// estimated.
    fn scan(&mut self, reader: &mut Reader<'_>, effort: Effort) -> usize {
        let (lists, store) = (reader.lists, reader.store);
        let anything_dead = store.live() < store.slots();
        // Even where bounds tell nothing, reads are limited: by the best bounds.
        let most = effort.most_reads();
        let mut limit = f32::INFINITY;
        let mut next_look = FIRST_LOOK;
        let mut scanned = 0;
        self.found.clear();
        for at in 0..self.order.len() {
            let number = self.order[at] as u32;
            let list = &*lists.lists[number as usize];
            self.prefetch_lists(lists, at);
            let next = self.order.get(at + 1).map(|&key| &*lists.lists[key as u32 as usize]);
            let held = self.found.len();
            self.scan_list(&lists.generation, number, list, next, effort.slack, limit);
            scanned += list.len();
            if anything_dead {
                self.found.retain_from(held, |slot| !store.is_dead(slot));
            }
            if at + 1 >= next_look && self.found.len() >= reader.wanted {
                limit = limit.min(self.look(reader, reader.wanted));
                next_look = (at + 1) * LOOK_FACTOR;
            }
            if self.found.len() >= 2 * most {
                limit = limit.min(self.cut(most));
            }
        }
        // In rounds, since the first ones may let the rest go unsorted.
        while !self.found.is_empty() && (reader.read < most || reader.best.is_short()) {
            let round = (most - reader.read.min(most)).max(reader.wanted).min(READ_ROUND.max(reader.wanted));
            self.look(reader, round);
        }
        scanned
    }

    /// Reads up to `count` candidates and keeps those of the others that may still be among the
    /// nearest; returns the rank that a further one must beat.
    fn look(&mut self, reader: &mut Reader<'_>, count: usize) -> f32 {
        let count = self.sort_first(count);
        reader.read(&self.keys[..count]);
        let limit = reader.best.limit();
        self.found.clear();
        for &key in &self.keys[count..] {
            if rank_of(key) <= limit {
                self.found.push(rank_of(key), key as u32);
            }
        }
        limit
    }

    /// Keeps the `most` best candidates; returns the rank that a further one must beat.
    pub(crate) fn cut(&mut self, most: usize) -> f32 {
        self.take_keys();
        keep_smallest(&mut self.keys, most);
        self.found.clear();
        self.keys.iter().for_each(|&key| self.found.push(rank_of(key), key as u32));
        // The selection leaves the largest of the kept ones last.
        self.keys.last().map_or(f32::INFINITY, |&key| rank_of(key))
    }

    /// All that was found, as keys; the best `count` come first, in order. Returns how many those are.
    pub(crate) fn sort_first(&mut self, count: usize) -> usize {
        self.take_keys();
        let count = count.min(self.keys.len());
        keep_first_sorted(&mut self.keys, count);
        count
    }

    fn take_keys(&mut self) {
        self.keys.clear();
        let found = self.found.ranks().iter().zip(self.found.names());
        self.keys.extend(found.map(|(&rank, &slot)| key(rank, slot)));
    }

    /// Lists stand at random places, each behind two pointers: they are followed one step per list
    /// scanned, ahead of the scan that needs them.
    fn prefetch_lists(&self, lists: &Lists, at: usize) {
        let ahead = |by: usize| self.order.get(at + by).map(|&key| &lists.lists[key as u32 as usize]);
        if let Some(list) = ahead(LIST_AHEAD) {
            ivf_kernels::prefetch(&**list);
        }
        if let Some(list) = ahead(LIST_AHEAD / 2) {
            ivf_kernels::prefetch(&*list.frozen);
        }
    }

    /// Appends the bounds below `limit` of a list's entries to what was found: estimates less `slack`
    /// standard errors. `next` is the list that will be scanned after it.
    pub(crate) fn scan_list(
        &mut self,
        generation: &Generation,
        number: ListNo,
        list: &List,
        next: Option<&List>,
        slack: f32,
        limit: f32,
    ) {
        let shape = generation.coder.shape();
        let (base, error) = (self.bases[number as usize], self.error(generation, number));
        let next = next.unwrap_or(list);
        for (part, ahead) in [(&*list.frozen, &*next.frozen), (&list.fresh, &next.fresh)] {
            if part.len > 0 {
                let run = Run {
                    blocks: &part.lines,
                    names: &part.slots,
                    base: base - slack * error.base,
                    slack: slack * error.product,
                    limit,
                    ahead: &ahead.lines,
                };
                ivf_kernels::scan(shape, &self.lut, &run, &mut self.found);
            }
        }
    }

    /// How much estimates are too hopeful where all that is known of them is their order: not at
    /// all, but where vectors differ in length. A long one has a large error, and an unlucky
    /// estimate shall not hide the best match. In standard errors, and added to a product.
    pub(crate) fn optimism(&self, generation: &Generation) -> (f32, f32) {
        match generation.metric {
            Metric::MaxInnerProduct => (1.0, self.square.sqrt() * generation.coder.error()),
            _ => (0.0, 0.0),
        }
    }

    /// What the estimates of a list are wrong by.
    fn error(&self, generation: &Generation, list: ListNo) -> ListError {
        let (gap, base) = generation.coarse.errors(list, self.square, self.bases[list as usize]);
        let (code, rounding) = (generation.coder.error() * gap, self.lut.rounding_error());
        ListError { base, product: (code * code + rounding * rounding).sqrt() }
    }

    /// Estimated rank and its standard error of every entry of a list.
    pub(crate) fn estimates(&mut self, lists: &Lists, number: ListNo) -> Vec<(Slot, f32, f32)> {
        let list = &*lists.lists[number as usize];
        self.found.clear();
        self.scan_list(&lists.generation, number, list, None, 0.0, f32::INFINITY);
        let count = self.found.len();
        self.scan_list(&lists.generation, number, list, None, 1.0, f32::INFINITY);
        let (ranks, names) = (self.found.ranks(), self.found.names());
        let (plain, bounds) = ranks.split_at(count);
        let entries = names.iter().zip(plain).zip(bounds);
        entries.map(|((&slot, &rank), &bound)| (slot, rank, rank - bound)).collect()
    }
}

/// Standard errors of the estimates of one list.
struct ListError {
    /// Of the list's base.
    base: f32,
    /// Of a product of look-ups, before the entry's factor.
    product: f32,
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
    use crate::build::{Build, Centroids};
    use crate::config::Spill;
    use crate::form::Form;

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

    /// Standard errors against true ranks, on vectors around centres, for queries like them.
    #[test]
    fn bounds_hold_as_often_as_their_slack_says() {
        use knn_types::{FieldSpec, SeqNo};
        use rand::{Rng, SeedableRng};

        let mut rng = rand_xoshiro::Xoshiro256Plus::seed_from_u64(17);
        let mut normal = move || (0..12).map(|_| rng.r#gen::<f32>()).sum::<f32>() - 6.0;
        for (dims, metric) in
            [(48, Metric::L2), (300, Metric::Dot), (300, Metric::L2), (96, Metric::MaxInnerProduct)]
        {
            let centres: Vec<Vec<f32>> = (0..50).map(|_| (0..dims).map(|_| normal()).collect()).collect();
            let mut vector = |n: usize| -> Vec<f32> {
                centres[n % 50].iter().map(|c| (c + 0.7 * normal()) / (dims as f32).sqrt()).collect()
            };
            let mut store = Store::new(Form::floats(dims));
            for n in 0..6_000 {
                let order = SeqNo { primary_term: 1, seq_no: n as u64 };
                store.push(&(n as u64).to_le_bytes(), order, bytemuck::cast_slice(&vector(n)));
            }
            let spec = FieldSpec { element: Default::default(), dims, metric, options: Default::default() };
            let built = Build::start(&store, None, &spec, Centroids::Train, false, Spill::Off).unwrap();
            let lists = built.lists.unwrap();
            let mut scratch = Scratch::default();
            let mut beyond = [0usize; 3];
            for n in 0..5 {
                let query = vector(n * 11);
                scratch.prepare(&lists.generation, &query);
                for list in 0..lists.nlist() as u32 {
                    for (slot, rank, error) in scratch.estimates(&lists, list) {
                        let exact = exact::rank(
                            metric,
                            exact::value(metric, &query, bytemuck::cast_slice(store.row(slot))),
                        );
                        for (slack, beyond) in [0.0, 2.0, 4.0].iter().zip(&mut beyond) {
                            *beyond += usize::from(exact < rank - slack * error);
                        }
                    }
                }
            }
            let [half, few, fewest] = beyond.map(|count| count as f64 / 30_000.0);
            eprintln!("{dims} {metric:?}: {half} {few} {fewest}");
            assert!((half - 0.5).abs() < 0.1, "{dims} {metric:?}: estimates are biased, {half}");
            assert!(few < 0.04 && few > 0.004, "{dims} {metric:?}: {few} beyond two standard errors");
            assert!(fewest < 0.001, "{dims} {metric:?}: {fewest} beyond four");
        }
    }
}
