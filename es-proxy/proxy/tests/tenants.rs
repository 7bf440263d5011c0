//! Tenants and their limits, seen from both ends of the wire.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{NoCluster, Upstream, proxy_on, proxy_with, read_response, send};
use es_proxy::{Mode, Modes, ProxyConfig, TenantConfig, Tenants};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const OK: &str = "HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// Tenants as JSON; the header counts from here.
fn tenants(text: &'static str) -> impl FnOnce(&mut ProxyConfig) {
    move |config| config.tenants = Arc::new(Tenants::new(tenant_config(text)).unwrap())
}

fn tenant_config(text: &str) -> TenantConfig {
    let header_from = vec!["127.0.0.0/8".parse().unwrap()];
    TenantConfig { tenants: serde_json::from_str(text).unwrap(), header_from, ..TenantConfig::default() }
}

fn get(tenant: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: es\r\nX-Tenant-Id: {tenant}\r\nX-Opaque-Id: mine\r\n\r\n")
}

#[tokio::test]
async fn a_request_too_many_is_refused_as_elasticsearch_does_and_never_sent() {
    let upstream = Upstream::answering(OK).await;
    let text = r#"{"a":{"headers":["a"],"limits":{"search":{"requests_per_second":0.01,"burst":2}}},"b":{"headers":["b"]}}"#;
    let proxy = proxy_with(upstream.address, tenants(text)).await;
    for _ in 0..2 {
        assert!(send(proxy, &get("a", "/i/_search")).await.starts_with("HTTP/1.1 200"));
        upstream.request().await;
    }
    let refused = send(proxy, &get("a", "/i/_search")).await;
    assert!(refused.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{refused}");
    let lower = refused.to_lowercase();
    for header in [
        "x-elastic-product: elasticsearch",
        "x-opaque-id: mine",
        "content-type: application/json",
        "retry-after: 50",
    ] {
        assert!(lower.contains(header), "{header}: {refused}");
    }
    let reason = "rejected execution of search request of tenant [a]: requests_per_second=0.01";
    let cause = format!(r#""type":"es_rejected_execution_exception","reason":"{reason}""#);
    let body = format!(r#"{{"error":{{"root_cause":[{{{cause}}}],{cause}}},"status":429}}"#);
    assert!(refused.ends_with(&format!("\r\n\r\n{body}")), "{refused}");

    // Other classes, other tenants, nobody's: all are served, and what arrives next is theirs.
    for (tenant, path) in [("a", "/_cluster/health"), ("b", "/i/_search"), ("nobody", "/i/_search")] {
        assert!(send(proxy, &get(tenant, path)).await.starts_with("HTTP/1.1 200"), "{tenant} {path}");
        assert!(upstream.request().await.starts_with(&format!("GET {path}")));
    }
}

#[tokio::test]
async fn a_refused_body_is_read_to_its_end_so_that_the_connection_goes_on() {
    let upstream = Upstream::answering(OK).await;
    let text = r#"{"a":{"headers":["a"],"limits":{"bulk":{"requests_per_second":0.01,"burst":1}}}}"#;
    let proxy = proxy_with(upstream.address, tenants(text)).await;
    let mut client = TcpStream::connect(proxy).await.unwrap();
    // Lines: what is no more than a body must not be taken for the next head.
    let body = "{\"index\":{}}\n{\"a\":1}\n".repeat(150_000);
    let bulk = format!(
        "POST /_bulk HTTP/1.1\r\nHost: es\r\nX-Tenant-Id: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    for (number, status) in ["200", "429", "429"].into_iter().enumerate() {
        client.write_all(bulk.as_bytes()).await.unwrap();
        // As clients do: all of the body, and only then the answer.
        client.write_all(body.as_bytes()).await.unwrap();
        let answer = read_response(&mut client).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{number}: {answer}");
    }
    client.write_all(get("a", "/").as_bytes()).await.unwrap();
    assert!(read_response(&mut client).await.starts_with("HTTP/1.1 200"));

    // Who asks before it sends is told at once.
    let asking = bulk.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    let mut client = TcpStream::connect(proxy).await.unwrap();
    client.write_all(asking.as_bytes()).await.unwrap();
    assert!(read_response(&mut client).await.starts_with("HTTP/1.1 429"));
}

#[tokio::test]
async fn a_slot_is_held_until_the_response_has_ended_or_its_client_has_gone() {
    let upstream = Upstream::streaming(64 << 20).await;
    let text = r#"{"a":{"headers":["a"],"limits":{"search":{"concurrency":1,"wait":"10s"}}}}"#;
    let proxy = proxy_with(upstream.address, tenants(text)).await;
    let mut slow = TcpStream::connect(proxy).await.unwrap();
    slow.write_all(get("a", "/i/_search").as_bytes()).await.unwrap();
    let mut first = [0; 12];
    slow.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");

    let mut second = TcpStream::connect(proxy).await.unwrap();
    second.write_all(get("a", "/i/_search").as_bytes()).await.unwrap();
    let whoami = send(proxy, &get("a", "/_ivf/_whoami")).await;
    assert!(whoami.contains(r#""left":{"concurrency":0}"#), "{whoami}");
    drop(slow);
    second.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
}

#[tokio::test]
async fn bytes_of_a_stream_are_charged_as_they_pass() {
    let upstream = Upstream::answering(OK).await;
    let text = r#"{"a":{"headers":["a"],"limits":{"bulk":{"bytes_per_second":"1kb"}}},
        "b":{"headers":["b"],"limits":{"bulk":{"cost_per_second":10}}}}"#;
    let proxy = proxy_with(upstream.address, tenants(text)).await;
    let chunk = "{}\n".repeat(1_000);
    let length = format!("{:x}", chunk.len());
    for tenant in ["a", "b"] {
        let head = format!(
            "POST /_bulk HTTP/1.1\r\nHost: es\r\nX-Tenant-Id: {tenant}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let bulk = format!("{head}{length}\r\n{chunk}\r\n0\r\n\r\n");
        assert!(send(proxy, &bulk).await.starts_with("HTTP/1.1 200"), "{tenant}");
        let refused = send(proxy, &bulk).await;
        assert!(refused.starts_with("HTTP/1.1 429"), "{tenant}: {refused}");
        assert!(refused.contains(if tenant == "a" { "bytes_per_second=1kb" } else { "cost_per_second=10" }));
    }
}

#[tokio::test]
async fn each_caller_learns_who_it_is_and_what_is_left() {
    let upstream = Upstream::answering(OK).await;
    let text = r#"{"a":{"headers":["a"],"bound_to":["a-*"],"limits":{"search":{"requests_per_second":0.001,"burst":5},
        "admin":{"requests_per_second":0.001,"burst":1}}},"b":{"indices":["b-*"]}}"#;
    let proxy = proxy_with(upstream.address, tenants(text)).await;
    send(proxy, &get("a", "/i/_search")).await;
    for _ in 0..3 {
        let whoami = send(proxy, &get("a", "/_ivf/_whoami")).await;
        assert!(whoami.starts_with("HTTP/1.1 200"), "{whoami}");
        for part in [
            r#""tenant":"a","rule":"header","source":"file","address":"127.0.0.1","verified":false"#,
            r#""search":{"requests_per_second":0.001,"burst":5,"left":{"requests":4}}"#,
            r#""bound_to":"a-*""#,
        ] {
            assert!(whoami.contains(part), "{part}: {whoami}");
        }
    }
    let nobody = send(proxy, &get("zzz", "/_ivf/_whoami")).await;
    assert!(nobody.contains(r#""tenant":"other","rule":"unknown_header","source":"built_in""#), "{nobody}");
}

#[tokio::test]
async fn callers_nobody_vouches_for_are_limited_by_their_address() {
    let upstream = Upstream::answering(OK).await;
    let proxy = proxy_with(upstream.address, |config| {
        let unverified = r#"{"other":{"requests_per_second":0.001,"burst":2}}"#;
        let unverified = serde_json::from_str(unverified).unwrap();
        config.tenants = Arc::new(Tenants::new(TenantConfig { unverified, ..tenant_config("{}") }).unwrap());
    })
    .await;
    let plain = "GET / HTTP/1.1\r\nHost: es\r\n\r\n";
    for status in ["200", "200", "429"] {
        assert!(send(proxy, plain).await.starts_with(&format!("HTTP/1.1 {status}")));
    }
    let refused = send(proxy, plain).await;
    assert!(refused.contains("of unverified callers, from one address"), "{refused}");
    // Whoever may name tenants answers for what comes through him.
    assert!(send(proxy, &get("x", "/")).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn no_more_than_so_many_are_with_elasticsearch_at_once_and_who_waits_may_give_up() {
    let upstream = Upstream::streaming(64 << 20).await;
    let mut registry = Registry::default();
    let modes = Arc::new(Modes::new(Mode::Serve));
    let proxy = proxy_on(upstream.address, Arc::new(NoCluster), modes, &mut registry, |config| {
        tenants(r#"{"a":{"headers":["a"]},"b":{"headers":["b"],"weight":3}}"#)(config);
        config.max_in_flight = Some(1);
    })
    .await;
    let waiting_are = async |count: usize| {
        let line = format!("outrigger_upstream_waiting {count}\n");
        let mut text = String::new();
        for _ in 0..1_000 {
            text.clear();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            if text.contains(&line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{count} never wait: {text}");
    };
    let mut slow = TcpStream::connect(proxy).await.unwrap();
    slow.write_all(get("a", "/first/_search").as_bytes()).await.unwrap();
    let mut first = [0; 12];
    slow.read_exact(&mut first).await.unwrap();
    assert!(upstream.request().await.starts_with("GET /first"));

    let hurried = get("b", "/hurried/_search").replace("\r\n\r\n", "\r\nX-Outrigger-Timeout: 50ms\r\n\r\n");
    let late = send(proxy, &hurried).await;
    assert!(late.starts_with("HTTP/1.1 504") && late.contains("timeout_exception"), "{late}");
    assert!(
        late.contains("longer than [50ms]") && late.to_lowercase().contains("x-opaque-id: mine"),
        "{late}"
    );

    let mut gone = TcpStream::connect(proxy).await.unwrap();
    gone.write_all(get("a", "/gone/_search").as_bytes()).await.unwrap();
    waiting_are(1).await;
    drop(gone);
    waiting_are(0).await;
    let mut waiting = TcpStream::connect(proxy).await.unwrap();
    waiting.write_all(get("b", "/waiting/_search").as_bytes()).await.unwrap();
    waiting_are(1).await;
    drop(slow);
    waiting.read_exact(&mut first).await.unwrap();
    assert!(upstream.request().await.starts_with("GET /waiting"), "who gave up is not asked for");
}

#[tokio::test]
async fn a_timeout_that_nobody_understands_is_refused_and_one_that_is_understood_stays_here() {
    let upstream = Upstream::answering(OK).await;
    let proxy = proxy_with(upstream.address, |_| {}).await;
    let with =
        |timeout: &str| format!("GET / HTTP/1.1\r\nHost: es\r\nX-Outrigger-Timeout: {timeout}\r\n\r\n");
    let refused = send(proxy, &with("soon")).await;
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("[soon] is no time"), "{refused}");
    assert!(send(proxy, &with("10s")).await.starts_with("HTTP/1.1 200"));
    assert!(!upstream.request().await.to_lowercase().contains("x-outrigger"));
}
