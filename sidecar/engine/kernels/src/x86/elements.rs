//! AVX2 and AVX-512 twins for rows of bytes and of bits.

use std::arch::x86_64::*;

use crate::scalar;

/// See [`crate::dot_i8`].
#[inline]
pub(crate) fn dot_avx512(a: &[i8], b: &[i8]) -> i32 {
    assert_eq!(a.len(), b.len());
    // SAFETY: reached only where AVX-512 with BW and VNNI was detected; lengths are equal.
    unsafe { dot_512(a, b) }
}

/// See [`crate::l2_squared_i8`].
#[inline]
pub(crate) fn l2_avx512(a: &[i8], b: &[i8]) -> i32 {
    assert_eq!(a.len(), b.len());
    // SAFETY: reached only where AVX-512 with BW was detected; lengths are equal.
    unsafe { l2_512(a, b) }
}

/// See [`crate::hamming`].
#[inline]
pub(crate) fn hamming_avx512(a: &[u8], b: &[u8]) -> u32 {
    assert_eq!(a.len(), b.len());
    // Not every CPU with AVX-512 counts bits in its registers.
    if !is_x86_feature_detected!("avx512vpopcntdq") {
        return hamming_avx2(a, b);
    }
    // SAFETY: reached only where AVX-512 with BW was detected, and VPOPCNTDQ just now; lengths are equal.
    unsafe { hamming_512(a, b) }
}

/// See [`crate::dot_i8`].
#[inline]
pub(crate) fn dot_avx2(a: &[i8], b: &[i8]) -> i32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<32>(), b.as_chunks::<32>());
    // SAFETY: reached only where AVX2 was detected.
    unsafe { dot_256(a, b) + scalar::dot_i8(a_rest, b_rest) }
}

/// See [`crate::l2_squared_i8`].
#[inline]
pub(crate) fn l2_avx2(a: &[i8], b: &[i8]) -> i32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<32>(), b.as_chunks::<32>());
    // SAFETY: reached only where AVX2 was detected.
    unsafe { l2_256(a, b) + scalar::l2_squared_i8(a_rest, b_rest) }
}

/// See [`crate::hamming`].
#[inline]
pub(crate) fn hamming_avx2(a: &[u8], b: &[u8]) -> u32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<32>(), b.as_chunks::<32>());
    // SAFETY: reached only where AVX2 was detected.
    unsafe { hamming_256(a, b) + scalar::hamming(a_rest, b_rest) }
}

/// # Safety
/// The CPU has AVX-512 F, BW and VNNI; `a.len() == b.len()`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn dot_512(a: &[i8], b: &[i8]) -> i32 {
    // One side of `vpdpbusd` is unsigned: it is shifted by 128, and what that adds is taken off.
    let (top, ones) = (_mm512_set1_epi8(-128), _mm512_set1_epi8(1));
    let (mut sums, mut shifts) = ([_mm512_setzero_si512(); 2], [_mm512_setzero_si512(); 2]);
    for (number, at) in (0..a.len()).step_by(64).enumerate() {
        // SAFETY: at < both lengths.
        let (x, y) = unsafe { (load_512(a, at), load_512(b, at)) };
        let lane = number % 2;
        sums[lane] = _mm512_dpbusd_epi32(sums[lane], _mm512_xor_si512(x, top), y);
        shifts[lane] = _mm512_dpbusd_epi32(shifts[lane], ones, y);
    }
    let sum = _mm512_add_epi32(sums[0], sums[1]);
    let shift = _mm512_slli_epi32::<7>(_mm512_add_epi32(shifts[0], shifts[1]));
    _mm512_reduce_add_epi32(_mm512_sub_epi32(sum, shift))
}

/// # Safety
/// The CPU has AVX-512 F and BW; `a.len() == b.len()`.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn l2_512(a: &[i8], b: &[i8]) -> i32 {
    let mut sums = [_mm512_setzero_si512(); 2];
    for at in (0..a.len()).step_by(64) {
        // SAFETY: at < both lengths.
        let (x, y) = unsafe { (load_512(a, at), load_512(b, at)) };
        let low = _mm512_sub_epi16(
            _mm512_cvtepi8_epi16(_mm512_castsi512_si256(x)),
            _mm512_cvtepi8_epi16(_mm512_castsi512_si256(y)),
        );
        let high = _mm512_sub_epi16(
            _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64::<1>(x)),
            _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64::<1>(y)),
        );
        sums[0] = _mm512_add_epi32(sums[0], _mm512_madd_epi16(low, low));
        sums[1] = _mm512_add_epi32(sums[1], _mm512_madd_epi16(high, high));
    }
    _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
}

