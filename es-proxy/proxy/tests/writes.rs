//! Writes pass byte for byte, and what Elasticsearch acknowledged of them is handed over.

#![allow(missing_docs, reason = "a test")]

mod common;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::ports::{FakeCluster, Told};
use common::{Recorded, in_chunks, metric, read_message};
use es_proxy::{Cluster, Mode, Modes, ProxyConfig, Scope};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use prometheus_client::registry::Registry;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A cluster with the index `i` and its field `v`.
fn cluster() -> Arc<FakeCluster> {
    let state = r#"{"version":1,"metadata":{"indices":{"i":{"settings_version":1,"routing_num_shards":1024,"state":"open",
        "settings":{"index":{"number_of_shards":"1","uuid":"u","version":{"created":"9039001"}}},
        "mappings":{"_doc":{"properties":{"v":{"type":"dense_vector","dims":2,"index":true,"similarity":"l2_norm","meta":{"outrigger.ivf":"default"}}}}}}}}}"#;
    FakeCluster::of(state, "{}", true)
}

/// The request path between a scripted Elasticsearch and that cluster.
struct Setup {
    cluster: Arc<FakeCluster>,
    modes: Arc<Modes>,
    upstream: Recorded,
    proxy: SocketAddr,
    registry: Registry,
}

impl Setup {
    async fn new(response: Vec<u8>) -> Self {
        Self::with(response, |_| {}).await
    }

    async fn with(response: Vec<u8>, change: impl FnOnce(&mut ProxyConfig)) -> Self {
        let (cluster, modes) = (cluster(), Arc::new(Modes::new(Mode::Serve)));
        let upstream = Recorded::answering(response).await;
        let mut registry = Registry::default();
        let known: Arc<dyn Cluster> = cluster.clone();
        let proxy = common::proxy_on(upstream.address, known, modes.clone(), &mut registry, change).await;
        Self { cluster, modes, upstream, proxy, registry }
    }

    /// Sends a request in parts; the response, and what the cluster was told when it had come.
    async fn send(&self, request: &[u8], part: usize) -> (Vec<u8>, Vec<Told>) {
        let mut client = TcpStream::connect(self.proxy).await.unwrap();
        client.set_nodelay(true).unwrap();
        for part in request.chunks(part) {
            client.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
        let response = tokio::time::timeout(Duration::from_secs(10), read_message(&mut client)).await;
        (response.expect("a response in time"), self.cluster.told())
    }

    fn metric(&self, name: &str) -> u64 {
        metric(&self.registry, name)
    }
}

const BULK: &str = "{\"index\":{\"_id\":\"1\"}}\n{\"v\":[1,2]}\r\n\n{\"update\":{\"_id\":\"2\"}}\n{\"doc\":{\"x\":1}}\n{\"delete\":{\"_id\":\"3\"}}\n";
const ITEMS: &str = r#"{"errors":false,"took":0,"items":[{"index":{"_index":"i","_id":"1","_version":1,"result":"created","_shards":{"total":1,"successful":1,"failed":0},"_seq_no":7,"_primary_term":1,"status":201}},{"update":{"_index":"i","_id":"2","_version":2,"result":"updated","_shards":{"total":1,"successful":1,"failed":0},"_seq_no":8,"_primary_term":1,"status":200}},{"delete":{"_index":"i","_id":"3","_version":2,"result":"deleted","_shards":{"total":1,"successful":1,"failed":0},"_seq_no":9,"_primary_term":1,"status":200}}]}"#;

fn acknowledged() -> Told {
    Told::Acknowledged(vec![("1".into(), 7, Some(vec![1.0, 2.0])), ("3".into(), 9, None)])
}

fn request(line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut request =
        format!("{line} HTTP/1.1\r\nHost: es\r\n{headers}Content-Length: {}\r\n\r\n", body.len())
            .into_bytes();
    request.extend_from_slice(body);
    request
}

fn ok(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut response = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    response.extend_from_slice(body);
    response
}

/// The same in chunks of some bytes.
fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    [head.as_slice(), &in_chunks(body, size)].concat()
}

