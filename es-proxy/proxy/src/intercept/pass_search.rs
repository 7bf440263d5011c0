//! Reading the body of a search, and passing it on after all: where it holds a knn that is an exact scan in
//! Elasticsearch, under the brake.

use std::io::Read;
use std::sync::{Arc, LazyLock};

use bytes::{Buf, Bytes};
use es_wire::Mode as IndexMode;
use es_wire::{Catalog, IndexInfo, NotOurs, Params, TargetOptions};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http::request::Parts;
use memchr::memmem::Finder;

use crate::aside::aside;
use crate::body::Unread;
use crate::door::limits::{self, Scans};
use crate::intercept::write::Share;
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::telemetry::Served;
use crate::{pass, respond};

/// A request that may hold knn searches, with its body read as far as we care to.
pub(crate) struct ReadRequest {
    pub(crate) request: ClientRequest,
    /// The body, inflated where it was compressed; `None` where it was not read whole.
    pub(crate) text: Option<Bytes>,
    /// Also where nobody has read it: a body that is made unreadable must not get past brake and limits.
    may_hold_knn: bool,
    /// What names mean while it is served.
    pub(crate) catalog: Arc<Catalog>,
}

impl ReadRequest {
    /// Every way of a search begins so. Where nothing is ours the request passes unread; the error is a reply.
    pub(crate) async fn of(worker: &Worker, request: ClientRequest) -> Result<Self, Reply> {
        let catalog = worker.shared.cluster.catalog();
        if catalog.adopted().next().is_none() {
            return Err(pass::through(worker, request, Served::pass("nothing_adopted")).await);
        }
        let (request, text) = understand(worker, request).await?;
        let may_hold_knn = match text.clone() {
            Some(text) => aside(text.len(), move || mentions_knn(&text)).await,
            None => true,
        };
        Ok(Self { request, text, may_hold_knn, catalog })
    }

    /// The body, if it holds a knn; else the reason why there is nothing to do here.
    pub(crate) fn with_knn(&self) -> Result<&Bytes, &'static str> {
        match &self.text {
            Some(text) if self.may_hold_knn => Ok(text),
            Some(_) => Err("no_knn"),
            None => Err("body_not_read"),
        }
    }

    /// The same where the caller may ask for one more; else what the request is served with instead.
    pub(crate) async fn admitted(&self) -> Result<&Bytes, Result<Reply, &'static str>> {
        let text = self.with_knn().map_err(Err)?;
        limits::knn(&self.request.parts).await.map_err(Ok)?;
        Ok(text)
    }

    /// And ends so: by what it was served with, or, for the reason why it was not, by passing as it came.
    pub(crate) async fn finish(
        self,
        worker: &Worker,
        names: &str,
        served: Result<Reply, &'static str>,
    ) -> Reply {
        match served {
            Ok(reply) => reply,
            Err(reason) => {
                let scans = match self.may_hold_knn() {
                    true => Scans { searches: 1, vectors: scanned_vectors(worker, names, &self.catalog) },
                    false => Scans::default(),
                };
                self.pass(worker, scans, reason).await
            }
        }
    }

    /// Whether it may hold a knn, in its body or its URL.
    pub(crate) fn may_hold_knn(&self) -> bool {
        self.may_hold_knn || has_body_in_url(&self.request.parts)
    }

    /// Passes it as it came; what may be exact scans in Elasticsearch, under the brake.
    pub(crate) async fn pass(self, worker: &Worker, scans: Scans, reason: &'static str) -> Reply {
        if scans.searches > 0
            && let Err(refusal) = limits::passed_knn(&self.request.parts, scans).await
        {
            return refusal;
        }
        let brake = &worker.shared.brake;
        // Every reason why a filter is in the way begins so.
        let turn = match reason.starts_with("filter_") {
            true => brake.take_filtered(scans.vectors).await,
            false => brake.take(scans.vectors).await,
        };
        let _turn = match turn {
            Ok(turn) => turn,
            Err(refused) => {
                worker.shared.telemetry.refused();
                let response = respond::rejected(&self.request.parts.headers, &refused);
                return (response, Served::new("refuse", reason));
            }
        };
        pass::through(worker, self.request, Served::pass(reason)).await
    }
}

/// Passes another endpoint that may hold knn searches, under the brake.
pub(crate) async fn pass_other(worker: &Worker, names: &str, request: ClientRequest) -> Reply {
    match ReadRequest::of(worker, request).await {
        Ok(read) => read.finish(worker, names, Err("not_yet_understood")).await,
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
                Ok(bytes) => inflated(worker, &parts.headers, bytes, cap).await.ok(),
                Err(_) => None,
            };
            Ok((ClientRequest { parts, body }, text))
        }
        Err(failure) => Err(worker.failed(&parts.headers, &failure.into())),
    }
}

/// Bytes that are inflated before other requests of the worker have their turn.
const BYTES_PER_TURN: usize = 64 << 10;

/// A body as the parser wants it, unless it is encoded in a way that only Elasticsearch should judge, would grow
/// over `cap`, or over what all requests together may hold.
pub(crate) async fn inflated(
    worker: &Worker,
    headers: &HeaderMap,
    bytes: Bytes,
    cap: usize,
) -> Result<Bytes, Unread> {
    let Some(encoding) = headers.get(CONTENT_ENCODING) else { return Ok(bytes) };
    let mut decoder: Box<dyn Read> = match encoding.as_bytes() {
        b"gzip" => Box::new(flate2::read::MultiGzDecoder::new(bytes.reader())),
        b"deflate" => Box::new(flate2::read::ZlibDecoder::new(bytes.reader())),
        _ => return Err(Unread::Encoded),
    };
    let mut plain = Inflated { bytes: Vec::new(), share: Share::of(&worker.shared.intercepted) };
    loop {
        let before = plain.bytes.len();
        if before > cap {
            return Err(Unread::Long);
        }
        if !plain.share.resize(before + BYTES_PER_TURN) {
            return Err(Unread::NoRoom);
        }
        let read = decoder.by_ref().take(BYTES_PER_TURN as u64).read_to_end(&mut plain.bytes);
        read.map_err(|_| Unread::Encoded)?;
        if plain.bytes.len() - before < BYTES_PER_TURN {
            break;
        }
        tokio::task::yield_now().await;
    }
    plain.share.resize(plain.bytes.len());
    if plain.bytes.len() <= cap { Ok(Bytes::from_owner(plain)) } else { Err(Unread::Long) }
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

/// Whether a body may hold a knn, however it is written: as JSON with or without escapes, or in another format.
pub(crate) fn mentions_knn(text: &[u8]) -> bool {
    static WORD: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("knn"));
    static KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"knn\""));
    static ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\\u006"));
    if text.iter().take(4).any(|byte| *byte == 0) {
        // JSON of more than one byte a character, which Elasticsearch reads too.
        return true;
    }
    let is_json = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let holds = |what: &Finder<'_>| what.find(text).is_some();
    if is_json { holds(&KEY) || holds(&ESCAPE) } else { holds(&WORD) || text.contains(&b'\\') }
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
