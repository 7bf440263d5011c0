//! Codes: a residual as nibbles, one of 16 codewords for each group of rotated dimensions, and two
//! factors that turn a sum of look-ups into an estimate.
//!
//! A codeword gives each dimension of its group one of 2, 4 or 16 levels (RaBitQ is the case of
//! two). With residual `r = x - c` and its codeword vector `w`, `f = <r,r> / <r,w>` makes `f w` the
//! estimate of `r` that is right along `r` itself:
//!
//! - product: `-<q,x>` is about `-<q,c> + (f<c,w> - <c,r>) - f<q,w>`
//! - distance: `|q-x|^2` is about `|q-c|^2 + (|r|^2 + 2f<c,w>) - 2f<q,w>`
//!
//! The first term is the list's base, the bracket is `add`, the factor of `<q,w>` is `mul`.

use ivf_kernels::BlockShape;
use knn_types::Metric;

/// Levels that quantise a normal distribution best, by bits per dimension.
const ONE_BIT: [f32; 2] = [-1.0, 1.0];
const TWO_BITS: [f32; 4] = [-1.510, -0.452_8, 0.452_8, 1.510];
const FOUR_BITS: [f32; 16] = [
    -2.732_6, -2.069, -1.618, -1.256_2, -0.942_4, -0.656_8, -0.388_1, -0.128_4, 0.128_4, 0.388_1, 0.656_8,
    0.942_4, 1.256_2, 1.618, 2.069, 2.732_6,
];

/// How residuals of a field become codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coder {
    dims: usize,
    bits: usize,
}

impl Coder {
    /// One bit per dimension where dimensions are many; fewer dimensions average less error out and
    /// get more bits. So do vectors of any length: the longest match best and have the largest errors.
    pub(crate) fn for_field(metric: Metric, dims: usize) -> Self {
        let bits = match (metric, dims) {
            (Metric::MaxInnerProduct, ..128) | (_, ..32) => 4,
            (Metric::MaxInnerProduct, ..2_048) | (_, ..256) => 2,
            _ => 1,
        };
        Self { dims, bits }
    }

    /// Nibbles per code.
    pub(crate) fn groups(self) -> usize {
        (self.dims * self.bits).div_ceil(4)
    }

    pub(crate) fn shape(self) -> BlockShape {
        BlockShape::for_groups(self.groups())
    }

    /// Codes `residual`; returns `add` and `mul`. Both vectors are rotated.
    pub(crate) fn encode(
        self,
        metric: Metric,
        residual: &[f32],
        centroid: &[f32],
        nibbles: &mut [u8],
    ) -> (f32, f32) {
        assert!(residual.len() == self.dims && centroid.len() == self.dims && nibbles.len() == self.groups());
        let energy = ivf_kernels::dot(residual, residual);
        let centroid_residual = ivf_kernels::dot(centroid, residual);
        let inverse = (self.dims as f32 / energy).sqrt();
        let (residual_word, centroid_word) = match self.bits {
            1 => quantise(&ONE_BIT, inverse, residual, centroid, nibbles),
            2 => quantise(&TWO_BITS, inverse, residual, centroid, nibbles),
            _ => quantise(&FOUR_BITS, inverse, residual, centroid, nibbles),
        };
        let f = energy / residual_word;
        // A residual of nothing (the vector is its centroid) has no direction to code.
        let f = if f.is_finite() { f } else { 0.0 };
        match metric {
            Metric::L2 => (energy + 2.0 * f * centroid_word, -2.0 * f),
            _ => (f * centroid_word - centroid_residual, -f),
        }
    }

    /// Standard error of a product that a code gives, in units of the query's length and the
    /// code's factor.
    pub(crate) fn error(self) -> f32 {
        // One less the squared cosine between a normal vector and its codeword vector.
        let lost: f32 = match self.bits {
            1 => 0.363,
            2 => 0.118,
            _ => 0.009_5,
        };
        lost.sqrt()
    }

    /// For each group the products of the rotated query with all 16 codewords.
    pub(crate) fn tables(self, query: &[f32], tables: &mut Vec<[f32; 16]>) {
        assert_eq!(query.len(), self.dims);
        tables.clear();
        match self.bits {
            1 => tables.extend(query.chunks(4).map(|group| products(&ONE_BIT, group))),
            2 => tables.extend(query.chunks(2).map(|group| products(&TWO_BITS, group))),
            _ => tables.extend(query.chunks(1).map(|group| products(&FOUR_BITS, group))),
        }
    }
}

