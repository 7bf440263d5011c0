//! What the measuring examples share: an index in memory, its documents, and exact answers.

#![allow(dead_code, reason = "each example uses a part")]

use std::sync::Arc;

use ivf_index::tool::Vectors;
use ivf_index::{Engine, EngineConfig};
use knn_types::{
    Change, ChangeKind, DocKey, Element, Epoch, FieldSpec, IndexKey, IvfOptions, KnnEngine, KnnIndex, Metric,
    SeqNo,
};
use rayon::prelude::*;

/// Any failure, for `main` to print.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// Rows that are staged at a time.
const BATCH: usize = 1_000;

/// An empty index that keeps everything in memory and trains with two threads.
pub(crate) fn empty(dims: usize, metric: Metric) -> Result<Arc<dyn KnnIndex>, Failure> {
    let key = IndexKey { index_uuid: "bench".into(), shard: 0, history_uuid: "h".into(), field: "v".into() };
    let config = EngineConfig { train_threads: 2, ..EngineConfig::default() };
    Ok(Engine::open(config)?
        .open(&key, &FieldSpec { element: Element::Float, dims, metric, options: IvfOptions::default() })?)
}

/// Puts rows in, document `n` in row `n`, and does what upkeep is due.
pub(crate) fn fill(index: &dyn KnnIndex, rows: &[&[f32]]) -> Result<(), Failure> {
    for (batch, rows) in rows.chunks(BATCH).enumerate() {
        let changes =
            rows.iter().enumerate().map(|(at, row)| upsert(batch * BATCH + at, batch * BATCH + at, row));
        index.stage(changes.collect())?;
    }
    index.publish(epoch(rows.len()))?;
    while index.maintain()? {}
    Ok(())
}

/// Document `number` has this vector from `seq_no` on.
pub(crate) fn upsert(number: usize, seq_no: usize, row: &[f32]) -> Change {
    Change { doc: document(number), order: order(seq_no), kind: ChangeKind::Upsert(row.to_vec()) }
}

/// Document `number` is gone from `seq_no` on.
pub(crate) fn delete(number: usize, seq_no: usize) -> Change {
    Change { doc: document(number), order: order(seq_no), kind: ChangeKind::Delete }
}

fn document(number: usize) -> DocKey {
    DocKey::new(format!("doc-{number:015}"))
}

fn order(seq_no: usize) -> SeqNo {
    SeqNo { primary_term: 1, seq_no: seq_no as u64 }
}

/// The position at which changes below `count` are known.
pub(crate) fn epoch(count: usize) -> Epoch {
    Epoch { cursor: count as i64 - 1, max_seq_no: count as i64 - 1, primary_term: 1 }
}

/// The value of the k-th nearest of `rows` for each query.
pub(crate) fn floors(metric: Metric, rows: &[&[f32]], queries: &Vectors, k: usize) -> Vec<f32> {
    let queries: Vec<&[f32]> = queries.rows().collect();
    let floor = |query: &&[f32]| {
        let mut values: Vec<f32> = rows.iter().map(|row| value(metric, query, row)).collect();
        let at = k.min(values.len()) - 1;
        let nearest_first =
            |a: &f32, b: &f32| if metric.smaller_is_nearer() { a.total_cmp(b) } else { b.total_cmp(a) };
        *values.select_nth_unstable_by(at, nearest_first).1
    };
    queries.par_iter().map(floor).collect()
}

/// Whether a hit is as near as the k-th true neighbour: there are duplicates.
pub(crate) fn near_enough(metric: Metric, value: f32, floor: f32) -> bool {
    let slack = floor.abs() * 1e-5;
    if metric.smaller_is_nearer() { value <= floor + slack } else { value >= floor - slack }
}

fn value(metric: Metric, query: &[f32], row: &[f32]) -> f32 {
    if metric == Metric::L2 { ivf_kernels::l2_squared(query, row) } else { ivf_kernels::dot(query, row) }
}
