//! Nodes of a cluster are lost, come back, freeze; shards move. Afterwards our answers are Elasticsearch's.

#![allow(missing_docs, reason = "a test")]

use std::time::Duration;

use outrigger_tests::{Api, Cluster, Elasticsearch, Outrigger, Vectors, assert_same, eventually};
use serde_json::{Value, json};

const DIMS: usize = 8;
const INDEX: &str = "kept";

/// A cluster of three with one index of two shards and one replica each, and the program in front of it.
struct Scene {
    cluster: Cluster,
    outrigger: Outrigger,
    vectors: Vectors,
    written: usize,
    _data: tempfile::TempDir,
}

impl Scene {
    async fn start(label: &str, seed: u64, settings: Value) -> Self {
        let cluster = Cluster::start(label, 3).await;
        let data = tempfile::tempdir().unwrap();
        let outrigger = Outrigger::start(&cluster.upstream(), data.path()).await;
        let body = json!({
            "settings": settings,
            "mappings": {"properties": {"v": {
                "type": "dense_vector", "dims": DIMS, "similarity": "l2_norm", "index_options": {"type": "ivf"},
            }}},
        });
        outrigger.api().put(&format!("/{INDEX}"), body).await.ok();
        cluster.healthy(0, 3, "green").await;
        let mut scene =
            Self { cluster, outrigger, vectors: Vectors::new(seed, DIMS), written: 0, _data: data };
        let api = scene.outrigger.api();
        scene.write(&api, 600, "true").await;
        scene.outrigger.learnt(INDEX).await;
        scene
    }

    /// Writes new documents, overwrites one in ten of the old ones, deletes one in twenty.
    async fn write(&mut self, through: &Api, documents: usize, refresh: &str) {
        let mut lines = String::new();
        for n in self.written..self.written + documents {
            let vector = self.vectors.draw();
            lines.push_str(&format!(
                "{}\n{}\n",
                json!({"index": {"_id": n.to_string()}}),
                json!({"v": vector})
            ));
        }
        for n in (0..self.written).step_by(10) {
            let vector = self.vectors.draw();
            lines.push_str(&format!(
                "{}\n{}\n",
                json!({"index": {"_id": n.to_string()}}),
                json!({"v": vector})
            ));
        }
        for n in (5..self.written).step_by(20) {
            lines.push_str(&format!("{}\n", json!({"delete": {"_id": n.to_string()}})));
        }
        self.written += documents;
        let path = format!("/{INDEX}/_bulk?refresh={refresh}");
        let reply = through.try_call("POST".parse().unwrap(), &path, Some(lines)).await.expect("a response");
        assert_eq!(reply.status, 200, "{}", reply.text);
    }

    /// After a refresh through us, ids and scores equal those of an exact scan in Elasticsearch.
    async fn assert_agrees(&mut self, node: usize) {
        let (ours, theirs) = (self.outrigger.api(), self.cluster.api(node));
        eventually("a refresh through us succeeds on all shards", Duration::from_secs(60), || async {
            let reply = ours.try_call("POST".parse().unwrap(), &format!("/{INDEX}/_refresh"), None).await?;
            (reply.status == 200 && reply.body["_shards"]["failed"] == 0).then_some(())
        })
        .await;
        self.outrigger.learnt(INDEX).await;
        for _ in 0..5 {
            let query = self.vectors.draw();
            let found = ours.knn(INDEX, &query, 50).await;
            assert!(found.way.starts_with("answer"), "{}: {}", found.way, found.text);
            let exact = theirs.knn(INDEX, &query, 50).await;
            assert_same(&found, &exact, &format!("seen by node {node}"));
        }
        let all = json!({"size": 0, "track_total_hits": true, "query": {"exists": {"field": "v"}}});
        let shown =
            theirs.post(&format!("/{INDEX}/_search"), all).await.ok()["hits"]["total"]["value"].clone();
        let report = ours.get(&format!("/_ivf/{INDEX}/_stats")).await.ok();
        assert_eq!(report["fields"][0]["docs"], shown, "{report}");
    }
}

