//! Builds every part, in dependency order, and takes them down in the other order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use console::Console;
use es_proxy::{AuditLog, FairGate, GateMetrics, Ledger, Modes, Proxy, Server, Telemetry};
use ivf_index::{Engine, EngineConfig};
use prometheus_client::registry::Registry;
use shard_sync::Sync;
use tokio::signal::unix::{SignalKind, signal};

use crate::adapters::{Admin, ClusterOfSync, EngineSource, UpstreamSource};
use crate::bootstrap::Bootstrap;
use crate::config::Config;
use crate::gauges::Gauges;
use crate::live_recall::LiveRecall;
use crate::tenants;

/// How often certificate files are looked at; Kubernetes takes up to a minute to change them.
const CERTIFICATES_INTERVAL: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT.
pub(crate) fn serve(config: Config) -> anyhow::Result<()> {
    let listener = es_proxy::bind(config.proxy.listen)
        .with_context(|| format!("cannot listen on {} (listen)", config.proxy.listen))?;
    let admin_listener = es_proxy::bind(config.admin_listen)
        .with_context(|| format!("cannot listen on {} (admin_listen)", config.admin_listen))?;
    // The feed and the admin port; requests are served by the proxy's own workers.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("node")
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let result = runtime.block_on(run(config, listener, admin_listener));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn run(
    config: Config,
    listener: std::net::TcpListener,
    admin_listener: std::net::TcpListener,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let (listen, admin_listen) = (listener.local_addr()?, admin_listener.local_addr()?);

    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let mut registry = Registry::default();
    config.tls.metrics.register(&mut registry);
    let reloading = es_tls::watch(config.tls.reloaded(), CERTIFICATES_INTERVAL);
    let engine = EngineConfig {
        data_dir: Some(config.data_dir.clone()),
        memory_budget: config.memory_budget,
        hold_bytes: config.hold_memory,
        ..EngineConfig::default()
    };
    let engine = Arc::new(Engine::open(engine).context("cannot open the engine")?);
    let upstream_source = UpstreamSource::new(&config.sync).context("cannot build an HTTP client")?;
    let sync = Sync::start(config.sync.clone(), engine.clone(), &mut registry);
    let bootstrap = Arc::new(Bootstrap::new(&config, sync.openness(), &mut registry));
    let modes = Arc::new(Modes::new(config.mode));
    let telemetry = Telemetry::new(&mut registry);
    let audit = config.audit_log.map(|target| {
        AuditLog::start(target, config.audit_events, &listen.to_string(), &mut registry).map(Arc::new)
    });
    let audit = audit.transpose().context("cannot open the audit log (audit_log)")?;
    config.proxy.tenants.register(&mut registry);
    let gauges = Gauges::register(&mut registry, engine);
    let ledger = Ledger::new(&mut registry);

    let cluster = ClusterOfSync { sync: Arc::clone(&sync), publish_timeout: config.proxy.publish_timeout };
    let live_recall = Arc::new(LiveRecall::new());
    let threads = FairGate::new(config.proxy.workers, GateMetrics::new(&mut registry, "engine"));
    let engine_source =
        EngineSource::new(Arc::clone(&sync), threads, Arc::clone(&live_recall), config.strict);
    let upstream = config.proxy.upstream.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let tenants = Arc::clone(&config.proxy.tenants);
    let store = tenants::start(Arc::clone(&sync), tenants, Arc::clone(&ledger), config.tenant_intervals);
    let admin_token = config.admin_token.map(|token| token.expose().to_owned());
    let proxy = Proxy::new(
        config.proxy,
        Arc::new(cluster),
        Arc::new(engine_source),
        Arc::new(upstream_source),
        Arc::clone(&modes),
        telemetry,
    )
    .with_audit(audit.clone())
    .with_tenants(ledger, store, admin_token.clone());
    let server = Server::start(Arc::new(proxy), listener).context("cannot start workers")?;
    let admin =
        Admin { sync: Arc::clone(&sync), modes, gauges, live_recall, bootstrap: Arc::clone(&bootstrap) };
    let console = Console::new(Arc::new(admin), registry, admin_token);
    let console = tokio::spawn(console.serve(admin_listener, config.tls.admin));
    tracing::info!(%listen, %admin_listen, upstream, version = env!("CARGO_PKG_VERSION"), "serving");

    let mut checks = std::pin::pin!(bootstrap.follow());
    let outcome = loop {
        tokio::select! {
            _ = terminate.recv() => break Ok("SIGTERM"),
            _ = interrupt.recv() => break Ok("SIGINT"),
            error = &mut checks => break Err(error),
            _ = hangup.recv() => audit.iter().for_each(|audit| audit.reopen()),
        }
    };
    match &outcome {
        Ok(signal) => tracing::info!(signal, "stopping: requests in flight may finish"),
        Err(error) => tracing::error!("{error:#}"),
    }
    server.shutdown().await;
    sync.shutdown().await;
    console.abort();
    reloading.abort();
    if let Some(audit) = audit {
        audit.close();
    }
    tracing::info!("stopped");
    outcome.map(drop)
}
