//! Passing through, seen from both ends of the wire: a raw client socket on one side, a raw upstream
//! socket on the other, the real request path between them and fakes behind its ports.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::listener::Listener;
use common::{Upstream, proxy_to, proxy_with, read_message, read_response, send};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;

const OK: &str = "HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

#[tokio::test]
async fn request_and_response_cross_unchanged() {
    let upstream = Upstream::answering(OK).await;
    let proxy = proxy_to(upstream.address).await;
    let answer = send(proxy, "GET /a/_doc/1?x=%2F&y=+ HTTP/1.1\r\nHost: es\r\nX-Opaque-Id: Me\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("X-elastic-product: Elasticsearch\r\n"), "header case is kept: {answer}");
    assert!(answer.ends_with("\r\n\r\n{}"), "{answer}");
    let seen = upstream.request().await;
    assert!(seen.starts_with("GET /a/_doc/1?x=%2F&y=+ HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("Host: es\r\n") && seen.contains("X-Opaque-Id: Me\r\n"), "{seen}");
}

#[tokio::test]
async fn while_elasticsearch_may_be_open_to_everybody_nothing_passes() {
    let upstream = Upstream::answering(OK).await;
    let held_back = Arc::new(AtomicBool::new(true));
    let proxy = proxy_with(upstream.address, |config| config.held_back = Arc::clone(&held_back)).await;
    for path in ["/", "/a/_search", "/_ivf/_whoami", "/_bulk"] {
        let answer = send(proxy, &format!("GET {path} HTTP/1.1\r\nHost: es\r\n\r\n")).await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("not answered yet"),
            "{path}: {answer}"
        );
    }
    assert_eq!(upstream.connections(), 0);
    held_back.store(false, Ordering::Relaxed);
    assert!(send(proxy, "GET / HTTP/1.1\r\nHost: es\r\n\r\n").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn hop_by_hop_headers_stay_on_their_hop() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let proxy = proxy_to(upstream.address).await;
    let request = "GET / HTTP/1.1\r\nHost: es\r\nConnection: X-Mine\r\nX-Mine: 1\r\nTE: trailers\r\nKeep-Alive: 1\r\n\r\n";
    let answer = send(proxy, request).await;
    assert!(!answer.to_lowercase().contains("x-hop") && !answer.contains("timeout=5"), "{answer}");
    let seen = upstream.request().await;
    assert!(!seen.contains("Connection") && !seen.contains("TE:") && !seen.contains("Keep-Alive"), "{seen}");
    // What else a client names there stays, or it could take away what says whose request it is.
    assert!(seen.contains("X-Mine: 1"), "{seen}");
}

#[tokio::test]
async fn bodies_keep_their_framing() {
    for chunks in ["", "3\r\nabc\r\n", "3\r\nabc\r\n2\r\nde\r\n", "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n"] {
        let response = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
        let upstream = Upstream::answering(response.leak()).await;
        let proxy = proxy_to(upstream.address).await;
        let fixed = "POST /_bulk HTTP/1.1\r\nHost: es\r\nContent-Length: 5\r\n\r\nhello";
        let answer = send(proxy, fixed).await;
        assert!(answer.to_lowercase().contains("transfer-encoding: chunked"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{chunks}0\r\n\r\n")), "{answer}");
        let seen = upstream.request().await;
        assert!(seen.contains("Content-Length: 5\r\n") && seen.ends_with("\r\n\r\nhello"), "{seen}");
    }

    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let proxy = proxy_to(upstream.address).await;
    let in_chunks = "POST /_bulk HTTP/1.1\r\nHost: es\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    send(proxy, in_chunks).await;
    let seen = upstream.request().await;
    assert!(seen.to_lowercase().contains("transfer-encoding: chunked"), "{seen}");
}

#[tokio::test]
async fn head_and_get_with_body_and_no_content() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 123\r\n\r\n").await;
    let proxy = proxy_to(upstream.address).await;
    let answer = send(proxy, "HEAD /a HTTP/1.1\r\nHost: es\r\n\r\n").await;
    assert!(answer.contains("content-length: 123") && answer.ends_with("\r\n\r\n"), "{answer}");

    let upstream = Upstream::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let proxy = proxy_to(upstream.address).await;
    let answer = send(proxy, "GET /a HTTP/1.1\r\nHost: es\r\nContent-Length: 2\r\n\r\n{}").await;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert!(upstream.request().await.ends_with("\r\n\r\n{}"));
}

#[tokio::test]
async fn continue_is_sent_before_the_body() {
    let upstream = Upstream::answering(OK).await;
    let proxy = proxy_to(upstream.address).await;
    let mut client = TcpStream::connect(proxy).await.unwrap();
    let head = "POST /a/_doc HTTP/1.1\r\nHost: es\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    client.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"{}").await.unwrap();
    assert!(read_response(&mut client).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn bodies_over_the_limit_get_413_as_from_elasticsearch() {
    let upstream = Upstream::answering(OK).await;
    let proxy = proxy_with(upstream.address, |config| config.max_body_bytes = 10).await;
    let declared = send(proxy, "POST /_bulk HTTP/1.1\r\nHost: es\r\nContent-Length: 11\r\n\r\n").await;
    assert!(declared.starts_with("HTTP/1.1 413") && declared.contains("content-length: 0"), "{declared}");
    let grown =
        "POST /_bulk HTTP/1.1\r\nHost: es\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n";
    let grown = send(proxy, grown).await;
    assert!(grown.starts_with("HTTP/1.1 413"), "{grown}");
}

#[tokio::test]
async fn an_upstream_that_is_down_is_503_and_back_is_back() {
    let upstream = Upstream::answering(OK).await;
    let address = upstream.address;
    drop(upstream);
    let proxy = proxy_to(address).await;
    let answer = send(proxy, "GET /a HTTP/1.1\r\nHost: es\r\nX-Opaque-Id: me\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(
        answer.contains("\"type\":\"connect_exception\"") && answer.contains("\"status\":503"),
        "{answer}"
    );
    assert!(answer.contains("me\r\n"), "the opaque id is echoed: {answer}");
    for (query, laid_out) in [("pretty", true), ("x=1;pretty=true", true), ("pretty=false", false)] {
        let answer = send(proxy, &format!("GET /a?{query} HTTP/1.1\r\nHost: es\r\n\r\n")).await;
        assert_eq!(answer.contains("\r\n\r\n{\n  \"error\" : {\n"), laid_out, "{query}: {answer}");
    }
    let _back = Upstream::at(address, OK).await;
    let answer = send(proxy, "GET /_cluster/health HTTP/1.1\r\nHost: es\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn an_upstream_that_says_nothing_is_504_and_one_that_hangs_up_is_502() {
    let silent = Upstream::answering("").await;
    let proxy =
        proxy_with(silent.address, |config| config.response_timeout = Duration::from_millis(50)).await;
    let answer = send(proxy, "GET /_cluster/health HTTP/1.1\r\nHost: es\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 504") && answer.contains("timeout_exception"), "{answer}");

    let rude = Upstream::hanging_up().await;
    let proxy = proxy_to(rude.address).await;
    let answer = send(proxy, "POST /a/_doc HTTP/1.1\r\nHost: es\r\nContent-Length: 2\r\n\r\n{}").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_upstream_request_along() {
    let upstream = Upstream::answering("").await;
    let proxy = proxy_to(upstream.address).await;
    let mut client = TcpStream::connect(proxy).await.unwrap();
    client.write_all(b"GET /slow HTTP/1.1\r\nHost: es\r\n\r\n").await.unwrap();
    upstream.request().await;
    drop(client);
    tokio::time::timeout(Duration::from_secs(5), upstream.closed())
        .await
        .expect("upstream connection is closed");
}

#[tokio::test]
async fn connections_to_elasticsearch_are_used_again() {
    let upstream = Upstream::answering(OK).await;
    let proxy = proxy_with(upstream.address, |config| config.workers = 1).await;
    for _ in 0..5 {
        send(proxy, "GET / HTTP/1.1\r\nHost: es\r\n\r\n").await;
        upstream.request().await;
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_stale_connection_is_replaced_without_the_client_noticing() {
    let upstream = Upstream::closing_after_each(OK).await;
    let proxy = proxy_with(upstream.address, |config| config.workers = 1).await;
    for _ in 0..20 {
        let answer = send(proxy, "GET / HTTP/1.1\r\nHost: es\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn a_connection_on_which_elasticsearch_reads_no_more_is_never_used_again() {
    // As Elasticsearch does with a head that is longer than it takes: it says so, and that was all.
    let upstream = Listener::serving(|mut stream| async move {
        let mut is_deaf = false;
        loop {
            let message = read_message(&mut stream).await;
            let answer = match message.starts_with(b"GET /too_long ") {
                _ if message.is_empty() => return,
                _ if is_deaf => continue,
                true => "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
                false => OK,
            };
            is_deaf = answer != OK;
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let proxy = proxy_with(upstream.address, |config| config.workers = 1).await;
    for _ in 0..3 {
        let refused = send(proxy, "GET /too_long HTTP/1.1\r\nHost: es\r\n\r\n").await;
        assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
        let next = send(proxy, "GET / HTTP/1.1\r\nHost: es\r\n\r\n").await;
        assert!(next.starts_with("HTTP/1.1 200"), "{next}");
    }
}

#[tokio::test]
async fn a_request_that_ends_its_connection_is_repeated_once_at_most() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let together = Arc::new(Barrier::new(5));
    let log = Arc::clone(&seen);
    let upstream = Listener::serving(move |mut stream| {
        let (log, together) = (Arc::clone(&log), Arc::clone(&together));
        async move {
            loop {
                let message = String::from_utf8(read_message(&mut stream).await).unwrap();
                let Some(target) = message.split(' ').nth(1).map(str::to_owned) else { return };
                log.lock().unwrap().push(target.clone());
                match target.as_str() {
                    "/together" => _ = together.wait().await,
                    "/unreadable" => return stream.write_all(b"HTTP/1.1 2xx\r\n\r\n").await.unwrap(),
                    _ => return,
                }
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        }
    });
    let proxy = proxy_with(upstream.address, |config| config.workers = 1).await;
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: es\r\n\r\n");
    // Five connections that are kept.
    let all = [(); 5].map(|()| get("/together"));
    let sent = all.iter().map(|request| send(proxy, request));
    futures_util::future::join_all(sent).await;
    for (target, times) in [
        ("/_cluster/breaks", 2),
        ("/_search/scroll?scroll_id=x", 1),
        ("/_search/scroll/x", 1),
        ("//_search//scroll?scroll_id=x", 1),
        ("/unreadable", 1),
    ] {
        seen.lock().unwrap().clear();
        let answer = send(proxy, &get(target)).await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{target}: {answer}");
        assert_eq!(*seen.lock().unwrap(), vec![target; times]);
    }
}

#[tokio::test]
async fn garbage_never_stops_the_proxy() {
    let upstream = Upstream::answering(OK).await;
    let proxy = proxy_to(upstream.address).await;
    for garbage in [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: es\r\nContent-Length: abc\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: es\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: es\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST / HTTP/1.1\r\nHost: es\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut client = TcpStream::connect(proxy).await.unwrap();
        client.write_all(garbage.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), client.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "no end for {garbage:?}");
    }
    let answer = send(proxy, "GET / HTTP/1.1\r\nHost: es\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_large_response_is_streamed_not_held() {
    let upstream = Upstream::streaming(512 << 20).await;
    let proxy = proxy_to(upstream.address).await;
    let mut client = TcpStream::connect(proxy).await.unwrap();
    client.write_all(b"GET /big HTTP/1.1\r\nHost: es\r\n\r\n").await.unwrap();
    let mut first = [0; 1024];
    client.read_exact(&mut first).await.unwrap();
    // The client stops reading: back-pressure must reach the upstream well before the end.
    let sent = upstream.sent_when_still().await;
    // What the kernel buffers on two hops is far less than half.
    assert!(sent < 256 << 20, "{sent} bytes were taken from Elasticsearch for a client that does not read");
}

#[tokio::test]
async fn a_connection_whose_request_was_not_read_is_never_used_again() {
    // As Elasticsearch does: refused by the head alone, the body is left unread.
    let refusing =
        Upstream::refusing_heads("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n").await;
    let proxy = proxy_with(refusing.address, |config| config.workers = 1).await;
    for _ in 0..10 {
        let refused = "POST /a/_doc HTTP/1.1\r\nHost: es\r\nExpect: nothing\r\nContent-Length: 17\r\n\r\nGET /stolen HTTP/";
        assert!(send(proxy, refused).await.starts_with("HTTP/1.1 417"));
        let first = refusing.request().await;
        assert!(first.starts_with("POST /a/_doc "), "{first}");
        send(proxy, "GET /_cluster/mine HTTP/1.1\r\nHost: es\r\n\r\n").await;
        let next = refusing.request().await;
        assert!(next.starts_with("GET /_cluster/mine "), "{next}");
    }
}
