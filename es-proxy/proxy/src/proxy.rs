//! One request from its head to the head of its response: classify, then one file per kind.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{EXPECT, HeaderValue};
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use prometheus_client::registry::Registry;

use crate::accept::{ClientBody, Watch};
use crate::audit::{Asked, AuditLog};
use crate::body::{RequestBody, ResponseBody};
use crate::brake::Brake;
use crate::classify::{Route, classify};
use crate::config::ProxyConfig;
use crate::documents::DocumentCache;
use crate::door::callers::Callers;
use crate::door::isolation::{self, HandedOut};
use crate::door::limits::fair::{FairGate, Place};
use crate::door::limits::{self, Meter, by_item, items};
use crate::door::tenant::{Rule, Tenant};
use crate::door::{self, Caller, Peer, deadline, head};
use crate::intercept;
use crate::intercept::first_time::Sparse;
use crate::intercept::write::Held;
use crate::mode::Modes;
use crate::pass;
use crate::ports::{Cluster, KnnSource};
use crate::quota::enforce::{self, Entered};
use crate::quota::{Ledger, TenantStore};
use crate::rescue::{self, rescue};
use crate::respond;
use crate::telemetry::{Served, ServedByWorker, Telemetry};
use crate::upstream::{self, Pool, UpstreamError};

/// How long a request may wait for its turn in front of Elasticsearch.
const MAX_TURN_WAIT: Duration = Duration::from_secs(30);

/// What all workers share.
pub struct Proxy {
    pub(crate) config: ProxyConfig,
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) engine: Arc<dyn KnnSource>,
    pub(crate) upstream_source: Arc<dyn KnnSource>,
    pub(crate) modes: Arc<Modes>,
    pub(crate) ledger: Arc<Ledger>,
    /// Where tenants are kept; `None`: in the configuration alone.
    pub(crate) tenant_store: Option<Arc<dyn TenantStore>>,
    /// With it a caller is an administrator where Elasticsearch has no security.
    pub(crate) admin_token: Option<Box<str>>,
    pub(crate) brake: Brake,
    /// In front of Elasticsearch.
    pub(crate) upstream_gate: Option<Arc<FairGate>>,
    pub(crate) documents: DocumentCache,
    pub(crate) sparse_filters: Sparse,
    /// What Elasticsearch said of callers.
    pub(crate) callers: Callers,
    pub(crate) telemetry: Telemetry,
    /// What bound tenants may go on with.
    pub(crate) handed_out: HandedOut,
    /// Where decisions are written, if anywhere.
    pub(crate) audit: Option<Arc<AuditLog>>,
    /// What is held of writes in flight.
    pub(crate) writes_held: Arc<Held>,
    /// What is held of bodies that are read to be understood.
    pub(crate) intercepted: Arc<Held>,
    pub(crate) shadow_slots: Arc<tokio::sync::Semaphore>,
    /// Where background work (shadow comparisons) runs: not on the workers.
    pub(crate) background: tokio::runtime::Handle,
}

impl Proxy {
    /// Assembles the request path. `engine` answers, `upstream_source` is what shadow mode compares
    /// it with; background work goes to the tokio runtime this is called on.
    pub fn new(
        config: ProxyConfig,
        cluster: Arc<dyn Cluster>,
        engine: Arc<dyn KnnSource>,
        upstream_source: Arc<dyn KnnSource>,
        modes: Arc<Modes>,
        telemetry: Telemetry,
    ) -> Self {
        Self {
            intercepted: Held::new(config.intercept_memory as usize, telemetry.wire.intercepted.clone()),
            writes_held: Held::new(config.write_memory as usize, telemetry.writes.held.clone()),
            brake: Brake::new(config.passed_knn),
            sparse_filters: Sparse::new(),
            upstream_gate: config
                .max_in_flight
                .map(|places| FairGate::new(places, telemetry.upstream_gate.clone())),
            handed_out: HandedOut::new(telemetry.handed_out.clone()),
            documents: DocumentCache::new(config.document_cache_bytes, telemetry.documents.clone()),
            callers: Callers::new(config.identity_cache, config.identity_ttl, telemetry.callers.clone()),
            config,
            cluster,
            engine,
            upstream_source,
            modes,
            ledger: Ledger::new(&mut Registry::default()),
            tenant_store: None,
            admin_token: None,
            telemetry,
            audit: None,
            shadow_slots: Arc::new(tokio::sync::Semaphore::new(crate::shadow::MAX_AT_ONCE)),
            background: tokio::runtime::Handle::current(),
        }
    }

