//! Keeps a tenant that is bound to index patterns inside of them. What may pass is decided by
//! [`es_wire::Bounds`]; here bodies are read for it, refusals written, and the ids of scrolls, points in time
//! and async searches remembered that the tenant was handed out. Who is not bound is not touched.

mod handed_out;

use std::sync::Arc;

use bytes::Bytes;
use es_wire::{Admitted, Body as Judged, Bounds, Catalog, Refusal, handed_out_in};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{Response, StatusCode};

use crate::aside::aside;
use crate::audit::Detail;
use crate::body::{RequestBody, Unread};
use crate::door::Caller;
use crate::door::credentials::Credentials;
use crate::door::identity::Identity;
use crate::door::tenant::Tenant;
use crate::intercept::pass_search::inflated;
use crate::proxy::{ClientRequest, Proxy, Reply, Worker};
use crate::respond;
use crate::telemetry::Served;
pub(crate) use handed_out::{HandedOut, Metrics};

/// Where the id stands in a response: it comes first.
const MAX_BEFORE_ID: usize = 256 << 10;

/// Lines of JSON are read like JSON; what else a body may be is refused.
const JSON: [&str; 4] = [
    "application/json",
    "application/x-ndjson",
    "application/vnd.elasticsearch+json",
    "application/vnd.elasticsearch+x-ndjson",
];

/// Whether a request must be looked at: its tenant is bound, or might be if it were clear who asks. Whoever is
/// anonymous to Elasticsearch is no user that a tenant could be known by; whom it refuses was refused before.
pub(crate) fn concerns(worker: &Worker, caller: &Caller) -> bool {
    caller.tenant.bound_to().is_some()
        || (matches!(caller.identity, Identity::Unclear | Identity::Several)
            && worker.shared.config.tenants.bind_some())
}

/// Serves a request of a bound tenant with `serve` if it stays inside.
pub(crate) async fn enclose<F: Future<Output = Reply>>(
    worker: &Worker,
    tenant: Arc<Tenant>,
    ClientRequest { mut parts, body }: ClientRequest,
    serve: impl FnOnce(ClientRequest) -> F,
) -> Reply {
    match check(worker, &tenant, &mut parts, body).await {
        Ok((body, None)) => serve(ClientRequest { parts, body }).await,
        Ok((body, Some(member))) => {
            let reply = serve(ClientRequest { parts, body }).await;
            remember(worker, &tenant, member, reply).await
        }
        Err(refusal) => refusal,
    }
}

/// Judges head and body, which may have been read afterwards; with the member of the response whose id is to
/// be remembered.
async fn check(
    worker: &Worker,
    tenant: &Arc<Tenant>,
    parts: &mut Parts,
    body: RequestBody,
) -> Result<(RequestBody, Option<&'static str>), Reply> {
    let shared = &worker.shared;
    let catalog = shared.cluster.catalog();
    let admitted = match head(shared, tenant, &catalog, parts) {
        Ok(admitted) => admitted,
        Err(refused) => return Err(refused.reply(parts)),
    };
    let hands_out = admitted.hands_out;
    if hands_out.is_some() {
        // The id must be read out of the response.
        parts.headers.remove(ACCEPT_ENCODING);
    }
    if admitted.body == Judged::Unread {
        return Ok((body, hands_out));
    }
    let cap = shared.config.max_intercept_bytes;
    let (body, read) = match body.peek(cap).await {
        Ok(read) => read,
        Err(failure) => return Err(worker.failed(&parts.headers, &failure.into())),
    };
    let read = read.map_err(|unread| unreadable(tenant, cap, unread, parts))?;
    let text = plain(worker, tenant, parts, read, cap).await?;
    let (shared, of) = (Arc::clone(shared), Arc::clone(tenant));
    let verdict = aside(text.len(), move || {
        judge(&shared, &of, &catalog, |bounds| bounds.body(admitted.body, admitted.names.as_deref(), &text))
    })
    .await;
    verdict.map_err(|refusal| refuse(tenant, &refusal).reply(parts))?;
    Ok((body, hands_out))
}

/// Judges what can be judged without the body.
fn head(shared: &Proxy, tenant: &Arc<Tenant>, catalog: &Catalog, parts: &Parts) -> Result<Admitted, Refused> {
    if tenant.bound_to().is_none() {
        return Err(caller_unclear(parts));
    }
    let uri = &parts.uri;
    let admitted =
        judge(shared, tenant, catalog, |bounds| bounds.head(parts.method.as_str(), uri.path(), uri.query()))
            .map_err(|refusal| refuse(tenant, &refusal))?;
    let names_something = admitted.names.is_some() || admitted.body != Judged::Unread;
    if names_something && catalog.version < 0 { Err(names_unknown()) } else { Ok(admitted) }
}

