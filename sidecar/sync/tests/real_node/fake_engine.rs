//! An engine in memory, as simple as the ports allow: a map of documents, a published copy of it, and
//! a "disk" that outlives it. It keeps count of what it was given and of every published state, so
//! that tests can see what travelled and in which steps it became visible.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use knn_types::*;
use parking_lot::Mutex;

type Documents = BTreeMap<DocKey, (SeqNo, Vec<f32>)>;
type Disk = Arc<Mutex<HashMap<IndexKey, (Documents, Epoch)>>>;

#[derive(Default)]
pub(crate) struct FakeEngine {
    open: Mutex<HashMap<IndexKey, Arc<FakeIndex>>>,
    disk: Disk,
    /// Vectors that were staged, not out of what was held.
    pub(crate) upserts: Arc<AtomicU64>,
    /// Held changes that were confirmed.
    pub(crate) confirmed: Arc<AtomicU64>,
    /// Published states are kept only where a test asks for them.
    keep_history: bool,
}

impl FakeEngine {
    /// Remembers every published state.
    pub(crate) fn keeping_history() -> Self {
        Self { keep_history: true, ..Self::default() }
    }

    /// Another engine on the same disk, as after a restart of the process.
    pub(crate) fn restarted(&self) -> Self {
        Self { disk: Arc::clone(&self.disk), ..Self::default() }
    }

    /// Published documents of all shards of a field.
    pub(crate) fn documents(&self, uuid: &str, field: &str) -> Vec<(u32, DocKey, SeqNo, Vec<f32>)> {
        let open = self.open.lock();
        let of_field = open.iter().filter(|(key, _)| &*key.index_uuid == uuid && &*key.field == field);
        let mut documents = Vec::new();
        for (key, index) in of_field {
            let state = index.state.lock();
            for (doc, (order, vector)) in &state.view.documents {
                documents.push((key.shard, doc.clone(), *order, vector.clone()));
            }
        }
        documents
    }

    /// Documents of an index that a snapshot holds.
    pub(crate) fn saved(&self, uuid: &str) -> usize {
        let disk = self.disk.lock();
        disk.iter()
            .filter(|(key, _)| &*key.index_uuid == uuid)
            .map(|(_, (documents, _))| documents.len())
            .sum()
    }

    pub(crate) fn states(&self, uuid: &str) -> Vec<Documents> {
        let open = self.open.lock();
        let index = open.iter().find(|(key, _)| &*key.index_uuid == uuid);
        index.map(|(_, index)| index.state.lock().history.clone()).unwrap_or_default()
    }

    pub(crate) fn knows(&self, uuid: &str) -> bool {
        let of_index = |key: &IndexKey| &*key.index_uuid == uuid;
        self.open.lock().keys().any(of_index) || self.disk.lock().keys().any(of_index)
    }
}

impl KnnEngine for FakeEngine {
    fn open(&self, key: &IndexKey, _: &FieldSpec) -> Result<Arc<dyn KnnIndex>, EngineError> {
        let mut open = self.open.lock();
        if let Some(index) = open.get(key) {
            return Ok(Arc::clone(index) as Arc<dyn KnnIndex>);
        }
        let (documents, epoch) =
            self.disk.lock().get(key).cloned().unwrap_or((Documents::new(), Epoch::EMPTY));
        let orders = documents.iter().map(|(doc, (order, _))| (doc.clone(), *order)).collect();
        let view = Arc::new(FakeView { documents: documents.clone(), epoch });
        let state = State {
            documents,
            orders,
            view,
            held: BTreeMap::new(),
            staged: 0,
            changed: false,
            history: Vec::new(),
        };
        let index = Arc::new(FakeIndex {
            key: key.clone(),
            disk: Arc::clone(&self.disk),
            upserts: Arc::clone(&self.upserts),
            confirmed: Arc::clone(&self.confirmed),
            keep_history: self.keep_history,
            state: Mutex::new(state),
        });
        open.insert(key.clone(), Arc::clone(&index));
        Ok(index)
    }

    fn remove(&self, key: &IndexKey) {
        self.open.lock().remove(key);
        self.disk.lock().remove(key);
    }

    fn sweep(&self, keep: &dyn Fn(&IndexKey) -> bool) {
        let open = self.open.lock();
        self.disk.lock().retain(|key, _| open.contains_key(key) || keep(key));
    }
}

struct FakeIndex {
    key: IndexKey,
    disk: Disk,
    upserts: Arc<AtomicU64>,
    confirmed: Arc<AtomicU64>,
    keep_history: bool,
    state: Mutex<State>,
}

