//! A filter that is seen for the first time, or that is not remembered. Which documents it lets through is
//! not known; but one that lets through many lets through some of the nearest, too. So we find many times `k` documents without
//! it, name them beside the client's filter as a splice does, and Elasticsearch picks the nearest `k` that
//! the filter lets through: the nearest of all, if `k` are left. If not, the search passes after all, and
//! filters of that shape are not tried again.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use es_wire::{Params, Reach, TrackTotal};
use http::header::HeaderValue;
use http::request::Parts;
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::Value;

use crate::aside::aside;
use crate::body::collect;
use crate::door::limits;
use crate::intercept::own_request::request_like;
use crate::intercept::plan::{Asker, Plan, ask};
use crate::ports::KnnQuestion;
use crate::proxy::{Reply, Worker};
use crate::respond;
use crate::telemetry::Served;

/// Where fewer vectors could be compared at all, Elasticsearch is as fast alone.
const FEW_VECTORS: u64 = 5_000;
/// Documents that are named: as many times more than wanted …
const TIMES: usize = 20;
/// … and so many on top, up to a limit: naming more costs more than it saves.
const ON_TOP: usize = 100;
const MOST: usize = 1_000;
/// The most hits that may be wanted for that.
const MAX_K: usize = 100;
/// Shapes of filters that are remembered to let too few through.
const SHAPES: usize = 1_024;
/// Largest answer that is looked at before it goes on.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Shapes of filters that let too few documents through.
pub(crate) struct Sparse(Cache<u64, ()>);

impl Sparse {
    pub(crate) fn new() -> Self {
        Self(Cache::new(SHAPES))
    }
}

/// What of an answer tells whether it is whole.
#[derive(Deserialize)]
struct Answer {
    timed_out: bool,
    #[serde(rename = "_shards")]
    shards: Shards,
    hits: Hits,
}

#[derive(Deserialize)]
struct Shards {
    failed: u32,
}

#[derive(Deserialize)]
struct Hits {
    total: Total,
}

#[derive(Deserialize)]
struct Total {
    value: usize,
}

/// Serves a search whose filter is not known; `None` where it must pass.
pub(crate) async fn serve(
    worker: &Worker,
    asker: &Asker<'_>,
    plan: &Plan,
    (names, params): (&str, &Params),
    parts: &Parts,
    text: &Bytes,
) -> Option<Reply> {
    let (shape, sparse) = (shape_of(plan), &worker.shared.sparse_filters.0);
    if !may_help(worker, plan) || sparse.get(&shape).is_some() {
        return None;
    }
    let splice = asker.plan_splice(names, params, text).await.ok()?;
    let splice = splice.without_filters((TIMES * plan.search.k + ON_TOP).min(MOST))?;
    // Charged is what the client asked for, once: that this takes a longer look is our choice.
    let flow = limits::flow(parts);
    let questions: Vec<_> = splice.questions().map(|question| KnnQuestion { flow, ..question }).collect();
    let found = ask(worker, &questions).await.ok()?;
    let (edits, text) = (splice.edits(&found).ok()?, text.clone());
    let body = aside(text.len(), move || edits.of(&text)).await;
    let request = request_like(parts, parts.method.clone(), parts.uri.clone(), body);
    let response = worker.send(request).await.ok().filter(|response| response.status().is_success())?;
    let (head, body) = response.into_parts();
    let bytes = collect(body, MAX_ANSWER_BYTES).await.ok().flatten()?;
    let answer: Answer = serde_json::from_slice(&bytes).ok()?;
    if answer.timed_out || answer.shards.failed > 0 {
        return None;
    }
    if answer.hits.total.value < plan.search.k {
        sparse.insert(shape, ());
        return None;
    }
    let (json, text) = (HeaderValue::from_static("application/json"), String::from_utf8(bytes.into()).ok()?);
    let response = respond::json_like(&parts.headers, &head.headers, &json, text);
    Some((response, Served::new("splice", "filter_first")))
}

/// Whether enough is searched to be worth it, and whether the answer would tell that it is whole.
fn may_help(worker: &Worker, plan: &Plan) -> bool {
    let search = &plan.search;
    let vectors = |index| worker.shared.engine.vectors(index, &search.field);
    let is_counted = match search.track_total {
        TrackTotal::Exact => true,
        TrackTotal::UpTo(most) => most >= search.k,
        TrackTotal::Off => false,
    };
    search.reach == Reach::Global
        && search.k <= MAX_K
        && search.similarity.is_none()
        && is_counted
        && plan.targets.iter().map(|target| vectors(&target.index)).sum::<u64>() >= FEW_VECTORS
}

/// The filter without its values, for which indices it is meant.
fn shape_of(plan: &Plan) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (target, filter) in plan.targets.iter().zip(&plan.filters) {
        target.index.uuid.hash(&mut hasher);
        if let Some(Ok(query)) = filter.as_ref().map(|filter| serde_json::from_str(filter.query())) {
            hash_shape(&query, &mut hasher);
        }
    }
    hasher.finish()
}

fn hash_shape(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| {
            key.hash(hasher);
            hash_shape(value, hasher);
        }),
        Value::Array(items) => items.iter().for_each(|item| hash_shape(item, hasher)),
        _ => 0u8.hash(hasher),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_of_a_filter_is_all_but_its_values() {
        let shape = |text: &str| {
            let mut hasher = DefaultHasher::new();
            hash_shape(&serde_json::from_str(text).unwrap(), &mut hasher);
            hasher.finish()
        };
        assert_eq!(shape(r#"{"term":{"k":"a"}}"#), shape(r#"{"term":{"k":7}}"#));
        assert_ne!(shape(r#"{"term":{"k":"a"}}"#), shape(r#"{"term":{"l":"a"}}"#));
        assert_ne!(shape(r#"{"terms":{"k":["a"]}}"#), shape(r#"{"terms":{"k":["a","b"]}}"#));
    }
}
