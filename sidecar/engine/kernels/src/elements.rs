//! Rows of bytes and of bits: the comparisons whose values are shown to clients. Whole numbers
//! throughout, so that every level gives the very same answer.

use crate::{Level, level, scalar};

/// Inner product of two vectors of at most 100,000 signed bytes.
///
/// # Panics
/// If the lengths differ.
#[inline]
pub fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    dot_at(level(), a, b)
}

/// Squared Euclidean distance of two vectors of at most 30,000 signed bytes.
///
/// # Panics
/// If the lengths differ.
#[inline]
pub fn l2_squared_i8(a: &[i8], b: &[i8]) -> i32 {
    l2_squared_at(level(), a, b)
}

/// Number of bits that differ.
///
/// # Panics
/// If the lengths differ.
#[inline]
pub fn hamming(a: &[u8], b: &[u8]) -> u32 {
    hamming_at(level(), a, b)
}

#[inline]
fn dot_at(level: Level, a: &[i8], b: &[i8]) -> i32 {
    assert_eq!(a.len(), b.len());
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => crate::x86::elements::dot_avx512(a, b),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => crate::x86::elements::dot_avx2(a, b),
        #[cfg(target_arch = "aarch64")]
        Level::Neon => crate::aarch64::elements::dot(a, b),
        _ => scalar::dot_i8(a, b),
    }
}

#[inline]
fn l2_squared_at(level: Level, a: &[i8], b: &[i8]) -> i32 {
    assert_eq!(a.len(), b.len());
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => crate::x86::elements::l2_avx512(a, b),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => crate::x86::elements::l2_avx2(a, b),
        #[cfg(target_arch = "aarch64")]
        Level::Neon => crate::aarch64::elements::l2_squared(a, b),
        _ => scalar::l2_squared_i8(a, b),
    }
}

#[inline]
fn hamming_at(level: Level, a: &[u8], b: &[u8]) -> u32 {
    assert_eq!(a.len(), b.len());
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => crate::x86::elements::hamming_avx512(a, b),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => crate::x86::elements::hamming_avx2(a, b),
        #[cfg(target_arch = "aarch64")]
        Level::Neon => crate::aarch64::elements::hamming(a, b),
        _ => scalar::hamming(a, b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{affordable, values};

    fn bytes(seed: u64, len: usize) -> Vec<i8> {
        values(seed, len).into_iter().map(|x| (x * 128.0).floor() as i8).collect()
    }

    fn lengths() -> impl Iterator<Item = usize> {
        (0..200).chain([255, 256, 257, 383, 384, 511, 768, 1_023, 4_096]).filter(|&len| affordable(len))
    }

    /// Every level against plain arithmetic, on random bytes and on the largest there are.
    #[test]
    fn every_level_counts_exactly() {
        for len in lengths() {
            let extremes = [(vec![-128; len], vec![-128; len]), (vec![-128; len], vec![127; len])];
            let random = (bytes(len as u64 + 1, len), bytes(len as u64 + 99, len));
            for (a, b) in extremes.iter().chain([&random]) {
                let pairs = || a.iter().zip(b).map(|(&x, &y)| (i32::from(x), i32::from(y)));
                let dot: i32 = pairs().map(|(x, y)| x * y).sum();
                let l2: i32 = pairs().map(|(x, y)| (x - y) * (x - y)).sum();
                let bits: u32 = a.iter().zip(b).map(|(x, y)| (x ^ y).count_ones()).sum();
                let (unsigned_a, unsigned_b) = (bytemuck::cast_slice(a), bytemuck::cast_slice(b));
                for level in Level::supported() {
                    assert_eq!(dot_at(level, a, b), dot, "dot {level:?} {len}");
                    assert_eq!(l2_squared_at(level, a, b), l2, "l2 {level:?} {len}");
                    assert_eq!(hamming_at(level, unsigned_a, unsigned_b), bits, "bits {level:?} {len}");
                }
            }
        }
    }
}
