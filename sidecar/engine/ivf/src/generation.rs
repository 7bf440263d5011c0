//! One trained state: rotation, centroids, codes and the curve that calibration measured. It does
//! not change; retraining makes another one beside it, and so do local maintenance, which shares all
//! but the centroids, and another calibration, which shares all but the curve.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use knn_types::Metric;

use crate::coarse::{Coarse, ListNo};
use crate::coder::Coder;
use crate::effort::Curve;
use crate::lists::{Code, Entry, List};
use crate::mapped::MappedWords;
use crate::rotation::Rotation;

/// See the module.
#[derive(Clone)]
pub(crate) struct Generation {
    /// Unique in this process: tells whether an entry that was coded earlier still fits.
    pub(crate) id: u64,
    pub(crate) metric: Metric,
    pub(crate) rotation: Arc<Rotation>,
    pub(crate) coder: Coder,
    pub(crate) coarse: Arc<Coarse>,
    /// Every vector stands in two lists.
    pub(crate) spill: bool,
    pub(crate) trained: Trained,
    pub(crate) curve: Curve,
    pub(crate) local: Local,
}

/// What local maintenance keeps in mind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Local {
    /// Entries of each list when its centroid was placed, or when it last could not be split.
    pub(crate) founding: Vec<u32>,
    /// Lists that came or went since the curve was measured.
    pub(crate) changed: usize,
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

/// Coded rows end to end, as a bulk build makes them: one code per row, or two where vectors spill.
#[derive(Default)]
pub(crate) struct Coded {
    pub(crate) lists: Vec<ListNo>,
    pub(crate) factors: Vec<(f32, f32)>,
    /// `groups` per code.
    pub(crate) nibbles: Vec<u8>,
    /// Squared length of each row's residual, the first one.
    pub(crate) residuals: Vec<f32>,
}

impl Generation {
    /// Takes the sizes of lists for those when their centroids were placed, where nothing better is known.
    pub(crate) fn remember_sizes(&mut self, lists: &[Arc<List>]) {
        if self.local.founding.is_empty() {
            self.local.founding = lists.iter().map(|list| list.len() as u32).collect();
        }
    }

    /// Lists that each vector stands in.
    pub(crate) fn copies(&self) -> usize {
        1 + usize::from(self.spill)
    }

    /// The same, with float32 centroids read from `file`, where they begin with the value `start`.
    pub(crate) fn reading(&self, file: Arc<MappedWords>, start: usize) -> Generation {
        let mut generation = self.clone();
        Arc::make_mut(&mut generation.coarse).read_from(file, start);
        generation
    }

    /// Assigns and codes rows of unrotated values; `rows` is used as scratch space.
    pub(crate) fn encode(&self, rows: &mut [f32]) -> Coded {
        let dims = self.rotation.dims();
        let groups = self.coder.groups();
        rows.chunks_exact_mut(dims).for_each(|row| self.rotation.apply(row));
        let lists = self.coarse.assign(rows, self.spill);
        let mut residual = vec![0.0; dims];
        let mut coded = Coded { nibbles: vec![0; lists.len() * groups], ..Coded::default() };
        for (at, (&list, nibbles)) in lists.iter().zip(coded.nibbles.chunks_exact_mut(groups)).enumerate() {
            let row = &rows[at / self.copies() * dims..][..dims];
            let centroid = self.coarse.centroid(list);
            residual.iter_mut().zip(row.iter().zip(centroid)).for_each(|(r, (x, c))| *r = x - c);
            if at % self.copies() == 0 {
                coded.residuals.push(ivf_kernels::dot(&residual, &residual));
            }
            coded.factors.push(self.coder.encode(self.metric, &residual, centroid, nibbles));
        }
        coded.lists = lists;
        coded
    }

    /// The same, entry by entry.
    pub(crate) fn encode_entries(&self, rows: &mut [f32]) -> Vec<Entry> {
        let coded = self.encode(rows);
        let nibbles = coded.nibbles.chunks_exact(self.coder.groups());
        let code =
            |((&list, &(add, mul)), nibbles): (_, &[u8])| Code { list, add, mul, nibbles: nibbles.into() };
        let mut codes = coded.lists.iter().zip(&coded.factors).zip(nibbles).map(code);
        let entry = |&residual| Entry { residual, codes: codes.by_ref().take(self.copies()).collect() };
        coded.residuals.iter().map(entry).collect()
    }
}
