//! Finding each knn inside something larger, and restricting it to the documents that we found.
//!
//! A search with several knn, a query beside one, aggregations, a sort and so on stays Elasticsearch's
//! to execute: scores, statistics, names and highlights are its own. But where it would compare every
//! vector, each knn object gets one more member, an `ids` filter with our hits, so that it compares
//! those alone. Not one other byte of the body changes.
//!
//! Where the knn has a filter already, both stand in an array, the client's first.
//!
//! Only known structure is walked. A knn anywhere else or a key that we do not know: the search is not
//! ours to splice.

mod walk;

use std::ops::Range;

use super::NotOurs;
use super::effort::Reach;
use crate::json::push_json_string;
use crate::{Capabilities, Params};

/// One knn inside a body.
#[derive(Clone, Debug, PartialEq)]
pub struct KnnSite {
    /// Field as the client named it, dots included.
    pub field: String,
    /// The query vector, as in [`super::KnnSearch`].
    pub vector: Vec<f32>,
    /// Documents that it stands for, 1..=10,000.
    pub k: usize,
    /// Effort, `k..=10,000`.
    pub num_candidates: usize,
    /// Over all shards, or of each.
    pub reach: Reach,
    /// Its filters as the client wrote them, its own and those of the retrievers around it: all must match.
    pub filters: Vec<Box<str>>,
    /// It says itself how many estimates Elasticsearch compares exactly: perhaps fewer than would be named.
    pub rescores: bool,
    /// Where a `rescore_vector` stands that would show estimates.
    estimates: Option<Range<usize>>,
    /// The path of the `nested` query that it stands in. A knn query on a field below `nested` finds nothing
    /// elsewhere; the section and the retriever need none.
    pub nested: Option<String>,
    place: Place,
}

/// All knn of a body, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundKnn {
    /// At least one.
    pub sites: Vec<KnnSite>,
    /// Whether the answer shall say what was done.
    pub profile: bool,
}

/// Where in the body a further filter goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// There is none: before this closing brace of the knn.
    Member(usize),
    /// Beside the clause that stands here.
    Beside { start: usize, end: usize },
    /// Before this closing bracket of the array of filters.
    Element { end: usize, first: bool },
}

/// Every knn of a search body, or why the body must pass as it is.
///
/// # Errors
/// [`NotOurs`] with a label for metrics.
pub fn find_knn(body: &[u8], params: &Params, caps: &Capabilities) -> Result<FoundKnn, NotOurs> {
    walk::read(body, params, caps)
}

/// Stands for a `rescore_vector` that turns rescoring off: the scores of a type with a graph are exact all the same.
const EXACT: &str = r#"{"oversample":1.0}"#;

/// Length of an id that no document has: Elasticsearch takes at most 512 bytes.
const IMPOSSIBLE_ID: usize = 513;

/// What makes a body another one: texts that stand in the place of others, by their order.
#[derive(Debug)]
pub struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    /// The body as it becomes.
    pub fn of(&self, body: &[u8]) -> Vec<u8> {
        let added: usize = self.0.iter().map(|(_, text)| text.len()).sum();
        let mut whole = Vec::with_capacity(body.len() + added);
        let mut copied = 0;
        for (place, text) in &self.0 {
            whole.extend_from_slice(&body[copied..place.start]);
            whole.extend_from_slice(text.as_bytes());
            copied = place.end;
        }
        whole.extend_from_slice(&body[copied..]);
        whole
    }
}

/// An `ids` filter in each site of a body; `ids[i]` belongs to `sites[i]`, which come in the order of [`find_knn`].
pub fn with_ids<S: AsRef<str>>(sites: &[KnnSite], ids: &[Vec<S>]) -> Edits {
    let mut edits: Vec<(Range<usize>, String)> = Vec::with_capacity(2 * sites.len());
    for (site, ids) in sites.iter().zip(ids) {
        if let Some(estimates) = &site.estimates {
            edits.push((estimates.clone(), EXACT.to_owned()));
        }
        let ids = ids_query(ids);
        match site.place {
            Place::Member(end) => edits.push((end..end, format!(r#","filter":{ids}"#))),
            Place::Beside { start, end } => {
                edits.push((start..start, "[".to_owned()));
                edits.push((end..end, format!(",{ids}]")));
            }
            Place::Element { end, first: true } => edits.push((end..end, ids)),
            Place::Element { end, first: false } => edits.push((end..end, format!(",{ids}"))),
        }
    }
    edits.sort_by_key(|(place, _)| place.start);
    Edits(edits)
}

fn ids_query<S: AsRef<str>>(ids: &[S]) -> String {
    let mut text = String::with_capacity(24 + ids.iter().map(|id| id.as_ref().len() + 3).sum::<usize>());
    text.push_str(r#"{"ids":{"values":["#);
    for (number, id) in ids.iter().enumerate() {
        if number > 0 {
            text.push(',');
        }
        push_json_string(&mut text, id.as_ref());
    }
    if ids.is_empty() {
        // No id at all would be a query that matches nothing, for which Elasticsearch skips shards and says so.
        push_json_string(&mut text, &"-".repeat(IMPOSSIBLE_ID));
    }
    text.push_str("]}}");
    text
}

#[cfg(test)]
mod tests;
