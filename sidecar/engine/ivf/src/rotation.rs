//! A random orthogonal rotation: random signs and Hadamard transforms. It spreads a residual evenly
//! over all dimensions, so that one bit per dimension says the most, and costs `n log n`.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256Plus;

/// Rotates vectors of `dims` values; the same seed gives the same rotation.
#[derive(Clone)]
pub(crate) struct Rotation {
    dims: usize,
    seed: u64,
    rounds: Vec<Round>,
}

/// Signs (scaled so that the transform keeps lengths) and where the transform starts.
#[derive(Clone)]
struct Round {
    start: usize,
    signs: Vec<f32>,
}

impl Rotation {
    pub(crate) fn new(dims: usize, seed: u64) -> Self {
        let mut rng = Xoshiro256Plus::seed_from_u64(seed);
        let power = 1usize << dims.ilog2();
        // Where `dims` is no power of two the first and the last `power` dimensions take turns.
        let starts: &[usize] = if power == dims { &[0, 0, 0] } else { &[0, dims - power, 0, dims - power] };
        let scale = 1.0 / (power as f32).sqrt();
        let round = |&start: &usize| Round {
            start,
            signs: (0..power).map(|_| if rng.r#gen::<bool>() { scale } else { -scale }).collect(),
        };
        Self { dims, seed, rounds: starts.iter().map(round).collect() }
    }

    pub(crate) fn dims(&self) -> usize {
        self.dims
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Rotates in place.
    pub(crate) fn apply(&self, vector: &mut [f32]) {
        assert_eq!(vector.len(), self.dims);
        for round in &self.rounds {
            let part = &mut vector[round.start..round.start + round.signs.len()];
            for (value, sign) in part.iter_mut().zip(&round.signs) {
                *value *= sign;
            }
            ivf_kernels::hadamard(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_stay_and_energy_spreads() {
        let mut rng = Xoshiro256Plus::seed_from_u64(7);
        for dims in [1, 2, 3, 5, 17, 100, 128, 384, 1000] {
            let rotation = Rotation::new(dims, 5);
            let vector =
                |rng: &mut Xoshiro256Plus| (0..dims).map(|_| rng.r#gen::<f32>() - 0.5).collect::<Vec<_>>();
            let (mut a, mut b) = (vector(&mut rng), vector(&mut rng));
            let before = ivf_kernels::dot(&a, &b);
            rotation.apply(&mut a);
            rotation.apply(&mut b);
            assert!((ivf_kernels::dot(&a, &b) - before).abs() < 1e-4 * dims as f32, "{dims}");
            let mut unit = vec![0.0; dims];
            unit[dims / 2] = 1.0;
            rotation.apply(&mut unit);
            let largest = unit.iter().fold(0f32, |most, x| most.max(x.abs()));
            assert!(dims < 17 || largest < 0.75, "{dims}: {largest}");
        }
    }
}
