//! The writing side of an index: what is held, what is staged, and how it becomes a new state.
//! One writer at a time; searches never come here.

use knn_types::{Change, ChangeKind, DocKey, Epoch, SeqNo};

use crate::form::Form;
use crate::generation::Generation;
use crate::heads::{Heads, Tombstones};
use crate::held::Held;
use crate::keys;
use crate::lists::{Entry, Lists};
use crate::staged::{Staged, StagedChange, replaces};
use crate::store::Store;

/// Changes that are coded at a time.
const RECODED: usize = 512;

/// Codes that were made before the writer was locked.
#[derive(Default)]
pub(crate) struct CodedBatch {
    pub(crate) generation: u64,
    pub(crate) entries: Vec<Entry>,
}

/// See the module.
pub(crate) struct Writer {
    pub(crate) epoch: Epoch,
    /// States shown so far.
    pub(crate) version: u64,
    pub(crate) store: Store,
    pub(crate) lists: Option<Lists>,
    pub(crate) heads: Heads,
    pub(crate) tombstones: Tombstones,
    pub(crate) staged: Staged,
    pub(crate) held: Held,
    /// Documents that publishing what is staged would add, less those it would remove.
    staged_growth: i64,
    /// Words of all staged rows.
    staged_words: usize,
}

impl Writer {
    pub(crate) fn new(
        store: Store,
        lists: Option<Lists>,
        epoch: Epoch,
        tombstones: Tombstones,
        held: Held,
    ) -> Self {
        let (heads, staged) = (Heads::of(&store), Staged::new());
        Self {
            epoch,
            version: 0,
            store,
            lists,
            heads,
            tombstones,
            staged,
            held,
            staged_growth: 0,
            staged_words: 0,
        }
    }

    /// Documents with a vector, as if everything staged were published.
    pub(crate) fn live(&self) -> u64 {
        (self.store.docs() as i64 + self.staged_growth).max(0) as u64
    }

    /// Bytes of what is staged, about.
    pub(crate) fn staged_bytes(&self) -> u64 {
        (self.staged_words * size_of::<u32>() + self.staged.len() * 160) as u64
    }

    /// Newest order of a document, as if everything staged were published.
    pub(crate) fn order_of(&self, doc: &DocKey) -> Option<SeqNo> {
        let mut key = Vec::new();
        keys::encode(doc, &mut key);
        match self.staged.get(key.as_slice()) {
            Some(staged) => staged.rows.as_ref().map(|_| staged.order),
            None => self.heads.get(&self.store, &key).map(|slot| self.store.order(slot)),
        }
    }

    /// Stages changes; `coded` has an entry for each vector in them, in order, or none at all.
    pub(crate) fn stage(&mut self, changes: Vec<Change>, coded: CodedBatch) {
        self.take_in(changes, coded, |writer, key, change| {
            // Learnt in another way: nobody will confirm it.
            writer.held.take(change.order);
            writer.stage_one(key, change);
        });
    }

    /// Holds changes; see [`Writer::stage`]. One that is known or superseded already is not held.
    pub(crate) fn hold(&mut self, changes: Vec<Change>, coded: CodedBatch) {
        self.take_in(changes, coded, |writer, key, change| {
            if writer.newest(key).is_none_or(|newest| change.order > newest) {
                writer.held.insert(key, change);
            }
        });
    }

    /// See [`knn_types::KnnIndex::confirm`].
    pub(crate) fn confirm(&mut self, shown: &[SeqNo]) -> Vec<usize> {
        let mut unknown = Vec::new();
        for (at, &order) in shown.iter().enumerate() {
            match self.held.take(order) {
                Some((key, change)) => self.stage_one(&key, change),
                None => unknown.push(at),
            }
        }
        unknown
    }

    fn take_in(
        &mut self,
        changes: Vec<Change>,
        coded: CodedBatch,
        mut take: impl FnMut(&mut Self, &[u8], StagedChange),
    ) {
        let mut key = Vec::new();
        let mut entries = coded.entries.into_iter();
        for change in changes {
            keys::encode(&change.doc, &mut key);
            let (rows, entries) = match change.kind {
                ChangeKind::Upsert(vectors) => {
                    let entries: Box<[Entry]> =
                        entries.by_ref().take(self.store.form().count(&vectors)).collect();
                    (Some(self.store.form().rows(vectors)), entries)
                }
                ChangeKind::Delete => (None, Box::default()),
            };
            let coded = (!entries.is_empty()).then_some((coded.generation, entries));
            take(self, &key, StagedChange { order: change.order, rows, coded });
        }
    }

    /// The newest order that was staged or published for a document, deletions included.
    fn newest(&self, key: &[u8]) -> Option<SeqNo> {
        if let Some(staged) = self.staged.get(key) {
            return Some(staged.order);
        }
        let published = self.heads.get(&self.store, key).map(|slot| self.store.order(slot));
        published.or_else(|| self.tombstones.get(key))
    }

