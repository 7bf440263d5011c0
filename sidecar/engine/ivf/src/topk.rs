//! The k nearest of many: ascending rank, then ascending `_seq_no`.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use hashbrown::HashSet;

use crate::store::Slot;

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
}

impl TopK {
    pub(crate) fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::with_capacity(k.min(10_000) + 1), seen: None }
    }

    /// The same where slots may be offered more than once, always with the same rank.
    pub(crate) fn distinct(k: usize) -> Self {
        Self { seen: Some(HashSet::new()), ..Self::new(k) }
    }

    /// Whether fewer than `k` were offered so far.
    pub(crate) fn is_short(&self) -> bool {
        self.heap.len() < self.k
    }

    /// The rank beyond which nothing more is kept.
    #[inline]
    pub(crate) fn limit(&self) -> f32 {
        if self.heap.len() < self.k {
            f32::INFINITY
        } else {
            self.heap.peek().map_or(f32::INFINITY, |last| last.rank)
        }
    }

    #[inline]
    pub(crate) fn offer(&mut self, entry: Ranked) {
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
        self.heap.into_sorted_vec()
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
}
