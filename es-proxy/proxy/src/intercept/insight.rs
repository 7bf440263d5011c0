//! Questions about searches below `/_ivf/{index}`: `_recall` measures how good they are, `_explain` says
//! what became of one document. Both tell of all documents of the index, so they are for callers who may
//! see all of them.

use std::sync::Arc;

use es_wire::{IndexInfo, NotOurs, Params, VectorField, parse_search};
use http::request::Parts;
use http::{Method, StatusCode};
use knn_types::DocKey;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::door::identity;
use crate::door::limits;
use crate::insight::{DocumentFate, RecallPoint, RecallQuery};
use crate::intercept::own::{answer, ask, encoded, refuse, text_of};
use crate::intercept::plan::{filter_on, one_index};
use crate::intercept::privilege;
use crate::ports::{KnnQuestion, KnnUnavailable, RecallMeasure};
use crate::proxy::{ClientRequest, Reply, Worker};

const MAX_QUERIES: usize = 1_000;
const MAX_K: usize = 10_000;
const ILLEGAL: &str = "illegal_argument_exception";

/// The body of `_recall`; everything may be left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RecallRequest {
    field: Option<String>,
    queries: Option<Vec<Vec<f32>>>,
    sample: usize,
    k: usize,
    num_candidates: Option<usize>,
    curve: bool,
}

impl Default for RecallRequest {
    fn default() -> Self {
        Self { field: None, queries: None, sample: 100, k: 10, num_candidates: None, curve: false }
    }
}

/// `POST /_ivf/{index}/_recall`: recall@k of given queries, or of vectors of random documents, which the
/// caller must be allowed to search.
pub(crate) async fn recall(worker: &Worker, target: &str, request: ClientRequest) -> Reply {
    let (parts, text) = match text_of(worker, request).await {
        Ok(read) => read,
        Err(reply) => return reply,
    };
    match measured(worker, target, &parts, &text).await {
        Ok(report) => answer(&parts, report.to_string(), "recall"),
        Err(reply) => reply,
    }
}

/// Refuses whoever may not see every document of the target, and every field: in Elasticsearch's words if it
/// would refuse him too.
async fn sees_all(worker: &Worker, parts: &Parts, target: &str, call: &str) -> Result<(), Reply> {
    let sight = identity::sight(worker, parts).await;
    if sight.is_open() {
        return Ok(());
    }
    let size = json!({"size": 0}).to_string();
    ask(worker, parts, Method::POST, &format!("/{}/_search", encoded(target)), Some(size)).await?;
    if sight.is_whole(target) {
        return Ok(());
    }
    let reason = format!(
        "[{call}] tells of every document of index [{target}], and not all of them may be shown to this caller: it needs \
         a user, by name and password, with the privilege [read] on the index and without [query] and [field_security]"
    );
    Err(privilege::refusal(parts, &reason))
}

async fn measured(worker: &Worker, target: &str, parts: &Parts, text: &str) -> Result<Value, Reply> {
    sees_all(worker, parts, target, "_recall").await?;
    let bad = |reason: &str| refuse(parts, StatusCode::BAD_REQUEST, ILLEGAL, reason);
    let wanted: RecallRequest = if text.trim_ascii().is_empty() {
        RecallRequest::default()
    } else {
        serde_json::from_str(text).map_err(|error| {
            refuse(parts, StatusCode::BAD_REQUEST, "parsing_exception", &format!("[_recall] {error}"))
        })?
    };
    let index = index_of(worker, target).map_err(|reason| not_found(parts, &reason))?;
    let (path, field) =
        field_of(&index, wanted.field.as_deref()).map_err(|reason| not_found(parts, &reason))?;
    if wanted.k == 0 || wanted.k > MAX_K {
        return Err(bad("[k] must be between 1 and 10000"));
    }
    let num_candidates = wanted.num_candidates.unwrap_or((3 * wanted.k).div_ceil(2).min(MAX_K));
    if num_candidates < wanted.k || num_candidates > MAX_K {
        return Err(bad("[num_candidates] must be at least [k] and at most 10000"));
    }
    let mut queries = match wanted.queries {
        Some(given) if given.is_empty() || given.len() > MAX_QUERIES => {
            return Err(bad("[queries] must hold between 1 and 1000 vectors"));
        }
        Some(given) => {
            // Whoever may not search the index is told nothing of it.
            let size = json!({"size": 0}).to_string();
            ask(worker, parts, Method::POST, &format!("/{}/_search", encoded(target)), Some(size)).await?;
            given.into_iter().map(|vector| RecallQuery { vector, except: None }).collect()
        }
        None if wanted.sample == 0 || wanted.sample > MAX_QUERIES => {
            return Err(bad("[sample] must be between 1 and 1000"));
        }
        None => sampled(worker, parts, target, path, wanted.sample).await?,
    };
    for query in &mut queries {
        let fits = query.vector.len() == field.spec.values();
        if !fits || field.scoring().prepare(&mut query.vector).is_err() {
            return Err(bad(&format!(
                "a query vector does not fit field [{path}], which has {} values per vector",
                field.spec.values()
            )));
        }
    }
    if queries.is_empty() {
        return Err(bad(&format!("index [{}] has no document with field [{path}] to sample", index.name)));
    }
    let count = queries.len();
    let measure = RecallMeasure {
        index: &index,
        field: path,
        queries,
        k: wanted.k,
        num_candidates,
        curve: wanted.curve,
    };
    let points = worker.shared.engine.recall(measure).await.map_err(|reason| unavailable(parts, reason))?;
    let mut points = points.iter();
    let mut report = json!({
        "index": &*index.name, "field": path, "queries": count, "k": wanted.k, "num_candidates": num_candidates,
    });
    if let (Some(first), Some(report)) = (points.next(), report.as_object_mut()) {
        report.extend(described(first));
        if wanted.curve {
            report.insert("curve".into(), points.map(described).map(Value::Object).collect());
        }
    }
    Ok(report)
}

