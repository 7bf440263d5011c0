//! Tenants and their limits, seen from both ends of the wire.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::ports::FakeCluster;
use common::{Upstream, metrics, proxy_on, proxy_with, read_response, send};
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
async fn a_bulk_of_a_helper_that_sends_items_again_is_refused_item_by_item() {
    let upstream = Upstream::answering(OK).await;
    let text = r#"{"a":{"headers":["a"],"limits":{"bulk":{"requests_per_second":0.01,"burst":1}}}}"#;
    let proxy = proxy_with(upstream.address, tenants(text)).await;
    let javascript = "es=9.4.3,js=20.0.0,t=9.4.0,hc=20.0.0,h=bp";
    let python = "es=9.5.1,py=3.11.7,t=9.4.2,ur=2.8.0,h=bp";
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let ask = async |client: &mut TcpStream, meta: &str, more: &str, body: &[u8]| {
        let head = format!(
            "POST /i/_bulk HTTP/1.1\r\nHost: es\r\nX-Tenant-Id: a\r\nContent-Type: application/x-ndjson\r\n\
             X-Elastic-Client-Meta: {meta}\r\n{more}Content-Length: {}\r\n\r\n",
            body.len()
        );
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(body).await.unwrap();
        read_response(client).await
    };
    let lines = "{\"index\":{\"_id\":\"1\"}}\n{\"a\":1}\n\n{\"delete\":{\"_index\":\"x\",\"_id\":2}}\n{\"create\":{}}\n{}\n";
    let mut client = TcpStream::connect(proxy).await.unwrap();
    let admitted = ask(&mut client, javascript, "", lines.as_bytes()).await;
    assert!(admitted.starts_with("HTTP/1.1 200") && admitted.ends_with("{}"), "{admitted}");

    let error = r#""status":429,"error":{"type":"es_rejected_execution_exception","reason":"rejected execution of bulk request of tenant [a]: requests_per_second=0.01"}"#;
    let items = format!(
        r#"{{"errors":true,"took":0,"items":[{{"index":{{"_index":"i","_id":"1",{error}}}}},{{"delete":{{"_index":"x","_id":"2",{error}}}}},{{"create":{{"_index":"i","_id":null,{error}}}}}]}}"#
    );
    let zipped = gzip(lines);
    for (more, body) in [("", lines.as_bytes()), ("Content-Encoding: gzip\r\n", &zipped)] {
        let refused = ask(&mut client, javascript, more, body).await;
        assert!(refused.starts_with("HTTP/1.1 200 OK\r\n"), "{refused}");
        assert!(refused.to_lowercase().contains("\r\nretry-after: "), "{refused}");
        assert!(refused.ends_with(&format!("\r\n\r\n{items}")), "{refused}");
    }

    // Whoever sends requests again gets that; so does what cannot be told apart, or is too much to be told.
    let many = "{\"delete\":{\"_id\":\"1\"}}\n".repeat(30_000);
    let empty = "\n".repeat(33 << 20);
    let bomb = gzip(&"\n".repeat(64 << 20));
    for (meta, more, body) in [
        (python, "", lines.as_bytes()),
        (javascript, "Accept: application/yaml\r\n", lines.as_bytes()),
        (javascript, "Content-Encoding: zstd\r\n", lines.as_bytes()),
        (javascript, "Content-Encoding: gzip\r\n", lines.as_bytes()),
        (javascript, "Content-Encoding: gzip\r\n", &zipped[..zipped.len() - 8]),
        (javascript, "Content-Encoding: gzip\r\n", &bomb),
        (javascript, "", b"{\"index\":{}}\n{}\n{\"index\":{}}\n"),
        (javascript, "", b"{\"index\":{}}\n{}\nno action\n"),
        (javascript, "", b"\n\n"),
        (javascript, "", b""),
        (javascript, "", many.as_bytes()),
        (javascript, "", empty.as_bytes()),
    ] {
        let mut client = TcpStream::connect(proxy).await.unwrap();
        let refused = ask(&mut client, meta, more, body).await;
        assert!(refused.starts_with("HTTP/1.1 429 "), "{more} {} bytes: {refused}", body.len());
    }

    // A body that ends early leaves nothing behind.
    let mut cut = TcpStream::connect(proxy).await.unwrap();
    let head = format!(
        "POST /_bulk HTTP/1.1\r\nHost: es\r\nX-Tenant-Id: a\r\nContent-Type: application/json\r\nX-Elastic-Client-Meta: {javascript}\r\nContent-Length: 99\r\n\r\n{{\"index\""
    );
    cut.write_all(head.as_bytes()).await.unwrap();
    drop(cut);
    let again = ask(&mut client, javascript, "", lines.as_bytes()).await;
    assert!(again.ends_with(&items), "{again}");
    upstream.request().await;
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

/// A bulk response with so many items that were indexed.
fn indexed(count: usize) -> &'static str {
    let items = vec![r#"{"index":{"_index":"i","status":201}}"#; count].join(",");
    let body = format!(r#"{{"errors":false,"took":3,"items":[{items}]}}"#);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
    format!("{head} {}\r\n\r\n{body}", body.len()).leak()
}

#[tokio::test]
async fn a_bulk_goes_as_far_as_its_limit_and_what_is_beyond_is_refused_item_by_item() {
    // A second's worth at once, ten seconds' worth that may be owed, and the one that goes over it.
    let upstream = Upstream::answering(indexed(12)).await;
    let text = r#"{"a":{"headers":["a"],"limits":{"bulk":{"cost_per_second":1}}}}"#;
    let proxy = proxy_with(upstream.address, tenants(text)).await;
    let lines: String =
        (0..20).map(|id| format!("{{\"index\":{{\"_id\":\"{id}\"}}}}\n{{\"n\":{id}}}\n")).collect();
    let bulk = |content_type: &str| {
        format!(
            "POST /i/_bulk HTTP/1.1\r\nHost: es\r\nX-Tenant-Id: a\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\n\r\n{lines}",
            lines.len()
        )
    };
    let answer = send(proxy, &bulk("application/x-ndjson")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""errors":true"#), "{answer}");
    let sent = upstream.request().await;
    assert!(sent.contains(r#""_id":"11""#) && !sent.contains(r#""_id":"12""#), "{sent}");
    assert_eq!(answer.matches(r#""status":201"#).count(), 12, "{answer}");
    assert_eq!(answer.matches(r#""status":429"#).count(), 8, "{answer}");
    let reason = "rejected execution of bulk request of tenant [a]: cost_per_second=1";
    let error = format!(r#""error":{{"type":"es_rejected_execution_exception","reason":"{reason}"}}"#);
    assert_eq!(answer.matches(&error).count(), 8, "{answer}");
    for id in 12..20 {
        assert!(answer.contains(&format!(r#""_id":"{id}""#)), "{id}: {answer}");
    }
    // While something is owed a request is refused whole, by its head.
    let refused = send(proxy, &bulk("application/x-ndjson")).await;
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert!(refused.to_lowercase().contains("retry-after: 11"), "{refused}");
}

#[tokio::test]
async fn a_bulk_whose_items_cannot_be_told_apart_is_charged_as_it_passes() {
    let upstream = Upstream::answering(OK).await;
    let text = r#"{"a":{"headers":["a"],"limits":{"bulk":{"cost_per_second":1}}},"b":{"headers":["b"],"limits":{"bulk":{"cost_per_second":1}}},
        "c":{"headers":["c"],"limits":{"bulk":{"cost_per_second":1}}},"d":{"headers":["d"],"limits":{"bulk":{"cost_per_second":1}}}}"#;
    let proxy = proxy_with(upstream.address, tenants(text)).await;
    let lines = "{}\n{}\n".repeat(100);
    // Paths that Elasticsearch's router takes for a bulk, too.
    for (tenant, path) in [("a", "/i/_bulk"), ("b", "//_bulk"), ("c", "/%ff/_bulk//"), ("d", "/i/type/_bulk")]
    {
        let bulk = format!(
            "POST {path} HTTP/1.1\r\nHost: es\r\nX-Tenant-Id: {tenant}\r\nContent-Type: application/smile\r\n\
             Content-Length: {}\r\n\r\n{lines}",
            lines.len()
        );
        assert!(send(proxy, &bulk).await.starts_with("HTTP/1.1 200"), "{path}");
        assert!(upstream.request().await.ends_with(&lines), "{path}");
        let refused = send(proxy, &bulk).await;
        assert!(refused.starts_with("HTTP/1.1 429"), "{path}: {refused}");
        assert!(refused.contains("cost_per_second=1"), "{path}: {refused}");
    }
}

/// One that floods is refused by its own limits, and others of the same tenant are served.
#[tokio::test]
async fn an_address_that_floods_uses_up_nothing_of_its_tenant() {
    let upstream = Upstream::answering(OK).await;
    let proxy = proxy_with(upstream.address, |config| {
        let text = r#"{"default":{"limits":{"search":{"requests_per_second":0.01,"burst":3,"bytes_per_second":"1kb"}}}}"#;
        let unverified = serde_json::from_str(r#"{"search":{"requests_per_second":0.01,"burst":1}}"#).unwrap();
        let config_of_tenants = TenantConfig { unverified, ..tenant_config(text) };
        config.tenants = Arc::new(Tenants::new(config_of_tenants).unwrap());
    })
    .await;
    let search = format!(
        "POST /i/_search HTTP/1.1\r\nHost: es\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{{{}}}",
        " ".repeat(898)
    );
    let from = async |address: [u8; 4]| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        let mut client = socket.connect(proxy).await.unwrap();
        client.write_all(search.as_bytes()).await.unwrap();
        read_response(&mut client).await
    };
    assert!(from([127, 0, 0, 1]).await.starts_with("HTTP/1.1 200"));
    for _ in 0..10 {
        let refused = from([127, 0, 0, 1]).await;
        assert!(refused.contains("unverified callers, from one address: requests_per_second"), "{refused}");
    }
    let served = from([127, 0, 0, 2]).await;
    assert!(served.starts_with("HTTP/1.1 200"), "{served}");
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
    // Errors are laid out as Elasticsearch's are, also where something is held of limits.
    let laid_out = send(proxy, &get("zzz", "/_ivf/a/b/c?pretty")).await;
    assert!(laid_out.contains("\r\n\r\n{\n  \"error\" : \"no handler found"), "{laid_out}");
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
    let proxy = proxy_on(upstream.address, FakeCluster::empty(), modes, &mut registry, |config| {
        tenants(r#"{"a":{"headers":["a"]},"b":{"headers":["b"],"weight":3}}"#)(config);
        config.max_in_flight = Some(1);
    })
    .await;
    let waiting_are = async |count: usize| {
        let line = format!("outrigger_upstream_waiting {count}\n");
        for _ in 0..1_000 {
            if metrics(&registry).contains(&line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{count} never wait: {}", metrics(&registry));
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
