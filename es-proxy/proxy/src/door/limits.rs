//! How much each tenant may ask for at a time, by class of request; and each address of which nobody vouches.
//!
//! The class of a request follows from its route. That is asked at the [`admit`]: before its body is read, so
//! that a refusal costs next to nothing. What only the body tells (documents, searches, vectors, effort) is
//! charged where it is understood, and keeps later requests out where it was too much. A search that turns out
//! to hold a knn is one of class `knn` too, and where that must be an exact scan one of `passed_knn`.
//!
//! What a request holds stays its own until its response has ended: the [`Ticket`] travels with it.

mod addresses;
pub(crate) mod by_item;
mod class;
pub(crate) mod fair;
pub(crate) mod items;
mod limiter;
mod meter;
mod rate;
mod slots;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::request::Parts;
use parking_lot::Mutex;

use crate::classify::Route;
use crate::door::Caller;
use crate::door::tenant::{Class, ClassLimits, Tenant};
use crate::intercept::write::Write;
use crate::ports::KnnQuestion;
use crate::proxy::Proxy;
use crate::proxy::Reply;
use crate::respond;
use crate::telemetry::Served;
pub(crate) use addresses::Addresses;
pub(crate) use addresses::flow_of as flow_of_address;
pub(crate) use class::{Counts, Refusal};
use class::{Gate, Permit};
use fair::Flow;
use limiter::Limiter;
pub(crate) use limiter::{Left, Reason, Work};
pub(crate) use meter::Meter;

/// Vectors compared that cost as much as one search.
const VECTORS_OF_ONE: f64 = 10_000.0;

/// The limits of somebody for all classes.
#[derive(Debug)]
pub(crate) struct Gates([Gate; Class::ALL.len()]);

impl Gates {
    /// Limits as said; those that are as `before` go on.
    pub(crate) fn new(
        whose: &str,
        limits: &BTreeMap<Class, Arc<ClassLimits>>,
        before: Option<&Self>,
    ) -> Self {
        let whose = Arc::from(whose);
        Self(
            Class::ALL.map(|class| {
                Gate::new(&whose, class, limits.get(&class), before.map(|before| before.of(class)))
            }),
        )
    }

    pub(crate) fn of(&self, class: Class) -> &Gate {
        &self.0[class as usize]
    }

    /// Counts of all classes from now on, so that limits made after these share them.
    pub(crate) fn count_all(&self) {
        self.0.iter().for_each(|gate| drop(Arc::clone(gate.counts())));
    }

    /// What was counted of a class, if anything.
    pub(crate) fn counted(&self, class: Class) -> Option<&Counts> {
        self.of(class).counted()
    }

    /// Limits of a class, and what is left of them.
    pub(crate) fn in_force(&self, class: Class) -> Option<(&ClassLimits, Left)> {
        self.of(class).limiter.as_ref().map(|limiter| (&*limiter.limits, limiter.left()))
    }
}

/// What a request holds while it is served.
#[derive(Debug)]
pub(crate) struct Ticket {
    tenant: Arc<Tenant>,
    address: Option<Arc<Gates>>,
    /// What it was at the door.
    class: Class,
    held: Mutex<Vec<(Class, Permit)>>,
}

impl Ticket {
    pub(crate) fn new(tenant: Arc<Tenant>, address: Option<Arc<Gates>>, class: Class) -> Self {
        Self { tenant, address, class, held: Mutex::new(Vec::with_capacity(2)) }
    }

    /// Admits a request to a class; what it already holds it need not get again. The address comes first: who
    /// sends too much from one shall not use up what others share with it.
    pub(crate) async fn admit(&self, class: Class, bytes: Option<u64>) -> Result<(), Refusal> {
        let of_address = match &self.address {
            Some(gates) => Some(gates.of(class).admit(bytes).await?),
            None => None,
        };
        let of_tenant = self.tenant.gates().of(class).admit(bytes).await?;
        let permits = [Some(of_tenant), of_address];
        self.held.lock().extend(permits.into_iter().flatten().map(|permit| (class, permit)));
        Ok(())
    }

    /// The same for each of several things in one request: together they take one slot.
    async fn admit_part(&self, class: Class) -> Result<(), Refusal> {
        if !self.holds(class) {
            return self.admit(class, None).await;
        }
        self.address.as_ref().map_or(Ok(()), |gates| gates.of(class).admit_more())?;
        self.tenant.gates().of(class).admit_more()
    }

    fn holds(&self, class: Class) -> bool {
        self.held.lock().iter().any(|(held, _)| *held == class)
    }

    /// Charges what was found out.
    pub(crate) fn charge(&self, class: Class, work: Work) {
        for (held, permit) in &*self.held.lock() {
            if *held == class {
                permit.charge(work);
            }
        }
    }

