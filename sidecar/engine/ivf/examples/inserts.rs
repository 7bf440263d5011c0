//! Searches while documents come in: one thread searches at full speed, another stages, publishes
//! and keeps up the index, at a fixed rate of documents. Quiet and busy phases alternate.
//!
//! `inserts BASE METRIC QUERIES [RATE] [SECONDS] [ROUNDS]`: files as `ivf_index::tool` reads them;
//! RATE (20,000) documents a second, for SECONDS (2) in each of ROUNDS (5). New documents first;
//! when they are used up, updates of old ones. Prints one line of JSON.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::Failure;
use ivf_index::tool::{Vectors, metric_named, read_vectors};
use knn_types::{Element, KnnIndex, Query};
use serde_json::{Value, json};

const K: usize = 10;
/// Documents that are published at a time.
const BATCH: usize = 500;
/// Share of the rows that are there before the first measurement.
const FIRST: f64 = 0.8;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [base, metric, queries, rest @ ..] = args.as_slice() else {
        return Err("usage: inserts BASE METRIC QUERIES [RATE] [SECONDS] [ROUNDS]".into());
    };
    let metric = metric_named(metric).ok_or("metric: l2, cosine, dot or mip")?;
    let rate: f64 = rest.first().map_or(Ok(20_000.0), |rate| rate.parse())?;
    let seconds: f64 = rest.get(1).map_or(Ok(2.0), |seconds| seconds.parse())?;
    let rounds: usize = rest.get(2).map_or(Ok(5), |rounds| rounds.parse())?;
    let (mut base, mut queries) = (read_vectors(Path::new(base))?, read_vectors(Path::new(queries))?);
    base.prepare(Element::Float, metric);
    queries.prepare(Element::Float, metric);

    let rows: Vec<&[f32]> = base.rows().collect();
    let first = (rows.len() as f64 * FIRST) as usize;
    let index = common::empty(base.dims(), metric)?;
    common::fill(&*index, &rows[..first])?;
    let mut writer = Writer { index: &*index, rows: &rows, next: first, took: Took::default() };
    let phase = Duration::from_secs_f64(seconds);
    searching(&*index, &queries, |_| std::thread::sleep(phase))?;
    let mut reports: Vec<Value> = Vec::new();
    for _ in 0..rounds {
        let idle = searching(&*index, &queries, |_| std::thread::sleep(phase))?.0;
        writer.took = Took::default();
        let (busy, written) = searching(&*index, &queries, |failed| writer.write(rate, phase, failed))?;
        let written = written?;
        reports.push(json!({
            "idle": latencies(idle), "busy": latencies(busy), "written": written.documents,
            "per_second": written.documents as f64 / written.elapsed.as_secs_f64(),
            "per_busy_second": written.documents as f64 / writer.took.all().as_secs_f64(),
            "stage_s": writer.took.stage.as_secs_f64(), "publish_s": writer.took.publish.as_secs_f64(),
            "upkeep_s": writer.took.upkeep.as_secs_f64(), "upkeep_longest_s": writer.took.longest.as_secs_f64(),
        }));
    }
    let stats = index.stats();
    println!(
        "{}",
        json!({
            "vectors": stats.docs, "dims": base.dims(), "metric": metric.name(), "rate": rate, "nlist": stats.nlist,
            "batch": BATCH, "rounds": reports,
        })
    );
    Ok(())
}

/// Runs `work` while another thread searches; returns microseconds of each search, and what the work gave.
fn searching<T>(
    index: &dyn KnnIndex,
    queries: &Vectors,
    work: impl FnOnce(&AtomicBool) -> T,
) -> Result<(Vec<f64>, T), Failure> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let searcher = scope.spawn(|| {
            let mut times = Vec::new();
            for vector in queries.rows().cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let began = Instant::now();
                // A view for each search, as the proxy takes it: so what was published is seen.
                let found = index.view().search(&Query {
                    vector,
                    k: K,
                    num_candidates: K + K / 2,
                    nprobe: None,
                    filter: None,
                })?;
                times.push(began.elapsed().as_secs_f64() * 1e6);
                assert_eq!(found.hits.len(), K, "a search came back short");
            }
            Ok::<_, knn_types::EngineError>(times)
        });
        let done = work(&over);
        over.store(true, Ordering::Relaxed);
        let times = searcher.join().expect("a search does not panic")?;
        Ok((times, done))
    })
}

/// Brings documents in.
struct Writer<'a> {
    index: &'a dyn KnnIndex,
    rows: &'a [&'a [f32]],
    /// Documents that came so far; beyond the rows they are updates.
    next: usize,
    took: Took,
}

/// Time of the writer's thread by what it did.
#[derive(Default)]
struct Took {
    stage: Duration,
    publish: Duration,
    upkeep: Duration,
    longest: Duration,
}

impl Took {
    fn all(&self) -> Duration {
        self.stage + self.publish + self.upkeep
    }
}

/// What one phase wrote.
struct Written {
    documents: usize,
    elapsed: Duration,
}

impl Writer<'_> {
    /// Writes at `rate` for so long, as many batches as the rate wants: one that is late does not wait.
    fn write(&mut self, rate: f64, phase: Duration, over: &AtomicBool) -> Result<Written, Failure> {
        let began = Instant::now();
        let batches = (rate * phase.as_secs_f64() / BATCH as f64).ceil() as usize;
        for batch in 0..batches {
            let due = began + Duration::from_secs_f64((batch * BATCH) as f64 / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if let Err(failure) = self.batch() {
                over.store(true, Ordering::Relaxed);
                return Err(failure);
            }
        }
        Ok(Written { documents: batches * BATCH, elapsed: began.elapsed().max(phase) })
    }

    fn batch(&mut self) -> Result<(), Failure> {
        let count = self.rows.len();
        // An update puts another row under an old name.
        let change = |seq_no: usize| {
            let row = if seq_no < count { seq_no } else { (seq_no * 7_919) % count };
            common::upsert(seq_no % count, seq_no, self.rows[row])
        };
        let changes = (self.next..self.next + BATCH).map(change).collect();
        self.next += BATCH;
        let began = Instant::now();
        self.index.stage(changes)?;
        let staged = Instant::now();
        self.index.publish(common::epoch(self.next))?;
        let published = Instant::now();
        while self.index.maintain()? {}
        self.took.stage += staged - began;
        self.took.publish += published - staged;
        self.took.upkeep += published.elapsed();
        self.took.longest = self.took.longest.max(published.elapsed());
        Ok(())
    }
}

fn latencies(mut times: Vec<f64>) -> Value {
    times.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| times.get(((times.len().max(1) - 1) as f64 * share).round() as usize);
    json!({ "searches": times.len(), "p50_us": at(0.5), "p99_us": at(0.99), "max_us": times.last() })
}
