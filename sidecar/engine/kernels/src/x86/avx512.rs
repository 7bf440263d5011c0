//! AVX-512 twins.

use std::arch::x86_64::*;

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