/// Remembers the id in the response, so that the tenant can go on with it.
async fn remember(worker: &Worker, tenant: &Tenant, member: &str, (response, served): Reply) -> Reply {
    if !response.status().is_success() {
        return (response, served);
    }
    let (head, body) = response.into_parts();
    let mut beginning = Vec::new();
    let mut id = None;
    let body = body
        .read_until(|data| {
            beginning.extend_from_slice(data);
            id = handed_out_in(&beginning, member);
            id.is_some() || beginning.len() > MAX_BEFORE_ID
        })
        .await;
    if let (Some(id), Some(patterns)) = (id, tenant.bound_to()) {
        worker.shared.handed_out.add(tenant.name(), patterns, &id);
    }
    (Response::from_parts(head, body), served)
}

fn judge<T>(
    shared: &Proxy,
    tenant: &Arc<Tenant>,
    catalog: &Catalog,
    run: impl FnOnce(Bounds<'_>) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let Some(patterns) = tenant.bound_to() else { return Err(Refusal::Endpoint(None)) };
    let handed_out = |id: &str| shared.handed_out.has(tenant.name(), patterns, id);
    run(Bounds { tenant: tenant.name(), patterns, catalog, handed_out: &handed_out })
}

/// A body as text, which it must say that it is.
async fn plain(
    worker: &Worker,
    tenant: &Tenant,
    parts: &Parts,
    bytes: Bytes,
    cap: usize,
) -> Result<Bytes, Reply> {
    if bytes.is_empty() {
        return Ok(bytes);
    }
    let refused = |what| refuse(tenant, &Refusal::Body(what)).reply(parts);
    let headers = &parts.headers;
    let is_single = |name| headers.get_all(name).iter().nth(1).is_none();
    if !is_single(CONTENT_TYPE) || !respond::is_media_type(headers, &JSON) {
        return Err(refused("is not said to be JSON"));
    }
    if !is_single(CONTENT_ENCODING) {
        return Err(refused("is encoded twice"));
    }
    let inflated = inflated(worker, headers, bytes, cap).await;
    inflated.map_err(|unread| unreadable(tenant, cap, unread, parts))
}

/// A body that was not read whole cannot be judged.
fn unreadable(tenant: &Tenant, cap: usize, unread: Unread, parts: &Parts) -> Reply {
    match unread {
        Unread::NoRoom => respond::no_room(&parts.headers),
        Unread::Long => too_large(tenant, cap).reply(parts),
        Unread::Encoded => refuse(tenant, &Refusal::Body("cannot be inflated")).reply(parts),
    }
}

/// How a request is refused.
struct Refused {
    status: StatusCode,
    reason: String,
    word: &'static str,
}

impl Refused {
    fn reply(self, parts: &Parts) -> Reply {
        let mut response = respond::error(&parts.headers, self.status, "security_exception", &self.reason);
        response.extensions_mut().insert(Detail(self.reason.into()));
        (response, Served::new("refuse", self.word))
    }
}

/// 403 as for a missing privilege.
fn refuse(tenant: &Tenant, refusal: &Refusal) -> Refused {
    let patterns = tenant.bound_to().map(ToString::to_string).unwrap_or_default();
    let reason = format!("tenant [{}] is bound to [{patterns}]: {refusal}", tenant.name());
    Refused { status: StatusCode::FORBIDDEN, reason, word: refusal.word() }
}

fn too_large(tenant: &Tenant, cap: usize) -> Refused {
    let name = tenant.name();
    let reason = format!(
        "tenant [{name}] is bound to indices: its requests are read before they pass, up to [{cap}] bytes each and \
         [intercept_memory] all together"
    );
    Refused { status: StatusCode::PAYLOAD_TOO_LARGE, reason, word: "isolation_too_large" }
}

/// A second set of credentials, or Elasticsearch not answering, must not make a bound tenant an unbound one.
fn caller_unclear(parts: &Parts) -> Refused {
    let reason = "some tenants are bound to indices, and it is not clear who sends the request: it needs one \
                  set of credentials that Elasticsearch can tell about";
    let status = match Credentials::of(&parts.headers) {
        Credentials::Unclear => StatusCode::FORBIDDEN,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    Refused { status, reason: reason.to_owned(), word: "isolation_caller" }
}

/// Aliases could point anywhere.
fn names_unknown() -> Refused {
    let reason = "the names of indices and aliases are not known yet".to_owned();
    Refused { status: StatusCode::SERVICE_UNAVAILABLE, reason, word: "isolation_not_ready" }
}
