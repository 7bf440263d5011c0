//! Who sends a request. Only Elasticsearch knows: it is asked with the caller's own credentials.

use http::request::Parts;

use crate::door::tenant::Claims;
use crate::proxy::Worker;

/// Who sends a request, as far as that is known.
#[derive(Clone, Debug)]
pub(crate) enum Identity {
    /// Nobody asked, because nothing depends on it.
    NotAsked,
}

impl Identity {
    /// What tenants' rules may rest on; nothing that was not verified.
    pub(crate) fn claims(&self) -> Option<Claims<'_>> {
        match self {
            Self::NotAsked => None,
        }
    }
}

/// Finds out who it is, where something depends on it.
pub(crate) async fn of(_worker: &Worker, _parts: &Parts) -> Identity {
    Identity::NotAsked
}
