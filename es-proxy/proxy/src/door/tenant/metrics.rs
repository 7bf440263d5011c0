//! What is counted of tenants, read where it is kept when somebody looks. Only configured and stored tenants
//! are labels, never what a client sent.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::door::limits::{Counts, Reason};
use crate::door::tenant::{Class, Rule, Tenant, Tenants};

impl Tenants {
    /// Registers the metrics, all named `outrigger_tenant_…` and `outrigger_unverified_…`.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        registry.register_collector(Box::new(Shown(Arc::clone(self))));
    }
}

#[derive(Debug)]
struct Shown(Arc<Tenants>);

/// Everything that has been asked for of tenants, by class.
struct Each(Vec<Arc<Tenant>>);

impl Each {
    fn encode(
        &self,
        encoder: &mut MetricEncoder<'_>,
        one: impl Fn(&mut MetricEncoder<'_>, &str, &str, &Counts) -> fmt::Result,
    ) -> fmt::Result {
        for tenant in &self.0 {
            for class in Class::ALL {
                if let Some(counts) = tenant.gates().counted(class).filter(|counts| counts.is_used()) {
                    one(encoder, tenant.name(), class.name(), counts)?;
                }
            }
        }
        Ok(())
    }
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let tenants = Each(self.0.all());
        let mut admitted = encoder.encode_descriptor(
            "outrigger_tenant_admitted",
            "Requests let in, by tenant and class",
            None,
            MetricType::Counter,
        )?;
        tenants.encode(&mut admitted, |encoder, tenant, class, counts| {
            let labels = [("tenant", tenant), ("class", class)];
            counter(encoder, &labels, counts.admitted.load(Ordering::Relaxed))
        })?;
        let mut refused = encoder.encode_descriptor(
            "outrigger_tenant_refused",
            "Requests refused, by tenant, class and the limit that was reached",
            None,
            MetricType::Counter,
        )?;
        tenants.encode(&mut refused, |encoder, tenant, class, counts| {
            Reason::ALL.into_iter().try_for_each(|reason| {
                let labels = [("tenant", tenant), ("class", class), ("reason", reason.name())];
                counter(encoder, &labels, counts.refused(reason))
            })
        })?;
        let mut in_flight = encoder.encode_descriptor(
            "outrigger_tenant_in_flight",
            "Requests being served, responses included, by tenant and class",
            None,
            MetricType::Gauge,
        )?;
        tenants.encode(&mut in_flight, |encoder, tenant, class, counts| {
            let labels = [("tenant", tenant), ("class", class)];
            encoder.encode_family(&labels)?.encode_gauge(&counts.in_flight.load(Ordering::Relaxed))
        })?;
        let mut waiting = encoder.encode_descriptor(
            "outrigger_tenant_waiting",
            "Requests that wait until a limit lets them in, by tenant and class",
            None,
            MetricType::Gauge,
        )?;
        tenants.encode(&mut waiting, |encoder, tenant, class, counts| {
            let labels = [("tenant", tenant), ("class", class)];
            encoder.encode_family(&labels)?.encode_gauge(&counts.waiting.load(Ordering::Relaxed))
        })?;
        let mut matched = encoder.encode_descriptor(
            "outrigger_tenant_matched",
            "Requests by the rule that said whose they are",
            None,
            MetricType::Counter,
        )?;
        for rule in Rule::ALL {
            counter(&mut matched, &[("rule", rule.name())], self.0.matched(rule))?;
        }
        self.encode_addresses(&mut encoder)
    }
}

impl Shown {
    fn encode_addresses(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let addresses = self.0.addresses();
        let mut refused = encoder.encode_descriptor(
            "outrigger_unverified_refused",
            "Requests refused by the limits of their address, by class and the limit that was reached",
            None,
            MetricType::Counter,
        )?;
        for class in Class::ALL {
            let Some(counts) = addresses.counted(class) else { continue };
            for reason in Reason::ALL {
                let count = counts.refused(reason);
                if count > 0 {
                    counter(&mut refused, &[("class", class.name()), ("reason", reason.name())], count)?;
                }
            }
        }
        encoder
            .encode_descriptor(
                "outrigger_unverified_addresses",
                "Addresses whose use of their limits is remembered",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&(addresses.remembered() as i64))
    }
}

fn counter<const N: usize>(
    encoder: &mut MetricEncoder<'_>,
    labels: &[(&str, &str); N],
    value: u64,
) -> fmt::Result {
    encoder.encode_family(labels)?.encode_counter::<[(&str, &str); 0], _, f64>(&value, None)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::door::tenant::TenantConfig;

    #[tokio::test]
    async fn what_was_counted_is_shown() {
        let spec = r#"{"a":{"limits":{"search":{"concurrency":1}}},"idle":{}}"#;
        let tenants: BTreeMap<_, _> = serde_json::from_str(spec).unwrap();
        let tenants = Arc::new(Tenants::new(TenantConfig { tenants, ..TenantConfig::default() }).unwrap());
        let mut registry = Registry::default();
        tenants.register(&mut registry);
        let a = tenants.get("a").unwrap();
        let _held = a.gates().of(Class::Search).admit(None).await.unwrap();
        a.gates().of(Class::Search).admit(None).await.unwrap_err();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"outrigger_tenant_admitted_total{tenant="a",class="search"} 1"#,
            r#"outrigger_tenant_refused_total{tenant="a",class="search",reason="concurrency"} 1"#,
            r#"outrigger_tenant_in_flight{tenant="a",class="search"} 1"#,
            r#"outrigger_tenant_waiting{tenant="a",class="search"} 0"#,
            r#"outrigger_tenant_matched_total{rule="header"} 0"#,
            "outrigger_unverified_addresses 0",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("idle"), "{text}");
    }
}
