//! What an entry costs inside the engine against the bare kernel that streams codes from the
//! last-level cache, in the same run and in alternating rounds.
//!
//! `scan_cost BASE METRIC QUERIES GROUPS [ROUNDS]`: files as `ivf_index::tool` reads them; GROUPS is
//! the number of nibbles of an entry's code (dims × bits / 4). Prints one line of JSON.
//!
//! Inside the engine: the time of a query at two numbers of lists, less what the additional exact
//! comparisons cost (measured by themselves, rows at random), over the additional entries.

mod common;

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use common::Failure;
use ivf_index::tool::{Vectors, metric_named, read_vectors};
use ivf_kernels::{BLOCK, BlockShape, Candidates, Lut, Run};
use knn_types::{Element, KnnIndex, Metric, Query};
use serde_json::json;

/// Codes that do not fit in the second-level cache of any current processor, and do in the third.
const STREAM: usize = 8 << 20;
/// Few lists and many.
const LISTS: [usize; 2] = [32, 160];
const K: usize = 10;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [base, metric, queries, groups, rest @ ..] = args.as_slice() else {
        return Err("usage: scan_cost BASE METRIC QUERIES GROUPS [ROUNDS]".into());
    };
    let metric = metric_named(metric).ok_or("metric: l2, cosine, dot or mip")?;
    let groups: usize = groups.parse()?;
    let rounds: usize = rest.first().map_or(Ok(9), |rounds| rounds.parse())?;
    let (mut base, mut queries) = (read_vectors(Path::new(base))?, read_vectors(Path::new(queries))?);
    base.prepare(Element::Float, metric);
    queries.prepare(Element::Float, metric);
    let rows: Vec<&[f32]> = base.rows().collect();
    let index = common::empty(base.dims(), metric)?;
    common::fill(&*index, &rows)?;
    if index.stats().nlist < LISTS[1] {
        return Err(format!("{} lists are too few to tell", index.stats().nlist).into());
    }

    let mut stream = Stream::new(groups);
    let mut samples = Vec::new();
    let default = Cost::of(&*index, &queries, None)?;
    for _ in 0..rounds {
        let kernel = stream.nanoseconds();
        let exact = exact_nanoseconds(metric, &rows, &queries);
        let few = Cost::of(&*index, &queries, Some(LISTS[0]))?;
        let many = Cost::of(&*index, &queries, Some(LISTS[1]))?;
        let scan = many.nanoseconds - few.nanoseconds - exact * (many.reranked - few.reranked);
        samples.push(json!({
            "kernel_ns": kernel, "engine_ns": scan / (many.scanned - few.scanned), "exact_ns": exact,
        }));
    }
    println!(
        "{}",
        json!({
            "vectors": rows.len(), "dims": base.dims(), "metric": metric.name(), "groups": groups,
            "kernels": ivf_kernels::level().name(), "streamed_bytes": STREAM, "nlist": index.stats().nlist,
            "whole_query": { "ns": default.nanoseconds, "scanned": default.scanned, "reranked": default.reranked },
            "rounds": samples,
        })
    );
    Ok(())
}

/// Blocks of codes, one after the other.
struct Stream {
    shape: BlockShape,
    lines: Vec<ivf_kernels::Line>,
    names: Vec<u32>,
    lut: Lut,
    found: Candidates,
}

impl Stream {
    fn new(groups: usize) -> Self {
        let shape = BlockShape::for_groups(groups);
        let (mut lines, mut blocks) = (Vec::new(), 0u32);
        let mut nibbles = vec![0; groups];
        while lines.len() * 64 < STREAM {
            let from = lines.len();
            shape.push_block(&mut lines);
            for at in 0..BLOCK {
                let seed = blocks * BLOCK as u32 + at as u32;
                for (group, nibble) in nibbles.iter_mut().enumerate() {
                    *nibble =
                        (((seed.wrapping_mul(2_654_435_761) >> 7) as usize * (group + 1)) >> 3) as u8 & 0xf;
                }
                shape.put(&mut lines[from..], at, &nibbles, 1.0, 0.01);
            }
            blocks += 1;
        }
        let tables: Vec<[f32; 16]> =
            (0..groups).map(|g| std::array::from_fn(|w| ((g * 31 + w * 17) % 97) as f32)).collect();
        let mut lut = Lut::default();
        lut.set(shape, &tables);
        Self { shape, lines, names: (0..blocks * BLOCK as u32).collect(), lut, found: Candidates::default() }
    }

    /// Nanoseconds per entry, the least of some passes in runs as long as a list; no entry survives.
    fn nanoseconds(&mut self) -> f64 {
        const RUN: usize = 4;
        let lines = RUN * self.shape.lines();
        let pass = |stream: &mut Self| {
            let began = Instant::now();
            for (lines, names) in stream.lines.chunks(lines).zip(stream.names.chunks(RUN * BLOCK)) {
                stream.found.clear();
                let (slack, limit) = (0.0, f32::NEG_INFINITY);
                let run = Run { blocks: lines, names, base: 0.0, slack, limit, ahead: lines };
                ivf_kernels::scan(stream.shape, &stream.lut, &run, &mut stream.found);
                black_box(&stream.found);
            }
            began.elapsed().as_nanos() as f64 / stream.names.len() as f64
        };
        (0..5).map(|_| pass(self)).fold(f64::INFINITY, f64::min)
    }
}

/// Nanoseconds of one exact comparison, rows at random and fetched ahead as a search does it.
fn exact_nanoseconds(metric: Metric, rows: &[&[f32]], queries: &Vectors) -> f64 {
    const DEPTH: usize = 64;
    const AHEAD: usize = 4;
    let row = |number: usize| rows[number.wrapping_mul(2_654_435_761) % rows.len()];
    let began = Instant::now();
    for (query, vector) in queries.rows().enumerate() {
        for number in query * DEPTH..(query + 1) * DEPTH {
            ivf_kernels::prefetch_row(row(number + AHEAD));
            black_box(match metric {
                Metric::L2 => ivf_kernels::l2_squared(vector, row(number)),
                _ => ivf_kernels::dot(vector, row(number)),
            });
        }
    }
    began.elapsed().as_nanos() as f64 / (queries.len() * DEPTH) as f64
}

/// Means of one query.
struct Cost {
    nanoseconds: f64,
    scanned: f64,
    reranked: f64,
}

impl Cost {
    fn of(index: &dyn KnnIndex, queries: &Vectors, nprobe: Option<usize>) -> Result<Self, Failure> {
        let view = index.view();
        let mut best = Cost { nanoseconds: f64::INFINITY, scanned: 0.0, reranked: 0.0 };
        let count = queries.len() as f64;
        for _ in 0..3 {
            let (mut scanned, mut reranked) = (0, 0);
            let began = Instant::now();
            for vector in queries.rows() {
                let found = view.search(&Query { nprobe, ..Query::new(vector, K) })?;
                scanned += found.stats.scanned;
                reranked += found.stats.reranked;
            }
            let nanoseconds = began.elapsed().as_nanos() as f64 / count;
            if nanoseconds < best.nanoseconds {
                best =
                    Cost { nanoseconds, scanned: scanned as f64 / count, reranked: reranked as f64 / count };
            }
        }
        Ok(best)
    }
}
