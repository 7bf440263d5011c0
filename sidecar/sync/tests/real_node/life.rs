//! Indices, nodes and processes come and go.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use es_wire::Similarity;
use serde_json::json;
use shard_sync::{FieldState, Scope};

use crate::fake_engine::FakeEngine;
use crate::harness::{self, Follower, Node, PATIENCE, Random, delete_line, eventually, index_line, ivf};

async fn filled(node: &Node, index: &str, shards: u32, documents: usize, seed: u64) {
    node.create(index, json!({"number_of_shards": shards}), json!({"v": ivf(4, Similarity::L2Norm)})).await;
    let mut random = Random(seed);
    let lines: Vec<_> =
        (0..documents).map(|i| index_line(&format!("d{i}"), &json!({"v": random.vector(4)}))).collect();
    node.bulk(index, &lines, true).await;
}

pub(crate) async fn an_index_is_deleted_and_made_again(node: &Node) {
    filled(node, "t-again", 1, 100, 1).await;
    let follower = Follower::start(node, FakeEngine::default());
    follower.ready().await;
    let first = follower.uuid("t-again");
    assert!(matches!(follower.sync.field(&first, "v"), FieldState::Ready(_)));

    node.call("DELETE", "/t-again", None).await;
    filled(node, "t-again", 2, 30, 2).await;
    follower.sync.invalidate().await;
    let second = follower.uuid("t-again");
    assert_ne!(first, second);
    assert!(matches!(follower.sync.field(&first, "v"), FieldState::Unknown));
    assert!(
        !matches!(follower.sync.field(&second, "v"), FieldState::Unknown),
        "known as soon as invalidated"
    );
    assert_eq!(follower.assert_equal(node, "t-again", "v", Similarity::L2Norm).await, 30);
    assert!(matches!(follower.state("t-again", "v"), FieldState::Ready(shards) if shards.len() == 2));
    eventually("the old files are gone", || !follower.engine.knows(&first)).await;

    // A barrier on an index that is deleted meanwhile does not hang.
    node.call("DELETE", "/t-again", None).await;
    let began = Instant::now();
    assert!(follower.sync.published(Scope::All, PATIENCE).await);
    assert!(began.elapsed() < Duration::from_secs(10));
    follower.sync.shutdown().await;
}

pub(crate) async fn an_index_is_closed_and_opened(node: &Node) {
    filled(node, "t-closed", 1, 300, 5).await;
    // Three refreshes let the cursor move, so that reopening needs no doubt.
    for _ in 0..3 {
        node.bulk("t-closed", &[index_line("x", &json!({"v": [1, 2, 3, 4]}))], true).await;
    }
    let follower = Follower::start(node, FakeEngine::default());
    follower.ready().await;
    let uuid = follower.uuid("t-closed");
    let learnt = follower.engine.upserts.load(Ordering::Relaxed);

    node.call("POST", "/t-closed/_close", None).await;
    follower.sync.invalidate().await;
    assert!(matches!(follower.sync.field(&uuid, "v"), FieldState::Unknown));
    assert!(follower.engine.knows(&uuid), "files stay");

    node.call("POST", "/t-closed/_open", None).await;
    follower.sync.invalidate().await;
    eventually("searchable again", || matches!(follower.sync.field(&uuid, "v"), FieldState::Ready(_))).await;
    node.bulk("t-closed", &[delete_line("d7"), index_line("y", &json!({"v": [4, 3, 2, 1]}))], true).await;
    assert_eq!(follower.assert_equal(node, "t-closed", "v", Similarity::L2Norm).await, 301);
    let again = follower.engine.upserts.load(Ordering::Relaxed) - learnt;
    assert!(again < 20, "{again} vectors were learnt again");

    node.call("POST", "/t-closed/_close", None).await;
    follower.sync.invalidate().await;
    node.call("DELETE", "/t-closed", None).await;
    follower.sync.invalidate().await;
    eventually("files of an index deleted while closed are gone", || !follower.engine.knows(&uuid)).await;
    follower.sync.shutdown().await;
}

