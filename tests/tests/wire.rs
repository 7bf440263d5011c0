//! What a client's bytes mean, through us and directly to Elasticsearch: paths, methods and targets of all odd
//! kinds must be answered alike, and no smuggled request may ever be. The recorded upstream of
//! `es-proxy/proxy/tests/smuggling.rs` proves the latter byte by byte; here is the real one.

#![allow(missing_docs, reason = "a test")]

#[allow(dead_code, missing_docs, unreachable_pub, reason = "its other part is for the other test")]
#[path = "../../es-proxy/proxy/tests/smuggling/corpus/mod.rs"]
mod corpus;

use std::time::Duration;

use corpus::{End, cases};
use outrigger_tests::{Elasticsearch, Outrigger};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Targets, each asked with all of [`METHODS`].
const TARGETS: &[&str] = &[
    "/",
    "//",
    "/?pretty",
    "/docs",
    "/docs/",
    "/docs//",
    "//docs",
    "/docs/_search",
    "/docs/_search/",
    "/docs//_search",
    "//docs/_search",
    "/docs/./_search",
    "/docs/../docs/_search",
    "/docs/%2e%2e/docs/_search",
    "/docs%2F_search",
    "/docs%2f_search",
    "/docs/_search%2F",
    "/docs/%5fsearch",
    "/%64ocs/_search",
    "/docs%2Cnone/_search",
    "/docs%20/_search",
    "/docs+/_search",
    "/docs%2B/_search",
    "/docs;a=b/_search",
    "/docs/_search;a=b",
    "/docs/_search?pretty;size=0",
    "/docs/_search&size=0",
    "/docs/_search?size=0&size=1",
    "/docs/_search?size=0?size=1",
    "/docs/_search?&&&",
    "/docs/_search?=",
    "/docs/_search?size=%30",
    "/docs/_search?%73ize=0",
    "/docs/_search?size=0#size=1",
    "/docs#/_search",
    "/docs/_search#",
    "/docs%00/_search",
    "/docs/_search%00",
    "/docs%c0%af_search",
    "/docs%c0%ae%c0%ae/_search",
    "/docs%ff/_search",
    "/docs%252F_search",
    "/docs%",
    "/docs%2",
    "/docs%zz/_search",
    "/docs/_search?q=%zz",
    "/docs/_search?q=%ff",
    "/\u{e9}/_search",
    "/%C3%A9/_search",
    "/docs/_search?q=\u{e9}",
    "/<docs>/_search",
    "/%3Cdocs%3E/_search",
    "/%3Cdocs-%7Bnow%2Fd%7D%3E/_search",
    "/docs\"/_search",
    "/docs`/_search",
    "/docs^/_search",
    "/docs|/_search",
    "/docs\\/_search",
    "/{docs}/_search",
    "/[docs]/_search",
    "/docs:none/_search",
    "/DOCS/_search",
    "/docs/_SEARCH",
    "/docs/_Search",
    "/_all/_search",
    "/*/_search",
    "/-docs/_search",
    "/docs,-docs/_search",
    "/_doc",
    "/docs/_doc/a%2Fb",
    "/docs/_doc/a/b",
    "/docs/_doc/%2E",
    "/docs/_doc/..",
    "/docs/_mapping",
    "/docs/_mapping/",
    "/docs//_mapping",
    "/docs/%5Fmapping",
    "/docs/_nothing",
    "/_nothing",
    "/_ivfx",
    "/ivf",
    "/_search/../_cluster/health",
    "/_cluster//health",
];

const METHODS: &[&str] = &["GET", "HEAD", "POST", "OPTIONS", "TRACE", "PATCH", "get", "Foo"];

/// Heads of other kinds: request line and headers.
const HEADS: &[&str] = &[
    "OPTIONS * HTTP/1.1\r\n",
    "GET /docs/_count HTTP/1.1\r\nX-HTTP-Method-Override: DELETE\r\n",
    "GET /docs/_count HTTP/1.1\r\nX-Opaque-Id: a%0d%0aX-Injected: b\r\n",
    "GET /docs/_count HTTP/1.1\r\nX-Opaque-Id: \u{e9}\r\n",
    "GET /docs/_count HTTP/1.1\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    "GET /docs/_count HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "GET /docs/_count HTTP/1.1\r\nHost: other\r\n",
    "GET /docs/_count HTTP/1.1\r\nAccept: application/yaml\r\n",
    "GET /docs/_count HTTP/1.1\r\nAccept: \r\n",
    "POST /docs/_count HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n",
    "GET /docs/_count HTTP/1.1\r\nExpect: nothing\r\nContent-Length: 0\r\n",
];

struct Answer {
    status: u16,
    /// Those that say what the answer is.
    headers: Vec<(String, String)>,
    body: Value,
}

