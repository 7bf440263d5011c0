//! `_search`: answered from the index here where that gives what Elasticsearch would give, passed on
//! whole otherwise. `plan` decides without side effects; the ways are *answer*, *fetch* and *pass*.

use std::borrow::Cow;
use std::io::Read;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use es_wire::Mode as IndexMode;
use es_wire::Params;
use es_wire::{Catalog, IndexInfo, Resolved, VectorField};
use es_wire::{DocFilter, KnnSearch, NotOurs, parse_search, read_filters};
use es_wire::{Outcome, ScoredHit, render};
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::request::Parts;

use crate::body::{BodyFailure, RequestBody};
use crate::intercept::fetch::{self, Fetched, Source};
use crate::intercept::splice;
use crate::mode::{Mode, says_pass};
use crate::ports::{KnnHit, KnnQuestion, Scope};
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::telemetry::Served;
use crate::upstream::UpstreamError;
use crate::{pass, respond, shadow};

/// A search that can be answered here.
pub(crate) struct Plan {
    pub(crate) search: KnnSearch,
    pub(crate) index: Arc<IndexInfo>,
    /// What the search's filter means on that index.
    pub(crate) filter: Option<DocFilter>,
    pub(crate) content_type: HeaderValue,
    /// Elasticsearch must confirm each hit under the caller's credentials.
    pub(crate) verify: bool,
    mode: Mode,
}

/// Serves a search on one target.
pub(crate) async fn serve(worker: &Worker, target: &str, request: ClientRequest, started: Instant) -> Reply {
    let catalog = worker.shared.cluster.catalog();
    if catalog.adopted().next().is_none() {
        return pass::through(worker, request, Served::pass("nothing_adopted")).await;
    }
    let (request, text) = match understand(worker, request).await {
        Ok(read) => read,
        Err(reply) => return reply,
    };
    let planned = match &text {
        Some(text) => plan(worker, &request.parts, target, &catalog, text),
        None => Err(NotOurs("body_not_read")),
    };
    let reason = match planned {
        Ok(plan) => match plan.mode {
            Mode::Serve => match run(worker, &plan, &request.parts, started).await {
                Ok(reply) => return reply,
                Err(reason) => reason,
            },
            Mode::Shadow => {
                shadow::compare(&worker.shared, &plan);
                "shadow"
            }
            Mode::Pass => "switched_off",
        },
        // More than a bare knn, as far as it was understood: perhaps its knn parts are.
        Err(_) => match splice(worker, &request.parts, target, &catalog, text.as_deref()).await {
            Ok(reply) => return reply,
            Err(reason) => reason,
        },
    };
    pass_knn(worker, Some(target), &catalog, request, text.as_deref(), reason).await
}

async fn splice(
    worker: &Worker,
    parts: &Parts,
    target: &str,
    catalog: &Catalog,
    text: Option<&[u8]>,
) -> Result<Reply, &'static str> {
    let text = text.ok_or("body_not_read")?;
    let plan = splice::plan(worker, parts, target, catalog, text).map_err(|NotOurs(reason)| reason)?;
    splice::run(worker, &plan, parts, text).await
}

/// Passes another endpoint that may hold knn searches, under the brake.
pub(crate) async fn pass_other(worker: &Worker, target: Option<&str>, request: ClientRequest) -> Reply {
    let catalog = worker.shared.cluster.catalog();
    if catalog.adopted().next().is_none() {
        return pass::through(worker, request, Served::pass("nothing_adopted")).await;
    }
    match understand(worker, request).await {
        Ok((request, text)) => {
            pass_knn(worker, target, &catalog, request, text.as_deref(), "not_yet_understood").await
        }
        Err(reply) => reply,
    }
}

/// Reads the body as far as we care to, and inflates a copy of it where it is compressed.
async fn understand(
    worker: &Worker,
    request: ClientRequest,
) -> Result<(ClientRequest, Option<Bytes>), Reply> {
    let ClientRequest { parts, body } = request;
    let cap = worker.shared.config.max_intercept_bytes;
    match body.peek(cap).await {
        Ok((body, read)) => {
            let text = read.and_then(|bytes| inflated(&parts.headers, bytes, cap));
            Ok((ClientRequest { parts, body }, text))
        }
        Err(failure) => Err(worker.failed(&parts.headers, &body_failure(failure))),
    }
}

pub(crate) fn body_failure(failure: BodyFailure) -> UpstreamError {
    match failure {
        BodyFailure::TooLarge(limit) => UpstreamError::BodyTooLarge(limit),
        BodyFailure::Client(text) => UpstreamError::Client(text),
    }
}

