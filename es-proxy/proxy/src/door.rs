//! The door: what each request passes before it is served, in this order.
//!
//! | step | file | question |
//! |---|---|---|
//! | head | [`head`] | may it be served at all, by its head alone? |
//! | identity | [`identity`] | who is it? Elasticsearch says |
//! | tenant | [`tenant`] | on whose account? |
//! | deadline | [`deadline`] | how long will the client wait? |
//! | limits | [`limits`] | is there room for it? |
//! | isolation | [`isolation`] | does it stay within what its tenant is bound to? |
//!
//! Only isolation reads bodies, those of bound tenants. What was found out travels with the request, as the
//! [`Caller`] among its extensions, also to requests of our own in its name.

pub(crate) mod callers;
mod credentials;
pub(crate) mod deadline;
pub(crate) mod head;
pub(crate) mod identity;
pub(crate) mod isolation;
pub(crate) mod limits;
pub(crate) mod measured;
pub(crate) mod tenant;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use es_tls::CertificateNames;
use http::StatusCode;
use http::request::Parts;

use crate::classify::Route;
use crate::door::identity::Identity;
use crate::door::limits::fair::Flow;
use crate::door::limits::{Refusal, Ticket};
use crate::door::tenant::{Account, Rule, Tenant};
use crate::proxy::{Reply, Worker};
use crate::respond;
use crate::telemetry::Served;

/// What is known of a client's connection; its requests share it.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Where it comes from, which may be a load balancer.
    pub(crate) address: SocketAddr,
    /// Where it arrived: our address, as the client's network knows it.
    pub(crate) local: SocketAddr,
    /// Whom the certificate names that it showed, which was verified.
    pub(crate) certificate: Option<CertificateNames>,
}

impl Peer {
    /// With whom it waits until it is known on whose account: nobody else's questions wait behind those of an address
    /// that asks with credentials without end.
    pub(crate) fn flow(&self) -> Flow {
        limits::flow_of_address(self.address.ip())
    }
}

/// Who sends a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) peer: Arc<Peer>,
    pub(crate) identity: Identity,
    pub(crate) tenant: Arc<Tenant>,
    /// What made it that tenant's.
    pub(crate) rule: Rule,
    /// What it holds of its tenant's limits while it is served.
    pub(crate) ticket: Option<Arc<Ticket>>,
}

impl Caller {
    /// One of whom nothing was asked.
    fn nobody(worker: &Worker, peer: &Arc<Peer>, parts: &Parts) -> Self {
        let Account { tenant, rule, .. } = tenant::of(worker, peer, &Identity::NotAsked, parts);
        Self { peer: Arc::clone(peer), identity: Identity::NotAsked, tenant, rule, ticket: None }
    }

    /// The caller of a request that was let in, or of one of our own in its name.
    pub(crate) fn of(parts: &Parts) -> Option<&Self> {
        parts.extensions.get()
    }
}

/// A request that is not let in.
pub(crate) struct Refused {
    /// The answer.
    pub(crate) reply: Reply,
    /// The limit that it met, where it met one.
    pub(crate) limit: Option<Refusal>,
}

impl Refused {
    /// On the heap, so that the future of what is let in stays small.
    fn new(reply: Reply, limit: Option<Refusal>) -> Box<Self> {
        Box::new(Self { reply, limit })
    }
}

/// Finds out who sends a request, and lets it in or answers it here and now.
pub(crate) async fn enter(
    worker: &Worker,
    peer: &Arc<Peer>,
    route: &Route,
    parts: &Parts,
) -> (Caller, Result<(), Box<Refused>>) {
    if worker.shared.config.held_back.load(Ordering::Relaxed) {
        return (Caller::nobody(worker, peer, parts), Err(Refused::new(held_back(parts), None)));
    }
    let identity = identity::of(worker, peer, parts).await;
    let (caller, let_in) = enter_as(worker, peer, route, parts, identity).await;
    if let_in.is_err() || !identity::may_become_bound(worker, &caller.identity) {
        return (caller, let_in);
    }
    match Box::pin(identity::refuse_or_know(worker, peer, parts)).await {
        Err(refusal) => (caller, Err(Refused::new(refusal, None))),
        Ok(identity) => Box::pin(enter_again(worker, caller, route, parts, identity)).await,
    }
}

/// Lets in a caller who was let in as somebody whom Elasticsearch does not know.
async fn enter_again(
    worker: &Worker,
    before: Caller,
    route: &Route,
    parts: &Parts,
    identity: Identity,
) -> (Caller, Result<(), Box<Refused>>) {
    let Account { tenant, rule, .. } = tenant::of(worker, &before.peer, &identity, parts);
    if !Arc::ptr_eq(&tenant, &before.tenant) {
        let peer = Arc::clone(&before.peer);
        // What it holds of limits as nobody's is free again.
        drop(before);
        return enter_as(worker, &peer, route, parts, identity).await;
    }
    // On the same account it counts once.
    let caller = Caller { identity, rule, ..before };
    let refusal = identity::refuse_ours(worker, parts, &caller).await;
    (caller, refusal.map_or(Ok(()), |refusal| Err(Refused::new(refusal, None))))
}

async fn enter_as(
    worker: &Worker,
    peer: &Arc<Peer>,
    route: &Route,
    parts: &Parts,
    identity: Identity,
) -> (Caller, Result<(), Box<Refused>>) {
    let Account { tenant, rule, counted } = tenant::of(worker, peer, &identity, parts);
    let mut caller = Caller { peer: Arc::clone(peer), identity, tenant, rule, ticket: None };
    tracing::trace!(address = %caller.peer.address, certificate = ?caller.peer.certificate, identity = ?caller.identity, tenant = caller.tenant.name(), rule = caller.rule.name(), "at the door");
    if let Some(refusal) = identity::refuse_ours(worker, parts, &caller).await {
        return (caller, Err(Refused::new(refusal, None)));
    }
    if let Some(refusal) = limits::shed(&worker.shared, &caller.tenant, route, parts) {
        return (caller, Err(Refused::new(refusal, None)));
    }
    let let_in = if counted { admit(worker, &mut caller, route, parts).await } else { Ok(()) };
    (caller, let_in)
}

/// Until Elasticsearch has said whether it has security, nobody gets there.
fn held_back(parts: &Parts) -> Reply {
    let reason =
        "Elasticsearch has not answered yet: until it has, it is not known whether it may be served here";
    let response =
        respond::error(&parts.headers, StatusCode::SERVICE_UNAVAILABLE, "status_exception", reason);
    (response, Served::new("refuse", "held_back"))
}

/// Asks whether there is room for a request of which something is counted.
async fn admit(
    worker: &Worker,
    caller: &mut Caller,
    route: &Route,
    parts: &Parts,
) -> Result<(), Box<Refused>> {
    let Some(class) = limits::class_of(route, parts.uri.path()) else { return Ok(()) };
    let (address, is_verified) = (caller.peer.address.ip(), caller.identity.claims().is_some());
    let of_address = worker.shared.config.tenants.of_address(address, is_verified, caller.rule);
    let ticket = Ticket::new(Arc::clone(&caller.tenant), of_address, class);
    let admitted = limits::admit(&ticket, route, parts).await;
    admitted.map_err(|limit| Refused::new(limits::refuse(parts, class, &limit), Some(limit)))?;
    caller.ticket = Some(Arc::new(ticket));
    Ok(())
}
