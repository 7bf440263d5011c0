//! Recall and speed of one index in process, one thread per search.
//!
//! `bench BASE METRIC (QUERIES | last:N) [k]`: files as `ivf_index::tool` reads them; `last:N` takes
//! the last N rows of BASE as queries. Prints a line per effort, then the cost of a publish, of a
//! snapshot and of opening it.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ivf_index::tool::{metric_named, read_vectors};
use ivf_index::{Engine, EngineConfig};
use knn_types::{
    Change, ChangeKind, DocKey, Element, Epoch, FieldSpec, IndexKey, IvfOptions, KnnEngine, KnnIndex, Metric,
    Query, SeqNo,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [base, metric, queries, rest @ ..] = args.as_slice() else {
        return Err("usage: bench BASE METRIC (QUERIES | last:N) [k]".into());
    };
    let metric = metric_named(metric).ok_or("metric: l2, cosine, dot or mip")?;
    let k: usize = rest.first().map_or(Ok(10), |k| k.parse())?;
    let mut base = read_vectors(Path::new(base))?;
    let mut queries = match queries.strip_prefix("last:") {
        Some(count) => base.split_last(count.parse()?).ok_or("not so many rows")?,
        None => read_vectors(Path::new(queries))?,
    };
    base.prepare(Element::Float, metric);
    queries.prepare(Element::Float, metric);
    let (rows, queries, dims) = (base.values(), queries.values(), base.dims());
    println!(
        "{} rows, {} queries, {dims} dims, kernels {}",
        rows.len() / dims,
        queries.len() / dims,
        ivf_kernels::level().name()
    );

    let dir = tempfile::tempdir()?;
    let spec = FieldSpec { element: Element::Float, dims, metric, options: IvfOptions::default() };
    let index = build(dir.path(), rows, &spec)?;
    let truth = truth(rows, queries, dims, metric, k);
    let stats = index.stats();
    println!(
        "nlist {} nprobe {} calibrated recall {:?} imbalance {:.2} memory {:.1} B/vector beyond {} of originals",
        stats.nlist,
        stats.nprobe,
        stats.recall,
        stats.imbalance,
        stats.memory_bytes as f64 / stats.docs as f64 - dims as f64 * 4.0,
        dims * 4,
    );
    for num_candidates in [k * 3 / 2, k * 3, k * 10, k * 100, k * 1000] {
        measure(&*index, queries, dims, k, num_candidates.min(10_000), None, &truth)?;
    }
    let mut nprobe = 8;
    while nprobe <= stats.nlist.min(512) {
        measure(&*index, queries, dims, k, k * 3 / 2, Some(nprobe), &truth)?;
        nprobe *= 2;
    }
    publish_cost(&*index, rows, dims)?;
    let started = Instant::now();
    index.snapshot()?;
    println!("snapshot of {} MiB written in {:.2?}", index.stats().disk_bytes >> 20, started.elapsed());
    let started = Instant::now();
    let again = open(dir.path(), &spec)?;
    println!("opened in {:.2?}", started.elapsed());
    let stats = again.stats();
    println!("memory {:.1} B/vector with originals mapped", stats.memory_bytes as f64 / stats.docs as f64);
    measure(&*again, queries, dims, k, k * 3 / 2, None, &truth)
}

fn open(dir: &Path, spec: &FieldSpec) -> Result<Arc<dyn KnnIndex>, Box<dyn std::error::Error>> {
    let config =
        EngineConfig { data_dir: Some(dir.to_path_buf()), train_threads: 2, ..EngineConfig::default() };
    let key = IndexKey { index_uuid: "bench".into(), shard: 0, history_uuid: "h".into(), field: "v".into() };
    Ok(Engine::open(config)?.open(&key, spec)?)
}

fn build(
    dir: &Path,
    rows: &[f32],
    spec: &FieldSpec,
) -> Result<Arc<dyn KnnIndex>, Box<dyn std::error::Error>> {
    let dims = spec.dims;
    let index = open(dir, spec)?;
    let started = Instant::now();
    for (number, chunk) in rows.chunks(1_000 * dims).enumerate() {
        let first = number * 1_000;
        index.stage(
            chunk.chunks_exact(dims).enumerate().map(|(at, row)| upsert(first + at, 1, row)).collect(),
        )?;
    }
    index.publish(epoch(rows.len() / dims))?;
    println!("staged and published in {:.2?}", started.elapsed());
    let started = Instant::now();
    while index.maintain()? {}
    println!("built in {:.2?}", started.elapsed());
    Ok(index)
}

