//! Requests of a size that nobody should send: they are served like others, Elasticsearch gets what was sent, the
//! memory for them is bounded, and the other requests of their worker are answered meanwhile.

mod common;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::one_index::{self, Source};
use common::{Upstream, metric, proxy_from, read_response, send};
use es_proxy::{Mode, Modes, ProxyConfig};
use prometheus_client::registry::Registry;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
/// What the worker answers by itself.
const PING: &[u8] = b"GET /_ivf/nowhere/at/all HTTP/1.1\r\nHost: es\r\n\r\n";
/// So long the worker may compute while a neighbour waits for it. Its own time, not the clock's: what this test does
/// with the same 90 MB, and whatever else the machine does, is not the worker's to answer for.
const PATIENCE: Duration = Duration::from_millis(100);

const KNN: &str = r#""knn":{"field":"v","query_vector":[1,2],"k":1,"num_candidates":1}"#;

async fn proxy(
    upstream: SocketAddr,
    registry: &mut Registry,
    change: impl FnOnce(&mut ProxyConfig),
) -> SocketAddr {
    let modes = Arc::new(Modes::new(Mode::Serve));
    let source = Arc::new(Source::default());
    proxy_from(upstream, one_index::cluster(true), source, modes, registry, |config| {
        config.workers = 1;
        change(config);
    })
    .await
}

