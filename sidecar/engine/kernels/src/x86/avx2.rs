//! AVX2 and FMA twins.

use std::arch::x86_64::*;

use crate::byte_rows::{STEP_ROWS, StepPanels, StepRanks, StepRows};
use crate::fastscan::{BLOCK, BlockShape, Lut, Run};
use crate::{Line, scalar};

/// See [`crate::dot`].
#[inline]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // SAFETY: reached only where AVX2 and FMA were detected; lengths are equal.
    unsafe { dot_unchecked(a, b) }
}

/// See [`crate::l2_squared`].
#[inline]
pub(crate) fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // SAFETY: reached only where AVX2 and FMA were detected; lengths are equal.
    unsafe { l2_unchecked(a, b) }
}

/// # Safety
/// The CPU has AVX2 and FMA; `a.len() == b.len()`.
#[target_feature(enable = "avx2,fma")]
unsafe fn dot_unchecked(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); 4];
    let whole = a.len() / 32 * 32;
    for at in (0..whole).step_by(32) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            // SAFETY: at + lane * 8 + 8 <= whole <= both lengths.
            let (x, y) = unsafe { (load(a, at + lane * 8), load(b, at + lane * 8)) };
            *sum = _mm256_fmadd_ps(x, y, *sum);
        }
    }
    let mut rest = whole;
    while rest + 8 <= a.len() {
        // SAFETY: rest + 8 <= both lengths.
        let (x, y) = unsafe { (load(a, rest), load(b, rest)) };
        sums[0] = _mm256_fmadd_ps(x, y, sums[0]);
        rest += 8;
    }
    let tail: f32 = a[rest..].iter().zip(&b[rest..]).map(|(x, y)| x * y).sum();
    sum_of(sums) + tail
}

/// # Safety
/// The CPU has AVX2 and FMA; `a.len() == b.len()`.
#[target_feature(enable = "avx2,fma")]
unsafe fn l2_unchecked(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); 4];
    let whole = a.len() / 32 * 32;
    for at in (0..whole).step_by(32) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            // SAFETY: at + lane * 8 + 8 <= whole <= both lengths.
            let (x, y) = unsafe { (load(a, at + lane * 8), load(b, at + lane * 8)) };
            let difference = _mm256_sub_ps(x, y);
            *sum = _mm256_fmadd_ps(difference, difference, *sum);
        }
    }
    let mut rest = whole;
    while rest + 8 <= a.len() {
        // SAFETY: rest + 8 <= both lengths.
        let (x, y) = unsafe { (load(a, rest), load(b, rest)) };
        let difference = _mm256_sub_ps(x, y);
        sums[0] = _mm256_fmadd_ps(difference, difference, sums[0]);
        rest += 8;
    }
    let tail: f32 = a[rest..].iter().zip(&b[rest..]).map(|(x, y)| (x - y) * (x - y)).sum();
    sum_of(sums) + tail
}

/// # Safety
/// `at + 8 <= values.len()`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(values: &[f32], at: usize) -> __m256 {
    debug_assert!(at + 8 <= values.len());
    // SAFETY: the caller promises that eight values lie from `at`; the load needs no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr().add(at)) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum_of(sums: [__m256; 4]) -> f32 {
    let four = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    let half = _mm_add_ps(_mm256_castps256_ps128(four), _mm256_extractf128_ps::<1>(four));
    let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
    _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps::<1>(pair, pair)))
}

/// See [`crate::hadamard`].
pub(crate) fn hadamard(values: &mut [f32]) {
    // SAFETY: reached only where AVX2 and FMA were detected.
    unsafe { hadamard_wide(values) }
}

/// The scalar code, compiled for AVX2.
#[target_feature(enable = "avx2,fma")]
fn hadamard_wide(values: &mut [f32]) {
    scalar::hadamard(values);
}

/// See [`scalar::round_row`].
#[inline]
pub(crate) fn round_row(row: &[f32], bytes: &mut [u8]) -> f32 {
    // SAFETY: reached only where AVX2 and FMA were detected.
    unsafe { round_row_wide(row, bytes) }
}

/// The scalar code, compiled for AVX2.
#[target_feature(enable = "avx2")]
fn round_row_wide(row: &[f32], bytes: &mut [u8]) -> f32 {
    scalar::round_row(row, bytes)
}

/// See [`crate::BytePanels::below`].
#[inline]
pub(crate) fn byte_step(
    panels: &StepPanels<'_>,
    rows: &StepRows<'_>,
    ranks: &mut StepRanks,
) -> [u32; STEP_ROWS] {
    // SAFETY: reached only where AVX2 and FMA were detected.
    unsafe { byte_step_wide(panels, rows, ranks) }
}

/// The scalar code around this level's kernel for one row and one panel.
#[target_feature(enable = "avx2")]
fn byte_step_wide(panels: &StepPanels<'_>, rows: &StepRows<'_>, ranks: &mut StepRanks) -> [u32; STEP_ROWS] {
    scalar::byte_step_with(byte_panel, panels, rows, ranks)
}

/// See [`crate::BytePanels`].
#[inline]
pub(crate) fn byte_panel(panel: &[Line], query: &[u8]) -> [i32; 16] {
    assert_eq!(panel.len() * 4, query.len());
    // SAFETY: reached only where AVX2 was detected; four query bytes for each line.
    unsafe { byte_panel_unchecked(panel, query) }
}

