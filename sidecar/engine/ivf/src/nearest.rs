//! Which of many centroids is nearest to each of many rows: the heart of k-means and assignment.
//!
//! Products of bytes say which centroids may be the nearest; only those are compared in float32.

use ivf_kernels::{Bounds, BytePanels, ByteRows, dot};

/// Standard errors by which an int8 rank may mislead about which of two is the smaller: beyond six
/// the exact comparison would not change one row in a hundred million.
const CAUTION: f32 = 6.0;

/// Centroids, each with an offset that is added to its negated inner product:
/// `rank = offset - <row, centroid>`. Half the squared norm ranks by distance, zero by product.
pub(crate) struct Centroids {
    dims: usize,
    /// Row by row.
    rows: Vec<f32>,
    squares: Vec<f32>,
    offsets: Vec<f32>,
    bytes: BytePanels,
    /// Largest norm, and largest scale in `bytes`.
    longest: f32,
    coarsest: f32,
}

/// Rows made ready to be assigned, perhaps to several sets of centroids in turn.
pub(crate) struct Prepared<'a> {
    rows: &'a [f32],
    bytes: ByteRows,
}

/// How far apart two int8 ranks of one row must be to be told apart, from scale and norm of either
/// side. Rounding errors are even within a step, so that a product with them has a variance of a
/// twelfth of the step's square; two ranks have twice that.
pub(crate) fn margin(one: (f32, f32), other: (f32, f32)) -> f32 {
    let (of_one, of_other) = (one.0 * other.1, other.0 * one.1);
    CAUTION / 6f32.sqrt() * of_one.hypot(of_other)
}

impl<'a> Prepared<'a> {
    pub(crate) fn new(rows: &'a [f32], dims: usize) -> Self {
        Self { rows, bytes: ByteRows::pack(rows, dims) }
    }
}

impl Centroids {
    /// Centroids in rows of `dims` values. `spherical`: of unit vectors, so that the largest product
    /// is the nearest.
    pub(crate) fn new(rows: Vec<f32>, dims: usize, spherical: bool) -> Self {
        assert!(!rows.is_empty() && rows.len().is_multiple_of(dims));
        let squares: Vec<f32> = rows.chunks_exact(dims).map(|row| dot(row, row)).collect();
        let offset = |square: &f32| if spherical { 0.0 } else { square / 2.0 };
        let bytes = BytePanels::pack(&rows, dims);
        Self {
            dims,
            longest: squares.iter().copied().fold(0.0, f32::max).sqrt(),
            coarsest: bytes.largest_scale(),
            offsets: squares.iter().map(offset).collect(),
            bytes,
            squares,
            rows,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.squares.len()
    }

    /// One centroid.
    pub(crate) fn row(&self, number: usize) -> &[f32] {
        &self.rows[number * self.dims..][..self.dims]
    }

    /// All centroids, end to end.
    pub(crate) fn rows(&self) -> &[f32] {
        &self.rows
    }

    /// Squared norms.
    pub(crate) fn squares(&self) -> &[f32] {
        &self.squares
    }

    /// The centroids in int8.
    pub(crate) fn bytes(&self) -> &BytePanels {
        &self.bytes
    }

    /// For each row the centroid of the smallest rank, and the rank. Ties go to the lower number;
    /// with no finite rank the answer is centroid 0.
    pub(crate) fn nearest(&self, rows: &Prepared<'_>) -> Vec<(u32, f32)> {
        let count = rows.rows.len() / self.dims;
        let row = |at: usize| &rows.rows[at * self.dims..][..self.dims];
        let margins: Vec<f32> = (0..count).map(|at| self.margin(row(at), rows.bytes.scale(at))).collect();
        let mut least = vec![f32::INFINITY; count];
        let mut candidates: Vec<(u32, u32, f32)> = Vec::with_capacity(count * 48);
        let mut bounds = Bounds::new(&self.offsets, count, f32::INFINITY);
        self.bytes.below(&rows.bytes, &mut bounds, |bounds, row, centroid, rank| {
            candidates.push((row as u32, centroid as u32, rank));
            if rank < least[row] {
                least[row] = rank;
                bounds.set_limit(row, rank + margins[row]);
            }
        });
        let mut nearest = vec![(0, f32::INFINITY); count];
        for (at, centroid, rank) in candidates {
            let (at, number) = (at as usize, centroid as usize);
            if rank <= least[at] + margins[at] {
                let exact = self.offsets[number] - dot(row(at), self.row(number));
                // A tile's candidates come by ascending centroid.
                if exact < nearest[at].1 {
                    nearest[at] = (centroid, exact);
                }
            }
        }
        nearest
    }

    fn margin(&self, row: &[f32], scale: f32) -> f32 {
        margin((scale, dot(row, row).sqrt()), (self.coarsest, self.longest))
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&self.rows[..])
            + size_of_val(&self.squares[..])
            + size_of_val(&self.offsets[..])
            + self.bytes.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256Plus;

    use super::*;

    /// Far clusters, each with centroids so near to each other that int8 cannot tell them apart,
    /// equal centroids, and values of every size.
    #[test]
    fn the_nearest_is_exact_where_bytes_cannot_tell() {
        let mut rng = Xoshiro256Plus::seed_from_u64(5);
        for (dims, clusters, spread, size) in [
            (1, 3, 0.1, 1.0),
            (7, 5, 1e-3, 1.0),
            (96, 4, 1e-3, 1e12),
            (384, 9, 0.3, 1e-12),
            (50, 1, 0.0, 1.0),
        ] {
            let means: Vec<f32> = (0..clusters * dims).map(|_| rng.gen_range(-size..size)).collect();
            let near = |rng: &mut Xoshiro256Plus, n: usize| -> Vec<f32> {
                let mean = &means[n % clusters * dims..][..dims];
                mean.iter().map(|m| m + spread * size * rng.gen_range(-1f32..1.0)).collect()
            };
            let centroids: Vec<f32> = (0..70).flat_map(|n| near(&mut rng, n)).collect();
            let rows: Vec<f32> = (0..100).flat_map(|n| near(&mut rng, n)).collect();
            for spherical in [false, true] {
                let centroids = Centroids::new(centroids.clone(), dims, spherical);
                let found = centroids.nearest(&Prepared::new(&rows, dims));
                for (row, (number, rank)) in rows.chunks_exact(dims).zip(found) {
                    let rank_of = |number: usize| {
                        let offset = if spherical { 0.0 } else { centroids.squares()[number] / 2.0 };
                        offset - dot(row, centroids.row(number))
                    };
                    let best = (0..70).map(rank_of).fold(f32::INFINITY, f32::min);
                    assert!((rank - best).abs() <= 1e-5 * dot(row, row), "{dims} {rank} {best}");
                    assert!((rank_of(number as usize) - best).abs() <= 1e-5 * dot(row, row));
                }
            }
        }
    }
}
