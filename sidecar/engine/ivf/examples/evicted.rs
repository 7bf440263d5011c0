//! Searches whose vectors are on the disk: codes are in memory, rows are dropped from the page cache
//! before every pass.
//!
//! ```text
//! cargo run --release -p ivf-index --example evicted -- BASE METRIC QUERIES DIR
//! ```
//!
//! The first run builds an index in DIR, a second one measures. Each pass opens the index anew, so
//! that nothing maps its files while they are dropped, and asks a part of the queries: few enough that
//! rows are seldom met twice. Beside them stand the disk's own random reads in the same process.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ivf_index::tool::{metric_named, read_vectors};
use ivf_index::{Engine, EngineConfig};
use knn_types::{Element, FieldSpec, IndexKey, IvfOptions, KnnEngine, KnnIndex, KnnView, Query};
use rand::{Rng, SeedableRng};
use rustix::fs::{Advice, fadvise};

mod common;
use common::{Failure, fill};

/// Queries of a pass.
const PASS: usize = 50;
const PAGE: usize = 4_096;
/// Reads that a search has under way at once.
const ANNOUNCED: u64 = 16;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [base, metric, queries, dir] = args.as_slice() else {
        return Err("usage: evicted BASE METRIC QUERIES DIR".into());
    };
    let metric = metric_named(metric).ok_or("metric: l2, cosine, dot or mip")?;
    let mut queries = read_vectors(Path::new(queries))?;
    queries.prepare(Element::Float, metric);
    let spec =
        FieldSpec { element: Element::Float, dims: queries.dims(), metric, options: IvfOptions::default() };
    let dir = Path::new(dir);
    let index = open(dir, &spec)?;
    if index.view().is_empty() {
        let mut base = read_vectors(Path::new(base))?;
        base.prepare(Element::Float, metric);
        fill(&*index, &base.rows().collect::<Vec<_>>())?;
        index.snapshot()?;
        println!("built; run it again to measure");
        return Ok(());
    }
    drop(index);
    let queries: Vec<&[f32]> = queries.rows().collect();

    let rows = rows_below(dir)?;
    for threads in [1, ANNOUNCED] {
        drop_pages(&rows)?;
        let reads = random_reads(&rows, threads)?;
        println!("disk: {reads:.0} random reads of 4 KiB a second, {threads} at a time");
    }
    let (mut cold, mut asked) = (Measured::default(), 0);
    for part in queries.chunks(PASS).take(20) {
        drop_pages(&rows)?;
        cold.add(&*open(dir, &spec)?.view(), part)?;
        asked += part.len();
    }
    println!("evicted: {}", cold.line(asked));
    let index = open(dir, &spec)?;
    let view = index.view();
    Measured::default().add(&*view, &queries)?;
    let mut warm = Measured::default();
    warm.add(&*view, &queries)?;
    println!("in memory: {}", warm.line(queries.len()));
    Ok(())
}

/// What searches took together.
#[derive(Default)]
struct Measured {
    took: Duration,
    rows: usize,
    from_disk: u64,
}

impl Measured {
    fn add(&mut self, view: &dyn KnnView, queries: &[&[f32]]) -> Result<(), Failure> {
        let (started, before) = (Instant::now(), bytes_read()?);
        for vector in queries {
            let query = Query::new(vector, 10);
            self.rows += view.search(&query)?.stats.reranked;
        }
        self.took += started.elapsed();
        self.from_disk += bytes_read()? - before;
        Ok(())
    }

    fn line(&self, queries: usize) -> String {
        let each = |count: f64| count / queries as f64;
        format!(
            "{:.0} q/s on one thread; per query {:.1} vectors compared, {:.1} pages from disk",
            queries as f64 / self.took.as_secs_f64(),
            each(self.rows as f64),
            each(self.from_disk as f64 / PAGE as f64)
        )
    }
}

fn open(dir: &Path, spec: &FieldSpec) -> Result<std::sync::Arc<dyn KnnIndex>, Failure> {
    let config =
        EngineConfig { data_dir: Some(dir.to_path_buf()), train_threads: 2, ..EngineConfig::default() };
    let key = IndexKey { index_uuid: "bench".into(), shard: 0, history_uuid: "h".into(), field: "v".into() };
    Ok(Engine::open(config)?.open(&key, spec)?)
}

fn rows_below(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut rows = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            rows.extend(rows_below(&path)?);
        } else if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("rows-")) {
            rows.push(path);
        }
    }
    Ok(rows)
}

fn drop_pages(files: &[PathBuf]) -> Result<(), Failure> {
    for path in files {
        fadvise(File::open(path)?, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// Reads pages here and there, at most for a second.
fn random_reads(files: &[PathBuf], threads: u64) -> Result<f64, Failure> {
    let file = File::open(files.first().ok_or("no rows")?)?;
    let pages = file.metadata()?.len() / PAGE as u64;
    fadvise(&file, 0, None, Advice::Random)?;
    let (started, before) = (Instant::now(), bytes_read()?);
    let read = &|seed: u64| -> std::io::Result<()> {
        let mut rng = rand_xoshiro::Xoshiro256Plus::seed_from_u64(seed);
        let (mut page, mut reads) = ([0; PAGE], 0);
        while started.elapsed() < Duration::from_secs(1) && reads < pages / 8 / threads {
            file.read_exact_at(&mut page, rng.gen_range(0..pages) * PAGE as u64)?;
            reads += 1;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let reading: Vec<_> = (0..threads).map(|seed| scope.spawn(move || read(seed))).collect();
        reading.into_iter().try_for_each(|thread| thread.join().expect("reading does not panic"))
    })?;
    let took = started.elapsed().as_secs_f64();
    // Pages that were met twice came from memory.
    Ok((bytes_read()? - before) as f64 / PAGE as f64 / took)
}

/// Bytes that this process made the disk read.
fn bytes_read() -> Result<u64, Failure> {
    let io = fs::read_to_string("/proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("read_bytes: ")).ok_or("Linux")?;
    Ok(line.parse()?)
}
