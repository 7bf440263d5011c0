//! What must be true of settings, alone and together, and what becomes of them: the configurations of the parts.
//! A setting that is wrong is named in the error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use es_proxy::units::{Bytes, Time};
use es_proxy::{
    Advertise, ClientTimeouts, HeadLimits, Mode, PassedKnnLimits, ProxyConfig, TenantConfig, Tenants,
    UpstreamAddress,
};
use es_tls::UpstreamTls;
use ivf_index::EngineConfig;
use shard_sync::SyncConfig;

use super::secret::{self, Secret};
use super::tls::Tls;
use super::values::{LogFormat, Unspecified, Word};
use super::{Config, Layer};
use crate::bootstrap;
use crate::tenants::Intervals;

impl Config {
    pub(super) fn from_layer(layer: Layer) -> anyhow::Result<Self> {
        let mut proxy = proxy_config(&layer)?;
        let mut warnings = Vec::new();
        let tls = Tls::open(&layer, &proxy.upstream, &mut warnings)?;
        proxy.tls.clone_from(&tls.server);
        proxy.upstream_tls.clone_from(&tls.upstream);
        let mut tenants = proxy.tenants.config().tenants.iter();
        if let Some((name, _)) = tenants.find(|(_, spec)| !spec.certificates.is_empty())
            && !tls.asks_for_certificates()
        {
            bail!(
                "tenants.{name}: [certificates] have no effect: no client is asked for one (tls_client_auth)"
            );
        }
        check_clients_side(&layer, &proxy)?;
        let (admin_listen, admin_token) = admin(&layer, proxy.listen)?;
        let secret_files = layer.admin_token_file.iter().chain(&layer.upstream_auth_file);
        warnings.extend(secret_files.filter_map(|path| secret::exposed(path)));
        if admin_token.is_some() && tls.admin.is_none() && !admin_listen.ip().is_loopback() {
            warnings.push(format!(
                "the admin token crosses the network in clear ({admin_listen}): set admin_tls"
            ));
        }
        let sync = sync_config(&layer, &proxy.upstream, tls.upstream.clone())?;
        let log = layer.log.unwrap_or_else(|| "info".into());
        log.parse::<tracing_subscriber::filter::Targets>()
            .with_context(|| format!("log [{log}] is no filter"))?;
        Ok(Self {
            proxy,
            sync,
            memory_budget: layer.memory_budget.map(|word| word.0.0),
            hold_memory: layer.hold_memory.map_or(EngineConfig::default().hold_bytes, |word| word.0.0),
            data_dir: layer.data_dir.unwrap_or_else(|| "outrigger-data".into()),
            allow_insecure: layer.allow_insecure,
            admin_listen,
            admin_token,
            tenant_intervals: Intervals {
                tenants: time(&layer.tenants_interval, Duration::from_secs(2), "tenants_interval")?,
                usage: time(&layer.usage_interval, Duration::from_secs(10), "usage_interval")?,
            },
            tls,
            warnings,
            strict: layer.strict.map(|word| word.0).unwrap_or_default(),
            mode: layer.mode.map_or(Mode::Serve, |word| word.0),
            audit_log: layer.audit_log.map(|word| word.0),
            audit_events: layer.audit_events.map(|word| word.0).unwrap_or_default(),
            log,
            log_format: layer.log_format.map_or(LogFormat::Json, |word| word.0),
        })
    }
}

/// The part of the bootstrap checks that needs no Elasticsearch.
fn check_clients_side(layer: &Layer, proxy: &ProxyConfig) -> anyhow::Result<()> {
    let listen = proxy.listen;
    if proxy.tls.is_none() && !bootstrap::may_be_insecure(layer.allow_insecure, listen) {
        bail!(
            "clients would speak plain HTTP to {listen}, so that anybody on the way could read and change what they \
             send: set tls_certificate and tls_key, listen on 127.0.0.1, or say --allow-insecure"
        );
    }
    Ok(())
}

