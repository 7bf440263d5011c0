//! `_search`: answered from the index here where that gives what Elasticsearch would give, passed on
//! whole otherwise. The ways are *answer*, *fetch*, *splice* and *pass*.

use std::time::Instant;

use bytes::Bytes;
use es_wire::{NotOurs, Outcome, Params, ScoredHit, render};
use http::header::{HeaderValue, WARNING};
use http::request::Parts;

use crate::door::{identity, limits};
use crate::intercept::fetch::{self, Documents, Fetched};
use crate::intercept::pass_search::ReadRequest;
use crate::intercept::plan::{Asker, Plan, ask};
use crate::intercept::{first_time, nprobe, splice};
use crate::mode::Mode;
use crate::ports::{KnnHit, KnnQuestion, KnnUnavailable, Scope};
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::telemetry::Served;
use crate::{respond, shadow};

const FILTER_IN_THE_WAY: [&str; 2] =
    [KnnUnavailable::FilterUnknown.reason(), KnnUnavailable::FilterRefused.reason()];

/// Serves a search; `names` are those of its targets, none for all.
pub(crate) async fn serve(worker: &Worker, names: &str, request: ClientRequest, started: Instant) -> Reply {
    let mut read = match ReadRequest::of(worker, request).await {
        Ok(read) => read,
        Err(reply) => return reply,
    };
    nprobe::take_from_url(&mut read.request.parts);
    let served = match read.admitted().await {
        Ok(text) => ours(worker, names, &read, text, started).await,
        Err(served) => served,
    };
    read.finish(worker, names, served).await
}

/// Serves a `_knn_search`, which is a search in other words.
pub(crate) async fn serve_knn_search(
    worker: &Worker,
    names: &str,
    request: ClientRequest,
    started: Instant,
) -> Reply {
    let read = match ReadRequest::of(worker, request).await {
        Ok(read) => read,
        Err(reply) => return reply,
    };
    let served = match read.admitted().await {
        Ok(text) => knn_search(worker, names, &read, text, started).await,
        Err(served) => served,
    };
    read.finish(worker, names, served).await
}

async fn knn_search(
    worker: &Worker,
    names: &str,
    read: &ReadRequest,
    text: &Bytes,
    started: Instant,
) -> Result<Reply, &'static str> {
    let label = |NotOurs(reason)| reason;
    let parts = &read.request.parts;
    let asker = Asker::of(worker, read).await.map_err(label)?;
    let major = asker.caps.version.major as u16;
    let content_type = respond::json_content_type(&parts.headers, major).ok_or("content_type")?;
    // From 9 on the endpoint is there only for clients that speak the language of 8.
    if major > 8 && !content_type.as_bytes().ends_with(b"compatible-with=8") {
        return Err("version");
    }
    let params = Params::of(parts.uri.query()).ok_or("bad_query_string")?;
    let served = match asker.plan_knn_search(names, &params, text).await {
        Ok(plan) if plan.mode == Mode::Serve => run(worker, &plan, parts, content_type, started).await,
        Ok(_) => Err("switched_off"),
        Err(NotOurs(reason)) => Err(reason),
    };
    served.map_err(|reason| asker.told(names, reason))
}

/// Serves what can be served here; the error is the reason why the request must pass as it is.
async fn ours(
    worker: &Worker,
    names: &str,
    read: &ReadRequest,
    text: &Bytes,
    started: Instant,
) -> Result<Reply, &'static str> {
    let label = |NotOurs(reason)| reason;
    let parts = &read.request.parts;
    let asker = Asker::of(worker, read).await.map_err(label)?;
    let params = Params::of(parts.uri.query()).ok_or("bad_query_string")?;
    let content_type = respond::json_content_type(&parts.headers, asker.caps.version.major as u16);
    let plan = match content_type.ok_or(NotOurs("content_type")) {
        Ok(content_type) => asker.plan(names, &params, text).await.map(|plan| (plan, content_type)),
        Err(reason) => Err(reason),
    };
    let served = match plan {
        Ok((plan, content_type)) => match plan.mode {
            Mode::Serve => match run(worker, &plan, parts, content_type, started).await {
                Err(reason) if FILTER_IN_THE_WAY.contains(&reason) => {
                    let served = first_time::serve(worker, &asker, &plan, (names, &params), parts, text);
                    served.await.ok_or(reason)
                }
                served => served,
            },
            Mode::Shadow => {
                shadow::compare(&worker.shared, &plan);
                Err("shadow")
            }
            Mode::Pass => Err("switched_off"),
        },
        // More than a bare knn, as far as it was understood: perhaps its knn parts are.
        Err(_) if !respond::is_json(&parts.headers) => Err("content_type"),
        Err(_) => {
            let plan = asker.plan_splice(names, &params, text).await.map_err(label)?;
            splice::run(worker, &plan, parts, text).await
        }
    };
    served.map_err(|reason| asker.told(names, reason))
}