    fn stage_one(&mut self, key: &[u8], change: StagedChange) {
        let (deletes, words) = (change.rows.is_none(), change.words());
        let published = self.heads.get(&self.store, key);
        if let Some(held) = self.staged.get_mut(key) {
            let had_vector = held.rows.is_some();
            if replaces(change.order, deletes, held.order, had_vector) {
                self.staged_growth += i64::from(!deletes) - i64::from(had_vector);
                self.staged_words = self.staged_words + words - held.words();
                *held = change;
            }
            return;
        }
        let newer = match published {
            Some(slot) => replaces(change.order, deletes, self.store.order(slot), true),
            None => self.tombstones.get(key).is_none_or(|held| replaces(change.order, deletes, held, false)),
        };
        if newer {
            self.staged_growth += i64::from(!deletes) - i64::from(published.is_some());
            self.staged_words += words;
            self.staged.insert(key.into(), change);
        }
    }

    /// Applies everything staged. The caller then shows the new state.
    pub(crate) fn publish(&mut self, epoch: Epoch) {
        // In the order of the shard, so that the same history gives the same slots.
        let mut changes: Vec<_> = std::mem::take(&mut self.staged).into_iter().collect();
        changes.sort_unstable_by_key(|(_, change)| change.order);
        if let Some(lists) = &self.lists {
            recode(self.store.form(), &lists.generation, &mut changes);
        }
        for (key, change) in changes {
            if let Some(old) = self.heads.remove(&self.store, &key) {
                self.store.kill_document(old);
            }
            match &change.rows {
                Some(rows) => {
                    self.tombstones.remove(&key);
                    self.add(&key, &change, rows);
                }
                None => self.tombstones.insert(key, change.order),
            }
        }
        (self.staged_growth, self.staged_words) = (0, 0);
        self.epoch = epoch;
        self.held.let_go_to(epoch.cursor);
    }

    /// Gives a document slots for its rows.
    fn add(&mut self, key: &[u8], change: &StagedChange, rows: &[u32]) {
        for (number, row) in rows.chunks_exact(self.store.words()).enumerate() {
            let slot = if number == 0 {
                let slot = self.store.push(key, change.order, row);
                self.heads.insert(&self.store, slot);
                slot
            } else {
                self.store.push_follower(key, change.order, row)
            };
            if let (Some(lists), Some((_, entries))) = (&mut self.lists, &change.coded) {
                lists.push(slot, &entries[number]);
            }
        }
    }

    /// See [`knn_types::KnnIndex::rollback_above`].
    pub(crate) fn rollback_above(&mut self, order: SeqNo) {
        let kept = |held: SeqNo| held.seq_no <= order.seq_no || held.primary_term > order.primary_term;
        self.staged.retain(|_, change| kept(change.order));
        self.held.retain(kept);
        self.tombstones.retain(kept);
        let mut highest = order.seq_no as i64;
        let mut lost = Vec::new();
        for slot in self.store.live_slots() {
            let held = self.store.order(slot);
            if kept(held) { highest = highest.max(held.seq_no as i64) } else { lost.push(slot) }
        }
        for slot in lost {
            let key = self.store.key(slot).to_vec();
            self.heads.remove(&self.store, &key);
            self.store.kill(slot);
        }
        self.staged_growth = self.count_staged_growth();
        self.staged_words = self.staged.values().map(StagedChange::words).sum();
        self.epoch.cursor = self.epoch.cursor.min(order.seq_no as i64);
        self.epoch.max_seq_no = self.epoch.max_seq_no.min(highest);
    }

    fn count_staged_growth(&self) -> i64 {
        let grows = self.staged.values().filter(|change| change.rows.is_some()).count();
        let published = self.staged.keys().filter(|key| self.heads.get(&self.store, key).is_some()).count();
        grows as i64 - published as i64
    }
}

/// Codes the changes whose code is missing or belongs to other centroids.
fn recode(form: &Form, generation: &Generation, changes: &mut [(Box<[u8]>, StagedChange)]) {
    let fits =
        |change: &StagedChange| change.coded.as_ref().is_some_and(|(made_for, _)| *made_for == generation.id);
    let mut stale: Vec<&mut StagedChange> = changes
        .iter_mut()
        .map(|(_, change)| change)
        .filter(|change| change.rows.is_some() && !fits(change))
        .collect();
    for batch in stale.chunks_mut(RECODED) {
        let mut rows = Vec::with_capacity(batch.len() * form.dims());
        let each = |change: &&mut StagedChange| change.words() / form.words();
        let counts: Vec<usize> = batch.iter().map(each).collect();
        let all = batch.iter().filter_map(|change| change.rows.as_deref());
        all.flat_map(|all| all.chunks_exact(form.words())).for_each(|row| form.expand(row, &mut rows));
        let mut entries = generation.encode_entries(&mut rows).into_iter();
        for (change, count) in batch.iter_mut().zip(counts) {
            change.coded = Some((generation.id, entries.by_ref().take(count).collect()));
        }
    }
}