/// # Safety
/// The CPU has AVX2; `query` holds four bytes for each line of `panel`.
#[target_feature(enable = "avx2")]
unsafe fn byte_panel_unchecked(panel: &[Line], query: &[u8]) -> [i32; 16] {
    // Sums of dimension pairs: sixteen rows need four registers of four rows by two pairs.
    let mut sums = [_mm256_setzero_si256(); 4];
    for (line, query) in panel.iter().zip(query.as_chunks::<4>().0) {
        let four = i64::from(query[0])
            | i64::from(query[1]) << 16
            | i64::from(query[2]) << 32
            | i64::from(query[3]) << 48;
        let query = _mm256_set1_epi64x(four);
        for (part, sum) in sums.iter_mut().enumerate() {
            // SAFETY: part * 16 + 16 <= 64, the size of a line.
            let bytes = unsafe { _mm_loadu_si128(line.0.as_ptr().add(part * 16).cast()) };
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_cvtepi8_epi16(bytes), query));
        }
    }
    let mut rows = [0i32; 16];
    for (part, sum) in sums.iter().enumerate() {
        let mut pairs = [0i32; 8];
        // SAFETY: `pairs` is as large as the register.
        unsafe { _mm256_storeu_si256(pairs.as_mut_ptr().cast(), *sum) };
        for row in 0..4 {
            rows[part * 4 + row] = pairs[row * 2] + pairs[row * 2 + 1];
        }
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
        // SAFETY: reached only where AVX2 and FMA were detected; a whole block and as many tables
        // as code lines, as asserted above.
        unsafe { estimate_block(shape, lut, run, block, &mut estimates) };
        for (&rank, &name) in estimates.iter().zip(names) {
            if rank < run.limit {
                ranks[kept] = rank;
                slots[kept] = name;
                kept += 1;
            }
        }
    }
    kept
}

/// # Safety
/// The CPU has AVX2 and FMA; `block` has `shape.lines()` lines and `lut` tables for its code lines.
#[target_feature(enable = "avx2,fma")]
unsafe fn estimate_block(
    shape: BlockShape,
    lut: &Lut,
    run: &Run<'_>,
    block: &[Line],
    estimates: &mut [f32; BLOCK],
) {
    let low_bits = _mm256_set1_epi8(15);
    // Per half of the lines: sums of whole 16-bit words (even entry, plus 256 times the odd one),
    // and of their upper bytes (the odd entries).
    let mut words = [_mm256_setzero_si256(); 2];
    let mut uppers = [_mm256_setzero_si256(); 2];
    for (line, tables) in block[..shape.code_lines()].iter().zip(&lut.lines) {
        for half in 0..2 {
            // SAFETY: half * 32 + 32 <= 64, the size of each line.
            let (codes, low, high) = unsafe {
                (
                    _mm256_loadu_si256(line.0.as_ptr().add(half * 32).cast()),
                    _mm256_loadu_si256(tables[0].0.as_ptr().add(half * 32).cast()),
                    _mm256_loadu_si256(tables[1].0.as_ptr().add(half * 32).cast()),
                )
            };
            let from_low = _mm256_shuffle_epi8(low, _mm256_and_si256(codes, low_bits));
            let from_high =
                _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low_bits));
            let both = _mm256_add_epi8(from_low, from_high);
            words[half] = _mm256_add_epi16(words[half], both);
            uppers[half] = _mm256_add_epi16(uppers[half], _mm256_srli_epi16::<8>(both));
        }
    }
    let scale = _mm256_set1_ps(lut.scale);
    let bias = _mm256_set1_ps(lut.bias + run.slack);
    let base = _mm256_set1_ps(run.base);
    let factors = &block[shape.code_lines()..];
    let evens = [0, 1].map(|half| _mm256_sub_epi16(words[half], _mm256_slli_epi16::<8>(uppers[half])));
    for (first, sums) in [(0, evens), (16, uppers)] {
        let wide = |sum: __m256i| {
            [
                _mm256_cvtepu16_epi32(_mm256_castsi256_si128(sum)),
                _mm256_cvtepu16_epi32(_mm256_extracti128_si256::<1>(sum)),
            ]
        };
        let (one, other) = (wide(sums[0]), wide(sums[1]));
        for part in 0..2 {
            let at = first + part * 8;
            let sum = _mm256_cvtepi32_ps(_mm256_add_epi32(one[part], other[part]));
            let product = _mm256_fmadd_ps(scale, sum, bias);
            // SAFETY: four factor lines hold 64 floats; at + 8 <= 32.
            let (add, mul) = unsafe {
                let factors = factors.as_ptr().cast::<f32>();
                (_mm256_loadu_ps(factors.add(at)), _mm256_loadu_ps(factors.add(BLOCK + at)))
            };
            let rank = _mm256_add_ps(_mm256_fmadd_ps(mul, product, add), base);
            // SAFETY: at + 8 <= 32, the length of `estimates`.
            unsafe { _mm256_storeu_ps(estimates.as_mut_ptr().add(at), rank) };
        }
    }
}
