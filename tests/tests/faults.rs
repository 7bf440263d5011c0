//! Trouble: processes die, nodes restart, disks fail. Afterwards nothing acknowledged is missing and
//! nothing deleted is found.

#![allow(missing_docs, reason = "a test")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use outrigger_tests::{Api, Elasticsearch, Outrigger, Vectors, eventually};
use serde_json::{Value, json};

const DIMS: usize = 16;

/// Every document that Elasticsearch shows is found by its own vector, and nothing else is.
async fn assert_agrees(outrigger: &Outrigger, direct: &Api, index: &str, deleted: &[String]) {
    direct.call("POST", &format!("/{index}/_refresh"), None).await.ok();
    outrigger.api().call("POST", &format!("/{index}/_refresh"), None).await.ok();
    let report = outrigger.learnt(index).await;
    let shown = direct.get(&format!("/{index}/_count")).await.ok()["count"].as_u64().unwrap();
    assert_eq!(report["fields"][0]["docs"], shown, "{report}");
    let all = json!({"size": 10_000, "_source": {"exclude_vectors": false}, "query": {"match_all": {}}});
    let all = if Elasticsearch::version().starts_with("8.1") { json!({"size": 10_000}) } else { all };
    let all = direct.post(&format!("/{index}/_search"), all).await.ok();
    let docs: BTreeMap<String, Vec<f32>> = all["hits"]["hits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hit| {
            (
                hit["_id"].as_str().unwrap().to_owned(),
                serde_json::from_value(hit["_source"]["v"].clone()).unwrap(),
            )
        })
        .collect();
    for (id, vector) in docs.iter().step_by(docs.len() / 40 + 1) {
        let found = outrigger.api().knn(index, vector, 3).await;
        assert!(found.way.starts_with("answer"), "{}", found.way);
        assert!(found.ids().contains(id), "{id} is missing: {}", found.text);
    }
    for id in deleted {
        assert!(!docs.contains_key(id), "{id} was deleted");
    }
}

fn batch(vectors: &mut Vectors, from: usize, count: usize) -> Vec<(String, Value)> {
    (from..from + count).map(|n| (n.to_string(), json!({"v": vectors.draw()}))).collect()
}

#[tokio::test]
async fn killed_during_ingest_and_snapshots_nothing_is_lost() {
    let elasticsearch = Elasticsearch::start("kill").await;
    let data = tempfile::tempdir().unwrap();
    let mut vectors = Vectors::new(3, DIMS);
    let flags = ["--snapshot-interval", "50ms"];
    let mut outrigger = Outrigger::start_with(elasticsearch.url(), data.path(), &flags).await;
    outrigger.api().create("killed", DIMS, "l2_norm", 2).await;
    let mut deleted = Vec::new();
    let mut next = 0;
    for round in 0..5 {
        let api = outrigger.api();
        // Writes go on in the background until the process dies under them; what was acknowledged is
        // whatever Elasticsearch shows afterwards.
        let docs: Vec<_> = (0..10).map(|n| batch(&mut vectors, next + n * 100, 100)).collect();
        next += 1000;
        let writer = tokio::spawn(async move {
            for part in docs {
                if api.bulk("killed", "true", &part).await.is_none() {
                    return;
                }
            }
        });
        let victim = (round * 100).to_string();
        outrigger
            .api()
            .try_call(reqwest::Method::DELETE, &format!("/killed/_doc/{victim}?refresh=true"), None)
            .await;
        deleted.push(victim);
        tokio::time::sleep(Duration::from_millis(150 + 110 * round as u64)).await;
        outrigger.kill();
        writer.await.unwrap();
        outrigger = Outrigger::start_with(elasticsearch.url(), data.path(), &flags).await;
        for id in &deleted {
            elasticsearch.api().delete(&format!("/killed/_doc/{id}?refresh=true")).await;
        }
        assert_agrees(&outrigger, &elasticsearch.api(), "killed", &deleted).await;
    }
}

