//! The *fetch* way: our hits, Elasticsearch's documents. One `_search` with an `ids` query under the
//! caller's own credentials; a hit that comes back in another version, or not at all, is not shown.

use std::time::Instant;

use es_wire::{FetchMismatch, Outcome, ScoredHit, render_fetched};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, Response, StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::body::{ResponseBody, collect};
use crate::intercept::search::{Plan, millis, request_like};
use crate::proxy::Worker;
use crate::respond;

/// Largest response with documents that is held to be put in order; 10,000 hits of 10 KB.
const MAX_FETCHED_BYTES: usize = 100 << 20;

/// Why fetching gave no answer.
pub(crate) enum Fetched {
    /// Elasticsearch shows other versions than our view.
    Moved(&'static str),
    /// Elasticsearch refused, failed or answered something unexpected: let it answer the client itself.
    Unusable(&'static str),
}

/// Fetches the documents of `outcome.page` and writes the answer. Where the caller's rights must be
/// verified, every hit is asked for, those outside the page too: their number is part of the answer.
pub(crate) async fn documents(
    worker: &Worker,
    plan: &Plan,
    parts: &Parts,
    all: &[ScoredHit<'_>],
    outcome: &mut Outcome<'_>,
    started: Instant,
) -> Result<Response<ResponseBody>, Fetched> {
    let asked: &[ScoredHit<'_>] = if plan.verify { all } else { outcome.page };
    let ids: Vec<&str> = asked.iter().map(|hit| hit.id).collect();
    let uri =
        search_uri(&plan.index.name, &plan.search.fetch_query()).ok_or(Fetched::Unusable("fetch_uri"))?;
    let request = request_like(parts, Method::POST, uri, plan.search.fetch_body(&ids).into());
    let response = worker.send(request).await.map_err(|failure| {
        worker.shared.telemetry.upstream_failed("fetch", &failure);
        Fetched::Unusable("fetch_failed")
    })?;
    if response.status() != StatusCode::OK {
        return Err(Fetched::Unusable("fetch_refused"));
    }
    let (head, body) = response.into_parts();
    let fetched = match collect(body, MAX_FETCHED_BYTES).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(Fetched::Unusable("fetch_too_large")),
        Err(_) => return Err(Fetched::Unusable("fetch_failed")),
    };
    let fetched = std::str::from_utf8(&fetched).map_err(|_| Fetched::Unusable("fetch_unreadable"))?;
    if plan.verify {
        render_fetched(&plan.search, &Outcome { page: all, ..*outcome }, fetched).map_err(mismatch)?;
    }
    outcome.took_ms = millis(started);
    let answer = render_fetched(&plan.search, outcome, fetched).map_err(mismatch)?;
    let content_type = head.headers.get(CONTENT_TYPE).unwrap_or(&plan.content_type).clone();
    let mut response = respond::json(&parts.headers, content_type, answer);
    for warning in head.headers.get_all(http::header::WARNING) {
        response.headers_mut().append(http::header::WARNING, warning.clone());
    }
    Ok(response)
}

fn mismatch(mismatch: FetchMismatch) -> Fetched {
    match mismatch {
        FetchMismatch::Missing => Fetched::Moved("hit_missing"),
        FetchMismatch::Changed => Fetched::Moved("hit_changed"),
        FetchMismatch::Unreadable => Fetched::Unusable("fetch_unreadable"),
    }
}

fn search_uri(index: &str, query: &str) -> Option<Uri> {
    let index = utf8_percent_encode(index, NON_ALPHANUMERIC);
    let separator = if query.is_empty() { "" } else { "?" };
    format!("/{index}/_search{separator}{query}").parse().ok()
}