/// Picks the nearest level for each dimension; returns `<r,w>` and `<c,w>`.
fn quantise<const LEVELS: usize>(
    levels: &[f32; LEVELS],
    inverse: f32,
    residual: &[f32],
    centroid: &[f32],
    nibbles: &mut [u8],
) -> (f32, f32) {
    let bits = LEVELS.trailing_zeros() as usize;
    let (mut residual_word, mut centroid_word) = (0f32, 0f32);
    let groups = residual.chunks(4 / bits).zip(centroid.chunks(4 / bits));
    for ((residual, centroid), nibble) in groups.zip(nibbles) {
        *nibble = 0;
        for (dim, (&r, &c)) in residual.iter().zip(centroid).enumerate() {
            let scaled = r * inverse;
            let level = levels.windows(2).filter(|pair| scaled >= (pair[0] + pair[1]) * 0.5).count();
            *nibble |= (level << (dim * bits)) as u8;
            residual_word += r * levels[level];
            centroid_word += c * levels[level];
        }
    }
    (residual_word, centroid_word)
}

/// Products of one group of dimensions with its 16 codewords; missing dimensions count nothing.
fn products<const LEVELS: usize>(levels: &[f32; LEVELS], group: &[f32]) -> [f32; 16] {
    let mut table = [0f32; 16];
    let mut filled = 1;
    for &value in group {
        // The upper choices first: the lowest overwrites what all build upon.
        for (level, factor) in levels.iter().enumerate().rev() {
            for lower in 0..filled {
                table[level * filled + lower] = table[lower] + value * factor;
            }
        }
        filled *= LEVELS;
    }
    table
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256Plus;

    use super::*;

    fn normal(rng: &mut Xoshiro256Plus, dims: usize) -> Vec<f32> {
        (0..dims).map(|_| (0..12).map(|_| rng.r#gen::<f32>()).sum::<f32>() - 6.0).collect()
    }

    /// Estimates by the formulas above, spelt out, against exact values.
    #[test]
    fn estimates_are_near_and_unbiased() {
        let mut rng = Xoshiro256Plus::seed_from_u64(11);
        for (dims, error) in [(3, 0.15), (31, 0.1), (64, 0.25), (128, 0.25), (256, 0.5), (384, 0.5)] {
            for metric in [Metric::L2, Metric::Dot] {
                let coder = Coder::for_field(metric, dims);
                let (mut squares, mut sum, rounds) = (0.0, 0.0, 400);
                for _ in 0..rounds {
                    let (query, centroid) = (normal(&mut rng, dims), normal(&mut rng, dims));
                    let residual = normal(&mut rng, dims);
                    let mut nibbles = vec![0; coder.groups()];
                    let (add, mul) = coder.encode(metric, &residual, &centroid, &mut nibbles);
                    let mut tables = Vec::new();
                    coder.tables(&query, &mut tables);
                    let product: f32 = nibbles.iter().zip(&tables).map(|(&n, t)| t[n as usize]).sum();
                    let vector: Vec<f32> = centroid.iter().zip(&residual).map(|(c, r)| c + r).collect();
                    let (base, exact) = match metric {
                        Metric::L2 => (
                            ivf_kernels::l2_squared(&query, &centroid),
                            ivf_kernels::l2_squared(&query, &vector),
                        ),
                        _ => (-ivf_kernels::dot(&query, &centroid), -ivf_kernels::dot(&query, &vector)),
                    };
                    let factor = if metric == Metric::L2 { 2.0 } else { 1.0 };
                    let off = (base + add + mul * product - exact) / (factor * dims as f32).sqrt();
                    squares += off * off / factor;
                    sum += off;
                }
                // Errors in units of |q - c| |r| / sqrt(dims), which is what the papers bound.
                let spread = (squares / rounds as f32).sqrt();
                assert!(spread < error * 2.5, "{dims} {metric:?}: {spread}");
                assert!(
                    (sum / rounds as f32).abs() < 6.0 * spread / (rounds as f32).sqrt() + 1e-3,
                    "{dims} {metric:?} is biased"
                );
            }
        }
    }

    #[test]
    fn a_vector_on_its_centroid_is_estimated_by_the_base() {
        for dims in [1, 40, 300] {
            let coder = Coder::for_field(Metric::L2, dims);
            let mut nibbles = vec![0; coder.groups()];
            let (add, mul) = coder.encode(Metric::L2, &vec![0.0; dims], &vec![1.0; dims], &mut nibbles);
            assert_eq!((add, mul), (0.0, -0.0));
        }
    }
}
