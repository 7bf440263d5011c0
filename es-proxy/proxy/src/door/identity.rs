//! Who sends a request. Only Elasticsearch knows: it is asked with the caller's own credentials.

use http::request::Parts;

use crate::proxy::Worker;

/// Who sends a request, as far as that is known.
#[derive(Clone, Debug)]
pub(crate) enum Identity {
    /// Nobody asked, because nothing depends on it.
    NotAsked,
}

/// Finds out who it is, where something depends on it.
pub(crate) async fn of(_worker: &Worker, _parts: &Parts) -> Identity {
    Identity::NotAsked
}