/// Where the admin port is, and the token that it asks for.
fn admin(layer: &Layer, listen: SocketAddr) -> anyhow::Result<(SocketAddr, Option<Secret>)> {
    let admin_listen = layer.admin_listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9211)));
    let admin_token = layer.admin_token_file.as_deref().map(Secret::read).transpose()?;
    if admin_token.is_none() && !admin_listen.ip().is_loopback() {
        bail!(
            "admin_listen {admin_listen} is reachable from outside; set admin_token_file, or use 127.0.0.1"
        );
    }
    if admin_listen == listen && admin_listen.port() != 0 {
        bail!("listen and admin_listen are both {admin_listen}; they need two ports");
    }
    Ok((admin_listen, admin_token))
}

fn sync_config(
    layer: &Layer,
    upstream: &[UpstreamAddress],
    tls: Option<Arc<UpstreamTls>>,
) -> anyhow::Result<SyncConfig> {
    let auth = match (&layer.upstream_auth, &layer.upstream_auth_file) {
        (Some(secret), _) => Some(secret.clone()),
        (None, Some(path)) => Some(Secret::read(path)?),
        (None, None) => None,
    };
    let defaults = SyncConfig::default();
    Ok(SyncConfig {
        upstream: upstream.iter().map(UpstreamAddress::to_string).collect(),
        auth: auth.as_ref().map(Secret::as_auth).transpose()?,
        tls,
        allow_versions: layer.allow_version.as_ref().map(|word| word.0.clone()).unwrap_or_default(),
        adopt: layer.mapping_adopt.as_ref().map(|word| word.0.clone()).unwrap_or_default(),
        catalog_interval: time(&layer.catalog_interval, defaults.catalog_interval, "catalog_interval")?,
        feed_interval: time(&layer.feed_interval, defaults.feed_interval, "feed_interval")?,
        snapshot_interval: time(&layer.snapshot_interval, defaults.snapshot_interval, "snapshot_interval")?,
        filter_memory: bytes(&layer.filter_memory, defaults.filter_memory),
        build_rate: match layer.build_rate {
            Some(0) => bail!("build_rate must be at least 1"),
            rate => rate,
        },
        ..defaults
    })
}

fn proxy_config(layer: &Layer) -> anyhow::Result<ProxyConfig> {
    let defaults = ProxyConfig::default();
    let upstream = match &layer.upstream {
        None => defaults.upstream.clone(),
        Some(list) => list
            .split(',')
            .map(|url| url.trim().parse::<UpstreamAddress>().map_err(anyhow::Error::msg))
            .collect::<Result<_, _>>()
            .context("upstream")?,
    };
    let listen = layer.listen.unwrap_or(defaults.listen);
    if let Some(node) = upstream.iter().find(|node| is_us(node, listen)) {
        bail!("upstream {node} is where we listen ({listen}): requests would go round in circles");
    }
    Ok(ProxyConfig {
        listen,
        advertise: Advertise {
            own: layer.advertise.as_ref().map(|word| word.0.clone()),
            nodes: layer.advertise_nodes.as_ref().map(|word| word.0.clone()).unwrap_or_default(),
        },
        upstream,
        workers: positive(layer.workers, defaults.workers, "workers")?,
        max_connections: positive(layer.max_connections, defaults.max_connections, "max_connections")?,
        max_body_bytes: bytes(&layer.max_body, defaults.max_body_bytes),
        head: head_limits(layer, defaults.head)?,
        client_timeouts: client_timeouts(layer, defaults.client_timeouts)?,
        intercept_memory: bytes(&layer.intercept_memory, defaults.intercept_memory),
        document_cache_bytes: bytes(&layer.document_cache, defaults.document_cache_bytes),
        write_memory: bytes(&layer.write_memory, defaults.write_memory),
        identity_ttl: time(&layer.identity_ttl, defaults.identity_ttl, "identity_ttl")?,
        identity_cache: positive(layer.identity_cache, defaults.identity_cache, "identity_cache")?,
        tls_handshake_timeout: time(
            &layer.tls_handshake_timeout,
            defaults.tls_handshake_timeout,
            "tls_handshake_timeout",
        )?,
        connect_timeout: time(&layer.connect_timeout, defaults.connect_timeout, "connect_timeout")?,
        response_timeout: time(&layer.response_timeout, defaults.response_timeout, "response_timeout")?,
        publish_timeout: time(&layer.publish_timeout, defaults.publish_timeout, "publish_timeout")?,
        drain_timeout: layer.drain_timeout.as_ref().map_or(defaults.drain_timeout, |word| word.0.0),
        unspecified_is_ivf: layer.mapping_unspecified.as_ref().is_none_or(|word| word.0 == Unspecified::Ivf),
        security: layer.security.as_ref().map_or(defaults.security, |word| word.0),
        max_in_flight: match layer.max_in_flight {
            Some(0) => bail!("max_in_flight must be at least 1"),
            places => places,
        },
        passed_knn: passed_knn_limits(layer, defaults.passed_knn)?,
        tenants: Arc::new(Tenants::new(tenant_config(layer)).map_err(anyhow::Error::msg)?),
        ..defaults
    })
}

