//! One published state. It never changes; a search reads it without waiting for anybody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use knn_types::{EngineError, Epoch, Found, Hit, KnnView, Metric, Query, SearchStats};

use crate::cost::Costs;
use crate::exact;
use crate::store::Store;
use crate::topk::Ranked;

/// See [`KnnView`].
pub(crate) struct View {
    pub(crate) epoch: Epoch,
    pub(crate) metric: Metric,
    pub(crate) store: Store,
    pub(crate) costs: Arc<Costs>,
}

impl KnnView for View {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn len(&self) -> usize {
        self.store.live()
    }

    fn search(&self, query: &Query<'_>) -> Result<Found, EngineError> {
        if query.vector.len() != self.store.dims() {
            return Err(EngineError::Dims { got: query.vector.len(), want: self.store.dims() });
        }
        let started = Instant::now();
        let best = exact::scan(&self.store, self.metric, query.vector, query.k);
        let scanned = self.store.live();
        self.costs.exact_took(scanned, started.elapsed());
        Ok(Found {
            hits: best.iter().map(|entry| self.hit(entry)).collect(),
            stats: SearchStats { lists: 0, scanned: 0, reranked: scanned },
        })
    }

    fn predicted_cost(&self, _query: &Query<'_>) -> Duration {
        self.costs.exact(self.store.live())
    }
}

impl View {
    fn hit(&self, entry: &Ranked) -> Hit {
        Hit {
            doc: self.store.doc(entry.slot),
            order: self.store.order(entry.slot),
            value: exact::rank(self.metric, entry.rank),
        }
    }
}