    /// Whether one more of the things in a request may go on; the error is for its sender.
    pub(crate) fn check_item(&self, class: Class, work: Work) -> Result<(), String> {
        let held = self.held.lock();
        held.iter().filter(|(held, _)| *held == class).try_for_each(|(_, permit)| permit.check_item(work))
    }

    /// Whether some limit of a class counts something.
    fn counts(&self, class: Class, what: impl Fn(&Limiter) -> bool) -> bool {
        self.held.lock().iter().any(|(held, permit)| *held == class && permit.limiter().is_some_and(&what))
    }
}

/// Lets a request in by its head, or refuses it.
pub(crate) async fn admit(ticket: &Ticket, route: &Route, parts: &Parts) -> Result<(), Refusal> {
    ticket.admit(ticket.class, declared_length(parts)).await?;
    if !has_many(route, parts.uri.path()) {
        ticket.charge(ticket.class, Work { cost: 1.0, ..Work::default() });
    }
    Ok(())
}

/// The bytes of a body, where its head tells.
pub(crate) fn declared_length(parts: &Parts) -> Option<u64> {
    parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether a body holds several things that are counted one by one.
pub(crate) fn has_many(route: &Route, path: &str) -> bool {
    match route {
        Route::Msearch { .. } | Route::Write(Write { operation: None, .. }) => true,
        // Searches by template, and paths that only Elasticsearch reads.
        Route::OtherSearch { .. } => {
            let path = path.trim_end_matches('/');
            path.strip_suffix("/template").unwrap_or(path).ends_with("/_msearch")
        }
        // With a type, as clients of version 7 do under 8.
        Route::Pass | Route::Refreshes { .. } => is_bulk_path(path),
        _ => false,
    }
}

fn is_bulk_path(path: &str) -> bool {
    path.trim_end_matches('/').ends_with("/_bulk")
}

/// The class of a request; `None` for what must always be possible.
pub(crate) fn class_of(route: &Route, path: &str) -> Option<Class> {
    Some(match route {
        Route::Search { .. }
        | Route::KnnSearch { .. }
        | Route::Msearch { .. }
        | Route::Spliced { .. }
        | Route::OtherSearch { .. } => Class::Search,
        Route::Write(_) => Class::Bulk,
        Route::CreateIndex
        | Route::Rollover
        | Route::PutMapping { .. }
        | Route::PutDataStreamMapping
        | Route::PutTemplate
        | Route::Simulate
        | Route::ShowMapping
        | Route::IndexLife => Class::Admin,
        Route::Refreshes { .. } if path.trim_end_matches('/').ends_with("_refresh") => Class::Admin,
        Route::Refreshes { .. } => match class_of_path(path) {
            Class::Other => Class::Bulk,
            class => class,
        },
        // Whoever asks why nothing goes must get an answer.
        Route::Own { segments } if segments.as_slice() == ["_whoami"] => return None,
        Route::Own { .. } => Class::Admin,
        Route::Pass | Route::Nodes(_) => class_of_path(path),
    })
}

/// The class of what passes and has no route of its own, by words of its path.
fn class_of_path(path: &str) -> Class {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let search = |segment: &str| {
        matches!(
            segment,
            "_search"
                | "_msearch"
                | "_async_search"
                | "_pit"
                | "_query"
                | "_sql"
                | "_eql"
                | "_rank_eval"
                | "_knn_search"
        )
    };
    let admin = |segment: &str| {
        matches!(
            segment,
            "_cluster"
                | "_nodes"
                | "_cat"
                | "_snapshot"
                | "_tasks"
                | "_security"
                | "_ingest"
                | "_ilm"
                | "_slm"
                | "_aliases"
                | "_alias"
                | "_settings"
                | "_stats"
                | "_segments"
                | "_recovery"
                | "_forcemerge"
                | "_flush"
                | "_cache"
                | "_data_stream"
                | "_index_template"
                | "_component_template"
                | "_template"
                | "_scripts"
                | "_license"
                | "_xpack"
                | "_resolve"
                | "_reindex"
        )
    };
    let first = segments.next().unwrap_or_default();
    let second = segments.next().unwrap_or_default();
    match (first, second) {
        (_, "_update" | "_update_by_query" | "_delete_by_query") => Class::Bulk,
        _ if is_bulk_path(path) => Class::Bulk,
        (first, second) if search(first) || search(second) => Class::Search,
        (first, second) if admin(first) || admin(second) => Class::Admin,
        _ => Class::Other,
    }
}

/// Admits a search to class `knn`. A refusal is the answer.
pub(crate) async fn knn(parts: &Parts) -> Result<(), Reply> {
    match ticket_of(parts) {
        Some(ticket) if !ticket.holds(Class::Knn) => {
            ticket.admit(Class::Knn, None).await.map_err(|refusal| refuse(parts, Class::Knn, &refusal))
        }
        _ => Ok(()),
    }
}

/// The same for one search of several; the refusal is that search's response.
pub(crate) async fn knn_of_many(parts: &Parts) -> Result<(), Refusal> {
    match ticket_of(parts) {
        Some(ticket) => ticket.admit_part(Class::Knn).await,
        None => Ok(()),
    }
}

/// Charges the effort of what the engine is asked.
pub(crate) fn charge_knn(parts: &Parts, questions: &[KnnQuestion<'_>]) {
    if let Some(ticket) = ticket_of(parts) {
        ticket.charge(Class::Knn, effort(questions));
    }
}

/// Admits a request of searches with a knn that passes: where Elasticsearch must compare vectors one by one for it,
/// to class `passed_knn` too. Of several searches one is admitted, and the others are a debt.
pub(crate) async fn passed_knn(parts: &Parts, scans: Scans) -> Result<(), Reply> {
    let Some(ticket) = ticket_of(parts) else { return Ok(()) };
    let others = scans.searches.saturating_sub(1) as f64;
    if !ticket.holds(Class::Knn) {
        knn(parts).await?;
        ticket.charge(Class::Knn, Work { requests: others, cost: others, ..Work::default() });
    }
    if scans.vectors > 0 {
        let admitted = ticket.admit(Class::PassedKnn, None).await;
        admitted.map_err(|refusal| refuse(parts, Class::PassedKnn, &refusal))?;
        ticket.charge(Class::PassedKnn, Work { requests: others, ..comparing(scans.vectors) });
    }
    Ok(())
}

/// The same for one search of several, which was admitted to class `knn`; the refusal is that search's response.
pub(crate) async fn passed_knn_of_many(parts: &Parts, vectors: u64) -> Result<(), Refusal> {
    let Some(ticket) = ticket_of(parts) else { return Ok(()) };
    if vectors > 0 {
        ticket.admit_part(Class::PassedKnn).await?;
        ticket.charge(Class::PassedKnn, comparing(vectors));
    }
    Ok(())
}

fn comparing(vectors: u64) -> Work {
    let vectors = vectors as f64;
    Work { vectors, cost: vectors / VECTORS_OF_ONE, ..Work::default() }
}

/// What Elasticsearch has to do for a request that passes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scans {
    /// Searches with a knn.
    pub(crate) searches: u64,
    /// Vectors that are compared for them, at most.
    pub(crate) vectors: u64,
}

/// Charges vectors that a write brought.
pub(crate) fn charge_written(ticket: &Ticket, vectors: u64) {
    ticket.charge(Class::Bulk, Work { vectors: vectors as f64, ..Work::default() });
}

/// Whether searches with a knn are limited for this request's tenant or address.
pub(crate) fn limit_knn(parts: &Parts) -> bool {
    let limited =
        |gates: &Gates| [Class::Knn, Class::PassedKnn].iter().any(|&class| gates.of(class).limiter.is_some());
    ticket_of(parts).is_some_and(|ticket| {
        limited(ticket.tenant.gates()) || ticket.address.as_ref().is_some_and(|gates| limited(gates))
    })
}

/// Whether anything is counted of this request.
pub(crate) fn are_counted(parts: &Parts) -> bool {
    ticket_of(parts).is_some()
}

fn ticket_of(parts: &Parts) -> Option<&Arc<Ticket>> {
    Caller::of(parts)?.ticket.as_ref()
}

/// What questions ask of the engine.
fn effort(questions: &[KnnQuestion<'_>]) -> Work {
    let of = |question: &KnnQuestion<'_>| 1.0 + (question.k + question.num_candidates) as f64 / 100.0;
    Work { vectors: questions.len() as f64, cost: questions.iter().map(of).sum(), ..Work::default() }
}

/// Where Elasticsearch has more to do than it may have at once, and so many of this tenant's requests wait
/// already that a further one would be turned away: the answer, before anything is done for it.
pub(crate) fn shed(shared: &Proxy, tenant: &Tenant, route: &Route, parts: &Parts) -> Option<Reply> {
    match &shared.upstream_gate {
        Some(gate) if !matches!(route, Route::Own { .. }) && gate.is_full(tenant.flow()) => {
            gate.turn_away();
            Some((respond::overloaded(&parts.headers), Served::new("refuse", "overloaded")))
        }
        _ => None,
    }
}

/// On whose account a request waits where requests wait for each other.
pub(crate) fn flow(parts: &Parts) -> Flow {
    // A question about a caller says it itself.
    let said = || parts.extensions.get().copied().unwrap_or_default();
    Caller::of(parts).map_or_else(said, |caller| caller.tenant.flow())
}

/// The response to a refused request.
pub(crate) fn refuse(parts: &Parts, class: Class, refusal: &Refusal) -> Reply {
    let response = respond::too_many(&parts.headers, refusal.body.clone(), refusal.retry_after);
    tracing::debug!(class = class.name(), limit = refusal.reason.name(), "refused");
    (response, Served::new("refuse", refusal.reason.name()))
}
