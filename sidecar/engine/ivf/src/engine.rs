//! All indexes of a node by their keys.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use knn_types::{EngineError, FieldSpec, IndexKey, KnnEngine, KnnIndex};
use parking_lot::Mutex;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::budget::{Budget, MemoryUse};
use crate::config::EngineConfig;
use crate::form;
use crate::index::Index;
use crate::snapshot::{self, Disk, Faults};

/// Lowers the priority of this thread: training can wait, what Elasticsearch and searches do meanwhile
/// cannot. Where the system does not allow it, training is only less polite.
fn step_back() {
    if let Err(reason) = rustix::process::setpriority_process(None, TRAINING_NICENESS) {
        tracing::debug!(%reason, "training runs at full priority");
    }
}

/// About a tenth of a processor that others want too; all of one that nobody wants.
const TRAINING_NICENESS: i32 = 10;

/// See [`KnnEngine`].
pub struct Engine {
    config: EngineConfig,
    pool: Arc<ThreadPool>,
    budget: Arc<Budget>,
    /// What may be held at once.
    holds: Arc<Budget>,
    open: Mutex<HashMap<IndexKey, Arc<Index>>>,
    /// Removed, but their files would not go: they must not be opened again as what they were.
    condemned: Mutex<HashSet<IndexKey>>,
    /// Lets tests make the disk fail.
    pub(crate) faults: Faults,
}

impl Engine {
    /// An engine over `config.data_dir`, which is created if need be.
    pub fn open(config: EngineConfig) -> Result<Engine, EngineError> {
        if let Some(dir) = &config.data_dir {
            std::fs::create_dir_all(dir)
                .map_err(|source| EngineError::Io { path: dir.display().to_string(), source })?;
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(config.train_threads.max(1))
            .thread_name(|number| format!("ivf-train-{number}"))
            .start_handler(|_| step_back())
            .build()
            .map_err(|error| EngineError::Training(error.to_string()))?;
        let (budget, holds) = (Budget::new(config.memory_budget), Budget::new(Some(config.hold_bytes)));
        let (open, condemned, faults) = (Mutex::default(), Mutex::default(), Faults::default());
        Ok(Engine { config, pool: Arc::new(pool), budget, holds, open, condemned, faults })
    }

    /// Where an index has its files; nowhere while those of one that was removed are in the way.
    fn disk(&self, key: &IndexKey) -> Option<Disk> {
        let disk = Disk::new(self.config.data_dir.as_ref()?, key, self.faults.clone());
        let mut condemned = self.condemned.lock();
        if condemned.contains(key) {
            if let Err(error) = disk.remove() {
                tracing::error!(index = %key, %error, "old files cannot be removed; the index has no snapshots");
                return None;
            }
            condemned.remove(key);
        }
        Some(disk)
    }

    /// What all open indexes hold in memory.
    pub fn memory_use(&self) -> MemoryUse {
        self.budget.memory_use()
    }

    /// What all open indexes hold of acknowledged changes, and how many of these were refused.
    pub fn hold_use(&self) -> MemoryUse {
        self.holds.memory_use()
    }
}

impl KnnEngine for Engine {
    fn open(&self, key: &IndexKey, spec: &FieldSpec) -> Result<Arc<dyn KnnIndex>, EngineError> {
        let spec = &form::field(spec)?;
        let mut open = self.open.lock();
        match open.get(key) {
            Some(index) if index.is_damaged() => index.set_aside(),
            Some(index) => {
                index.set_options(spec.options);
                return Ok(index.clone());
            }
            None => {}
        }
        let disk = self.disk(key);
        open.remove(key);
        let shares = (self.budget.share(), self.holds.share());
        let index = Index::open(key, spec, &self.config, Arc::clone(&self.pool), disk, shares);
        if !self.budget.fits(0) {
            let error = self.budget.refuse(0);
            tracing::warn!(index = %key, %error, "an index is not opened");
            return Err(error);
        }
        let index = Arc::new(index);
        open.insert(key.clone(), index.clone());
        Ok(index)
    }

    fn remove(&self, key: &IndexKey) {
        let mut open = self.open.lock();
        let removed = match open.remove(key) {
            Some(index) => index.remove_files(),
            None => self.disk(key).map_or(Ok(()), |disk| disk.remove()),
        };
        if let Err(error) = removed {
            tracing::warn!(index = %key, %error, "files of a removed index could not be removed");
            self.condemned.lock().insert(key.clone());
        }
    }

    fn sweep(&self, keep: &dyn Fn(&IndexKey) -> bool) {
        let Some(dir) = &self.config.data_dir else { return };
        // Held throughout, so that nothing is opened while its files go.
        let open = self.open.lock();
        let in_use: HashSet<String> = open.keys().map(snapshot::directory_name).collect();
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| snapshot::is_directory_name(name)) else { continue };
            let is_wanted =
                || in_use.contains(name) || snapshot::stored_key(&path).is_some_and(|key| keep(&key));
            if path.is_dir() && (snapshot::is_being_removed(name) || !is_wanted()) {
                let removed = Disk::of(&path, self.faults.clone()).remove();
                if let Err(error) = removed {
                    tracing::warn!(%error, "an index that nobody wants could not be removed");
                }
            }
        }
    }
}
