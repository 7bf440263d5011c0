//! An answer to a knn search, and what it must have in common with Elasticsearch's exact one.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use super::document::FIELDS;
use super::indices::INDICES;
use super::shared::Shared;
use crate::{Api, Reply};

/// More than there are documents.
pub(super) const ALL: usize = 1_200;

/// Scores may differ by so much of their size: both sides add the same float32 products in another order.
const TOLERANCE: f64 = 1e-5;

/// `_id` and `_routing`.
pub(super) type Key = (String, Option<String>);

/// One hit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Hit {
    /// `_score`.
    pub(super) score: f64,
    /// `_primary_term` and `_seq_no`.
    pub(super) order: (u64, u64),
}

/// Hits by document.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answer {
    /// See [`Hit`].
    pub(super) hits: BTreeMap<Key, Hit>,
    /// Answered by the sidecar itself.
    pub(super) own: bool,
}

/// What came instead of an answer.
#[derive(Clone, Debug)]
pub(super) enum NoAnswer {
    /// Nothing, an error, or an answer that does not speak for all shards.
    None(String),
    /// An answer that cannot be right.
    Wrong(String),
}

/// Asks for the `k` documents nearest to `query`.
pub(super) async fn ask(
    api: &Api,
    target: &str,
    field: usize,
    query: &[f32],
    k: usize,
) -> Result<Answer, NoAnswer> {
    ask_copies(api, target, field, query, k, "").await
}

/// What Elasticsearch itself shows of all documents: the primaries do, which is what sidecars follow.
pub(super) async fn truth(
    shared: &Shared,
    index: usize,
    field: usize,
    query: &[f32],
) -> Result<Answer, NoAnswer> {
    let (api, name) = (shared.direct(), INDICES[index].name);
    if !shared.is_replicated() {
        return ask(&api, name, field, query, ALL).await;
    }
    let none = || NoAnswer::None("no primary".to_owned());
    let path = format!("/_cat/shards/{name}?format=json&h=shard,prirep,state,id");
    let copies = api.try_get(&path).await.ok_or_else(none)?.body;
    let mut all = Answer::default();
    for shard in 0..INDICES[index].shards {
        let number = shard.to_string();
        let is_primary = |copy: &&Value| {
            copy["shard"].as_str() == Some(&number) && copy["prirep"] == "p" && copy["state"] == "STARTED"
        };
        let primary = copies.as_array().and_then(|copies| copies.iter().find(is_primary)).ok_or_else(none)?;
        let node = primary["id"].as_str().ok_or_else(none)?;
        let preference = format!("?preference=_shards:{shard}%7C_only_nodes:{node}");
        all.hits.extend(ask_copies(&api, name, field, query, ALL, &preference).await?.hits);
    }
    Ok(all)
}

async fn ask_copies(
    api: &Api,
    target: &str,
    field: usize,
    query: &[f32],
    k: usize,
    preference: &str,
) -> Result<Answer, NoAnswer> {
    let knn = json!({"field": FIELDS[field].0, "query_vector": query, "k": k, "num_candidates": k.max(50)});
    let body = json!({"knn": knn, "size": k, "_source": false, "seq_no_primary_term": true});
    let path = format!("/{target}/_search{preference}");
    let reply = api
        .try_call(Method::POST, &path, Some(body.to_string()))
        .await
        .ok_or_else(|| NoAnswer::None("silence".to_owned()))?;
    read(&reply)
}

