//! Lists of nodes on their way back: each node is shown with the address of its sidecar, so that clients that
//! sniff stay with us.
//!
//! The answer is Elasticsearch's own, in its own format and compression; only the addresses in it change.
//! Which node is which is asked of Elasticsearch anew each time, in the caller's name: such lists are asked
//! for rarely, and an answer need not tell enough (`filter_path`, `h=`). What cannot be read passes as it is.

use std::io::Write;
use std::net::SocketAddr;

use bytes::Bytes;
use es_wire::{AnswerFormat, ListedNode, NodeListing, replace_addresses};
use flate2::write::{GzEncoder, ZlibEncoder};
use futures_util::future::join;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, Uri};

use crate::advertise::Advertise;
use crate::aside::aside;
use crate::body::{ResponseBody, collect};
use crate::door::Caller;
use crate::intercept::own_request::{json_request, request_like};
use crate::intercept::write::Inflate;
use crate::pass;
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::respond;
use crate::telemetry::Served;
use crate::upstream::strip_hop_by_hop;

/// Largest answer that is read; a node makes some 30 KB of the longest form.
const MAX_LISTING_BYTES: usize = 32 << 20;
/// Inflating or compressing a byte takes as long as reading so many.
const EFFORT: usize = 8;
/// So much is inflated at a time.
const PART: usize = 16 << 10;

/// Not waited for longer: a node that hangs is shown by the address that it published.
const ALL_NODES: &str = "/_nodes/_all/http?timeout=5s\
    &filter_path=nodes.*.name,nodes.*.ip,nodes.*.http.publish_address";
const OWN_NODE: &str = "/_nodes/_local/http?timeout=5s&filter_path=nodes.*.name";

/// Serves a request for a list of nodes.
pub(crate) async fn list(worker: &Worker, listing: NodeListing, mut request: ClientRequest) -> Reply {
    let arrived = Caller::of(&request.parts).map(|caller| caller.peer.local);
    let (Some(arrived), false) = (arrived, worker.shared.config.advertise.keeps_all()) else {
        return pass::through(worker, request, Served::pass("not_ours")).await;
    };
    let again =
        request_like(&request.parts, request.parts.method.clone(), request.parts.uri.clone(), Bytes::new());
    // Elasticsearch has codings that we do not read: snappy is its first choice for `*`.
    let coding = respond::coding(&request.parts.headers);
    let accepted = request.parts.headers.remove(ACCEPT_ENCODING);
    if let Some(coding) = coding {
        request.parts.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(coding));
    }
    let response = match pass::send(worker, request).await {
        Ok(response) => response,
        Err(reply) => return reply,
    };
    if response.status() != StatusCode::OK {
        return (pass::relay(response), Served::pass("node_list_error"));
    }
    let (mut head, body) = response.into_parts();
    strip_hop_by_hop(&mut head.headers);
    let whole = match collect(body, MAX_LISTING_BYTES).await {
        Ok(Some(whole)) => whole,
        // Too long, or broken off: the client gets it from Elasticsearch itself, or the error.
        _ => {
            warn(
                worker,
                "a list of nodes could not be read, clients that sniff see Elasticsearch's addresses",
            );
            let mut again = again;
            if let Some(accepted) = accepted {
                again.parts.headers.insert(ACCEPT_ENCODING, accepted);
            }
            return pass::through(worker, again, Served::pass("node_list_size")).await;
        }
    };
    let advertise = worker.shared.config.advertise.clone();
    let (rewritten, served) =
        rewrite(worker, &again.parts, listing, advertise, arrived, &head.headers, &whole).await;
    let bytes = rewritten.unwrap_or(whole);
    // Told anew, by the body itself, where Elasticsearch told it.
    let has_length = head.headers.remove(CONTENT_LENGTH).is_some();
    let body = if has_length { ResponseBody::full(bytes) } else { ResponseBody::chunked(bytes) };
    (Response::from_parts(head, body), served)
}

/// Says it in the log, where it was not said just now: anybody can ask for such a list as often as he likes.
fn warn(worker: &Worker, what: &'static str) {
    if worker.shared.telemetry.warned.is_due(what) {
        tracing::warn!("{what}");
    } else {
        tracing::debug!("{what}");
    }
}