    /// Writes decisions to a log.
    #[must_use]
    pub fn with_audit(self, audit: Option<Arc<AuditLog>>) -> Self {
        Self { audit, ..self }
    }

    /// With quotas, of tenants that are kept in `store`. `admin_token` makes a caller an administrator where
    /// Elasticsearch has no security.
    pub fn with_tenants(
        self,
        ledger: Arc<Ledger>,
        store: Arc<dyn TenantStore>,
        admin_token: Option<String>,
    ) -> Self {
        Self {
            ledger,
            tenant_store: Some(store),
            admin_token: admin_token.map(String::into_boxed_str),
            ..self
        }
    }
}

/// One worker thread's view: the shared parts and its own connections.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Proxy>,
    pub(crate) pool: Pool,
    served: ServedByWorker,
}

/// A client's request, its head and its body still apart.
pub(crate) struct ClientRequest {
    pub(crate) parts: Parts,
    pub(crate) body: RequestBody,
}

/// A response and how it came about.
pub(crate) type Reply = (Response<ResponseBody>, Served);

impl Worker {
    pub(crate) fn new(shared: Arc<Proxy>) -> Self {
        let pool = Pool::new(&shared.config);
        let served = ServedByWorker::new(shared.telemetry.served.clone());
        Self { shared, pool, served }
    }

    /// Serves one request.
    pub(crate) async fn serve(
        &self,
        peer: &Arc<Peer>,
        request: Request<Incoming>,
        watch: &Rc<Watch>,
    ) -> Response<ResponseBody> {
        let started = Instant::now();
        let _in_flight = InFlight::enter(&self.shared.telemetry);
        let explain = request.headers().contains_key("x-outrigger-explain");
        let route = classify(request.method(), request.uri().path(), request.uri().query());
        let is_pretty = respond::asks_for_layout(request.uri().query());
        let mut notes = Notes::new(&self.shared);
        let (mut response, served) = match deadline::of(request.headers()) {
            Ok(None) => self.answer(peer, &route, request, watch, started, &mut notes).await,
            Ok(Some(patience)) => {
                let opaque_id = respond::opaque_id(request.headers());
                let answer = Box::pin(self.answer(peer, &route, request, watch, started, &mut notes));
                match tokio::time::timeout(patience, answer).await {
                    Ok(reply) => reply,
                    // With the future of the answer all that was under way for it is gone.
                    Err(_) => deadline::passed(&opaque_id, patience),
                }
            }
            Err(wrong) => deadline::refuse(request.headers(), &wrong),
        };
        if is_pretty && !response.status().is_success() {
            response = response.map(ResponseBody::laid_out);
        }
        if explain
            && let Ok(text) = HeaderValue::try_from(format!("{}; reason={}", served.way, served.reason))
        {
            response.headers_mut().insert(respond::WAY, text);
        }
        if let (Some(audit), Some(asked)) = (&self.shared.audit, &notes.asked) {
            audit.decided(peer, asked, route.name(), (&response, served));
        }
        let account = notes.account.as_ref().map(|(tenant, rule)| (tenant.name(), rule.name()));
        self.served.served(route.name(), served, response.status().as_u16(), started.elapsed(), account);
        response
    }

