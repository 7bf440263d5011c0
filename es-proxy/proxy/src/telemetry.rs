//! What is counted. Names are those of the code and of the docs; labels have few values by
//! construction (routes, ways and reasons are words in the source).

mod handshakes;
mod served;
mod wire;
mod writes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::documents;
use crate::door::callers;
use crate::door::isolation;
use crate::door::limits::fair::GateMetrics;
use crate::telemetry::handshakes::HandshakeMetrics;
pub(crate) use crate::telemetry::served::{ServedByWorker, ServedMetrics};
pub(crate) use crate::telemetry::wire::WireMetrics;
use crate::telemetry::writes::WriteMetrics;

/// How a request was served, and why so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) way: &'static str,
    pub(crate) reason: &'static str,
}

impl Served {
    pub(crate) const fn new(way: &'static str, reason: &'static str) -> Self {
        Self { way, reason }
    }

    pub(crate) const fn pass(reason: &'static str) -> Self {
        Self { way: "pass", reason }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ItemLabels {
    way: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// How often one warning that requests can cause is told at most; between that it is for those who debug.
const WARNING_EVERY: Duration = Duration::from_secs(1);

/// When each such warning was told last.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<BTreeMap<&'static str, Instant>>>);

impl Warnings {
    pub(crate) fn is_due(&self, what: &'static str) -> bool {
        self.is_due_at(what, Instant::now())
    }

    fn is_due_at(&self, what: &'static str, now: Instant) -> bool {
        let mut told = self.0.lock();
        let is_due = told.get(what).is_none_or(|last| now.duration_since(*last) >= WARNING_EVERY);
        if is_due {
            told.insert(what, now);
        }
        is_due
    }
}

/// The request path's metrics.
#[derive(Clone)]
pub struct Telemetry {
    pub(crate) warned: Warnings,
    pub(crate) served: ServedMetrics,
    searches: Family<ItemLabels, Counter>,
    upstream_failures: Family<KindLabel, Counter>,
    held_seconds: Histogram,
    held_timeouts: Counter,
    refused: Counter,
    shadow_overlap: Counter<f64, AtomicU64>,
    shadow_compared: Counter,
    pub(crate) documents: documents::Metrics,
    pub(crate) callers: callers::Metrics,
    pub(crate) handed_out: isolation::Metrics,
    pub(crate) writes: WriteMetrics,
    pub(crate) upstream_gate: GateMetrics,
    pub(crate) wire: WireMetrics,
    pub(crate) handshakes: HandshakeMetrics,
    pub(crate) connections: Gauge,
    pub(crate) in_flight: Gauge,
}

/// 50 µs to 100 s, a factor of about 2.15 apart.
const BUCKETS: [f64; 20] = [
    5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0,
    50.0, 100.0,
];

impl Telemetry {
    /// Registers the metrics, all named `outrigger_…`.
    pub fn new(registry: &mut Registry) -> Self {
        let this = Self {
            served: ServedMetrics::new(registry),
            searches: Family::default(),
            upstream_failures: Family::default(),
            held_seconds: Histogram::new(BUCKETS),
            held_timeouts: Counter::default(),
            refused: Counter::default(),
            shadow_overlap: Counter::default(),
            shadow_compared: Counter::default(),
            documents: documents::Metrics::new(registry),
            callers: callers::Metrics::new(registry),
            handed_out: isolation::Metrics::new(registry),
            writes: WriteMetrics::new(registry),
            upstream_gate: GateMetrics::new(registry, "upstream"),
            wire: WireMetrics::new(registry),
            handshakes: HandshakeMetrics::new(registry),
            connections: Gauge::default(),
            in_flight: Gauge::default(),
            warned: Warnings::default(),
        };
        registry.register(
            "outrigger_msearch_searches",
            "Searches of _msearch requests by way taken and reason",
            this.searches.clone(),
        );
        registry.register(
            "outrigger_upstream_failures",
            "Requests that Elasticsearch gave no response to",
            this.upstream_failures.clone(),
        );
        registry.register(
            "outrigger_held_refresh_seconds",
            "Time that refresh responses were held",
            this.held_seconds.clone(),
        );
        registry.register(
            "outrigger_held_refresh_timeouts",
            "Refresh responses released before publication",
            this.held_timeouts.clone(),
        );
        registry.register(
            "outrigger_passed_knn_refused",
            "Exact scans refused by the brake",
            this.refused.clone(),
        );
        registry.register(
            "outrigger_shadow_overlap",
            "Sum of shares of Elasticsearch's hits that ours held",
            this.shadow_overlap.clone(),
        );
        registry.register(
            "outrigger_shadow_compared",
            "Searches compared in shadow mode",
            this.shadow_compared.clone(),
        );
        registry.register("outrigger_connections", "Open client connections", this.connections.clone());
        registry.register("outrigger_in_flight", "Requests being served", this.in_flight.clone());
        this
    }

    /// One search of an `_msearch` was served.
    pub(crate) fn searched(&self, served: Served) {
        self.searches.get_or_create(&ItemLabels { way: served.way, reason: served.reason }).inc();
    }

    pub(crate) fn upstream_failed(&self, kind: &'static str, failure: &dyn std::fmt::Display) {
        if matches!(kind, "client" | "body_too_large") {
            // Whoever sends such requests must not fill the log.
            tracing::debug!(kind, %failure, "request not sent whole");
        } else if self.warned.is_due(kind) {
            tracing::warn!(kind, %failure, "upstream failed");
        } else {
            tracing::debug!(kind, %failure, "upstream failed");
        }
        self.upstream_failures.get_or_create(&KindLabel { kind }).inc();
    }

    pub(crate) fn held(&self, took: Duration, published: bool) {
        self.held_seconds.observe(took.as_secs_f64());
        if !published {
            tracing::warn!(?took, "refresh response released before it was published here");
            self.held_timeouts.inc();
        }
    }

    pub(crate) fn refused(&self) {
        self.refused.inc();
    }

    pub(crate) fn compared(&self, overlap: f64) {
        self.shadow_overlap.inc_by(overlap);
        self.shadow_compared.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_that_requests_cause_is_told_seldom() {
        let (warnings, now) = (Warnings::default(), Instant::now());
        let told = (0..1_000).filter(|_| warnings.is_due_at("broken", now)).count();
        assert_eq!(told, 1);
        assert!(warnings.is_due_at("timeout", now), "another one is told too");
        assert!(warnings.is_due_at("broken", now + WARNING_EVERY));
    }
}
