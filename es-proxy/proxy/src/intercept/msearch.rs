//! `_msearch`: what can be answered here is, all knn of the request in one batch; what Elasticsearch must do
//! goes there in one `_msearch` of its own, under the caller's credentials: documents of our hits, spliced
//! searches, and searches that are not ours as they are. The responses are put together in their order.
//!
//! Where a search cannot be served so after all, it goes to Elasticsearch as it is, with others like it. Where
//! Elasticsearch refuses the whole, it gets the whole: an error in any pair of lines is one of the request.

mod scans;
mod together;

use std::borrow::Cow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use es_wire::{Catalog, MsearchHeader, MsearchItem, MsearchUrl, NotOurs, Params, read_msearch};
use http::header::{HeaderValue, WARNING};
use http::request::Parts;

use crate::door::limits;
use crate::intercept::msearch::together::{Asked, Together};
use crate::intercept::pass_search::{ReadRequest, mentions_knn};
use crate::intercept::plan::{Asker, Plan, all};
use crate::intercept::search::millis;
use crate::intercept::splice;
use crate::mode::Mode;
use crate::ports::KnnHit;
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::telemetry::Served;
use crate::{respond, shadow};

/// Searches in one request; more pass.
const MAX_SEARCHES: usize = 1_000;

/// Searches in one request that are told apart where each is limited.
const MAX_LIMITED: usize = 20_000;

/// Hits that all searches of a request may bring together; searches beyond that go to Elasticsearch.
const MAX_HITS: usize = 200_000;

/// Bytes of bodies that are read without letting other requests of the worker have their turn.
const BYTES_PER_TURN: usize = 64 << 10;

/// Searches of which it is asked whether they may be, in the same way.
const SEARCHES_PER_TURN: usize = 1_000;

/// What is done with one search.
enum Step {
    Answer(Box<Plan>),
    Splice(splice::Plan),
    /// Elasticsearch gets it as it is, and why.
    Leave(&'static str),
    /// The caller asks for too much: the response to it.
    Refuse(Bytes),
}

/// One search on its way.
struct Search<'a> {
    item: MsearchItem<'a>,
    /// Names of its targets.
    names: Cow<'a, str>,
    step: Step,
}

/// Serves an `_msearch`; `names` are the targets of searches that name none.
pub(crate) async fn serve(worker: &Worker, names: &str, request: ClientRequest, started: Instant) -> Reply {
    let read = match ReadRequest::of(worker, request).await {
        Ok(read) => read,
        Err(reply) => return reply,
    };
    let served = match read.with_knn() {
        Ok(text) => ours(worker, names, &read, text, started).await,
        Err(reason) => Err(reason),
    };
    match served {
        Ok(reply) => reply,
        Err(reason) => {
            let scans = scans::of(worker, names, &read).await;
            read.pass(worker, scans, reason).await
        }
    }
}

/// Serves what can be served here; the error is the reason why the whole request must pass as it is.
async fn ours(
    worker: &Worker,
    names: &str,
    read: &ReadRequest,
    text: &Bytes,
    started: Instant,
) -> Result<Reply, &'static str> {
    let label = |NotOurs(reason)| reason;
    let (parts, catalog) = (&read.request.parts, &read.catalog);
    let asker = Asker::of(worker, read).await.map_err(label)?;
    let content_type = respond::ndjson_content_type(&parts.headers, asker.caps.version.major as u16);
    let content_type = content_type.ok_or("content_type")?;
    let params = Params::of(parts.uri.query()).ok_or("bad_query_string")?;
    let url = MsearchUrl::read(&params, &asker.caps).map_err(label)?;
    // Limits are for each search; else more than it can answer pass as they came.
    let most = if limits::limit_knn(parts) { MAX_LIMITED } else { MAX_SEARCHES };
    let items = read_msearch(text, most).map_err(label)?;
    let mut searches = plan_all(&asker, names, &url, text, items).await;
    admit(parts, &mut searches).await;
    let told = |reason| {
        let unseen = searches.iter().find(|search| !asker.sight.is_whole(&search.names));
        unseen.map_or(reason, |search| asker.told(&search.names, reason))
    };
    let left = |search: &Search<'_>| if let Step::Leave(reason) = search.step { Some(reason) } else { None };
    if let Some(reasons) = searches.iter().map(left).collect::<Option<Vec<_>>>() {
        return Err(reasons.first().copied().map_or("no_searches", told));
    }

    let served = served(worker, parts, (&url, catalog), &searches, started).await;
    let (body, warnings, served) = match (served, refused(&searches)) {
        (Ok(served), _) => served,
        // What was refused does not pass with the others.
        (Err(_), Some(body)) => {
            let response = respond::too_many(&parts.headers, body.clone(), Duration::from_secs(1));
            return Ok((response, Served::new("refuse", "tenant")));
        }
        (Err(reason), None) => return Err(told(reason)),
    };
    let served = if served.way == "pass" { Served::pass(told(served.reason)) } else { served };
    let mut response = respond::json(&parts.headers, content_type, body);
    for warning in warnings {
        response.headers_mut().append(WARNING, warning);
    }
    Ok((response, served))
}

