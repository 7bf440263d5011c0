//! Search under a filter.
//!
//! Few allowed entries are compared exactly. More are scanned by their codes: of the lists that
//! hold any, the nearest, as many as the calibrated curve demands. The curve counts lists for the
//! `k` nearest of everything; where one entry in `n` of the lists visited is allowed, the `k` nearest
//! allowed ones lie among about `n k` of everything. That density is taken from the visited lists
//! themselves, and lists without an allowed entry count nothing, so that a filter whose entries lie
//! far from the query makes the search go on, in the end through all lists.
//!
//! Depth is not calibrated for such sets either: after the first reads, all candidates are read
//! whose estimates lie no farther beyond the k-th rank than estimates were found to err.

use ivf_kernels::{BLOCK, Candidates, Run};
use knn_types::{Query, SearchStats};

use crate::effort::Effort;
use crate::exact;
use crate::filter::Filter;
use crate::form::Probe;
use crate::lists::Lists;
use crate::search::{self, Scratch};
use crate::store::{Slot, Store};
use crate::subset::{Entries, Subset, bit, is_copied};
use crate::topk::{Ranked, TopK};
use crate::view::View;

/// At most so many are compared exactly: preparing a scan of codes costs about as much.
const EXACT_ALLOWED: u64 = 256;
/// Copied entries of which all are scanned: choosing lists costs about as much.
const SCAN_ALL: usize = 4_096;
/// Root mean square errors by which an estimate may be too large before its entry is missed.
const SLACK: f32 = 2.0;
/// The most entries that a search reads, in units of the calibrated depth.
const MOST_DEPTHS: usize = 16;

/// What a search under a filter will do, as far as the number of allowed entries tells.
pub(crate) enum Expected {
    /// All that is allowed is compared exactly.
    Exact,
    /// Codes are scanned.
    Lists(SearchStats),
}

/// Whether so few are allowed that all are compared exactly.
pub(crate) fn is_exact(allowed: u64, k: usize) -> bool {
    allowed <= EXACT_ALLOWED.max(2 * k as u64)
}

impl View {
    /// The plan of [`View::search_allowed`], on the assumption that what is allowed lies in all lists alike.
    pub(crate) fn expected_under(&self, lists: &Lists, allowed: usize, query: &Query<'_>) -> Expected {
        let query = &self.of_slots(query);
        if is_exact(allowed as u64, query.k) {
            return Expected::Exact;
        }
        let (slots, nlist) = (self.store.slots(), lists.nlist());
        let Effort { nprobe, depth, .. } = self.effort(lists, query);
        let density = (allowed as f32 / slots.max(1) as f32).min(1.0);
        let visited = if query.nprobe.is_some() {
            nprobe
        } else if allowed <= SCAN_ALL && is_copied(allowed, slots) {
            nlist
        } else {
            self.widened(lists, query, nprobe, density)
        };
        let entries = if is_copied(allowed, slots) { allowed } else { slots };
        let scanned = visited * entries * lists.generation.copies() / nlist;
        Expected::Lists(SearchStats { lists: visited, scanned, reranked: depth })
    }

    /// The nearest entries that a filter allows.
    pub(crate) fn search_allowed(
        &self,
        filter: &Filter,
        query: &Query<'_>,
        probe: &Probe<'_>,
    ) -> (Vec<Ranked>, SearchStats) {
        let Some(lists) = &self.lists else { return self.compare_allowed(filter, query, probe) };
        let slots = self.of_slots(query);
        if is_exact(filter.count(), slots.k) {
            return self.compare_allowed(filter, query, probe);
        }
        let subset = filter.subset(&self.store, lists);
        let search =
            Filtered { view: self, lists, filter, subset: &subset, k: query.k, query: &slots, probe };
        let (best, stats) = search::with_scratch(|scratch| search.run(scratch));
        // Fewer than wanted: then all of them are hits, and estimates that are no numbers hid some.
        if best.len() < query.k {
            self.compare_allowed(filter, query, probe)
        } else {
            self.settled(best, stats, query, probe)
        }
    }