fn measure(
    index: &dyn KnnIndex,
    queries: &[f32],
    dims: usize,
    k: usize,
    num_candidates: usize,
    nprobe: Option<usize>,
    truth: &[Vec<f32>],
) -> Result<(), Box<dyn std::error::Error>> {
    let view = index.view();
    let mut best = f64::INFINITY;
    let (mut hits, mut lists, mut scanned, mut reranked) = (0, 0, 0, 0);
    for _ in 0..3 {
        (hits, lists, scanned, reranked) = (0, 0, 0, 0);
        let started = Instant::now();
        for (vector, truth) in queries.chunks_exact(dims).zip(truth) {
            let found = view.search(&Query { vector, k, num_candidates, nprobe, filter: None })?;
            // Equal distances count whichever document they belong to.
            let last = truth[truth.len() - 1];
            hits += found
                .hits
                .iter()
                .filter(|hit| rank(view_metric(truth), hit.value) <= last + last.abs() * 1e-5)
                .count();
            lists += found.stats.lists;
            scanned += found.stats.scanned;
            reranked += found.stats.reranked;
        }
        best = best.min(started.elapsed().as_secs_f64());
    }
    let count = queries.len() / dims;
    println!(
        "nc {num_candidates:>5} nprobe {:>4}: recall {:.4}  {:>7.0} q/s  lists {} scanned {} reranked {}",
        nprobe.map_or("-".into(), |nprobe| nprobe.to_string()),
        hits as f64 / (count * k) as f64,
        count as f64 / best,
        lists / count,
        scanned / count,
        reranked / count,
    );
    Ok(())
}

/// Ground truth holds ranks: distances are positive, negated products of near vectors are not.
fn view_metric(truth: &[f32]) -> Metric {
    if truth[0] < 0.0 { Metric::Dot } else { Metric::L2 }
}

fn rank(metric: Metric, value: f32) -> f32 {
    if metric.smaller_is_nearer() { value } else { -value }
}

fn truth(rows: &[f32], queries: &[f32], dims: usize, metric: Metric, k: usize) -> Vec<Vec<f32>> {
    use rayon::prelude::*;
    let one = |query: &[f32]| {
        let mut ranks: Vec<f32> = rows
            .chunks_exact(dims)
            .map(|row| match metric {
                Metric::L2 => ivf_kernels::l2_squared(query, row),
                _ => -ivf_kernels::dot(query, row),
            })
            .collect();
        ranks.select_nth_unstable_by(k - 1, f32::total_cmp);
        ranks.truncate(k);
        ranks.sort_unstable_by(f32::total_cmp);
        ranks
    };
    queries.par_chunks_exact(dims).map(one).collect()
}

fn publish_cost(index: &dyn KnnIndex, rows: &[f32], dims: usize) -> Result<(), Box<dyn std::error::Error>> {
    let count = rows.len() / dims;
    for round in 0..3 {
        let changes = (0..1_000).map(|n| {
            let at = (n * 7_919 + round * 31) % count;
            upsert(at, 2 + round as u64, &rows[at * dims..(at + 1) * dims])
        });
        let changes: Vec<Change> = changes.collect();
        let started = Instant::now();
        index.stage(changes)?;
        let staged = started.elapsed();
        index.publish(epoch(count + round + 1))?;
        println!("1,000 updates: staged in {staged:.2?}, published in {:.2?}", started.elapsed() - staged);
    }
    Ok(())
}

fn upsert(number: usize, primary_term: u64, row: &[f32]) -> Change {
    Change {
        doc: DocKey::new(format!("doc-{number:015}")),
        order: SeqNo { primary_term, seq_no: number as u64 },
        kind: ChangeKind::Upsert(row.to_vec()),
    }
}

fn epoch(up_to: usize) -> Epoch {
    Epoch { cursor: up_to as i64, max_seq_no: up_to as i64, primary_term: 1 }
}
