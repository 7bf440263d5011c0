//! Searching what was built: speed, and recall if there is something to compare with.

use std::path::{Path, PathBuf};
use std::time::Instant;

use ivf_kernels::level;
use knn_types::{Allow, EngineError, FieldSpec, Found, IvfOptions, KnnView, Metric, Query, SlotFilter};
use rayon::prelude::*;
use serde::Serialize;

use super::kept::{Keep, kept_rows};
use super::{ToolError, Vectors, open, read_vectors};
use crate::form::Form;

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
    /// Threads that search.
    pub threads: usize,
    /// Queries that a thread asks at a time; each is reported with its share of their time.
    pub batch: usize,
    /// The file that the index was built from: recall is measured against an exact search of it.
    pub truth_from: Option<PathBuf>,
    /// Search under a filter that keeps some of the vectors; needs `truth_from`.
    pub keep: Option<Keep>,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self {
            k: 10,
            num_candidates: None,
            recall: None,
            nprobe: None,
            threads: 1,
            batch: 1,
            truth_from: None,
            keep: None,
        }
    }
}

/// What a run of queries took.
#[derive(Clone, Debug, Serialize)]
pub struct SearchReport {
    /// Share of the true k nearest that were found; equal values count whoever has them.
    pub recall: Option<f64>,
    /// Share of the vectors that the filter kept; 1 without one.
    pub kept: f64,
    /// Queries with fewer than `k` hits although the filter keeps so many.
    pub short: usize,
    /// Bytes that the filter holds after the searches.
    pub filter_bytes: u64,
    /// Seconds to make the filter.
    pub filter_seconds: f64,
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
    vectors.prepare(spec.element, spec.metric);
    let view = index.view();
    let rows: Vec<&[f32]> = vectors.rows().collect();
    let base = match &options.truth_from {
        Some(path) => Some(base_of(path, &spec, &vectors)?),
        None => None,
    };
    let started = Instant::now();
    let kept = match (&options.keep, &base) {
        (Some(keep), Some(base)) => Some(kept_rows(keep, spec.metric, base)),
        (Some(_), None) => return Err(ToolError::file(dir, "a filter needs the file it was built from")),
        (None, _) => None,
    };
    let filter = kept.as_ref().map(|kept| view.filter(Allow::SeqNos(kept)));
    let filter_seconds = started.elapsed().as_secs_f64();
    run(&*view, &rows, options, filter.as_deref())?;
    let started = Instant::now();
    let answers = run(&*view, &rows, options, filter.as_deref())?;
    let seconds = started.elapsed().as_secs_f64();
    let held = kept.as_ref().map_or(view.len(), |kept| kept.len() as usize);
    let recall = base.map(|base| {
        let base = match &kept {
            Some(kept) => base.only(|row| kept.contains(row as u64)),
            None => base,
        };
        let queries = vectors.expanded(&Form::of(&spec))?;
        let rows: Vec<&[f32]> = queries.rows().collect();
        Ok::<_, EngineError>(recall(spec.metric, &base, &rows, &answers, options.k))
    });
    let recall = recall.transpose()?;
    let mut times: Vec<f64> = answers.iter().map(|answer| answer.microseconds).collect();
    times.sort_unstable_by(f64::total_cmp);
    let percentile = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    let mean = |of: fn(&Answer) -> usize| answers.iter().map(of).sum::<usize>() as f64 / answers.len() as f64;
    let stats = index.stats();
    Ok(SearchReport {
        recall,
        kept: held as f64 / view.len() as f64,
        short: answers.iter().filter(|answer| answer.values.len() < options.k.min(held)).count(),
        filter_bytes: filter.as_ref().map_or(0, |filter| filter.memory_bytes()),
        filter_seconds,
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

fn run(
    view: &dyn KnnView,
    rows: &[&[f32]],
    options: &SearchOptions,
    filter: Option<&dyn SlotFilter>,
) -> Result<Vec<Answer>, EngineError> {
    let answer = |found: Found, microseconds: f64| Answer {
        microseconds,
        values: found.hits.iter().map(|hit| hit.value).collect(),
        lists: found.stats.lists,
        scanned: found.stats.scanned,
        reranked: found.stats.reranked,
    };
    let together = |rows: &[&[f32]]| -> Result<Vec<Answer>, EngineError> {
        let started = Instant::now();
        let found = match rows {
            [row] => vec![view.search(&query(row, options, filter))],
            _ => view.search_batch(&rows.iter().map(|row| query(row, options, filter)).collect::<Vec<_>>()),
        };
        let microseconds = started.elapsed().as_secs_f64() * 1e6 / rows.len() as f64;
        found.into_iter().map(|found| Ok(answer(found?, microseconds))).collect()
    };
    let thread = |rows: &[&[f32]]| -> Result<Vec<Answer>, EngineError> {
        Ok(rows.chunks(options.batch.max(1)).map(together).collect::<Result<Vec<_>, _>>()?.concat())
    };
    let share = rows.len().div_ceil(options.threads.max(1)).max(1);
    let parts: Vec<Result<Vec<Answer>, EngineError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = rows.chunks(share).map(|rows| scope.spawn(move || thread(rows))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a search does not panic")).collect()
    });
    Ok(parts.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}

fn query<'a>(vector: &'a [f32], options: &SearchOptions, filter: Option<&'a dyn SlotFilter>) -> Query<'a> {
    let num_candidates = options.num_candidates.unwrap_or(options.k + options.k / 2);
    Query { vector, k: options.k, num_candidates, nprobe: options.nprobe, filter }
}

/// The vectors that the index was built from, expanded.
fn base_of(path: &Path, spec: &FieldSpec, queries: &Vectors) -> Result<Vectors, ToolError> {
    let mut base = read_vectors(path)?;
    if base.dims() != spec.values() || queries.dims() != spec.values() {
        return Err(ToolError::file(path, "vectors of another length than the index"));
    }
    base.prepare(spec.element, spec.metric);
    Ok(base.expanded(&Form::of(spec))?)
}

fn recall(metric: Metric, base: &Vectors, queries: &[&[f32]], answers: &[Answer], k: usize) -> f64 {
    let found = queries.par_iter().zip(answers).map(|(query, answer)| {
        let last = kth_rank(metric, base, query, k);
        let near_enough = |value: &&f32| crate::exact::rank(metric, **value) <= last + last.abs() * 1e-5;
        answer.values.iter().filter(near_enough).count()
    });
    found.sum::<usize>() as f64 / (queries.len() * k.min(base.len())) as f64
}

/// Rank of the k-th nearest row.
fn kth_rank(metric: Metric, base: &Vectors, query: &[f32], k: usize) -> f32 {
    let rank = |row: &[f32]| crate::exact::rank(metric, crate::exact::value(metric, query, row));
    let mut ranks: Vec<f32> = base.rows().map(rank).collect();
    let at = k.min(ranks.len()) - 1;
    *ranks.select_nth_unstable_by(at, f32::total_cmp).1
}
