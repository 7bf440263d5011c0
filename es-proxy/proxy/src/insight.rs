//! What can be asked about searches: how good they are, and what became of one document.

use std::time::Duration;

use knn_types::{DocKey, SeqNo};

/// A query whose recall is measured.
#[derive(Clone, Debug)]
pub struct RecallQuery {
    /// Prepared for the field's similarity.
    pub vector: Vec<f32>,
    /// The document that the vector was taken from: it finds itself, which says nothing.
    pub except: Option<DocKey>,
}

/// Recall at one effort.
#[derive(Clone, Debug, PartialEq)]
pub struct RecallPoint {
    /// Lists visited in each shard, where that was prescribed; `None`: as a search decides by itself.
    pub nprobe: Option<usize>,
    /// Mean share of the true nearest that was found.
    pub mean: f64,
    /// 95 % interval (Wilson).
    pub low: f64,
    /// Its other end.
    pub high: f64,
    /// Lists visited per query and shard.
    pub lists: f64,
    /// Entries whose distance was estimated, per query.
    pub scanned: f64,
    /// Vectors compared in full, per query.
    pub compared: f64,
    /// Time of a query on one thread.
    pub microseconds: f64,
}

/// What was done on one shard for one knn.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardWork {
    /// Shard number.
    pub shard: u32,
    /// Documents with a vector.
    pub documents: usize,
    /// Documents that the filter lets through, about; `None` without one.
    pub allowed: Option<u64>,
    /// Lists visited; 0: every vector that may be found was compared.
    pub lists: usize,
    /// Entries whose distance was estimated.
    pub scanned: usize,
    /// Vectors compared in full.
    pub compared: usize,
    /// Documents found.
    pub hits: usize,
    /// How long that took.
    pub took: Duration,
}

/// What became of a document in a search.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentFate {
    /// The shard that holds it.
    pub shard: usize,
    /// The version held.
    pub order: SeqNo,
    /// Exact score, boost 1.
    pub score: f32,
    /// The filter's verdict; `None` without one.
    pub allowed: Option<bool>,
    /// Hits before it, where it is a hit.
    pub rank: Option<usize>,
    /// Why it is none.
    pub lost: Option<Lost>,
    /// Score of its shard's `k`-th hit; `None` where there are fewer.
    pub worst: Option<f32>,
    /// Lists that the search visited in its shard; 0: every vector was compared.
    pub lists_visited: usize,
    /// Entries estimated there.
    pub scanned: usize,
    /// Vectors compared in full there.
    pub compared: usize,
    /// The lists that hold it.
    pub lists: Vec<SeenList>,
}

/// A list that holds a document.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenList {
    /// Its number.
    pub list: usize,
    /// How many lists are nearer to the query.
    pub place: usize,
    /// Whether the search visited it.
    pub visited: bool,
    /// Its entries.
    pub entries: usize,
    /// The score that the document's code suggests.
    pub estimate: f32,
    /// Standard error of the estimated raw similarity.
    pub error: f32,
}

/// Why a document is no hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The filter does not let it through.
    Filtered,
    /// `k` others are as near or nearer.
    NearerOnes,
    /// Its lists were not visited.
    NotVisited,
    /// Its estimate was so far off that it was not compared.
    Bounded,
}

impl Lost {
    /// The word in the answer.
    pub fn name(self) -> &'static str {
        match self {
            Self::Filtered => "filtered",
            Self::NearerOnes => "nearer_ones",
            Self::NotVisited => "list_not_visited",
            Self::Bounded => "estimated_too_far",
        }
    }

    /// The sentence in the answer.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Filtered => "the filter does not let the document through",
            Self::NearerOnes => "k other documents are as near or nearer",
            Self::NotVisited => {
                "none of the lists that hold the document was visited; a higher num_candidates visits more"
            }
            Self::Bounded => {
                "a list that holds the document was visited, but its code suggested that it is too far to be compared exactly; a higher num_candidates compares more"
            }
        }
    }
}
