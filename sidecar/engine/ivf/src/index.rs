//! The index of one field on one shard history: joins the writer with what searches see.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use knn_types::{
    BuildState, Change, ChangeKind, DocKey, EngineError, Epoch, FieldSpec, IndexStats, KnnIndex, KnnView,
    Query, SeqNo,
};
use parking_lot::Mutex;
use rayon::ThreadPool;

use crate::cost::Costs;
use crate::heads::Tombstones;
use crate::keys;
use crate::lists::Lists;
use crate::store::Store;
use crate::view::View;
use crate::writer::{CodedBatch, Writer};

/// See [`KnnIndex`].
pub(crate) struct Index {
    pub(crate) spec: FieldSpec,
    pub(crate) exact_below: usize,
    pub(crate) pool: Arc<ThreadPool>,
    costs: Arc<Costs>,
    pub(crate) writer: Mutex<Writer>,
    /// What searches see.
    pub(crate) published: ArcSwap<View>,
    /// Held by the one upkeep that may run.
    pub(crate) maintenance: Mutex<()>,
    pub(crate) training: AtomicBool,
}

impl Index {
    pub(crate) fn new(spec: &FieldSpec, exact_below: usize, pool: Arc<ThreadPool>, writer: Writer) -> Self {
        let costs = Arc::new(Costs::guess(spec.dims));
        let view = view_of(&writer, spec, &costs);
        Self {
            spec: *spec,
            exact_below,
            pool,
            costs,
            writer: Mutex::new(writer),
            published: ArcSwap::from_pointee(view),
            maintenance: Mutex::new(()),
            training: AtomicBool::new(false),
        }
    }

    pub(crate) fn empty(spec: &FieldSpec, exact_below: usize, pool: Arc<ThreadPool>) -> Self {
        let writer = Writer::new(Store::new(spec.dims), None, Epoch::EMPTY, Tombstones::default());
        Self::new(spec, exact_below, pool, writer)
    }

    /// Makes the writer's state what searches see. Called with the writer locked, so states appear
    /// in order.
    pub(crate) fn show(&self, writer: &Writer) {
        self.published.store(Arc::new(view_of(writer, &self.spec, &self.costs)));
    }

    /// Codes the vectors of a batch before the writer is locked.
    fn code(&self, changes: &[Change]) -> Result<CodedBatch, EngineError> {
        let want = self.spec.dims;
        let mut rows = Vec::new();
        let view = self.published.load();
        for change in changes {
            if let ChangeKind::Upsert(vector) = &change.kind {
                if vector.len() != want {
                    return Err(EngineError::Dims { got: vector.len(), want });
                }
                if view.lists.is_some() {
                    rows.extend_from_slice(vector);
                }
            }
        }
        let Some(lists) = &view.lists else { return Ok(CodedBatch::default()) };
        let generation = Arc::clone(&lists.generation);
        Ok(CodedBatch { generation: generation.id, entries: generation.encode_entries(&mut rows) })
    }

    /// Documents and orders as if everything staged were published, without holding the lock
    /// while `visit` runs over the published ones.
    fn census(&self, mut visit: impl FnMut(&dyn Fn() -> DocKey, SeqNo)) {
        let (store, staged) = {
            let writer = self.writer.lock();
            let staged: HashMap<Box<[u8]>, Option<SeqNo>> = writer
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

fn view_of(writer: &Writer, spec: &FieldSpec, costs: &Arc<Costs>) -> View {
    View {
        epoch: writer.epoch,
        spec: *spec,
        store: writer.store.clone(),
        lists: writer.lists.clone(),
        costs: Arc::clone(costs),
    }
}

impl KnnIndex for Index {
    fn stage(&self, changes: Vec<Change>) -> Result<(), EngineError> {
        let coded = self.code(&changes)?;
        self.writer.lock().stage(changes, coded);
        Ok(())
    }

    fn publish(&self, epoch: Epoch) -> Result<(), EngineError> {
        let mut writer = self.writer.lock();
        if !writer.staged.is_empty() || writer.epoch != epoch {
            writer.publish(epoch);
            self.show(&writer);
        }
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
        self.upkeep()
    }

    fn snapshot(&self) -> Result<bool, EngineError> {
        Ok(false)
    }

    fn stats(&self) -> IndexStats {
        let view = self.published.load_full();
        let (staged, side_bytes) = {
            let writer = self.writer.lock();
            (writer.staged.len() as u64, writer.heads.memory_bytes() + writer.tombstones.memory_bytes())
        };
        let lists = view.lists.as_ref();
        let state = match lists {
            Some(_) => BuildState::Lists,
            None if self.training.load(Ordering::Relaxed) => BuildState::Training,
            None => BuildState::Exact,
        };
        let default = Query { vector: &[], k: 10, num_candidates: 15, nprobe: None };
        IndexStats {
            docs: view.store.live() as u64,
            staged,
            epoch: view.epoch,
            state,
            nlist: lists.map_or(0, Lists::nlist),
            nprobe: lists.map_or(0, |lists| view.effort(lists, &default).nprobe),
            recall: lists.and_then(|lists| lists.generation.curve.default_recall()),
            imbalance: lists.map_or(1.0, Lists::imbalance),
            memory_bytes: view.store.memory_bytes()
                + lists.map_or(0, |lists| lists.memory_bytes() as u64)
                + side_bytes
                + staged * (self.spec.dims as u64 * 4 + 160),
            disk_bytes: 0,
        }
    }
}
