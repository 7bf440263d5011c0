//! The index of one field on one shard history: joins the writer with what searches see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use knn_types::{
    BuildState, Change, ChangeKind, DocKey, EngineError, Epoch, FieldSpec, IndexKey, IndexStats, IvfOptions,
    KnnIndex, KnnView, Query, SeqNo, Upkeep,
};
use parking_lot::Mutex;
use rayon::ThreadPool;

use crate::budget::{Budget, Share};
use crate::config::{EngineConfig, Spill};
use crate::cost::Costs;
use crate::form::Form;
use crate::heads::Tombstones;
use crate::held::{self, Held};
use crate::lists::Lists;
use crate::look::Seen;
use crate::snapshot::{self, CENTROIDS_START, Disk, Mapped, Restored, Saved, State};
use crate::store::Store;
use crate::view::View;
use crate::writer::{CodedBatch, Writer};

/// See [`KnnIndex`].
pub(crate) struct Index {
    key: IndexKey,
    form: Form,
    /// The options may change while the index is open; the rest never does.
    spec: Mutex<FieldSpec>,
    pub(crate) exact_below: usize,
    pub(crate) spill: Spill,
    pub(crate) pool: Arc<ThreadPool>,
    costs: Arc<Costs>,
    pub(crate) writer: Mutex<Writer>,
    /// What searches see.
    pub(crate) published: ArcSwap<View>,
    /// Held by the one upkeep that may run: the state whose lists it looked at last.
    pub(crate) maintenance: Mutex<Seen>,
    /// What upkeep did; held for moments only.
    pub(crate) done: Mutex<Upkeep>,
    pub(crate) training: AtomicBool,
    /// `None`: in memory only.
    disk: Option<Disk>,
    share: Share,
    /// What all indexes may hold of acknowledged changes.
    holds: Arc<Budget>,
    /// Bytes of the published state.
    state_bytes: AtomicU64,
    /// There was no memory for lists, and comparing everything would take too long.
    pub(crate) refused: AtomicBool,
    saved: Mutex<SavedState>,
    disk_bytes: AtomicU64,
}

/// What is on disk.
#[derive(Default)]
struct SavedState {
    newest: Option<Saved>,
    /// The state that was written, by [`Writer::version`].
    version: Option<u64>,
    /// The index was removed: nothing may be written any more.
    removed: bool,
}

impl Index {
    /// The index as its newest sound snapshot has it, or empty.
    pub(crate) fn open(
        key: &IndexKey,
        spec: &FieldSpec,
        config: &EngineConfig,
        pool: Arc<ThreadPool>,
        disk: Option<Disk>,
        (share, holds): (Share, Share),
    ) -> Self {
        let restored = disk.as_ref().and_then(|disk| snapshot::restore(disk, key, spec));
        let all_holds = Arc::clone(holds.shared());
        let held = Held::new(holds);
        let (writer, saved) = match restored {
            Some(Restored { epoch, store, lists, tombstones, saved }) => {
                let saved = SavedState { newest: Some(saved), version: Some(0), removed: false };
                (Writer::new(store, lists, epoch, tombstones, held), saved)
            }
            None => {
                let store = Store::new(Form::of(spec));
                let tombstones = Tombstones::default();
                (Writer::new(store, None, Epoch::EMPTY, tombstones, held), SavedState::default())
            }
        };
        let costs = Arc::new(Costs::guess(spec.dims));
        let view = view_of(&writer, spec, &costs, None);
        let index = Self {
            key: key.clone(),
            disk,
            share,
            holds: all_holds,
            state_bytes: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            disk_bytes: AtomicU64::new(saved.newest.as_ref().map_or(0, |newest| newest.bytes)),
            saved: Mutex::new(saved),
            form: Form::of(spec),
            spec: Mutex::new(*spec),
            exact_below: config.exact_below,
            spill: config.spill,
            pool,
            costs,
            writer: Mutex::new(writer),
            published: ArcSwap::from_pointee(view),
            maintenance: Mutex::default(),
            done: Mutex::default(),
            training: AtomicBool::new(false),
        };
        index.account(&index.writer.lock(), true);
        index
    }

    pub(crate) fn budget(&self) -> &Budget {
        self.share.budget()
    }

    /// Tells the budget what is held; the published state is counted anew only if it changed.
    fn account(&self, writer: &Writer, state_changed: bool) {
        if !self.budget().is_limited() {
            return;
        }
        if state_changed {
            self.state_bytes.store(state_bytes(writer), Ordering::Relaxed);
        }
        self.share.set(self.state_bytes.load(Ordering::Relaxed) + self.waiting_bytes(writer));
    }

