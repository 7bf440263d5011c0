//! Numbers of writes that were looked at as they passed.

use es_wire::Settled;
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
pub(crate) struct WriteMetrics {
    bytes: Counter,
    staged: Counter,
    left: Family<ReasonLabel, Counter>,
    pub(crate) held: Gauge,
}

impl WriteMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let this = Self {
            bytes: Counter::default(),
            staged: Counter::default(),
            left: Family::default(),
            held: Gauge::default(),
        };
        let writes = registry.sub_registry_with_prefix("outrigger_writes");
        writes.register("scanned_bytes", "Bytes of writes looked at as they passed", this.bytes.clone());
        writes.register(
            "handed_over",
            "Acknowledged writes whose vectors were taken from the request",
            this.staged.clone(),
        );
        writes.register("left_to_feed", "Writes that were looked at and left to the feed", this.left.clone());
        writes.register(
            "held_bytes",
            "Vectors of writes that wait for their acknowledgement",
            this.held.clone(),
        );
        this
    }

    pub(crate) fn bytes(&self, count: u64) {
        self.bytes.inc_by(count);
    }

    pub(crate) fn settled(&self, settled: &Settled) {
        self.staged.inc_by(settled.acknowledged.len() as u64);
        for (why, count) in &settled.left {
            self.left.get_or_create(&ReasonLabel { reason: why.name() }).inc_by(*count);
        }
    }
}