/// What was said to the first search that was refused.
fn refused<'s>(searches: &'s [Search<'_>]) -> Option<&'s Bytes> {
    searches.iter().find_map(|search| if let Step::Refuse(body) = &search.step { Some(body) } else { None })
}

/// The responses to all searches, put together, and warnings that come with them.
async fn served(
    worker: &Worker,
    parts: &Parts,
    (url, catalog): (&MsearchUrl, &Catalog),
    searches: &[Search<'_>],
    started: Instant,
) -> Result<(String, Vec<HeaderValue>, Served), &'static str> {
    let found = find(worker, parts, searches).await;
    let mut together = Together::new(worker, parts, url, catalog, searches);
    let asked = together.begin(&found, started);
    let again = together.ask(asked, started).await?;
    let again: Vec<Asked<'_>> = again.into_iter().map(|at| together.as_it_is(at)).collect();
    together.ask(again, started).await?;
    let served = together.as_a_whole();
    let responses: Vec<String> = together.responses.into_iter().flatten().collect();
    if responses.len() != searches.len() {
        return Err("msearch_incomplete");
    }
    Ok((url.finish(millis(started), &responses), together.warnings, served))
}

/// Decides about each search.
async fn plan_all<'a>(
    asker: &Asker<'_>,
    names: &'a str,
    url: &MsearchUrl,
    text: &Bytes,
    items: Vec<MsearchItem<'a>>,
) -> Vec<Search<'a>> {
    let (mut searches, mut read, mut hits) = (Vec::with_capacity(items.len()), 0, 0);
    for (number, item) in items.into_iter().enumerate() {
        read += item.body.len();
        if read > BYTES_PER_TURN {
            read = 0;
            tokio::task::yield_now().await;
        }
        let (names, step) = match item.header() {
            Ok(header) => {
                let names = header.names.clone().map_or(Cow::Borrowed(names), Cow::Owned);
                let step = match number < MAX_SEARCHES {
                    true => plan(asker, &names, url, &header, text.slice_ref(item.body.as_bytes())).await,
                    false => Step::Leave("many_searches"),
                };
                (names, step)
            }
            Err(NotOurs(reason)) => (Cow::Borrowed(""), Step::Leave(reason)),
        };
        hits += match &step {
            Step::Answer(plan) => plan.most_hits(),
            Step::Splice(plan) => plan.most_hits(),
            Step::Leave(_) | Step::Refuse(_) => 0,
        };
        let step = if hits > MAX_HITS { Step::Leave("many_hits") } else { step };
        searches.push(Search { item, names, step });
    }
    searches
}

async fn plan(asker: &Asker<'_>, names: &str, url: &MsearchUrl, header: &MsearchHeader, body: Bytes) -> Step {
    if !mentions_knn(&body) {
        return Step::Leave("no_knn");
    }
    let params = url.params_of(header);
    match asker.plan(names, &params, &body).await {
        Ok(plan) => match plan.mode {
            Mode::Serve => Step::Answer(Box::new(plan)),
            Mode::Shadow => {
                shadow::compare(asker.shared, &plan);
                Step::Leave("shadow")
            }
            Mode::Pass => Step::Leave("switched_off"),
        },
        Err(_) => match asker.plan_splice(names, &params, &body).await {
            Ok(plan) => Step::Splice(plan),
            Err(NotOurs(reason)) => Step::Leave(reason),
        },
    }
}

/// Those with a knn count each against the caller's limits, whoever will answer them.
async fn admit(parts: &Parts, searches: &mut [Search<'_>]) {
    if !limits::are_counted(parts) {
        return;
    }
    for (number, search) in searches.iter_mut().enumerate() {
        if number % SEARCHES_PER_TURN == SEARCHES_PER_TURN - 1 {
            tokio::task::yield_now().await;
        }
        let is_knn = match &search.step {
            Step::Answer(_) | Step::Splice(_) => true,
            Step::Leave(_) => mentions_knn(search.item.body.as_bytes()),
            Step::Refuse(_) => false,
        };
        if is_knn && let Err(refusal) = limits::knn_of_many(parts).await {
            search.step = Step::Refuse(refusal.body);
        }
    }
}

/// What is found for each search, all questions asked in one batch; none for searches that are left.
async fn find(
    worker: &Worker,
    parts: &Parts,
    searches: &[Search<'_>],
) -> Vec<Result<Vec<Vec<KnnHit>>, &'static str>> {
    let (mut questions, mut counts) = (Vec::new(), Vec::with_capacity(searches.len()));
    for search in searches {
        let before = questions.len();
        match &search.step {
            Step::Answer(plan) => questions.extend(plan.questions()),
            Step::Splice(plan) => questions.extend(plan.questions()),
            Step::Leave(_) | Step::Refuse(_) => {}
        }
        counts.push(questions.len() - before);
    }
    let flow = limits::flow(parts);
    questions.iter_mut().for_each(|question| question.flow = flow);
    limits::charge_knn(parts, &questions);
    let mut answers = worker.shared.engine.knn_batch(&questions).await.into_iter();
    let of_search = |count| all(answers.by_ref().take(count)).map_err(|unavailable| unavailable.reason());
    counts.into_iter().map(of_search).collect()
}
