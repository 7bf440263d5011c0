//! What the request path asks of the rest of the node. The binary supplies it, tests fake it.

use std::pin::Pin;
use std::sync::Arc;

use es_wire::{Acknowledged, Catalog, DocFilter, IndexInfo, Reach};
use es_wire::{Capabilities, EsVersion};
use knn_types::{DocKey, SeqNo};

use crate::door::limits::fair::Flow;
use crate::insight::{DocumentFate, RecallPoint, RecallQuery, ShardWork};

/// A boxed future, so that ports are object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is known of the Elasticsearch behind us.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// Its version.
    pub version: EsVersion,
    /// What that version can do; `None` for a version that we do not know: everything passes.
    pub capabilities: Option<Capabilities>,
    /// Whether it was found to have no security at all.
    pub security_absent: bool,
}

/// Which indices a refresh may have touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Any of them.
    All,
    /// One index, by name or alias.
    Index(String),
}

/// What may be done to a first build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildCommand {
    /// Ends it; what was read is kept, and searches pass.
    Cancel,
    /// Goes on with one that was cancelled.
    Start,
}

/// The cluster as the feed knows it.
pub trait Cluster: Send + Sync + 'static {
    /// Names, mappings and aliases, at most one poll interval old.
    fn catalog(&self) -> Arc<Catalog>;

    /// The node behind us; `None` until it answered once.
    fn node(&self) -> Option<Arc<NodeFacts>>;

    /// Waits until everything Elasticsearch shows at the time of the call is published here.
    /// Returns false when that took too long.
    fn published(&self, scope: Scope) -> BoxFuture<'_, bool>;

    /// Reads names and mappings again, now; returns when that is done.
    fn invalidate(&self) -> BoxFuture<'_, ()>;

    /// Writes that passed and that Elasticsearch acknowledged, to be staged; handed over before the client
    /// can know that they were acknowledged. Returns at once, and may drop them under load: the feed finds
    /// every write.
    fn acknowledged(&self, writes: Vec<Acknowledged>);

    /// Whether the index may hold documents with `_ignored` values; true when that is not known.
    fn may_show_ignored(&self, index: &IndexInfo) -> bool;

    /// Cancels or starts the first build of an index; false for an index without `ivf` fields.
    fn build(&self, index: &str, command: BuildCommand) -> bool;

    /// Whether a field of ours can be searched: `ready`, `building`, `broken` or `unknown`.
    fn field_state(&self, index: &IndexInfo, field: &str) -> &'static str;

    /// The report of `GET /_ivf/{index}/_stats`, as JSON; `None` for an index without `ivf` fields.
    fn report(&self, index: &str) -> Option<String>;
}

/// A knn question about one field of one index.
#[derive(Clone, Copy, Debug)]
pub struct KnnQuestion<'a> {
    /// The concrete index.
    pub index: &'a Arc<IndexInfo>,
    /// Full path of the field.
    pub field: &'a str,
    /// Query vector, prepared for the field's similarity.
    pub vector: &'a [f32],
    /// Hits wanted.
    pub k: usize,
    /// Elasticsearch's effort.
    pub num_candidates: usize,
    /// `k` over all shards, or of each.
    pub reach: Reach,
    /// Only documents that it lets through; `None`: all.
    pub filter: Option<&'a DocFilter>,
    /// Only these shards, ascending; `None`: all.
    pub shards: Option<&'a [u32]>,
    /// Lists to visit in each shard, whatever the effort; `None`: as the effort demands.
    pub nprobe: Option<usize>,
    /// On whose account it is asked.
    pub flow: Flow,
}

/// One hit of a [`KnnQuestion`].
#[derive(Clone, Debug, PartialEq)]
pub struct KnnHit {
    /// The document.
    pub doc: DocKey,
    /// The version whose vector was compared, where the source knows it.
    pub order: Option<SeqNo>,
    /// Elasticsearch's score of it, boost 1.
    pub score: f32,
    /// The shard that it was found on, 0 where the source does not know it.
    pub shard: u32,
}

