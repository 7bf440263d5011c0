//! The searches that we can answer: one knn (section, query or retriever) and nothing else that decides about hits.
//! Everything that is not understood to the last option is [`NotOurs`].

mod accept;
mod effort;
mod fetch;
mod filter;
mod knn_search;
mod msearch;
mod rescore;
mod splice;
mod url;
mod vector;

pub use accept::parse_search;
pub use effort::Reach;
pub use fetch::Seen;
pub use filter::{DocFilter, read_filter, read_filters};
pub use knn_search::parse_knn_search;
pub use msearch::{
    MsearchHeader, MsearchItem, MsearchUrl, as_msearch_response, msearch_responses, push_msearch_lines,
    read_msearch,
};
pub use splice::{Edits, FoundKnn, KnnSite, find_knn, with_ids};

use crate::filter_path::FilterPath;

/// Why a request is passed on whole: a short label for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NotOurs(pub &'static str);

/// How many hits the answer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackTotal {
    /// All of them.
    Exact,
    /// None: the answer has no `total`.
    Off,
    /// At most so many, then `"relation":"gte"`.
    UpTo(usize),
}

/// A search that we can answer.
#[derive(Clone, Debug, PartialEq)]
pub struct KnnSearch {
    /// Field as the client named it, dots included.
    pub field: String,
    /// The query vector as the port of the engine wants it (a number for eight bits), not yet normalised or
    /// checked against a mapping.
    pub vector: Vec<f32>,
    /// Whose `k` nearest: of all shards, or of each.
    pub reach: Reach,
    /// Hits wanted, 1..=10,000.
    pub k: usize,
    /// Effort, `k..=10,000`.
    pub num_candidates: usize,
    /// Raw threshold; see [`crate::Similarity::threshold`].
    pub similarity: Option<f32>,
    /// Multiplies each score; more than 0.
    pub boost: f32,
    /// Its filter as the client wrote it, for [`read_filter`].
    pub filter: Option<Box<str>>,
    /// First hit of the page.
    pub from: usize,
    /// Length of the page.
    pub size: usize,
    /// How hits are counted.
    pub track_total: TrackTotal,
    /// `version` was asked for.
    pub version: bool,
    /// `_seq_no` and `_primary_term` were asked for.
    pub seq_no_primary_term: bool,
    pub(crate) documents: Documents,
    pub(crate) output: Output,
}

/// What of the documents is wanted, in the client's own bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Documents {
    /// `_source` of the body, raw.
    pub(crate) source: Option<String>,
    /// `fields` of the body, raw.
    pub(crate) fields: Option<String>,
    /// `docvalue_fields` of the body, raw.
    pub(crate) docvalue_fields: Option<String>,
    /// `_source*`, `docvalue_fields` and `preference` of the URL, decoded.
    pub(crate) url: Vec<(String, String)>,
    /// Whether `_source` is wanted, everything considered.
    pub(crate) wants_source: bool,
    /// Whether `fields` or `docvalue_fields` name anything.
    pub(crate) wants_fields: bool,
}

/// How the answer is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Output {
    pub(crate) pretty: bool,
    /// As the client gave it; empty when there is none.
    pub(crate) filter_path_text: String,
    pub(crate) filter_path: FilterPath,
    pub(crate) total_as_int: bool,
    /// Of the version that answers: what an excluding filter does to an array that ends up empty.
    pub(crate) keep_empty_arrays: bool,
}

impl KnnSearch {
    /// Whether Elasticsearch must be asked for the documents of the page: not when only ids, scores and
    /// sequence numbers are printed. See [`KnnSearch::needs_documents_where`] for what an index may add.
    pub fn needs_documents(&self) -> bool {
        self.size > 0 && (self.documents.wants_source || self.documents.wants_fields || self.version)
    }

    /// [`KnnSearch::needs_documents`] where some documents carry `_ignored` (`any_ignored`): a hit shows it
    /// even without `_source`, and only Elasticsearch knows it.
    pub fn needs_documents_where(&self, any_ignored: bool) -> bool {
        let shows_ignored = || self.output.filter_path.may_keep(&["hits", "hits", "_ignored"]);
        self.needs_documents() || (self.size > 0 && any_ignored && shows_ignored())
    }

    /// Whether the answer is laid out for people.
    pub fn pretty(&self) -> bool {
        self.output.pretty
    }
}

#[cfg(test)]
mod tests;