/// Searches, and answers or fetches. The error is the reason why the request must pass after all.
async fn run(
    worker: &Worker,
    plan: &Plan,
    parts: &Parts,
    content_type: HeaderValue,
    started: Instant,
) -> Result<Reply, &'static str> {
    let flow = limits::flow(parts);
    let questions: Vec<_> = plan.questions().map(|question| KnnQuestion { flow, ..question }).collect();
    limits::charge_knn(parts, &questions);
    let mut reason = "ok";
    loop {
        let found = ask(worker, &questions).await.map_err(|unavailable| unavailable.reason())?;
        match answer(worker, plan, &found, parts, &content_type, started).await {
            Ok((response, way)) if way.reason == "ok" => return Ok((response, Served { reason, ..way })),
            Ok(reply) => return Ok(reply),
            Err(Fetched::Moved(_)) if reason == "ok" => {
                // Elasticsearch shows another version than ours: catch up with it, then once more.
                reason = "searched_again";
                for target in &plan.targets {
                    worker.shared.cluster.published(Scope::Index(target.index.name.to_string())).await;
                }
            }
            Err(Fetched::Moved(what) | Fetched::Unusable(what)) => return Err(what),
        }
    }
}

/// Answers with what was found, fetching documents where they are wanted.
async fn answer(
    worker: &Worker,
    plan: &Plan,
    found: &[Vec<KnnHit>],
    parts: &Parts,
    content_type: &HeaderValue,
    started: Instant,
) -> Result<Reply, Fetched> {
    let scored = plan.score(found);
    let mut outcome = outcome(plan, &scored);
    let cache = &worker.shared.documents;
    if !needs_documents(worker, plan, &outcome) {
        outcome.took_ms = millis(started);
        let body = render(&plan.search, &outcome);
        let response = respond::json(&parts.headers, content_type.clone(), body);
        return Ok((response, Served::new("answer", "ok")));
    }
    if scored.is_empty() {
        // Whether the caller may search here at all is not ours to say.
        return Err(Fetched::Unusable("security"));
    }
    let documents = Documents::of(cache, plan, &scored);
    if documents.are_kept() {
        outcome.took_ms = millis(started);
        let body = documents.answer(plan, &scored, &outcome, None, None)?;
        let response = respond::json(&parts.headers, content_type.clone(), body);
        return Ok((response, Served::new("answer", "documents_kept")));
    }
    let (headers, text) = fetch::ask(worker, plan, parts, documents.question(plan)).await?;
    outcome.took_ms = millis(started);
    // A warning must come with every answer, and so the documents from Elasticsearch.
    let may_be_kept = !headers.contains_key(WARNING) && documents.may_be_kept();
    let is_kept = may_be_kept && plan.is_seen_whole(&identity::sight_again(worker, parts).await);
    let keep_in = is_kept.then_some(cache);
    let body = documents.answer(plan, &scored, &outcome, Some(&text), keep_in)?;
    let response = respond::json_like(&parts.headers, &headers, content_type, body);
    Ok((response, Served::new("fetch", "ok")))
}

/// What was found, and which part of it is shown.
pub(crate) fn outcome<'s>(plan: &Plan, scored: &'s [ScoredHit<'s>]) -> Outcome<'s> {
    Outcome {
        took_ms: 0,
        shards: plan.shards(),
        total: scored.len(),
        max_score: scored.first().map(|hit| hit.score),
        page: &scored[plan.page(scored.len())],
    }
}

/// Whether Elasticsearch must be asked, for documents or for the caller's rights.
pub(crate) fn needs_documents(worker: &Worker, plan: &Plan, outcome: &Outcome<'_>) -> bool {
    let wanted = || plan.search.needs_documents_where(plan.any_ignored(&worker.shared));
    plan.verify || (!outcome.page.is_empty() && wanted())
}

pub(crate) fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}
