//! The engine's filters: allowed slots as a roaring bitmap, bound to the slots they were made from,
//! with what searches derive from them.

use std::any::Any;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use knn_types::{Allow, EngineError, SlotFilter};
use roaring::RoaringBitmap;

use crate::lists::Lists;
use crate::store::{Slot, Store};
use crate::subset::Subset;

/// Allowed slots that came after a subset was made and are compared exactly in each search: so many, or
/// one for so many in the subset.
const LATE: u64 = 256;
const LATE_SHARE: u64 = 16;

/// See [`SlotFilter`].
#[derive(Debug)]
pub(crate) struct Filter {
    /// Of the store whose slots these are.
    lineage: u64,
    /// The first slot that was not looked at.
    up_to: Slot,
    allowed: RoaringBitmap,
    /// Made by the first search that wants it.
    subset: ArcSwapOption<Subset>,
}

impl Filter {
    /// The live slots of a store that `allow` names.
    pub(crate) fn new(store: &Store, allow: Allow<'_>) -> Self {
        let empty = Self {
            lineage: store.lineage(),
            up_to: 0,
            allowed: RoaringBitmap::new(),
            subset: ArcSwapOption::empty(),
        };
        empty.extended(store, allow)
    }

    /// The filter behind a port, if its slots are those of `store`.
    pub(crate) fn of<'a>(filter: &'a dyn SlotFilter, store: &Store) -> Result<&'a Self, EngineError> {
        let filter: &dyn Any = filter;
        let ours = filter.downcast_ref::<Self>().filter(|filter| filter.lineage == store.lineage());
        ours.ok_or(EngineError::StaleFilter)
    }

    /// With the slots that came after it.
    pub(crate) fn extended(&self, store: &Store, allow: Allow<'_>) -> Self {
        let mut allowed = self.allowed.clone();
        let names = |slot: Slot| match allow {
            Allow::SeqNos(seq_nos) => seq_nos.contains(store.order(slot).seq_no),
            Allow::Docs(predicate) => predicate(&store.doc(slot), store.order(slot)),
        };
        // An older view may be asked to extend a newer filter: then there is nothing to look at.
        let up_to = self.up_to.max(store.slots() as Slot);
        let new = (self.up_to..store.slots() as Slot).filter(|&slot| !store.is_dead(slot) && names(slot));
        allowed.append(new).expect("slots ascend and come after those held");
        let subset = ArcSwapOption::new(self.subset.load_full());
        Self { lineage: self.lineage, up_to, allowed, subset }
    }

    /// Allowed slots, dead ones included.
    pub(crate) fn count(&self) -> u64 {
        self.allowed.len()
    }

    /// Allowed slots of a view from `from` on, dead ones left out.
    pub(crate) fn live<'a>(&'a self, store: &'a Store, from: Slot) -> impl Iterator<Item = Slot> + 'a {
        let slots = self.allowed.range(from..(store.slots() as Slot).max(from));
        slots.filter(|&slot| !store.is_dead(slot))
    }

    /// Allowed documents of a view.
    pub(crate) fn documents(&self, store: &Store) -> usize {
        self.live(store, 0).filter(|&slot| !store.is_follower(slot)).count()
    }

    /// The first slot of a view on which the filter says nothing.
    pub(crate) fn decided(&self, store: &Store) -> Slot {
        self.up_to.min(store.slots() as Slot)
    }

    /// Allowed slots below `up_to`, one bit each.
    pub(crate) fn bits(&self, up_to: Slot) -> Vec<u64> {
        let mut bits = vec![0u64; (up_to as usize).div_ceil(64)];
        self.allowed.range(..up_to).for_each(|slot| bits[slot as usize / 64] |= 1 << (slot % 64));
        bits
    }

    /// Whether a subset is known that searches of these lists can use.
    pub(crate) fn has_subset(&self, store: &Store, lists: &Lists) -> bool {
        self.subset.load().as_ref().is_some_and(|subset| self.fits(subset, store, lists))
    }

    fn fits(&self, subset: &Subset, store: &Store, lists: &Lists) -> bool {
        let late = subset.up_to..self.decided(store).max(subset.up_to);
        subset.generation == lists.generation.id
            && self.allowed.range_cardinality(late) <= LATE.max(subset.len() as u64 / LATE_SHARE)
    }

    /// What is known of the lists, made now if nothing fitting is known.
    pub(crate) fn subset(&self, store: &Store, lists: &Lists) -> Arc<Subset> {
        if let Some(subset) = self.subset.load_full()
            && self.fits(&subset, store, lists)
        {
            return subset;
        }
        let subset = Arc::new(Subset::new(self, store, lists));
        self.subset.store(Some(Arc::clone(&subset)));
        subset
    }
}

impl SlotFilter for Filter {
    fn len(&self) -> u64 {
        self.allowed.len()
    }

    fn up_to(&self) -> u64 {
        u64::from(self.up_to)
    }

    fn memory_bytes(&self) -> u64 {
        let subset = self.subset.load().as_ref().map_or(0, |subset| subset.memory_bytes());
        (size_of::<Self>() + self.allowed.serialized_size() + subset) as u64
    }
}