struct State {
    documents: Documents,
    /// Newest order per document, deleted ones included.
    orders: HashMap<DocKey, SeqNo>,
    view: Arc<FakeView>,
    held: BTreeMap<SeqNo, Change>,
    staged: u64,
    changed: bool,
    history: Vec<Documents>,
}

impl State {
    /// Whether a vector was taken over.
    fn stage(&mut self, change: Change) -> bool {
        let newest = self.orders.get(&change.doc).copied();
        let has_vector = matches!(change.kind, ChangeKind::Upsert(_));
        match change.kind {
            ChangeKind::Upsert(vector) if newest.is_none_or(|newest| newest < change.order) => {
                self.orders.insert(change.doc.clone(), change.order);
                self.documents.insert(change.doc, (change.order, vector));
            }
            ChangeKind::Delete if newest.is_none_or(|newest| newest <= change.order) => {
                self.orders.insert(change.doc.clone(), change.order);
                self.documents.remove(&change.doc);
            }
            _ => return false,
        }
        self.staged += 1;
        has_vector
    }
}

impl KnnIndex for FakeIndex {
    fn stage(&self, changes: Vec<Change>) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        for change in changes {
            state.held.remove(&change.order);
            let taken = state.stage(change);
            self.upserts.fetch_add(u64::from(taken), Ordering::Relaxed);
        }
        Ok(())
    }

    fn hold(&self, changes: Vec<Change>) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        let cursor = state.view.epoch.cursor;
        let newer = changes.into_iter().filter(|change| change.order.seq_no as i64 > cursor);
        state.held.extend(newer.map(|change| (change.order, change)));
        Ok(())
    }

    fn confirm(&self, shown: &[SeqNo]) -> Result<Vec<usize>, EngineError> {
        let mut state = self.state.lock();
        let mut unknown = Vec::new();
        for (at, order) in shown.iter().enumerate() {
            match state.held.remove(order) {
                Some(change) => {
                    state.stage(change);
                    self.confirmed.fetch_add(1, Ordering::Relaxed);
                }
                None => unknown.push(at),
            }
        }
        Ok(unknown)
    }

    fn publish(&self, epoch: Epoch) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        state.view = Arc::new(FakeView { documents: state.documents.clone(), epoch });
        state.held.retain(|order, _| order.seq_no as i64 > epoch.cursor);
        state.staged = 0;
        state.changed = true;
        if self.keep_history {
            let documents = state.documents.clone();
            state.history.push(documents);
        }
        Ok(())
    }

    fn rollback_above(&self, order: SeqNo) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        let lost = |of: &SeqNo| of.seq_no > order.seq_no && of.primary_term <= order.primary_term;
        state.documents.retain(|_, (of, _)| !lost(of));
        state.orders.retain(|_, of| !lost(of));
        state.held.retain(|of, _| !lost(of));
        Ok(())
    }

    fn view(&self) -> Arc<dyn KnnView> {
        Arc::clone(&self.state.lock().view) as Arc<dyn KnnView>
    }

    fn live(&self) -> u64 {
        self.state.lock().documents.len() as u64
    }

    fn order_of(&self, doc: &DocKey) -> Option<SeqNo> {
        self.state.lock().documents.get(doc).map(|(order, _)| *order)
    }

    fn counts_by_seq_no(&self, width: u64) -> Vec<u64> {
        let mut counts = Vec::new();
        for (order, _) in self.state.lock().documents.values() {
            let piece = (order.seq_no / width) as usize;
            if counts.len() <= piece {
                counts.resize(piece + 1, 0);
            }
            counts[piece] += 1;
        }
        counts
    }

    fn docs_between(&self, from: u64, to: u64) -> Vec<(DocKey, SeqNo)> {
        let state = self.state.lock();
        let within = state.documents.iter().filter(|(_, (order, _))| (from..to).contains(&order.seq_no));
        within.map(|(doc, (order, _))| (doc.clone(), *order)).collect()
    }

    fn maintain(&self) -> Result<bool, EngineError> {
        Ok(false)
    }

    fn snapshot(&self) -> Result<bool, EngineError> {
        let mut state = self.state.lock();
        let saved = (state.view.documents.clone(), state.view.epoch);
        self.disk.lock().insert(self.key.clone(), saved);
        Ok(std::mem::take(&mut state.changed))
    }

    fn stats(&self) -> IndexStats {
        let state = self.state.lock();
        IndexStats {
            docs: state.view.documents.len() as u64,
            staged: state.staged,
            held: state.held.len() as u64,
            held_bytes: 0,
            epoch: state.view.epoch,
            state: BuildState::Exact,
            nlist: 0,
            nprobe: 0,
            recall: None,
            curve: Vec::new(),
            imbalance: 1.0,
            upkeep: Upkeep::default(),
            memory_bytes: 0,
            disk_bytes: 0,
        }
    }
}