    /// The answer to one request.
    async fn answer(
        &self,
        peer: &Arc<Peer>,
        route: &Route,
        request: Request<Incoming>,
        watch: &Rc<Watch>,
        started: Instant,
        notes: &mut Notes,
    ) -> Reply {
        let (mut parts, body) = request.into_parts();
        let limit = self.shared.config.max_body_bytes;
        // hyper has answered the client's expectation once the body is read; any other expectation is
        // Elasticsearch's to refuse.
        let expectation = parts.headers.get(EXPECT);
        let waits_for_us = expectation.is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        if waits_for_us {
            parts.headers.remove(EXPECT);
        }
        // Where Elasticsearch reads what it does not take, so do we: up to twice what it would take.
        let body = ClientBody::new(body, Rc::clone(watch), limit.saturating_mul(2), waits_for_us);
        notes.read(&parts);
        if let Some(refusal) = head::refuse(&parts, &self.shared.config) {
            return refusal;
        }
        let (caller, let_in) = door::enter(self, peer, route, &parts).await;
        notes.know(&caller);
        if let Err(refused) = let_in {
            if !waits_for_us && refused.limit.is_some() && by_item::concerns(route, &parts) {
                return Box::pin(by_item::refuse(self, route, &parts, body, refused)).await;
            }
            return refused.reply;
        }
        let ticket = caller.ticket.clone();
        let meter = ticket.as_ref().and_then(|ticket| Meter::of(ticket, route, &parts));
        let bound = isolation::concerns(self, &caller).then(|| Arc::clone(&caller.tenant));
        parts.extensions.insert(caller);
        // Its items, or what it stores.
        let is_counted = !self.shared.ledger.is_free() || items::hold(route, &parts);
        let body = RequestBody::streamed(body, limit, Rc::clone(watch), &self.shared.intercepted);
        let body = body.metered_by(meter);
        let request = ClientRequest { parts, body };
        let (response, served) = match bound {
            None => self.dispatch(route, request, is_counted, started).await,
            Some(tenant) => {
                let dispatch = |request| self.dispatch(route, request, is_counted, started);
                Box::pin(isolation::enclose(self, tenant, request, dispatch)).await
            }
        };
        match ticket {
            Some(ticket) => (response.map(|body| body.holding(ticket)), served),
            None => (response, served),
        }
    }

    async fn dispatch(
        &self,
        route: &Route,
        request: ClientRequest,
        is_counted: bool,
        started: Instant,
    ) -> Reply {
        match route {
            _ if is_counted => Box::pin(self.within_quotas(route, request, started)).await,
            Route::Pass => pass::through(self, request, Served::pass("not_ours")).await,
            // On the heap, so that the future of what passes stays small: it is moved for every request.
            _ => Box::pin(self.intercept(route, request, started)).await,
        }
    }

    /// Serves a request where there is room for what it adds, and counts that until it has ended.
    async fn within_quotas(&self, route: &Route, request: ClientRequest, started: Instant) -> Reply {
        let limits = items::of(route, &request.parts);
        let (request, counted) = match enforce::enter(self, request, limits).await {
            Entered::Free(request) => (request, None),
            Entered::Counted(request, counted) => (request, Some(counted)),
            Entered::Refused(reply) => return reply,
        };
        let parts = counted.is_some().then(|| request.parts.clone());
        let reply = self.intercept(route, request, started).await;
        match counted.zip(parts) {
            Some((counted, parts)) => counted.settle(self, &parts, reply).await,
            None => reply,
        }
    }

    async fn intercept(&self, route: &Route, request: ClientRequest, started: Instant) -> Reply {
        match route {
            Route::Search { names } => intercept::search::serve(self, names, request, started).await,
            Route::KnnSearch { names } => {
                intercept::search::serve_knn_search(self, names, request, started).await
            }
            Route::Msearch { names } => intercept::msearch::serve(self, names, request, started).await,
            Route::Spliced { names, endpoint } => {
                intercept::splice::serve(self, names, *endpoint, request).await
            }
            Route::OtherSearch { names } => intercept::pass_search::pass_other(self, names, request).await,
            Route::CreateIndex | Route::Rollover => intercept::mapping::create(self, request).await,
            Route::PutMapping { target } => intercept::mapping::update(self, target, request).await,
            Route::PutTemplate => intercept::mapping::template(self, request).await,
            Route::PutDataStreamMapping => intercept::mapping::update_data_stream(self, request).await,
            Route::Simulate => intercept::mapping::simulate(self, request).await,
            Route::ShowMapping => intercept::show::show(self, request).await,
            Route::Write(write) => intercept::write::serve(self, write, request).await,
            Route::Refreshes { target } => intercept::refresh::hold(self, target.as_deref(), request).await,
            Route::IndexLife => intercept::mapping::index_life(self, request).await,
            Route::Nodes(listing) => intercept::nodes::list(self, *listing, request).await,
            Route::Own { segments } => intercept::own::serve(self, segments, request).await,
            Route::Pass => pass::through(self, request, Served::pass("not_ours")).await,
        }
    }

