//! Answers: what Elasticsearch would have printed for our hits.

use crate::search::KnnSearch;

/// One hit of the page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredHit<'a> {
    /// Concrete index.
    pub index: &'a str,
    /// `_id`.
    pub id: &'a str,
    /// `_routing`, where the document has one.
    pub routing: Option<&'a str>,
    /// `_score`, boost included.
    pub score: f32,
    /// `_seq_no` of the version that was compared.
    pub seq_no: u64,
    /// `_primary_term` of that version.
    pub primary_term: u64,
}

/// The result of a search, before it is written.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// Milliseconds taken.
    pub took_ms: u64,
    /// Shards searched.
    pub shards: u32,
    /// Hits found before paging.
    pub total: usize,
    /// Score of the best hit found, before paging.
    pub max_score: Option<f32>,
    /// The hits of the page (`from`, `size` already applied).
    pub page: &'a [ScoredHit<'a>],
}

/// Why fetched documents cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchMismatch {
    /// A hit was not returned: deleted meanwhile, or the caller may not see it.
    #[error("a hit is missing")]
    Missing,
    /// A hit is another version than the one compared.
    #[error("a hit has changed")]
    Changed,
    /// A failed shard, a timeout, or not a search response.
    #[error("the fetched response cannot be used")]
    Unreadable,
}

/// The answer when only ids and scores are wanted.
pub fn render(search: &KnnSearch, outcome: &Outcome<'_>) -> String {
    let _ = (search, outcome);
    String::new()
}

/// The answer with documents: `fetched` is Elasticsearch's response to [`KnnSearch::fetch_body`].
pub fn render_fetched(
    search: &KnnSearch,
    outcome: &Outcome<'_>,
    fetched: &str,
) -> Result<String, FetchMismatch> {
    let _ = (search, outcome, fetched);
    Err(FetchMismatch::Unreadable)
}
