//! What the binary decides for the engine; each value has one default, here.

use std::path::PathBuf;

/// Whether vectors also stand in a second list, where it takes the errors of the first (SOAR, arXiv
/// 2404.00774): fewer lists are visited for the same recall, and codes take twice the memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spill {
    /// One list.
    Off,
    /// Two lists where the calibration sample shows that it pays and codes stay small.
    #[default]
    Auto,
    /// Two lists.
    On,
}

/// Configuration of an [`crate::Engine`].
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Where snapshots live, one directory per index; `None` keeps everything in memory.
    pub data_dir: Option<PathBuf>,
    /// Threads for training and calibration, in a pool of their own. Default: half of the CPUs.
    pub train_threads: usize,
    /// Shards with fewer live vectors are scanned exactly.
    pub exact_below: usize,
    /// Bytes that all indexes together may hold in memory, vectors in files not counted; `None`: no
    /// limit. At the limit vectors go to files; where that is not enough, new indexes, training and
    /// further vectors are refused with [`knn_types::EngineError::Memory`].
    pub memory_budget: Option<u64>,
    /// Bytes of acknowledged changes that all indexes together hold until a search shows them; they
    /// count against `memory_budget` too. What does not fit is refused, and the caller learns it later.
    pub hold_bytes: u64,
    /// Second lists, from the next training on.
    pub spill: Spill,
}

impl Default for EngineConfig {
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            data_dir: None,
            train_threads: (cpus / 2).max(1),
            exact_below: 4_096,
            memory_budget: None,
            hold_bytes: 128 << 20,
            spill: Spill::default(),
        }
    }
}
