//! The engine's filters: allowed slots as a roaring bitmap, bound to the slots they were made from,
//! with what searches derive from them.

use std::any::Any;

use knn_types::{Allow, EngineError, SlotFilter};
use roaring::RoaringBitmap;

use crate::store::{Slot, Store};

/// See [`SlotFilter`].
#[derive(Debug)]
pub(crate) struct Filter {
    /// Of the store whose slots these are.
    lineage: u64,
    /// The first slot that was not looked at.
    up_to: Slot,
    allowed: RoaringBitmap,
}

impl Filter {
    /// The live slots of a store that `allow` names.
    pub(crate) fn new(store: &Store, allow: Allow<'_>) -> Self {
        let empty = Self { lineage: store.lineage(), up_to: 0, allowed: RoaringBitmap::new() };
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
        Self { lineage: self.lineage, up_to, allowed }
    }

    /// Allowed slots of a view, dead ones left out.
    pub(crate) fn live<'a>(&'a self, store: &'a Store) -> impl Iterator<Item = Slot> + 'a {
        let slots = self.allowed.range(..store.slots() as Slot);
        slots.filter(|&slot| !store.is_dead(slot))
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
        (size_of::<Self>() + self.allowed.serialized_size()) as u64
    }
}
