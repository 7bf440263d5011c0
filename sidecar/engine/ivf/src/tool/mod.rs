//! The engine by itself, without any Elasticsearch: build an index from a file of vectors, search
//! it, look at it, check its files. What `outrigger engine build|search|stats|verify` calls.

mod kept;
mod measure;
mod vectors;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use knn_types::{
    Change, ChangeKind, DocKey, Element, EngineError, Epoch, FieldSpec, IndexKey, IvfOptions, KnnEngine,
    KnnIndex, Metric, SeqNo,
};
use serde::Serialize;

use crate::snapshot::{self, Summary};
use crate::{Engine, EngineConfig, Spill};

pub use kept::{Choice, Keep};
pub use measure::{SearchOptions, SearchReport, search};
pub use vectors::{Vectors, read_vectors};

/// Documents that are staged and published at a time.
const BATCH: usize = 4_096;

/// Why a tool gave up.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The engine could not do it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file is not what it should be.
    #[error("{path}: {reason}")]
    File {
        /// The file or directory.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ToolError {
    fn file(path: &Path, reason: impl ToString) -> Self {
        Self::File { path: path.display().to_string(), reason: reason.to_string() }
    }
}

/// What a build made.
#[derive(Clone, Debug, Serialize)]
pub struct BuildReport {
    /// Vectors indexed.
    pub vectors: u64,
    /// Dimensions.
    pub dims: usize,
    /// Number of lists; 0 for an exact scan.
    pub nlist: usize,
    /// Lists visited by default.
    pub nprobe: usize,
    /// Recall@10 that calibration measured at the default effort.
    pub recall: Option<f32>,
    /// Seconds to take the vectors in.
    pub load_seconds: f64,
    /// Seconds to train, assign, code and calibrate.
    pub train_seconds: f64,
    /// Seconds to write the snapshot.
    pub write_seconds: f64,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

/// The metric of a name: `l2`, `cosine`, `dot` or `mip`.
pub fn metric_named(name: &str) -> Option<Metric> {
    [Metric::L2, Metric::Cosine, Metric::Dot, Metric::MaxInnerProduct]
        .into_iter()
        .find(|metric| metric.name() == name)
}

/// Builds an index of the vectors in `data` below `dir`, replacing one that is there. Documents are
/// named by their row number. For [`Element::Bit`] eight dimensions stand in a byte of the file.
pub fn build(
    data: &Path,
    dir: &Path,
    element: Element,
    metric: Metric,
    options: IvfOptions,
    threads: usize,
    spill: Spill,
) -> Result<BuildReport, ToolError> {
    let started = Instant::now();
    let mut vectors = read_vectors(data)?;
    vectors.prepare(element, metric);
    let config = EngineConfig {
        data_dir: Some(dir.to_path_buf()),
        train_threads: threads,
        spill,
        ..EngineConfig::default()
    };
    let engine = Engine::open(config)?;
    let dims = if element == Element::Bit { vectors.dims() * 8 } else { vectors.dims() };
    engine.remove(&key());
    let index = engine.open(&key(), &FieldSpec { element, dims, metric, options })?;
    fill(&*index, &vectors)?;
    let load_seconds = started.elapsed().as_secs_f64();
    let started = Instant::now();
    while index.maintain()? {}
    let train_seconds = started.elapsed().as_secs_f64();
    let started = Instant::now();
    index.snapshot()?;
    let write_seconds = started.elapsed().as_secs_f64();
    let stats = index.stats();
    Ok(BuildReport {
        vectors: stats.docs,
        dims,
        nlist: stats.nlist,
        nprobe: stats.nprobe,
        recall: stats.recall,
        load_seconds,
        train_seconds,
        write_seconds,
        disk_bytes: stats.disk_bytes,
    })
}

/// What is known of every index below `dir`, from their newest snapshots.
pub fn stats(dir: &Path) -> Result<Vec<Summary>, ToolError> {
    let summaries = indexes(dir)?.into_iter().filter_map(|index| snapshot::summary(&index));
    Ok(summaries.collect())
}

/// One snapshot and what is wrong with it.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The snapshot's directory.
    pub path: PathBuf,
    /// `None`: sound.
    pub damage: Option<String>,
}

/// Reads every byte of every snapshot below `dir`. Changes nothing.
pub fn verify(dir: &Path) -> Result<Vec<Verdict>, ToolError> {
    let snapshots = indexes(dir)?.into_iter().flat_map(|index| snapshot::verify(&index));
    Ok(snapshots.map(|(path, result)| Verdict { path, damage: result.err() }).collect())
}

/// Directories of indexes below `dir`, in order.
fn indexes(dir: &Path) -> Result<Vec<PathBuf>, ToolError> {
    let entries = std::fs::read_dir(dir).map_err(|error| ToolError::file(dir, error))?;
    let is_index =
        |entry: &std::fs::DirEntry| entry.file_name().to_str().is_some_and(snapshot::is_directory_name);
    let mut found: Vec<PathBuf> = entries.flatten().filter(is_index).map(|entry| entry.path()).collect();
    found.sort();
    Ok(found)
}

/// The key of the index that the tools build.
fn key() -> IndexKey {
    IndexKey { index_uuid: "tool".into(), shard: 0, history_uuid: "tool".into(), field: "vector".into() }
}

/// Opens what [`build`] built, with options of its own.
fn open(dir: &Path, options: IvfOptions) -> Result<(Arc<dyn KnnIndex>, FieldSpec), ToolError> {
    let root = dir.join(snapshot::directory_name(&key()));
    let missing = || ToolError::file(&root, "no sound snapshot; `build` makes one");
    let summary = snapshot::summary(&root).ok_or_else(missing)?;
    let metric = metric_named(&summary.metric).ok_or_else(|| ToolError::file(&root, "unknown metric"))?;
    let element =
        Element::named(&summary.element).ok_or_else(|| ToolError::file(&root, "unknown element type"))?;
    let spec = FieldSpec { element, dims: summary.dims, metric, options };
    let engine = Engine::open(EngineConfig { data_dir: Some(dir.to_path_buf()), ..EngineConfig::default() })?;
    let index = engine.open(&key(), &spec)?;
    if index.view().is_empty() {
        return Err(missing());
    }
    Ok((index, spec))
}

fn fill(index: &dyn KnnIndex, vectors: &Vectors) -> Result<(), ToolError> {
    let mut row_number = 0u64;
    for batch in vectors.values().chunks(BATCH * vectors.dims()) {
        let change = |row: &[f32]| {
            let order = SeqNo { primary_term: 1, seq_no: row_number };
            row_number += 1;
            Change {
                doc: DocKey::new(order.seq_no.to_string()),
                order,
                kind: ChangeKind::Upsert(row.to_vec()),
            }
        };
        index.stage(batch.chunks_exact(vectors.dims()).map(change).collect())?;
        // At once, so that the memory of one batch serves the next.
        let last = row_number as i64 - 1;
        index.publish(Epoch { cursor: last, max_seq_no: last, primary_term: 1 })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
