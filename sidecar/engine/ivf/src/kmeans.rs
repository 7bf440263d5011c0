//! Centroids from a sample: k-means in two levels, then a few flat rounds over all of them.
//!
//! The top level is `linfa-clustering` on a small sample, and it is the reference of the tests. Each
//! part below is a problem of its own, solved with our kernels: an order of magnitude faster at equal
//! recall, where it counts.

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_clustering::{KMeans, KMeansInit};
use ndarray::ArrayView2;
use rand::seq::index;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256Plus;
use rayon::prelude::*;

use crate::nearest::{Centroids, Prepared};

/// Rounds of each small problem.
const ROUNDS: usize = 10;
/// Rounds of the top level: it only parts the work, the levels below decide.
const TOP_ROUNDS: u64 = 4;
/// Sample vectors per centroid at the top level.
const TOP_SAMPLE: usize = 32;
/// Flat rounds over the whole sample at the end, while they are cheap.
const FLAT_ROUNDS: usize = 2;
/// Lists up to which flat rounds are worth their time.
const FLAT_LIMIT: usize = 8_192;
/// Rows that one task assigns.
const TASK_ROWS: usize = 512;

/// What to find.
#[derive(Clone, Copy)]
pub(crate) struct Problem<'a> {
    /// Rows of `dims` values.
    pub(crate) sample: &'a [f32],
    pub(crate) dims: usize,
    /// Centroids wanted.
    pub(crate) count: usize,
    /// Unit vectors: centroids are scaled to unit length and rows belong to the largest product.
    pub(crate) spherical: bool,
    pub(crate) seed: u64,
}

/// Finds centroids; fewer than wanted if the sample has fewer rows. Runs on the current rayon pool.
pub(crate) fn train(problem: &Problem<'_>) -> Vec<f32> {
    let rows = problem.sample.len() / problem.dims;
    let count = problem.count.min(rows);
    let mut rng = Xoshiro256Plus::seed_from_u64(problem.seed);
    if count <= 64 {
        return lloyd(&Problem { count, ..*problem }, random_rows(problem, count, &mut rng), ROUNDS);
    }
    let top = top_level(problem, (count as f64).sqrt().round() as usize, &mut rng);
    let parts = split(problem, &top);
    let shares = shares(&parts, count, problem.dims);
    let centroids: Vec<Vec<f32>> = parts
        .par_iter()
        .zip(&shares)
        .enumerate()
        .map(|(number, (part, &share))| {
            let mut rng = Xoshiro256Plus::seed_from_u64(problem.seed ^ (number as u64 + 1));
            let part = Problem { sample: part, count: share, ..*problem };
            lloyd(&part, random_rows(&part, share, &mut rng), ROUNDS)
        })
        .collect();
    let flat_rounds = if count <= FLAT_LIMIT { FLAT_ROUNDS } else { 0 };
    lloyd(&Problem { count, ..*problem }, centroids.concat(), flat_rounds)
}

fn top_level(problem: &Problem<'_>, count: usize, rng: &mut Xoshiro256Plus) -> Vec<f32> {
    let sample = random_rows(problem, count * TOP_SAMPLE, rng);
    let records = ArrayView2::from_shape((sample.len() / problem.dims, problem.dims), &sample);
    let fitted = KMeans::params_with_rng(count, rng.clone())
        .n_runs(1)
        .max_n_iterations(TOP_ROUNDS)
        .tolerance(1e-4)
        .init_method(KMeansInit::KMeansPlusPlus)
        .fit(&DatasetBase::from(records.expect("whole rows")));
    match fitted {
        Ok(model) => scaled(problem, model.centroids().iter().copied().collect()),
        Err(error) => {
            // Values so large that squared distances overflow; our own loop then does what it can.
            tracing::debug!(%error, "top level of k-means by the fallback");
            let small = Problem { sample: &sample, count, ..*problem };
            lloyd(&small, random_rows(&small, count, rng), ROUNDS)
        }
    }
}

