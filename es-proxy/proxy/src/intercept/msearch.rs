//! `_msearch`: what can be answered here is, all knn of the request in one batch; what Elasticsearch must do
//! goes there in one `_msearch` of its own, under the caller's credentials: documents of our hits, spliced
//! searches, and searches that are not ours as they are. The responses are put together in their order.
//!
//! Where a search cannot be served so after all, it goes to Elasticsearch as it is, with others like it. Where
//! Elasticsearch refuses the whole, it gets the whole: an error in any pair of lines is one of the request.

use std::borrow::Cow;
use std::time::Instant;

use bytes::Bytes;
use es_wire::{Catalog, MsearchHeader, MsearchItem, MsearchUrl, NotOurs, Params, ScoredHit};
use es_wire::{
    as_msearch_response, msearch_responses, push_msearch_lines, read_msearch, rejected_body, render,
};
use http::header::WARNING;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri};

use crate::body::collect;
use crate::door::limits;
use crate::intercept::fetch::{Documents, MAX_FETCHED_BYTES};
use crate::intercept::own_request::request_like;
use crate::intercept::pass_search::{mentions_knn, pass_knn, scanned_vectors, understand};
use crate::intercept::plan::{Asker, Plan, all};
use crate::intercept::search::{millis, needs_documents, outcome};
use crate::intercept::splice;
use crate::mode::Mode;
use crate::ports::KnnHit;
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::telemetry::Served;
use crate::{pass, respond, shadow};

/// Searches in one request; more pass.
const MAX_SEARCHES: usize = 1_000;

/// Hits that all searches of a request may bring together; searches beyond that go to Elasticsearch.
const MAX_HITS: usize = 200_000;

/// Bytes of bodies that are read without letting other requests of the worker have their turn.
const BYTES_PER_TURN: usize = 64 << 10;

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

/// A search that Elasticsearch is asked, and what is made of its response.
struct Asked<'f> {
    at: usize,
    header: Cow<'f, str>,
    body: Cow<'f, [u8]>,
    expected: Expected<'f>,
}

enum Expected<'f> {
    /// The documents of an answer of ours.
    Documents { plan: &'f Plan, scored: Vec<ScoredHit<'f>>, documents: Documents<'f> },
    /// A response for the client, unless it is an error: that may be of our making.
    Spliced,
    /// A response for the client.
    Own,
}

/// Serves an `_msearch`; `names` are the targets of searches that name none.
pub(crate) async fn serve(worker: &Worker, names: &str, request: ClientRequest, started: Instant) -> Reply {
    let catalog = worker.shared.cluster.catalog();
    if catalog.adopted().next().is_none() {
        return pass::through(worker, request, Served::pass("nothing_adopted")).await;
    }
    let (request, text) = match understand(worker, request).await {
        Ok(read) => read,
        Err(reply) => return reply,
    };
    let served = match &text {
        Some(text) if !mentions_knn(text) => Err("no_knn"),
        Some(text) => ours(worker, names, &catalog, &request.parts, text, started).await,
        None => Err("body_not_read"),
    };
    match served {
        Ok(reply) => reply,
        Err(reason) => pass_knn(worker, names, &catalog, request, text.as_deref(), reason).await,
    }
}

/// Serves what can be served here; the error is the reason why the whole request must pass as it is.
async fn ours(
    worker: &Worker,
    names: &str,
    catalog: &Catalog,
    parts: &Parts,
    text: &Bytes,
    started: Instant,
) -> Result<Reply, &'static str> {
    let label = |NotOurs(reason)| reason;
    let asker = Asker::of(worker, parts, catalog, text).await.map_err(label)?;
    let content_type = respond::ndjson_content_type(&parts.headers, asker.caps.version.major as u16);
    let content_type = content_type.ok_or("content_type")?;
    let params = Params::of(parts.uri.query()).ok_or("bad_query_string")?;
    let url = MsearchUrl::read(&params, &asker.caps).map_err(label)?;
    let items = read_msearch(text).map_err(label)?;
    if items.len() > MAX_SEARCHES {
        return Err("many_searches");
    }
    let mut searches = plan_all(&asker, names, &url, items).await;
    admit(parts, &mut searches).await;
    let left = |search: &Search<'_>| if let Step::Leave(reason) = search.step { Some(reason) } else { None };
    if let Some(reasons) = searches.iter().map(left).collect::<Option<Vec<_>>>() {
        return Err(reasons.first().copied().unwrap_or("no_searches"));
    }

    let found = find(worker, parts, &searches).await;
    let mut together = Together::new(worker, parts, &url, catalog, &searches);
    let asked = together.begin(&found, started);
    let again = together.ask(asked, started).await?;
    let again: Vec<Asked<'_>> = again.into_iter().map(|at| together.as_it_is(at)).collect();
    together.ask(again, started).await?;

    let responses: Vec<String> = together.responses.into_iter().flatten().collect();
    if responses.len() != searches.len() {
        return Err("msearch_incomplete");
    }
    let body = url.finish(millis(started), &responses);
    let mut response = respond::json(&parts.headers, content_type, body);
    for warning in together.warnings {
        response.headers_mut().append(WARNING, warning);
    }
    Ok((response, together.served))
}

