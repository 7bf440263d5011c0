//! The door by itself, for measurements: a request's head goes in, and what it cost comes out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::classify::classify;
use crate::door::{self, Peer};
use crate::proxy::{Proxy, Worker};

/// See the head of this file.
pub struct MeasuredDoor {
    worker: Worker,
    peer: Arc<Peer>,
}

impl MeasuredDoor {
    /// The door of `proxy`, as one that comes from `peer` finds it. Used on one thread, within a `LocalSet`.
    pub fn new(proxy: Arc<Proxy>, peer: SocketAddr) -> Self {
        let peer = Arc::new(Peer { address: peer, local: peer, certificate: None });
        Self { worker: Worker::new(proxy), peer }
    }

    /// Lets a request in, or refuses it: whether it is let in, as which tenant, and the time that it took to
    /// find out who sends it, on whose account, and whether there is room.
    pub async fn enter(&self, request: http::Request<()>) -> (bool, String, Duration) {
        let parts = request.into_parts().0;
        let route = classify(&parts.method, parts.uri.path(), parts.uri.query());
        let began = Instant::now();
        let (caller, let_in) = door::enter(&self.worker, &self.peer, &route, &parts).await;
        let took = began.elapsed();
        (let_in.is_ok(), caller.tenant.name().to_owned(), took)
    }
}
