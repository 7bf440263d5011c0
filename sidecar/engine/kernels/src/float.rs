//! float32 rows: the comparisons whose values are shown to clients.

use crate::{Level, level, scalar};

/// Inner product of two vectors of equal length.
///
/// # Panics
/// If the lengths differ.
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    dot_at(level(), a, b)
}

/// Squared Euclidean distance of two vectors of equal length.
///
/// # Panics
/// If the lengths differ.
#[inline]
pub fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    l2_squared_at(level(), a, b)
}

/// Asks the CPU to bring a row nearer before it is compared.
#[inline]
pub fn prefetch_row(row: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    crate::x86::prefetch(row);
    #[cfg(target_arch = "aarch64")]
    crate::aarch64::prefetch(row);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = row;
}

/// Asks the CPU to bring the first line of a value nearer before it is used.
#[inline]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    crate::x86::prefetch_line(value);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

#[inline]
fn dot_at(level: Level, a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => crate::x86::avx512::dot(a, b),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => crate::x86::avx2::dot(a, b),
        #[cfg(target_arch = "aarch64")]
        Level::Neon => crate::aarch64::neon::dot(a, b),
        _ => scalar::dot(a, b),
    }
}

#[inline]
fn l2_squared_at(level: Level, a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => crate::x86::avx512::l2_squared(a, b),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => crate::x86::avx2::l2_squared(a, b),
        #[cfg(target_arch = "aarch64")]
        Level::Neon => crate::aarch64::neon::l2_squared(a, b),
        _ => scalar::l2_squared(a, b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{affordable, values};

    #[test]
    fn every_level_agrees_with_double_precision_on_all_lengths() {
        for len in
            (0..300).chain([383, 384, 385, 768, 1024, 1537, 4095, 4096]).filter(|&len| affordable(8 * len))
        {
            let a = values(len as u64 + 1, len);
            let b = values(len as u64 + 7777, len);
            let dot64: f64 = a.iter().zip(&b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
            let l264: f64 = a.iter().zip(&b).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum();
            let slack = 1e-6 * (1.0 + len as f64);
            for level in Level::supported() {
                let dot32 = f64::from(dot_at(level, &a, &b));
                assert!((dot32 - dot64).abs() <= slack, "dot {level:?} len {len}: {dot32} {dot64}");
                let l232 = f64::from(l2_squared_at(level, &a, &b));
                assert!((l232 - l264).abs() <= slack, "l2 {level:?} len {len}: {l232} {l264}");
            }
        }
    }

    #[test]
    fn levels_beyond_the_cpu_are_not_offered() {
        assert_eq!(Level::supported().last(), Some(Level::best()));
        assert!(level() <= Level::best());
    }
}