fn two_copies() -> Value {
    json!({"number_of_shards": 2, "number_of_replicas": 1, "unassigned.node_left.delayed_timeout": "0s"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_primary_is_replaced_by_its_replica() {
    let mut scene = Scene::start("failover", 41, two_copies()).await;
    for round in 0..3 {
        let lost = scene.cluster.primary_of(0, INDEX, round % 2).await;
        let other = (lost + 1) % 3;
        let direct = scene.cluster.api(other);
        scene.write(&direct, 100, "false").await;
        scene.cluster.kill(lost).await;
        scene.cluster.healthy(other, 2, "yellow").await;
        scene.write(&direct, 50, "false").await;
        scene.assert_agrees(other).await;
        scene.cluster.restart(lost).await;
        scene.cluster.healthy(other, 3, "green").await;
        scene.write(&direct, 50, "false").await;
        scene.assert_agrees(lost).await;
    }
}

/// A primary dies with operations that never reached its replica; the replica is promoted and gives their
/// numbers to other documents; the dead node comes back and must throw its own away.
#[tokio::test(flavor = "multi_thread")]
async fn operations_that_only_a_dead_primary_had_are_gone() {
    let settings = json!({
        "number_of_shards": 1, "number_of_replicas": 1, "unassigned.node_left.delayed_timeout": "0s",
        "routing.allocation.include._name": "*-1,*-2",
    });
    let mut scene = Scene::start("lost", 43, settings).await;
    for _ in 0..2 {
        let dying = scene.cluster.primary_of(2, INDEX, 0).await;
        let replica = 1 - dying;
        let primary = scene.cluster.api(dying);
        // The replica stands still: the primary has it, nobody else, and nobody is told.
        scene.cluster.pause(replica).await;
        let lost: String = (0..40)
            .map(|n| {
                let vector = scene.vectors.draw();
                format!("{}\n{}\n", json!({"index": {"_id": format!("lost-{n}")}}), json!({"v": vector}))
            })
            .collect();
        let path = format!("/{INDEX}/_bulk");
        let unanswered = primary.try_call("POST".parse().unwrap(), &path, Some(lost));
        assert!(
            tokio::time::timeout(Duration::from_secs(1), unanswered).await.is_err(),
            "confirmed by whom?"
        );
        // First the primary, so that it cannot report the replica; then what waits in the replica's sockets.
        scene.cluster.kill(dying).await;
        scene.cluster.kill(replica).await;
        scene.cluster.restart(replica).await;
        scene.cluster.healthy(2, 2, "yellow").await;
        let master = scene.cluster.api(2);
        let all = json!({"query": {"prefix": {"_id": "lost-"}}});
        let found = master.post(&format!("/{INDEX}/_count"), all).await;
        scene.write(&master, 60, "true").await;
        scene.assert_agrees(2).await;
        scene.cluster.restart(dying).await;
        scene.cluster.healthy(2, 3, "green").await;
        scene.write(&master, 20, "false").await;
        scene.assert_agrees(dying).await;
        eprintln!("of 40 lost operations came back: {}", found.text);
    }
}

/// With a translog that is not written through, a crash takes back what searches had already shown.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_takes_back_after_it_was_shown_is_forgotten() {
    let elasticsearch = Elasticsearch::start("takeback").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (ours, theirs) = (outrigger.api(), elasticsearch.api());
    let body = json!({
        "settings": {"number_of_replicas": 0, "translog.durability": "async", "translog.sync_interval": "1h"},
        "mappings": {"properties": {"v": {
            "type": "dense_vector", "dims": 2, "similarity": "l2_norm", "index_options": {"type": "ivf"},
        }}},
    });
    ours.put("/shown", body).await.ok();
    let batch = |name: &str, n: usize| -> Vec<(String, Value)> {
        (0..n).map(|i| (format!("{name}-{i}"), json!({"v": [i, name.len()]}))).collect()
    };
    for round in 0..3 {
        ours.bulk("shown", "false", &batch("kept", 50)).await.unwrap().ok();
        ours.call("POST", "/shown/_flush", None).await.ok();
        let lost = format!("lost-in-round-{round}");
        ours.bulk("shown", "true", &batch(&lost, 20)).await.unwrap().ok();
        outrigger.learnt("shown").await;
        let found = ours.knn("shown", &[1.0, lost.len() as f32], 3).await;
        assert!(found.ids()[0].starts_with("lost"), "{}", found.text);
        elasticsearch.restart(true).await;
        // Their numbers go to other documents.
        theirs.bulk("shown", "true", &batch("other", 10 + round)).await.unwrap().ok();
        ours.call("POST", "/shown/_refresh", None).await.ok();
        outrigger.learnt("shown").await;
        let (mine, exact) =
            (ours.knn("shown", &[1.0, 9.0], 100).await, theirs.knn("shown", &[1.0, 9.0], 100).await);
        assert!(mine.way.starts_with("answer"), "{}", mine.way);
        assert_same(&mine, &exact, "after the crash");
        assert!(!exact.text.contains("lost-"), "the crash lost nothing: {}", exact.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_move_are_followed_to_their_new_node() {
    let settings = json!({"number_of_shards": 2, "number_of_replicas": 0});
    let mut scene = Scene::start("moving", 47, settings).await;
    for _ in 0..4 {
        let from = scene.cluster.primary_of(0, INDEX, 0).await;
        let to = (from + 1) % 3;
        let api = scene.cluster.api(0);
        scene.write(&api, 50, "false").await;
        let (from_node, to_node) = (scene.cluster.node_name(from), scene.cluster.node_name(to));
        let step = json!({"move": {"index": INDEX, "shard": 0, "from_node": from_node, "to_node": to_node}});
        api.post("/_cluster/reroute", json!({"commands": [step]})).await.ok();
        scene.write(&api, 50, "false").await;
        scene.cluster.healthy(0, 3, "green").await;
        scene.assert_agrees(to).await;
    }
}

/// Copies refresh at other moments, and come and go; we follow the primary's.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_come_go_and_take_over_in_turn() {
    let mut scene = Scene::start("replicas", 53, two_copies()).await;
    for round in 0..3 {
        let api = scene.cluster.api(round % 3);
        scene.write(&api, 80, "false").await;
        let copies = [2, 0, 1][round % 3];
        let replicas = json!({"index.number_of_replicas": copies});
        api.put(&format!("/{INDEX}/_settings"), replicas).await.ok();
        scene.write(&api, 20, "wait_for").await;
        scene.cluster.healthy(0, 3, "green").await;
        scene.assert_agrees((round + 1) % 3).await;
        // An orderly leave: the replica takes over without losing anything.
        let leaving = scene.cluster.primary_of(0, INDEX, 1).await;
        if round % 3 != 1 {
            scene.cluster.stop(leaving).await;
            let other = (leaving + 1) % 3;
            scene.cluster.healthy(other, 2, "yellow").await;
            let api = scene.cluster.api(other);
            scene.write(&api, 30, "true").await;
            scene.assert_agrees(other).await;
            scene.cluster.restart(leaving).await;
            scene.cluster.healthy(other, 3, "green").await;
        }
    }
}

/// Both copies of a shard are lost, and an operator allocates the older one by force: acknowledged
/// writes are gone, the history is another one, and we must show what Elasticsearch shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_copy_allocated_by_force_is_another_history() {
    let settings = json!({
        "number_of_shards": 1, "number_of_replicas": 1, "unassigned.node_left.delayed_timeout": "0s",
        "routing.allocation.include._name": "*-1,*-2",
    });
    let mut scene = Scene::start("stale", 59, settings).await;
    let primary = scene.cluster.primary_of(2, INDEX, 0).await;
    let replica = 1 - primary;
    scene.cluster.stop(replica).await;
    scene.cluster.healthy(2, 2, "yellow").await;
    let master = scene.cluster.api(2);
    // The copy that is away lacks these.
    scene.write(&master, 70, "true").await;
    scene.assert_agrees(2).await;
    scene.cluster.kill(primary).await;
    scene.cluster.restart(replica).await;
    scene.cluster.healthy(2, 2, "red").await;
    let node = scene.cluster.node_name(replica);
    let step = json!({"allocate_stale_primary": {
        "index": INDEX, "shard": 0, "node": node, "accept_data_loss": true,
    }});
    eventually("the stale copy is allocated", Duration::from_secs(60), || async {
        let reply = master.post("/_cluster/reroute", json!({"commands": [step]})).await;
        (reply.status == 200).then_some(())
    })
    .await;
    scene.cluster.healthy(2, 2, "yellow").await;
    scene.assert_agrees(2).await;
    scene.written = 600;
    scene.write(&master, 30, "false").await;
    scene.assert_agrees(2).await;
    scene.cluster.restart(primary).await;
    scene.cluster.healthy(2, 3, "green").await;
    scene.write(&master, 30, "false").await;
    scene.assert_agrees(primary).await;
}