/// Decides about each search.
async fn plan_all<'a>(
    asker: &Asker<'_>,
    names: &'a str,
    url: &MsearchUrl,
    items: Vec<MsearchItem<'a>>,
) -> Vec<Search<'a>> {
    let (mut searches, mut read, mut hits) = (Vec::with_capacity(items.len()), 0, 0);
    for item in items {
        read += item.body.len();
        if read > BYTES_PER_TURN {
            read = 0;
            tokio::task::yield_now().await;
        }
        let (names, step) = match item.header() {
            Ok(header) => {
                let names = header.names.clone().map_or(Cow::Borrowed(names), Cow::Owned);
                let step = plan(asker, &names, url, &header, item.body);
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

fn plan(asker: &Asker<'_>, names: &str, url: &MsearchUrl, header: &MsearchHeader, body: &str) -> Step {
    if !mentions_knn(body.as_bytes()) {
        return Step::Leave("no_knn");
    }
    let params = url.params_of(header);
    match asker.plan(names, &params, body.as_bytes()) {
        Ok(plan) => match plan.mode {
            Mode::Serve => Step::Answer(Box::new(plan)),
            Mode::Shadow => {
                shadow::compare(asker.shared, &plan);
                Step::Leave("shadow")
            }
            Mode::Pass => Step::Leave("switched_off"),
        },
        Err(_) => match asker.plan_splice(names, &params, body.as_bytes()) {
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
    for search in searches {
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

/// The answer as it comes together.
struct Together<'a> {
    worker: &'a Worker,
    parts: &'a Parts,
    url: &'a MsearchUrl,
    catalog: &'a Catalog,
    searches: &'a [Search<'a>],
    responses: Vec<Option<String>>,
    warnings: Vec<http::HeaderValue>,
    served: Served,
}

impl<'a> Together<'a> {
    fn new(
        worker: &'a Worker,
        parts: &'a Parts,
        url: &'a MsearchUrl,
        catalog: &'a Catalog,
        searches: &'a [Search<'a>],
    ) -> Self {
        let responses = searches.iter().map(|_| None).collect();
        let served = Served::new("answer", "ok");
        Self { worker, parts, url, catalog, searches, responses, warnings: Vec::new(), served }
    }

    /// Answers what needs nothing more; returns what Elasticsearch must be asked.
    fn begin<'f>(
        &mut self,
        found: &'f [Result<Vec<Vec<KnnHit>>, &'static str>],
        started: Instant,
    ) -> Vec<Asked<'f>>
    where
        'a: 'f,
    {
        let mut asked = Vec::new();
        for (at, (search, found)) in self.searches.iter().zip(found).enumerate() {
            let next = match (&search.step, found) {
                (Step::Answer(plan), Ok(found)) => self.answer(at, plan, found, started),
                (Step::Splice(plan), Ok(found)) => self.splice(at, plan, found),
                (Step::Leave(reason), _) => Some(self.leave(at, reason)),
                (Step::Refuse(body), _) => {
                    self.refuse(at, body);
                    None
                }
                (_, Err(reason)) => Some(self.leave(at, reason)),
            };
            asked.extend(next);
        }
        asked
    }

    fn answer<'f>(
        &mut self,
        at: usize,
        plan: &'f Plan,
        found: &'f [Vec<KnnHit>],
        started: Instant,
    ) -> Option<Asked<'f>>
    where
        'a: 'f,
    {
        let scored = plan.score(found);
        let mut outcome = outcome(plan, &scored);
        if !needs_documents(self.worker, plan, &outcome) {
            outcome.took_ms = millis(started);
            self.is_ready(at, as_msearch_response(render(&plan.search, &outcome)), "answer");
            return None;
        }
        if scored.is_empty() {
            // Whether the caller may search here at all is not ours to say.
            return Some(self.leave(at, "security"));
        }
        let documents = Documents::of(&self.worker.shared.documents, plan, &scored);
        if documents.are_kept() {
            outcome.took_ms = millis(started);
            if let Ok(answer) = documents.answer(plan, &scored, &outcome, None, None) {
                self.is_ready(at, as_msearch_response(answer), "answer");
                return None;
            }
        }
        let (indices, body) = documents.question(plan);
        let header = plan.search.fetch_header(&indices).into();
        let expected = Expected::Documents { plan, scored, documents };
        Some(Asked { at, header, body: body.into_bytes().into(), expected })
    }

    fn splice<'f>(&mut self, at: usize, plan: &splice::Plan, found: &[Vec<KnnHit>]) -> Option<Asked<'f>>
    where
        'a: 'f,
    {
        let item = &self.searches[at].item;
        Some(match plan.spliced(item.body.as_bytes(), found) {
            Ok(body) => {
                Asked { at, header: item.header.into(), body: body.into(), expected: Expected::Spliced }
            }
            Err(reason) => self.leave(at, reason),
        })
    }

    /// A search is refused, and the others go on.
    fn refuse(&mut self, at: usize, body: &Bytes) {
        self.worker.shared.telemetry.searched(Served::new("refuse", "tenant"));
        self.responses[at] = Some(String::from_utf8_lossy(body).into_owned());
    }

    /// A search goes to Elasticsearch as it is.
    fn leave<'f>(&mut self, at: usize, reason: &'static str) -> Asked<'f>
    where
        'a: 'f,
    {
        self.worker.shared.telemetry.searched(Served::pass(reason));
        self.served.reason = "partly";
        self.as_it_is(at)
    }

    fn as_it_is<'f>(&self, at: usize) -> Asked<'f>
    where
        'a: 'f,
    {
        let item = &self.searches[at].item;
        Asked { at, header: item.header.into(), body: item.body.as_bytes().into(), expected: Expected::Own }
    }

    fn is_ready(&mut self, at: usize, response: String, way: &'static str) {
        self.worker.shared.telemetry.searched(Served::new(way, "ok"));
        self.responses[at] = Some(response);
    }

    /// Asks Elasticsearch, and returns the searches that it must be asked once more, as they are.
    async fn ask(&mut self, asked: Vec<Asked<'_>>, started: Instant) -> Result<Vec<usize>, &'static str> {
        let (asked, _turn) = self.brake(asked).await;
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let mut body =
            Vec::with_capacity(asked.iter().map(|asked| asked.header.len() + asked.body.len() + 2).sum());
        asked.iter().for_each(|asked| push_msearch_lines(&mut body, &asked.header, &asked.body));
        let (headers, text) = self.send(body).await?;
        let responses = msearch_responses(&text).filter(|responses| responses.len() == asked.len());
        let responses = responses.ok_or("msearch_unreadable")?;
        let warned = headers.contains_key(WARNING);
        self.warnings.extend(headers.get_all(WARNING).iter().cloned());
        let mut again = Vec::new();
        for (asked, (response, status)) in asked.into_iter().zip(responses) {
            match asked.expected {
                Expected::Spliced if (400..500).contains(&status) => again.push(asked.at),
                Expected::Spliced => self.is_served(asked.at, response, "splice"),
                Expected::Own => self.responses[asked.at] = Some(response.to_owned()),
                Expected::Documents { plan, scored, documents } => {
                    let mut outcome = outcome(plan, &scored);
                    outcome.took_ms = millis(started);
                    // A warning must come with every answer, and so the documents from Elasticsearch.
                    let keep_in = (!warned).then_some(&self.worker.shared.documents);
                    match documents.answer(plan, &scored, &outcome, Some(response), keep_in) {
                        Ok(answer) => self.is_served(asked.at, &as_msearch_response(answer), "fetch"),
                        Err(_) => again.push(asked.at),
                    }
                }
            }
        }
        Ok(again)
    }

    fn is_served(&mut self, at: usize, response: &str, way: &'static str) {
        self.served.way = way;
        self.is_ready(at, response.to_owned(), way);
    }

    /// Waits for the turn of exact scans; where they are too many, they are refused one by one.
    async fn brake<'f>(&mut self, asked: Vec<Asked<'f>>) -> (Vec<Asked<'f>>, Option<crate::brake::Turn>) {
        let scanned = |asked: &Asked<'_>| match asked.expected {
            Expected::Own if mentions_knn(&asked.body) => {
                scanned_vectors(self.worker, &self.searches[asked.at].names, self.catalog)
            }
            _ => 0,
        };
        let costs: Vec<u64> = asked.iter().map(scanned).collect();
        match self.worker.shared.brake.take(costs.iter().sum()).await {
            Ok(turn) => (asked, Some(turn)),
            Err(refused) => {
                let mut kept = Vec::new();
                for (asked, cost) in asked.into_iter().zip(costs) {
                    if cost == 0 {
                        kept.push(asked);
                    } else {
                        self.worker.shared.telemetry.refused();
                        self.responses[asked.at] = Some(rejected_body(&refused.reason));
                    }
                }
                (kept, None)
            }
        }
    }

    async fn send(&self, body: Vec<u8>) -> Result<(HeaderMap, String), &'static str> {
        let query = self.url.upstream_query();
        let separator = if query.is_empty() { "" } else { "?" };
        let path = self.parts.uri.path();
        let uri: Uri = format!("{path}{separator}{query}").parse().map_err(|_| "msearch_uri")?;
        let request = request_like(self.parts, Method::POST, uri, body);
        let response = self.worker.send(request).await.map_err(|failure| {
            self.worker.shared.telemetry.upstream_failed("msearch", &failure);
            "msearch_failed"
        })?;
        if response.status() != StatusCode::OK {
            // Of the whole: an error may point into the lines as the client sent them.
            return Err("refused_by_elasticsearch");
        }
        let (head, body) = response.into_parts();
        let bytes = collect(body, MAX_FETCHED_BYTES).await.map_err(|_| "msearch_failed")?;
        let text = String::from_utf8(bytes.ok_or("msearch_too_large")?.into());
        Ok((head.headers, text.map_err(|_| "msearch_unreadable")?))
    }
}