fn described(point: &RecallPoint) -> Map<String, Value> {
    let mut told = Map::new();
    if let Some(nprobe) = point.nprobe {
        told.insert("nprobe".into(), json!(nprobe));
    }
    told.insert("recall".into(), json!({"mean": point.mean, "low": point.low, "high": point.high}));
    told.insert("lists".into(), json!(point.lists));
    told.insert("scanned".into(), json!(point.scanned));
    told.insert("compared".into(), json!(point.compared));
    told.insert("microseconds".into(), json!(point.microseconds));
    told
}

/// Vectors of random documents, read as the caller.
async fn sampled(
    worker: &Worker,
    parts: &Parts,
    target: &str,
    field: &str,
    count: usize,
) -> Result<Vec<RecallQuery>, Reply> {
    let body = json!({
        "size": count,
        "_source": false,
        "fields": [field],
        "query": {"function_score": {"query": {"exists": {"field": field}}, "random_score": {}}},
    });
    let path = format!("/{}/_search", encoded(target));
    let found = ask(worker, parts, Method::POST, &path, Some(body.to_string())).await?;
    let found: Value = serde_json::from_str(&found).unwrap_or_default();
    let hits = found["hits"]["hits"].as_array().map(Vec::as_slice).unwrap_or_default();
    let query = |hit: &Value| {
        let values = hit["fields"][field].as_array()?;
        let vector = values.iter().map(|value| Some(value.as_f64()? as f32)).collect::<Option<_>>()?;
        Some(RecallQuery { vector, except: Some(key_of(hit)?) })
    };
    Ok(hits.iter().filter_map(query).collect())
}

fn key_of(hit: &Value) -> Option<DocKey> {
    Some(DocKey { id: hit["_id"].as_str()?.into(), routing: hit["_routing"].as_str().map(Into::into) })
}

/// `GET` or `POST /_ivf/{index}/_explain`: a search of nothing but one knn, and beside it the `id` (and the
/// `routing`) of a document.
pub(crate) async fn explain(worker: &Worker, target: &str, request: ClientRequest) -> Reply {
    let (parts, text) = match text_of(worker, request).await {
        Ok(read) => read,
        Err(reply) => return reply,
    };
    match explained(worker, target, &parts, &text).await {
        Ok(report) => answer(&parts, report.to_string(), "explain"),
        Err(reply) => reply,
    }
}

async fn explained(worker: &Worker, target: &str, parts: &Parts, text: &str) -> Result<Value, Reply> {
    sees_all(worker, parts, target, "_explain").await?;
    let bad = |reason: &str| refuse(parts, StatusCode::BAD_REQUEST, ILLEGAL, reason);
    let mut body: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
        refuse(parts, StatusCode::BAD_REQUEST, "parsing_exception", &format!("[_explain] {error}"))
    })?;
    let id = body.remove("id").and_then(|id| id.as_str().map(str::to_owned));
    let id = id.ok_or_else(|| bad("[_explain] needs the [id] of a document, a string"))?;
    let routing = body.remove("routing").and_then(|routing| routing.as_str().map(str::to_owned));
    let node = worker.shared.cluster.node();
    let Some(caps) = node.as_ref().and_then(|node| node.capabilities.as_ref()) else {
        let reason = "the version of Elasticsearch is not known";
        return Err(refuse(parts, StatusCode::SERVICE_UNAVAILABLE, "status_exception", reason));
    };
    let search = Value::Object(body).to_string();
    let mut search =
        parse_search(search.as_bytes(), &Params::default(), caps).map_err(|NotOurs(reason)| {
            bad(&format!("[_explain] takes a search of nothing but one knn; this one is not [{reason}]"))
        })?;
    let index = index_of(worker, target).map_err(|reason| not_found(parts, &reason))?;
    let (path, field) = field_of(&index, Some(&search.field)).map_err(|reason| not_found(parts, &reason))?;
    let fits = search.vector.len() == field.spec.values();
    if !fits || field.scoring().prepare(&mut search.vector).is_err() {
        return Err(bad(&format!("the query vector does not fit field [{path}]")));
    }
    let filter = filter_on(&index, search.filter.as_deref());
    let filter = filter.map_err(|NotOurs(reason)| {
        bad(&format!("[_explain] takes filters that can be remembered; this one is not [{reason}]"))
    })?;
    let shown = shown(worker, parts, target, &id, routing.as_deref()).await?;
    let question = KnnQuestion {
        index: &index,
        field: path,
        vector: &search.vector,
        k: search.k,
        num_candidates: search.num_candidates,
        reach: search.reach,
        filter: filter.as_ref(),
        shards: None,
        nprobe: None,
        flow: limits::flow(parts),
    };
    let doc = DocKey { id: id.as_str().into(), routing: routing.as_deref().map(Into::into) };
    let fate = worker.shared.engine.explain(question, doc).await;
    let fate = fate.map_err(|reason| unavailable(parts, reason))?;
    let mut report = json!({
        "_index": &*index.name, "_id": id, "field": path, "k": search.k, "num_candidates": search.num_candidates,
        "elasticsearch": {"_seq_no": shown["_seq_no"], "_primary_term": shown["_primary_term"]},
    });
    if let Some(report) = report.as_object_mut() {
        match &fate {
            Some(fate) => report.extend(told(fate)),
            None => {
                report.insert("matched".into(), json!(false));
                report.insert("lost".into(), json!("no_vector"));
                let reason = "no vector of the document is published here: it has none in this field, or it is newer than what was learnt";
                report.insert("reason".into(), json!(reason));
            }
        }
    }
    Ok(report)
}

