//! The ports: what the wire and the feed may ask of the engine.
//!
//! All calls are synchronous. `stage`, `confirm`, `publish`, `rollback_above` and the census calls of
//! [`KnnIndex`] come from one feed task per shard; `hold`, `view` and everything on [`KnnView`] may be
//! called from any thread at any time, and views never wait for a writer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::{Allow, Change, DocKey, Epoch, Explanation, FieldSpec, IndexKey, SeqNo, SlotFilter};

/// All vector indexes of one node.
pub trait KnnEngine: Send + Sync {
    /// Opens the index of `key`: from its newest sound snapshot if there is one with the same
    /// `spec.element`, `spec.dims` and `spec.metric`, else empty. Damaged files are set aside and logged, never
    /// an error. Opening twice gives the same index, with the options of the last call: effort changes
    /// at once, the number of lists with the next training.
    fn open(&self, key: &IndexKey, spec: &FieldSpec) -> Result<Arc<dyn KnnIndex>, EngineError>;

    /// Forgets `key` and deletes its files. Views that are in use stay usable.
    fn remove(&self, key: &IndexKey);

    /// Deletes files of every key for which `keep` says no and that is not open.
    fn sweep(&self, keep: &dyn Fn(&IndexKey) -> bool);
}

/// The index of one field on one shard history.
pub trait KnnIndex: Send + Sync {
    /// Takes in changes that the next published state shows, unseen by searches until then. Idempotent;
    /// per document the last (`_primary_term`, `_seq_no`) wins whatever the order of calls.
    fn stage(&self, changes: Vec<Change>) -> Result<(), EngineError>;

    /// Keeps changes that were acknowledged and that nobody knows to be shown yet: several versions of
    /// one document may be kept, and nothing counts them. Within limits of its own; what does not fit
    /// is let go of without an error, for the caller can learn it in another way.
    fn hold(&self, changes: Vec<Change>) -> Result<(), EngineError>;

    /// Stages the held changes of these orders. Returns the positions of those that are not held.
    fn confirm(&self, shown: &[SeqNo]) -> Result<Vec<usize>, EngineError>;

    /// Makes everything staged visible at once: a search sees all of it or nothing of it. What is held
    /// at or below the cursor was superseded and is let go of.
    fn publish(&self, epoch: Epoch) -> Result<(), EngineError>;

    /// Forgets every change, held, staged or published, with `_seq_no` above `order.seq_no` and a
    /// primary term not above `order.primary_term`, as a fail-over to a copy that lost them demands. The
    /// caller reads again from there: documents so forgotten come back with an older version.
    fn rollback_above(&self, order: SeqNo) -> Result<(), EngineError>;

    /// The newest published state. Cheap; hold it for the length of one search.
    fn view(&self) -> Arc<dyn KnnView>;

    /// Number of documents with a vector, or several, counting what is staged as if it were published.
    fn live(&self) -> u64;

    /// The newest order that is known for a document, staged included; `None` if it has no vector here.
    fn order_of(&self, doc: &DocKey) -> Option<SeqNo>;

    /// Documents per range of `width` sequence numbers, staged included: entry `i` counts
    /// `_seq_no` in `i * width .. (i + 1) * width`.
    fn counts_by_seq_no(&self, width: u64) -> Vec<u64>;

    /// Documents whose `_seq_no` lies in `from..to`, staged included.
    fn docs_between(&self, from: u64, to: u64) -> Vec<(DocKey, SeqNo)>;

    /// Upkeep that may take long (train, retrain, calibrate, freeze, purge, check stored vectors), on
    /// the caller's thread, beside searches and changes. Returns whether there may be more to do.
    fn maintain(&self) -> Result<bool, EngineError>;

    /// Whether stored vectors turned out to be damaged. Searches fail then, and opening the index anew
    /// sets its files aside and begins from nothing.
    fn is_damaged(&self) -> bool {
        false
    }

    /// Writes the published state to disk if it changed since the last snapshot. Returns whether
    /// a snapshot was written.
    fn snapshot(&self) -> Result<bool, EngineError>;

    /// Numbers for logs, metrics and `_stats`.
    fn stats(&self) -> IndexStats;
}

/// One published state of an index; never changes.
pub trait KnnView: Send + Sync {
    /// The position that was published.
    fn epoch(&self) -> Epoch;

