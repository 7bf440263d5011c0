//! The k nearest of many: ascending rank, then ascending `_seq_no`. Of several slots of one document
//! only the nearest counts, where documents have several.

use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap};

use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};

use crate::store::{Slot, Store};

/// A compared entry. `rank` is smaller for nearer whatever the metric.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranked {
    pub(crate) rank: f32,
    pub(crate) seq_no: u64,
    pub(crate) slot: Slot,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_rank = self.rank.total_cmp(&other.rank);
        by_rank.then(self.seq_no.cmp(&other.seq_no)).then(self.slot.cmp(&other.slot))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked {}

/// Keeps the `k` first of what it is offered.
pub(crate) struct TopK {
    k: usize,
    /// The last of the kept ones on top.
    heap: BinaryHeap<Ranked>,
    /// What was kept at some time, where slots may be offered twice.
    seen: Option<HashSet<Slot>>,
    /// What is kept instead of the heap where documents have several slots.
    documents: Option<Box<Documents>>,
}

/// The `k` first documents, each by its first slot and the best rank that it was offered with.
#[derive(Default)]
struct Documents {
    sorted: BTreeSet<Ranked>,
    ranks: HashMap<Slot, Ranked>,
}

impl Documents {
    fn offer(&mut self, k: usize, entry: Ranked) {
        match self.ranks.entry(entry.slot) {
            Entry::Occupied(mut held) => {
                if entry < *held.get() {
                    self.sorted.remove(held.get());
                    self.sorted.insert(entry);
                    held.insert(entry);
                }
            }
            Entry::Vacant(place) => {
                place.insert(entry);
                self.sorted.insert(entry);
                if self.sorted.len() > k
                    && let Some(last) = self.sorted.pop_last()
                {
                    self.ranks.remove(&last.slot);
                }
            }
        }
    }
}

impl TopK {
    pub(crate) fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::with_capacity(k.min(10_000) + 1), seen: None, documents: None }
    }

    /// For the slots of a store, which may be offered more than once if `twice`.
    pub(crate) fn over(store: &Store, k: usize, twice: bool) -> Self {
        match (store.is_grouped(), twice) {
            (true, _) => Self { k, heap: BinaryHeap::new(), seen: None, documents: Some(Box::default()) },
            (false, true) => Self::distinct(k),
            (false, false) => Self::new(k),
        }
    }

    /// The same where slots may be offered more than once, always with the same rank.
    pub(crate) fn distinct(k: usize) -> Self {
        Self { seen: Some(HashSet::new()), ..Self::new(k) }
    }

    /// Whether fewer than `k` were offered so far.
    pub(crate) fn is_short(&self) -> bool {
        self.len() < self.k
    }

    fn len(&self) -> usize {
        self.documents.as_ref().map_or(self.heap.len(), |documents| documents.sorted.len())
    }

    /// The rank beyond which nothing more is kept.
    #[inline]
    pub(crate) fn limit(&self) -> f32 {
        let last = match &self.documents {
            None => self.heap.peek(),
            Some(documents) => documents.sorted.last(),
        };
        if self.is_short() { f32::INFINITY } else { last.map_or(f32::INFINITY, |last| last.rank) }
    }

    /// Takes an entry, under the first slot of its document where those have several.
    #[inline]
    pub(crate) fn offer(&mut self, entry: Ranked) {
        if let Some(documents) = &mut self.documents {
            return documents.offer(self.k, entry);
        }
        let full = self.heap.len() >= self.k;
        if full && self.heap.peek().is_none_or(|last| entry >= *last) {
            return;
        }
        // What was pushed out cannot come back: it would have to beat what pushed it out.
        if self.seen.as_mut().is_some_and(|seen| !seen.insert(entry.slot)) {
            return;
        }
        if full {
            self.heap.pop();
        }
        self.heap.push(entry);
    }

    pub(crate) fn into_sorted(self) -> Vec<Ranked> {
        match self.documents {
            None => self.heap.into_sorted_vec(),
            Some(documents) => documents.sorted.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_offered_twice_are_kept_once() {
        let entry = |slot: Slot| Ranked { rank: (slot * 7 % 31) as f32, seq_no: 1, slot };
        let mut plain = TopK::new(5);
        (0..31).for_each(|slot| plain.offer(entry(slot)));
        let mut distinct = TopK::distinct(5);
        (0..31).chain((0..31).rev()).for_each(|slot| distinct.offer(entry(slot)));
        let slots = |top: TopK| -> Vec<Slot> { top.into_sorted().iter().map(|entry| entry.slot).collect() };
        let kept = slots(plain);
        assert_eq!(kept.len(), 5);
        assert_eq!(slots(distinct), kept);
        let mut few = TopK::distinct(5);
        [3, 3, 4, 3].into_iter().for_each(|slot| few.offer(entry(slot)));
        assert_eq!(slots(few).len(), 2);
    }

    #[test]
    fn a_document_counts_once_by_its_best() {
        let mut store = Store::new(crate::form::Form::floats(1));
        let order = knn_types::SeqNo { primary_term: 1, seq_no: 1 };
        store.push(b"a", order, &[0]);
        store.push_follower(b"a", order, &[0]);
        let mut best = TopK::over(&store, 3, true);
        let offers =
            [(5, 4.0), (7, 1.0), (5, 2.0), (9, 3.0), (7, 9.0), (5, 3.0), (11, 2.5), (9, 0.5), (9, 8.0)];
        for (at, (slot, rank)) in offers.into_iter().enumerate() {
            assert_eq!(best.is_short(), at < 4);
            best.offer(Ranked { rank, seq_no: 1, slot });
        }
        assert_eq!(best.limit(), 2.0);
        let kept: Vec<_> = best.into_sorted().iter().map(|entry| (entry.slot, entry.rank)).collect();
        assert_eq!(kept, [(9, 0.5), (7, 1.0), (5, 2.0)]);
    }
}