/// # Safety
/// The CPU has AVX-512 F, BW and VPOPCNTDQ; `a.len() == b.len()`.
#[target_feature(enable = "avx512f,avx512bw,avx512vpopcntdq")]
unsafe fn hamming_512(a: &[u8], b: &[u8]) -> u32 {
    let mut sum = _mm512_setzero_si512();
    let (a, b): (&[i8], &[i8]) = (bytemuck::cast_slice(a), bytemuck::cast_slice(b));
    for at in (0..a.len()).step_by(64) {
        // SAFETY: at < both lengths.
        let (x, y) = unsafe { (load_512(a, at), load_512(b, at)) };
        sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_xor_si512(x, y)));
    }
    _mm512_reduce_add_epi64(sum) as u32
}

/// Up to 64 bytes from `at`, zeros after the end.
///
/// # Safety
/// `at < bytes.len()`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn load_512(bytes: &[i8], at: usize) -> __m512i {
    debug_assert!(at < bytes.len());
    let mask = u64::MAX >> (64 - (bytes.len() - at).min(64));
    // SAFETY: masked lanes are not read; the others lie inside `bytes`.
    unsafe { _mm512_maskz_loadu_epi8(mask, bytes.as_ptr().add(at)) }
}

#[target_feature(enable = "avx2")]
fn dot_256(a: &[[i8; 32]], b: &[[i8; 32]]) -> i32 {
    let mut sums = [_mm256_setzero_si256(); 2];
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (wide_256(x), wide_256(y));
        for half in 0..2 {
            sums[half] = _mm256_add_epi32(sums[half], _mm256_madd_epi16(x[half], y[half]));
        }
    }
    sum_256(_mm256_add_epi32(sums[0], sums[1]))
}

#[target_feature(enable = "avx2")]
fn l2_256(a: &[[i8; 32]], b: &[[i8; 32]]) -> i32 {
    let mut sums = [_mm256_setzero_si256(); 2];
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (wide_256(x), wide_256(y));
        for half in 0..2 {
            let difference = _mm256_sub_epi16(x[half], y[half]);
            sums[half] = _mm256_add_epi32(sums[half], _mm256_madd_epi16(difference, difference));
        }
    }
    sum_256(_mm256_add_epi32(sums[0], sums[1]))
}

/// Bits of nibbles by look-up, summed eight bytes at a time.
#[target_feature(enable = "avx2")]
fn hamming_256(a: &[[u8; 32]], b: &[[u8; 32]]) -> u32 {
    let counts = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    let low_bits = _mm256_set1_epi8(15);
    let mut sum = _mm256_setzero_si256();
    for (x, y) in a.iter().zip(b) {
        // SAFETY: both are 32 bytes; the loads need no alignment.
        let (x, y) =
            unsafe { (_mm256_loadu_si256(x.as_ptr().cast()), _mm256_loadu_si256(y.as_ptr().cast())) };
        let differing = _mm256_xor_si256(x, y);
        let low = _mm256_shuffle_epi8(counts, _mm256_and_si256(differing, low_bits));
        let high = _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16::<4>(differing), low_bits));
        let bits = _mm256_sad_epu8(_mm256_add_epi8(low, high), _mm256_setzero_si256());
        sum = _mm256_add_epi64(sum, bits);
    }
    let pair = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    _mm_cvtsi128_si64(_mm_add_epi64(pair, _mm_unpackhi_epi64(pair, pair))) as u32
}

/// Bytes as 16-bit numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn wide_256(bytes: &[i8; 32]) -> [__m256i; 2] {
    // SAFETY: 16 bytes from the start and from the middle; the loads need no alignment.
    let (low, high) =
        unsafe { (_mm_loadu_si128(bytes.as_ptr().cast()), _mm_loadu_si128(bytes.as_ptr().add(16).cast())) };
    [_mm256_cvtepi8_epi16(low), _mm256_cvtepi8_epi16(high)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum_256(sums: __m256i) -> i32 {
    let half = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let pair = _mm_add_epi32(half, _mm_shuffle_epi32::<0b01_00_11_10>(half));
    _mm_cvtsi128_si32(_mm_add_epi32(pair, _mm_shuffle_epi32::<0b10_11_00_01>(pair)))
}
