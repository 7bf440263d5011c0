//! `_bulk` and the document APIs: they stream through byte for byte, both ways. What passes is looked at
//! on the way, and what the response acknowledges is handed over to be staged, before the client can know
//! of it. Where nothing can be learnt that way, or too much would have to be held, the feed does the work.

pub(crate) mod inflate;
mod share;
mod watch;

use std::sync::Arc;

use es_wire::{AckReader, Addressed, Limits, Operation, Params, WriteScanner};
use http::header::CONTENT_ENCODING;
use http::request::Parts;
use http::{HeaderMap, Response};

use crate::body::ResponseBody;
use crate::door::{Caller, limits};
use crate::intercept::refresh;
use crate::mode::{Mode, says_pass};
use crate::pass;
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::respond::is_media_type;
use crate::telemetry::Served;
use crate::upstream::UpstreamBody;
pub(crate) use inflate::Inflate;
pub(crate) use share::{Held, Share};
use watch::RequestWatch;
pub(crate) use watch::{WatchedResponse, Watching};

/// A write that may be followed, by its request line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// `None` for a bulk.
    pub(crate) operation: Option<Operation>,
    /// The index in the path.
    pub(crate) target: Option<String>,
    /// The document in the path.
    pub(crate) id: Option<String>,
    /// The response acknowledges a refresh.
    pub(crate) refreshes: bool,
}

/// Passes a write, looks at it where that is of use, and holds the response of one that refreshes.
pub(crate) async fn serve(worker: &Worker, write: &Write, mut request: ClientRequest) -> Reply {
    let (watch, reason) = match scanner(worker, write, &request.parts) {
        Ok(scanner) => {
            let encoding = request.parts.headers.get(CONTENT_ENCODING);
            let watch = RequestWatch::new(scanner, encoding, Arc::clone(&worker.shared));
            let watch = watch.map(Watching::new);
            let reason = if watch.is_some() { "write_watched" } else { "content_encoding" };
            (watch, reason)
        }
        Err(reason) => (None, reason),
    };
    if let Some(watch) = &watch {
        request.body = request.body.watched_by(watch.clone());
    }
    let sent_whole = request.body.sent_whole();
    let ticket = Caller::of(&request.parts).and_then(|caller| caller.ticket.clone());
    // Those of a bulk under limits were charged when they were let in.
    let ticket = ticket
        .filter(|ticket| write.operation.is_some() || !limits::items::are_judged(ticket, &request.parts));
    let filtered = request.parts.uri.query().is_some_and(|query| query.contains("filter_path"));
    let response = match pass::send(worker, request).await {
        Ok(response) => response,
        Err(reply) => return reply,
    };
    let succeeded = response.status().is_success();
    // A response to a part of the request tells nothing of the rest.
    let seen = watch.filter(|_| succeeded && sent_whole.get()).and_then(Watching::finish);
    if let (Some(ticket), Some((scanner, _))) = (ticket, &seen) {
        limits::charge_written(&ticket, scanner.vectors());
    }
    let reader = seen.and_then(|(scanner, share)| Some((AckReader::new(scanner, filtered)?, share)));
    let mut response = match reader {
        Some(reader) => watched(worker, response, reader),
        None => pass::relay(response),
    };
    if write.refreshes && succeeded {
        // What the response acknowledges must be handed over before the publication is waited for.
        let body = std::mem::replace(response.body_mut(), ResponseBody::empty());
        *response.body_mut() = body.read_ahead(worker.shared.config.max_intercept_bytes).await;
        let target = write.target.as_deref().filter(|_| write.operation.is_some());
        refresh::wait(worker, target).await;
    }
    (response, Served::pass(reason))
}

/// Elasticsearch's response, looked at on its way to the client.
fn watched(
    worker: &Worker,
    response: Response<Box<UpstreamBody>>,
    reader: (AckReader, Share),
) -> Response<ResponseBody> {
    let encoding = response.headers().get(CONTENT_ENCODING).cloned();
    let is_json = is_json(response.headers());
    let mut response = response.map(|body| {
        let shared = Arc::clone(&worker.shared);
        ResponseBody::Watched(Box::new(WatchedResponse::new(
            body,
            reader,
            is_json,
            encoding.as_ref(),
            shared,
        )))
    });
    crate::upstream::strip_hop_by_hop(response.headers_mut());
    response
}

/// What will look at the request, or why nothing should.
fn scanner(worker: &Worker, write: &Write, parts: &Parts) -> Result<WriteScanner, &'static str> {
    let shared = &worker.shared;
    let catalog = shared.cluster.catalog();
    if catalog.adopted().next().is_none() {
        return Err("nothing_adopted");
    }
    if shared.config.write_memory == 0 {
        return Err("writes_not_watched");
    }
    if shared.modes.node() == Mode::Pass {
        return Err("switched_off");
    }
    if says_pass(&parts.headers) {
        return Err("request_says_pass");
    }
    if shared.cluster.node().is_none_or(|node| node.capabilities.is_none()) {
        return Err("version_unknown");
    }
    let has_source = write.operation != Some(Operation::Delete);
    if has_source && !is_json(&parts.headers) {
        return Err("content_type");
    }
    let params = Params::of(parts.uri.query()).ok_or("bad_query_string")?;
    let addressed = Addressed {
        index: write.target.clone(),
        id: write.id.clone(),
        routing: params.get("routing").map(str::to_owned),
        pipeline: params.get("pipeline").map(str::to_owned),
    };
    let switched_off = shared.modes.indices();
    let switched_off =
        switched_off.into_iter().filter(|(_, mode)| *mode == Mode::Pass).map(|(index, _)| index).collect();
    let limits = Limits::default();
    Ok(match write.operation {
        None => WriteScanner::bulk(catalog, switched_off, addressed, limits),
        Some(operation) => WriteScanner::single(catalog, switched_off, operation, addressed, limits),
    })
}

/// JSON or lines of it, also under Elasticsearch's own names.
pub(crate) const JSON_OR_LINES: &[&str] = &[
    "application/json",
    "application/x-ndjson",
    "application/vnd.elasticsearch+json",
    "application/vnd.elasticsearch+x-ndjson",
];

/// Whether a body is that.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    is_media_type(headers, JSON_OR_LINES)
}
