//! AVX-512 twins.

use std::arch::x86_64::*;

use crate::byte_rows::{STEP_ROWS, StepPanels, StepRanks, StepRows};
use crate::fastscan::{BLOCK, BlockShape, Lut, Run};
use crate::{Line, scalar};

/// See [`crate::dot`].
#[inline]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // SAFETY: reached only where AVX-512 was detected; lengths are equal.
    unsafe { dot_unchecked(a, b) }
}

/// See [`crate::l2_squared`].
#[inline]
pub(crate) fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // SAFETY: reached only where AVX-512 was detected; lengths are equal.
    unsafe { l2_unchecked(a, b) }
}

/// # Safety
/// The CPU has AVX-512 F; `a.len() == b.len()`.
#[target_feature(enable = "avx512f")]
unsafe fn dot_unchecked(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm512_setzero_ps(); 4];
    let whole = a.len() / 64 * 64;
    for at in (0..whole).step_by(64) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            // SAFETY: at + lane * 16 + 16 <= whole <= both lengths.
            let (x, y) = unsafe { (load(a, at + lane * 16), load(b, at + lane * 16)) };
            *sum = _mm512_fmadd_ps(x, y, *sum);
        }
    }
    for at in (whole..a.len()).step_by(16) {
        // SAFETY: the mask ends the load at the end of both vectors.
        let (x, y) = unsafe { (load_tail(a, at), load_tail(b, at)) };
        sums[0] = _mm512_fmadd_ps(x, y, sums[0]);
    }
    sum_of(sums)
}

/// # Safety
/// The CPU has AVX-512 F; `a.len() == b.len()`.
#[target_feature(enable = "avx512f")]
unsafe fn l2_unchecked(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm512_setzero_ps(); 4];
    let whole = a.len() / 64 * 64;
    for at in (0..whole).step_by(64) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            // SAFETY: at + lane * 16 + 16 <= whole <= both lengths.
            let (x, y) = unsafe { (load(a, at + lane * 16), load(b, at + lane * 16)) };
            let difference = _mm512_sub_ps(x, y);
            *sum = _mm512_fmadd_ps(difference, difference, *sum);
        }
    }
    for at in (whole..a.len()).step_by(16) {
        // SAFETY: the mask ends the load at the end of both vectors.
        let (x, y) = unsafe { (load_tail(a, at), load_tail(b, at)) };
        let difference = _mm512_sub_ps(x, y);
        sums[0] = _mm512_fmadd_ps(difference, difference, sums[0]);
    }
    sum_of(sums)
}

/// # Safety
/// `at + 16 <= values.len()`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(values: &[f32], at: usize) -> __m512 {
    debug_assert!(at + 16 <= values.len());
    // SAFETY: the caller promises that sixteen values lie from `at`; the load needs no alignment.
    unsafe { _mm512_loadu_ps(values.as_ptr().add(at)) }
}

/// Up to sixteen values from `at`, zeros after the end.
///
/// # Safety
/// `at < values.len()`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_tail(values: &[f32], at: usize) -> __m512 {
    debug_assert!(at < values.len());
    let count = (values.len() - at).min(16);
    let mask = (0xffff_u32 >> (16 - count)) as u16;
    // SAFETY: masked lanes are not read; the others lie inside `values`.
    unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr().add(at)) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn sum_of(sums: [__m512; 4]) -> f32 {
    _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])))
}

/// See [`crate::hadamard`].
pub(crate) fn hadamard(values: &mut [f32]) {
    // SAFETY: reached only where AVX-512 was detected.
    unsafe { hadamard_wide(values) }
}

/// The scalar code, compiled for AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn hadamard_wide(values: &mut [f32]) {
    scalar::hadamard(values);
}

/// See [`crate::BytePanels`].
#[inline]
pub(crate) fn byte_panel(panel: &[Line], query: &[u8]) -> [i32; 16] {
    assert_eq!(panel.len() * 4, query.len());
    // SAFETY: reached only where AVX-512 with VNNI was detected; four query bytes for each line.
    unsafe { byte_panel_unchecked(panel, query) }
}

