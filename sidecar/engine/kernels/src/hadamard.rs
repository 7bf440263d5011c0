//! The fast Walsh-Hadamard transform, in place: the mixing step of the random rotation.

use crate::{Level, level, scalar};

/// Transforms `values`, unscaled: applied twice it multiplies by the length.
///
/// # Panics
/// If the length is not a power of two.
pub fn hadamard(values: &mut [f32]) {
    hadamard_at(level(), values);
}

fn hadamard_at(level: Level, values: &mut [f32]) {
    assert!(values.len().is_power_of_two());
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => crate::x86::avx512::hadamard(values),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => crate::x86::avx2::hadamard(values),
        _ => scalar::hadamard(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{affordable, values};

    #[test]
    fn every_level_equals_the_matrix_product() {
        for power in (0..=12).filter(|&power| affordable(1 << (2 * power))) {
            let len = 1usize << power;
            let before = values(power as u64 + 1, len);
            let sign = |row: usize, column: usize| {
                if (row & column).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 }
            };
            for level in Level::supported() {
                let mut after = before.clone();
                hadamard_at(level, &mut after);
                for row in (0..len).step_by(1 + len / 40) {
                    let want: f64 =
                        before.iter().enumerate().map(|(column, &x)| sign(row, column) * f64::from(x)).sum();
                    assert!(
                        (f64::from(after[row]) - want).abs() < 1e-4 * (len as f64).sqrt(),
                        "{level:?} {len} {row}"
                    );
                }
            }
        }
    }
}