/// The body with other addresses; `None` where it stays as it is.
async fn rewrite(
    worker: &Worker,
    parts: &Parts,
    listing: NodeListing,
    advertise: Advertise,
    arrived: SocketAddr,
    headers: &HeaderMap,
    body: &Bytes,
) -> (Option<Bytes>, Served) {
    let unknown = |why: &'static str| {
        warn(worker, why);
        (None, Served::pass("node_list_format"))
    };
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let Some(format) = content_type.and_then(AnswerFormat::of) else {
        return unknown(
            "the media type of a list of nodes is not understood, clients that sniff see Elasticsearch's addresses",
        );
    };
    let Some(coding) = Coding::of(headers) else {
        return unknown(
            "the compression of a list of nodes is not understood, clients that sniff see Elasticsearch's addresses",
        );
    };
    let (packed, format_of) = (body.clone(), format);
    let found = aside(EFFORT * body.len(), move || {
        let plain = coding.decode(&packed)?;
        let mut found = false;
        replace_addresses(listing, format_of, &plain, &mut |_, _| {
            found = true;
            None
        })
        .ok()?;
        Some((plain, found))
    })
    .await;
    let plain = match found {
        None => {
            return unknown(
                "a list of nodes is not understood, clients that sniff see Elasticsearch's addresses",
            );
        }
        Some((_, false)) => return (None, Served::pass("no_address")),
        Some((plain, true)) => plain,
    };
    let directory = Directory::ask(worker, parts).await;
    let rewritten = aside(EFFORT * plain.len(), move || {
        let mut names = Names { directory, advertise, arrived, seen: Vec::new() };
        let plain =
            replace_addresses(listing, format, &plain, &mut |id, address| names.new_address(id, address))
                .ok()?;
        coding.encode(plain?)
    })
    .await;
    match rewritten {
        Some(bytes) => (Some(bytes), Served::new("translate", "address")),
        None => (None, Served::pass("no_address")),
    }
}

/// How a body is compressed; it is given back in the same way.
#[derive(Clone, Copy)]
enum Coding {
    Not,
    Gzip,
    Deflate,
}

impl Coding {
    fn of(headers: &HeaderMap) -> Option<Self> {
        match headers.get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
            None | Some(b"identity") => Some(Self::Not),
            Some(b"gzip") => Some(Self::Gzip),
            Some(b"deflate") => Some(Self::Deflate),
            Some(_) => None,
        }
    }

    fn decode(self, body: &Bytes) -> Option<Bytes> {
        let name = match self {
            Self::Not => return Some(body.clone()),
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        };
        let mut inflate = Inflate::of(Some(&HeaderValue::from_static(name)))?;
        let mut plain = Vec::new();
        for part in body.chunks(PART) {
            inflate.feed(part, |bytes| plain.extend_from_slice(bytes)).ok()?;
            if plain.len() > MAX_LISTING_BYTES {
                return None;
            }
        }
        inflate.finish(|bytes| plain.extend_from_slice(bytes)).ok()?;
        Some(plain.into())
    }

    fn encode(self, plain: Vec<u8>) -> Option<Bytes> {
        let (level, room) = (respond::LEVEL, Vec::with_capacity(plain.len() / 2));
        let packed = match self {
            Self::Not => return Some(plain.into()),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(room, level);
                encoder.write_all(&plain).and_then(|()| encoder.finish())
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(room, level);
                encoder.write_all(&plain).and_then(|()| encoder.finish())
            }
        };
        packed.ok().map(Bytes::from)
    }
}

/// The cluster's nodes, and which of them answers us.
#[derive(Default)]
struct Directory {
    nodes: Vec<ListedNode>,
    own_id: Option<String>,
}

impl Directory {
    /// Asks Elasticsearch, as the caller. What it does not tell is missing here.
    async fn ask(worker: &Worker, parts: &Parts) -> Self {
        let nodes = |path| async move {
            let request = json_request(parts, Method::GET, Uri::from_static(path), None);
            let response = worker.send(request).await.ok()?;
            if response.status() != StatusCode::OK {
                return None;
            }
            let body = collect(response.into_body(), MAX_LISTING_BYTES).await.ok()??;
            ListedNode::all_of(std::str::from_utf8(&body).ok()?).ok()
        };
        let (all, own) = join(nodes(ALL_NODES), nodes(OWN_NODE)).await;
        let own_id = own.and_then(|own| own.into_iter().next()).map(|node| node.id);
        if all.is_none() || own_id.is_none() {
            warn(worker, "the nodes' names could not be read; they are shown at their hosts, with our port");
        }
        Self { nodes: all.unwrap_or_default(), own_id }
    }
}

/// Finds the node of each address in one answer.
struct Names {
    directory: Directory,
    advertise: Advertise,
    arrived: SocketAddr,
    /// Addresses of rows that came so far.
    seen: Vec<String>,
}

impl Names {
    fn new_address(&mut self, id: Option<&str>, published: &str) -> Option<String> {
        let nodes = &self.directory.nodes;
        let node = match id {
            Some(id) => nodes.iter().find(|node| node.id == id),
            None => {
                // Nodes that publish one address (their loopback, each) are told apart by their order alone.
                let before = self.seen.iter().filter(|seen| *seen == published).count();
                self.seen.push(published.to_owned());
                let mut same = nodes.iter().filter(|node| node.http == published);
                let last = same.clone().next_back();
                same.nth(before).or(last)
            }
        };
        let id = id.or(node.map(|node| node.id.as_str()));
        let is_own = id.is_some() && id == self.directory.own_id.as_deref();
        self.advertise.address(published, node, is_own, self.arrived)
    }
}