/// # Safety
/// The CPU has AVX-512 F and VNNI; `query` holds four bytes for each line of `panel`.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn byte_panel_unchecked(panel: &[Line], query: &[u8]) -> [i32; 16] {
    // Four sums, because each product waits for the one before it.
    let mut sums = [_mm512_setzero_si512(); 4];
    let query = query.as_chunks::<4>().0;
    for (number, (line, query)) in panel.iter().zip(query).enumerate() {
        let query = _mm512_set1_epi32(i32::from_le_bytes(*query));
        // SAFETY: a line is 64 aligned bytes.
        let rows = unsafe { _mm512_load_si512(line.0.as_ptr().cast()) };
        sums[number % 4] = _mm512_dpbusd_epi32(sums[number % 4], query, rows);
    }
    let sum = _mm512_add_epi32(_mm512_add_epi32(sums[0], sums[1]), _mm512_add_epi32(sums[2], sums[3]));
    let mut rows = [0i32; 16];
    // SAFETY: `rows` is as large as the register.
    unsafe { _mm512_storeu_si512(rows.as_mut_ptr().cast(), sum) };
    rows
}

/// See [`scalar::round_row`].
#[inline]
pub(crate) fn round_row(row: &[f32], bytes: &mut [u8]) -> f32 {
    // SAFETY: reached only where AVX-512 was detected.
    unsafe { round_row_wide(row, bytes) }
}

/// The scalar code, compiled for AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
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
    assert!(panels.lines.iter().all(|lines| lines.len() * 4 * STEP_ROWS == rows.bytes.len()));
    // SAFETY: reached only where AVX-512 with VNNI was detected; every row has four bytes for each
    // line of both panels.
    unsafe { byte_step_unchecked(panels, rows, ranks) }
}

/// # Safety
/// The CPU has AVX-512 F and VNNI; `rows` holds [`STEP_ROWS`] times four bytes for each line of
/// either panel.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn byte_step_unchecked(
    panels: &StepPanels<'_>,
    rows: &StepRows<'_>,
    ranks: &mut StepRanks,
) -> [u32; STEP_ROWS] {
    let width = rows.bytes.len() / STEP_ROWS;
    let mut sums = [[_mm512_setzero_si512(); 2]; STEP_ROWS];
    for (at, (one, other)) in panels.lines[0].iter().zip(panels.lines[1]).enumerate() {
        // SAFETY: lines are 64 aligned bytes.
        let (one, other) =
            unsafe { (_mm512_load_si512(one.0.as_ptr().cast()), _mm512_load_si512(other.0.as_ptr().cast())) };
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row * width + at * 4 + 4 <= rows.bytes.len().
            let four =
                unsafe { rows.bytes.as_ptr().add(row * width + at * 4).cast::<i32>().read_unaligned() };
            let four = _mm512_set1_epi32(four);
            sums[0] = _mm512_dpbusd_epi32(sums[0], four, one);
            sums[1] = _mm512_dpbusd_epi32(sums[1], four, other);
        }
    }
    let halves = [0, 1].map(|half| {
        // SAFETY: arrays of sixteen numbers, and the half of one of 32.
        unsafe {
            (
                _mm512_loadu_ps(panels.scales[half].as_ptr()),
                _mm512_loadu_si512(panels.shifts[half].as_ptr().cast()),
                _mm512_loadu_ps(panels.offsets.as_ptr().add(half * 16)),
            )
        }
    });
    let mut below = [0; STEP_ROWS];
    for (row, sums) in sums.iter().enumerate() {
        for (half, (sum, (scales, shifts, offsets))) in sums.iter().zip(halves).enumerate() {
            let scale = _mm512_mul_ps(scales, _mm512_set1_ps(rows.scales[row]));
            let product = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(*sum, shifts)), scale);
            let rank = _mm512_sub_ps(offsets, product);
            let mask = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(rank, _mm512_set1_ps(rows.limits[row]));
            below[row] |= u32::from(mask) << (half * 16);
            // SAFETY: a row of ranks has room for both halves.
            unsafe { _mm512_storeu_ps(ranks[row].as_mut_ptr().add(half * 16), rank) };
        }
    }
    below
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
    // SAFETY: reached only where AVX-512 was detected; the sizes were asserted.
    unsafe { scan_unchecked(shape, lut, run, ranks, slots) }
}

