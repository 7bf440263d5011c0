//! The portable twins: what every other kernel must agree with.

use crate::Line;
use crate::byte_rows::{STEP_ROWS, StepPanels, StepRanks, StepRows};
use crate::bytes::PANEL;
use crate::fastscan::{BLOCK, BlockShape, Lut, Run};

/// Inner product. Eight sums side by side, so that the compiler may use whatever registers there are.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let mut sums = [0f32; 8];
    let (a_blocks, a_tail) = a.as_chunks::<8>();
    let (b_blocks, b_tail) = b.as_chunks::<8>();
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let tail: f32 = a_tail.iter().zip(b_tail).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + tail
}

/// Squared Euclidean distance.
pub fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let mut sums = [0f32; 8];
    let (a_blocks, a_tail) = a.as_chunks::<8>();
    let (b_blocks, b_tail) = b.as_chunks::<8>();
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..8 {
            let difference = x[lane] - y[lane];
            sums[lane] += difference * difference;
        }
    }
    let tail: f32 = a_tail.iter().zip(b_tail).map(|(x, y)| (x - y) * (x - y)).sum();
    sums.iter().sum::<f32>() + tail
}

/// See [`crate::hadamard`].
#[inline(always)]
pub fn hadamard(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (x, y) in low.iter_mut().zip(high) {
                (*x, *y) = (*x + *y, *x - *y);
            }
        }
        half *= 2;
    }
}

/// One panel of [`crate::BytePanels`]: sums of unsigned query bytes times signed row bytes.
pub fn byte_panel(panel: &[Line], query: &[u8]) -> [i32; 16] {
    let (query, rest) = query.as_chunks::<4>();
    assert!(rest.is_empty() && query.len() == panel.len());
    let mut sums = [0i32; 16];
    for (line, query) in panel.iter().zip(query) {
        for (sum, row) in sums.iter_mut().zip(line.0.as_chunks::<4>().0) {
            *sum += row.iter().zip(query).map(|(&r, &q)| i32::from(r as i8) * i32::from(q)).sum::<i32>();
        }
    }
    sums
}

/// Rounds a row to bytes shifted by 128; returns the scale.
#[inline(always)]
pub(crate) fn round_row(row: &[f32], bytes: &mut [u8]) -> f32 {
    // Sixteen maxima side by side: one alone would wait for itself.
    let mut most = [0f32; 16];
    let (blocks, tail) = row.as_chunks::<16>();
    for block in blocks {
        for (most, x) in most.iter_mut().zip(block) {
            *most = if x.abs() > *most { x.abs() } else { *most };
        }
    }
    let largest = most.iter().chain(tail).fold(0f32, |most, x| most.max(x.abs()));
    let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
    let inverse = 1.0 / scale;
    // Never negative after the shift, so that cutting off rounds to the nearest.
    bytes.iter_mut().zip(row).for_each(|(byte, x)| *byte = (x * inverse + 128.5) as i32 as u8);
    scale
}

/// One step of [`crate::BytePanels::below`].
pub(crate) fn byte_step(
    panels: &StepPanels<'_>,
    rows: &StepRows<'_>,
    ranks: &mut StepRanks,
) -> [u32; STEP_ROWS] {
    byte_step_with(byte_panel, panels, rows, ranks)
}

/// The same with any kernel for one row and one panel.
#[inline(always)]
pub(crate) fn byte_step_with(
    byte_panel: impl Fn(&[Line], &[u8]) -> [i32; PANEL],
    panels: &StepPanels<'_>,
    rows: &StepRows<'_>,
    ranks: &mut StepRanks,
) -> [u32; STEP_ROWS] {
    let width = rows.bytes.len() / STEP_ROWS;
    let mut below = [0; STEP_ROWS];
    for (number, row) in rows.bytes.chunks_exact(width).enumerate() {
        for half in 0..2 {
            let sums = byte_panel(panels.lines[half], row);
            for (at, sum) in sums.into_iter().enumerate() {
                let scale = panels.scales[half][at] * rows.scales[number];
                let product = (sum - panels.shifts[half][at]) as f32 * scale;
                let centroid = half * PANEL + at;
                ranks[number][centroid] = panels.offsets[centroid] - product;
                below[number] |= u32::from(ranks[number][centroid] < rows.limits[number]) << centroid;
            }
        }
    }
    below
}

/// See [`crate::scan`]: writes survivors from the start of `ranks` and `slots`, returns how many.
pub fn scan(shape: BlockShape, lut: &Lut, run: &Run<'_>, ranks: &mut [f32], slots: &mut [u32]) -> usize {
    let mut kept = 0;
    let bias = lut.bias + run.slack;
    for (block, names) in run.blocks.chunks_exact(shape.lines()).zip(run.names.chunks_exact(BLOCK)) {
        let (codes, factors) = block.split_at(shape.code_lines());
        let factors: &[f32] = bytemuck::cast_slice(factors);
        let mut sums = [0u32; BLOCK];
        for (line, tables) in codes.iter().zip(&lut.lines) {
            for (byte, &cell) in line.0.iter().enumerate() {
                let entry = byte % 32 / 2 + byte % 2 * 16;
                let table = byte / 32 * 32;
                sums[entry] += u32::from(tables[0].0[table + usize::from(cell & 15)]);
                sums[entry] += u32::from(tables[1].0[table + usize::from(cell >> 4)]);
            }
        }
        for (entry, &sum) in sums.iter().enumerate() {
            let product = lut.scale * sum as f32 + bias;
            let rank = factors[BLOCK + entry] * product + factors[entry] + run.base;
            if rank < run.limit {
                ranks[kept] = rank;
                slots[kept] = names[entry];
                kept += 1;
            }
        }
    }
    kept
}

/// See [`crate::dot_i8`].
pub fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(&x, &y)| i32::from(x) * i32::from(y)).sum()
}

/// See [`crate::l2_squared_i8`].
pub fn l2_squared_i8(a: &[i8], b: &[i8]) -> i32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(&x, &y)| (i32::from(x) - i32::from(y)).pow(2)).sum()
}

/// See [`crate::hamming`].
pub fn hamming(a: &[u8], b: &[u8]) -> u32 {
    assert_eq!(a.len(), b.len());
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let whole = a.iter().zip(b).map(|(x, y)| (u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y)).count_ones());
    let rest = a_rest.iter().zip(b_rest).map(|(x, y)| (x ^ y).count_ones());
    whole.sum::<u32>() + rest.sum::<u32>()
}
