//! What an operator sees of an index: one serializable tree, made on demand.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use knn_types::{CurvePoint, Upkeep};
use serde::Serialize;

/// One index.
#[derive(Clone, Debug, Serialize)]
pub struct IndexReport {
    /// Concrete name.
    pub index: String,
    /// `settings.index.uuid`.
    pub uuid: String,
    /// Every field can be searched.
    pub ready: bool,
    /// Left asleep as Elasticsearch's own shards are.
    pub asleep: bool,
    /// By full path.
    pub fields: Vec<FieldReport>,
}

/// One field of an index.
#[derive(Clone, Debug, Serialize)]
pub struct FieldReport {
    /// Full path.
    pub field: String,
    /// Dimensions.
    pub dims: usize,
    /// `float`, `byte` or `bit`.
    pub element_type: &'static str,
    /// `offload` or `mirror`: whether Elasticsearch keeps a graph of its own.
    pub mode: &'static str,
    /// How the field became ours: `mapping`, `api` or `pattern`.
    pub adopted_by: &'static str,
    /// `l2`, `cosine`, `dot`, `mip`.
    pub metric: &'static str,
    /// Every shard can be searched.
    pub ready: bool,
    /// Why it never will be with this version of Elasticsearch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<&'static str>,
    /// Documents that a search can find, over all shards.
    pub docs: u64,
    /// By number.
    pub shards: Vec<ShardReport>,
}

/// Where the following of a shard stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ShardState {
    /// Elasticsearch has not shown a started primary yet.
    Waiting,
    /// Being learnt; not searchable.
    Building,
    /// Not learnt wholly, and nobody learns it: the first build was cancelled.
    Cancelled,
    /// Searchable.
    Ready,
    /// The engine refuses it; see the log.
    Broken,
}

/// One shard of a field.
#[derive(Clone, Debug, Serialize)]
pub struct ShardReport {
    /// Number.
    pub shard: u32,
    /// Where it stands.
    pub state: ShardState,
    /// Documents that a search can find.
    pub docs: u64,
    /// Changes that the next published state will show.
    pub staged: u64,
    /// Acknowledged changes that wait for a refresh to show them.
    pub held: u64,
    /// `_seq_no` up to which nothing is missing.
    pub cursor: i64,
    /// Highest published `_seq_no`.
    pub published_max_seq_no: i64,
    /// Primary term of the published state.
    pub primary_term: u64,
    /// Operations that Elasticsearch has and no published refresh covers.
    pub behind_operations: u64,
    /// How long a refresh has been waiting to be published.
    pub behind_seconds: f64,
    /// While it is built for the first time.
    pub progress: Option<ProgressReport>,
    /// The newest comparison with Elasticsearch.
    pub last_audit: Option<AuditReport>,
    /// When as many documents were last held as Elasticsearch showed.
    pub last_agreement: Option<AgreementReport>,
    /// `exact`, `training` or `lists`.
    pub build: &'static str,
    /// Number of lists.
    pub nlist: usize,
    /// Lists visited by default.
    pub nprobe: usize,
    /// Calibrated recall@10 at the default effort.
    pub recall: Option<f32>,
    /// Effort against recall@10 as calibration measured it, least effort first.
    pub curve: Vec<CurveReport>,
    /// Imbalance of the lists; 1 is even.
    pub imbalance: f32,
    /// What upkeep did to the lists.
    pub upkeep: UpkeepReport,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
}

/// One point of the curve from effort to recall.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CurveReport {
    /// Measured recall@10.
    pub recall: f32,
    /// Lists visited.
    pub nprobe: usize,
    /// Entries scanned per query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scanned: Option<usize>,
    /// Vectors compared in full per query.
    pub reranked: usize,
    /// Microseconds per query on one thread when the index was trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub microseconds: Option<f32>,
}

impl From<CurvePoint> for CurveReport {
    fn from(point: CurvePoint) -> Self {
        let CurvePoint { recall, nprobe, scanned, reranked, microseconds } = point;
        Self { recall, nprobe, scanned, reranked, microseconds }
    }
}

/// What upkeep has done to the lists of a shard since it was opened, and how well they fit.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct UpkeepReport {
    /// Times that all lists were trained.
    pub trainings: u64,
    /// Lists that were split because they had grown.
    pub splits: u64,
    /// Lists that were dissolved because they had shrunk.
    pub merges: u64,
    /// Entries that moved to another list because a centroid near to them came or went.
    pub reassigned: u64,
    /// Times that effort was measured anew without training.
    pub calibrations: u64,
    /// Mean squared residual of what was added since training against that at training; 1 is alike.
    pub drift: f32,
    /// Mean squared residual of all vectors, when last measured, against that at training.
    pub inertia: f32,
}

impl From<Upkeep> for UpkeepReport {
    fn from(upkeep: Upkeep) -> Self {
        let Upkeep { trainings, splits, merges, reassigned, calibrations, drift, inertia } = upkeep;
        Self { trainings, splits, merges, reassigned, calibrations, drift, inertia }
    }
}

/// How far a first build is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ProgressReport {
    /// Documents learnt.
    pub done: u64,
    /// Documents that Elasticsearch shows.
    pub total: u64,
    /// Seconds left at the present rate.
    pub eta_seconds: Option<f64>,
}

/// An agreement with Elasticsearch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AgreementReport {
    /// When, in milliseconds since 1970.
    pub at_millis: u64,
    /// Documents that both held.
    pub documents: u64,
}

impl AgreementReport {
    /// Now, over so many documents.
    pub(crate) fn now(documents: u64) -> Self {
        Self { at_millis: millis_now(), documents }
    }

    /// Time since then.
    pub(crate) fn age(&self) -> Duration {
        Duration::from_millis(millis_now().saturating_sub(self.at_millis))
    }
}

fn millis_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// What a comparison with Elasticsearch found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// Documents that it showed and we lacked.
    pub missing: u64,
    /// Documents that we held and it no longer showed.
    pub extra: u64,
    /// Documents that we held in an older version than the one that it showed.
    pub stale: u64,
    /// Counts agreed in the end.
    pub equal: bool,
}
