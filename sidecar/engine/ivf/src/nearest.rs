//! Which of many centroids is nearest to each of many rows: the heart of k-means and assignment.
//!
//! Products of bytes say which centroids may be the nearest; only those are compared in float32.

use std::ops::Range;
use std::sync::Arc;

use ivf_kernels::{Bounds, BytePanels, ByteRows, dot};

use crate::mapped::MappedWords;
use crate::truth::Nearest;

/// Standard errors by which an int8 rank may mislead about which of two is the smaller: beyond six
/// the exact comparison would not change one row in a hundred million.
const CAUTION: f32 = 6.0;

/// Weight of the part of the second residual along the first one in the choice of a second list
/// (lambda of SOAR, arXiv 2404.00774): the two estimates of a vector should not fail together.
const ALONG: f32 = 1.5;

/// Second lists that are considered: the nearest so many.
const SHORTLIST: usize = 64;

/// Centroids, each with an offset that is added to its negated inner product:
/// `rank = offset - <row, centroid>`. Half the squared norm ranks by distance, zero by product.
/// A clone shares rows and bytes.
#[derive(Clone)]
pub(crate) struct Centroids {
    dims: usize,
    rows: Rows,
    squares: Vec<f32>,
    offsets: Vec<f32>,
    bytes: Arc<BytePanels>,
    /// Largest norm, and largest scale in `bytes`.
    longest: f32,
    coarsest: f32,
}

/// Float32 centroids, row by row. Searches never read them, only assignment and coding do, so that
/// they need not stay in memory once a file has them.
#[derive(Clone)]
enum Rows {
    Held(Arc<Vec<f32>>),
    /// These values of a file.
    Mapped(Arc<MappedWords>, Range<usize>),
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
            bytes: Arc::new(bytes),
            squares,
            rows: Rows::Held(Arc::new(rows)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.squares.len()
    }

    /// One centroid.
    pub(crate) fn row(&self, number: usize) -> &[f32] {
        &self.rows()[number * self.dims..][..self.dims]
    }

    /// All centroids, end to end.
    pub(crate) fn rows(&self) -> &[f32] {
        match &self.rows {
            Rows::Held(rows) => rows,
            Rows::Mapped(file, range) => bytemuck::cast_slice(file.values(range.clone())),
        }
    }

    /// Reads the rows from `file` from now on, where they begin with the value `start`.
    pub(crate) fn read_from(&mut self, file: Arc<MappedWords>, start: usize) {
        self.rows = Rows::Mapped(file, start..start + self.len() * self.dims);
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

    /// For each row the nearest centroid, and of the others the one with the smallest
    /// `|s|^2 + lambda <s, r>^2 / |r|^2`, where `r` and `s` are the residuals from the first and
    /// from the second centroid (SOAR, arXiv 2404.00774, theorem 3.1). There are two centroids at least.
    pub(crate) fn two_nearest(&self, rows: &Prepared<'_>) -> Vec<[u32; 2]> {
        assert!(self.len() > 1);
        let firsts = self.nearest(rows);
        let mut shortlists: Vec<Nearest> = firsts.iter().map(|_| Nearest::new(SHORTLIST)).collect();
        let mut bounds = Bounds::new(&self.offsets, firsts.len(), f32::INFINITY);
        self.bytes.below(&rows.bytes, &mut bounds, |bounds, row, centroid, rank| {
            if firsts[row].0 as usize != centroid {
                shortlists[row].offer(rank, centroid as u32);
                bounds.set_limit(row, shortlists[row].limit());
            }
        });
        let mut residual = vec![0.0; self.dims];
        let rows = rows.rows.chunks_exact(self.dims);
        let second = |((row, &(first, _)), shortlist): ((&[f32], &(u32, f32)), Nearest)| {
            let pairs = row.iter().zip(self.row(first as usize));
            residual.iter_mut().zip(pairs).for_each(|(r, (x, c))| *r = x - c);
            let second = self.second(row, &residual, &shortlist.into_slots());
            // No number to compare by: any other one.
            [first, second.unwrap_or(u32::from(first == 0))]
        };
        rows.zip(&firsts).zip(shortlists).map(second).collect()
    }

    /// The best second centroid on a list.
    fn second(&self, row: &[f32], residual: &[f32], shortlist: &[u32]) -> Option<u32> {
        let (square, along) = (dot(row, row), dot(row, residual));
        let energy = dot(residual, residual);
        let mut best = (None, f32::INFINITY);
        for &number in shortlist {
            let centroid = self.row(number as usize);
            let distance = square + self.squares[number as usize] - 2.0 * dot(row, centroid);
            if distance > best.1 {
                continue;
            }
            let product = along - dot(centroid, residual);
            let cost = if energy > 0.0 { distance + ALONG * product * product / energy } else { distance };
            if cost < best.1 {
                best = (Some(number), cost);
            }
        }
        best.0
    }

    fn margin(&self, row: &[f32], scale: f32) -> f32 {
        margin((scale, dot(row, row).sqrt()), (self.coarsest, self.longest))
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let rows = match &self.rows {
            Rows::Held(rows) => size_of_val(&rows[..]),
            Rows::Mapped(..) => 0,
        };
        rows + size_of_val(&self.squares[..]) + size_of_val(&self.offsets[..]) + self.bytes.memory_bytes()
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

    /// The choice of a second list against every centroid, by the rule spelt out.
    #[test]
    fn the_second_list_is_that_of_the_rule() {
        let mut rng = Xoshiro256Plus::seed_from_u64(6);
        for (dims, count) in [(1, 2), (2, 30), (16, 60), (40, 200)] {
            let mut draw =
                |n: usize| -> Vec<f32> { (0..n * dims).map(|_| rng.gen_range(-1f32..1.0)).collect() };
            let (centroids, rows) = (Centroids::new(draw(count), dims, false), draw(300));
            let found = centroids.two_nearest(&Prepared::new(&rows, dims));
            let mut worse = 0;
            for (row, &[first, second]) in rows.chunks_exact(dims).zip(&found) {
                assert_ne!(first, second);
                let residual = |number: usize| -> Vec<f64> {
                    row.iter()
                        .zip(centroids.row(number))
                        .map(|(x, c)| f64::from(*x) - f64::from(*c))
                        .collect()
                };
                let product = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(x, y)| x * y).sum() };
                let r = residual(first as usize);
                let cost = |number: usize| {
                    let s = residual(number);
                    product(&s, &s) + 1.5 * product(&s, &r).powi(2) / product(&r, &r)
                };
                let others = (0..count).filter(|&number| number != first as usize);
                let best = others.map(cost).fold(f64::INFINITY, f64::min);
                let nearer = (0..count)
                    .any(|number| product(&residual(number), &residual(number)) < product(&r, &r) - 1e-4);
                assert!(!nearer, "the first is the nearest");
                worse += usize::from(cost(second as usize) > best * (1.0 + 1e-4));
            }
            // Only a centroid beyond the shortlist can be missed.
            assert!(if count <= SHORTLIST { worse == 0 } else { worse <= 3 }, "{dims}: {worse}");
        }
    }

    #[test]
    fn equal_centroids_and_rows_without_a_number_still_get_two_lists() {
        let centroids = Centroids::new(vec![1.0; 5 * 8], 8, true);
        let mut rows = vec![1.0; 4 * 8];
        rows[8..16].fill(0.0);
        rows[16..24].fill(f32::MAX);
        for [first, second] in centroids.two_nearest(&Prepared::new(&rows, 8)) {
            assert!(first != second && first < 5 && second < 5);
        }
    }
}
