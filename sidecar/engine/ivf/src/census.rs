//! The documents of an index by `_seq_no`, as if everything staged were published: what an audit
//! compares with Elasticsearch.

use std::ops::Range;

use knn_types::{DocKey, SeqNo};

use crate::index::Index;
use crate::keys;
use crate::store::Slot;

impl Index {
    /// Visits every document whose `_seq_no` lies in the range, in no particular order. The lock is not
    /// held while `visit` runs.
    pub(crate) fn census(&self, range: &Range<u64>, mut visit: impl FnMut(&dyn Fn() -> DocKey, SeqNo)) {
        let (store, staged, mut superseded) = {
            let writer = self.writer.lock();
            let staged: Vec<(Box<[u8]>, SeqNo)> = writer
                .staged
                .iter()
                .filter(|(_, change)| change.rows.is_some() && range.contains(&change.order.seq_no))
                .map(|(key, change)| (key.clone(), change.order))
                .collect();
            let heads = writer.staged.keys().filter_map(|key| writer.heads.get(&writer.store, key));
            let superseded: Vec<Slot> = heads.collect();
            (writer.store.clone(), staged, superseded)
        };
        superseded.sort_unstable();
        let mut superseded = superseded.into_iter().peekable();
        for (slot, order) in store.live_between(range) {
            while superseded.next_if(|&old| old < slot).is_some() {}
            if superseded.peek() != Some(&slot) {
                visit(&|| store.doc(slot), order);
            }
        }
        for (key, order) in &staged {
            visit(&|| keys::decode(key).expect("staged keys are encoded"), *order);
        }
    }
}
