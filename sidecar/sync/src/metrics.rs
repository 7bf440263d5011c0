//! Numbers of the feed, as `outrigger_feed_*`. Labels are bounded: beyond a number of indices all
//! others share the label `_other`.

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::audit::Differences;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct IndexLabel {
    index: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

pub(crate) struct Metrics {
    pub(crate) documents: Counter,
    pub(crate) acknowledged: Counter,
    acknowledged_left: Family<KindLabel, Counter>,
    pub(crate) confirmed: Counter,
    pub(crate) deletions: Counter,
    pub(crate) pulls: Counter,
    pub(crate) gap_checks: Counter,
    pub(crate) audits: Counter,
    audit_differences: Family<KindLabel, Counter>,
    pub(crate) audits_unequal: Counter,
    pub(crate) publish_latency: Histogram,
    errors: Family<KindLabel, Counter>,
    pub(crate) snapshot_failures: Counter,
    pub(crate) options_lost: Counter,
    pub(crate) options_restored: Counter,
    behind_operations: Family<IndexLabel, Gauge>,
    behind_seconds: Family<IndexLabel, Gauge<f64, AtomicU64>>,
    agreement_age: Gauge<f64, AtomicU64>,
    barrier_seconds: Histogram,
    pub(crate) poll_seconds: Histogram,
    named: Mutex<HashSet<String>>,
    named_limit: usize,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry, named_limit: usize) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.0005, 2.0, 18));
        let metrics = Self {
            documents: Counter::default(),
            acknowledged: Counter::default(),
            acknowledged_left: Family::default(),
            confirmed: Counter::default(),
            deletions: Counter::default(),
            pulls: Counter::default(),
            gap_checks: Counter::default(),
            audits: Counter::default(),
            audit_differences: Family::default(),
            audits_unequal: Counter::default(),
            publish_latency: seconds(),
            errors: Family::default(),
            snapshot_failures: Counter::default(),
            options_lost: Counter::default(),
            options_restored: Counter::default(),
            behind_operations: Family::default(),
            behind_seconds: Family::default(),
            agreement_age: Gauge::default(),
            barrier_seconds: seconds(),
            poll_seconds: seconds(),
            named: Mutex::default(),
            named_limit,
        };
        let feed = registry.sub_registry_with_prefix("outrigger_feed");
        feed.register("documents", "Documents pulled from Elasticsearch", metrics.documents.clone());
        feed.register(
            "acknowledged_writes",
            "Acknowledged writes that the proxy handed over",
            metrics.acknowledged.clone(),
        );
        feed.register(
            "acknowledged_left",
            "Acknowledged writes that were left to the feed: no room (queue, deletions), no searchable shard \
             here (shard), another primary (term), settings that may have changed (stale)",
            metrics.acknowledged_left.clone(),
        );
        feed.register(
            "confirmed",
            "Documents that a refresh showed and whose vectors were held already",
            metrics.confirmed.clone(),
        );
        feed.register(
            "deletions",
            "Acknowledged deletions that a refresh showed, found without an audit",
            metrics.deletions.clone(),
        );
        feed.register(
            "gap_checks",
            "Looks at numbers that were still open when their neighbours were read",
            metrics.gap_checks.clone(),
        );
        feed.register("pulls", "Refreshes of shards that were pulled and published", metrics.pulls.clone());
        feed.register("audits", "Comparisons with Elasticsearch beyond the count", metrics.audits.clone());
        feed.register(
            "audit_differences",
            "Documents that an audit found missing here, extra here, or here in an older version (stale)",
            metrics.audit_differences.clone(),
        );
        feed.register(
            "audits_unequal",
            "Audits that did not end with equal counts; tried again",
            metrics.audits_unequal.clone(),
        );
        feed.register(
            "publish_latency_seconds",
            "From seeing a refresh to having published it",
            metrics.publish_latency.clone(),
        );
        feed.register(
            "errors",
            "Failed polls, pulls, catalog reads and engine calls",
            metrics.errors.clone(),
        );
        feed.register(
            "snapshot_failures",
            "Snapshots that could not be written",
            metrics.snapshot_failures.clone(),
        );
        feed.register(
            "options_lost",
            "Fields whose options a mapping update past us took away",
            metrics.options_lost.clone(),
        );
        feed.register(
            "options_restored",
            "Fields whose options were put back",
            metrics.options_restored.clone(),
        );
        feed.register(
            "behind_operations",
            "Operations not covered by a published refresh",
            metrics.behind_operations.clone(),
        );
        feed.register(
            "behind_seconds",
            "Age of the oldest refresh that is not published",
            metrics.behind_seconds.clone(),
        );
        feed.register(
            "agreement_age_seconds",
            "Time since documents were last counted equal in Elasticsearch and here, of the index where that was longest ago \
             among those that are behind",
            metrics.agreement_age.clone(),
        );
        feed.register(
            "barrier_seconds",
            "Time that callers waited for a refresh to be published",
            metrics.barrier_seconds.clone(),
        );
        feed.register(
            "poll_seconds",
            "Duration of one poll of refresh counters",
            metrics.poll_seconds.clone(),
        );
        metrics
    }

    /// Counts an error of a kind: `poll`, `pull`, `catalog`, `contact`, `engine`, `barrier`, `restore`.
    pub(crate) fn error(&self, kind: &'static str) {
        self.errors.get_or_create(&KindLabel { kind }).inc();
    }

    /// Counts acknowledged writes that were not used: `queue`, `deletions`, `shard`, `term`, `stale`.
    pub(crate) fn left(&self, kind: &'static str, writes: u64) {
        if writes > 0 {
            self.acknowledged_left.get_or_create(&KindLabel { kind }).inc_by(writes);
        }
    }

    pub(crate) fn differences(&self, found: &Differences) {
        let kinds = [("missing", found.missing), ("extra", found.extra), ("stale", found.stale)];
        for (kind, documents) in kinds {
            self.audit_differences.get_or_create(&KindLabel { kind }).inc_by(documents);
        }
    }

    pub(crate) fn barrier(&self, waited: Duration, reached: bool) {
        self.barrier_seconds.observe(waited.as_secs_f64());
        if !reached {
            self.error("barrier");
        }
    }

    /// Sets how long ago the index agreed that has been without agreement for longest.
    pub(crate) fn agreement_age(&self, age: Duration) {
        self.agreement_age.set(age.as_secs_f64());
    }

    /// Sets the lag of all indices, sorted by name: operations and time.
    pub(crate) fn lag(&self, lags: &[(String, u64, Duration)]) {
        self.behind_operations.clear();
        self.behind_seconds.clear();
        let mut named = self.named.lock();
        named.retain(|name| lags.binary_search_by(|(index, ..)| index.cmp(name)).is_ok());
        let mut other = (0, Duration::ZERO);
        for (index, operations, time) in lags {
            if named.contains(index) || named.len() < self.named_limit {
                named.insert(index.clone());
                self.set_lag(index, *operations, *time);
            } else {
                other = (other.0 + operations, other.1.max(*time));
            }
        }
        if lags.len() > named.len() {
            self.set_lag("_other", other.0, other.1);
        }
    }

    fn set_lag(&self, index: &str, operations: u64, time: Duration) {
        let label = IndexLabel { index: index.to_owned() };
        self.behind_operations.get_or_create(&label).set(operations as i64);
        self.behind_seconds.get_or_create(&label).set(time.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded_and_follow_the_indices_that_exist() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry, 2);
        let lag = |name: &str, operations| (name.to_owned(), operations, Duration::ZERO);
        metrics.lag(&[lag("a", 1), lag("b", 2), lag("c", 3), lag("d", 4)]);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("outrigger_feed_behind_operations{index=\"a\"} 1"), "{text}");
        assert!(text.contains("outrigger_feed_behind_operations{index=\"_other\"} 7"), "{text}");
        metrics.lag(&[lag("c", 5)]);
        text.clear();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("index=\"c\"} 5") && !text.contains("index=\"a\""), "{text}");
    }
}