    /// Number of documents that a search can find.
    fn len(&self) -> usize;

    /// Whether nothing can be found.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of vectors that these documents have.
    fn vectors(&self) -> usize {
        self.len()
    }

    /// The `query.k` nearest documents, nearest first, equal values by ascending `_seq_no`. Values
    /// are exact: computed from the stored float32 vectors, of several the nearest one's.
    fn search(&self, query: &Query<'_>) -> Result<Found, EngineError>;

    /// The same by comparing every vector that may be found, whatever the effort: the truth that
    /// recall is measured against.
    fn search_exactly(&self, query: &Query<'_>) -> Result<Found, EngineError>;

    /// Answers each query as [`KnnView::search`] would, in their order.
    fn search_batch(&self, queries: &[Query<'_>]) -> Vec<Result<Found, EngineError>> {
        queries.iter().map(|query| self.search(query)).collect()
    }

    /// A filter that lets through the documents of this view that `allow` names. Takes time in proportion
    /// to the documents, and to what is allowed: whatever searches of this view derive from the filter is
    /// derived here.
    fn filter(&self, allow: Allow<'_>) -> Arc<dyn SlotFilter>;

    /// The same filter with the slots that came after it, as far as `allow` names them, ready for searches
    /// of this view as one from [`KnnView::filter`] is. Documents that it has decided are not asked about
    /// again.
    ///
    /// # Errors
    /// [`EngineError::StaleFilter`] if slots were given new numbers since it was made.
    fn extend_filter(
        &self,
        filter: &dyn SlotFilter,
        allow: Allow<'_>,
    ) -> Result<Arc<dyn SlotFilter>, EngineError>;

    /// How many slots must be looked at to make a filter ready for this view, about; 0: it is ready. A
    /// search under a filter that lacks slots does not find what stands in them. Cheap.
    ///
    /// # Errors
    /// [`EngineError::StaleFilter`] if slots were given new numbers since it was made.
    fn filter_debt(&self, filter: &dyn SlotFilter) -> Result<u64, EngineError>;

    /// Number of documents of this view that a filter lets through.
    ///
    /// # Errors
    /// [`EngineError::StaleFilter`] if slots were given new numbers since it was made.
    fn allowed(&self, filter: &dyn SlotFilter) -> Result<u64, EngineError>;

    /// Why [`KnnView::search`] does or does not find a document; `None` if it has no vector here. Takes as
    /// long as looking through all documents.
    fn explain(&self, query: &Query<'_>, doc: &DocKey) -> Result<Option<Explanation>, EngineError>;

    /// What a search like this is expected to take on this machine, from earlier ones.
    fn predicted_cost(&self, query: &Query<'_>) -> Duration;
}

/// One nearest-neighbour question.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// [`FieldSpec::values`] numbers as the field's [`crate::Element`] says; floats are finite, and
    /// normalised for cosine.
    pub vector: &'a [f32],
    /// Hits wanted, 1..=10,000.
    pub k: usize,
    /// Elasticsearch's effort, `k..=10,000`: monotone in recall, and at equal value at least the
    /// recall of HNSW with that many candidates. The defaults of the field are the lower limit.
    pub num_candidates: usize,
    /// Visit exactly this many lists, whatever `num_candidates` says; for experiments and calibration.
    pub nprobe: Option<usize>,
    /// Only documents that it lets through are found; `None`: all.
    pub filter: Option<&'a dyn SlotFilter>,
}

impl<'a> Query<'a> {
    /// A question with the default effort, Elasticsearch's one and a half times `k`.
    pub fn new(vector: &'a [f32], k: usize) -> Self {
        Self { vector, k, num_candidates: (k + k.div_ceil(2)).min(10_000).max(k), nprobe: None, filter: None }
    }
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Nearest first.
    pub hits: Vec<Hit>,
    /// What it took.
    pub stats: SearchStats,
}

/// One document found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The document.
    pub doc: DocKey,
    /// The version of the document whose vector was compared.
    pub order: SeqNo,
    /// Squared distance for l2 (of bits: how many differ), inner product otherwise (of bytes under
    /// cosine: divided by the lengths); exact float32.
    pub value: f32,
}

/// Work done for one search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchStats {
    /// Lists visited; 0 for an exact scan.
    pub lists: usize,
    /// Entries whose distance was estimated.
    pub scanned: usize,
    /// Entries compared by their full vectors.
    pub reranked: usize,
}

/// Where an index stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildState {
    /// Few vectors: every search is an exact scan.
    Exact,
    /// Lists are being trained; searches are exact scans until then.
    Training,
    /// Searches visit lists.
    Lists,
}

/// Numbers of one index.
#[derive(Clone, Debug)]
pub struct IndexStats {
    /// Documents that a search can find.
    pub docs: u64,
    /// Changes that the next published state will show.
    pub staged: u64,
    /// Changes that are held; see [`KnnIndex::hold`].
    pub held: u64,
    /// Bytes that these take, about.
    pub held_bytes: u64,
    /// Published position.
    pub epoch: Epoch,
    /// Where it stands.
    pub state: BuildState,
    /// Number of lists; 0 while exact.
    pub nlist: usize,
    /// Lists visited by default; 0 while exact.
    pub nprobe: usize,
    /// Recall@10 that calibration measured at the default effort, when it has run.
    pub recall: Option<f32>,
    /// What calibration measured for ten hits, least effort first; empty while exact.
    pub curve: Vec<CurvePoint>,
    /// Sum of squares of list sizes against even lists: 1 is even.
    pub imbalance: f32,
    /// What upkeep did, and how well the lists fit.
    pub upkeep: Upkeep,
    /// Bytes of memory held, originals included.
    pub memory_bytes: u64,
    /// Bytes of the newest snapshot on disk.
    pub disk_bytes: u64,
}

/// One measured point of the curve from effort to recall.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// Recall of sampled queries, 0 to 1.
    pub recall: f32,
    /// Lists visited.
    pub nprobe: usize,
    /// Entries scanned per query; `None` where it was not measured (indexes of older versions).
    pub scanned: Option<usize>,
    /// Vectors compared in full per query, about.
    pub reranked: usize,
    /// Microseconds per query on one thread, as it was when the index was trained.
    pub microseconds: Option<f32>,
}

/// What upkeep has done to an index since it was opened, and how well its lists fit what is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Upkeep {
    /// Times that all lists were trained, the first one included.
    pub trainings: u64,
    /// Lists that were split because they had grown.
    pub splits: u64,
    /// Lists that were dissolved because they had shrunk.
    pub merges: u64,
    /// Entries that moved to another list because a centroid near to them came or went.
    pub reassigned: u64,
    /// Times that effort was measured anew without training.
    pub calibrations: u64,
    /// Mean squared residual of what was added since training, when it was added, against that at
    /// training: 1 is alike.
    pub drift: f32,
    /// Mean squared residual of all vectors, when last measured, against that at training.
    pub inertia: f32,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self { trainings: 0, splits: 0, merges: 0, reassigned: 0, calibrations: 0, drift: 1.0, inertia: 1.0 }
    }
}

