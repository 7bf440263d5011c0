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
use http::header::{ACCEPT, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Uri};

use crate::body::{RequestBody, collect};
use crate::door::callers::{Answer, Question};
use crate::door::credentials::{CREDENTIALS, Credentials};
use crate::door::tenant::Claims;
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::respond;
use crate::telemetry::Served;

/// Longest answer that is read; a user with more privileges than that is one whose rights are not clear.
const MAX_ANSWER: usize = 64 << 10;
/// Who the caller is.
const AUTHENTICATE: &str = "/_security/_authenticate";
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
pub(crate) async fn of(worker: &Worker, parts: &Parts) -> Identity {
    let shared = &worker.shared;
    let is_needed = shared.config.tenants.need_identity() || shared.audit.is_some() || could_be_ours(worker);
    if !is_needed || !security_is_on(worker) {
        return Identity::NotAsked;
    }
    ask(worker, parts).await
}

/// Whether Elasticsearch might take requests of clients for ours: we show it a certificate, and a PKI realm
/// may accept that before it looks at what the request carries.
fn could_be_ours(worker: &Worker) -> bool {
    worker.shared.config.upstream_tls.as_ref().is_some_and(|tls| tls.presents_certificate())
}

/// Refuses a request that would be served in our name instead of the caller's, or may be.
pub(crate) async fn refuse_ours(worker: &Worker, parts: &Parts, identity: &Identity) -> Option<Reply> {
    if !could_be_ours(worker) {
        return None;
    }
    let (status, kind, reason) = match identity {
        Identity::Ours => (
            StatusCode::UNAUTHORIZED,
            "security_exception",
            "unable to authenticate: a PKI realm of Elasticsearch takes the certificate of the proxy for the \
             caller's; it must not accept that certificate",
        ),
        Identity::Unclear => {
            // Where it cannot be reached at all, that is what to tell.
            if let Err(failure) = worker.send(question(parts, AUTHENTICATE)).await {
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
    Some((respond::error(&parts.headers, status, kind, reason), Served::new("refuse", "own_certificate")))
}

/// Finds out who it is.
pub(crate) async fn ask(worker: &Worker, parts: &Parts) -> Identity {
    let callers = &worker.shared.callers;
    let credentials = Credentials::of(&parts.headers);
    if credentials == Credentials::Unclear && !could_be_ours(worker) {
        return Identity::Unclear;
    }
    let known = callers.known(&parts.headers);
    callers.settle(Question::Identity, &known.identity, || who(worker, parts, credentials)).await
}

/// Finds out what the caller may see. Only of a user with a password it is certain that his privileges are
/// all there is: an API key may have fewer than Elasticsearch lists, a token belongs to whatever made it.
pub(crate) async fn sight(worker: &Worker, parts: &Parts) -> Sight {
    if !security_is_on(worker) {
        return Sight::All;
    }
    if Credentials::of(&parts.headers) != Credentials::Password {
        return Sight::Unclear;
    }
    let callers = &worker.shared.callers;
    let known = callers.known(&parts.headers);
    callers.settle(Question::Rights, &known.sight, || rights(worker, parts)).await
}

/// Whether somebody decides who may see what. Where Elasticsearch has not answered yet, it may.
pub(crate) fn security_is_on(worker: &Worker) -> bool {
    let shared = &worker.shared;
    shared.cluster.node().is_none_or(|node| shared.config.security.is_on(&node))
}

async fn who(worker: &Worker, parts: &Parts, credentials: Credentials) -> Answer<Identity> {
    let Some((status, text)) = asked(worker, parts, AUTHENTICATE).await else {
        return Answer::failed(Identity::Unclear);
    };
    match status {
        StatusCode::OK if credentials == Credentials::Unclear => {
            let is_ours = Principal::parse(&text).is_none_or(|principal| principal.by_certificate);
            Answer::of(if is_ours { Identity::Ours } else { Identity::Refused }, "unclear")
        }
        StatusCode::OK => match Principal::parse(&text) {
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
    let Some((status, text)) = asked(worker, parts, "/_security/user/_privileges").await else {
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
/// that carry the same.
fn question(parts: &Parts, path: &'static str) -> ClientRequest {
    let mut own = http::Request::new(()).into_parts().0;
    own.method = Method::GET;
    own.uri = Uri::from_static(path);
    own.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    for name in CREDENTIALS {
        for value in parts.headers.get_all(&name) {
            own.headers.append(name.clone(), value.clone());
        }
    }
    ClientRequest { parts: own, body: RequestBody::full(Bytes::new()) }
}

async fn asked(worker: &Worker, parts: &Parts, path: &'static str) -> Option<(StatusCode, String)> {
    let answer = async {
        let response = worker.send(question(parts, path)).await;
        let response = response.inspect_err(|failure| {
            worker.shared.telemetry.upstream_failed("identity", failure);
        });
        let (head, body) = response.ok()?.into_parts();
        let bytes = collect(body, MAX_ANSWER).await.ok()?.unwrap_or_default();
        Some((head.status, String::from_utf8(bytes.into()).ok()?))
    };
    tokio::time::timeout(PATIENCE, answer).await.ok().flatten()
}
