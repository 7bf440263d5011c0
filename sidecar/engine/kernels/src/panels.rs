//! Many float32 rows against many centroids: the heart of k-means, assignment and ground truth.
//!
//! Centroids stand transposed, sixteen side by side, so that one broadcast element of a row meets
//! sixteen centroids and nothing is summed across a register.

use crate::{Level, level, scalar};

/// Centroids that are compared in one step: two panels of sixteen.
pub const PANEL_PAIR: usize = 32;

/// Rows that are compared in one step.
pub const ROW_BLOCK: usize = 8;

/// Scores of one step: row by centroid.
pub(crate) type Scores = [[f32; PANEL_PAIR]; ROW_BLOCK];

/// Rows that stay in the L2 cache while the panels pass by.
const TILE_ROWS: usize = 64;

/// Packed centroids, each with an offset that is added to its negated inner product:
/// `rank = offset - <row, centroid>`. Half the squared norm ranks by distance, zero by product.
#[derive(Clone, Debug)]
pub struct Panels {
    dims: usize,
    count: usize,
    /// Per pair of panels `dims` times 32 values.
    packed: Vec<f32>,
    /// Padded with infinity to whole pairs.
    offsets: Vec<f32>,
}

impl Panels {
    /// Packs `centroids`, rows of `dims` values.
    pub fn pack(centroids: &[f32], dims: usize, offset: impl Fn(&[f32]) -> f32) -> Self {
        assert!(dims > 0 && centroids.len().is_multiple_of(dims));
        let count = centroids.len() / dims;
        let pairs = count.div_ceil(PANEL_PAIR);
        let mut packed = vec![0f32; pairs * dims * PANEL_PAIR];
        let mut offsets = vec![f32::INFINITY; pairs * PANEL_PAIR];
        for (number, centroid) in centroids.chunks_exact(dims).enumerate() {
            let panel = &mut packed[number / PANEL_PAIR * dims * PANEL_PAIR..];
            for (dim, &value) in centroid.iter().enumerate() {
                panel[dim * PANEL_PAIR + number % PANEL_PAIR] = value;
            }
            offsets[number] = offset(centroid);
        }
        Self { dims, count, packed, offsets }
    }

    /// Number of centroids.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no centroid.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Writes a centroid, as it was packed, into `row`.
    pub fn unpack(&self, number: usize, row: &mut [f32]) {
        assert!(number < self.count && row.len() == self.dims);
        let panel = &self.packed[number / PANEL_PAIR * self.dims * PANEL_PAIR..];
        for (dim, value) in row.iter_mut().enumerate() {
            *value = panel[dim * PANEL_PAIR + number % PANEL_PAIR];
        }
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        (self.packed.capacity() + self.offsets.capacity()) * size_of::<f32>()
    }

    /// For each of `rows` the centroid of the smallest rank, and the rank. Ties go to the lower
    /// number; with no finite rank the answer is centroid 0.
    pub fn nearest(&self, rows: &[f32], nearest: &mut [(u32, f32)]) {
        assert_eq!(rows.len(), nearest.len() * self.dims);
        nearest.fill((0, f32::INFINITY));
        self.for_each_step(rows, |first_row, pair, scores| {
            let offsets = &self.offsets[pair * PANEL_PAIR..(pair + 1) * PANEL_PAIR];
            for (row, best) in scores.iter().zip(&mut nearest[first_row..]) {
                let smallest = row
                    .iter()
                    .zip(offsets)
                    .map(|(score, offset)| offset - score)
                    .fold(f32::INFINITY, f32::min);
                if smallest < best.1 {
                    let at = row.iter().zip(offsets).position(|(score, offset)| offset - score == smallest);
                    *best = ((pair * PANEL_PAIR + at.expect("the smallest is one of them")) as u32, smallest);
                }
            }
        });
    }

    /// Inner products of all rows with all centroids, handed out in steps: first row of the step,
    /// pair of panels, products. Rows beyond the end repeat the last one and centroids beyond the
    /// end are zero: the visitor looks at what it knows to exist.
    pub fn for_each_step(
        &self,
        rows: &[f32],
        mut visit: impl FnMut(usize, usize, &[[f32; PANEL_PAIR]; ROW_BLOCK]),
    ) {
        assert_eq!(rows.len() % self.dims, 0);
        let level = level();
        let row_count = rows.len() / self.dims;
        let mut scores = [[0f32; PANEL_PAIR]; ROW_BLOCK];
        for tile in (0..row_count).step_by(TILE_ROWS) {
            let tile_end = (tile + TILE_ROWS).min(row_count);
            for (pair, panel) in self.packed.chunks_exact(self.dims * PANEL_PAIR).enumerate() {
                for first in (tile..tile_end).step_by(ROW_BLOCK) {
                    let row = |at: usize| {
                        let at = (first + at).min(row_count - 1);
                        &rows[at * self.dims..(at + 1) * self.dims]
                    };
                    step_at(level, panel, std::array::from_fn(row), &mut scores);
                    visit(first, pair, &scores);
                }
            }
        }
    }
}

#[inline]
fn step_at(level: Level, panel: &[f32], rows: [&[f32]; ROW_BLOCK], scores: &mut Scores) {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => crate::x86::avx512::panel_step(panel, rows, scores),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => crate::x86::avx2::panel_step(panel, rows, scores),
        _ => scalar::panel_step(panel, rows, scores),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::values;

    #[test]
    fn every_level_equals_row_by_row_products() {
        for dims in [1, 2, 3, 7, 16, 31, 64, 100, 384] {
            let panel = values(dims as u64, dims * PANEL_PAIR);
            let rows = values(dims as u64 + 99, dims * ROW_BLOCK);
            let row = |at: usize| &rows[at * dims..(at + 1) * dims];
            for level in Level::supported() {
                let mut scores = [[0f32; PANEL_PAIR]; ROW_BLOCK];
                step_at(level, &panel, std::array::from_fn(row), &mut scores);
                for (at, scores) in scores.iter().enumerate() {
                    for (centroid, &score) in scores.iter().enumerate() {
                        let want: f64 = (0..dims)
                            .map(|d| f64::from(panel[d * PANEL_PAIR + centroid]) * f64::from(row(at)[d]))
                            .sum();
                        assert!((f64::from(score) - want).abs() < 1e-5 * dims as f64, "{level:?} {dims}");
                    }
                }
            }
        }
    }

    #[test]
    fn nearest_finds_what_a_plain_loop_finds() {
        for (dims, centroids, rows) in [(1, 1, 1), (3, 5, 9), (16, 33, 130), (20, 64, 64), (5, 100, 71)] {
            let packed = values(3, dims * centroids);
            let data = values(4, dims * rows);
            let panels = Panels::pack(&packed, dims, |c| scalar::dot(c, c) / 2.0);
            let mut found = vec![(0, 0.0); rows];
            panels.nearest(&data, &mut found);
            for (row, &(centroid, rank)) in data.chunks_exact(dims).zip(&found) {
                let best = packed
                    .chunks_exact(dims)
                    .map(|c| scalar::l2_squared(c, row))
                    .fold(f32::INFINITY, f32::min);
                let chosen = &packed[centroid as usize * dims..(centroid as usize + 1) * dims];
                assert!((scalar::l2_squared(chosen, row) - best).abs() < 1e-4);
                assert!((scalar::dot(row, row) + 2.0 * rank - best).abs() < 1e-4);
                let mut unpacked = vec![0.0; dims];
                panels.unpack(centroid as usize, &mut unpacked);
                assert_eq!(unpacked, chosen);
            }
        }
    }
}
