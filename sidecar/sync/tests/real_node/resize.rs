//! Indices made out of others: shrink, split, clone, restore; and what lifecycle management does to one.

use es_wire::{Resolved, Similarity, TargetOptions};
use serde_json::{Value, json};
use shard_sync::FieldState;

use crate::fake_engine::FakeEngine;
use crate::harness::{Follower, Node, Random, delete_line, eventually, index_line, ivf};

/// An index of several shards whose numbers have gaps: documents were overwritten and deleted.
async fn worn(node: &Node, index: &str, shards: u32) -> usize {
    node.create(index, json!({"number_of_shards": shards}), json!({"v": ivf(4, Similarity::Cosine)})).await;
    let mut random = Random(u64::from(shards) + 70);
    let lines: Vec<_> =
        (0..400).map(|i| index_line(&format!("d{i}"), &json!({"v": random.vector(4)}))).collect();
    node.bulk(index, &lines, true).await;
    let again: Vec<_> =
        (0..400).step_by(7).map(|i| index_line(&format!("d{i}"), &json!({"v": random.vector(4)}))).collect();
    node.bulk(index, &again, true).await;
    let gone: Vec<_> = (3..400).step_by(9).map(|i| delete_line(&format!("d{i}"))).collect();
    node.bulk(index, &gone, true).await;
    400 - gone.len()
}

async fn put_settings(node: &Node, index: &str, settings: Value) {
    node.call("PUT", &format!("/{index}/_settings"), Some(settings.to_string())).await;
}

pub(crate) async fn indices_are_shrunk_split_and_cloned(node: &Node) {
    let documents = worn(node, "t-source", 2).await;
    let follower = Follower::start(node, FakeEngine::default());
    follower.ready().await;
    put_settings(node, "t-source", json!({"index.blocks.write": true})).await;
    for (verb, target, shards) in
        [("_clone", "t-cloned", 2), ("_split", "t-split", 4), ("_shrink", "t-shrunk", 1)]
    {
        let settings = json!({"index.number_of_shards": shards, "index.number_of_replicas": 0, "index.blocks.write": null});
        let body = json!({"settings": settings}).to_string();
        node.call("POST", &format!("/t-source/{verb}/{target}?wait_for_active_shards=1"), Some(body)).await;
        follower.ready().await;
        assert_eq!(follower.assert_equal(node, target, "v", Similarity::Cosine).await, documents, "{target}");
        // Numbers of a shrunk shard repeat; changes must still hit the right documents.
        let changes = [
            delete_line("d1"),
            index_line("d2", &json!({"v": [1, 0, 0, 1]})),
            index_line("new", &json!({"v": [0, 1, 1, 0]})),
        ];
        node.bulk(target, &changes, true).await;
        assert_eq!(follower.assert_equal(node, target, "v", Similarity::Cosine).await, documents, "{target}");
        let gone: Vec<_> =
            (100..140).filter(|i| (i - 3) % 9 != 0).map(|i| delete_line(&format!("d{i}"))).collect();
        node.bulk(target, &gone, true).await;
        let left = documents - gone.len();
        assert_eq!(follower.assert_equal(node, target, "v", Similarity::Cosine).await, left, "{target}");
    }
    assert_eq!(follower.assert_equal(node, "t-source", "v", Similarity::Cosine).await, documents);
    follower.sync.shutdown().await;
}

