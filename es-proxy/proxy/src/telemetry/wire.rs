//! What is counted of the wire itself: connections that had to end, heads that were refused, bodies that are
//! held, panics.

use std::any::Any;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// See the head of this file.
#[derive(Clone)]
pub(crate) struct WireMetrics {
    ended: Family<ReasonLabel, Counter>,
    heads_refused: Family<ReasonLabel, Counter>,
    panics: Counter,
    /// Bytes of bodies that are read to be understood.
    pub(crate) intercepted: Gauge,
}

impl WireMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let this = Self {
            ended: Family::default(),
            heads_refused: Family::default(),
            panics: Counter::default(),
            intercepted: Gauge::default(),
        };
        registry.register(
            "outrigger_connections_ended",
            "Client connections that we ended: slow clients, and idle ones that made room for others",
            this.ended.clone(),
        );
        registry.register(
            "outrigger_heads_refused",
            "Heads of requests that could not be read, by what was wrong",
            this.heads_refused.clone(),
        );
        registry.register(
            "outrigger_panics",
            "Requests and connections that met a bug of ours and were ended",
            this.panics.clone(),
        );
        registry.register(
            "outrigger_intercepted_bytes",
            "Bytes held of request bodies that are read to be understood",
            this.intercepted.clone(),
        );
        this
    }

    /// A connection was ended.
    pub(crate) fn ended(&self, reason: &'static str) {
        tracing::debug!(reason, "client connection ended by us");
        self.ended.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A head was refused before it became a request.
    pub(crate) fn head_refused(&self, reason: &'static str) {
        self.heads_refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A request or a connection panicked.
    pub(crate) fn panicked(&self, panic: &(dyn Any + Send)) {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        tracing::error!(message, "a request was ended by a bug of ours");
        self.panics.inc();
    }
}
