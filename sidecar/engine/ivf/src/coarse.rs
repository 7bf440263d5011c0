//! The coarse quantizer: which list a vector belongs to, and which lists a query should visit.
//! All vectors here are rotated.

use std::sync::Arc;

use ivf_kernels::ByteQuery;
use knn_types::Metric;

use crate::mapped::MappedWords;
use crate::nearest::{Centroids, Prepared};

/// Number of a list.
pub(crate) type ListNo = u32;

/// The centroids of one generation.
#[derive(Clone)]
pub(crate) struct Coarse {
    metric: Metric,
    dims: usize,
    centroids: Centroids,
    /// For inner products of vectors of any length: how far, per unit of query length, the nearest
    /// members of a list may be expected to lie before its centroid. Else empty.
    reaches: Vec<f32>,
    residuals: Vec<f32>,
}

/// Reach in units of the root mean square residual per dimension.
const REACH: f32 = 1.5;

/// Standard error of an int8 product of two rotated vectors, in units of their lengths' product over
/// the root of their dimensions: both are rounded in steps of about three standard deviations over
/// 127, and a step's error is uniform, `sqrt(2) * 3 / (127 * sqrt(12))`.
const ROUNDING: f32 = 0.01;

/// Whether vectors of this metric have unit length.
pub(crate) fn spherical(metric: Metric) -> bool {
    matches!(metric, Metric::Cosine | Metric::Dot)
}

impl Coarse {
    pub(crate) fn new(metric: Metric, dims: usize, centroids: Vec<f32>) -> Self {
        Self {
            metric,
            dims,
            centroids: Centroids::new(centroids, dims, spherical(metric)),
            reaches: Vec::new(),
            residuals: Vec::new(),
        }
    }

    pub(crate) fn nlist(&self) -> usize {
        self.centroids.len()
    }

    /// The centroid of a list.
    pub(crate) fn centroid(&self, list: ListNo) -> &[f32] {
        self.centroids.row(list as usize)
    }

    /// All centroids, end to end.
    pub(crate) fn centroids(&self) -> &[f32] {
        self.centroids.rows()
    }

    /// Reads the float32 centroids from `file` from now on, where they begin with the value `start`.
    pub(crate) fn read_from(&mut self, file: Arc<MappedWords>, start: usize) {
        self.centroids.read_from(file, start);
    }

    /// The list of each row, or with `spill` its two lists.
    pub(crate) fn assign(&self, rows: &[f32], spill: bool) -> Vec<ListNo> {
        let rows = Prepared::new(rows, self.dims);
        if spill {
            return self.centroids.two_nearest(&rows).into_iter().flatten().collect();
        }
        self.centroids.nearest(&rows).into_iter().map(|(list, _)| list).collect()
    }

    /// Squared length of each row's residual from its nearest centroid.
    pub(crate) fn energies(&self, rows: &[f32]) -> Vec<f32> {
        let nearest = self.assign(rows, false);
        let energy = |(row, &list): (&[f32], &ListNo)| ivf_kernels::l2_squared(row, self.centroid(list));
        rows.chunks_exact(self.dims).zip(&nearest).map(energy).collect()
    }

    /// How far a row is from a centroid in the order that assignment goes by.
    pub(crate) fn rank(&self, list: ListNo, row: &[f32]) -> f32 {
        let half = if spherical(self.metric) { 0.0 } else { self.centroids.squares()[list as usize] / 2.0 };
        half - ivf_kernels::dot(row, self.centroid(list))
    }

    /// For each list the rank of its centroid, which is also the base of its entries' estimates:
    /// negated inner product, or squared distance. `square` is the query's squared length.
    pub(crate) fn bases(&self, square: f32, bytes: &ByteQuery, bases: &mut Vec<f32>) {
        self.centroids.bytes().products(bytes, bases);
        match self.metric {
            Metric::L2 => {
                let squares = self.centroids.squares();
                bases.iter_mut().zip(squares).for_each(|(base, c)| *base = square + c - 2.0 * *base);
            }
            _ => bases.iter_mut().for_each(|base| *base = -*base),
        }
    }

    /// Learns the mean squared residual of each list.
    pub(crate) fn set_residuals(&mut self, residuals: &[f32]) {
        assert_eq!(residuals.len(), self.nlist());
        self.residuals = residuals.to_vec();
        if self.metric == Metric::MaxInnerProduct {
            self.reaches =
                residuals.iter().map(|energy| REACH * (energy / self.dims as f32).sqrt()).collect();
        }
    }

    /// Mean squared residual of each list at training.
    pub(crate) fn residuals(&self) -> &[f32] {
        &self.residuals
    }

    /// What [`Coarse::bases`] lacks to rank lists whose members differ in length: long vectors lie
    /// far from their centroid and are found first all the same.
    pub(crate) fn ranks(&self, square: f32, bases: &[f32], ranks: &mut Vec<f32>) {
        ranks.clear();
        if self.reaches.is_empty() {
            ranks.extend_from_slice(bases);
        } else {
            let length = square.sqrt();
            ranks.extend(bases.iter().zip(&self.reaches).map(|(base, reach)| base - length * reach));
        }
    }

    /// For a list and its base: the distance from the query, which errors of codes are
    /// proportional to, and the standard error of the base itself.
    pub(crate) fn errors(&self, list: ListNo, square: f32, base: f32) -> (f32, f32) {
        let centroid = self.centroids.squares()[list as usize];
        let (gap, factor) = match self.metric {
            Metric::L2 => (base, 2.0),
            _ => (square + centroid + 2.0 * base, 1.0),
        };
        (gap.max(0.0).sqrt(), factor * ROUNDING * (square * centroid / self.dims as f32).sqrt())
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.centroids.memory_bytes() + size_of_val(&self.residuals[..]) + size_of_val(&self.reaches[..])
    }
}