    /// Compares everything that a filter allows.
    pub(crate) fn compare_allowed(
        &self,
        filter: &Filter,
        query: &Query<'_>,
        probe: &Probe<'_>,
    ) -> (Vec<Ranked>, SearchStats) {
        let mut best = TopK::over(&self.store, query.k, false);
        let slots = filter.live(&self.store, 0);
        let reranked = exact::compare(&self.store, self.spec.metric, &probe.row, slots, &mut best);
        (best.into_sorted(), SearchStats { lists: 0, scanned: 0, reranked })
    }
}

/// One search over what a filter's [`Subset`] holds, and over the slots that came after it.
struct Filtered<'a> {
    view: &'a View,
    lists: &'a Lists,
    filter: &'a Filter,
    subset: &'a Subset,
    /// Documents wanted.
    k: usize,
    /// By whose effort slots are searched; see [`View::of_slots`].
    query: &'a Query<'a>,
    probe: &'a Probe<'a>,
}

impl Filtered<'_> {
    fn run(&self, scratch: &mut Scratch) -> (Vec<Ranked>, SearchStats) {
        scratch.prepare(&self.lists.generation, &self.probe.floats);
        let effort = self.view.effort(self.lists, self.query);
        self.choose(scratch, effort.nprobe);
        let most = effort.depth.saturating_mul(MOST_DEPTHS);
        scratch.found.clear();
        let scanned = match &self.subset.entries {
            Entries::Copied { slots, .. } => self.scan_copied(scratch, slots),
            Entries::Marked(bits) => self.scan_marked(scratch, bits, effort.most_reads()),
        };
        let mut best = self.lists.top(self.store(), self.k);
        let late = self.filter.live(self.store(), self.subset.up_to);
        let late = self.compare(late, &mut best);
        let read = self.read(scratch, effort.depth, most, &mut best);
        let stats = SearchStats { lists: scratch.order.len(), scanned, reranked: late + read };
        (best.into_sorted(), stats)
    }

    fn store(&self) -> &Store {
        &self.view.store
    }

    /// Picks the nearest of the lists that hold an allowed entry, as many as their density demands.
    fn choose(&self, scratch: &mut Scratch, nprobe: usize) {
        let subset = self.subset;
        let holds = |list: u32| !subset.range(list).is_empty();
        let copied = matches!(subset.entries, Entries::Copied { .. });
        if copied && subset.len() <= SCAN_ALL && self.query.nprobe.is_none() {
            return scratch.choose_among(subset.nlist(), holds);
        }
        let mut wanted = nprobe;
        loop {
            scratch.choose_among(wanted, holds);
            let chosen = scratch.order.iter().map(|&key| key as u32);
            let (allowed, all) = chosen.fold((0, 0), |(allowed, all), list| {
                (allowed + subset.range(list).len(), all + self.lists.lists[list as usize].len())
            });
            if scratch.order.len() < wanted || self.query.nprobe.is_some() {
                return;
            }
            let density = allowed as f32 / all.max(1) as f32;
            let needed = self.view.widened(self.lists, self.query, nprobe, density);
            if needed <= wanted && allowed >= self.query.k {
                return;
            }
            wanted = needed.max(wanted + wanted / 2 + 1);
        }
    }

    /// Estimates the copied entries of the chosen lists. Blocks hold entries of several lists, so
    /// the lists' bases are added afterwards.
    fn scan_copied(&self, scratch: &mut Scratch, slots: &[Slot]) -> usize {
        let Entries::Copied { lines, .. } = &self.subset.entries else { return 0 };
        let shape = self.lists.generation.coder.shape();
        let mut chosen: Vec<u32> = scratch.order.iter().map(|&key| key as u32).collect();
        chosen.sort_unstable();
        let mut estimates = Candidates::default();
        let optimism = scratch.optimism(&self.lists.generation);
        let mut scanned = 0;
        let mut at = 0;
        while at < chosen.len() {
            // Lists whose entries share a block, or stand in neighbouring ones, go together.
            let first = at;
            let start = self.subset.range(chosen[at]).start / BLOCK;
            let mut end = self.subset.range(chosen[at]).end.div_ceil(BLOCK);
            while at + 1 < chosen.len() && self.subset.range(chosen[at + 1]).start / BLOCK <= end {
                at += 1;
                end = self.subset.range(chosen[at]).end.div_ceil(BLOCK);
            }
            at += 1;
            estimates.clear();
            let blocks = &lines[start * shape.lines()..end * shape.lines()];
            let names = &slots[start * BLOCK..end * BLOCK];
            let run =
                Run { blocks, names, base: 0.0, slack: optimism.1, limit: f32::INFINITY, ahead: blocks };
            ivf_kernels::scan(shape, &scratch.lut, &run, &mut estimates);
            let held = self.subset.len().min(end * BLOCK) - start * BLOCK;
            if estimates.len() != held {
                // Estimates that are no numbers: what is short is compared exactly in the end.
                continue;
            }
            for &list in &chosen[first..at] {
                let range = self.subset.range(list);
                let base = scratch.bases[list as usize];
                let within = range.start - start * BLOCK..range.end - start * BLOCK;
                scanned += range.len();
                let found = estimates.ranks()[within.clone()].iter().zip(&estimates.names()[within]);
                found.for_each(|(rank, &slot)| scratch.found.push(rank + base, slot));
            }
        }
        let store = self.store();
        scratch.found.retain_from(0, |slot| (slot as usize) < store.slots() && !store.is_dead(slot));
        scanned
    }

    /// Scans the chosen lists, keeping at most `most` allowed entries.
    fn scan_marked(&self, scratch: &mut Scratch, bits: &[u64], most: usize) -> usize {
        let store = self.store();
        let optimism = scratch.optimism(&self.lists.generation);
        let mut limit = f32::INFINITY;
        let mut scanned = 0;
        for at in 0..scratch.order.len() {
            let number = scratch.order[at] as u32;
            let list = &*self.lists.lists[number as usize];
            let held = scratch.found.len();
            scratch.scan_list(&self.lists.generation, number, list, None, optimism.0, limit);
            scratch.found.retain_from(held, |slot| bit(bits, slot) && !store.is_dead(slot));
            scanned += list.len();
            if scratch.found.len() >= 2 * most {
                limit = scratch.cut(most);
            }
        }
        scanned
    }

    /// Reads candidates: `depth` of them, then those that may still be among the nearest.
    fn read(&self, scratch: &mut Scratch, depth: usize, most: usize, best: &mut TopK) -> usize {
        let first = scratch.sort_first(depth);
        let (mut errors, mut slots) = (0f32, Vec::with_capacity(first));
        for &key in &scratch.keys[..first] {
            slots.push(key as u32);
        }
        let metric = self.view.spec.metric;
        self.compare(slots.iter().copied(), best);
        for &key in &scratch.keys[..first] {
            let row = self.store().row(key as u32);
            let exact = exact::rank(metric, self.store().form().value(metric, &self.probe.row, row));
            errors += (search::rank_of(key) - exact).powi(2);
        }
        let limit = best.limit() + SLACK * (errors / first.max(1) as f32).sqrt();
        let rest = scratch.keys[first..].iter().filter(|&&key| search::rank_of(key) <= limit);
        let rest = rest.map(|&key| key as u32).take(most.saturating_sub(first));
        first + self.compare(rest, best)
    }

    fn compare(&self, slots: impl Iterator<Item = Slot>, best: &mut TopK) -> usize {
        exact::compare(self.store(), self.view.spec.metric, &self.probe.row, slots, best)
    }
}
