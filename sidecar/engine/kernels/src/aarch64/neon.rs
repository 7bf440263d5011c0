//! NEON twins. The Hadamard step and the rounding of rows have none: the scalar code is compiled for
//! NEON anyway.

use std::arch::aarch64::*;

use crate::byte_rows::{STEP_ROWS, StepPanels, StepRanks, StepRows};
use crate::fastscan::{BLOCK, BlockShape, Lut, Run};
use crate::{Line, scalar};

/// Registers of sums that floats are added to side by side, because each sum waits for the one before.
const SUMS: usize = 8;

/// See [`crate::dot`].
#[inline]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // SAFETY: AArch64 has NEON; lengths are equal.
    unsafe { reduce(a, b, |sum, x, y| vfmaq_f32(sum, x, y), |x, y| x * y) }
}

/// See [`crate::l2_squared`].
#[inline]
pub(crate) fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // SAFETY: AArch64 has NEON; lengths are equal.
    unsafe {
        let step = |sum, x, y| {
            let difference = vsubq_f32(x, y);
            vfmaq_f32(sum, difference, difference)
        };
        reduce(a, b, step, |x, y| (x - y) * (x - y))
    }
}

/// Sums what `step` adds for four values of either vector, and `single` for those beyond whole fours.
///
/// # Safety
/// `a.len() == b.len()`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn reduce(
    a: &[f32],
    b: &[f32],
    step: impl Fn(float32x4_t, float32x4_t, float32x4_t) -> float32x4_t,
    single: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut sums = [vdupq_n_f32(0.0); SUMS];
    let whole = a.len() / (4 * SUMS) * (4 * SUMS);
    for at in (0..whole).step_by(4 * SUMS) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            // SAFETY: at + lane * 4 + 4 <= whole <= both lengths.
            let (x, y) = unsafe { (load(a, at + lane * 4), load(b, at + lane * 4)) };
            *sum = step(*sum, x, y);
        }
    }
    let mut rest = whole;
    while rest + 4 <= a.len() {
        // SAFETY: rest + 4 <= both lengths.
        let (x, y) = unsafe { (load(a, rest), load(b, rest)) };
        sums[0] = step(sums[0], x, y);
        rest += 4;
    }
    let tail: f32 = a[rest..].iter().zip(&b[rest..]).map(|(&x, &y)| single(x, y)).sum();
    let all = sums.into_iter().fold(vdupq_n_f32(0.0), |all, sum| vaddq_f32(all, sum));
    vaddvq_f32(all) + tail
}

/// # Safety
/// `at + 4 <= values.len()`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load(values: &[f32], at: usize) -> float32x4_t {
    debug_assert!(at + 4 <= values.len());
    // SAFETY: the caller promises that four values lie from `at`; the load needs no alignment.
    unsafe { vld1q_f32(values.as_ptr().add(at)) }
}

/// See [`crate::BytePanels::below`].
#[inline]
pub(crate) fn byte_step(
    panels: &StepPanels<'_>,
    rows: &StepRows<'_>,
    ranks: &mut StepRanks,
) -> [u32; STEP_ROWS] {
    scalar::byte_step_with(byte_panel, panels, rows, ranks)
}

/// See [`crate::BytePanels`].
#[inline]
pub(crate) fn byte_panel(panel: &[Line], query: &[u8]) -> [i32; 16] {
    assert_eq!(panel.len() * 4, query.len());
    // SAFETY: AArch64 has NEON; four query bytes for each line.
    unsafe { byte_panel_unchecked(panel, query) }
}

/// # Safety
/// `query` holds four bytes for each line of `panel`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn byte_panel_unchecked(panel: &[Line], query: &[u8]) -> [i32; 16] {
    // Each register sums the two pairs of dimensions of two rows.
    let mut sums = [vdupq_n_s32(0); 8];
    for (line, query) in panel.iter().zip(query.as_chunks::<4>().0) {
        let query = vreinterpret_u8_u32(vdup_n_u32(u32::from_le_bytes(*query)));
        let query = vreinterpretq_s16_u16(vmovl_u8(query));
        for (part, pair) in sums.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            // SAFETY: part * 16 + 16 <= 64, the size of a line.
            let bytes = unsafe { vld1q_s8(line.0.as_ptr().add(part * 16).cast()) };
            // A product of an unsigned and a signed byte fits into 16 bits.
            let low = vmulq_s16(vmovl_s8(vget_low_s8(bytes)), query);
            let high = vmulq_s16(vmovl_high_s8(bytes), query);
            pair[0] = vpadalq_s16(pair[0], low);
            pair[1] = vpadalq_s16(pair[1], high);
        }
    }
    let mut rows = [0i32; 16];
    for (four, pair) in rows.as_chunks_mut::<4>().0.iter_mut().zip(sums.as_chunks::<2>().0) {
        // SAFETY: four numbers are as large as the register.
        unsafe { vst1q_s32(four.as_mut_ptr(), vpaddq_s32(pair[0], pair[1])) };
    }
    rows
}