fn request(line: &str, content_type: &str, body: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nHost: es\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ids(count: usize) -> String {
    let mut ids = String::new();
    for id in 0..count {
        write!(ids, "\"{id:08}\",").unwrap();
    }
    ids.pop();
    ids
}

/// Name, request line, content type, body, and whether it goes on as it is.
fn cases() -> Vec<(&'static str, &'static str, &'static str, String, bool)> {
    const JSON: &str = "application/json";
    const LINES: &str = "application/x-ndjson";
    let clause = r#"{"field":"v","query_vector":[1,2],"k":1,"num_candidates":1}"#;
    let keys: String = (0..800_000).map(|key| format!("\"k{key}\":1,")).collect();
    let terms = format!(r#"{{"terms":{{"k":[{}]}}}}"#, ids(1_200_000));
    let blanks = " ".repeat(15 << 20);
    vec![
        (
            "100,000 knn clauses",
            "POST /i/_search",
            JSON,
            format!("{{\"knn\":[{}{clause}]}}", format!("{clause},").repeat(99_999)),
            true,
        ),
        ("a million keys", "POST /i/_search", JSON, format!("{{{KNN},{}\"size\":1}}", keys), true),
        (
            "a filter of more than a million terms",
            "POST /i/_search",
            JSON,
            format!("{{{}}}", KNN.replacen('{', &format!("{{\"filter\":{terms},"), 1)),
            true,
        ),
        (
            "more than a million terms beside a knn",
            "POST /i/_search",
            JSON,
            format!("{{{KNN},\"query\":{terms}}}"),
            false,
        ),
        (
            "a million lines of searches",
            "POST /i/_msearch",
            LINES,
            format!("{}{{}}\n{{{KNN}}}\n", "{}\n{}\n".repeat(500_000)),
            true,
        ),
        ("a search on a long line", "POST /i/_msearch", LINES, format!("{{}}\n{{{KNN}{blanks}}}\n"), false),
        (
            "a spliced search on a long line",
            "POST /i/_msearch",
            LINES,
            format!("{{}}\n{{{KNN},\"query\":{terms}}}\n"),
            false,
        ),
        (
            "a bulk with a line of 90 MB",
            "POST /_bulk",
            LINES,
            format!("{{\"index\":{{\"_index\":\"i\"}}}}\n{{\"t\":\"{}\"}}\n", "x".repeat(90 << 20)),
            true,
        ),
        (
            "a mapping of a long text",
            "PUT /new",
            JSON,
            format!("{{\"mappings\":{{\"_meta\":{{\"dense_vector\":\"{}\"}}}}}}", "x".repeat(15 << 20)),
            true,
        ),
    ]
}

/// The time that all workers of this process have computed, from `proc_pid_task_stat(5)`: fields 14 and 15, in
/// hundredths of a second.
fn computed() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let ticks = stats.filter_map(|stat| {
        let (name, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = |field: usize| fields[field - 3].parse::<u64>().unwrap();
        name.ends_with("(worker-0").then(|| ticks(14) + ticks(15))
    });
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// Asks over and over until the huge request is served: how often, and the most that the worker computed
/// before it answered. On a thread of its own, which the test's other work does not hold up.
fn neighbour(proxy: SocketAddr, served: &AtomicBool) -> (u32, Duration) {
    let mut stream = std::net::TcpStream::connect(proxy).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let (mut pings, mut most) = (0, Duration::ZERO);
    while !served.load(Ordering::Acquire) {
        let before = computed();
        stream.write_all(PING).unwrap();
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            assert_ne!(answers.read_line(&mut line).unwrap(), 0, "the neighbour's connection was closed");
            if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        answers.read_exact(&mut vec![0; length]).unwrap();
        most = most.max(computed() - before);
        pings += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    (pings, most)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_requests_are_served_and_others_meanwhile() {
    let mut late = Vec::new();
    for (name, line, content_type, body, as_it_is) in cases() {
        let upstream = Upstream::answering(OK).await;
        let mut registry = Registry::default();
        let proxy = proxy(upstream.address, &mut registry, |_| {}).await;
        let sent = request(line, content_type, &body);
        let served = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&served);
        let asking = std::thread::spawn(move || neighbour(proxy, &until));
        let began = Instant::now();
        let mut client = TcpStream::connect(proxy).await.unwrap();
        client.write_all(sent.as_bytes()).await.unwrap();
        let answer = read_response(&mut client).await;
        let took = began.elapsed();
        served.store(true, Ordering::Release);
        let (pings, most) = asking.join().unwrap();
        println!(
            "{name}: served in {took:?}, {pings} neighbours, the worker computed {most:?} for the slowest"
        );
        assert!(answer.starts_with("HTTP/1.1 200"), "{name}: {answer}");
        if most > PATIENCE {
            late.push(format!("{name}: {most:?}"));
        }
        if as_it_is {
            assert!(upstream.request().await.ends_with(&body), "{name}: another body");
        }
        assert_eq!(metric(&registry, "outrigger_panics_total"), 0, "{name}");
        assert_eq!(metric(&registry, "outrigger_intercepted_bytes"), 0, "{name}");
    }
    assert!(late.is_empty(), "{late:?}");
}

/// Unread, it would be refused by Elasticsearch for a type that it does not know.
#[tokio::test]
async fn a_mapping_that_finds_no_room_is_refused_until_there_is() {
    let upstream = Upstream::answering(OK).await;
    let mut registry = Registry::default();
    let proxy = proxy(upstream.address, &mut registry, |config| config.intercept_memory = 1 << 10).await;
    let mapping = |padding: usize| {
        let field = r#"{"type":"dense_vector","dims":2,"index_options":{"type":"ivf"}}"#;
        format!("{{\"mappings\":{{\"properties\":{{\"v\":{field}}}}}{}}}", " ".repeat(padding))
    };
    let template = |padding| format!("{{\"index_patterns\":[\"x*\"],\"template\":{}}}", mapping(padding));
    for (line, body) in [
        ("PUT /new", mapping(5_000)),
        ("PUT /i/_mapping", mapping(5_000)),
        ("PUT /_index_template/t", template(5_000)),
        ("POST /_index_template/_simulate", template(5_000)),
    ] {
        let answer = send(proxy, &request(line, "application/json", &body)).await;
        assert!(answer.starts_with("HTTP/1.1 429"), "{line}: {answer}");
        assert!(answer.contains("es_rejected_execution_exception"), "{line}: {answer}");
        assert!(answer.to_lowercase().contains("retry-after: 1"), "{line}: {answer}");
    }
    assert_eq!(upstream.connections(), 0, "Elasticsearch got none of them");
    let answer = send(proxy, &request("PUT /new", "application/json", &mapping(1))).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!upstream.request().await.contains("\"ivf\""), "it was translated");
    assert_eq!(metric(&registry, "outrigger_intercepted_bytes"), 0);
}
