//! Versions of Elasticsearch that meet: a node upgraded behind a running sidecar, clusters of two versions in the
//! middle of a rolling upgrade, versions that nobody has looked at yet.
//!
//! These name their versions themselves, whatever `OUTRIGGER_TEST_ES` says; `scripts/test` runs them once.

use std::time::Duration;

use outrigger_tests::{Api, Cluster, Elasticsearch, Outrigger, Vectors, assert_same, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const OLD: &str = "8.19.0";
const NEW: &str = "9.2.0";
const DIMS: usize = 16;

async fn make(api: &Api, index: &str) {
    let body = json!({
        "settings": {"number_of_shards": 2, "number_of_replicas": 0},
        "mappings": {"properties": {
            "v": {"type": "dense_vector", "dims": DIMS, "similarity": "l2_norm", "index_options": {"type": "ivf"}},
            "b": {"type": "dense_vector", "element_type": "byte", "dims": 4, "similarity": "l2_norm"},
        }},
    });
    api.put(&format!("/{index}"), body).await.ok();
}

async fn write(api: &Api, index: &str, from: usize, count: usize, vectors: &mut Vectors) {
    let documents: Vec<_> = (from..from + count)
        .map(|n| (n.to_string(), json!({"v": vectors.draw(), "b": [n % 100, 1, 2, 3]})))
        .collect();
    let reply = api.bulk(index, "true", &documents).await.expect("a response").ok();
    assert_eq!(reply["errors"], false, "{reply}");
}

/// Ids, scores and totals equal those of an exact scan in Elasticsearch, and are answered here.
async fn agrees(ours: &Api, theirs: &Api, index: &str, vectors: &mut Vectors, what: &str) {
    for _ in 0..5 {
        let query = vectors.draw();
        let found = ours.knn(index, &query, 20).await;
        assert!(found.way.starts_with("answer"), "{what}: {}: {}", found.way, found.text);
        assert_same(&found, &theirs.knn(index, &query, 20).await, what);
    }
}

async fn version_of(api: &Api) -> Option<String> {
    let reply = api.try_get("/").await.filter(|reply| reply.status == 200)?;
    reply.body["version"]["number"].as_str().map(str::to_owned)
}

/// What Elasticsearch itself keeps of the field of bytes.
async fn kept_as(api: &Api, index: &str) -> Value {
    api.get(&format!("/{index}/_mapping")).await.ok()[index]["mappings"]["properties"]["b"]["index_options"]["type"].clone()
}

/// How many documents were read from Elasticsearch so far.
async fn pulled(outrigger: &Outrigger) -> u64 {
    outrigger.metric("outrigger_feed_documents_total").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_upgraded_behind_a_running_sidecar() {
    if !Elasticsearch::can_run(NEW).await {
        return eprintln!("not tested: this machine's Java does not run Elasticsearch {NEW}");
    }
    let elasticsearch = Elasticsearch::start_version("upgraded", OLD, &[]).await;
    let data = TempDir::new().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (ours, theirs) = (outrigger.api(), elasticsearch.api());
    let mut vectors = Vectors::new(71, DIMS);
    make(&ours, "kept").await;
    write(&ours, "kept", 0, 500, &mut vectors).await;
    outrigger.learnt("kept").await;
    agrees(&ours, &theirs, "kept", &mut vectors, OLD).await;
    assert_eq!(kept_as(&theirs, "kept").await, "flat");
    let uuid = theirs.get("/kept/_settings").await.ok()["kept"]["settings"]["index"]["uuid"].clone();
    let (before, read) = (outrigger.learnt("kept").await, pulled(&outrigger).await);

    elasticsearch.upgrade(NEW).await;
    eventually("the new version answers through us", Duration::from_secs(60), || async {
        version_of(&ours).await.filter(|version| version == NEW)
    })
    .await;
    // What the new version can do is known: an index made now is made in its way.
    eventually("the capabilities are read again", Duration::from_secs(60), || async {
        make(&ours, "new").await;
        let kept = kept_as(&theirs, "new").await;
        ours.delete("/new").await.ok();
        (kept == "hnsw").then_some(())
    })
    .await;
    eventually("searches are answered here again", Duration::from_secs(60), || async {
        let reply = ours.knn("kept", &[0.5; DIMS], 5).await;
        (reply.status == 200 && reply.way.starts_with("answer")).then_some(())
    })
    .await;
    assert_eq!(theirs.get("/kept/_settings").await.ok()["kept"]["settings"]["index"]["uuid"], uuid);
    let after = outrigger.learnt("kept").await;
    assert_eq!(after["fields"][0]["docs"], before["fields"][0]["docs"], "{after}");
    assert!(pulled(&outrigger).await < read + 500, "the index was kept, not learnt anew");
    agrees(&ours, &theirs, "kept", &mut vectors, "after the upgrade").await;
    write(&ours, "kept", 250, 500, &mut vectors).await;
    agrees(&ours, &theirs, "kept", &mut vectors, "written after the upgrade").await;
    make(&ours, "new").await;
    write(&ours, "new", 0, 300, &mut vectors).await;
    outrigger.learnt("new").await;
    agrees(&ours, &theirs, "new", &mut vectors, "made after the upgrade").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_two_versions_is_upgraded_node_by_node() {
    if !Elasticsearch::can_run(NEW).await {
        return eprintln!("not tested: this machine's Java does not run Elasticsearch {NEW}");
    }
    let cluster = Cluster::start_versions("mixed", &[OLD, NEW], 2, &[]).await;
    cluster.healthy(0, 2, "green").await;
    let urls: Vec<String> = cluster.upstream().split(',').map(str::to_owned).collect();
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let sidecars = [
        Outrigger::start(&urls[0], folders[0].path()).await,
        Outrigger::start(&urls[1], folders[1].path()).await,
    ];
    let [old, new] = [sidecars[0].api(), sidecars[1].api()];
    assert_eq!(version_of(&old).await.as_deref(), Some(OLD));
    assert_eq!(version_of(&new).await.as_deref(), Some(NEW));
    let mut vectors = Vectors::new(72, DIMS);
    for (index, through) in [("from-old", &old), ("from-new", &new)] {
        make(through, index).await;
        write(through, index, 0, 300, &mut vectors).await;
        for (node, sidecar) in sidecars.iter().enumerate() {
            sidecar.learnt(index).await;
            sidecar.api().call("POST", &format!("/{index}/_refresh"), None).await.ok();
            let what = format!("{index} through the sidecar of node {node}");
            agrees(&sidecar.api(), &cluster.api(node), index, &mut vectors, &what).await;
        }
        // Written through the one, found through the other once it has seen the refresh.
        write(through, index, 300, 100, &mut vectors).await;
        for (node, sidecar) in sidecars.iter().enumerate() {
            sidecar.api().call("POST", &format!("/{index}/_refresh"), None).await.ok();
            let what = format!("{index} written, through the sidecar of node {node}");
            agrees(&sidecar.api(), &cluster.api(node), index, &mut vectors, &what).await;
        }
    }
    cluster.upgrade(0, NEW).await;
    cluster.healthy(0, 2, "green").await;
    eventually("the first sidecar sees the new version", Duration::from_secs(60), || async {
        version_of(&old).await.filter(|version| version == NEW)
    })
    .await;
    for index in ["from-old", "from-new"] {
        for (node, sidecar) in sidecars.iter().enumerate() {
            let api = sidecar.api();
            eventually("searches are answered here again", Duration::from_secs(60), || async {
                let reply = api.knn(index, &[0.5; DIMS], 5).await;
                (reply.status == 200 && reply.way.starts_with("answer")).then_some(())
            })
            .await;
            let what = format!("{index} after the upgrade, node {node}");
            agrees(&api, &cluster.api(node), index, &mut vectors, &what).await;
        }
    }
}

/// Forwards to a node and changes the version that it says in its answers, byte for byte as long.
async fn disguised(target: &str, says: &'static [u8], shows: &'static [u8]) -> String {
    assert_eq!(says.len(), shows.len(), "no length in an answer may change");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let target = target.trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(node) = TcpStream::connect(&target).await else { continue };
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_node, mut to_node) = node.into_split();
            tokio::spawn(async move {
                // Either side's end ends the connection.
                let _ = tokio::io::copy(&mut from_client, &mut to_node).await;
                let _ = to_node.shutdown().await;
            });
            tokio::spawn(async move {
                let mut chunk = vec![0; 64 << 10];
                while let Ok(count @ 1..) = from_node.read(&mut chunk).await {
                    let mut at = 0;
                    while let Some(found) = chunk[at..count].windows(says.len()).position(|part| part == says)
                    {
                        chunk[at + found..at + found + says.len()].copy_from_slice(shows);
                        at += found + says.len();
                    }
                    if to_client.write_all(&chunk[..count]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_passes_until_it_is_allowed() {
    if !Elasticsearch::can_run(NEW).await {
        return eprintln!("not tested: this machine's Java does not run Elasticsearch {NEW}");
    }
    let elasticsearch = Elasticsearch::start_version("unknown", NEW, &[]).await;
    let upstream = disguised(elasticsearch.url(), b"\"9.2.0\"", b"\"9.9.0\"").await;
    let data = TempDir::new().unwrap();
    let mut vectors = Vectors::new(73, DIMS);
    let theirs = elasticsearch.api();

    let outrigger = Outrigger::start(&upstream, data.path()).await;
    let ours = outrigger.api();
    assert_eq!(version_of(&ours).await.as_deref(), Some("9.9.0"));
    let refused = ours
        .put(
            "/passed",
            json!({"mappings": {"properties": {"v": {"type": "dense_vector", "dims": DIMS, "index_options": {"type": "ivf"}}}}}),
        )
        .await;
    assert_eq!(refused.status, 400, "Elasticsearch knows no such type: {}", refused.text);
    ours.create_as("passed", DIMS, "l2_norm", 1, json!({"type": "hnsw"})).await;
    write(&ours, "passed", 0, 50, &mut vectors).await;
    let found = ours.knn("passed", &vectors.draw(), 5).await;
    assert_eq!((found.status, found.ids().len()), (200, 5));
    assert!(found.way.starts_with("pass"), "{}", found.way);
    outrigger.terminate();

    // Another version is allowed, not this one.
    let other = Outrigger::start_with(&upstream, data.path(), &["--allow-version", "9.3,10"]).await;
    assert!(other.api().knn("passed", &vectors.draw(), 5).await.way.starts_with("pass"));
    other.terminate();

    let outrigger = Outrigger::start_with(&upstream, data.path(), &["--allow-version", "9.9"]).await;
    let ours = outrigger.api();
    make(&ours, "served").await;
    assert_eq!(kept_as(&theirs, "served").await, "hnsw", "as in the newest version that is known");
    write(&ours, "served", 0, 300, &mut vectors).await;
    outrigger.learnt("served").await;
    agrees(&ours, &theirs, "served", &mut vectors, "allowed").await;
}