pub(crate) async fn a_field_is_added(node: &Node) {
    filled(node, "t-field", 1, 50, 9).await;
    let follower = Follower::start(node, FakeEngine::default());
    follower.ready().await;
    node.add_field("t-field", json!({"w": ivf(2, Similarity::Cosine)})).await;
    follower.sync.invalidate().await;
    assert!(!matches!(follower.state("t-field", "w"), FieldState::Unknown));
    eventually("the new field is searchable", || {
        matches!(follower.state("t-field", "w"), FieldState::Ready(_))
    })
    .await;
    let lines =
        [index_line("d1", &json!({"w": [3, 4]})), index_line("d2", &json!({"v": [1, 1, 1, 1], "w": [0, 2]}))];
    node.bulk("t-field", &lines, true).await;
    assert_eq!(follower.assert_equal(node, "t-field", "v", Similarity::L2Norm).await, 49);
    assert_eq!(follower.assert_equal(node, "t-field", "w", Similarity::Cosine).await, 2);
    follower.sync.shutdown().await;
}

pub(crate) async fn many_shards(node: &Node) {
    for i in 0..8 {
        filled(node, &format!("t-many-{i}"), 5, 40 + i, i as u64).await;
    }
    let follower = Follower::start(node, FakeEngine::default());
    follower.ready().await;
    for i in 0..8 {
        node.bulk(
            &format!("t-many-{i}"),
            &[delete_line("d3"), index_line("n", &json!({"v": [i, 0, 0, 1]}))],
            true,
        )
        .await;
    }
    let began = Instant::now();
    assert!(follower.sync.published(Scope::All, PATIENCE).await);
    eprintln!("8 x 5 shards published after {:?}", began.elapsed());
    for i in 0..8 {
        let index = format!("t-many-{i}");
        assert_eq!(follower.assert_equal(node, &index, "v", Similarity::L2Norm).await, 40 + i);
    }
    follower.sync.shutdown().await;
}

pub(crate) async fn a_restart_continues_from_the_snapshot(node: &Node) {
    filled(node, "t-snap", 2, 3000, 11).await;
    let first = Follower::start(node, FakeEngine::default());
    first.ready().await;
    first.sync.shutdown().await;

    let gone: Vec<_> = (0..3000).step_by(100).map(|i| delete_line(&format!("d{i}"))).collect();
    node.bulk("t-snap", &gone, true).await;
    let new: Vec<_> = (0..25).map(|i| index_line(&format!("n{i}"), &json!({"v": [i, 1, 2, 3]}))).collect();
    node.bulk("t-snap", &new, true).await;
    node.bulk("t-snap", &[index_line("d1", &json!({"text": "no vector any more"}))], true).await;

    let second = Follower::start(node, first.engine.restarted());
    second.ready().await;
    let documents = second.assert_equal(node, "t-snap", "v", Similarity::L2Norm).await;
    assert_eq!(documents, 3000 - 30 + 25 - 1);
    assert_eq!(second.engine.upserts.load(Ordering::Relaxed), 25, "only what is new travels");
    second.sync.shutdown().await;
}

/// A node of its own, killed hard while it is written to.
pub(crate) async fn the_node_is_killed_and_comes_back(other: &Node) {
    let version = other.version.to_string();
    let name = format!("sync-test-{}-{}", version.replace('.', "-"), std::process::id());
    let pid = std::process::id().to_string();
    let started = harness::es(&["start", &version, "--name", &name, "--heap", "512m", "--exit-with", &pid]);
    let node = Node::at(started["url"].as_str().unwrap(), &version);
    filled(&node, "t-kill", 2, 2000, 21).await;
    let follower = Follower::start(&node, FakeEngine::default());
    follower.ready().await;
    let learnt = follower.engine.upserts.load(Ordering::Relaxed);
    node.bulk("t-kill", &[index_line("before", &json!({"v": [1, 0, 0, 0]}))], true).await;
    assert!(follower.sync.published(Scope::All, PATIENCE).await);

    let restarting = name.clone();
    let restart = tokio::task::spawn_blocking(move || harness::es(&["restart", &restarting, "--kill"]));
    // While it is away: barriers fail in time, the index stays searchable.
    eventually("the node is away", || {
        std::net::TcpStream::connect(node.url.trim_start_matches("http://")).is_err()
    })
    .await;
    assert!(!follower.sync.published(Scope::All, Duration::from_millis(200)).await);
    assert!(matches!(follower.state("t-kill", "v"), FieldState::Ready(_)), "the published state stays");
    restart.await.unwrap();

    let lines = [delete_line("d5"), index_line("after", &json!({"v": [0, 1, 0, 0]}))];
    node.bulk("t-kill", &lines, true).await;
    assert_eq!(follower.assert_equal(&node, "t-kill", "v", Similarity::L2Norm).await, 2001);
    let again = follower.engine.upserts.load(Ordering::Relaxed) - learnt;
    eprintln!("{again} vectors travelled after the restart");
    follower.sync.shutdown().await;
    harness::es(&["stop", &name, "--forget"]);
}

