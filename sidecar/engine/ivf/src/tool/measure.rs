//! Searching what was built: speed, and recall if there is something to compare with.

use std::path::{Path, PathBuf};
use std::time::Instant;

use ivf_kernels::level;
use knn_types::{EngineError, FieldSpec, IvfOptions, KnnView, Metric, Query};
use rayon::prelude::*;
use serde::Serialize;

use super::{ToolError, Vectors, open, read_vectors};

/// How to search.
#[derive(Clone, Debug)]
pub struct SearchOptions {
    /// Hits per query.
    pub k: usize,
    /// Elasticsearch's effort; `None` is its default, one and a half times `k`.
    pub num_candidates: Option<usize>,
    /// Wanted recall, as the option of a field.
    pub recall: Option<f32>,
    /// Visit exactly so many lists.
    pub nprobe: Option<usize>,
    /// Threads that search, each one query at a time.
    pub threads: usize,
    /// The file that the index was built from: recall is measured against an exact search of it.
    pub truth_from: Option<PathBuf>,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self { k: 10, num_candidates: None, recall: None, nprobe: None, threads: 1, truth_from: None }
    }
}

/// What a run of queries took.
#[derive(Clone, Debug, Serialize)]
pub struct SearchReport {
    /// Share of the true k nearest that were found; equal values count whoever has them.
    pub recall: Option<f64>,
    /// Queries per second, all threads together.
    pub qps: f64,
    /// Median microseconds of a query.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// Memory held per vector, ids and all; vectors in mapped files not counted.
    pub bytes_per_vector: f64,
    /// Mean number of lists visited.
    pub nprobe: f64,
    /// Mean number of entries estimated.
    pub scanned: f64,
    /// Mean number of entries compared by their full vectors.
    pub reranked: f64,
    /// Number of lists.
    pub nlist: usize,
    /// Queries asked.
    pub queries: usize,
    /// Instruction set in use.
    pub kernels: &'static str,
}

/// One query's work.
#[derive(Clone)]
struct Answer {
    values: Vec<f32>,
    microseconds: f64,
    lists: usize,
    scanned: usize,
    reranked: usize,
}

/// Searches the index below `dir` with every query of a file, after one pass to warm up.
pub fn search(dir: &Path, queries: &Path, options: &SearchOptions) -> Result<SearchReport, ToolError> {
    let field = IvfOptions { recall: options.recall, ..IvfOptions::default() };
    let (index, spec) = open(dir, field)?;
    let mut vectors = read_vectors(queries)?;
    vectors.prepare(spec.metric);
    let view = index.view();
    let rows: Vec<&[f32]> = vectors.rows().collect();
    run(&*view, &rows, options)?;
    let started = Instant::now();
    let answers = run(&*view, &rows, options)?;
    let seconds = started.elapsed().as_secs_f64();
    let recall = match &options.truth_from {
        Some(path) => Some(recall(path, &spec, &vectors, &answers, options.k)?),
        None => None,
    };
    let mut times: Vec<f64> = answers.iter().map(|answer| answer.microseconds).collect();
    times.sort_unstable_by(f64::total_cmp);
    let percentile = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    let mean = |of: fn(&Answer) -> usize| answers.iter().map(of).sum::<usize>() as f64 / answers.len() as f64;
    let stats = index.stats();
    Ok(SearchReport {
        recall,
        qps: answers.len() as f64 / seconds,
        p50_us: percentile(0.5),
        p99_us: percentile(0.99),
        bytes_per_vector: stats.memory_bytes as f64 / stats.docs.max(1) as f64,
        nprobe: mean(|answer| answer.lists),
        scanned: mean(|answer| answer.scanned),
        reranked: mean(|answer| answer.reranked),
        nlist: stats.nlist,
        queries: answers.len(),
        kernels: level().name(),
    })
}

fn run(view: &dyn KnnView, rows: &[&[f32]], options: &SearchOptions) -> Result<Vec<Answer>, EngineError> {
    let one = |vector: &&[f32]| {
        let num_candidates = options.num_candidates.unwrap_or(options.k + options.k / 2);
        let query = Query { vector, k: options.k, num_candidates, nprobe: options.nprobe, filter: None };
        let started = Instant::now();
        let found = view.search(&query)?;
        Ok(Answer {
            microseconds: started.elapsed().as_secs_f64() * 1e6,
            values: found.hits.iter().map(|hit| hit.value).collect(),
            lists: found.stats.lists,
            scanned: found.stats.scanned,
            reranked: found.stats.reranked,
        })
    };
    let share = rows.len().div_ceil(options.threads.max(1)).max(1);
    let parts: Vec<Result<Vec<Answer>, EngineError>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            rows.chunks(share).map(|rows| scope.spawn(move || rows.iter().map(one).collect())).collect();
        threads.into_iter().map(|thread| thread.join().expect("a search does not panic")).collect()
    });
    Ok(parts.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}

fn recall(
    path: &Path,
    spec: &FieldSpec,
    queries: &Vectors,
    answers: &[Answer],
    k: usize,
) -> Result<f64, ToolError> {
    let mut base = read_vectors(path)?;
    if base.dims() != spec.dims || queries.dims() != spec.dims {
        return Err(ToolError::file(path, "vectors of another length than the index"));
    }
    base.prepare(spec.metric);
    let queries: Vec<&[f32]> = queries.rows().collect();
    let found = queries.par_iter().zip(answers).map(|(query, answer)| {
        let last = kth_rank(spec.metric, &base, query, k);
        let near_enough = |value: &&f32| crate::exact::rank(spec.metric, **value) <= last + last.abs() * 1e-5;
        answer.values.iter().filter(near_enough).count()
    });
    Ok(found.sum::<usize>() as f64 / (queries.len() * k.min(base.len())) as f64)
}

/// Rank of the k-th nearest row.
fn kth_rank(metric: Metric, base: &Vectors, query: &[f32], k: usize) -> f32 {
    let rank = |row: &[f32]| crate::exact::rank(metric, crate::exact::value(metric, query, row));
    let mut ranks: Vec<f32> = base.rows().map(rank).collect();
    let at = k.min(ranks.len()) - 1;
    *ranks.select_nth_unstable_by(at, f32::total_cmp).1
}