/// What index lifecycle management does, call by call: rollover, read-only, merge, shrink, swap of the
/// alias, deletion.
pub(crate) async fn an_index_lives_as_lifecycle_management_wants(node: &Node) {
    let documents = worn(node, "t-ilm-000001", 2).await;
    let alias =
        json!({"actions": [{"add": {"index": "t-ilm-000001", "alias": "t-ilm", "is_write_index": true}}]});
    node.call("POST", "/_aliases", Some(alias.to_string())).await;
    let follower = Follower::start(node, FakeEngine::default());
    follower.ready().await;
    let first = follower.uuid("t-ilm-000001");

    // The settings of the new index come with the call; its mapping as the proxy would translate it.
    let mapping = node.call("GET", "/t-ilm-000001/_mapping", None).await;
    let body = json!({"settings": {"number_of_shards": 1, "number_of_replicas": 0}, "mappings": mapping["t-ilm-000001"]["mappings"]});
    node.call("POST", "/t-ilm/_rollover", Some(body.to_string())).await;
    follower.ready().await;
    node.bulk("t-ilm", &[index_line("of-2", &json!({"v": [1, 2, 3, 4]}))], true).await;
    assert_eq!(follower.assert_equal(node, "t-ilm-000002", "v", Similarity::Cosine).await, 1);
    assert_eq!(follower.assert_equal(node, "t-ilm-000001", "v", Similarity::Cosine).await, documents);

    put_settings(node, "t-ilm-000001", json!({"index.blocks.write": true})).await;
    node.call("POST", "/t-ilm-000001/_forcemerge?max_num_segments=1", None).await;
    assert_eq!(follower.assert_equal(node, "t-ilm-000001", "v", Similarity::Cosine).await, documents);
    let body = json!({"settings": {"index.number_of_shards": 1, "index.number_of_replicas": 0}}).to_string();
    node.call("POST", "/t-ilm-000001/_shrink/t-ilm-shrunk?wait_for_active_shards=1", Some(body)).await;
    let swap = json!({"actions": [
        {"remove_index": {"index": "t-ilm-000001"}},
        {"add": {"index": "t-ilm-shrunk", "alias": "t-ilm-000001"}},
        {"add": {"index": "t-ilm-shrunk", "alias": "t-ilm"}},
    ]});
    node.call("POST", "/_aliases", Some(swap.to_string())).await;
    follower.ready().await;
    assert!(matches!(follower.sync.field(&first, "v"), FieldState::Unknown), "the name means another index");
    assert_eq!(follower.assert_equal(node, "t-ilm-shrunk", "v", Similarity::Cosine).await, documents);
    assert_eq!(follower.sync.stats("t-ilm-000001").unwrap().index, "t-ilm-shrunk", "by its old name");
    eventually("the old files are gone", || !follower.engine.knows(&first)).await;

    node.call("DELETE", "/t-ilm-shrunk", None).await;
    follower.ready().await;
    assert!(follower.sync.stats("t-ilm-shrunk").is_none());
    assert_eq!(follower.assert_equal(node, "t-ilm-000002", "v", Similarity::Cosine).await, 1);
    follower.sync.shutdown().await;
}

pub(crate) async fn settings_change_while_it_is_followed(node: &Node) {
    let mut documents = worn(node, "t-settings", 2).await;
    let follower = Follower::start(node, FakeEngine::default());
    follower.ready().await;
    let uuid = follower.uuid("t-settings");
    for (round, settings) in [
        json!({"index.refresh_interval": "-1"}),
        json!({"index.number_of_replicas": 1}),
        json!({"index.refresh_interval": "30s"}),
        json!({"index.refresh_interval": null, "index.search.idle.after": "100ms"}),
        json!({"index.number_of_replicas": 0, "index.refresh_interval": "1s"}),
    ]
    .into_iter()
    .enumerate()
    {
        put_settings(node, "t-settings", settings.clone()).await;
        follower.sync.invalidate().await;
        let slept = settings.get("index.search.idle.after").is_some();
        if slept {
            eventually("it sleeps as its own setting says", || {
                follower.sync.stats("t-settings").unwrap().asleep
            })
            .await;
        }
        let changes = [
            delete_line(&format!("d{}", 10 + 2 * round)),
            index_line(&format!("n{round}"), &json!({"v": [round, 1, 2, 3]})),
        ];
        let deleted = (10 + 2 * round - 3) % 9 != 0;
        node.bulk("t-settings", &changes, true).await;
        documents = documents + 1 - usize::from(deleted);
        assert_eq!(
            follower.assert_equal(node, "t-settings", "v", Similarity::Cosine).await,
            documents,
            "{settings}"
        );
    }
    assert_eq!(follower.uuid("t-settings"), uuid);
    assert!(
        !follower.sync.stats("t-settings").unwrap().asleep,
        "an explicit refresh_interval keeps it awake"
    );
    follower.sync.shutdown().await;
}

