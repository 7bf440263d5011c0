//! All indexes of a node by their keys.

use std::collections::HashMap;
use std::sync::Arc;

use knn_types::{EngineError, FieldSpec, IndexKey, KnnEngine, KnnIndex};
use parking_lot::Mutex;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::config::EngineConfig;
use crate::index::Index;

/// See [`KnnEngine`].
pub struct Engine {
    config: EngineConfig,
    pool: Arc<ThreadPool>,
    open: Mutex<HashMap<IndexKey, Arc<Index>>>,
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
            .build()
            .map_err(|error| EngineError::Training(error.to_string()))?;
        Ok(Engine { config, pool: Arc::new(pool), open: Mutex::default() })
    }
}

impl KnnEngine for Engine {
    fn open(&self, key: &IndexKey, spec: &FieldSpec) -> Result<Arc<dyn KnnIndex>, EngineError> {
        let mut open = self.open.lock();
        if let Some(index) = open.get(key) {
            return Ok(index.clone());
        }
        let index = Arc::new(Index::empty(spec, self.config.exact_below, Arc::clone(&self.pool)));
        open.insert(key.clone(), index.clone());
        Ok(index)
    }

    fn remove(&self, key: &IndexKey) {
        self.open.lock().remove(key);
    }

    fn sweep(&self, _keep: &dyn Fn(&IndexKey) -> bool) {}
}
