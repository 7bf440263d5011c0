//! Exact comparison of stored vectors with a query.

use knn_types::Metric;

use crate::store::{Slot, Store};
use crate::topk::{Ranked, TopK};

/// Rows asked for ahead of their comparison.
pub(crate) const ROWS_AHEAD: usize = 4;

/// The raw value that clients see of float vectors: squared distance for l2, inner product otherwise.
#[inline]
pub(crate) fn value(metric: Metric, query: &[f32], row: &[f32]) -> f32 {
    match metric {
        Metric::L2 => ivf_kernels::l2_squared(query, row),
        Metric::Cosine | Metric::Dot | Metric::MaxInnerProduct => ivf_kernels::dot(query, row),
    }
}

/// Turns a raw value into a rank (smaller is nearer), and back.
#[inline]
pub(crate) fn rank(metric: Metric, value: f32) -> f32 {
    if metric.smaller_is_nearer() { value } else { -value }
}

/// Compares one slot, keeping it if it is near enough.
#[inline]
pub(crate) fn offer(store: &Store, metric: Metric, query: &[u32], slot: Slot, best: &mut TopK) {
    let rank = rank(metric, store.form().value(metric, query, store.row(slot)));
    if rank <= best.limit() {
        best.offer(Ranked { rank, seq_no: store.order(slot).seq_no, slot: store.head(slot) });
    }
}

/// Compares every live slot.
pub(crate) fn scan(store: &Store, metric: Metric, query: &[u32], k: usize) -> Vec<Ranked> {
    let mut best = TopK::over(store, k, false);
    for slot in store.live_slots() {
        offer(store, metric, query, slot, &mut best);
    }
    best.into_sorted()
}

/// Compares the given slots, wherever they lie; returns how many those were.
pub(crate) fn compare(
    store: &Store,
    metric: Metric,
    query: &[u32],
    slots: impl Iterator<Item = Slot>,
    best: &mut TopK,
) -> usize {
    let mut ahead = [0; ROWS_AHEAD];
    let mut asked = 0;
    for slot in slots {
        store.prefetch(slot);
        let due = std::mem::replace(&mut ahead[asked % ROWS_AHEAD], slot);
        if asked >= ROWS_AHEAD {
            offer(store, metric, query, due, best);
        }
        asked += 1;
    }
    for at in asked.saturating_sub(ROWS_AHEAD)..asked {
        offer(store, metric, query, ahead[at % ROWS_AHEAD], best);
    }
    asked
}
