//! The coarse quantizer: which list a vector belongs to, and which lists a query should visit.
//! All vectors here are rotated.

use ivf_kernels::{BytePanels, ByteQuery, Panels};
use knn_types::Metric;

use crate::kmeans;

/// Number of a list.
pub(crate) type ListNo = u32;

/// The centroids of one generation.
pub(crate) struct Coarse {
    metric: Metric,
    dims: usize,
    squares: Vec<f32>,
    panels: Panels,
    bytes: BytePanels,
    /// For inner products of vectors of any length: how far, per unit of query length, the nearest
    /// members of a list may be expected to lie before its centroid. Else empty.
    reaches: Vec<f32>,
    residuals: Vec<f32>,
}

/// Reach in units of the root mean square residual per dimension.
const REACH: f32 = 1.5;

/// Whether vectors of this metric have unit length.
pub(crate) fn spherical(metric: Metric) -> bool {
    matches!(metric, Metric::Cosine | Metric::Dot)
}

impl Coarse {
    pub(crate) fn new(metric: Metric, dims: usize, centroids: &[f32]) -> Self {
        assert!(!centroids.is_empty() && centroids.len().is_multiple_of(dims));
        Self {
            metric,
            dims,
            squares: centroids.chunks_exact(dims).map(|c| ivf_kernels::dot(c, c)).collect(),
            panels: kmeans::panels(centroids, dims, spherical(metric)),
            bytes: BytePanels::pack(centroids, dims),
            reaches: Vec::new(),
            residuals: Vec::new(),
        }
    }

    pub(crate) fn nlist(&self) -> usize {
        self.squares.len()
    }

    /// Writes the centroid of a list into `row`.
    pub(crate) fn centroid(&self, list: ListNo, row: &mut [f32]) {
        self.panels.unpack(list as usize, row);
    }

    /// All centroids, end to end.
    pub(crate) fn centroids(&self) -> Vec<f32> {
        let mut centroids = vec![0.0; self.nlist() * self.dims];
        for (list, row) in centroids.chunks_exact_mut(self.dims).enumerate() {
            self.panels.unpack(list, row);
        }
        centroids
    }

    /// The list of each row.
    pub(crate) fn assign(&self, rows: &[f32]) -> Vec<ListNo> {
        let mut nearest = vec![(0, 0.0); rows.len() / self.dims];
        self.panels.nearest(rows, &mut nearest);
        nearest.into_iter().map(|(list, _)| list).collect()
    }

    /// For each list the rank of its centroid, which is also the base of its entries' estimates:
    /// negated inner product, or squared distance.
    pub(crate) fn bases(&self, query: &[f32], bytes: &ByteQuery, bases: &mut Vec<f32>) {
        self.bytes.products(bytes, bases);
        match self.metric {
            Metric::L2 => {
                let square = ivf_kernels::dot(query, query);
                bases.iter_mut().zip(&self.squares).for_each(|(base, c)| *base = square + c - 2.0 * *base);
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
    pub(crate) fn ranks(&self, query: &[f32], bases: &[f32], ranks: &mut Vec<f32>) {
        ranks.clear();
        if self.reaches.is_empty() {
            ranks.extend_from_slice(bases);
        } else {
            let length = ivf_kernels::dot(query, query).sqrt();
            ranks.extend(bases.iter().zip(&self.reaches).map(|(base, reach)| base - length * reach));
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&self.squares[..]) + self.panels.memory_bytes() + self.bytes.memory_bytes()
    }
}
