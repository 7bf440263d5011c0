//! Responses that acknowledge a refresh are held until our view shows what Elasticsearch shows, so
//! that a write whose refresh was acknowledged through us is in every later search here.

use std::time::Instant;

use crate::pass;
use crate::ports::Scope;
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::telemetry::Served;

/// Passes the request; when Elasticsearch has acknowledged it, waits for our publication.
pub(crate) async fn hold(worker: &Worker, target: Option<&str>, request: ClientRequest) -> Reply {
    let (response, served) = pass::through(worker, request, Served::pass("refresh")).await;
    if response.status().is_success() {
        wait(worker, target).await;
    }
    (response, served)
}

/// Waits until what a refresh of `target` showed is published here, within limits.
pub(crate) async fn wait(worker: &Worker, target: Option<&str>) {
    let Some(scope) = scope_of(worker, target) else { return };
    let started = Instant::now();
    let published =
        tokio::time::timeout(worker.shared.config.publish_timeout, worker.shared.cluster.published(scope))
            .await;
    worker.shared.telemetry.held(started.elapsed(), matches!(published, Ok(true)));
}

/// What to wait for; `None` when no index of ours can be concerned.
fn scope_of(worker: &Worker, target: Option<&str>) -> Option<Scope> {
    let catalog = worker.shared.cluster.catalog();
    match target.map(|name| (name, catalog.resolve(name))) {
        Some((name, es_wire::Resolved::One(index))) => {
            (!index.fields.is_empty()).then(|| Scope::Index(name.to_owned()))
        }
        // An index that this very write created may have ivf fields that we do not know yet, so an
        // unknown name waits for all; the wait costs one small request when nothing moved.
        _ => catalog.adopted().next().is_some().then_some(Scope::All),
    }
}