    /// Bytes of what is staged and held, about.
    fn waiting_bytes(&self, writer: &Writer) -> u64 {
        writer.staged_bytes() + writer.held.bytes()
    }

    /// Makes sure that `more` bytes fit the budget, if need be by putting vectors into files.
    pub(crate) fn make_room(&self, more: u64) -> Result<(), EngineError> {
        if self.budget().fits(more) {
            return Ok(());
        }
        if self.published.load().store.held_bytes() > 0
            && let Err(error) = self.save()
        {
            tracing::warn!(index = %self.key, %error, "vectors could not be put into files to save memory");
        }
        if self.budget().fits(more) { Ok(()) } else { Err(self.budget().refuse(more)) }
    }

    /// The field as it is now.
    pub(crate) fn spec(&self) -> FieldSpec {
        *self.spec.lock()
    }

    /// Takes over changed options: effort at once, the number of lists with the next training.
    pub(crate) fn set_options(&self, options: IvfOptions) {
        let mut writer = self.writer.lock();
        if self.spec().options != options {
            self.spec.lock().options = options;
            self.show(&mut writer);
        }
    }

    /// Deletes the index's files and writes none any more.
    pub(crate) fn remove_files(&self) -> Result<(), EngineError> {
        let mut saved = self.saved.lock();
        saved.removed = true;
        self.disk.as_ref().map_or(Ok(()), Disk::remove)
    }

    /// Gives the index's files another name, so that nobody opens them again.
    pub(crate) fn set_aside(&self) {
        let mut saved = self.saved.lock();
        saved.removed = true;
        let reason = self.published.load().store.damage().what();
        if let Some(disk) = &self.disk {
            disk.snapshots().into_iter().for_each(|number| disk.set_aside(number, &reason));
        }
    }

    /// Makes the writer's state what searches see. Called with the writer locked, so states appear
    /// in order.
    pub(crate) fn show(&self, writer: &mut Writer) {
        writer.version += 1;
        let refused = self.refused.load(Ordering::Relaxed).then(|| Arc::clone(self.share.shared()));
        self.published.store(Arc::new(view_of(writer, &self.spec(), &self.costs, refused)));
        self.account(writer, true);
    }

    /// See [`KnnIndex::snapshot`]. Vectors that are on disk afterwards leave the memory.
    fn save(&self) -> Result<bool, EngineError> {
        let Some(disk) = &self.disk else { return Ok(false) };
        let mut saved = self.saved.lock();
        if saved.removed {
            return Ok(false);
        }
        let (state, version) = {
            let writer = self.writer.lock();
            if saved.version == Some(writer.version) {
                return Ok(false);
            }
            let tombstones = writer.tombstones.iter().map(|(key, order)| (key.into(), order)).collect();
            let state = State {
                key: self.key.clone(),
                spec: self.spec(),
                epoch: writer.epoch,
                store: writer.store.clone(),
                lists: writer.lists.clone(),
                tombstones,
            };
            (state, writer.version)
        };
        let (newest, mapped) = snapshot::save(disk, &state, saved.newest.as_ref())?;
        self.disk_bytes.store(newest.bytes, Ordering::Relaxed);
        *saved = SavedState { newest: Some(newest), version: Some(version), removed: false };
        if self.read_from(mapped, &state, version) {
            saved.version = Some(version + 1);
        }
        Ok(true)
    }

    /// Lets go of what the files of a snapshot of `state` have. Returns whether the state with the
    /// number `version + 1` is the same, read from elsewhere, so that there is nothing new to write.
    fn read_from(&self, mapped: Mapped, state: &State, version: u64) -> bool {
        let mut writer = self.writer.lock();
        let mut shows = false;
        if writer.store.lineage() == state.store.lineage() {
            mapped.groups.iter().for_each(|(group, file)| writer.store.map_group(*group, file));
            shows = !mapped.groups.is_empty();
        }
        if let (Some(file), Some(written), Some(held)) = (mapped.centroids, &state.lists, &mut writer.lists)
            && held.generation.id == written.generation.id
        {
            held.generation = Arc::new(held.generation.reading(file, CENTROIDS_START));
            shows = true;
        }
        let unchanged = writer.version == version;
        if shows {
            self.show(&mut writer);
        }
        shows && unchanged
    }

    /// Codes the vectors of a batch before the writer is locked.
    fn code(&self, changes: &[Change]) -> Result<CodedBatch, EngineError> {
        let mut rows = Vec::new();
        let view = self.published.load();
        for change in changes {
            if let ChangeKind::Upsert(vectors) = &change.kind {
                self.form.check_all(vectors)?;
                if view.lists.is_some() {
                    for vector in self.form.each(vectors) {
                        rows.extend_from_slice(&self.form.probe(vector)?.floats);
                    }
                }
            }
        }
        let Some(lists) = &view.lists else { return Ok(CodedBatch::default()) };
        let generation = Arc::clone(&lists.generation);
        Ok(CodedBatch { generation: generation.id, entries: generation.encode_entries(&mut rows) })
    }
}

