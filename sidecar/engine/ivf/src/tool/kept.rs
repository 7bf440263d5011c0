//! Filters for measurements: which rows of a file they keep.

use knn_types::Metric;
use rand::seq::index;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256Plus;
use roaring::RoaringTreemap;

use super::Vectors;

/// Seed of what is random here, so that a run can be repeated.
const SEED: u64 = 73;

/// A filter to search under.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Share of the vectors that it keeps, above 0 and at most 1; at least one vector.
    pub share: f64,
    /// How it chooses them.
    pub choice: Choice,
}

/// See [`Keep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// At random.
    Random,
    /// The nearest to a stored vector: one region of the data.
    Region,
    /// The nearest to a vector unlike any that is stored: each value is that of another row.
    Far,
}

/// Numbers of the rows kept.
pub(super) fn kept_rows(keep: &Keep, metric: Metric, base: &Vectors) -> RoaringTreemap {
    let count = ((base.len() as f64 * keep.share).round() as usize).clamp(1, base.len());
    let mut rng = Xoshiro256Plus::seed_from_u64(SEED);
    let mut row = || rng.gen_range(0..base.len());
    let value = |row: usize, dim: usize| base.values()[row * base.dims() + dim];
    let centre: Vec<f32> = match keep.choice {
        Choice::Random => {
            return index::sample(&mut rng, base.len(), count).iter().map(|row| row as u64).collect();
        }
        Choice::Region => {
            let row = row();
            (0..base.dims()).map(|dim| value(row, dim)).collect()
        }
        Choice::Far => (0..base.dims()).map(|dim| value(row(), dim)).collect(),
    };
    let rank = |row: &[f32]| crate::exact::rank(metric, crate::exact::value(metric, &centre, row));
    let mut ranks: Vec<(f32, u64)> = base.rows().map(rank).zip(0..).collect();
    ranks.select_nth_unstable_by(count - 1, |a, b| a.0.total_cmp(&b.0));
    ranks[..count].iter().map(|&(_, row)| row).collect()
}
