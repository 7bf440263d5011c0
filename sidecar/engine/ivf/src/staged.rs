//! Changes that were acknowledged and are not yet published: the newest per document.

use std::collections::HashMap;

use knn_types::SeqNo;

use crate::lists::Entry;

/// The newest staged change of one document.
pub(crate) struct StagedChange {
    pub(crate) order: SeqNo,
    /// Its vectors as rows end to end. `None`: the document goes.
    pub(crate) rows: Option<Vec<u32>>,
    /// The code of each row, and the generation that they belong to.
    pub(crate) coded: Option<(u64, Box<[Entry]>)>,
}

impl StagedChange {
    /// Words of its rows.
    pub(crate) fn words(&self) -> usize {
        self.rows.as_ref().map_or(0, Vec::len)
    }
}

/// Staged changes by encoded key.
pub(crate) type Staged = HashMap<Box<[u8]>, StagedChange>;

/// Whether a change of `order` replaces what is `held`: only a newer one does, and of two with the
/// same order the deletion (an audit deletes with the order that it found held).
pub(crate) fn replaces(order: SeqNo, deletes: bool, held: SeqNo, held_is_vector: bool) -> bool {
    order > held || (order == held && deletes && held_is_vector)
}
