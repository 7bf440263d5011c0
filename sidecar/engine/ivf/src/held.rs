//! Versions that Elasticsearch acknowledged and that no search is known to show yet. They wait here,
//! coded, until the feed names their order; several versions of one document may wait at once.
//!
//! Within the history of a shard an order (`_seq_no` and primary term) is given to one operation, so it
//! alone names a version.

use std::collections::BTreeMap;

use knn_types::{Change, ChangeKind, SeqNo};

use crate::budget::{Budget, Share};
use crate::form::Form;
use crate::staged::StagedChange;

/// Bytes of a held version besides its vector: its key, its code, and its place in the tree.
const VERSION_BYTES: u64 = 256;

/// See the module.
pub(crate) struct Held {
    /// By `_seq_no`, then primary term, since cursors are numbers.
    versions: BTreeMap<(u64, u64), Version>,
    bytes: u64,
    /// Of what all indexes together may hold.
    share: Share,
}

struct Version {
    key: Box<[u8]>,
    change: StagedChange,
}

impl Version {
    fn bytes(&self) -> u64 {
        bytes(self.change.rows.as_ref().map_or(0, |rows| rows.len() as u64 * 4))
    }
}

fn bytes(of_vectors: u64) -> u64 {
    VERSION_BYTES + of_vectors
}

/// How many of the changes, from the first one on, fit every budget.
pub(crate) fn that_fit(changes: &[Change], form: &Form, budgets: &[&Budget]) -> usize {
    let mut wanted = 0;
    let size = |change: &Change| match &change.kind {
        ChangeKind::Upsert(vectors) => bytes((form.count(vectors) * form.words() * 4) as u64),
        ChangeKind::Delete => bytes(0),
    };
    changes
        .iter()
        .take_while(|change| {
            wanted += size(change);
            budgets.iter().all(|budget| budget.fits(wanted))
        })
        .count()
}

impl Held {
    pub(crate) fn new(share: Share) -> Self {
        Self { versions: BTreeMap::new(), bytes: 0, share }
    }

    pub(crate) fn len(&self) -> usize {
        self.versions.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keeps a version. One of the same order is the same version.
    pub(crate) fn insert(&mut self, key: &[u8], change: StagedChange) {
        let at = (change.order.seq_no, change.order.primary_term);
        let version = Version { key: key.into(), change };
        let more = version.bytes();
        let replaced = self.versions.insert(at, version).map_or(0, |old| old.bytes());
        self.set_bytes(self.bytes + more - replaced);
    }

    /// Hands over the version of an order.
    pub(crate) fn take(&mut self, order: SeqNo) -> Option<(Box<[u8]>, StagedChange)> {
        let version = self.versions.remove(&(order.seq_no, order.primary_term))?;
        self.set_bytes(self.bytes - version.bytes());
        Some((version.key, version.change))
    }

    /// Lets go of everything at or below `cursor`.
    pub(crate) fn let_go_to(&mut self, cursor: i64) {
        let Ok(cursor) = u64::try_from(cursor) else { return };
        let newer = self.versions.split_off(&(cursor.saturating_add(1), 0));
        let gone = std::mem::replace(&mut self.versions, newer);
        let freed: u64 = gone.values().map(Version::bytes).sum();
        self.set_bytes(self.bytes - freed);
    }

    /// Lets go of everything that `keep` does not name.
    pub(crate) fn retain(&mut self, keep: impl Fn(SeqNo) -> bool) {
        self.versions.retain(|_, version| keep(version.change.order));
        self.set_bytes(self.versions.values().map(Version::bytes).sum());
    }

    fn set_bytes(&mut self, bytes: u64) {
        self.bytes = bytes;
        self.share.set(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(seq_no: u64, primary_term: u64, words: usize) -> StagedChange {
        let rows = (words > 0).then(|| vec![0; words]);
        StagedChange { order: SeqNo { primary_term, seq_no }, rows, coded: None }
    }

    #[test]
    fn bytes_come_and_go_with_versions() {
        let budget = Budget::new(Some(10_000));
        let mut held = Held::new(budget.share());
        held.insert(b"a", change(1, 1, 10));
        held.insert(b"a", change(2, 1, 10));
        held.insert(b"b", change(2, 2, 0));
        held.insert(b"b", change(2, 2, 0));
        held.insert(b"c", change(9, 2, 10));
        assert_eq!((held.len(), held.bytes()), (4, 4 * VERSION_BYTES + 3 * 40));
        assert_eq!(budget.memory_use().used, held.bytes());
        assert!(held.take(SeqNo { primary_term: 1, seq_no: 9 }).is_none(), "another term, another version");
        assert_eq!(held.take(SeqNo { primary_term: 2, seq_no: 9 }).map(|(key, _)| key), Some((*b"c").into()));
        held.retain(|order| order.primary_term == 1);
        assert_eq!((held.len(), held.bytes()), (2, 2 * VERSION_BYTES + 80));
        held.let_go_to(-1);
        held.let_go_to(1);
        assert_eq!((held.len(), budget.memory_use().used), (1, VERSION_BYTES + 40));
        drop(held);
        assert_eq!(budget.memory_use().used, 0);
    }

    #[test]
    fn what_fits_is_counted_from_the_first() {
        let (small, large) = (Budget::new(Some(2 * VERSION_BYTES + 50)), Budget::new(None));
        let order = SeqNo { primary_term: 1, seq_no: 1 };
        let doc = knn_types::DocKey::new("a");
        let upsert = Change { doc: doc.clone(), order, kind: ChangeKind::Upsert(vec![0.0; 10]) };
        let delete = Change { doc, order, kind: ChangeKind::Delete };
        let fit = |changes: &[&Change]| {
            let changes: Vec<Change> = changes.iter().map(|&change| change.clone()).collect();
            that_fit(&changes, &Form::floats(5), &[&small, &large])
        };
        assert_eq!(fit(&[&upsert, &upsert]), 1);
        assert_eq!(fit(&[&upsert, &delete, &delete]), 2);
        assert_eq!(fit(&[]), 0);
    }
}
