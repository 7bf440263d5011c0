//! What is in force, printed as a file that can be read again (`outrigger config`), with secrets masked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use es_proxy::units::{Bytes, Time};
use es_proxy::{AddressLimits, TenantSpec};
use serde::Serialize;

use super::Config;
use super::values::{LogFormat, Networks};

impl fmt::Display for Config {
    /// As a file that [`Config::load`] reads, with secrets masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (proxy, sync, limits) = (&self.proxy, &self.sync, &self.proxy.passed_knn);
        for warning in &self.warnings {
            writeln!(f, "# warning: {warning}")?;
        }
        text(f, "listen", &proxy.listen)?;
        if let Some(own) = &proxy.advertise.own {
            text(f, "advertise", own)?;
        }
        text(f, "advertise_nodes", &proxy.advertise.nodes)?;
        text(f, "upstream", &sync.upstream.join(","))?;
        if let Some(auth) = &sync.auth {
            writeln!(f, "# upstream_auth: {auth:?}")?;
        }
        self.tls.print(f)?;
        text(f, "tls_handshake_timeout", &Time(proxy.tls_handshake_timeout))?;
        // What depends on the address is not written down: it must not hold for another one.
        if let Some(allowed) = self.allow_insecure {
            writeln!(f, "allow_insecure = {allowed}")?;
        }
        text(f, "data_dir", &self.data_dir.display())?;
        text(f, "admin_listen", &self.admin_listen)?;
        if self.admin_token.is_some() {
            writeln!(f, "# admin_token: ***")?;
        }
        text(f, "mode", &self.mode.name())?;
        text(f, "security", &proxy.security)?;
        text(f, "identity_ttl", &Time(proxy.identity_ttl))?;
        writeln!(f, "identity_cache = {}", proxy.identity_cache)?;
        text(f, "mapping_unspecified", &if proxy.unspecified_is_ivf { "ivf" } else { "elasticsearch" })?;
        if !sync.adopt.is_empty() {
            text(f, "mapping_adopt", &sync.adopt)?;
        }
        if !sync.allow_versions.is_empty() {
            text(f, "allow_version", &sync.allow_versions)?;
        }
        writeln!(f, "workers = {}", proxy.workers)?;
        writeln!(f, "max_connections = {}", proxy.max_connections)?;
        text(f, "max_body", &Bytes(proxy.max_body_bytes))?;
        text(f, "max_initial_line", &Bytes(proxy.head.max_line_bytes as u64))?;
        text(f, "max_header", &Bytes(proxy.head.max_header_bytes as u64))?;
        text(f, "intercept_memory", &Bytes(proxy.intercept_memory))?;
        text(f, "client_head_timeout", &Time(proxy.client_timeouts.head))?;
        text(f, "client_body_timeout", &Time(proxy.client_timeouts.body))?;
        text(f, "client_write_timeout", &Time(proxy.client_timeouts.write))?;
        if let Some(budget) = self.memory_budget {
            text(f, "memory_budget", &Bytes(budget))?;
        }
        text(f, "hold_memory", &Bytes(self.hold_memory))?;
        text(f, "document_cache", &Bytes(proxy.document_cache_bytes))?;
        text(f, "filter_memory", &Bytes(sync.filter_memory))?;
        text(f, "write_memory", &Bytes(proxy.write_memory))?;
        text(f, "connect_timeout", &Time(proxy.connect_timeout))?;
        text(f, "response_timeout", &Time(proxy.response_timeout))?;
        text(f, "publish_timeout", &Time(proxy.publish_timeout))?;
        text(f, "drain_timeout", &Time(proxy.drain_timeout))?;
        if let Some(places) = proxy.max_in_flight {
            writeln!(f, "max_in_flight = {places}")?;
        }
        writeln!(f, "passed_knn_concurrency = {}", limits.concurrency)?;
        text(f, "passed_knn_wait", &Time(limits.wait))?;
        writeln!(f, "passed_knn_vectors_per_second = {}", limits.vectors_per_second)?;
        text(f, "tenants_interval", &Time(self.tenant_intervals.tenants))?;
        text(f, "usage_interval", &Time(self.tenant_intervals.usage))?;
        text(f, "catalog_interval", &Time(sync.catalog_interval))?;
        text(f, "feed_interval", &Time(sync.feed_interval))?;
        text(f, "snapshot_interval", &Time(sync.snapshot_interval))?;
        if !self.strict.is_empty() {
            text(f, "strict", &self.strict)?;
        }
        if let Some(rate) = sync.build_rate {
            writeln!(f, "build_rate = {rate}")?;
        }
        if let Some(target) = &self.audit_log {
            text(f, "audit_log", target)?;
        }
        text(f, "audit_events", &self.audit_events)?;
        text(f, "log", &self.log)?;
        text(f, "log_format", &if self.log_format == LogFormat::Json { "json" } else { "text" })?;
        let tenants = proxy.tenants.config();
        text(f, "tenant_header", &tenants.header)?;
        if !tenants.header_from.is_empty() {
            text(f, "tenant_header_from", &Networks(tenants.header_from.clone()))?;
        }
        // Tables come last: what stands after one belongs to it.
        let tables = Tables { tenants: &tenants.tenants, unverified: &tenants.unverified };
        f.write_str(&toml::to_string(&tables).map_err(|_| fmt::Error)?)
    }
}

/// One key of the file, its value as a text.
pub(super) fn text(f: &mut fmt::Formatter<'_>, name: &str, value: &dyn fmt::Display) -> fmt::Result {
    writeln!(f, "{name} = {}", toml::Value::String(value.to_string()))
}

/// What is written as tables of the file.
#[derive(Serialize)]
struct Tables<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tenants: &'a BTreeMap<String, Arc<TenantSpec>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unverified: &'a AddressLimits,
}