/// Of the one Elasticsearch tells nothing, not even together with others; of the other it tells a number in
/// digits that we do not read.
pub(crate) async fn an_index_that_cannot_be_followed_stops_no_other(node: &Node) {
    let mut documents = worn(node, "t-others", 1).await;
    worn(node, "t-left", 1).await;
    let alias = |index: &str, alias: &str| json!({"add": {"index": index, "alias": alias}});
    let aliases = [alias("t-left", "t-both"), alias("t-others", "t-both"), alias("t-others", "t-other")];
    node.call("POST", "/_aliases", Some(json!({"actions": aliases}).to_string())).await;
    let follower = Follower::start(node, FakeEngine::default());
    follower.ready().await;
    for (key, value) in [("blocks.metadata", "true"), ("max_result_window", "\u{661}\u{660}")] {
        put_settings(node, "t-left", json!({format!("index.{key}"): value})).await;
        follower.ready().await;
        let catalog = follower.sync.catalog();
        for name in ["t-left", "t-both"] {
            assert!(matches!(catalog.resolve(name), Resolved::NotOne(_)), "{key} {name}");
            assert!(catalog.targets(name, &TargetOptions::default()).is_err(), "{key} {name}");
        }
        assert!(matches!(catalog.resolve("t-other"), Resolved::One(_)), "{key}");
        assert!(matches!(follower.state("t-left", "v"), FieldState::Unknown), "{key}");
        let late = format!("t-{}", key.replace('.', "-"));
        node.create(&late, json!({}), json!({"v": ivf(2, Similarity::L2Norm)})).await;
        follower.ready().await;
        node.bulk(&late, &[index_line("1", &json!({"v": [1, 2]}))], true).await;
        assert_eq!(follower.assert_equal(node, &late, "v", Similarity::L2Norm).await, 1);
        let line = |vector: Value| [index_line(key, &json!({"v": vector}))];
        node.bulk("t-others", &line(json!([1, 2, 3, 4])), true).await;
        documents += 1;
        assert_eq!(follower.assert_equal(node, "t-others", "v", Similarity::Cosine).await, documents);
        node.bulk("t-left", &line(json!([4, 3, 2, 1])), true).await;
        put_settings(node, "t-left", json!({format!("index.{key}"): null})).await;
        follower.ready().await;
        assert!(matches!(follower.sync.catalog().resolve("t-left"), Resolved::One(_)), "{key}");
        eventually("it is followed again", || matches!(follower.state("t-left", "v"), FieldState::Ready(_)))
            .await;
        follower.assert_equal(node, "t-left", "v", Similarity::Cosine).await;
    }
    follower.sync.shutdown().await;
}

pub(crate) async fn hidden_indices_are_followed_as_any_other(node: &Node) {
    node.create("t-hidden", json!({"hidden": true}), json!({"v": ivf(2, Similarity::L2Norm)})).await;
    node.create("t-empty", json!({}), json!({"v": ivf(2, Similarity::L2Norm)})).await;
    let follower = Follower::start(node, FakeEngine::default());
    follower.ready().await;
    assert_eq!(follower.assert_equal(node, "t-empty", "v", Similarity::L2Norm).await, 0);
    node.bulk("t-hidden", &[index_line("1", &json!({"v": [1, 2]}))], true).await;
    assert_eq!(follower.assert_equal(node, "t-hidden", "v", Similarity::L2Norm).await, 1);
    follower.sync.shutdown().await;
}
