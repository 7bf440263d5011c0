//! Quotas as numbers: usage and limit of each tenant's resources, crossings, refusals.

use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::door::tenant::Quotas;
use crate::quota::amount::{Amount, Resource};
use crate::quota::crossing::Crossing;

/// Tenants with numbers of their own; the others are told by `/_ivf/_tenants` alone.
const MAX_TENANTS: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    tenant: String,
    resource: &'static str,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct QuotaMetrics {
    usage: Family<Labels, Gauge>,
    limit: Family<Labels, Gauge>,
    crossings: Family<Labels, Counter>,
    refused: Family<Labels, Counter>,
    failures: Counter,
    shown: AtomicUsize,
}

impl QuotaMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let this = Self::default();
        let quotas = registry.sub_registry_with_prefix("outrigger_quota");
        quotas.register(
            "usage",
            "What a tenant has of a resource, and what was let in since that was measured",
            this.usage.clone(),
        );
        quotas.register("limit", "What a tenant may have of a resource", this.limit.clone());
        quotas.register("crossings", "Times that usage came above 80 % of the quota", this.crossings.clone());
        quotas.register("refused", "Requests and items of bulks refused for a quota", this.refused.clone());
        quotas.register(
            "failed_measurements",
            "Times that usage could not be measured",
            this.failures.clone(),
        );
        this
    }

    /// All tenants are going to be shown anew.
    pub(crate) fn begin(&self) {
        self.usage.clear();
        self.limit.clear();
        self.shown.store(0, Ordering::Relaxed);
    }

    pub(crate) fn show(&self, tenant: &str, usage: Amount, quotas: &Quotas) {
        if self.shown.fetch_add(1, Ordering::Relaxed) >= MAX_TENANTS {
            return;
        }
        for resource in Resource::ALL {
            let labels = labels(tenant, resource);
            self.usage.get_or_create(&labels).set(usage.of(resource).min(i64::MAX as u64) as i64);
            if let Some(limit) = resource.limit(quotas) {
                self.limit.get_or_create(&labels).set(limit.min(i64::MAX as u64) as i64);
            }
        }
    }

    /// One event: one log line, one metric.
    pub(crate) fn crossed(&self, tenant: &str, crossing: &Crossing) {
        let Crossing { resource, usage, limit } = crossing;
        tracing::warn!(tenant, resource = resource.name(), usage, limit, "usage is above 80 % of the quota");
        self.crossings.get_or_create(&labels(tenant, *resource)).inc();
    }

    pub(crate) fn refused(&self, tenant: &str, resource: Resource) {
        self.refused.get_or_create(&labels(tenant, resource)).inc();
    }

    pub(crate) fn failed(&self) {
        self.failures.inc();
    }

    #[cfg(test)]
    pub(crate) fn crossings(&self, tenant: &str, resource: Resource) -> u64 {
        self.crossings.get_or_create(&labels(tenant, resource)).get()
    }
}

fn labels(tenant: &str, resource: Resource) -> Labels {
    Labels { tenant: tenant.to_owned(), resource: resource.name() }
}
