//! One trained state: rotation, centroids, codes and the curve that calibration measured. It does
//! not change; retraining makes another one beside it.

use std::sync::atomic::{AtomicU64, Ordering};

use knn_types::Metric;

use crate::coarse::{Coarse, ListNo};
use crate::coder::Coder;
use crate::effort::Curve;
use crate::lists::Entry;
use crate::rotation::Rotation;

/// See the module.
pub(crate) struct Generation {
    /// Unique in this process: tells whether an entry that was coded earlier still fits.
    pub(crate) id: u64,
    pub(crate) metric: Metric,
    pub(crate) rotation: Rotation,
    pub(crate) coder: Coder,
    pub(crate) coarse: Coarse,
    pub(crate) trained: Trained,
    pub(crate) curve: Curve,
}

/// What a generation was trained on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trained {
    /// Live vectors then.
    pub(crate) vectors: usize,
    /// Mean squared length of residuals then.
    pub(crate) residual: f32,
}

/// A number that no other generation of this process has.
pub(crate) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Coded rows end to end, as a bulk build makes them.
#[derive(Default)]
pub(crate) struct Coded {
    pub(crate) lists: Vec<ListNo>,
    pub(crate) factors: Vec<(f32, f32)>,
    /// `groups` per row.
    pub(crate) nibbles: Vec<u8>,
    /// Squared lengths of the residuals.
    pub(crate) residuals: Vec<f32>,
}

impl Generation {
    /// Assigns and codes rows of unrotated values; `rows` is used as scratch space.
    pub(crate) fn encode(&self, rows: &mut [f32]) -> Coded {
        let dims = self.rotation.dims();
        let groups = self.coder.groups();
        rows.chunks_exact_mut(dims).for_each(|row| self.rotation.apply(row));
        let lists = self.coarse.assign(rows);
        let mut coded = Coded { nibbles: vec![0; lists.len() * groups], ..Coded::default() };
        for ((row, &list), nibbles) in
            rows.chunks_exact_mut(dims).zip(&lists).zip(coded.nibbles.chunks_exact_mut(groups))
        {
            let centroid = self.coarse.centroid(list);
            row.iter_mut().zip(centroid).for_each(|(x, c)| *x -= c);
            coded.residuals.push(ivf_kernels::dot(row, row));
            coded.factors.push(self.coder.encode(self.metric, row, centroid, nibbles));
        }
        coded.lists = lists;
        coded
    }

    /// The same, entry by entry.
    pub(crate) fn encode_entries(&self, rows: &mut [f32]) -> Vec<Entry> {
        let coded = self.encode(rows);
        let nibbles = coded.nibbles.chunks_exact(self.coder.groups());
        let parts = coded.lists.iter().zip(&coded.factors).zip(&coded.residuals).zip(nibbles);
        let entry = |(((&list, &(add, mul)), &residual), nibbles): (_, &[u8])| Entry {
            list,
            add,
            mul,
            residual,
            nibbles: nibbles.into(),
        };
        parts.map(entry).collect()
    }
}
