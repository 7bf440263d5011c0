//! What a view tells of one document under one query.

use crate::{SearchStats, SeqNo};

/// Why a search did or did not find a document.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The version that is published here.
    pub order: SeqNo,
    /// Its exact raw value, as in [`crate::Hit`].
    pub value: f32,
    /// Whether the query's filter lets it through; `None` without a filter.
    pub allowed: Option<bool>,
    /// The lists that it stands in; empty while there are none.
    pub lists: Vec<ListSeen>,
    /// Raw value of the `k`-th hit; `None` where fewer were found.
    pub worst: Option<f32>,
    /// Where it was found or lost.
    pub fate: Fate,
    /// What the search took.
    pub stats: SearchStats,
}

/// A list that holds the document, as the query sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ListSeen {
    /// Number of the list.
    pub list: usize,
    /// How many lists are nearer to the query.
    pub place: usize,
    /// Whether the search visited it.
    pub visited: bool,
    /// Entries that it holds.
    pub entries: usize,
    /// The document's raw value as its code estimates it.
    pub estimate: f32,
    /// Standard error of the estimate.
    pub error: f32,
}

/// Where a document was found or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is a hit.
    Hit {
        /// Hits before it.
        place: usize,
    },
    /// The filter does not let it through.
    Filtered,
    /// `k` hits are as near or nearer.
    NearerOnes,
    /// None of its lists was visited, although it is nearer than the last hit.
    NotVisited,
    /// A list of it was visited, but its estimate lay too far off for it to be compared exactly, although
    /// it is nearer than the last hit.
    Bounded,
}
