//! Many rows against many int8 centroids: the heart of k-means, assignment and ground truth, with
//! VNNI at four times the rate of float32. What is found here is near: callers compare the few that
//! may win exactly.
//!
//! Rows are unsigned bytes (shifted by 128) and the centroids those of [`BytePanels`], so that one
//! `vpdpbusd` does four dimensions of sixteen pairs.

use crate::bytes::PANEL;
use crate::{BytePanels, Level, Line, level, scalar};

/// Rows that are compared in one step.
pub(crate) const STEP_ROWS: usize = 8;

/// Centroids that are compared in one step: two panels.
pub(crate) const STEP_CENTROIDS: usize = 2 * PANEL;

/// Rows whose bytes stay near while all panels pass by.
const TILE_ROWS: usize = 32;

/// Rows in unsigned bytes, each with a scale of its own.
#[derive(Clone, Debug, Default)]
pub struct ByteRows {
    dims: usize,
    count: usize,
    /// `dims` rounded up to four per row; whole steps of rows.
    bytes: Vec<u8>,
    scales: Vec<f32>,
}

/// What the two sides add and may not exceed.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Per centroid, padded to whole steps with infinity.
    offsets: Vec<f32>,
    /// Per row.
    limits: Vec<f32>,
}

/// What one step compares: two panels with what belongs to their centroids.
pub(crate) struct StepPanels<'a> {
    pub(crate) lines: [&'a [Line]; 2],
    pub(crate) scales: [&'a [f32; PANEL]; 2],
    pub(crate) shifts: [&'a [i32; PANEL]; 2],
    pub(crate) offsets: &'a [f32; STEP_CENTROIDS],
}

/// Rows of one step, end to end, with what belongs to them.
pub(crate) struct StepRows<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) scales: &'a [f32; STEP_ROWS],
    pub(crate) limits: &'a [f32; STEP_ROWS],
}

/// Ranks of one step, row by centroid.
pub(crate) type StepRanks = [[f32; STEP_CENTROIDS]; STEP_ROWS];

impl ByteRows {
    /// Rounds rows of `dims` values to bytes.
    pub fn pack(rows: &[f32], dims: usize) -> Self {
        assert!(dims > 0 && rows.len().is_multiple_of(dims));
        let count = rows.len() / dims;
        let width = dims.next_multiple_of(4);
        let padded = count.next_multiple_of(STEP_ROWS);
        let mut bytes = vec![128; padded * width];
        let mut scales = vec![0.0; padded];
        for ((row, bytes), scale) in
            rows.chunks_exact(dims).zip(bytes.chunks_exact_mut(width)).zip(&mut scales)
        {
            *scale = round_at(level(), row, &mut bytes[..dims]);
        }
        Self { dims, count, bytes, scales }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What one step of a row's bytes stands for; rounding moves each value by at most half of it.
    pub fn scale(&self, row: usize) -> f32 {
        self.scales[row]
    }
}

impl Bounds {
    /// Ranks are `offset - <row, centroid>`; those below the limit of their row are reported.
    pub fn new(offsets: &[f32], rows: usize, limit: f32) -> Self {
        let mut offsets = offsets.to_vec();
        offsets.resize(offsets.len().next_multiple_of(STEP_CENTROIDS), f32::INFINITY);
        let mut limits = vec![limit; rows];
        limits.resize(rows.next_multiple_of(STEP_ROWS), f32::NEG_INFINITY);
        Self { offsets, limits }
    }

    /// Changes the offset of a centroid.
    pub fn set_offset(&mut self, centroid: usize, offset: f32) {
        self.offsets[centroid] = offset;
    }

    /// Changes the limit of a row.
    pub fn set_limit(&mut self, row: usize, limit: f32) {
        self.limits[row] = limit;
    }
}

impl BytePanels {
    /// Hands every pair whose rank, about, is below the limit of its row to `visit`: row, centroid,
    /// rank. The visitor may tighten the bounds; pairs of a row come by ascending centroid.
    pub fn below(
        &self,
        rows: &ByteRows,
        bounds: &mut Bounds,
        visit: impl FnMut(&mut Bounds, usize, usize, f32),
    ) {
        self.below_at(level(), rows, bounds, visit);
    }

