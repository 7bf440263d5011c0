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

use http::request::Parts;

use crate::classify::Route;
use crate::door::identity::Identity;
use crate::door::limits::Ticket;
use crate::door::tenant::{Account, Rule, Tenant};
use crate::proxy::{Reply, Worker};

/// What is known of a client's connection; its requests share it.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Where it comes from, which may be a load balancer.
    pub(crate) address: SocketAddr,
    /// Where it arrived: our address, as the client's network knows it.
    pub(crate) local: SocketAddr,
    /// The subject of the certificate that it showed, verified, as in RFC 4514: `CN=feed,OU=search`.
    pub(crate) certificate: Option<Box<str>>,
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
    /// The caller of a request that was let in, or of one of our own in its name.
    pub(crate) fn of(parts: &Parts) -> Option<&Self> {
        parts.extensions.get()
    }
}

/// Finds out who sends a request, and lets it in or answers it here and now.
pub(crate) async fn enter(
    worker: &Worker,
    peer: &Arc<Peer>,
    route: &Route,
    parts: &Parts,
) -> (Caller, Result<(), Reply>) {
    let identity = identity::of(worker, parts).await;
    let Account { tenant, rule, counted } = tenant::of(worker, peer, &identity, parts);
    let mut caller = Caller { peer: Arc::clone(peer), identity, tenant, rule, ticket: None };
    tracing::trace!(address = %caller.peer.address, certificate = caller.peer.certificate, identity = ?caller.identity, tenant = caller.tenant.name(), rule = caller.rule.name(), "at the door");
    if let Some(refusal) = identity::refuse_ours(worker, parts, &caller.identity).await {
        return (caller, Err(refusal));
    }
    if let Some(refusal) = limits::shed(&worker.shared, &caller.tenant, route, parts) {
        return (caller, Err(refusal));
    }
    let let_in = if counted { admit(worker, &mut caller, route, parts).await } else { Ok(()) };
    (caller, let_in)
}

/// Asks whether there is room for a request of which something is counted.
async fn admit(worker: &Worker, caller: &mut Caller, route: &Route, parts: &Parts) -> Result<(), Reply> {
    let Some(class) = limits::class_of(route, parts.uri.path()) else { return Ok(()) };
    let (address, is_verified) = (caller.peer.address.ip(), caller.identity.claims().is_some());
    let of_address = worker.shared.config.tenants.of_address(address, is_verified, caller.rule);
    let ticket = Ticket::new(Arc::clone(&caller.tenant), of_address, class);
    let admitted = limits::admit(&ticket, route, parts).await;
    admitted.map_err(|refusal| limits::refuse(parts, class, &refusal))?;
    caller.ticket = Some(Arc::new(ticket));
    Ok(())
}
