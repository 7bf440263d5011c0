//! What snapshots write of a store, and how it is made of one. Chunks share files in groups.

use std::sync::Arc;

use super::rows::Rows;
use super::{Chunk, Store, bit, chunk_slots, chunk_words};
use crate::docs::Docs;
use crate::form::Form;
use crate::mapped::{Damage, MappedWords};

/// Chunks that share a file.
pub(crate) const GROUP_CHUNKS: usize = 128;

impl Store {
    /// The store of a snapshot: a file of rows and the documents of its chunks for each group, and
    /// the dead slots as bits. `None` if the parts do not fit together. The files note `damage`.
    pub(crate) fn restore(
        form: Form,
        slots: usize,
        groups: Vec<(Arc<MappedWords>, Vec<Docs>)>,
        dead: &[u64],
        damage: Arc<Damage>,
    ) -> Option<Self> {
        let mut store = Self { damage, ..Self::new(form) };
        let (width, per_chunk) = (form.words(), chunk_slots(form.words()));
        let words = chunk_words(width);
        if dead.len() != slots.div_ceil(per_chunk) * words {
            return None;
        }
        for (file, docs) in groups {
            for (at, docs) in docs.into_iter().enumerate() {
                let held = (slots.checked_sub(store.slots)?).min(per_chunk);
                let (start, len) = (at * per_chunk * width, held * width);
                if held == 0 || start + len > file.len() || docs.len() != held {
                    return None;
                }
                let dead: Box<[u64]> = dead[store.chunks.len() * words..][..words].into();
                store.slots += held;
                store.live += held.checked_sub(dead.iter().map(|word| word.count_ones() as usize).sum())?;
                let rows = Arc::new(Rows::Mapped { file: Arc::clone(&file), start, len });
                let followers = Box::default();
                store.chunks.push(Arc::new(Chunk { rows, docs: Arc::new(docs), dead, followers }));
            }
        }
        store.docs = store.live;
        (store.slots == slots).then_some(store)
    }

    /// Says of a restored store which slots are followers, chunk by chunk as [`Store::follower_bits`]
    /// gave them. `None` if that cannot be.
    pub(crate) fn restore_followers(&mut self, bits: &[u64]) -> Option<()> {
        let words = chunk_words(self.words);
        let first_follows = bits.first().is_some_and(|word| word & 1 == 1);
        if bits.len() != self.chunks.len() * words || first_follows {
            return None;
        }
        self.docs = 0;
        for (chunk, followers) in self.chunks.iter_mut().zip(bits.chunks_exact(words)) {
            let heads = |at: &usize| !bit(&chunk.dead, *at) && !bit(followers, *at);
            self.docs += (0..chunk.docs.len()).filter(heads).count();
            if followers.iter().any(|&word| word != 0) {
                Arc::make_mut(chunk).followers = followers.into();
                self.grouped = true;
            }
        }
        Some(())
    }

    /// Which slots are dead, chunk by chunk.
    pub(crate) fn dead_bits(&self) -> impl Iterator<Item = &u64> + '_ {
        self.chunks.iter().flat_map(|chunk| &*chunk.dead)
    }

    /// Which slots are followers, chunk by chunk as [`Store::dead_bits`].
    pub(crate) fn follower_bits(&self) -> Vec<u64> {
        let words = chunk_words(self.words);
        let mut bits = vec![0; self.chunks.len() * words];
        for (chunk, bits) in self.chunks.iter().zip(bits.chunks_exact_mut(words)) {
            bits[..chunk.followers.len()].copy_from_slice(&chunk.followers);
        }
        bits
    }

    /// Number of groups of chunks, and whether no slot can be added to one.
    pub(crate) fn groups(&self) -> usize {
        self.chunks.len().div_ceil(GROUP_CHUNKS)
    }

    pub(crate) fn group_is_full(&self, group: usize) -> bool {
        self.slots >= ((group + 1) * GROUP_CHUNKS) << self.shift
    }

    /// Rows and documents of the chunks of a group.
    pub(crate) fn group(&self, group: usize) -> impl Iterator<Item = (&[u32], &Docs)> + '_ {
        let chunks = self.chunks[group * GROUP_CHUNKS..].iter().take(GROUP_CHUNKS);
        chunks.map(|chunk| (chunk.rows.all(), &*chunk.docs))
    }

    /// Slots in a group.
    pub(crate) fn group_slots(&self, group: usize) -> usize {
        let whole = GROUP_CHUNKS << self.shift;
        self.slots.saturating_sub(group * whole).min(whole)
    }

    /// Lets the chunks of a group read their rows from `file`, as far as it has all of a chunk's rows.
    pub(crate) fn map_group(&mut self, group: usize, file: &Arc<MappedWords>) {
        let mut start = 0;
        for chunk in self.chunks[group * GROUP_CHUNKS..].iter_mut().take(GROUP_CHUNKS) {
            let len = chunk.docs.len() * self.words;
            if start + len <= file.len() {
                let rows = Rows::Mapped { file: Arc::clone(file), start, len };
                Arc::make_mut(chunk).rows = Arc::new(rows);
            }
            start += (1usize << self.shift) * self.words;
        }
    }

    /// Files that rows are read from, each once if its chunks follow each other.
    pub(crate) fn files(&self) -> Vec<Arc<MappedWords>> {
        let mut files: Vec<Arc<MappedWords>> = Vec::new();
        for chunk in &self.chunks {
            if let Rows::Mapped { file, .. } = &*chunk.rows
                && files.last().is_none_or(|last| !Arc::ptr_eq(last, file))
            {
                files.push(Arc::clone(file));
            }
        }
        files
    }
}
