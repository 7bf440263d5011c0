//! Who sends a request, and what it may read. Only Elasticsearch knows: it is asked with the caller's own
//! credentials, and what it says holds for seconds (`identity_ttl`, counted from the question), refusals
//! too. A right that is revoked is gone here within that time; where Elasticsearch does not answer, nothing
//! is known, whatever was known before.
//!
//! Asked only where something depends on it: identity where tenants or the audit log do ([`of`]), rights
//! where a search could be answered here ([`sight`]).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use es_wire::{Principal, ReadRights};
use http::header::{ACCEPT, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Method, StatusCode, Uri};
use serde_json::Value;

use crate::aside::aside;
use crate::body::{RequestBody, collect};
use crate::door::callers::{Answer, Question};
use crate::door::credentials::{CREDENTIALS, Credentials};
use crate::door::limits;
use crate::door::limits::fair::Flow;
use crate::door::tenant::Claims;
use crate::door::{Caller, Peer};
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::respond;
use crate::telemetry::Served;

/// Longest answer about rights that is read; a user with more privileges than that is one whose rights are not clear.
const MAX_RIGHTS: usize = 64 << 10;
/// The same of who somebody is: whom a directory knows comes with the names of all his groups.
const MAX_IDENTITY: usize = 2 << 20;
/// Who the caller is.
const AUTHENTICATE: &str = "/_security/_authenticate";
/// How Elasticsearch says that callers may prove who they are.
const SCHEMES: [&str; 3] =
    [r#"Basic realm="security", charset="UTF-8""#, r#"Bearer realm="security""#, "ApiKey"];
/// How long Elasticsearch may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who sends a request, as far as that is known.
#[derive(Clone, Debug)]
pub(crate) enum Identity {
    /// Nobody asked: nothing depends on it, or there is no security.
    NotAsked,
    /// Elasticsearch knows the caller.
    Verified(Arc<Principal>),
    /// The request carries no credentials, whether Elasticsearch serves such callers or not.
    Anonymous,
    /// Elasticsearch does not accept the credentials.
    Refused,
    /// It does, but they are those of more than one caller.
    Several,
    /// Elasticsearch took the certificate of our own connection for the caller's credentials.
    Ours,
    /// Elasticsearch did not answer, or the credentials are of a kind that names more than one caller.
    Unclear,
}

impl Identity {
    /// The word in logs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::NotAsked => "not_asked",
            Self::Verified(_) => "verified",
            Self::Anonymous => "anonymous",
            Self::Refused => "refused",
            Self::Several => "several",
            Self::Ours => "ours",
            Self::Unclear => "unclear",
        }
    }

    /// What tenants' rules may rest on; nothing that was not verified.
    pub(crate) fn claims(&self) -> Option<Claims<'_>> {
        let Self::Verified(principal) = self else { return None };
        Some(Claims {
            username: &principal.username,
            roles: &principal.roles,
            realm: Some(&principal.realm),
            api_key: principal.api_key.as_ref().map(|key| (&*key.id, key.name.as_deref())),
            metadata: &principal.metadata,
        })
    }
}

/// What a caller may see of indices, as far as that decides how a search of his is answered.
#[derive(Clone, Debug)]
pub(crate) enum Sight {
    /// There is nobody to ask: everybody sees everything.
    All,
    /// What his roles say.
    Rights(Arc<ReadRights>),
    /// Elasticsearch must be asked about each hit.
    Unclear,
}

impl Sight {
    /// Whether everything may be seen of what a request means by `names`.
    pub(crate) fn is_whole(&self, names: &str) -> bool {
        match self {
            Self::All => true,
            Self::Rights(rights) => rights.is_whole(names),
            Self::Unclear => false,
        }
    }

    /// Whether Elasticsearch has no part in who may see what.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::All)
    }
}

/// Finds out who it is, where something depends on it.
pub(crate) async fn of(worker: &Worker, peer: &Peer, parts: &Parts) -> Identity {
    let shared = &worker.shared;
    let is_needed = shared.config.tenants.need_identity() || shared.audit.is_some() || could_be_ours(worker);
    if !is_needed || !security_is_on(worker) {
        return Identity::NotAsked;
    }
    ask(worker, peer, parts).await
}

/// Whether Elasticsearch might take requests of clients for ours: we show it a certificate, and a PKI realm
/// may accept that before it looks at what the request carries.
fn could_be_ours(worker: &Worker) -> bool {
    worker.shared.config.upstream_tls.as_ref().is_some_and(|tls| tls.presents_certificate())
}

