//! AVX2 and FMA twins.

use std::arch::x86_64::*;

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