/// A restore into a closed index keeps its uuid but rewrites its history: numbers go back and are
/// given out again for other documents.
pub(crate) async fn a_restore_in_place_is_another_history(other: &Node) {
    let version = other.version.to_string();
    let name = format!("sync-restore-{}-{}", version.replace('.', "-"), std::process::id());
    let repository = std::env::temp_dir().join(&name);
    std::fs::create_dir_all(&repository).unwrap();
    // The node may run as another user.
    std::fs::set_permissions(&repository, std::fs::Permissions::from_mode(0o777)).unwrap();
    let pid = std::process::id().to_string();
    let setting = format!("path.repo={}", repository.display());
    let arguments =
        ["start", &version, "--name", &name, "--heap", "512m", "--exit-with", &pid, "--setting", &setting];
    let started = harness::es(&arguments);
    let node = Node::at(started["url"].as_str().unwrap(), &version);

    filled(&node, "t-restore", 1, 50, 31).await;
    let follower = Follower::start(&node, FakeEngine::default());
    follower.ready().await;
    let uuid = follower.uuid("t-restore");
    let place = json!({"type": "fs", "settings": {"location": repository}}).to_string();
    node.call("PUT", "/_snapshot/r", Some(place)).await;
    node.call("PUT", "/_snapshot/r/s?wait_for_completion=true", None).await;
    let later: Vec<_> =
        (0..30).map(|i| index_line(&format!("later{i}"), &json!({"v": [i, 0, 0, 0]}))).collect();
    node.bulk("t-restore", &later, true).await;
    assert_eq!(follower.assert_equal(&node, "t-restore", "v", Similarity::L2Norm).await, 80);

    node.call("POST", "/t-restore/_close", None).await;
    let body = json!({"indices": "t-restore"}).to_string();
    node.call("POST", "/_snapshot/r/s/_restore?wait_for_completion=true", Some(body)).await;
    node.call("POST", "/t-restore/_open", None).await;
    follower.sync.invalidate().await;
    assert_eq!(follower.uuid("t-restore"), uuid, "the same index");
    node.bulk("t-restore", &[index_line("other", &json!({"v": [7, 7, 7, 7]}))], true).await;
    eventually("searchable again", || matches!(follower.state("t-restore", "v"), FieldState::Ready(_))).await;
    assert_eq!(follower.assert_equal(&node, "t-restore", "v", Similarity::L2Norm).await, 51);

    // Under another name: another index, whose documents keep their numbers.
    let body = json!({"indices": "t-restore", "rename_pattern": "t-(.+)", "rename_replacement": "t-$1d"});
    node.call("POST", "/_snapshot/r/s/_restore?wait_for_completion=true", Some(body.to_string())).await;
    follower.ready().await;
    assert_ne!(follower.uuid("t-restored"), uuid);
    node.bulk("t-restored", &[delete_line("d3"), index_line("x", &json!({"v": [1, 2, 3, 4]}))], true).await;
    assert_eq!(follower.assert_equal(&node, "t-restored", "v", Similarity::L2Norm).await, 50);
    assert_eq!(follower.assert_equal(&node, "t-restore", "v", Similarity::L2Norm).await, 51);
    follower.sync.shutdown().await;
    harness::es(&["stop", &name, "--forget"]);
    std::fs::remove_dir_all(&repository).unwrap();
}