/// A body as the parser wants it; `None` when it is encoded in a way that only Elasticsearch should
/// judge, or would grow over `cap`.
pub(crate) fn inflated(headers: &HeaderMap, bytes: Bytes, cap: usize) -> Option<Bytes> {
    let Some(encoding) = headers.get(CONTENT_ENCODING) else { return Some(bytes) };
    let mut plain = Vec::new();
    let limit = cap as u64 + 1;
    let read = match encoding.as_bytes() {
        b"gzip" => flate2::read::MultiGzDecoder::new(&*bytes).take(limit).read_to_end(&mut plain),
        b"deflate" => flate2::read::ZlibDecoder::new(&*bytes).take(limit).read_to_end(&mut plain),
        _ => return None,
    };
    (read.is_ok() && plain.len() <= cap).then(|| plain.into())
}

/// Decides whether a search is one that we can answer.
fn plan(
    worker: &Worker,
    parts: &Parts,
    target: &str,
    catalog: &Catalog,
    text: &[u8],
) -> Result<Plan, NotOurs> {
    let shared = &worker.shared;
    if says_pass(&parts.headers) {
        return Err(NotOurs("request_says_pass"));
    }
    let node = shared.cluster.node().ok_or(NotOurs("upstream_unknown"))?;
    let capabilities = node.capabilities.as_ref().ok_or(NotOurs("version_unknown"))?;
    let major = node.version.major as u16;
    let content_type = respond::json_content_type(&parts.headers, major).ok_or(NotOurs("content_type"))?;
    let params = Params::of(parts.uri.query()).ok_or(NotOurs("bad_query_string"))?;
    let mut search = parse_search(text, &params, capabilities)?;
    let (index, of_alias) = one_target(catalog, target)?;
    let field: &VectorField = index.fields.get(search.field.as_str()).ok_or(NotOurs("field_not_ours"))?;
    if search.from.saturating_add(search.size) > index.max_result_window {
        return Err(NotOurs("result_window"));
    }
    if search.vector.len() != field.spec.values() || field.scoring().prepare(&mut search.vector).is_err() {
        return Err(NotOurs("bad_vector"));
    }
    let filter = filter_on(&index, search.filter.as_deref(), of_alias.as_deref())?;
    let verify = shared.config.security.is_on(&node);
    if verify && filter.is_some() {
        // It may rest on a field that the caller may not see.
        return Err(NotOurs("security"));
    }
    let mode = shared.modes.of(&index.name);
    Ok(Plan { search, index, filter, content_type, verify, mode })
}

/// The one open index that a target means, whole.
pub(crate) fn one_index(catalog: &Catalog, target: &str) -> Result<Arc<IndexInfo>, NotOurs> {
    match one_target(catalog, target)? {
        (index, None) => Ok(index),
        (_, Some(_)) => Err(NotOurs("filtered_alias")),
    }
}

/// The one open index that a target means, and the filter of the alias that the target is.
pub(crate) fn one_target(
    catalog: &Catalog,
    target: &str,
) -> Result<(Arc<IndexInfo>, Option<Arc<str>>), NotOurs> {
    match catalog.resolve_with_filter(target) {
        (Resolved::One(index), filter) => Ok((index, filter)),
        (Resolved::NotOne(reason), _) => Err(NotOurs(reason)),
        (Resolved::Unknown, _) => Err(NotOurs("unknown_index")),
    }
}

/// What the filters of a knn and that of an alias mean together on an index.
pub(crate) fn filter_on<'a>(
    index: &IndexInfo,
    own: impl IntoIterator<Item = &'a str>,
    of_alias: Option<&'a str>,
) -> Result<Option<DocFilter>, NotOurs> {
    let raws: Vec<&str> = own.into_iter().chain(of_alias).collect();
    if raws.is_empty() { Ok(None) } else { read_filters(&raws, &index.filter_fields).map(Some) }
}

/// Searches, and answers or fetches. The error is the reason why the request must pass after all.
async fn run(worker: &Worker, plan: &Plan, parts: &Parts, started: Instant) -> Result<Reply, &'static str> {
    let mut reason = "ok";
    loop {
        let hits = find(worker, plan).await?;
        let scored = score(plan, &hits);
        let page_start = plan.search.from.min(scored.len());
        let page_end = page_start.saturating_add(plan.search.size).min(scored.len());
        let page = &scored[page_start..page_end];
        let mut outcome = Outcome {
            took_ms: 0,
            shards: plan.index.shards,
            total: scored.len(),
            max_score: scored.first().map(|hit| hit.score),
            page,
        };
        if !plan.verify && (page.is_empty() || !plan.search.needs_documents_where(any_ignored(worker, plan)))
        {
            outcome.took_ms = millis(started);
            let body = render(&plan.search, &outcome);
            let response = respond::json(&parts.headers, plan.content_type.clone(), body);
            return Ok((response, Served::new("answer", reason)));
        }
        if scored.is_empty() {
            // Whether the caller may search here at all is not ours to say.
            return Err("security");
        }
        match fetch::documents(worker, plan, parts, &scored, &mut outcome, started).await {
            Ok((response, Source::Elasticsearch)) => return Ok((response, Served::new("fetch", reason))),
            Ok((response, Source::Kept)) => return Ok((response, Served::new("answer", "documents_kept"))),
            Err(Fetched::Moved(_)) if reason == "ok" => {
                // Elasticsearch shows another version than ours: catch up with it, then once more.
                reason = "searched_again";
                worker.shared.cluster.published(Scope::Index(plan.index.name.to_string())).await;
            }
            Err(Fetched::Moved(what)) => return Err(what),
            Err(Fetched::Unusable(what)) => return Err(what),
        }
    }
}