/// Sends bytes on a connection of its own; what came until its end.
async fn play(base: &str, raw: &[u8], half_close: bool) -> Vec<u8> {
    let address = base.strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // The other side may have closed already.
    let _ = stream.write_all(raw).await;
    if half_close {
        let _ = stream.shutdown().await;
    }
    let mut received = Vec::new();
    let reading = async {
        let mut part = [0; 8192];
        while let Ok(count) = stream.read(&mut part).await {
            if count == 0 {
                break;
            }
            received.extend_from_slice(&part[..count]);
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(30), reading).await;
    assert!(
        ended.is_ok(),
        "no end of {:?}: {:?}",
        String::from_utf8_lossy(raw),
        String::from_utf8_lossy(&received)
    );
    received
}

fn read(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let mut headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .filter(|(name, _)| {
            ["allow", "content-type", "x-elastic-product", "x-opaque-id"].contains(&name.as_str())
        })
        .map(|(name, value)| {
            // Their order is that of a hash table there.
            let mut parts: Vec<&str> = value.split(',').collect();
            parts.sort_unstable();
            (name, parts.join(","))
        })
        .collect();
    headers.sort();
    let plain = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        dechunked(body)
    } else {
        body.to_owned()
    };
    let mut body = serde_json::from_str(&plain).unwrap_or(Value::String(plain));
    if let Some(took) = body.get_mut("took") {
        *took = json!(0);
    }
    Answer { status, headers, body }
}

fn dechunked(mut rest: &str) -> String {
    let mut plain = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("the size of a chunk");
        plain.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    plain
}

async fn assert_alike(direct: &str, through: &str, raw: &str) {
    let (expected, got) =
        (read(&play(direct, raw.as_bytes(), false).await), read(&play(through, raw.as_bytes(), false).await));
    assert_eq!(got.status, expected.status, "{raw:?}: {} instead of {}", got.body, expected.body);
    assert_eq!(got.headers, expected.headers, "{raw:?}");
    // An error that lists methods does so in any order.
    if expected.status != 405 {
        assert_eq!(got.body, expected.body, "{raw:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_mean_what_they_mean_to_elasticsearch() {
    let elasticsearch = Elasticsearch::start("wire").await;
    let data_dir = tempfile::tempdir().unwrap();
    let api = elasticsearch.api();
    let outrigger = Outrigger::start(elasticsearch.url(), data_dir.path()).await;
    api.put("/docs", json!({"settings": {"number_of_replicas": 0}})).await.ok();
    api.put("/docs/_doc/1?refresh", json!({"a": 1})).await.ok();
    outrigger.api().create("ours", 3, "l2_norm", 1).await;
    outrigger.learnt("ours").await;
    let (direct, through) = (elasticsearch.url(), outrigger.url());

    for target in TARGETS {
        for method in METHODS {
            assert_alike(
                direct,
                through,
                &format!("{method} {target} HTTP/1.1\r\nHost: es\r\nConnection: close\r\n\r\n"),
            )
            .await;
        }
    }
    for head in HEADS {
        assert_alike(direct, through, &format!("{head}Host: es\r\nConnection: close\r\n\r\n")).await;
    }

    // A head that is as long as may be, and longer where we ask something of our own in the caller's name: of
    // a connection on which a head was too long Elasticsearch reads nothing more.
    let health = "GET /_cluster/health HTTP/1.1\r\nHost: es\r\nConnection: close\r\n\r\n";
    for target in ["/_nodes/http", "/_ivf/ours", "/ours/_search"] {
        let filler = "a".repeat((16 << 10) - "Host: esConnection: closeX-Long: ".len());
        let long =
            format!("GET {target} HTTP/1.1\r\nHost: es\r\nConnection: close\r\nX-Long: {filler}\r\n\r\n");
        for _ in 0..2 {
            play(through, long.as_bytes(), false).await;
            for _ in 0..4 {
                assert_eq!(
                    read(&play(through, health.as_bytes(), false).await).status,
                    200,
                    "after {target}"
                );
            }
        }
    }

    for (at, case) in cases().iter().enumerate() {
        let received = play(through, &case.raw, case.end == End::Broken).await;
        let received = String::from_utf8_lossy(&received);
        // Elasticsearch's errors name what was asked for.
        let is_seen = ["[_smuggled]", "[/_smuggled]"].iter().any(|named| received.contains(named));
        assert!(!is_seen, "{}: {received}", case.name);
        let victim = format!(
            "GET /_cluster/health HTTP/1.1\r\nHost: es\r\nX-Opaque-Id: victim-{at}\r\nConnection: close\r\n\r\n"
        );
        let answer = read(&play(through, victim.as_bytes(), false).await);
        assert_eq!(answer.status, 200, "after {}", case.name);
        assert!(
            answer.headers.contains(&("x-opaque-id".to_owned(), format!("victim-{at}"))),
            "after {}",
            case.name
        );
    }
    assert_eq!(outrigger.metric("outrigger_panics_total").await, 0);
}
