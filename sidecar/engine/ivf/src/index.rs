//! The index of one field on one shard history: joins the writer with what searches see.

use std::sync::Arc;

use arc_swap::ArcSwap;
use knn_types::{
    BuildState, Change, DocKey, EngineError, Epoch, FieldSpec, IndexStats, KnnIndex, KnnView, SeqNo,
};
use parking_lot::Mutex;

use crate::cost::Costs;
use crate::heads::Tombstones;
use crate::keys;
use crate::store::Store;
use crate::view::View;
use crate::writer::Writer;

/// See [`KnnIndex`].
pub(crate) struct Index {
    spec: FieldSpec,
    costs: Arc<Costs>,
    writer: Mutex<Writer>,
    /// What searches see.
    published: ArcSwap<View>,
}

impl Index {
    pub(crate) fn empty(spec: &FieldSpec) -> Self {
        let costs = Arc::new(Costs::guess(spec.dims));
        let store = Store::new(spec.dims);
        let view = View {
            epoch: Epoch::EMPTY,
            metric: spec.metric,
            store: store.clone(),
            costs: Arc::clone(&costs),
        };
        Self {
            spec: *spec,
            costs,
            writer: Mutex::new(Writer::new(store, Epoch::EMPTY, Tombstones::default())),
            published: ArcSwap::from_pointee(view),
        }
    }

    /// Makes the writer's state what searches see. Called with the writer locked, so states appear
    /// in order.
    fn show(&self, writer: &Writer) {
        self.published.store(Arc::new(View {
            epoch: writer.epoch,
            metric: self.spec.metric,
            store: writer.store.clone(),
            costs: Arc::clone(&self.costs),
        }));
    }

    /// Documents and orders as if everything staged were published, without holding the lock
    /// while `visit` runs over the published ones.
    fn census(&self, mut visit: impl FnMut(&dyn Fn() -> DocKey, SeqNo)) {
        let (store, staged) = {
            let writer = self.writer.lock();
            let staged: std::collections::HashMap<Box<[u8]>, Option<SeqNo>> = writer
                .staged
                .iter()
                .map(|(key, change)| (key.clone(), change.vector.is_some().then_some(change.order)))
                .collect();
            (writer.store.clone(), staged)
        };
        for slot in store.live_slots() {
            if staged.is_empty() || !staged.contains_key(store.key(slot)) {
                visit(&|| store.doc(slot), store.order(slot));
            }
        }
        for (key, order) in &staged {
            if let Some(order) = order {
                visit(&|| keys::decode(key).expect("staged keys are encoded"), *order);
            }
        }
    }
}

impl KnnIndex for Index {
    fn stage(&self, changes: Vec<Change>) -> Result<(), EngineError> {
        self.writer.lock().stage(changes)
    }

    fn publish(&self, epoch: Epoch) -> Result<(), EngineError> {
        let mut writer = self.writer.lock();
        if writer.staged.is_empty() && writer.epoch == epoch {
            return Ok(());
        }
        writer.publish(epoch);
        self.show(&writer);
        Ok(())
    }

    fn rollback_above(&self, order: SeqNo) -> Result<(), EngineError> {
        let mut writer = self.writer.lock();
        writer.rollback_above(order);
        self.show(&writer);
        Ok(())
    }

    fn view(&self) -> Arc<dyn KnnView> {
        self.published.load_full()
    }

    fn live(&self) -> u64 {
        self.writer.lock().live()
    }

    fn order_of(&self, doc: &DocKey) -> Option<SeqNo> {
        self.writer.lock().order_of(doc)
    }

    fn counts_by_seq_no(&self, width: u64) -> Vec<u64> {
        let width = width.max(1);
        let mut counts = Vec::new();
        self.census(|_, order| {
            let range = (order.seq_no / width) as usize;
            if counts.len() <= range {
                counts.resize(range + 1, 0);
            }
            counts[range] += 1;
        });
        counts
    }

    fn docs_between(&self, from: u64, to: u64) -> Vec<(DocKey, SeqNo)> {
        let mut docs = Vec::new();
        self.census(|doc, order| {
            if (from..to).contains(&order.seq_no) {
                docs.push((doc(), order));
            }
        });
        docs
    }

    fn maintain(&self) -> Result<bool, EngineError> {
        Ok(false)
    }

    fn snapshot(&self) -> Result<bool, EngineError> {
        Ok(false)
    }

    fn stats(&self) -> IndexStats {
        let writer = self.writer.lock();
        let staged_bytes = writer.staged.len() as u64 * (self.spec.dims as u64 * 4 + 96);
        IndexStats {
            docs: writer.store.live() as u64,
            staged: writer.staged.len() as u64,
            epoch: writer.epoch,
            state: BuildState::Exact,
            nlist: 0,
            nprobe: 0,
            recall: None,
            imbalance: 1.0,
            memory_bytes: writer.store.memory_bytes()
                + writer.heads.memory_bytes()
                + writer.tombstones.memory_bytes()
                + staged_bytes,
            disk_bytes: 0,
        }
    }
}
