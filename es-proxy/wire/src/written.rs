//! What is known of a write once Elasticsearch has acknowledged it: the seam between those who read
//! requests and responses as they pass and those who stage what was written.

use std::sync::Arc;

use knn_types::{DocKey, SeqNo};

use crate::catalog::IndexInfo;

/// A write of one document that Elasticsearch acknowledged, as far as request and response tell.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// The index as the catalog had it before the request was sent on.
    pub index: Arc<IndexInfo>,
    /// The shard that holds the document, by Elasticsearch's rule for routing.
    pub shard: u32,
    /// `_id` of the response, routing of the request.
    pub doc: DocKey,
    /// `_seq_no` and `_primary_term` of the response.
    pub order: SeqNo,
    /// What the document is now.
    pub wrote: Wrote,
    /// The response proves that no ingest pipeline ran (a bulk response without `ingest_took`). Without
    /// that proof the index must be seen to have had no pipeline after the response as well.
    pub no_pipeline: bool,
}

/// See [`Acknowledged`].
#[derive(Clone, Debug, PartialEq)]
pub enum Wrote {
    /// Every adopted field of the index: its vector as Lucene stores it (float cosine: normalised), or
    /// `None` where the document has none.
    Document(Vec<(Arc<str>, Option<Vec<f32>>)>),
    /// The document is gone.
    Deletion,
}