fn read(reply: &Reply) -> Result<Answer, NoAnswer> {
    if reply.status != 200 {
        return Err(NoAnswer::None(reply.text.chars().take(300).collect()));
    }
    if reply.body["_shards"]["failed"] != 0 || reply.body["timed_out"] == true {
        return Err(NoAnswer::None("not all shards answered".to_owned()));
    }
    let wrong = |what: &str| NoAnswer::Wrong(format!("{what}: {}", reply.text));
    let hits = reply.body["hits"]["hits"].as_array().ok_or_else(|| wrong("no hits"))?;
    assert!(hits.len() < ALL, "there are more documents than the model can compare");
    let mut answer = Answer { own: reply.way.starts_with("answer"), ..Answer::default() };
    let mut before = f64::INFINITY;
    for hit in hits {
        let key = || Some((hit["_id"].as_str()?.to_owned(), hit["_routing"].as_str().map(str::to_owned)));
        let order = || Some((hit["_primary_term"].as_u64()?, hit["_seq_no"].as_u64()?));
        let read = || Some((key()?, Hit { score: hit["_score"].as_f64()?, order: order()? }));
        let (key, read) = read().ok_or_else(|| wrong("a hit lacks something"))?;
        if read.score > before {
            return Err(wrong("hits are not in order"));
        }
        before = read.score;
        if answer.hits.insert(key, read).is_some() {
            return Err(wrong("a document is found twice"));
        }
    }
    if reply.body["hits"]["total"]["value"].as_u64() != Some(hits.len() as u64) {
        return Err(wrong("the total is not the number of hits"));
    }
    Ok(answer)
}

fn equal(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(0.1)
}

impl Answer {
    /// The number of the write that a hit of the version field shows.
    pub(super) fn number(hit: &Hit) -> u64 {
        (hit.score - 1.0).round() as u64
    }

    /// Says where two answers about all documents differ; only about documents of which `about` is true.
    pub(super) fn difference(&self, truth: &Self, about: &dyn Fn(&Key) -> bool) -> Option<String> {
        let mut lines = Vec::new();
        for (key, theirs) in truth.hits.iter().filter(|(key, _)| about(key)) {
            match self.hits.get(key) {
                None => lines.push(format!("missing {key:?}, which Elasticsearch shows as {theirs:?}")),
                Some(ours) if !equal(ours.score, theirs.score) || ours.order != theirs.order => {
                    lines.push(format!("{key:?}: ours {ours:?}, Elasticsearch's {theirs:?}"));
                }
                Some(_) => {}
            }
        }
        for (key, ours) in self.hits.iter().filter(|(key, _)| about(key) && !truth.hits.contains_key(*key)) {
            lines.push(format!("invented {key:?} {ours:?}, which Elasticsearch does not show"));
        }
        (!lines.is_empty()).then(|| {
            let more = lines.len().saturating_sub(12);
            lines.truncate(12);
            format!(
                "{} hits of ours, {} of Elasticsearch:\n    {}{}",
                self.hits.len(),
                truth.hits.len(),
                lines.join("\n    "),
                if more > 0 { format!("\n    and {more} more") } else { String::new() }
            )
        })
    }

    /// Says why this is not a right answer for the `k` nearest; documents with equal scores may stand for each other.
    pub(super) fn difference_of_nearest(&self, truth: &Self, k: usize) -> Option<String> {
        let mut wanted: Vec<f64> = truth.hits.values().map(|hit| hit.score).collect();
        wanted.sort_by(|a, b| b.total_cmp(a));
        wanted.truncate(k);
        let mut got: Vec<f64> = self.hits.values().map(|hit| hit.score).collect();
        got.sort_by(|a, b| b.total_cmp(a));
        let scores_agree = got.len() == wanted.len() && got.iter().zip(&wanted).all(|(a, b)| equal(*a, *b));
        let holds = |(key, ours): (&Key, &Hit)| {
            truth
                .hits
                .get(key)
                .is_some_and(|theirs| equal(ours.score, theirs.score) && ours.order == theirs.order)
        };
        (!scores_agree || !self.hits.iter().all(holds))
            .then(|| format!("the {k} nearest are {:?}, they should have the scores {wanted:?}", self.hits))
    }
}

/// `_seq_no` and `_primary_term` of the response to a write; `None` where nothing was written.
pub(super) fn order_of(item: &Value) -> Option<(u64, u64)> {
    if item["result"] == "noop" {
        return None;
    }
    Some((item["_primary_term"].as_u64()?, item["_seq_no"].as_u64()?))
}