/// The rows of the sample by their nearest top-level centroid.
fn split(problem: &Problem<'_>, top: &[f32]) -> Vec<Vec<f32>> {
    let nearest = assign(&prepared(problem), problem, top.to_vec());
    let mut parts = vec![Vec::new(); top.len() / problem.dims];
    for (row, &(part, _)) in problem.sample.chunks_exact(problem.dims).zip(&nearest) {
        parts[part as usize].extend_from_slice(row);
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Splits `count` over the parts by their sizes: at least one each, never more than a part has rows.
fn shares(parts: &[Vec<f32>], count: usize, dims: usize) -> Vec<usize> {
    let total: usize = parts.iter().map(Vec::len).sum();
    let mut given = 0;
    let mut before = 0;
    let share = |part: &Vec<f32>| {
        before += part.len();
        let up_to = (count as f64 * before as f64 / total as f64).round() as usize;
        let share = up_to.saturating_sub(given).clamp(1, part.len() / dims);
        given += share;
        share
    };
    parts.iter().map(share).collect()
}

/// Lloyd's rounds from given centroids.
fn lloyd(problem: &Problem<'_>, mut centroids: Vec<f32>, rounds: usize) -> Vec<f32> {
    let dims = problem.dims;
    let count = centroids.len() / dims;
    let mut rng = Xoshiro256Plus::seed_from_u64(problem.seed);
    let prepared = if rounds > 0 { prepared(problem) } else { Vec::new() };
    for _ in 0..rounds {
        let nearest = assign(&prepared, problem, centroids);
        let mut sums = vec![0f32; count * dims];
        let mut counts = vec![0usize; count];
        for (row, &(to, _)) in problem.sample.chunks_exact(dims).zip(&nearest) {
            let to = to as usize;
            counts[to] += 1;
            sums[to * dims..(to + 1) * dims].iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        for (number, &members) in counts.iter().enumerate() {
            if members > 0 {
                let scale = 1.0 / members as f32;
                sums[number * dims..(number + 1) * dims].iter_mut().for_each(|sum| *sum *= scale);
            }
        }
        refill_empty(problem, &mut sums, &mut counts, &mut rng);
        centroids = scaled(problem, sums);
    }
    scaled(problem, centroids)
}

/// Gives each centroid without members a row near that of a large list, so that it splits.
fn refill_empty(
    problem: &Problem<'_>,
    centroids: &mut [f32],
    counts: &mut [usize],
    rng: &mut Xoshiro256Plus,
) {
    let dims = problem.dims;
    let rows = problem.sample.len() / dims;
    for empty in 0..counts.len() {
        if counts[empty] == 0 {
            let row = rng.gen_range(0..rows) * dims;
            centroids[empty * dims..(empty + 1) * dims].copy_from_slice(&problem.sample[row..row + dims]);
            counts[empty] = 1;
        }
    }
}

/// The sample in tasks.
fn prepared<'a>(problem: &Problem<'a>) -> Vec<Prepared<'a>> {
    let tasks = problem.sample.par_chunks(TASK_ROWS * problem.dims);
    tasks.map(|rows| Prepared::new(rows, problem.dims)).collect()
}

fn assign(prepared: &[Prepared<'_>], problem: &Problem<'_>, centroids: Vec<f32>) -> Vec<(u32, f32)> {
    let centroids = Centroids::new(centroids, problem.dims, problem.spherical);
    prepared.par_iter().flat_map_iter(|rows| centroids.nearest(rows)).collect()
}

fn random_rows(problem: &Problem<'_>, count: usize, rng: &mut Xoshiro256Plus) -> Vec<f32> {
    let dims = problem.dims;
    let rows = problem.sample.len() / dims;
    let chosen = index::sample(rng, rows, count.min(rows));
    let mut values = Vec::with_capacity(chosen.len() * dims);
    for row in chosen.iter() {
        values.extend_from_slice(&problem.sample[row * dims..(row + 1) * dims]);
    }
    values
}

/// Unit length where the problem is spherical; a centroid of no direction stays as it is.
fn scaled(problem: &Problem<'_>, mut centroids: Vec<f32>) -> Vec<f32> {
    if problem.spherical {
        for centroid in centroids.chunks_exact_mut(problem.dims) {
            let norm = ivf_kernels::dot(centroid, centroid).sqrt();
            if norm > 0.0 && norm.is_finite() {
                centroid.iter_mut().for_each(|x| *x /= norm);
            }
        }
    }
    centroids
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows around `centres` well apart; a good clustering leaves only the noise.
    fn clustered(centres: usize, per_centre: usize, dims: usize) -> Vec<f32> {
        let mut rng = Xoshiro256Plus::seed_from_u64(3);
        let means: Vec<f32> = (0..centres * dims).map(|_| rng.gen_range(-10.0..10.0)).collect();
        let row = |n: usize, rng: &mut Xoshiro256Plus| -> Vec<f32> {
            means[n % centres * dims..][..dims].iter().map(|m| m + rng.gen_range(-0.1..0.1)).collect()
        };
        (0..centres * per_centre).flat_map(|n| row(n, &mut rng)).collect()
    }

    #[test]
    fn two_levels_come_near_the_flat_reference() {
        let (dims, count) = (8, 100);
        let sample = clustered(60, 50, dims);
        let problem = Problem { sample: &sample, dims, count, spherical: false, seed: 1 };
        let inertia = |centroids: &[f32]| -> f64 {
            let nearest = assign(&prepared(&problem), &problem, centroids.to_vec());
            sample
                .chunks_exact(dims)
                .zip(&nearest)
                .map(|(row, (_, rank))| f64::from(ivf_kernels::dot(row, row) + 2.0 * rank))
                .sum()
        };
        let ours = train(&problem);
        assert_eq!(ours.len(), count * dims);
        let records = ArrayView2::from_shape((sample.len() / dims, dims), &sample).unwrap();
        let reference = KMeans::params_with_rng(count, Xoshiro256Plus::seed_from_u64(1))
            .n_runs(1)
            .max_n_iterations(20)
            .fit(&DatasetBase::from(records))
            .unwrap();
        let reference: Vec<f32> = reference.centroids().iter().copied().collect();
        let spread = inertia(&vec![0.0; dims]);
        assert!(
            inertia(&ours) < 1.5 * inertia(&reference) + 0.02 * spread,
            "{} {}",
            inertia(&ours),
            inertia(&reference)
        );
    }

    #[test]
    fn identical_rows_and_few_rows_do_no_harm() {
        let same = vec![1.0; 500 * 3];
        let problem = Problem { sample: &same, dims: 3, count: 70, spherical: true, seed: 1 };
        assert!(train(&problem).iter().all(|x| x.is_finite()));
        let few = clustered(3, 1, 3);
        assert_eq!(train(&Problem { sample: &few, count: 70, ..problem }).len(), 9);
    }
}
