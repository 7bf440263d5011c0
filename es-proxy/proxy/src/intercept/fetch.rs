//! The *fetch* way: our hits, Elasticsearch's documents. One `_search` with an `ids` query under the
//! caller's own credentials; a hit that comes back in another version, or not at all, is not shown.
//! Where nobody's rights are at stake, documents that an earlier search fetched are not asked for again.

use std::sync::Arc;
use std::time::Instant;

use es_wire::{FetchMismatch, FetchedHits, Outcome, ScoredHit, render_fetched};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::body::{ResponseBody, collect};
use crate::documents::Wish;
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

/// Where the documents of an answer came from.
pub(crate) enum Source {
    /// At least one from Elasticsearch, now.
    Elasticsearch,
    /// All from earlier searches.
    Kept,
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
) -> Result<(Response<ResponseBody>, Source), Fetched> {
    let cache = &worker.shared.documents;
    let wish = if plan.verify { None } else { plan.search.document_wish() };
    let wish = wish.map(|text| Wish::new(&plan.index, text));
    let asked: &[ScoredHit<'_>] = if plan.verify { all } else { outcome.page };
    let kept: Vec<Option<Arc<str>>> =
        asked.iter().map(|hit| wish.as_ref().and_then(|wish| cache.get(wish, hit))).collect();
    let missing: Vec<ScoredHit<'_>> =
        asked.iter().zip(&kept).filter(|(_, kept)| kept.is_none()).map(|(hit, _)| *hit).collect();
    let response = if missing.is_empty() { None } else { Some(ask(worker, plan, parts, &missing).await?) };

    let mut fetched = FetchedHits::default();
    for raw in kept.iter().flatten() {
        fetched.add_hit(raw).map_err(mismatch)?;
    }
    if let Some((_, text)) = &response {
        fetched.add_response(text).map_err(mismatch)?;
    }
    if plan.verify {
        render_fetched(&plan.search, &Outcome { page: all, ..*outcome }, &fetched).map_err(mismatch)?;
    }
    outcome.took_ms = millis(started);
    let answer = render_fetched(&plan.search, outcome, &fetched).map_err(mismatch)?;
    let Some((headers, _)) = &response else {
        let answered = respond::json(&parts.headers, plan.content_type.clone(), answer);
        return Ok((answered, Source::Kept));
    };
    let content_type = headers.get(CONTENT_TYPE).unwrap_or(&plan.content_type).clone();
    let mut answered = respond::json(&parts.headers, content_type, answer);
    let mut warned = false;
    for warning in headers.get_all(http::header::WARNING) {
        answered.headers_mut().append(http::header::WARNING, warning.clone());
        warned = true;
    }
    // A warning must come with every answer, and so the documents from Elasticsearch.
    if let (Some(wish), false) = (&wish, warned) {
        for hit in &missing {
            cache.keep(wish, hit, fetched.raw(hit).map_err(mismatch)?);
        }
    }
    Ok((answered, Source::Elasticsearch))
}

/// Asks Elasticsearch for the documents of hits; returns the headers and the text of its answer.
async fn ask(
    worker: &Worker,
    plan: &Plan,
    parts: &Parts,
    hits: &[ScoredHit<'_>],
) -> Result<(HeaderMap, String), Fetched> {
    let ids: Vec<&str> = hits.iter().map(|hit| hit.id).collect();
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
    let text = String::from_utf8(fetched.into()).map_err(|_| Fetched::Unusable("fetch_unreadable"))?;
    Ok((head.headers, text))
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