const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_bulk_passes_unchanged_and_is_handed_over_before_the_client_knows() {
    for response in [ok("", ITEMS.as_bytes()), chunked(ITEMS.as_bytes(), 11), chunked(ITEMS.as_bytes(), 4096)]
    {
        let setup = Setup::new(response).await;
        let (answer, told) = setup.send(&request("POST /i/_bulk", NDJSON, BULK.as_bytes()), 13).await;
        assert_eq!(told, [acknowledged()]);
        assert!(answer.ends_with(ITEMS.as_bytes()), "{}", String::from_utf8_lossy(&answer));
        assert!(setup.upstream.request().await.ends_with(BULK.as_bytes()));
        assert_eq!(setup.metric("outrigger_writes_handed_over_total"), 2);
        assert_eq!(setup.metric("outrigger_writes_left_to_feed_total{reason=\"update\"}"), 1);
        assert_eq!(setup.metric("outrigger_writes_scanned_bytes_total"), BULK.len() as u64);
        assert_eq!(setup.metric("outrigger_writes_held_bytes"), 0);
    }
}

#[tokio::test]
async fn compressed_bodies_are_followed_and_stay_as_they_are() {
    let (body, answer) = (gzip(BULK), gzip(ITEMS));
    let setup = Setup::new(ok("content-encoding: gzip\r\n", &answer)).await;
    let sent = request("POST /i/_bulk", &format!("{NDJSON}Content-Encoding: gzip\r\n"), &body);
    let (got, told) = setup.send(&sent, 20).await;
    assert_eq!(told, [acknowledged()]);
    assert!(got.ends_with(&answer));
    assert!(setup.upstream.request().await.ends_with(&body));

    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(BULK.as_bytes()).unwrap();
    let body = encoder.finish().unwrap();
    let setup = Setup::new(ok("", ITEMS.as_bytes())).await;
    let sent = request("POST /i/_bulk", &format!("{NDJSON}Content-Encoding: deflate\r\n"), &body);
    assert_eq!(setup.send(&sent, 20).await.1, [acknowledged()]);

    // Not what its header says: Elasticsearch will judge, and nothing is learnt.
    let setup = Setup::new(ok("", ITEMS.as_bytes())).await;
    let sent = request("POST /i/_bulk", &format!("{NDJSON}Content-Encoding: gzip\r\n"), BULK.as_bytes());
    assert_eq!(setup.send(&sent, 20).await.1, []);
    assert!(setup.upstream.request().await.ends_with(BULK.as_bytes()));
}

#[tokio::test]
async fn a_held_refresh_is_waited_for_after_the_writes_were_handed_over() {
    let (fixed, in_chunks) = (ok("", ITEMS.as_bytes()), chunked(ITEMS.as_bytes(), 50));
    for (response, framing) in [(fixed, "content-length"), (in_chunks, "transfer-encoding: chunked")] {
        let setup = Setup::new(response).await;
        let sent = request("POST /i/_bulk?refresh=wait_for", NDJSON, BULK.as_bytes());
        let (answer, told) = setup.send(&sent, 1000).await;
        assert_eq!(told, [acknowledged(), Told::Awaited(Scope::All)]);
        assert!(String::from_utf8_lossy(&answer).to_lowercase().contains(framing));
        assert!(answer.ends_with(ITEMS.as_bytes()));
    }
    let one = r#"{"_index":"i","_id":"9","_version":1,"result":"created","_seq_no":24,"_primary_term":1}"#;
    let setup = Setup::new(ok("", one.as_bytes())).await;
    let sent = request("PUT /i/_doc/9?refresh", "Content-Type: application/json\r\n", b"{\"v\":[3,4]}");
    let told = setup.send(&sent, 1000).await.1;
    let handed_over = Told::Acknowledged(vec![("9".into(), 24, Some(vec![3.0, 4.0]))]);
    assert_eq!(told, [handed_over, Told::Awaited(Scope::Index("i".into()))]);
}

