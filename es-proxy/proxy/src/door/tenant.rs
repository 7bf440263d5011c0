//! On whose account a request is served.

use std::sync::{Arc, LazyLock};

use http::request::Parts;

use crate::classify::Route;
use crate::door::Peer;
use crate::door::identity::Identity;
use crate::proxy::Worker;

/// One tenant.
#[derive(Debug)]
pub(crate) struct Tenant {
    /// The name in configuration, metrics and logs.
    pub(crate) name: Box<str>,
}

static DEFAULT: LazyLock<Arc<Tenant>> = LazyLock::new(|| Arc::new(Tenant { name: "default".into() }));

/// The tenant that a request belongs to.
pub(crate) fn of(
    _worker: &Worker,
    _peer: &Arc<Peer>,
    _identity: &Identity,
    _route: &Route,
    _parts: &Parts,
) -> Arc<Tenant> {
    Arc::clone(&DEFAULT)
}
