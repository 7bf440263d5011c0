//! Filters: which documents a search may find, as the slots of one index.
//!
//! A filter is made once from an answer of Elasticsearch and used by many searches. It belongs to
//! the slots of the view it was made from: documents that came later are not in it until it is
//! extended, and compaction, which gives slots new numbers, makes it stale.

use std::any::Any;
use std::fmt::Debug;

use roaring::RoaringTreemap;

use crate::{DocKey, SeqNo};

/// The documents that a filter lets through.
#[derive(Clone, Copy)]
pub enum Allow<'a> {
    /// Those whose present version has one of these `_seq_no`s.
    SeqNos(&'a RoaringTreemap),
    /// Those for which the predicate says yes; it is asked once per live document.
    Docs(&'a dyn Fn(&DocKey, SeqNo) -> bool),
}

/// Allowed slots of one index, in the engine's own form. Made, extended and counted by
/// [`crate::KnnView`]; never changes but for what it learns to search faster.
pub trait SlotFilter: Any + Debug + Send + Sync {
    /// Slots allowed (one for each vector), counting documents that were deleted or replaced since: an upper
    /// bound.
    fn len(&self) -> u64;

    /// Whether no slot is allowed.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first slot that was not looked at: every earlier one is decided.
    fn up_to(&self) -> u64;

    /// Bytes of memory held: the slots, and what searches have derived from them so far.
    fn memory_bytes(&self) -> u64;
}