/// Whether who connects there is connected with us.
fn is_us(node: &UpstreamAddress, listen: SocketAddr) -> bool {
    let ours = listen.ip().to_canonical();
    let is_here = match node.host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) => ip == ours || (ours.is_unspecified() && (ip.is_loopback() || ip.is_unspecified())),
        // Other addresses of loopback are other places.
        Err(_) if node.host.eq_ignore_ascii_case("localhost") => {
            ours.is_unspecified() || ours == Ipv4Addr::LOCALHOST || ours == Ipv6Addr::LOCALHOST
        }
        Err(_) => false,
    };
    is_here && node.port == listen.port()
}

fn passed_knn_limits(layer: &Layer, defaults: PassedKnnLimits) -> anyhow::Result<PassedKnnLimits> {
    Ok(PassedKnnLimits {
        concurrency: positive(layer.passed_knn_concurrency, defaults.concurrency, "passed_knn_concurrency")?,
        wait: layer.passed_knn_wait.as_ref().map_or(defaults.wait, |word| word.0.0),
        vectors_per_second: layer.passed_knn_vectors_per_second.unwrap_or(defaults.vectors_per_second),
    })
}

fn tenant_config(layer: &Layer) -> TenantConfig {
    let defaults = TenantConfig::default();
    TenantConfig {
        tenants: layer.tenants.clone().unwrap_or_default(),
        unverified: layer.unverified.clone().unwrap_or_default(),
        header: layer.tenant_header.as_ref().map_or(defaults.header, |word| word.0.0.clone()),
        header_from: layer.tenant_header_from.as_ref().map_or(defaults.header_from, |word| word.0.0.clone()),
    }
}

fn head_limits(layer: &Layer, defaults: HeadLimits) -> anyhow::Result<HeadLimits> {
    let limit = |word: &Option<Word<Bytes>>, default: usize, name: &str| match word {
        // What is read of a head at all is 64 KiB.
        Some(Word(Bytes(bytes))) if !(1 << 10..=48 << 10).contains(bytes) => {
            bail!("{name} must be from 1kb to 48kb")
        }
        Some(Word(Bytes(bytes))) => Ok(*bytes as usize),
        None => Ok(default),
    };
    Ok(HeadLimits {
        max_line_bytes: limit(&layer.max_initial_line, defaults.max_line_bytes, "max_initial_line")?,
        max_header_bytes: limit(&layer.max_header, defaults.max_header_bytes, "max_header")?,
    })
}

fn client_timeouts(layer: &Layer, defaults: ClientTimeouts) -> anyhow::Result<ClientTimeouts> {
    Ok(ClientTimeouts {
        head: time(&layer.client_head_timeout, defaults.head, "client_head_timeout")?,
        body: time(&layer.client_body_timeout, defaults.body, "client_body_timeout")?,
        write: time(&layer.client_write_timeout, defaults.write, "client_write_timeout")?,
    })
}

fn bytes(value: &Option<Word<Bytes>>, default: u64) -> u64 {
    value.as_ref().map_or(default, |word| word.0.0)
}

fn positive(value: Option<usize>, default: usize, name: &str) -> anyhow::Result<usize> {
    match value {
        Some(0) => bail!("{name} must be at least 1"),
        other => Ok(other.unwrap_or(default)),
    }
}

fn time(value: &Option<Word<Time>>, default: Duration, name: &str) -> anyhow::Result<Duration> {
    match value {
        Some(Word(Time(time))) if time.is_zero() => bail!("{name} must be longer than 0"),
        Some(Word(Time(time))) => Ok(*time),
        None => Ok(default),
    }
}
