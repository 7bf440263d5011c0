//! Counts what passes of a body whose size or content its head does not tell, and charges it as it passes.
//! Nothing is held back: what was too much is a debt, and keeps the next request out.

use std::sync::Arc;

use http::header::CONTENT_ENCODING;
use http::request::Parts;
use memchr::memchr_iter;

use crate::classify::Route;
use crate::door::limits::{Limiter, Ticket, Work, declared_length, has_many, items};
use crate::door::tenant::Class;

/// Compressed bytes that count as one document or search: they are not inflated to be counted.
const COMPRESSED_BYTES: f64 = 1_024.0;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Meter {
    ticket: Arc<Ticket>,
    class: Class,
    bytes: bool,
    items: Option<Items>,
}

/// How documents or searches are counted.
#[derive(Clone, Copy, Debug)]
enum Items {
    /// Two lines each.
    Lines,
    Compressed,
}

impl Meter {
    /// `None` where nothing need be counted.
    pub(crate) fn of(ticket: &Arc<Ticket>, route: &Route, parts: &Parts) -> Option<Self> {
        let class = ticket.class;
        let bytes = declared_length(parts).is_none() && ticket.counts(class, Limiter::counts_bytes);
        let are_metered = has_many(route, parts.uri.path())
            && ticket.counts(class, Limiter::counts_cost)
            && !(items::is_bulk(route) && items::are_judged(ticket, parts));
        let items = are_metered.then(|| {
            let is_compressed = parts.headers.contains_key(CONTENT_ENCODING);
            if is_compressed { Items::Compressed } else { Items::Lines }
        });
        (bytes || items.is_some()).then(|| Self { ticket: Arc::clone(ticket), class, bytes, items })
    }

    /// Charges bytes that pass.
    pub(crate) fn show(&self, bytes: &[u8]) {
        let cost = match self.items {
            Some(Items::Lines) => memchr_iter(b'\n', bytes).count() as f64 / 2.0,
            Some(Items::Compressed) => bytes.len() as f64 / COMPRESSED_BYTES,
            None => 0.0,
        };
        let bytes = if self.bytes { bytes.len() as u64 } else { 0 };
        self.ticket.charge(self.class, Work { bytes, cost, ..Work::default() });
    }
}