/// See [`crate::scan`].
#[inline]
pub(crate) fn scan(
    shape: BlockShape,
    lut: &Lut,
    run: &Run<'_>,
    ranks: &mut [f32],
    slots: &mut [u32],
) -> usize {
    let Run { blocks, names, .. } = *run;
    let count = blocks.len() / shape.lines();
    assert!(blocks.len() == count * shape.lines() && lut.lines.len() == shape.code_lines());
    assert!(names.len() == count * BLOCK && ranks.len() >= count * BLOCK && slots.len() >= count * BLOCK);
    let mut kept = 0;
    for (block, names) in blocks.chunks_exact(shape.lines()).zip(names.chunks_exact(BLOCK)) {
        let mut estimates = [0f32; BLOCK];
        // SAFETY: AArch64 has NEON; a whole block and as many tables as code lines, as asserted above.
        let near = unsafe { estimate_block(shape, lut, run, block, &mut estimates) };
        if near {
            for (&rank, &name) in estimates.iter().zip(names) {
                if rank < run.limit {
                    ranks[kept] = rank;
                    slots[kept] = name;
                    kept += 1;
                }
            }
        }
    }
    kept
}

/// Returns whether any estimate is below the limit.
///
/// # Safety
/// `block` has `shape.lines()` lines and `lut` tables for its code lines.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn estimate_block(
    shape: BlockShape,
    lut: &Lut,
    run: &Run<'_>,
    block: &[Line],
    estimates: &mut [f32; BLOCK],
) -> bool {
    let low_bits = vdupq_n_u8(15);
    // Per half of the lines, in two registers: sums of whole 16-bit words (even entry, plus 256
    // times the odd one), and of their upper bytes (the odd entries).
    let mut words = [[vdupq_n_u16(0); 2]; 2];
    let mut uppers = [[vdupq_n_u16(0); 2]; 2];
    for (line, tables) in block[..shape.code_lines()].iter().zip(&lut.lines) {
        for half in 0..2 {
            // SAFETY: half * 32 + 16 <= 64, the size of each line.
            let (low, high) = unsafe {
                (vld1q_u8(tables[0].0.as_ptr().add(half * 32)), vld1q_u8(tables[1].0.as_ptr().add(half * 32)))
            };
            for part in 0..2 {
                // SAFETY: half * 32 + part * 16 + 16 <= 64, the size of a line.
                let codes = unsafe { vld1q_u8(line.0.as_ptr().add(half * 32 + part * 16)) };
                let from_low = vqtbl1q_u8(low, vandq_u8(codes, low_bits));
                let from_high = vqtbl1q_u8(high, vshrq_n_u8::<4>(codes));
                let both = vreinterpretq_u16_u8(vaddq_u8(from_low, from_high));
                words[half][part] = vaddq_u16(words[half][part], both);
                uppers[half][part] = vsraq_n_u16::<8>(uppers[half][part], both);
            }
        }
    }
    let scale = vdupq_n_f32(lut.scale);
    let bias = vdupq_n_f32(lut.bias + run.slack);
    let base = vdupq_n_f32(run.base);
    let limit = vdupq_n_f32(run.limit);
    let factors = block[shape.code_lines()..].as_ptr().cast::<f32>();
    let mut near = vdupq_n_u32(0);
    for part in 0..2 {
        let upper = [uppers[0][part], uppers[1][part]];
        let even = [0, 1].map(|half| vsubq_u16(words[half][part], vshlq_n_u16::<8>(upper[half])));
        for (first, sums) in [(part * 8, even), (16 + part * 8, upper)] {
            let low = vaddl_u16(vget_low_u16(sums[0]), vget_low_u16(sums[1]));
            let high = vaddl_high_u16(sums[0], sums[1]);
            for (at, sum) in [(first, low), (first + 4, high)] {
                let product = vfmaq_f32(bias, scale, vcvtq_f32_u32(sum));
                // SAFETY: four factor lines hold 64 floats; at + 4 <= 32.
                let (add, mul) = unsafe { (vld1q_f32(factors.add(at)), vld1q_f32(factors.add(BLOCK + at))) };
                let rank = vaddq_f32(vfmaq_f32(add, mul, product), base);
                near = vorrq_u32(near, vcltq_f32(rank, limit));
                // SAFETY: at + 4 <= 32, the length of `estimates`.
                unsafe { vst1q_f32(estimates.as_mut_ptr().add(at), rank) };
            }
        }
    }
    vmaxvq_u32(near) != 0
}