/// Refuses a request that would be served in our name instead of the caller's, or may be.
pub(crate) async fn refuse_ours(worker: &Worker, parts: &Parts, caller: &Caller) -> Option<Reply> {
    if !could_be_ours(worker) {
        return None;
    }
    let (status, kind, reason) = match &caller.identity {
        Identity::Ours => (
            StatusCode::UNAUTHORIZED,
            "security_exception",
            "unable to authenticate: a PKI realm of Elasticsearch takes the certificate of the proxy for the \
             caller's; it must not accept that certificate",
        ),
        Identity::Unclear => {
            // Where it cannot be reached at all, that is what to tell.
            if let Err(failure) = worker.send(question(parts, AUTHENTICATE, caller.peer.flow())).await {
                return Some(worker.failed(&parts.headers, &failure));
            }
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "status_exception",
                "Elasticsearch does not say who the caller is, and may take the proxy for the caller",
            )
        }
        _ => return None,
    };
    let mut response = respond::error(&parts.headers, status, kind, reason);
    if status == StatusCode::UNAUTHORIZED {
        for scheme in SCHEMES {
            response.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        }
    }
    Some((response, Served::new("refuse", "own_certificate")))
}

/// Whether a caller whom Elasticsearch refused a moment ago might be a bound tenant's a moment later: an account that is
/// enabled, a password that is changed. As nobody's such a request must not be let through.
pub(crate) fn may_become_bound(worker: &Worker, identity: &Identity) -> bool {
    matches!(identity, Identity::Refused) && worker.shared.config.tenants.bind_some()
}

/// Asks again about such a caller: Elasticsearch's refusal as it would answer the request itself, or who it is by now.
pub(crate) async fn refuse_or_know(worker: &Worker, peer: &Peer, parts: &Parts) -> Result<Identity, Reply> {
    let told = worker.send(question(parts, AUTHENTICATE, peer.flow())).await;
    let response = told.map_err(|failure| worker.failed(&parts.headers, &failure))?;
    if response.status() == StatusCode::OK {
        let callers = &worker.shared.callers;
        callers.known(&parts.headers).identity.forget();
        return Ok(match ask(worker, peer, parts).await {
            Identity::Refused => Identity::Unclear,
            identity => identity,
        });
    }
    let (head, body) = response.into_parts();
    let read = collect(body, MAX_IDENTITY).await.ok().flatten().unwrap_or_default();
    // The reason names what was asked for.
    let asked = Value::from(parts.uri.path_and_query().map_or("/", |target| target.as_str())).to_string();
    let body = String::from_utf8_lossy(&read).replace(AUTHENTICATE, &asked[1..asked.len() - 1]);
    let mut response = respond::error_with_body(&parts.headers, head.status, body);
    for value in head.headers.get_all(WWW_AUTHENTICATE) {
        response.headers_mut().append(WWW_AUTHENTICATE, value.clone());
    }
    Err((response, Served::new("refuse", "refused_by_elasticsearch")))
}

/// Finds out who it is.
async fn ask(worker: &Worker, peer: &Peer, parts: &Parts) -> Identity {
    let callers = &worker.shared.callers;
    let credentials = Credentials::of(&parts.headers);
    if credentials == Credentials::Unclear && !could_be_ours(worker) {
        return Identity::Unclear;
    }
    let known = callers.known(&parts.headers);
    callers.settle(Question::Identity, &known.identity, || who(worker, peer, parts, credentials)).await
}

/// Finds out what the caller may see.
pub(crate) async fn sight(worker: &Worker, parts: &Parts) -> Sight {
    if let Some(sight) = sight_unasked(worker, parts) {
        return sight;
    }
    let callers = &worker.shared.callers;
    let known = callers.known(&parts.headers);
    callers.settle(Question::Rights, &known.sight, || rights(worker, parts)).await
}

/// What the caller may see, asked after Elasticsearch has shown it something: a right may have gone since [`sight`],
/// and then what was shown is less than others may see. *Unclear* where that was asked a moment ago.
pub(crate) async fn sight_again(worker: &Worker, parts: &Parts) -> Sight {
    if let Some(sight) = sight_unasked(worker, parts) {
        return sight;
    }
    let callers = &worker.shared.callers;
    let known = callers.known(&parts.headers);
    let renewed = callers.renew(Question::Rights, &known.sight, || rights(worker, parts)).await;
    renewed.unwrap_or(Sight::Unclear)
}

/// What need not be asked. Only of a user with a password it is certain that his privileges are all there is: an
/// API key may have fewer than Elasticsearch lists, a token belongs to whatever made it.
fn sight_unasked(worker: &Worker, parts: &Parts) -> Option<Sight> {
    if !security_is_on(worker) {
        return Some(Sight::All);
    }
    (Credentials::of(&parts.headers) != Credentials::Password).then_some(Sight::Unclear)
}