/// Whether some hit of the index could carry `_ignored`.
fn any_ignored(worker: &Worker, plan: &Plan) -> bool {
    plan.index.may_ignore && worker.shared.cluster.may_show_ignored(&plan.index)
}

async fn find(worker: &Worker, plan: &Plan) -> Result<Vec<KnnHit>, &'static str> {
    let question = KnnQuestion {
        index: &plan.index,
        field: &plan.search.field,
        vector: &plan.search.vector,
        k: plan.search.k,
        num_candidates: plan.search.num_candidates,
        reach: plan.search.reach,
        filter: plan.filter.as_ref(),
    };
    worker.shared.engine.knn(question).await.map_err(|unavailable| unavailable.reason())
}

/// Applies threshold and boost.
fn score<'a>(plan: &'a Plan, hits: &'a [KnnHit]) -> Vec<ScoredHit<'a>> {
    let scoring = plan.index.fields[plan.search.field.as_str()].scoring();
    let least = plan.search.similarity.map_or(f32::NEG_INFINITY, |raw| scoring.threshold(raw));
    hits.iter()
        .filter(|hit| hit.score >= least)
        .map(|hit| {
            let order = hit.order.unwrap_or_default();
            ScoredHit {
                index: &plan.index.name,
                id: &hit.doc.id,
                routing: hit.doc.routing.as_deref(),
                score: hit.score * plan.search.boost,
                seq_no: order.seq_no,
                primary_term: order.primary_term,
            }
        })
        .collect()
}

pub(crate) fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Passes a search; where it holds a knn that is an exact scan in Elasticsearch, under the brake.
async fn pass_knn(
    worker: &Worker,
    target: Option<&str>,
    catalog: &Catalog,
    request: ClientRequest,
    text: Option<&[u8]>,
    reason: &'static str,
) -> Reply {
    let scanned = match text {
        Some(text) if mentions_knn(text) => scanned_vectors(worker, target, catalog),
        _ => 0,
    };
    let turn = match worker.shared.brake.take(scanned).await {
        Ok(turn) => turn,
        Err(refused) => {
            worker.shared.telemetry.refused();
            return (respond::rejected(&request.parts.headers, &refused), Served::new("refuse", reason));
        }
    };
    let reply = pass::through(worker, request, Served::pass(reason)).await;
    drop(turn);
    reply
}

fn mentions_knn(text: &[u8]) -> bool {
    text.windows(5).any(|window| window == b"\"knn\"")
}

/// How many vectors Elasticsearch would compare for a knn search on `target`, at most.
fn scanned_vectors(worker: &Worker, target: Option<&str>, catalog: &Catalog) -> u64 {
    let shared = &worker.shared;
    let of_index = |index: &IndexInfo| {
        let scanned = index.fields.iter().filter(|(_, field)| field.mode() == IndexMode::Offload);
        scanned.map(|(path, _)| shared.engine.vectors(index, path)).max().unwrap_or(0)
    };
    match target.map(|name| catalog.resolve_with_filter(name).0) {
        Some(Resolved::One(index)) => of_index(&index),
        Some(Resolved::Unknown) => 0,
        _ => catalog.adopted().map(|index| of_index(index)).sum(),
    }
}

/// A request of our own for JSON, under the caller's credentials.
pub(crate) fn json_request(
    parts: &Parts,
    method: http::Method,
    uri: http::Uri,
    body: Option<String>,
) -> ClientRequest {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    let has_body = body.is_some();
    let mut request = request_like(parts, method, uri, body.unwrap_or_default().into());
    request.parts.headers.remove(CONTENT_TYPE);
    if has_body {
        request.parts.headers.insert(CONTENT_TYPE, JSON);
    }
    request.parts.headers.insert(ACCEPT, JSON);
    request
}

/// A whole body in a [`ClientRequest`], as a request of our own under the caller's credentials.
pub(crate) fn request_like(
    parts: &Parts,
    method: http::Method,
    uri: http::Uri,
    body: Cow<'_, str>,
) -> ClientRequest {
    let mut own = http::Request::new(()).into_parts().0;
    own.method = method;
    own.uri = uri;
    own.headers = parts.headers.clone();
    for name in [
        http::header::CONTENT_LENGTH,
        CONTENT_ENCODING,
        http::header::ACCEPT_ENCODING,
        http::header::TRANSFER_ENCODING,
        http::header::EXPECT,
    ] {
        own.headers.remove(name);
    }
    ClientRequest { parts: own, body: RequestBody::full(Bytes::from(body.into_owned())) }
}
