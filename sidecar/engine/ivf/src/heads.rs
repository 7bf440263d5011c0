//! Which slot a document lives in (of several, the first), and which orders deleted documents were deleted at.
//!
//! The table holds slot numbers and a byte of each hash; the keys are those of the store. It grows by
//! a quarter at a time, not twofold, so that a document costs six to seven bytes here at any size.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use knn_types::SeqNo;

use crate::store::{Slot, Store};

/// The tag of a free place.
const FREE: u8 = 0;
/// The smallest table.
const LEAST: usize = 8;

/// Live documents of a store: open addressing with linear probing. An entry lies at its home, which
/// follows from its hash, or after it with no free place between (Knuth, vol. 3, 6.4, algorithm L;
/// deletion by algorithm R).
#[derive(Default)]
pub(crate) struct Heads {
    /// A byte of each entry's hash, never [`FREE`].
    tags: Box<[u8]>,
    slots: Box<[Slot]>,
    len: usize,
    hasher: RandomState,
}

impl Heads {
    /// The table of all live slots.
    pub(crate) fn of(store: &Store) -> Self {
        let mut heads = Self::default();
        heads.resize(store, places_for(store.docs()));
        for slot in store.live_slots().filter(|&slot| !store.is_follower(slot)) {
            heads.insert(store, slot);
        }
        heads
    }

    pub(crate) fn get(&self, store: &Store, key: &[u8]) -> Option<Slot> {
        self.find(store, key).map(|place| self.slots[place])
    }

    /// Adds a slot whose document is not in the table.
    pub(crate) fn insert(&mut self, store: &Store, slot: Slot) {
        if (self.len + 1) * 8 > self.tags.len() * 7 {
            self.resize(store, self.tags.len() + (self.tags.len() / 4).max(LEAST));
        }
        self.put(self.hasher.hash_one(&*store.key(slot)), slot);
        self.len += 1;
    }

    pub(crate) fn remove(&mut self, store: &Store, key: &[u8]) -> Option<Slot> {
        let mut hole = self.find(store, key)?;
        let removed = self.slots[hole];
        self.tags[hole] = FREE;
        self.len -= 1;
        // Entries behind the hole move into it unless that is before their home.
        let mut place = hole;
        loop {
            place = self.after(place);
            if self.tags[place] == FREE {
                return Some(removed);
            }
            let home = self.home(self.hasher.hash_one(&*store.key(self.slots[place])));
            let distance = |from: usize| (place + self.tags.len() - from) % self.tags.len();
            if distance(home) >= distance(hole) {
                self.tags[hole] = self.tags[place];
                self.slots[hole] = self.slots[place];
                self.tags[place] = FREE;
                hole = place;
            }
        }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        (size_of_val(&*self.tags) + size_of_val(&*self.slots)) as u64
    }

    fn find(&self, store: &Store, key: &[u8]) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let hash = self.hasher.hash_one(key);
        let mut place = self.home(hash);
        loop {
            match self.tags[place] {
                FREE => return None,
                held if held == tag(hash) && *store.key(self.slots[place]) == *key => return Some(place),
                _ => place = self.after(place),
            }
        }
    }

    /// Writes an entry to the first free place from its home on.
    fn put(&mut self, hash: u64, slot: Slot) {
        let mut place = self.home(hash);
        while self.tags[place] != FREE {
            place = self.after(place);
        }
        self.tags[place] = tag(hash);
        self.slots[place] = slot;
    }

    fn resize(&mut self, store: &Store, places: usize) {
        let old = std::mem::take(&mut self.slots);
        let tags = std::mem::replace(&mut self.tags, vec![FREE; places].into());
        self.slots = vec![0; places].into();
        for (&slot, _) in old.iter().zip(&tags).filter(|(_, tag)| **tag != FREE) {
            self.put(self.hasher.hash_one(&*store.key(slot)), slot);
        }
    }

    /// The place for a hash, by its upper bits: a multiplication instead of a division (Lemire,
    /// arXiv 1805.10941).
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.tags.len() as u128) >> 64) as usize
    }

    fn after(&self, place: usize) -> usize {
        if place + 1 == self.tags.len() { 0 } else { place + 1 }
    }
}

/// The lower bits of a hash, which the place does not depend on.
fn tag(hash: u64) -> u8 {
    (hash as u8).max(FREE + 1)
}

/// Places of a table that is made for so many entries.
fn places_for(entries: usize) -> usize {
    entries + entries / 4 + LEAST
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
    use proptest::prelude::*;

    use super::*;
    use crate::form::Form;

    proptest! {
        /// The table against a map, with the keys of a store, through growth and removals.
        #[test]
        fn the_table_is_a_map(steps in proptest::collection::vec((0u16..400, 0u8..3), 0..1_500)) {
            let mut store = Store::new(Form::floats(1));
            let (mut heads, mut model) = (Heads::default(), HashMap::new());
            for (number, step) in steps {
                let key = number.to_string().into_bytes();
                prop_assert_eq!(heads.get(&store, &key), model.get(&key).copied());
                let removed = heads.remove(&store, &key);
                prop_assert_eq!(removed, model.remove(&key));
                if step > 0 {
                    let slot = store.push(&key, SeqNo { primary_term: 1, seq_no: 1 }, &[0]);
                    heads.insert(&store, slot);
                    model.insert(key, slot);
                }
                prop_assert_eq!(heads.len, model.len());
            }
            for (key, slot) in &model {
                prop_assert_eq!(heads.get(&store, key), Some(*slot));
            }
        }
    }

    #[test]
    fn a_document_costs_at_most_seven_and_a_quarter_bytes() {
        let mut store = Store::new(Form::floats(1));
        let mut heads = Heads::default();
        for n in 0..20_000u32 {
            let slot = store.push(&n.to_le_bytes(), SeqNo { primary_term: 1, seq_no: 1 }, &[0]);
            heads.insert(&store, slot);
            if n >= 1_000 {
                assert!(
                    heads.memory_bytes() as f64 <= 7.25 * f64::from(n + 1),
                    "{n}: {}",
                    heads.memory_bytes()
                );
            }
        }
        assert!(Heads::of(&store).memory_bytes() as f64 <= 7.25 * 20_000.0);
    }

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
