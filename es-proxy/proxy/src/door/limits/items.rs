//! Documents of a bulk that are let in one by one, as Elasticsearch does when a queue is full: what goes on is
//! charged, and what is too much gets 429 in its place of the response, which official bulk helpers send again.
//!
//! A request is refused as a whole while anything is owed: that costs nobody a transfer. One that is let in may
//! leave a debt, so that a body is never too large to be let in at all; items are refused only where the debt
//! would become a long one. The first item of a request that nobody else's compete with always gets through, so
//! whoever sends again what was refused comes to an end.

use std::sync::Arc;

use es_wire::ItemRefusal;
use http::header::CONTENT_ENCODING;
use http::request::Parts;
use serde_json::json;

use crate::classify::Route;
use crate::door::limits::limiter::Limiter;
use crate::door::limits::{Ticket, Work, ticket_of};
use crate::door::tenant::Class;
use crate::intercept::write::{Inflate, Write, is_json};

/// The limits under which the documents of a bulk are let in one by one, where there are such and the documents
/// can be told apart. Others are charged by lines as they pass.
pub(crate) fn of(route: &Route, parts: &Parts) -> Option<ItemLimits> {
    let ticket = if is_bulk(route) { ticket_of(parts)? } else { return None };
    are_judged(ticket, parts).then(|| ItemLimits(Arc::clone(ticket)))
}

/// Whether there are such limits.
pub(crate) fn hold(route: &Route, parts: &Parts) -> bool {
    is_bulk(route) && ticket_of(parts).is_some_and(|ticket| are_judged(ticket, parts))
}

pub(crate) fn is_bulk(route: &Route) -> bool {
    matches!(route, Route::Write(Write { operation: None, .. }))
}

/// Whether the documents of a bulk with this ticket are let in one by one.
pub(crate) fn are_judged(ticket: &Ticket, parts: &Parts) -> bool {
    ticket.counts(Class::Bulk, |limiter: &Limiter| limiter.counts_cost() || limiter.counts_vectors())
        && is_json(&parts.headers)
        && Inflate::of(parts.headers.get(CONTENT_ENCODING)).is_some()
}

/// See the head of this file.
pub(crate) struct ItemLimits(Arc<Ticket>);

impl ItemLimits {
    /// Whether a document with so many vectors may go on.
    pub(crate) fn check(&self, vectors: u64) -> Result<(), ItemRefusal> {
        self.0.check_item(Class::Bulk, work(vectors)).map_err(|reason| {
            let error = json!({"type": "es_rejected_execution_exception", "reason": reason});
            ItemRefusal { status: 429, error: error.to_string() }
        })
    }

    /// Charges one that goes on.
    pub(crate) fn charge(&self, vectors: u64) {
        self.0.charge(Class::Bulk, work(vectors));
    }
}

fn work(vectors: u64) -> Work {
    Work { vectors: vectors as f64, cost: 1.0, ..Work::default() }
}