fn told(fate: &DocumentFate) -> Map<String, Value> {
    let lists: Vec<Value> = fate
        .lists
        .iter()
        .map(|list| {
            json!({
                "list": list.list, "place": list.place, "visited": list.visited, "entries": list.entries,
                "estimated_score": list.estimate, "standard_error": list.error,
            })
        })
        .collect();
    let reason = match (fate.rank, fate.lost) {
        (Some(rank), _) => format!("the document is hit number {}", rank + 1),
        (None, Some(lost)) => lost.reason().to_owned(),
        (None, None) => String::new(),
    };
    let report = json!({
        "matched": fate.rank.is_some(),
        "rank": fate.rank,
        "lost": fate.lost.map(|lost| lost.name()),
        "reason": reason,
        "score": fate.score,
        "least_score_of_hits": fate.worst,
        "shard": fate.shard,
        "_seq_no": fate.order.seq_no,
        "_primary_term": fate.order.primary_term,
        "filter": fate.allowed.map(|allowed| if allowed { "passes" } else { "rejected" }),
        "search": {
            "way": if fate.lists_visited == 0 { "exact" } else { "lists" },
            "lists": fate.lists_visited, "scanned": fate.scanned, "compared": fate.compared,
        },
        "lists": lists,
    });
    match report {
        Value::Object(report) => report,
        _ => Map::new(),
    }
}

/// The document as Elasticsearch shows it to the caller.
async fn shown(
    worker: &Worker,
    parts: &Parts,
    target: &str,
    id: &str,
    routing: Option<&str>,
) -> Result<Value, Reply> {
    let body = json!({"query": {"ids": {"values": [id]}}, "_source": false, "seq_no_primary_term": true});
    let path = format!("/{}/_search", encoded(target));
    let found = ask(worker, parts, Method::POST, &path, Some(body.to_string())).await?;
    let mut found: Value = serde_json::from_str(&found).unwrap_or_default();
    let hits = found["hits"]["hits"].as_array_mut();
    let hit = hits.and_then(|hits| hits.iter_mut().find(|hit| hit["_routing"].as_str() == routing));
    hit.map(Value::take)
        .ok_or_else(|| not_found(parts, &format!("document [{id}] is not found in index [{target}]")))
}

fn index_of(worker: &Worker, target: &str) -> Result<Arc<IndexInfo>, String> {
    let found = one_index(&worker.shared.cluster.catalog(), target);
    found.map_err(|_| format!("[{target}] is not one open index with a field of type [ivf]"))
}

/// The field of that name, or the only one there is.
fn field_of<'a>(index: &'a IndexInfo, name: Option<&str>) -> Result<(&'a str, &'a VectorField), String> {
    let found = match name {
        Some(name) => index.fields.get_key_value(name),
        None if index.fields.len() == 1 => index.fields.iter().next(),
        None => {
            return Err(format!(
                "index [{}] has not one field of type [ivf]: name it as [field]",
                index.name
            ));
        }
    };
    found.map(|(path, field)| (&**path, field)).ok_or_else(|| {
        format!("index [{}] has no field [{}] of type [ivf]", index.name, name.unwrap_or_default())
    })
}

fn not_found(parts: &Parts, reason: &str) -> Reply {
    refuse(parts, StatusCode::NOT_FOUND, "resource_not_found_exception", reason)
}

fn unavailable(parts: &Parts, why: KnnUnavailable) -> Reply {
    let reason = format!("the index cannot be asked now [{}]; try again later", why.reason());
    let status = match why {
        KnnUnavailable::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    refuse(parts, status, "status_exception", &reason)
}
