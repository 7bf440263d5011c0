//! What one search looks at: a published state of each shard, and what a filter lets through of it.

use std::sync::Arc;

use knn_types::{KnnView, Query, SlotFilter};
use shard_sync::FilteredShard;

/// One shard.
#[derive(Clone)]
pub(crate) struct Searched {
    pub(crate) view: Arc<dyn KnnView>,
    /// What may be found; `None`: everything.
    pub(crate) filter: Option<Arc<dyn SlotFilter>>,
}

impl Searched {
    /// Of the whole shard.
    pub(crate) fn whole(view: Arc<dyn KnnView>) -> Self {
        Self { view, filter: None }
    }

    /// The same question, of this shard.
    pub(crate) fn query<'a>(&'a self, query: &Query<'a>) -> Query<'a> {
        Query { filter: self.filter.as_deref(), ..*query }
    }
}

impl From<FilteredShard> for Searched {
    fn from(shard: FilteredShard) -> Self {
        Self { view: shard.view, filter: Some(shard.filter) }
    }
}