/// What can go wrong inside the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The caller gave a vector of another length.
    #[error("vector has {got} dimensions, the field has {want}")]
    Dims {
        /// Length that came.
        got: usize,
        /// Length of the field.
        want: usize,
    },
    /// The caller gave a value that is no whole number in -128..=127 to a byte or bit field.
    #[error("value {value} at {at} is no signed byte")]
    NotAByte {
        /// Position in the vector.
        at: usize,
        /// The value.
        value: f32,
    },
    /// There can be no such field.
    #[error("{0}")]
    Field(&'static str),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// What was stored is not what was written; the index must be opened anew.
    #[error("stored vectors are damaged: {0}")]
    Damaged(String),
    /// The filter belongs to slots that have other numbers now (or to another index): make it anew.
    #[error("the filter belongs to slots of another time or index")]
    StaleFilter,
    /// The memory budget does not allow it.
    #[error(
        "the memory budget of {budget} bytes does not suffice: {used} are used, {wanted} more are wanted"
    )]
    Memory {
        /// Bytes that all indexes hold.
        used: u64,
        /// Bytes that were asked for, about.
        wanted: u64,
        /// Bytes that they may hold.
        budget: u64,
    },
    /// Training could not be done.
    #[error("training failed: {0}")]
    Training(String),
}