/// Whether somebody decides who may see what. Where Elasticsearch has not answered yet, it may.
pub(crate) fn security_is_on(worker: &Worker) -> bool {
    let shared = &worker.shared;
    shared.cluster.node().is_none_or(|node| shared.config.security.is_on(&node))
}

async fn who(worker: &Worker, peer: &Peer, parts: &Parts, credentials: Credentials) -> Answer<Identity> {
    let question = question(parts, AUTHENTICATE, peer.flow());
    let Some((status, text)) = asked(worker, question, MAX_IDENTITY).await else {
        return Answer::failed(Identity::Unclear);
    };
    let principal = match status {
        StatusCode::OK => aside(text.len(), move || Principal::parse(&text)).await,
        _ => None,
    };
    match status {
        StatusCode::OK if credentials == Credentials::Unclear => {
            let is_ours = principal.is_none_or(|principal| principal.by_certificate);
            Answer::of(if is_ours { Identity::Ours } else { Identity::Several }, "unclear")
        }
        StatusCode::OK => match principal {
            Some(principal) if principal.by_certificate => {
                tracing::error!(
                    username = principal.username,
                    "a PKI realm of Elasticsearch accepts our certificate: requests of clients are refused"
                );
                Answer::of(Identity::Ours, "ours")
            }
            Some(principal) if principal.is_anonymous() => Answer::of(Identity::Anonymous, "anonymous"),
            Some(principal) => Answer::of(Identity::Verified(Arc::new(principal)), "verified"),
            None => Answer::of(Identity::Unclear, "unclear"),
        },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if credentials == Credentials::None => {
            Answer::of(Identity::Anonymous, "anonymous")
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Answer::of(Identity::Refused, "refused"),
        status if status.is_server_error() => Answer::failed(Identity::Unclear),
        StatusCode::TOO_MANY_REQUESTS => Answer::failed(Identity::Unclear),
        _ => Answer::of(Identity::Unclear, "unclear"),
    }
}

async fn rights(worker: &Worker, parts: &Parts) -> Answer<Sight> {
    let question = question(parts, "/_security/user/_privileges", limits::flow(parts));
    let Some((status, text)) = asked(worker, question, MAX_RIGHTS).await else {
        return Answer::failed(Sight::Unclear);
    };
    match (status, ReadRights::parse(&text)) {
        (StatusCode::OK, Some(rights)) => Answer::of(Sight::Rights(Arc::new(rights)), "verified"),
        (StatusCode::UNAUTHORIZED, _) => Answer::of(Sight::Unclear, "refused"),
        (status, _) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Answer::failed(Sight::Unclear)
        }
        _ => Answer::of(Sight::Unclear, "unclear"),
    }
}

/// Carries the caller's credentials and nothing else of the request's, so that the answer is right for all
/// that carry the same. It waits with others of `flow`.
fn question(parts: &Parts, path: &'static str, flow: Flow) -> ClientRequest {
    let mut own = http::Request::new(()).into_parts().0;
    own.method = Method::GET;
    own.uri = Uri::from_static(path);
    own.extensions.insert(flow);
    own.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    for name in CREDENTIALS {
        for value in parts.headers.get_all(&name) {
            own.headers.append(name.clone(), value.clone());
        }
    }
    ClientRequest { parts: own, body: RequestBody::full(Bytes::new()) }
}

async fn asked(worker: &Worker, question: ClientRequest, most: usize) -> Option<(StatusCode, String)> {
    let answer = async {
        let response = worker.send(question).await;
        let response = response.inspect_err(|failure| {
            worker.shared.telemetry.upstream_failed("identity", failure);
        });
        let (head, body) = response.ok()?.into_parts();
        let bytes = collect(body, most).await.ok()?.unwrap_or_default();
        Some((head.status, String::from_utf8(bytes.into()).ok()?))
    };
    tokio::time::timeout(PATIENCE, answer).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_of_one_address_wait_in_nobody_elses_way() {
        let parts = http::Request::new(()).into_parts().0;
        let waits = |address: &str| {
            let address = (address.parse::<std::net::IpAddr>().unwrap(), 1).into();
            let peer = Peer { address, local: address, certificate: None };
            limits::flow(&question(&parts, AUTHENTICATE, peer.flow()).parts)
        };
        assert_eq!(waits("10.0.0.1"), waits("::ffff:10.0.0.1"));
        assert_eq!(waits("2001:db8::1"), waits("2001:db8::2"));
        for other in ["10.0.0.2", "2001:db8::1"] {
            assert_ne!(waits("10.0.0.1"), waits(other));
        }
        assert_ne!(waits("10.0.0.1"), limits::flow(&parts), "what is nobody's waits elsewhere");
    }
}