/// What a [`KnnSource`] answers.
pub type KnnAnswer = Result<Vec<KnnHit>, KnnUnavailable>;

/// A [`KnnAnswer`] with what was done for it on each shard that was searched.
pub type ProfiledAnswer = Result<(Vec<KnnHit>, Vec<ShardWork>), KnnUnavailable>;

/// Why a source has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnnUnavailable {
    /// The index of the field is still being learnt.
    Building,
    /// The field is not indexed here, or its index is broken.
    Absent,
    /// The question could not be answered in time.
    Overloaded,
    /// The field does not fit the memory that the source may use.
    Memory,
    /// What the filter lets through is not known yet; this question had it fetched.
    FilterUnknown,
    /// What the filter lets through is not going to be known.
    FilterRefused,
    /// The source failed; the log says how.
    Failed,
}

impl KnnUnavailable {
    /// The word for metrics and `x-outrigger`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Absent => "not_indexed",
            Self::Overloaded => "overloaded",
            Self::Memory => "memory_budget",
            Self::FilterUnknown => "filter_unknown",
            Self::FilterRefused => "filter_refused",
            Self::Failed => "engine_failed",
        }
    }
}

/// What recall is asked for.
#[derive(Clone, Debug)]
pub struct RecallMeasure<'a> {
    /// The concrete index.
    pub index: &'a Arc<IndexInfo>,
    /// Full path of the field.
    pub field: &'a str,
    /// At least one.
    pub queries: Vec<RecallQuery>,
    /// Hits per query.
    pub k: usize,
    /// Elasticsearch's effort.
    pub num_candidates: usize,
    /// Whether to measure at rising numbers of lists too.
    pub curve: bool,
}

/// Where knn hits come from: the engine here, Elasticsearch itself ([`crate::shadow`]), later peers.
pub trait KnnSource: Send + Sync + 'static {
    /// The nearest documents over all shards: best score first, equal scores by shard and then by age;
    /// `k` of them, or `k` of each shard.
    fn knn<'a>(&'a self, question: KnnQuestion<'a>) -> BoxFuture<'a, KnnAnswer>;

    /// Answers each question as [`KnnSource::knn`] would, in their order. A source may share work among them.
    fn knn_batch<'a>(&'a self, questions: &'a [KnnQuestion<'a>]) -> BoxFuture<'a, Vec<KnnAnswer>> {
        Box::pin(async move {
            let mut answers = Vec::with_capacity(questions.len());
            for question in questions {
                answers.push(self.knn(*question).await);
            }
            answers
        })
    }

    /// [`KnnSource::knn`], and what was done for it on each shard that was searched.
    fn profiled<'a>(&'a self, question: KnnQuestion<'a>) -> BoxFuture<'a, ProfiledAnswer> {
        Box::pin(async move { Ok((self.knn(question).await?, Vec::new())) })
    }

    /// Number of vectors that an exact scan of the field would compare; 0 when unknown.
    fn vectors(&self, index: &IndexInfo, field: &str) -> u64;

    /// Recall against exact scans: as a search is, then along the curve. May take long, and ends when the
    /// future is dropped; one at a time, others are [`KnnUnavailable::Overloaded`].
    fn recall<'a>(
        &'a self,
        measure: RecallMeasure<'a>,
    ) -> BoxFuture<'a, Result<Vec<RecallPoint>, KnnUnavailable>> {
        let _ = measure;
        Box::pin(async { Err(KnnUnavailable::Absent) })
    }

    /// What becomes of a document in a search; `None` if no vector of it is held.
    fn explain<'a>(
        &'a self,
        question: KnnQuestion<'a>,
        doc: DocKey,
    ) -> BoxFuture<'a, Result<Option<DocumentFate>, KnnUnavailable>> {
        let _ = (question, doc);
        Box::pin(async { Err(KnnUnavailable::Absent) })
    }
}
