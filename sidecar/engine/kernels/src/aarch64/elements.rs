//! NEON twins for rows of bytes and of bits.

use std::arch::aarch64::*;

use crate::scalar;

/// See [`crate::dot_i8`].
#[inline]
pub(crate) fn dot(a: &[i8], b: &[i8]) -> i32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    // SAFETY: AArch64 has NEON.
    unsafe { dot_whole(a, b) + scalar::dot_i8(a_rest, b_rest) }
}

/// See [`crate::l2_squared_i8`].
#[inline]
pub(crate) fn l2_squared(a: &[i8], b: &[i8]) -> i32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    // SAFETY: AArch64 has NEON.
    unsafe { l2_whole(a, b) + scalar::l2_squared_i8(a_rest, b_rest) }
}

/// See [`crate::hamming`].
#[inline]
pub(crate) fn hamming(a: &[u8], b: &[u8]) -> u32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    // SAFETY: AArch64 has NEON.
    unsafe { hamming_whole(a, b) + scalar::hamming(a_rest, b_rest) }
}

#[target_feature(enable = "neon")]
fn dot_whole(a: &[[i8; 16]], b: &[[i8; 16]]) -> i32 {
    let mut sums = [vdupq_n_s32(0); 2];
    for (x, y) in a.iter().zip(b) {
        // SAFETY: both are 16 bytes; the loads need no alignment.
        let (x, y) = unsafe { (vld1q_s8(x.as_ptr()), vld1q_s8(y.as_ptr())) };
        sums[0] = vpadalq_s16(sums[0], vmull_s8(vget_low_s8(x), vget_low_s8(y)));
        sums[1] = vpadalq_s16(sums[1], vmull_high_s8(x, y));
    }
    vaddvq_s32(vaddq_s32(sums[0], sums[1]))
}

#[target_feature(enable = "neon")]
fn l2_whole(a: &[[i8; 16]], b: &[[i8; 16]]) -> i32 {
    let mut sums = [vdupq_n_u32(0); 2];
    for (x, y) in a.iter().zip(b) {
        // SAFETY: both are 16 bytes; the loads need no alignment.
        let (x, y) = unsafe { (vld1q_s8(x.as_ptr()), vld1q_s8(y.as_ptr())) };
        // Up to 255, which the register holds as an unsigned byte.
        let difference = vreinterpretq_u8_s8(vabdq_s8(x, y));
        let low = vget_low_u8(difference);
        sums[0] = vpadalq_u16(sums[0], vmull_u8(low, low));
        sums[1] = vpadalq_u16(sums[1], vmull_high_u8(difference, difference));
    }
    vaddvq_u32(vaddq_u32(sums[0], sums[1])) as i32
}

#[target_feature(enable = "neon")]
fn hamming_whole(a: &[[u8; 16]], b: &[[u8; 16]]) -> u32 {
    let mut sum = vdupq_n_u32(0);
    for (x, y) in a.iter().zip(b) {
        // SAFETY: both are 16 bytes; the loads need no alignment.
        let (x, y) = unsafe { (vld1q_u8(x.as_ptr()), vld1q_u8(y.as_ptr())) };
        sum = vpadalq_u16(sum, vpaddlq_u8(vcntq_u8(veorq_u8(x, y))));
    }
    vaddvq_u32(sum)
}
