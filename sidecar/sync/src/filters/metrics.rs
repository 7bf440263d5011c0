//! Numbers of the cache of filters, as `outrigger_filter_*`.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

pub(crate) struct FilterMetrics {
    questions: Family<OutcomeLabel, Counter>,
    fetches: Family<OutcomeLabel, Counter>,
    fetch_seconds: Histogram,
    pub(super) fetched_documents: Counter,
    evictions: Family<ReasonLabel, Counter>,
    pub(crate) increment_seconds: Histogram,
    pub(super) cached: Gauge,
    pub(super) bytes: Gauge,
    budget: Gauge,
}

impl FilterMetrics {
    pub(crate) fn register(registry: &mut Registry, budget: u64) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.0005, 2.0, 18));
        let metrics = Self {
            questions: Family::default(),
            fetches: Family::default(),
            fetch_seconds: seconds(),
            fetched_documents: Counter::default(),
            evictions: Family::default(),
            increment_seconds: seconds(),
            cached: Gauge::default(),
            bytes: Gauge::default(),
            budget: Gauge::default(),
        };
        metrics.budget.set(budget as i64);
        let filters = registry.sub_registry_with_prefix("outrigger_filter");
        filters.register(
            "questions",
            "Searches with a filter: it was remembered (hit), not yet (unknown), or is not going to be (refused)",
            metrics.questions.clone(),
        );
        filters.register(
            "fetches",
            "Filters that were read from Elasticsearch: done, or why not",
            metrics.fetches.clone(),
        );
        filters.register(
            "fetch_seconds",
            "From when a filter was wanted to when it could be used",
            metrics.fetch_seconds.clone(),
        );
        filters.register(
            "fetched_documents",
            "Documents that fetched filters let through",
            metrics.fetched_documents.clone(),
        );
        filters.register(
            "evictions",
            "Filters that were given up: for want of memory (memory, size), too many of one index (count), not used \
             for long (idle), or Elasticsearch did not answer for new documents (increment)",
            metrics.evictions.clone(),
        );
        filters.register(
            "increment_seconds",
            "Time in which a pull asked Elasticsearch which filters let its new documents through",
            metrics.increment_seconds.clone(),
        );
        filters.register("cached", "Filters that are remembered", metrics.cached.clone());
        filters.register(
            "bytes",
            "Memory of remembered filters and of what searches made of them",
            metrics.bytes.clone(),
        );
        filters.register("budget_bytes", "Memory that filters may take", metrics.budget.clone());
        metrics
    }

    pub(super) fn asked(&self, outcome: &'static str) {
        self.questions.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(super) fn fetched(&self, outcome: &'static str, took: Duration) {
        self.fetches.get_or_create(&OutcomeLabel { outcome }).inc();
        self.fetch_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn evicted(&self, reason: &'static str) {
        self.evictions.get_or_create(&ReasonLabel { reason }).inc();
    }
}
