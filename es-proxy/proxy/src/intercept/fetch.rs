//! The *fetch* way: our hits, Elasticsearch's documents. One `_search` with an `ids` query under the
//! caller's own credentials; a hit that comes back in another version, or not at all, is not shown.
//! Where nobody's rights are at stake, documents that an earlier search fetched are not asked for again.

use std::sync::Arc;

use es_wire::{FetchMismatch, FetchedHits, Outcome, ScoredHit, render_fetched};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::body::collect;
use crate::documents::{DocumentCache, Wish};
use crate::intercept::own_request::request_like;
use crate::intercept::plan::Plan;
use crate::proxy::Worker;

/// Largest response with documents that is held to be put in order; 10,000 hits of 10 KB.
pub(crate) const MAX_FETCHED_BYTES: usize = 100 << 20;

/// Elasticsearch's default of `index.max_result_window`: more hits are not asked for at once.
const MAX_HITS: usize = 10_000;

/// Why fetching gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// Elasticsearch shows other versions than our view.
    Moved(&'static str),
    /// Elasticsearch refused, failed or answered something unexpected: let it answer the client itself.
    Unusable(&'static str),
}

/// The documents that one search needs: those that an earlier one fetched, and those to be asked for.
pub(crate) struct Documents<'h> {
    /// Under what the search's documents are kept; `None`: they are not.
    wish: Option<Wish>,
    kept: Vec<Arc<str>>,
    missing: Vec<ScoredHit<'h>>,
}

impl<'h> Documents<'h> {
    /// Looks for the documents of the page. Where the caller's rights must be verified, every hit is asked
    /// for, those outside the page too: their number is part of the answer.
    pub(crate) fn of(cache: &DocumentCache, plan: &Plan, all: &[ScoredHit<'h>]) -> Self {
        let mut this = Self { wish: None, kept: Vec::new(), missing: Vec::new() };
        if plan.verify {
            this.missing.extend_from_slice(all);
            return this;
        }
        this.wish = plan.search.document_wish().map(Wish::new);
        for hit in &all[plan.page(all.len())] {
            match this.wish.as_ref().and_then(|wish| cache.get(wish, hit)) {
                Some(raw) => this.kept.push(raw),
                None => this.missing.push(*hit),
            }
        }
        this
    }

    /// Whether earlier searches fetched all of them.
    pub(crate) fn are_kept(&self) -> bool {
        self.missing.is_empty()
    }

    /// Whether what Elasticsearch shows of them may be kept for other searches, which are also others' searches.
    pub(crate) fn may_be_kept(&self) -> bool {
        self.wish.is_some() && !self.missing.is_empty()
    }

    /// The names to ask, and the body of the search that asks for what is missing.
    pub(crate) fn question<'p>(&self, plan: &'p Plan) -> (Vec<&'p str>, String) {
        let holds_one = |index: &str| plan.verify || self.missing.iter().any(|hit| hit.index == index);
        let concrete = plan.targets.iter().map(|target| &*target.index.name);
        let indices: Vec<&str> = concrete.filter(|name| holds_one(name)).collect();
        let ids: Vec<&str> = self.missing.iter().map(|hit| hit.id).collect();
        let asked =
            plan.targets.iter().filter(|target| plan.names.is_some() || holds_one(&target.index.name));
        // With routings of their own, documents of one id may stand in each shard.
        let shards: usize = asked.map(|target| target.index.shards as usize).sum();
        let names = plan.names.as_ref().map_or(indices, |names| names.split(',').collect());
        let windows = plan.targets.iter().map(|target| target.index.max_result_window);
        let size = ids.len().saturating_mul(shards).min(windows.min().unwrap_or(MAX_HITS).min(MAX_HITS));
        (names, plan.search.fetch_body(&ids, size, plan.seen()))
    }

    /// The answer of the search. `response` is Elasticsearch's to [`Documents::question`]; its documents are
    /// kept for later searches if they may be.
    pub(crate) fn answer(
        &self,
        plan: &Plan,
        all: &[ScoredHit<'_>],
        outcome: &Outcome<'_>,
        response: Option<&str>,
        keep_in: Option<&DocumentCache>,
    ) -> Result<String, Fetched> {
        let mut fetched = FetchedHits::default();
        for raw in &self.kept {
            fetched.add_hit(raw).map_err(mismatch)?;
        }
        if let Some(text) = response {
            fetched.add_response(text).map_err(mismatch)?;
        }
        if plan.verify {
            render_fetched(&plan.search, &Outcome { page: all, ..*outcome }, &fetched).map_err(mismatch)?;
        }
        let answer = render_fetched(&plan.search, outcome, &fetched).map_err(mismatch)?;
        if let (Some(wish), Some(cache)) = (&self.wish, keep_in) {
            for hit in &self.missing {
                cache.keep(wish, hit, fetched.raw(hit).map_err(mismatch)?);
            }
        }
        Ok(answer)
    }
}

/// Asks Elasticsearch a [`Documents::question`]; returns the headers and the text of its answer.
pub(crate) async fn ask(
    worker: &Worker,
    plan: &Plan,
    parts: &Parts,
    (indices, body): (Vec<&str>, String),
) -> Result<(HeaderMap, String), Fetched> {
    let uri = search_uri(&indices, &plan.search.fetch_query()).ok_or(Fetched::Unusable("fetch_uri"))?;
    let request = request_like(parts, Method::POST, uri, body);
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

fn search_uri(indices: &[&str], query: &str) -> Option<Uri> {
    let index = utf8_percent_encode(&indices.join(","), NON_ALPHANUMERIC).to_string();
    let separator = if query.is_empty() { "" } else { "?" };
    format!("/{index}/_search{separator}{query}").parse().ok()
}
