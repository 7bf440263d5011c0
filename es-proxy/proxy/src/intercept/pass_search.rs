//! Reading the body of a search, and passing it on after all: where it holds a knn that is an exact scan in
//! Elasticsearch, under the brake.

use std::io::Read;

use bytes::Bytes;
use es_wire::Mode as IndexMode;
use es_wire::{Catalog, IndexInfo, NotOurs, TargetOptions};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use crate::door::limits;
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::telemetry::Served;
use crate::{pass, respond};

/// Passes another endpoint that may hold knn searches, under the brake.
pub(crate) async fn pass_other(worker: &Worker, names: &str, request: ClientRequest) -> Reply {
    let catalog = worker.shared.cluster.catalog();
    if catalog.adopted().next().is_none() {
        return pass::through(worker, request, Served::pass("nothing_adopted")).await;
    }
    match understand(worker, request).await {
        Ok((request, text)) => {
            pass_knn(worker, names, &catalog, request, text.as_deref(), "not_yet_understood").await
        }
        Err(reply) => reply,
    }
}

/// Reads the body as far as we care to, and inflates a copy of it where it is compressed.
pub(crate) async fn understand(
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
        Err(failure) => Err(worker.failed(&parts.headers, &failure.into())),
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

/// Passes a search; where it holds a knn that is an exact scan in Elasticsearch, under the brake.
pub(crate) async fn pass_knn(
    worker: &Worker,
    names: &str,
    catalog: &Catalog,
    request: ClientRequest,
    text: Option<&[u8]>,
    reason: &'static str,
) -> Reply {
    let scanned = match text {
        Some(text) if mentions_knn(text) => scanned_vectors(worker, names, catalog),
        _ => 0,
    };
    if text.is_some_and(mentions_knn)
        && let Err(refusal) = limits::passed_knn(&request.parts, scanned).await
    {
        return refusal;
    }
    let brake = &worker.shared.brake;
    // Every reason why a filter is in the way begins so.
    let is_filtered = reason.starts_with("filter_");
    let turn = match if is_filtered { brake.take_filtered(scanned).await } else { brake.take(scanned).await }
    {
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

pub(crate) fn mentions_knn(text: &[u8]) -> bool {
    text.windows(5).any(|window| window == b"\"knn\"")
}

/// How many vectors Elasticsearch would compare for a knn search on these targets, at most.
pub(crate) fn scanned_vectors(worker: &Worker, names: &str, catalog: &Catalog) -> u64 {
    let shared = &worker.shared;
    let of_index = |index: &IndexInfo| -> u64 {
        let scanned = index.fields.iter().filter(|(_, field)| field.mode() == IndexMode::Offload);
        scanned.map(|(path, _)| shared.engine.vectors(index, path)).max().unwrap_or(0)
    };
    match catalog.targets(names, &TargetOptions::default()) {
        Ok(targets) => targets.iter().map(|target| of_index(&target.index)).sum(),
        Err(NotOurs("unknown_index")) => 0,
        Err(_) => catalog.adopted().map(|index| of_index(index)).sum(),
    }
}