#[tokio::test]
async fn elasticsearch_restarting_under_load_is_survived() {
    let elasticsearch = Elasticsearch::start("es-restart").await;
    let data = tempfile::tempdir().unwrap();
    let mut vectors = Vectors::new(5, DIMS);
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let api = outrigger.api();
    api.create("survivor", DIMS, "cosine", 2).await;
    api.bulk("survivor", "true", &batch(&mut vectors, 0, 500)).await.unwrap().ok();
    outrigger.learnt("survivor").await;
    for (round, kill) in [(1, false), (2, true)] {
        let docs: Vec<_> = (0..40).map(|n| batch(&mut vectors, round * 10_000 + n * 50, 50)).collect();
        let writing = api.clone();
        let writer = tokio::spawn(async move {
            for part in docs {
                if let Some(reply) = writing.bulk("survivor", "true", &part).await {
                    let in_shape = reply.status == 200 || reply.body["error"]["type"].is_string();
                    assert!(in_shape, "{} {}", reply.status, reply.text);
                }
            }
        });
        let (searching, query) = (api.clone(), vectors.draw());
        let searcher = tokio::spawn(async move {
            for _ in 0..200 {
                let reply = searching.knn("survivor", &query, 5).await;
                let right = reply.status == 200 && reply.ids().len() == 5;
                assert!(right || reply.body["error"]["type"].is_string(), "{} {}", reply.status, reply.text);
            }
        });
        elasticsearch.restart(kill).await;
        writer.await.unwrap();
        searcher.await.unwrap();
        eventually("the shards are started again", Duration::from_secs(60), || async {
            let health =
                elasticsearch.api().try_get("/_cluster/health?wait_for_status=yellow&timeout=5s").await?;
            (health.status == 200).then_some(())
        })
        .await;
        outrigger.ready().await;
        assert_agrees(&outrigger, &elasticsearch.api(), "survivor", &[]).await;
    }
}

/// With `index.translog.durability: async` a crash loses what was acknowledged, and Elasticsearch gives the
/// same numbers away again, under another primary term. What we had shown, and what we held, must go.
#[tokio::test]
async fn acknowledged_writes_that_a_crash_lost_are_forgotten() {
    let elasticsearch = Elasticsearch::start("async").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());
    let body = json!({
        "settings": {
            "number_of_replicas": 0, "refresh_interval": -1,
            "index.translog": {"durability": "async", "sync_interval": "1h"},
        },
        "mappings": {"properties": {"v": {"type": "dense_vector", "dims": 2, "similarity": "l2_norm"}}},
    });
    through.put("/async", body).await.ok();
    through.put("/async/_doc/kept?refresh=true", json!({"v": [1, 1]})).await.ok();
    through.call("POST", "/async/_flush", None).await.ok();
    outrigger.learnt("async").await;
    let shown = through.put("/async/_doc/shown?refresh=true", json!({"v": [2, 2]})).await.ok();
    let hidden = through.put("/async/_doc/hidden", json!({"v": [3, 3]})).await.ok();
    assert_eq!(through.knn("async", &[2.0, 2.0], 9).await.ids().len(), 2);
    elasticsearch.restart(true).await;
    for (id, before) in [("first", &shown), ("second", &hidden)] {
        let after = direct.put(&format!("/async/_doc/{id}"), json!({"v": [4, 4]})).await.ok();
        assert_eq!(after["_seq_no"], before["_seq_no"], "the crash lost nothing: {after}");
        assert_ne!(after["_primary_term"], before["_primary_term"], "{after}");
    }
    outrigger.ready().await;
    through.call("POST", "/async/_refresh", None).await.ok();
    let found = through.knn("async", &[1.0, 1.0], 9).await;
    assert!(found.way.starts_with("answer"), "{}", found.way);
    assert_eq!(found.ids(), ["kept", "first", "second"], "{}", found.text);
}

