//! Whether vectors come from the disk. Nobody says so beforehand, and asking the system (`mincore`)
//! for each row would cost as much as a search. So reads are timed: rows in memory take a few hundred
//! nanoseconds, those on a disk at least ten times as long. While rows are slow, the system is told of
//! all that will be read before the first is waited for, and the disk works on them side by side. One
//! read in so many goes without that, to notice when rows are in memory again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Mean nanoseconds per row from which reading ahead pays: less than a read of any disk.
const SLOW: f32 = 3_000.0;
/// Share of a new measurement in the mean.
const WEIGHT: f32 = 1.0 / 16.0;
/// A longer read counts as this one: a thread that lost its processor once tells nothing of the disk.
const LONGEST: f32 = 40_000.0;
/// While rows are slow, one batch in so many is read as if they were not.
const PROBES: u32 = 16;

/// How fast vectors of one index are read where nobody reads ahead, by all threads together. A lost
/// update does no harm.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Nanoseconds per row, as the bits of a float.
    mean: AtomicU32,
    /// Batches since rows became slow.
    batches: AtomicU32,
}

impl Reads {
    /// Whether to tell the system of the next batch of rows beforehand.
    #[inline]
    pub(crate) fn go_ahead(&self) -> bool {
        self.mean() > SLOW && !self.batches.fetch_add(1, Ordering::Relaxed).is_multiple_of(PROBES)
    }

    /// So many rows that nobody told of took so long to be read and compared.
    pub(crate) fn took(&self, took: Duration, rows: usize) {
        if rows > 0 {
            let each = (took.as_nanos() as f32 / rows as f32).min(LONGEST);
            let mean = self.mean();
            self.mean.store((mean + (each - mean) * WEIGHT).to_bits(), Ordering::Relaxed);
        }
    }

    fn mean(&self) -> f32 {
        f32::from_bits(self.mean.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use knn_types::{
        Change, ChangeKind, DocKey, Element, Epoch, FieldSpec, IndexKey, KnnIndex, Metric, Query, SeqNo,
    };

    use super::*;
    use crate::budget::Budget;
    use crate::config::EngineConfig;
    use crate::index::Index;
    use crate::snapshot::Disk;

    const DIMS: usize = 32;
    const DISK: Duration = Duration::from_micros(90);

    fn row(n: u64) -> Vec<f32> {
        (0..DIMS as u64).map(|d| ((n * 37 + d * d * 11) % 97) as f32).collect()
    }

    fn change(n: u64) -> Change {
        let order = SeqNo { primary_term: 1, seq_no: n };
        Change { doc: DocKey::new(n.to_string()), order, kind: ChangeKind::Upsert(row(n)) }
    }

    fn open(dir: &Path) -> Index {
        let key = IndexKey { index_uuid: "u".into(), shard: 0, history_uuid: "h".into(), field: "f".into() };
        let spec = FieldSpec {
            element: Element::Float,
            dims: DIMS,
            metric: Metric::L2,
            options: Default::default(),
        };
        let config = EngineConfig { exact_below: 200, ..EngineConfig::default() };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let shares = (Budget::new(None).share(), Budget::new(None).share());
        Index::open(&key, &spec, &config, Arc::new(pool), Some(Disk::at(dir)), shares)
    }

    /// Rows in files and, for what came last, in memory: told of beforehand or not, they are the same.
    #[test]
    fn searches_that_read_ahead_find_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let index = open(dir.path());
        index.stage((0..5_000).map(change).collect()).unwrap();
        index.publish(Epoch { cursor: 4_999, max_seq_no: 4_999, primary_term: 1 }).unwrap();
        while index.maintain().unwrap() {}
        assert!(index.snapshot().unwrap());
        index.stage((5_000..5_100).map(change).collect()).unwrap();
        index.publish(Epoch { cursor: 5_099, max_seq_no: 5_099, primary_term: 1 }).unwrap();
        let view = index.published.load_full();
        let reads = view.store.reads();
        for n in (0..5_100).step_by(173) {
            let vector = row(n);
            let query = Query { vector: &vector, k: 20, num_candidates: 40, nprobe: None, filter: None };
            (0..100).for_each(|_| reads.took(Duration::from_nanos(300), 1));
            let plain = index.view().search(&query).unwrap();
            (0..100).for_each(|_| reads.took(DISK, 1));
            assert!(reads.go_ahead() || reads.go_ahead());
            let ahead = index.view().search(&query).unwrap();
            assert_eq!((plain.hits, plain.stats), (ahead.hits, ahead.stats), "{n}");
        }
    }

    #[test]
    fn disks_are_noticed_and_forgotten_and_a_pause_is_neither() {
        let reads = Reads::default();
        let memory = Duration::from_nanos(400);
        reads.took(memory * 10, 10);
        assert!(!reads.go_ahead());
        reads.took(Duration::from_millis(20), 1);
        assert!(!reads.go_ahead(), "a pause");
        (0..8).for_each(|_| reads.took(DISK * 10, 10));
        let ahead = (0..160).filter(|_| reads.go_ahead()).count();
        assert_eq!(ahead, 150, "one in sixteen tells of the disk");
        (0..60).for_each(|_| reads.took(memory * 10, 10));
        assert!((0..16).all(|_| !reads.go_ahead()), "all is in memory again");
    }
}
