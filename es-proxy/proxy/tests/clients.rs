//! Clients that hold us up, and what becomes of a request that meets a bug: seen from raw sockets.

mod common;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::one_index::{self, Source};
use common::{Recorded, Upstream, metric, proxy_from, proxy_on, read_response, send};
use es_proxy::{BoxFuture, KnnHit, KnnQuestion, KnnSource, KnnUnavailable, Mode, Modes, ProxyConfig};
use es_wire::IndexInfo;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
const ASK: &str = "GET /_cluster/health HTTP/1.1\r\nHost: es\r\n\r\n";
/// Of what clients may take: long enough that a test that waits for its turn is not taken for a slow client.
const LIMIT: Duration = Duration::from_millis(500);

async fn proxy(
    upstream: SocketAddr,
    registry: &mut Registry,
    change: impl FnOnce(&mut ProxyConfig),
) -> SocketAddr {
    let modes = Arc::new(Modes::new(Mode::Serve));
    proxy_on(upstream, one_index::cluster(true), modes, registry, change).await
}

/// Waits for the end of a connection; what came before it.
async fn end_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    let reading = async {
        let mut part = [0; 4096];
        while let Ok(count) = stream.read(&mut part).await {
            if count == 0 {
                break;
            }
            received.extend_from_slice(&part[..count]);
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading).await.expect("the connection ends");
    received
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_and_idle_connections_stay() {
    let upstream = Upstream::answering(OK).await;
    let mut registry = Registry::default();
    let proxy = proxy(upstream.address, &mut registry, |config| config.client_timeouts.head = LIMIT).await;
    let mut idle = TcpStream::connect(proxy).await.unwrap();
    idle.write_all(ASK.as_bytes()).await.unwrap();
    read_response(&mut idle).await;

    let mut slow = TcpStream::connect(proxy).await.unwrap();
    let began = Instant::now();
    slow.write_all(b"GET /_cluster/health HTTP/1.1\r\nX: ").await.unwrap();
    let (mut reading, mut writing) = slow.into_split();
    // One byte now and then does not help.
    let dripping = tokio::spawn(async move {
        while writing.write_all(b"y").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut rest = Vec::new();
    let _ =
        tokio::time::timeout(Duration::from_secs(10), reading.read_to_end(&mut rest)).await.expect("it ends");
    // The clock of a worker moves four times in a limit, or oftener.
    assert!(began.elapsed() >= LIMIT.mul_f32(0.7), "{:?}", began.elapsed());
    dripping.abort();
    assert_eq!(metric(&registry, "outrigger_connections_ended_total{reason=\"head_timeout\"}"), 1);

    // Far older than any limit by now.
    tokio::time::sleep(LIMIT * 3).await;
    idle.write_all(ASK.as_bytes()).await.unwrap();
    assert!(read_response(&mut idle).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_body_that_stops_coming_is_cut() {
    let upstream = Upstream::answering(OK).await;
    let mut registry = Registry::default();
    let proxy = proxy(upstream.address, &mut registry, |config| config.client_timeouts.body = LIMIT).await;
    for path in ["/i/_search", "/_cluster/reroute", "/_bulk"] {
        let mut client = TcpStream::connect(proxy).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: es\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
        );
        client.write_all(head.as_bytes()).await.unwrap();
        assert!(end_of(&mut client).await.is_empty(), "{path}");
    }
    assert_eq!(metric(&registry, "outrigger_connections_ended_total{reason=\"body_timeout\"}"), 3);
    assert_eq!(metric(&registry, "outrigger_intercepted_bytes"), 0, "what was read of them is gone");
}

#[tokio::test]
async fn a_body_that_nobody_needs_and_that_stops_coming_is_cut() {
    let upstream = Upstream::answering(OK).await;
    let mut registry = Registry::default();
    let proxy = proxy(upstream.address, &mut registry, |config| {
        config.client_timeouts.body = LIMIT;
        config.max_body_bytes = 1_000;
    })
    .await;
    let mut client = TcpStream::connect(proxy).await.unwrap();
    let head = "POST /_bulk HTTP/1.1\r\nHost: es\r\nContent-Length: 1500\r\n\r\nx";
    client.write_all(head.as_bytes()).await.unwrap();
    assert!(read_response(&mut client).await.starts_with("HTTP/1.1 413 "));
    assert!(end_of(&mut client).await.is_empty());
    assert_eq!(metric(&registry, "outrigger_connections_ended_total{reason=\"body_timeout\"}"), 1);
}

#[tokio::test]
async fn a_response_that_nobody_takes_is_cut_and_one_that_is_late_is_not() {
    let mut registry = Registry::default();
    let upstream = Upstream::streaming(256 << 20).await;
    let proxy = proxy(upstream.address, &mut registry, |config| config.client_timeouts.write = LIMIT).await;
    let mut client = TcpStream::connect(proxy).await.unwrap();
    client.write_all(ASK.as_bytes()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), upstream.closed()).await.expect("the upstream is let go");
    assert_eq!(metric(&registry, "outrigger_connections_ended_total{reason=\"write_timeout\"}"), 1);

    // Elasticsearch may take longer than any client may.
    let silent = Upstream::answering("").await;
    let mut registry = Registry::default();
    let all = |config: &mut ProxyConfig| {
        config.client_timeouts.head = LIMIT;
        config.client_timeouts.body = LIMIT;
        config.client_timeouts.write = LIMIT;
        config.response_timeout = LIMIT * 4;
    };
    let proxy = self::proxy(silent.address, &mut registry, all).await;
    assert!(send(proxy, ASK).await.starts_with("HTTP/1.1 504"));
}

#[tokio::test]
async fn the_oldest_idle_connections_make_room_for_new_ones() {
    let upstream = Upstream::answering(OK).await;
    let mut registry = Registry::default();
    let proxy = proxy(upstream.address, &mut registry, |config| config.max_connections = 8).await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        let mut client = TcpStream::connect(proxy).await.unwrap();
        client.write_all(ASK.as_bytes()).await.unwrap();
        read_response(&mut client).await;
        idle.push(client);
    }
    for _ in 0..20 {
        assert!(send(proxy, ASK).await.starts_with("HTTP/1.1 200"));
    }
    assert!(end_of(&mut idle[0]).await.is_empty(), "the oldest one made room");
    assert!(metric(&registry, "outrigger_connections_ended_total{reason=\"made_room\"}") >= 1);
}

#[tokio::test]
async fn bodies_together_hold_no_more_than_they_may() {
    let upstream = Upstream::answering(OK).await;
    let mut registry = Registry::default();
    let proxy = proxy(upstream.address, &mut registry, |config| config.intercept_memory = 1 << 10).await;
    let body = format!("{{\"query\":{{\"match\":{{\"t\":\"{}\"}}}}}}", "x".repeat(100_000));
    let request = format!(
        "POST /i/_search HTTP/1.1\r\nHost: es\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert!(send(proxy, &request).await.starts_with("HTTP/1.1 200"), "it passes unread");
    assert!(upstream.request().await.ends_with(&body));
    assert_eq!(
        metric(&registry, "outrigger_requests_total{route=\"search\",way=\"pass\",reason=\"body_not_read\"}"),
        1
    );
    assert_eq!(metric(&registry, "outrigger_intercepted_bytes"), 0);
}

#[tokio::test]
async fn a_body_that_inflates_without_end_is_left_to_elasticsearch() {
    let upstream = Recorded::answering(OK.as_bytes().to_vec()).await;
    let mut registry = Registry::default();
    let proxy = proxy(upstream.address, &mut registry, |config| config.workers = 1).await;
    // 256 MB in a quarter of one: far more than is ever read.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let blanks = vec![b' '; 1 << 20];
    for _ in 0..256 {
        bomb.write_all(&blanks).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    let head = format!(
        "POST /i/_search HTTP/1.1\r\nHost: es\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        bomb.len()
    );
    let mut client = TcpStream::connect(proxy).await.unwrap();
    client.write_all(&[head.as_bytes(), &bomb].concat()).await.unwrap();
    // Its worker has others to serve meanwhile.
    let mut neighbour = TcpStream::connect(proxy).await.unwrap();
    neighbour.write_all(b"GET /_ivf/nowhere/at/all HTTP/1.1\r\nHost: es\r\n\r\n").await.unwrap();
    let answer = read_response(&mut neighbour).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert!(read_response(&mut client).await.starts_with("HTTP/1.1 200"));
    assert!(upstream.request().await.ends_with(&bomb), "Elasticsearch gets the bytes as they are");
    let unread = "outrigger_requests_total{route=\"search\",way=\"pass\",reason=\"body_not_read\"}";
    assert_eq!(metric(&registry, unread), 1);
    assert_eq!(metric(&registry, "outrigger_intercepted_bytes"), 0, "what was inflated is gone");
}

#[tokio::test]
async fn a_long_body_means_what_a_short_one_does() {
    let upstream = Upstream::answering(OK).await;
    let modes = Arc::new(Modes::new(Mode::Serve));
    let (cluster, source) = (one_index::cluster(true), Arc::new(Source::default()));
    let proxy = proxy_from(upstream.address, cluster, source, modes, &mut Registry::default(), |_| {}).await;
    let answer = async |padding: usize| {
        let knn = r#""knn":{"field":"v","query_vector":[1,2],"k":1,"num_candidates":1}"#;
        let body = format!("{{{knn},{}\"_source\":false}}", " ".repeat(padding));
        let request = format!(
            "POST /i/_search HTTP/1.1\r\nHost: es\r\nContent-Type: application/json\r\nX-Outrigger-Explain: 1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = send(proxy, &request).await;
        assert!(answer.contains("answer; reason=ok"), "{answer}");
        answer.split("\"hits\"").skip(1).collect::<String>()
    };
    assert_eq!(answer(1).await, answer(1 << 20).await);
}

/// Has a bug.
struct Broken;

impl KnnSource for Broken {
    fn knn<'a>(&'a self, _: KnnQuestion<'a>) -> BoxFuture<'a, Result<Vec<KnnHit>, KnnUnavailable>> {
        Box::pin(async { panic!("a bug") })
    }
    fn vectors(&self, _: &IndexInfo, _: &str) -> u64 {
        0
    }
}

#[tokio::test]
async fn a_panic_ends_one_request_and_is_counted() {
    let upstream = Upstream::answering(OK).await;
    let mut registry = Registry::default();
    let modes = Arc::new(Modes::new(Mode::Serve));
    let one_worker = |config: &mut ProxyConfig| config.workers = 1;
    let proxy = proxy_from(
        upstream.address,
        one_index::cluster(true),
        Arc::new(Broken),
        modes,
        &mut registry,
        one_worker,
    )
    .await;
    let body = r#"{"knn":{"field":"v","query_vector":[1,2],"k":1,"num_candidates":1},"_source":false}"#;
    let search = format!(
        "POST /i/_search HTTP/1.1\r\nHost: es\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut neighbour = TcpStream::connect(proxy).await.unwrap();
    for round in 1..=3 {
        let mut client = TcpStream::connect(proxy).await.unwrap();
        client.write_all(search.as_bytes()).await.unwrap();
        let answer = String::from_utf8(end_of(&mut client).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("\"status\":500"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        assert_eq!(metric(&registry, "outrigger_panics_total"), round);
        assert_eq!(metric(&registry, "outrigger_in_flight"), 0);
        neighbour.write_all(ASK.as_bytes()).await.unwrap();
        assert!(
            read_response(&mut neighbour).await.starts_with("HTTP/1.1 200"),
            "others are served as before"
        );
    }
}

/// Elasticsearch takes one value of these headers and one expectation; whoever answers by himself must not be laxer.
#[tokio::test]
async fn what_elasticsearch_refuses_by_its_headers_is_not_answered_here() {
    let upstream = Upstream::answering(OK).await;
    let modes = Arc::new(Modes::new(Mode::Serve));
    let (cluster, source) = (one_index::cluster(true), Arc::new(Source::default()));
    let proxy = proxy_from(upstream.address, cluster, source, modes, &mut Registry::default(), |_| {}).await;
    let body = r#"{"knn":{"field":"v","query_vector":[1,2],"k":1,"num_candidates":1},"_source":false}"#;
    for (headers, way) in [
        ("", "answer; reason=ok"),
        ("X-Opaque-Id: a\r\nx-opaque-id: a\r\n", "answer; reason=ok"),
        ("Cookie: a\r\nCookie: b\r\n", "answer; reason=ok"),
        ("X-Opaque-Id: a\r\nx-opaque-id: b\r\n", "pass; reason=headers"),
        ("Traceparent: a\r\ntraceparent: b\r\n", "pass; reason=headers"),
        ("tracestate: a=b\r\ntracestate: a=b\r\ntracestate: c=d\r\n", "pass; reason=headers"),
        ("X-elastic-product-origin: kibana\r\nX-Elastic-Product-Origin: b\r\n", "pass; reason=headers"),
        ("Expect: 200-ok\r\n", "pass; reason=headers"),
        ("Expect:\r\n", "pass; reason=headers"),
    ] {
        let request = format!(
            "POST /i/_search HTTP/1.1\r\nHost: es\r\nContent-Type: application/json\r\nX-Outrigger-Explain: 1\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = send(proxy, &request).await;
        assert!(answer.contains(&format!("x-outrigger: {way}\r\n")), "{headers}: {answer}");
        if way.starts_with("pass") {
            let seen = upstream.request().await;
            assert!(seen.contains(headers), "{seen}");
        }
    }
}
