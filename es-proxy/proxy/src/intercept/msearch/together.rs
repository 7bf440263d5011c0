//! The answer to an `_msearch` as it comes together: what needs nothing more at once, the others by what
//! Elasticsearch says to the searches that it is asked in one `_msearch` of its own.

use std::borrow::Cow;
use std::time::Instant;

use bytes::Bytes;
use es_wire::{
    Catalog, MsearchUrl, ScoredHit, as_msearch_response, msearch_responses, push_msearch_lines,
    rejected_body, render,
};
use http::header::{HeaderValue, WARNING};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri};

use crate::body::collect;
use crate::door::{identity, limits};
use crate::intercept::fetch::{Documents, Fetched, MAX_FETCHED_BYTES};
use crate::intercept::msearch::{Search, Step};
use crate::intercept::own_request::request_like;
use crate::intercept::pass_search::{mentions_knn, scanned_vectors};
use crate::intercept::plan::Plan;
use crate::intercept::search::{millis, needs_documents, outcome};
use crate::intercept::splice::{self, may_point_at_body};
use crate::ports::KnnHit;
use crate::proxy::Worker;
use crate::telemetry::Served;

/// The answer as it comes together.
pub(super) struct Together<'a> {
    worker: &'a Worker,
    parts: &'a Parts,
    url: &'a MsearchUrl,
    catalog: &'a Catalog,
    searches: &'a [Search<'a>],
    pub(super) responses: Vec<Option<String>>,
    pub(super) warnings: Vec<HeaderValue>,
    /// How searches were served here, if any were.
    way: Option<&'static str>,
    /// Why one was not, if one was not.
    left: Option<&'static str>,
}

impl<'a> Together<'a> {
    pub(super) fn new(
        worker: &'a Worker,
        parts: &'a Parts,
        url: &'a MsearchUrl,
        catalog: &'a Catalog,
        searches: &'a [Search<'a>],
    ) -> Self {
        let responses = searches.iter().map(|_| None).collect();
        let (warnings, way, left) = (Vec::new(), None, None);
        Self { worker, parts, url, catalog, searches, responses, warnings, way, left }
    }

    /// Answers what needs nothing more; returns what Elasticsearch must be asked.
    pub(super) fn begin<'f>(
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
        Some(match plan.edits(found) {
            Ok(edits) => {
                let body = edits.of(item.body.as_bytes()).into();
                Asked { at, header: item.header.into(), body, expected: Expected::Spliced }
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
        self.left.get_or_insert(reason);
        self.as_it_is(at)
    }

    pub(super) fn as_it_is<'f>(&self, at: usize) -> Asked<'f>
    where
        'a: 'f,
    {
        let item = &self.searches[at].item;
        Asked { at, header: item.header.into(), body: item.body.as_bytes().into(), expected: Expected::Own }
    }

    /// How the request was served.
    pub(super) fn as_a_whole(&self) -> Served {
        match (self.way, self.left) {
            (None, Some(reason)) => Served::pass(reason),
            (way, left) => Served::new(way.unwrap_or("answer"), if left.is_some() { "partly" } else { "ok" }),
        }
    }

    fn is_ready(&mut self, at: usize, response: String, way: &'static str) {
        if way != "answer" || self.way.is_none() {
            self.way = Some(way);
        }
        self.worker.shared.telemetry.searched(Served::new(way, "ok"));
        self.responses[at] = Some(response);
    }

    /// Asks Elasticsearch, and returns the searches that it must be asked once more, as they are.
    pub(super) async fn ask(
        &mut self,
        asked: Vec<Asked<'_>>,
        started: Instant,
    ) -> Result<Vec<usize>, &'static str> {
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
        // A warning must come with every answer, and so the documents from Elasticsearch.
        let may_be_kept = !warned && asked.iter().any(|asked| asked.expected.may_be_kept());
        let sight =
            if may_be_kept { Some(identity::sight_again(self.worker, self.parts).await) } else { None };
        let mut again = Vec::new();
        for (asked, (response, status)) in asked.into_iter().zip(responses) {
            match asked.expected {
                Expected::Spliced if may_point_at_body(status) => {
                    self.left.get_or_insert("refused_by_elasticsearch");
                    again.push(asked.at);
                }
                Expected::Spliced => self.is_ready(asked.at, response.to_owned(), "splice"),
                Expected::Own => self.responses[asked.at] = Some(response.to_owned()),
                Expected::Documents { plan, scored, documents } => {
                    let mut outcome = outcome(plan, &scored);
                    outcome.took_ms = millis(started);
                    let is_kept = sight.as_ref().is_some_and(|sight| plan.is_seen_whole(sight));
                    let keep_in = is_kept.then_some(&self.worker.shared.documents);
                    match documents.answer(plan, &scored, &outcome, Some(response), keep_in) {
                        Ok(answer) => self.is_ready(asked.at, as_msearch_response(answer), "fetch"),
                        Err(Fetched::Moved(reason) | Fetched::Unusable(reason)) => {
                            self.left.get_or_insert(reason);
                            again.push(asked.at);
                        }
                    }
                }
            }
        }
        Ok(again)
    }

    /// Waits for the turn of exact scans; where they are too many, they are refused one by one.
    async fn brake<'f>(&mut self, all: Vec<Asked<'f>>) -> (Vec<Asked<'f>>, Option<crate::brake::Turn>) {
        let scanned = |asked: &Asked<'_>| match asked.expected {
            Expected::Own if mentions_knn(&asked.body) => {
                scanned_vectors(self.worker, &self.searches[asked.at].names, self.catalog)
            }
            _ => 0,
        };
        let (mut asked, mut costs) = (Vec::with_capacity(all.len()), Vec::with_capacity(all.len()));
        let mut refused = Vec::new();
        for one in all {
            let cost = scanned(&one);
            match limits::passed_knn_of_many(self.parts, cost).await {
                Ok(()) => {
                    asked.push(one);
                    costs.push(cost);
                }
                Err(refusal) => refused.push((one.at, refusal.body)),
            }
        }
        for (at, body) in refused {
            self.responses[at] = Some(String::from_utf8_lossy(&body).into_owned());
        }
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

/// A search that Elasticsearch is asked, and what is made of its response.
pub(super) struct Asked<'f> {
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

impl Expected<'_> {
    fn may_be_kept(&self) -> bool {
        matches!(self, Self::Documents { documents, .. } if documents.may_be_kept())
    }
}