/// Bytes of the published state, about.
fn state_bytes(writer: &Writer) -> u64 {
    writer.store.memory_bytes()
        + writer.lists.as_ref().map_or(0, |lists| lists.memory_bytes() as u64)
        + writer.heads.memory_bytes()
        + writer.tombstones.memory_bytes()
}

fn view_of(writer: &Writer, spec: &FieldSpec, costs: &Arc<Costs>, refused: Option<Arc<Budget>>) -> View {
    View {
        epoch: writer.epoch,
        spec: *spec,
        store: writer.store.clone(),
        lists: writer.lists.clone(),
        costs: Arc::clone(costs),
        refused,
    }
}

impl KnnIndex for Index {
    fn stage(&self, changes: Vec<Change>) -> Result<(), EngineError> {
        let of_change = |change: &Change| match &change.kind {
            ChangeKind::Upsert(vectors) => self.form.count(vectors),
            ChangeKind::Delete => 0,
        };
        let vectors: usize = changes.iter().map(of_change).sum();
        if vectors > 0 {
            self.make_room((vectors * self.form.words() * size_of::<u32>()) as u64)?;
        }
        let coded = self.code(&changes)?;
        let mut writer = self.writer.lock();
        writer.stage(changes, coded);
        self.account(&writer, false);
        Ok(())
    }

    fn hold(&self, mut changes: Vec<Change>) -> Result<(), EngineError> {
        let cursor = self.published.load().epoch.cursor;
        changes.retain(|change| change.order.seq_no as i64 > cursor);
        let room = held::that_fit(&changes, &self.form, &[&self.holds, self.budget()]);
        self.holds.note_refusals((changes.len() - room) as u64);
        changes.truncate(room);
        let coded = self.code(&changes)?;
        let mut writer = self.writer.lock();
        writer.hold(changes, coded);
        self.account(&writer, false);
        Ok(())
    }

    fn confirm(&self, shown: &[SeqNo]) -> Result<Vec<usize>, EngineError> {
        let mut writer = self.writer.lock();
        let unknown = writer.confirm(shown);
        self.account(&writer, false);
        Ok(unknown)
    }

    fn publish(&self, epoch: Epoch) -> Result<(), EngineError> {
        let mut writer = self.writer.lock();
        if !writer.staged.is_empty() || writer.epoch != epoch {
            writer.publish(epoch);
            self.show(&mut writer);
        }
        Ok(())
    }

    fn rollback_above(&self, order: SeqNo) -> Result<(), EngineError> {
        let mut writer = self.writer.lock();
        writer.rollback_above(order);
        self.show(&mut writer);
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
        self.census(&(0..u64::MAX), |_, order| {
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
        self.census(&(from..to), |doc, order| docs.push((doc(), order)));
        docs
    }

    fn maintain(&self) -> Result<bool, EngineError> {
        self.upkeep()
    }

    fn is_damaged(&self) -> bool {
        self.published.load().store.damage().found()
    }

    fn snapshot(&self) -> Result<bool, EngineError> {
        self.save()
    }

    fn stats(&self) -> IndexStats {
        let view = self.published.load_full();
        let (staged, held, held_bytes, memory_bytes) = {
            let writer = self.writer.lock();
            let memory_bytes = state_bytes(&writer) + self.waiting_bytes(&writer);
            (writer.staged.len() as u64, writer.held.len() as u64, writer.held.bytes(), memory_bytes)
        };
        let lists = view.lists.as_ref();
        let state = match lists {
            Some(_) => BuildState::Lists,
            None if self.training.load(Ordering::Relaxed) => BuildState::Training,
            None => BuildState::Exact,
        };
        let default = Query::new(&[], 10);
        IndexStats {
            docs: view.store.docs() as u64,
            staged,
            held,
            held_bytes,
            epoch: view.epoch,
            state,
            nlist: lists.map_or(0, Lists::nlist),
            nprobe: lists.map_or(0, |lists| view.effort(lists, &default).nprobe),
            recall: lists.and_then(|lists| lists.generation.curve.default_recall()),
            curve: lists.map(|lists| lists.generation.curve.measured_for(default.k)).unwrap_or_default(),
            imbalance: lists.map_or(1.0, Lists::imbalance),
            upkeep: Upkeep { drift: lists.and_then(Lists::drift).unwrap_or(1.0), ..*self.done.lock() },
            memory_bytes,
            disk_bytes: self.disk_bytes.load(Ordering::Relaxed),
        }
    }
}
