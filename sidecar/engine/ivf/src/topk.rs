//! The k nearest of many: ascending rank, then ascending `_seq_no`.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

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
}

impl TopK {
    pub(crate) fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::with_capacity(k.min(10_000) + 1) }
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
        if self.heap.len() < self.k {
            self.heap.push(entry);
        } else if let Some(mut last) = self.heap.peek_mut()
            && entry < *last
        {
            *last = entry;
        }
    }

    pub(crate) fn into_sorted(self) -> Vec<Ranked> {
        self.heap.into_sorted_vec()
    }
}
