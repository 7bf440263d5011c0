//! What is counted of TLS handshakes with clients.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// See the head of this file.
#[derive(Clone)]
pub(crate) struct HandshakeMetrics {
    ended: Family<OutcomeLabel, Counter>,
    in_progress: Gauge,
}

impl HandshakeMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let this = Self { ended: Family::default(), in_progress: Gauge::default() };
        registry.register(
            "outrigger_tls_handshakes",
            "TLS handshakes with clients by outcome",
            this.ended.clone(),
        );
        registry.register(
            "outrigger_tls_handshakes_in_progress",
            "TLS handshakes with clients that have not ended",
            this.in_progress.clone(),
        );
        this
    }

    pub(crate) fn begin(&self) -> Began<'_> {
        self.in_progress.inc();
        Began(self)
    }
}

/// A handshake that has begun; one that is given up at shutdown is over as well.
pub(crate) struct Began<'a>(&'a HandshakeMetrics);

impl Began<'_> {
    pub(crate) fn ended(self, outcome: &'static str) {
        self.0.ended.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}

impl Drop for Began<'_> {
    fn drop(&mut self) {
        self.0.in_progress.dec();
    }
}
