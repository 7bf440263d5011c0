//! What the door costs: identity, tenant and admission of callers whom Elasticsearch knows and who were here
//! before, among 10,000 tenants with limits and 100,000 callers; and how much memory all of them take. Prints
//! one line of JSON. `--quick`: a tenth of both.
//!
//! Elasticsearch is a socket here that knows every user and says which role he has. The doubles of the ports are
//! those of the tests.

#[path = "../tests/common/ports.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, reason = "shared with tests; this uses its part")]
mod ports;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use es_proxy::{
    MeasuredDoor, Mode, Modes, Proxy, ProxyConfig, Telemetry, TenantConfig, TenantSpec, Tenants,
    UpstreamAddress,
};
use ports::{FakeCluster, NoHits};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// As the program itself has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Callers that are asked for again and again; the others are only remembered.
const ACTIVE: usize = 5_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let scale = if std::env::args().any(|arg| arg == "--quick") { 10 } else { 1 };
    let (tenants, principals) = (10_000 / scale, 100_000 / scale);
    let elasticsearch = elasticsearch().await;

    let before = resident();
    let idle = proxy(elasticsearch, BTreeMap::new(), principals);
    let base = resident();
    let proxy = proxy(elasticsearch, specs(tenants), principals);
    let with_tenants = resident();
    let local = tokio::task::LocalSet::new();
    let line = local
        .run_until(async move {
            let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
            let door = MeasuredDoor::new(proxy, peer);
            // Whoever comes first is asked for.
            for number in 0..principals {
                let (let_in, tenant, _) = door.enter(request(number, tenants)).await;
                assert!(let_in, "caller {number} is let in");
                assert_eq!(tenant, name(number % tenants), "caller {number}");
            }
            let with_principals = resident();
            let known = measure(&door, principals, tenants).await;
            let nothing = measure(&MeasuredDoor::new(idle, peer), principals, tenants).await;
            format!(
                "{{\"admission_p50_ns\":{},\"admission_p99_ns\":{},\"unconfigured_p50_ns\":{},\
                 \"tenants\":{tenants},\"principals\":{principals},\"bytes_per_tenant\":{},\
                 \"bytes_per_principal\":{},\"memory_bytes\":{},\"process_bytes\":{with_principals}}}",
                known.0,
                known.1,
                nothing.0,
                with_tenants.saturating_sub(base) / tenants,
                with_principals.saturating_sub(with_tenants) / principals,
                with_principals.saturating_sub(base),
            )
        })
        .await;
    assert!(before <= base);
    println!("{line}");
}

/// Median and 99th percentile of known callers, in nanoseconds.
async fn measure(door: &MeasuredDoor, principals: usize, tenants: usize) -> (u128, u128) {
    let mut took = Vec::with_capacity(ACTIVE * 20);
    for round in 0..20 {
        for each in 0..ACTIVE.min(principals) {
            // Not in the order in which they came.
            let number = (each * 7_919 + round) % principals;
            took.push(door.enter(request(number, tenants)).await.2.as_nanos());
        }
    }
    took.sort_unstable();
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

/// What this process holds in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or_default() * 4096
}

fn name(tenant: usize) -> String {
    format!("tenant-{tenant:05}")
}

/// Tenants told by their role, with limits that nobody reaches here.
fn specs(count: usize) -> BTreeMap<String, Arc<TenantSpec>> {
    let spec = |tenant: usize| {
        let limits = r#"{"requests_per_second":1000000,"concurrency":1000,"cost_per_second":1e9}"#;
        let text = format!(
            r#"{{"roles":["role-{tenant}"],"indices":["{0}-*"],"limits":{{"search":{limits},"knn":{limits},"bulk":{limits}}}}}"#,
            name(tenant)
        );
        (name(tenant), Arc::new(serde_json::from_str(&text).expect("a tenant")))
    };
    (0..count).map(spec).collect()
}

fn request(number: usize, tenants: usize) -> http::Request<()> {
    // The stand-in below reads name and role out of the credentials.
    let request = http::Request::post(format!("/{}-docs/_search", name(number % tenants)))
        .header("authorization", format!("Basic user-{number}/role-{}", number % tenants))
        .header("content-type", "application/json")
        .header("content-length", "120");
    request.body(()).expect("a request")
}

fn proxy(
    elasticsearch: SocketAddr,
    tenants: BTreeMap<String, Arc<TenantSpec>>,
    principals: usize,
) -> Arc<Proxy> {
    let config = ProxyConfig {
        upstream: vec![UpstreamAddress {
            host: elasticsearch.ip().to_string(),
            port: elasticsearch.port(),
            ..ProxyConfig::default().upstream.remove(0)
        }],
        identity_ttl: Duration::from_secs(3_600),
        // The cache makes room before it is full.
        identity_cache: principals + principals / 4,
        tenants: Arc::new(
            Tenants::new(TenantConfig { tenants, ..TenantConfig::default() }).expect("the tenants are fine"),
        ),
        ..ProxyConfig::default()
    };
    let (modes, telemetry) = (Arc::new(Modes::new(Mode::Serve)), Telemetry::new(&mut Registry::default()));
    Arc::new(Proxy::new(config, FakeCluster::empty(), Arc::new(NoHits), Arc::new(NoHits), modes, telemetry))
}

/// Answers who somebody is.
async fn elasticsearch() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(authenticate(stream));
        }
    });
    address
}

async fn authenticate(mut stream: TcpStream) {
    let mut read = Vec::new();
    let mut part = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut part).await {
        read.extend_from_slice(&part[..count]);
        if !read.ends_with(b"\r\n\r\n") {
            continue;
        }
        let head = String::from_utf8_lossy(&read);
        let who = head.split("Basic ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let (user, role) = who.split_once('/').unwrap_or_default();
        let body = format!(
            r#"{{"username":"{user}","roles":["{role}"],"full_name":null,"email":null,"metadata":{{}},"enabled":true,"authentication_realm":{{"name":"native1","type":"native"}},"lookup_realm":{{"name":"native1","type":"native"}},"authentication_type":"realm"}}"#
        );
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        read.clear();
    }
}