    /// Sends a request to Elasticsearch: what belongs to the client's connection or to us is left out.
    pub(crate) async fn send(
        &self,
        request: ClientRequest,
    ) -> Result<Response<Box<upstream::UpstreamBody>>, UpstreamError> {
        let ClientRequest { mut parts, body } = request;
        let place = match &self.shared.upstream_gate {
            Some(gate) => Some(self.turn(gate, &parts).await?),
            None => None,
        };
        upstream::strip_connection(&mut parts.headers);
        upstream::strip_ours(&mut parts.headers);
        // Origin form, whatever form the client used.
        if parts.uri.scheme().is_some()
            && let Some(path) = parts.uri.path_and_query().cloned()
        {
            parts.uri = path.into();
        }
        let mut response = self.pool.send(Request::from_parts(parts, Box::new(body))).await?;
        if let Some(place) = place {
            response.body_mut().hold(place);
        }
        Ok(response)
    }

    /// Waits for a place among the requests that Elasticsearch may have at once.
    async fn turn(&self, gate: &Arc<FairGate>, parts: &Parts) -> Result<Place, UpstreamError> {
        gate.enter(limits::flow(parts), 1, MAX_TURN_WAIT).await.map_err(|_| UpstreamError::Overloaded)
    }

    /// Waits until the catalog knows what was just acknowledged; not longer than for a publication, since
    /// Elasticsearch may have gone away meanwhile.
    pub(crate) async fn read_catalog_again(&self) {
        let read = self.shared.cluster.invalidate();
        if tokio::time::timeout(self.shared.config.publish_timeout, read).await.is_err() {
            tracing::warn!("names and mappings could not be read again in time");
        }
    }

    /// The response for a request that Elasticsearch gave none to.
    pub(crate) fn failed(&self, headers: &http::HeaderMap, failure: &UpstreamError) -> Reply {
        let kind = rescue::kind(failure);
        self.shared.telemetry.upstream_failed(kind, failure);
        (rescue(headers, failure), Served::new("fail", kind))
    }
}

/// What is learnt of a request for logs.
struct Notes {
    asked: Option<Box<Asked>>,
    account: Option<(Arc<Tenant>, Rule)>,
    is_audited: bool,
}

impl Notes {
    fn new(shared: &Proxy) -> Self {
        Self { asked: None, account: None, is_audited: shared.audit.is_some() }
    }

    fn read(&mut self, parts: &Parts) {
        self.asked = self.is_audited.then(|| Box::new(Asked::of(parts)));
    }

    fn know(&mut self, caller: &Caller) {
        if let Some(asked) = &mut self.asked {
            asked.caller = Some(caller.clone());
        }
        if tracing::enabled!(tracing::Level::DEBUG) {
            self.account = Some((Arc::clone(&caller.tenant), caller.rule));
        }
    }
}

/// Counts a request as in flight until its response head is there or its client has gone.
struct InFlight<'a>(&'a Telemetry);

impl<'a> InFlight<'a> {
    fn enter(telemetry: &'a Telemetry) -> Self {
        telemetry.in_flight.inc();
        Self(telemetry)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// hyper moves the future of each request into its place on the heap.
    #[test]
    fn the_future_of_a_request_is_small() {
        fn size<'w, F>(
            _: impl Fn(&'w Worker, &'w Arc<Peer>, Request<Incoming>, &'w Rc<Watch>) -> F,
        ) -> usize {
            size_of::<F>()
        }
        let size = size(Worker::serve);
        assert!(size < 6144, "{size} bytes");
    }
}
