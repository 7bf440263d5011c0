//! Reading the body of a search, and passing it on after all: where it holds a knn that is an exact scan in
//! Elasticsearch, under the brake.

use std::io::Read;

use bytes::{Buf, Bytes};
use es_wire::Mode as IndexMode;
use es_wire::{Catalog, IndexInfo, NotOurs, Params, TargetOptions};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http::request::Parts;

use crate::door::limits;
use crate::intercept::write::Share;
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
            let text = match read {
                Some(bytes) => inflated(worker, &parts.headers, bytes, cap).await,
                None => None,
            };
            Ok((ClientRequest { parts, body }, text))
        }
        Err(failure) => Err(worker.failed(&parts.headers, &failure.into())),
    }
}

/// Bytes that are inflated before other requests of the worker have their turn.
const BYTES_PER_TURN: usize = 64 << 10;

/// A body as the parser wants it; `None` when it is encoded in a way that only Elasticsearch should
/// judge, would grow over `cap`, or over what all requests together may hold.
pub(crate) async fn inflated(
    worker: &Worker,
    headers: &HeaderMap,
    bytes: Bytes,
    cap: usize,
) -> Option<Bytes> {
    let Some(encoding) = headers.get(CONTENT_ENCODING) else { return Some(bytes) };
    let mut decoder: Box<dyn Read> = match encoding.as_bytes() {
        b"gzip" => Box::new(flate2::read::MultiGzDecoder::new(bytes.reader())),
        b"deflate" => Box::new(flate2::read::ZlibDecoder::new(bytes.reader())),
        _ => return None,
    };
    let mut plain = Inflated { bytes: Vec::new(), share: Share::of(&worker.shared.intercepted) };
    loop {
        let before = plain.bytes.len();
        if before > cap || !plain.share.resize(before + BYTES_PER_TURN) {
            return None;
        }
        decoder.by_ref().take(BYTES_PER_TURN as u64).read_to_end(&mut plain.bytes).ok()?;
        if plain.bytes.len() - before < BYTES_PER_TURN {
            break;
        }
        tokio::task::yield_now().await;
    }
    plain.share.resize(plain.bytes.len());
    (plain.bytes.len() <= cap).then(|| Bytes::from_owner(plain))
}

/// An inflated copy, counted as long as somebody has it.
struct Inflated {
    bytes: Vec<u8>,
    share: Share,
}

impl AsRef<[u8]> for Inflated {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
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
    // Also where nobody has read it: a body that is made unreadable must not get past brake and limits.
    let may_hold_knn = text.is_none_or(mentions_knn) || has_body_in_url(&request.parts);
    let scanned = if may_hold_knn { scanned_vectors(worker, names, catalog) } else { 0 };
    if may_hold_knn && let Err(refusal) = limits::passed_knn(&request.parts, scanned).await {
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

/// Whether a body may hold a knn, however it is written: as JSON with or without escapes, or in another format.
pub(crate) fn mentions_knn(text: &[u8]) -> bool {
    let holds = |what: &[u8]| memchr::memmem::find(text, what).is_some();
    if text.iter().take(4).any(|byte| *byte == 0) {
        // JSON of more than one byte a character, which Elasticsearch reads too.
        return true;
    }
    let is_json = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if is_json { holds(b"\"knn\"") || holds(b"\\u006") } else { holds(b"knn") || holds(b"\\") }
}

/// Elasticsearch takes a body from the URL too.
fn has_body_in_url(parts: &Parts) -> bool {
    // What cannot be decoded here Elasticsearch refuses.
    Params::of(parts.uri.query()).is_some_and(|params| params.get("source").is_some())
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

#[cfg(test)]
mod tests {
    use super::mentions_knn;

    #[test]
    fn a_knn_is_seen_however_it_is_written() {
        for text in [
            &br#" {"knn":{}}"#[..],
            br#"{"query":{"bool":{"must":{"knn":{}}}}}"#,
            br#"{"\u006bnn":{}}"#,
            br#"{"k\u006En":{}}"#,
            b"---\nknn:\n  field: v\n",
            b"---\n\"\\x6bnn\": {}\n",
            b"\xbf\x63knn\xbf\xff",
            b"{\0\"\0k\0n\0n\0\"\0",
            b":)\n\x01\xfa\x82knn\xfa\xfb\xfb",
        ] {
            assert!(mentions_knn(text), "{}", String::from_utf8_lossy(text));
        }
        assert!(!mentions_knn(br#"{"query":{"match":{"text":"what is knn?"}}}"#));
        assert!(!mentions_knn(b""));
    }
}