/// # Safety
/// The CPU has AVX-512 F and BW; `blocks` are whole blocks, `lut` has tables for every code line,
/// `names`, `ranks` and `slots` have an element for every entry.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn scan_unchecked(
    shape: BlockShape,
    lut: &Lut,
    run: &Run<'_>,
    ranks: &mut [f32],
    slots: &mut [u32],
) -> usize {
    let low_bits = _mm512_set1_epi8(15);
    let Run { blocks, names, ahead, .. } = *run;
    let (scale, bias) = (_mm512_set1_ps(lut.scale), _mm512_set1_ps(lut.bias + run.slack));
    let (base, limit) = (_mm512_set1_ps(run.base), _mm512_set1_ps(run.limit));
    let mut kept = 0;
    for (number, block) in blocks.chunks_exact(shape.lines()).enumerate() {
        let (codes, factors) = block.split_at(shape.code_lines());
        // Sums of whole 16-bit words (even entry, plus 256 times the odd one), and of their upper
        // bytes (the odd entries). Lower and upper half of the registers belong to other groups.
        let mut next = ahead.as_ptr().wrapping_add(number * shape.lines());
        let mut words = _mm512_setzero_si512();
        let mut uppers = _mm512_setzero_si512();
        for (line, tables) in codes.iter().zip(&lut.lines) {
            _mm_prefetch::<_MM_HINT_T0>(next.cast());
            next = next.wrapping_add(1);
            // SAFETY: lines are 64 aligned bytes.
            let (line, low, high) = unsafe {
                (
                    _mm512_load_si512(line.0.as_ptr().cast()),
                    _mm512_load_si512(tables[0].0.as_ptr().cast()),
                    _mm512_load_si512(tables[1].0.as_ptr().cast()),
                )
            };
            let from_low = _mm512_shuffle_epi8(low, _mm512_and_si512(line, low_bits));
            let from_high =
                _mm512_shuffle_epi8(high, _mm512_and_si512(_mm512_srli_epi16::<4>(line), low_bits));
            let both = _mm512_add_epi8(from_low, from_high);
            words = _mm512_add_epi16(words, both);
            uppers = _mm512_add_epi16(uppers, _mm512_srli_epi16::<8>(both));
        }
        let evens = _mm512_sub_epi16(words, _mm512_slli_epi16::<8>(uppers));
        for (part, sums) in [evens, uppers].into_iter().enumerate() {
            let one = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(sums));
            let other = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(sums));
            let product = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(_mm512_add_epi32(one, other)), bias);
            // SAFETY: two lines of `add`, then two of `mul`, each 64 aligned bytes.
            let (add, mul) = unsafe {
                (
                    _mm512_load_ps(factors.get_unchecked(part).0.as_ptr().cast()),
                    _mm512_load_ps(factors.get_unchecked(2 + part).0.as_ptr().cast()),
                )
            };
            let rank = _mm512_add_ps(_mm512_fmadd_ps(mul, product, add), base);
            let near = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(rank, limit);
            if near != 0 {
                // SAFETY: 16 names from entry number * 32 + part * 16 exist, and `kept` is at most
                // that entry, so that a whole register fits at `kept` in both outputs.
                unsafe {
                    let name = _mm512_loadu_si512(names.as_ptr().add(number * BLOCK + part * 16).cast());
                    let packed = _mm512_maskz_compress_ps(near, rank);
                    _mm512_storeu_ps(ranks.as_mut_ptr().add(kept), packed);
                    let packed = _mm512_maskz_compress_epi32(near, name);
                    _mm512_storeu_si512(slots.as_mut_ptr().add(kept).cast(), packed);
                }
                kept += near.count_ones() as usize;
            }
        }
    }
    kept
}