struct FakeView {
    documents: Documents,
    epoch: Epoch,
}

impl KnnView for FakeView {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn len(&self) -> usize {
        self.documents.len()
    }

    /// Everything that is allowed, in the order of the keys: following needs no distances. What a filter
    /// did not decide is not found, as in the engine.
    fn search(&self, query: &Query<'_>) -> Result<Found, EngineError> {
        let filter = query.filter.map(FakeFilter::of).transpose()?;
        let allowed = |doc: &DocKey, order: SeqNo| {
            filter.is_none_or(|filter| filter.decided(doc, order).unwrap_or(false))
        };
        let found = self.documents.iter().filter(|(doc, (order, _))| allowed(doc, *order));
        let hit = |(doc, (order, vector)): (&DocKey, &(SeqNo, Vec<f32>))| Hit {
            doc: doc.clone(),
            order: *order,
            value: vector.first().copied().unwrap_or(0.0),
        };
        Ok(Found { hits: found.map(hit).collect(), ..Found::default() })
    }

    fn search_exactly(&self, query: &Query<'_>) -> Result<Found, EngineError> {
        self.search(query)
    }

    fn filter(&self, allow: Allow<'_>) -> Arc<dyn SlotFilter> {
        Arc::new(FakeFilter::default().with(self, allow))
    }

    fn extend_filter(
        &self,
        filter: &dyn SlotFilter,
        allow: Allow<'_>,
    ) -> Result<Arc<dyn SlotFilter>, EngineError> {
        Ok(Arc::new(FakeFilter::of(filter)?.with(self, allow)))
    }

    fn filter_debt(&self, filter: &dyn SlotFilter) -> Result<u64, EngineError> {
        let filter = FakeFilter::of(filter)?;
        let undecided =
            self.documents.iter().filter(|(doc, (order, _))| filter.decided(doc, *order).is_none());
        Ok(undecided.count() as u64)
    }

    fn allowed(&self, filter: &dyn SlotFilter) -> Result<u64, EngineError> {
        let filter = FakeFilter::of(filter)?;
        let allowed =
            self.documents.iter().filter(|(doc, (order, _))| filter.decided(doc, *order) == Some(true));
        Ok(allowed.count() as u64)
    }

    fn explain(&self, _: &Query<'_>, _: &DocKey) -> Result<Option<Explanation>, EngineError> {
        Ok(None)
    }

    fn predicted_cost(&self, _: &Query<'_>) -> Duration {
        Duration::ZERO
    }
}

/// Verdicts on versions of documents.
#[derive(Clone, Debug, Default)]
struct FakeFilter {
    verdicts: HashMap<(DocKey, SeqNo), bool>,
}

impl FakeFilter {
    fn of(filter: &dyn SlotFilter) -> Result<&Self, EngineError> {
        let filter: &dyn std::any::Any = filter;
        filter.downcast_ref().ok_or(EngineError::StaleFilter)
    }

    fn decided(&self, doc: &DocKey, order: SeqNo) -> Option<bool> {
        self.verdicts.get(&(doc.clone(), order)).copied()
    }

    /// What is decided stays so, as slots of the engine are looked at once.
    fn with(&self, view: &FakeView, allow: Allow<'_>) -> Self {
        let mut verdicts = self.verdicts.clone();
        for (doc, (order, _)) in &view.documents {
            let verdict = || match allow {
                Allow::SeqNos(numbers) => numbers.contains(order.seq_no),
                Allow::Docs(predicate) => predicate(doc, *order),
            };
            verdicts.entry((doc.clone(), *order)).or_insert_with(verdict);
        }
        Self { verdicts }
    }
}

impl SlotFilter for FakeFilter {
    fn len(&self) -> u64 {
        self.verdicts.values().filter(|allowed| **allowed).count() as u64
    }

    fn up_to(&self) -> u64 {
        self.verdicts.len() as u64
    }

    fn memory_bytes(&self) -> u64 {
        64 * self.verdicts.len() as u64
    }
}
