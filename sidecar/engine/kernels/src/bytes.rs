//! One query against many int8 centroids: the ranking of lists.
//!
//! Sixteen rows stand in a panel, four dimensions of each in one line, as `vpdpbusd` wants them:
//! unsigned query bytes (shifted by 128) times signed row bytes.

use crate::{Level, Line, level, scalar};

/// Rows in a panel.
pub(crate) const PANEL: usize = 16;

/// int8 rows, each with a scale of its own.
#[derive(Clone, Debug)]
pub struct BytePanels {
    dims: usize,
    count: usize,
    /// Per panel one line for every four dimensions.
    lines: Vec<Line>,
    scales: Vec<f32>,
    /// 128 times the sum of a row's bytes: what the query's shift adds.
    shifts: Vec<i32>,
}

/// A query in unsigned bytes.
#[derive(Clone, Debug, Default)]
pub struct ByteQuery {
    bytes: Vec<u8>,
    scale: f32,
}

impl ByteQuery {
    /// Rounds `query` to bytes; the buffer is kept from one query to the next.
    pub fn set(&mut self, query: &[f32]) {
        let largest = query.iter().fold(0f32, |most, x| most.max(x.abs()));
        self.scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
        let inverse = 1.0 / self.scale;
        self.bytes.clear();
        self.bytes.extend(query.iter().map(|x| ((x * inverse).round() as i32 + 128) as u8));
        self.bytes.resize(query.len().next_multiple_of(4), 128);
    }
}

impl BytePanels {
    /// Rounds and packs `rows` of `dims` values.
    pub fn pack(rows: &[f32], dims: usize) -> Self {
        assert!(dims > 0 && rows.len().is_multiple_of(dims));
        let count = rows.len() / dims;
        let panel_lines = dims.div_ceil(4);
        let mut lines = vec![Line::ZERO; count.div_ceil(PANEL) * panel_lines];
        let mut scales = vec![0f32; count.next_multiple_of(PANEL)];
        let mut shifts = vec![0i32; count.next_multiple_of(PANEL)];
        for (number, row) in rows.chunks_exact(dims).enumerate() {
            let largest = row.iter().fold(0f32, |most, x| most.max(x.abs()));
            let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
            let panel = &mut lines[number / PANEL * panel_lines..];
            let inverse = 1.0 / scale;
            for (dim, value) in row.iter().enumerate() {
                // Cut off where nothing is negative: rounds to the nearest without a call.
                let byte = ((value * inverse + 128.5) as i32 - 128) as i8;
                panel[dim / 4].0[number % PANEL * 4 + dim % 4] = byte as u8;
                shifts[number] += 128 * i32::from(byte);
            }
            scales[number] = scale;
        }
        Self { dims, count, lines, scales, shifts }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Values per row.
    pub(crate) fn dims(&self) -> usize {
        self.dims
    }

    /// Number of panels.
    pub(crate) fn panels(&self) -> usize {
        self.scales.len() / PANEL
    }

    /// Lines, scales and shifts of one panel.
    pub(crate) fn panel(&self, number: usize) -> (&[Line], &[f32; PANEL], &[i32; PANEL]) {
        let panel_lines = self.dims.div_ceil(4);
        let lines = &self.lines[number * panel_lines..][..panel_lines];
        let scales = self.scales[number * PANEL..].first_chunk().expect("padded to whole panels");
        let shifts = self.shifts[number * PANEL..].first_chunk().expect("padded to whole panels");
        (lines, scales, shifts)
    }

    /// Largest scale of a row; rounding moves each value by at most half of it.
    pub fn largest_scale(&self) -> f32 {
        self.scales.iter().copied().fold(0.0, f32::max)
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&self.lines[..]) + self.scales.len() * 8
    }

    /// Inner products of the query with all rows, about, into `products`.
    pub fn products(&self, query: &ByteQuery, products: &mut Vec<f32>) {
        self.products_at(level(), query, products);
    }

    fn products_at(&self, level: Level, query: &ByteQuery, products: &mut Vec<f32>) {
        assert_eq!(query.bytes.len(), self.dims.next_multiple_of(4));
        let panel_lines = self.dims.div_ceil(4);
        products.clear();
        products.reserve(self.scales.len());
        for (number, panel) in self.lines.chunks_exact(panel_lines).enumerate() {
            let sums = match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => crate::x86::avx512::byte_panel(panel, &query.bytes),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => crate::x86::avx2::byte_panel(panel, &query.bytes),
                #[cfg(target_arch = "aarch64")]
                Level::Neon => crate::aarch64::neon::byte_panel(panel, &query.bytes),
                _ => scalar::byte_panel(panel, &query.bytes),
            };
            let rows = number * PANEL..(number + 1) * PANEL;
            let factors = self.scales[rows.clone()].iter().zip(&self.shifts[rows]);
            products.extend(
                sums.iter()
                    .zip(factors)
                    .map(|(sum, (scale, shift))| (sum - shift) as f32 * (scale * query.scale)),
            );
        }
        products.truncate(self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{affordable, values};

    #[test]
    fn every_level_equals_the_scalar_one_and_is_near_the_float_product() {
        for (dims, rows) in [(1, 1), (2, 17), (3, 16), (5, 33), (64, 40), (383, 31), (384, 64), (4096, 20)] {
            if !affordable(dims * rows) {
                continue;
            }
            let data = values(dims as u64, dims * rows);
            let query = values(dims as u64 + 5, dims);
            let panels = BytePanels::pack(&data, dims);
            let mut bytes = ByteQuery::default();
            bytes.set(&query);
            let mut want = Vec::new();
            panels.products_at(Level::Scalar, &bytes, &mut want);
            assert_eq!(want.len(), rows);
            for (row, got) in data.chunks_exact(dims).zip(&want) {
                assert!(
                    (scalar::dot(row, &query) - got).abs() < 0.02 * (dims as f32).sqrt().max(1.0),
                    "{dims}"
                );
            }
            for level in Level::supported() {
                let mut got = Vec::new();
                panels.products_at(level, &bytes, &mut got);
                assert_eq!(got, want, "{level:?} {dims} {rows}");
            }
        }
    }

    #[test]
    fn a_zero_query_and_zero_rows_give_zero() {
        let panels = BytePanels::pack(&[0.0; 12], 6);
        let mut query = ByteQuery::default();
        query.set(&[0.0; 6]);
        let mut products = Vec::new();
        panels.products(&query, &mut products);
        assert_eq!(products, [0.0, 0.0]);
    }
}