fn files_below(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

#[tokio::test]
async fn damaged_files_are_set_aside_and_learnt_again() {
    let elasticsearch = Elasticsearch::start("damage").await;
    let data = tempfile::tempdir().unwrap();
    let mut vectors = Vectors::new(9, DIMS);
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    outrigger.api().create("damaged", DIMS, "l2_norm", 1).await;
    outrigger.api().bulk("damaged", "true", &batch(&mut vectors, 0, 400)).await.unwrap().ok();
    outrigger.learnt("damaged").await;
    outrigger.terminate();

    let files: Vec<_> = files_below(data.path()).into_iter().filter(|path| !path.ends_with("lock")).collect();
    assert!(!files.is_empty(), "a snapshot was written at shutdown");
    for file in &files {
        let mut bytes = std::fs::read(file).unwrap();
        if let Some(byte) = bytes.len().checked_div(2).and_then(|middle| bytes.get_mut(middle)) {
            *byte ^= 0x55;
        }
        std::fs::write(file, bytes).unwrap();
    }
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    assert!(outrigger.log().contains("damaged"), "{}", outrigger.log());
    assert_agrees(&outrigger, &elasticsearch.api(), "damaged", &[]).await;
}

#[tokio::test]
async fn damaged_vectors_are_never_compared_and_learnt_again() {
    let elasticsearch = Elasticsearch::start("damaged-rows").await;
    let data = tempfile::tempdir().unwrap();
    let mut vectors = Vectors::new(19, DIMS);
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    outrigger.api().create("flipped", DIMS, "l2_norm", 1).await;
    outrigger.api().bulk("flipped", "true", &batch(&mut vectors, 0, 399)).await.unwrap().ok();
    let mine = vectors.draw();
    outrigger.api().bulk("flipped", "true", &[("mine".to_owned(), json!({"v": mine}))]).await.unwrap().ok();
    outrigger.learnt("flipped").await;
    outrigger.terminate();

    // Vectors are not read when an index is opened: the damage is found by whoever uses them first.
    let is_rows = |path: &Path| path.file_name().unwrap().to_str().unwrap().starts_with("rows-");
    let mut files = files_below(data.path()).into_iter().filter(|path| is_rows(path));
    let rows = files.next().expect("a snapshot was written at shutdown");
    let mut bytes = std::fs::read(&rows).unwrap();
    bytes[399 * DIMS * 4 / 2] ^= 0x55;
    std::fs::write(&rows, bytes).unwrap();

    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    // Answered by whom ever, a search is right and none fails while the index begins anew.
    eventually("the index is learnt again", Duration::from_secs(60), || async {
        let found = outrigger.api().knn("flipped", &mine, 3).await;
        assert_eq!((found.status, found.ids().len()), (200, 3), "{}: {}", found.way, found.text);
        assert_eq!(found.ids()[0], "mine", "{}: {}", found.way, found.text);
        let begun = outrigger.log().contains("the index is read again from Elasticsearch");
        (begun && found.way.starts_with("answer")).then_some(())
    })
    .await;
    let set_aside =
        files_below(data.path()).into_iter().any(|path| path.to_string_lossy().contains(".damaged-"));
    assert!(set_aside, "the damaged files are kept for whoever wants to know");
    assert_agrees(&outrigger, &elasticsearch.api(), "flipped", &[]).await;
}

#[tokio::test]
async fn a_data_dir_that_cannot_be_written_costs_snapshots_only() {
    let elasticsearch = Elasticsearch::start("readonly").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    // A file where the engine wants a directory fails for every user, root too.
    let mut vectors = Vectors::new(13, DIMS);
    for entry in std::fs::read_dir(data.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(&path).unwrap();
            std::fs::write(&path, "in the way").unwrap();
        }
    }
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    outrigger.api().create("unsaved", DIMS, "l2_norm", 1).await;
    outrigger.api().bulk("unsaved", "true", &batch(&mut vectors, 0, 100)).await.unwrap().ok();
    outrigger.learnt("unsaved").await;
    assert_agrees(&outrigger, &elasticsearch.api(), "unsaved", &[]).await;
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_full_disk_costs_snapshots_only_and_is_used_again_when_it_has_room() {
    let elasticsearch = Elasticsearch::start("full").await;
    let data = tempfile::tempdir().unwrap();
    let mounted = Tmpfs::mount(data.path(), "128k");
    if mounted.is_none() {
        eprintln!("SKIPPED: a small file system cannot be mounted here (needs root)");
        return;
    }
    let mut vectors = Vectors::new(17, DIMS);
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    outrigger.api().create("full", DIMS, "l2_norm", 1).await;
    outrigger.api().bulk("full", "true", &batch(&mut vectors, 0, 4000)).await.unwrap().ok();
    outrigger.learnt("full").await;
    eventually("a failed snapshot is in the log", Duration::from_secs(30), || async {
        outrigger.log().contains("snapshot").then_some(())
    })
    .await;
    assert_agrees(&outrigger, &elasticsearch.api(), "full", &[]).await;
    let grown =
        std::process::Command::new("mount").args(["-o", "remount,size=64m"]).arg(data.path()).status();
    assert!(grown.is_ok_and(|status| status.success()));
    outrigger.api().bulk("full", "true", &batch(&mut vectors, 4000, 10)).await.unwrap().ok();
    eventually("a snapshot is written once there is room", Duration::from_secs(60), || async {
        let report = outrigger.api().try_get("/_ivf/full/_stats").await?.body;
        (report["fields"][0]["shards"][0]["disk_bytes"].as_u64()? > 0).then_some(())
    })
    .await;
    outrigger.terminate();
}

/// A small file system, unmounted when dropped.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(path: &'a Path, size: &str) -> Option<Self> {
        let options = format!("size={size}");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(path)
            .output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(path))
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg("--lazy").arg(self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.0.display());
        }
    }
}
