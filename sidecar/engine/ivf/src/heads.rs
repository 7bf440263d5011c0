//! Which slot a document lives in, and which orders deleted documents were deleted at.
//!
//! The table holds slot numbers only; the keys are those of the store, so a document costs about
//! six bytes here.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use knn_types::SeqNo;

use crate::store::{Slot, Store};

/// Live documents of a store.
#[derive(Default)]
pub(crate) struct Heads {
    table: HashTable<Slot>,
    hasher: DefaultHashBuilder,
}

impl Heads {
    /// The table of all live slots.
    pub(crate) fn of(store: &Store) -> Self {
        let mut heads = Self { table: HashTable::with_capacity(store.live()), ..Self::default() };
        for slot in store.live_slots() {
            heads.insert(store, slot);
        }
        heads
    }

    pub(crate) fn get(&self, store: &Store, key: &[u8]) -> Option<Slot> {
        self.table.find(self.hasher.hash_one(key), |&slot| *store.key(slot) == *key).copied()
    }

    /// Adds a slot whose document is not in the table.
    pub(crate) fn insert(&mut self, store: &Store, slot: Slot) {
        let hash = self.hasher.hash_one(&*store.key(slot));
        self.table.insert_unique(hash, slot, |&other| self.hasher.hash_one(&*store.key(other)));
    }

    pub(crate) fn remove(&mut self, store: &Store, key: &[u8]) -> Option<Slot> {
        let found = self.table.find_entry(self.hasher.hash_one(key), |&slot| *store.key(slot) == *key);
        found.ok().map(|entry| entry.remove().0)
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.table.allocation_size() as u64
    }
}

/// Deletions are remembered so that an older version which arrives late stays ignored. Only so
/// many: beyond that the oldest learnt is forgotten, and the audit would find what came of it.
const TOMBSTONES: usize = 100_000;

/// Orders of published deletions, newest learnt last.
#[derive(Default)]
pub(crate) struct Tombstones {
    orders: HashMap<Box<[u8]>, SeqNo>,
    /// In order of arrival; may name documents that are no longer in `orders`.
    queue: VecDeque<(Box<[u8]>, SeqNo)>,
}

impl Tombstones {
    pub(crate) fn get(&self, key: &[u8]) -> Option<SeqNo> {
        self.orders.get(key).copied()
    }

    pub(crate) fn insert(&mut self, key: Box<[u8]>, order: SeqNo) {
        self.orders.insert(key.clone(), order);
        self.queue.push_back((key, order));
        while self.queue.len() > TOMBSTONES {
            let (oldest, order) = self.queue.pop_front().expect("longer than the limit");
            if self.orders.get(&oldest) == Some(&order) {
                self.orders.remove(&oldest);
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        self.orders.remove(key);
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(SeqNo) -> bool) {
        self.orders.retain(|_, &mut order| keep(order));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], SeqNo)> {
        self.orders.iter().map(|(key, &order)| (&**key, order))
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        let keys: usize = self.queue.iter().map(|(key, _)| key.len() + 64).sum();
        2 * keys as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_deletions_keeps_the_newest() {
        let mut tombstones = Tombstones::default();
        let key = |n: u64| n.to_le_bytes().to_vec().into_boxed_slice();
        for n in 0..TOMBSTONES as u64 + 10 {
            tombstones.insert(key(n), SeqNo { primary_term: 1, seq_no: n });
        }
        assert_eq!(tombstones.get(&key(9)), None);
        assert_eq!(tombstones.get(&key(10)).map(|order| order.seq_no), Some(10));
        assert_eq!(tombstones.iter().count(), TOMBSTONES);
    }
}