#[tokio::test]
async fn single_documents_are_followed_too() {
    let answer = |id: &str, result: &str| {
        let body = format!(
            r#"{{"_index":"i","_id":"{id}","_version":1,"result":"{result}","_seq_no":1,"_primary_term":1}}"#
        );
        ok("", body.as_bytes())
    };
    let json = "Content-Type: application/vnd.elasticsearch+json; compatible-with=9\r\n";
    for (line, headers, body, response, vector) in [
        ("PUT /i/_doc/a%2Fb", json, "{\n\"v\":[3,4]}\n", answer("a/b", "updated"), Some(vec![3.0, 4.0])),
        ("POST /i/_doc", json, "{\"v\":[3,4]}", answer("a/b", "created"), Some(vec![3.0, 4.0])),
        ("PUT /i/_create/a%2Fb", json, "{}", answer("a/b", "created"), None),
        (
            "POST /i/_update/a%2Fb",
            json,
            "{\"doc\":{\"v\":[3,4]},\"doc_as_upsert\":true}",
            answer("a/b", "created"),
            Some(vec![3.0, 4.0]),
        ),
        ("DELETE /i/_doc/a%2Fb", "", "", answer("a/b", "deleted"), None),
    ] {
        let setup = Setup::new(response).await;
        let told = setup.send(&request(line, headers, body.as_bytes()), 5).await.1;
        assert_eq!(told, [Told::Acknowledged(vec![("a/b".into(), 1, vector)])], "{line}");
    }
    // Under which routing a document stands that was there already, only Elasticsearch knows.
    let setup = Setup::new(answer("a", "updated")).await;
    let sent = request("POST /i/_update/a", json, b"{\"doc\":{\"v\":[3,4]}}");
    assert_eq!(setup.send(&sent, 5).await.1, []);
}

#[tokio::test]
async fn what_was_refused_or_cut_is_not_handed_over() {
    let refused = String::from_utf8(ok("", ITEMS.as_bytes())).unwrap().replace("200 OK", "400 Bad Request");
    let setup = Setup::new(refused.into_bytes()).await;
    let (_, told) = setup.send(&request("POST /i/_bulk", NDJSON, BULK.as_bytes()), 100).await;
    assert_eq!(told, []);

    // Announced longer than it comes: the connection ends in between.
    let cut = ITEMS.len() - 40;
    let mut response = ok("", ITEMS.as_bytes());
    response.truncate(response.len() - 40);
    let setup = Setup::new(response).await;
    let (answer, told) = setup.send(&request("POST /i/_bulk", NDJSON, BULK.as_bytes()), 100).await;
    assert!(answer.ends_with(&ITEMS.as_bytes()[..cut]));
    assert_eq!(told, []);
    assert_eq!(setup.metric("outrigger_writes_left_to_feed_total{reason=\"response\"}"), 2);
}

#[tokio::test]
async fn where_watching_is_of_no_use_nothing_is_watched() {
    let unwatched = async |setup: &Setup, headers: &str| {
        let told = setup.send(&request("POST /i/_bulk", headers, BULK.as_bytes()), 100).await.1;
        assert_eq!((told, setup.metric("outrigger_writes_scanned_bytes_total")), (vec![], 0), "{headers}");
    };
    let setup = Setup::new(ok("", ITEMS.as_bytes())).await;
    unwatched(&setup, &format!("{NDJSON}x-outrigger-mode: pass\r\n")).await;
    unwatched(&setup, "Content-Type: application/cbor\r\n").await;
    unwatched(&setup, "").await;
    unwatched(&setup, &format!("{NDJSON}Content-Encoding: zstd\r\n")).await;
    setup.modes.set_node(Mode::Pass);
    unwatched(&setup, NDJSON).await;
    let setup = Setup::with(ok("", ITEMS.as_bytes()), |config| config.write_memory = 0).await;
    unwatched(&setup, NDJSON).await;

    // An index alone is switched off where its name is read.
    let setup = Setup::new(ok("", ITEMS.as_bytes())).await;
    assert!(setup.modes.set_index("i", Mode::Pass));
    assert_eq!(setup.send(&request("POST /i/_bulk", NDJSON, BULK.as_bytes()), 100).await.1, []);
    assert_eq!(setup.metric("outrigger_writes_left_to_feed_total{reason=\"switched_off\"}"), 3);

    // More than all may hold together.
    let setup = Setup::with(ok("", ITEMS.as_bytes()), |config| config.write_memory = 1).await;
    assert_eq!(setup.send(&request("POST /i/_bulk", NDJSON, BULK.as_bytes()), 10).await.1, []);
    assert_eq!(setup.metric("outrigger_writes_left_to_feed_total{reason=\"memory\"}"), 3);
}
