//! The door: what each request passes before it is served, in this order.
//!
//! | step | file | question |
//! |---|---|---|
//! | identity | [`identity`] | who is it? Elasticsearch says |
//! | tenant | [`tenant`] | on whose account? |
//!
//! Nothing here reads a body. What was found out travels with the request, as the [`Caller`] among its
//! extensions, also to requests of our own in its name.

pub(crate) mod callers;
mod credentials;
pub(crate) mod identity;
pub(crate) mod tenant;

use std::net::SocketAddr;
use std::sync::Arc;

use http::request::Parts;

use crate::classify::Route;
use crate::door::identity::Identity;
use crate::door::tenant::{Account, Rule, Tenant};
use crate::proxy::{Reply, Worker};

/// What is known of a client's connection; its requests share it.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Where it comes from, which may be a load balancer.
    pub(crate) address: SocketAddr,
}

/// Who sends a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) peer: Arc<Peer>,
    pub(crate) identity: Identity,
    pub(crate) tenant: Arc<Tenant>,
    /// What made it that tenant's.
    pub(crate) rule: Rule,
}

impl Caller {
    /// The caller of a request that was let in, or of one of our own in its name.
    pub(crate) fn of(parts: &Parts) -> Option<&Self> {
        parts.extensions.get()
    }
}

/// Lets a request in, or answers it here and now.
pub(crate) async fn enter(
    worker: &Worker,
    peer: &Arc<Peer>,
    _route: &Route,
    parts: &Parts,
) -> Result<Caller, Reply> {
    let identity = identity::of(worker, parts).await;
    let Account { tenant, rule } = tenant::of(worker, peer, &identity, parts);
    let caller = Caller { peer: Arc::clone(peer), identity, tenant, rule };
    tracing::trace!(address = %caller.peer.address, identity = ?caller.identity, tenant = caller.tenant.name(), rule = caller.rule.name(), "let in");
    Ok(caller)
}
