//! Requests by how they were served: one log line and one count for each. A worker keeps the metrics of what it
//! has served at hand: to find them by their labels costs more than to count.

use std::cell::RefCell;
use std::ptr;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::telemetry::{BUCKETS, Served};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    way: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WayLabel {
    way: &'static str,
}

/// The metrics of all workers.
#[derive(Clone)]
pub(crate) struct ServedMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<WayLabel, Histogram, fn() -> Histogram>,
}

impl ServedMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let this = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        };
        registry.register(
            "outrigger_requests",
            "Requests by route, way taken and reason",
            this.requests.clone(),
        );
        registry.register(
            "outrigger_request_seconds",
            "Time to the head of the response, by way",
            this.seconds.clone(),
        );
        this
    }
}

/// Those that one worker has used. Labels are words in the source, so they are few.
pub(crate) struct ServedByWorker {
    metrics: ServedMetrics,
    used: RefCell<Vec<Used>>,
}

struct Used {
    labels: RequestLabels,
    requests: Counter,
    seconds: Histogram,
}

impl ServedByWorker {
    pub(crate) fn new(metrics: ServedMetrics) -> Self {
        Self { metrics, used: RefCell::default() }
    }

    /// A request was served: one log line, one metric. `account` is its tenant and the rule that said so.
    pub(crate) fn served(
        &self,
        route: &'static str,
        Served { way, reason }: Served,
        status: u16,
        took: Duration,
        account: Option<(&str, &str)>,
    ) {
        let (tenant, rule) = account.unzip();
        tracing::debug!(route, way, reason, status, ?took, tenant, rule, "request");
        let mut all = self.used.borrow_mut();
        // The same word at two places counts on the same metric, found twice.
        let is_it = |used: &Used| {
            ptr::eq(used.labels.reason, reason)
                && ptr::eq(used.labels.route, route)
                && ptr::eq(used.labels.way, way)
        };
        let place = all.iter().position(is_it).unwrap_or_else(|| {
            all.push(self.find(RequestLabels { route, way, reason }));
            all.len() - 1
        });
        all[place].requests.inc();
        all[place].seconds.observe(took.as_secs_f64());
    }

    fn find(&self, labels: RequestLabels) -> Used {
        let requests = self.metrics.requests.get_or_create(&labels).clone();
        let seconds = self.metrics.seconds.get_or_create(&WayLabel { way: labels.way }).clone();
        Used { labels, requests, seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_count_together() {
        let mut registry = Registry::default();
        let metrics = ServedMetrics::new(&mut registry);
        let workers = [ServedByWorker::new(metrics.clone()), ServedByWorker::new(metrics)];
        for (worker, reason) in [(0, "ok"), (1, "ok"), (0, "ok"), (1, "shadow")] {
            workers[worker].served("search", Served::pass(reason), 200, Duration::from_millis(1), None);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"outrigger_requests_total{route="search",way="pass",reason="ok"} 3"#,
            r#"outrigger_requests_total{route="search",way="pass",reason="shadow"} 1"#,
            r#"outrigger_request_seconds_count{way="pass"} 4"#,
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