    fn below_at(
        &self,
        level: Level,
        rows: &ByteRows,
        bounds: &mut Bounds,
        mut visit: impl FnMut(&mut Bounds, usize, usize, f32),
    ) {
        assert!(rows.dims == self.dims() && bounds.limits.len() == rows.scales.len());
        let panels = self.panels();
        assert_eq!(bounds.offsets.len(), panels.next_multiple_of(2) * PANEL);
        let step_bytes = rows.dims.next_multiple_of(4) * STEP_ROWS;
        let mut ranks = [[0f32; STEP_CENTROIDS]; STEP_ROWS];
        for tile in (0..rows.scales.len()).step_by(TILE_ROWS) {
            let tile_end = (tile + TILE_ROWS).min(rows.scales.len());
            for pair in 0..panels.div_ceil(2) {
                // The last panel may stand alone; then it is compared twice and the second time
                // its offsets keep it out.
                let (one, other) = (self.panel(2 * pair), self.panel((2 * pair + 1).min(panels - 1)));
                let first_centroid = pair * STEP_CENTROIDS;
                for first in (tile..tile_end).step_by(STEP_ROWS) {
                    let step_rows = StepRows {
                        bytes: &rows.bytes[first / STEP_ROWS * step_bytes..][..step_bytes],
                        scales: array(&rows.scales[first..]),
                        limits: array(&bounds.limits[first..]),
                    };
                    let step_panels = StepPanels {
                        lines: [one.0, other.0],
                        scales: [one.1, other.1],
                        shifts: [one.2, other.2],
                        offsets: array(&bounds.offsets[first_centroid..]),
                    };
                    let below = step_at(level, &step_panels, &step_rows, &mut ranks);
                    for (at, mut mask) in below.into_iter().enumerate() {
                        while mask != 0 {
                            let centroid = mask.trailing_zeros() as usize;
                            mask &= mask - 1;
                            let rank = ranks[at][centroid];
                            if rank < bounds.limits[first + at] {
                                visit(bounds, first + at, first_centroid + centroid, rank);
                            }
                        }
                    }
                }
            }
        }
    }
}

fn array<const N: usize>(values: &[f32]) -> &[f32; N] {
    values.first_chunk().expect("whole steps")
}

/// Rounds a row; returns the scale.
#[inline]
fn round_at(level: Level, row: &[f32], bytes: &mut [u8]) -> f32 {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => crate::x86::avx512::round_row(row, bytes),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => crate::x86::avx2::round_row(row, bytes),
        _ => scalar::round_row(row, bytes),
    }
}

/// Ranks of a step, and for each row a bit for every centroid below its limit.
#[inline]
fn step_at(
    level: Level,
    panels: &StepPanels<'_>,
    rows: &StepRows<'_>,
    ranks: &mut StepRanks,
) -> [u32; STEP_ROWS] {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => crate::x86::avx512::byte_step(panels, rows, ranks),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => crate::x86::avx2::byte_step(panels, rows, ranks),
        #[cfg(target_arch = "aarch64")]
        Level::Neon => crate::aarch64::neon::byte_step(panels, rows, ranks),
        _ => scalar::byte_step(panels, rows, ranks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{affordable, values};

    #[test]
    fn every_level_reports_the_same_pairs_and_they_are_near_the_float_ones() {
        for (dims, centroids, count) in [
            (1, 1, 1),
            (2, 16, 8),
            (3, 17, 9),
            (5, 31, 33),
            (64, 32, 40),
            (383, 49, 7),
            (384, 65, 65),
            (4096, 20, 3),
        ] {
            if !affordable(dims * centroids) {
                continue;
            }
            let (packed, data) =
                (values(dims as u64, dims * centroids), values(dims as u64 + 5, dims * count));
            let offsets = values(77, centroids);
            let (panels, rows) = (BytePanels::pack(&packed, dims), ByteRows::pack(&data, dims));
            let pairs = |level: Level, limit: f32| {
                let mut found = Vec::new();
                let mut bounds = Bounds::new(&offsets, count, limit);
                panels.below_at(level, &rows, &mut bounds, |_, row, centroid, rank| {
                    found.push((row, centroid, rank));
                });
                found.sort_unstable_by_key(|&(row, centroid, _)| (row, centroid));
                found
            };
            let all = pairs(Level::Scalar, f32::INFINITY);
            assert_eq!(all.len(), centroids * count);
            for &(row, centroid, rank) in &all {
                let (x, c) = (&data[row * dims..][..dims], &packed[centroid * dims..][..dims]);
                let want = offsets[centroid] - scalar::dot(x, c);
                assert!((rank - want).abs() < 0.02 * (dims as f32).sqrt(), "{dims}: {rank} {want}");
            }
            for level in Level::supported() {
                for limit in [f32::INFINITY, 0.1, -0.5] {
                    let want: Vec<_> = all.iter().copied().filter(|pair| pair.2 < limit).collect();
                    assert_eq!(pairs(level, limit), want, "{level:?} {dims} {limit}");
                }
            }
        }
    }

    #[test]
    fn bounds_tighten_while_pairs_are_visited() {
        let (dims, centroids, count) = if affordable(20 * 200) { (20, 200, 70) } else { (3, 100, 9) };
        let (packed, data) = (values(8, dims * centroids), values(9, dims * count));
        let (panels, rows) = (BytePanels::pack(&packed, dims), ByteRows::pack(&data, dims));
        let mut best = vec![(0, f32::INFINITY); count];
        let mut bounds = Bounds::new(&vec![0.0; centroids], count, f32::INFINITY);
        let mut visited = 0;
        panels.below(&rows, &mut bounds, |bounds, row, centroid, rank| {
            visited += 1;
            best[row] = (centroid, rank);
            bounds.set_limit(row, rank);
        });
        assert!(visited < count * centroids / 4, "most pairs are kept out: {visited}");
        let mut all = vec![(0, f32::INFINITY); count];
        panels.below(
            &rows,
            &mut Bounds::new(&vec![0.0; centroids], count, f32::INFINITY),
            |_, row, centroid, rank| {
                if rank < all[row].1 {
                    all[row] = (centroid, rank);
                }
            },
        );
        assert_eq!(best, all);
        let mut bounds = Bounds::new(&vec![0.0; centroids], count, f32::INFINITY);
        (0..centroids).for_each(|centroid| bounds.set_offset(centroid, f32::INFINITY));
        panels.below(&rows, &mut bounds, |_, row, centroid, _| panic!("{row} {centroid} is kept out"));
    }
}
