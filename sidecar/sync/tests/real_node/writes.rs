//! Documents come, change and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use es_wire::Similarity;
use knn_types::Element;
use serde_json::json;
use shard_sync::Scope;

use crate::fake_engine::FakeEngine;
use crate::harness::{Follower, Node, PATIENCE, Random, delete_line, index_line, ivf};

pub(crate) async fn an_existing_index_is_learnt(node: &Node) {
    let field =
        json!({"o": {"properties": {"v": ivf(24, Similarity::Cosine)}}, "w": ivf(3, Similarity::L2Norm)});
    node.create("t-learn", json!({"number_of_shards": 3}), field).await;
    let mut random = Random(1);
    let mut lines = Vec::new();
    for i in 0..6000 {
        let document = match i % 5 {
            0 => json!({"o": {"v": random.vector(24)}, "w": random.vector(3)}),
            1 => json!({"o.v": random.vector(24), "text": "dotted"}),
            2 => json!({"w": random.vector(3)}),
            3 => json!({"o": {"v": null}, "text": "none"}),
            _ => json!({"o": {"v": random.vector(24)}}),
        };
        lines.push(match i % 7 {
            0 => format!(
                "{}\n{document}",
                json!({"index": {"_id": format!("d{i}"), "routing": format!("r{}", i % 3)}})
            ),
            _ => index_line(&format!("d{i}"), &document),
        });
    }
    node.bulk("t-learn", &lines, false).await;
    let gone: Vec<_> =
        (0..6000).filter(|i| i % 7 != 0 && i % 11 == 0).map(|i| delete_line(&format!("d{i}"))).collect();
    node.bulk("t-learn", &gone, true).await;

    let began = Instant::now();
    let config = shard_sync::SyncConfig { page_bytes: 64 << 10, ..Default::default() };
    let follower = Follower::with(node, FakeEngine::default(), config);
    follower.ready().await;
    eprintln!("learnt in {:?}", began.elapsed());
    let in_v = follower.assert_equal(node, "t-learn", "o.v", Similarity::Cosine).await;
    let in_w = follower.assert_equal(node, "t-learn", "w", Similarity::L2Norm).await;
    assert!(in_v > 3000 && in_w > 2000, "{in_v} {in_w}");
    let report = follower.sync.stats("t-learn").unwrap();
    assert!(report.ready && report.fields.len() == 2 && report.fields[0].shards.len() == 3);
    assert_eq!(report.fields[0].docs, in_v as u64);
    follower.sync.shutdown().await;
}

/// Random small changes, each refreshed, each compared at once.
pub(crate) async fn every_change_is_followed(node: &Node) {
    node.create("t-steps", json!({"number_of_shards": 2}), json!({"v": ivf(8, Similarity::DotProduct)}))
        .await;
    let follower = Follower::start(node, FakeEngine::default());
    follower.ready().await;
    let mut random = Random(7);
    let unit = |random: &mut Random| {
        let mut vector = random.vector(8);
        Similarity::Cosine.prepare(Element::Float, &mut vector).unwrap();
        vector
    };
    for step in 0..40 {
        let lines: Vec<_> = (0..=random.below(12))
            .map(|_| {
                let id = format!("d{}", random.below(40));
                match random.below(10) {
                    0..=5 => index_line(&id, &json!({"v": unit(&mut random)})),
                    6 => index_line(&id, &json!({"text": "lost its vector"})),
                    7 => index_line(&id, &json!({"v": null})),
                    _ => delete_line(&id),
                }
            })
            .collect();
        node.bulk("t-steps", &lines, step % 3 != 2).await;
        node.refresh("t-steps").await;
        follower.assert_equal(node, "t-steps", "v", Similarity::DotProduct).await;
    }
    let shard = &follower.sync.stats("t-steps").unwrap().fields[0].shards[0];
    assert_eq!(shard.behind_operations, 0);
    assert!(shard.cursor > 0, "the cursor follows: {}", shard.cursor);
    assert!(shard.last_audit.is_some_and(|audit| audit.equal));
    follower.sync.shutdown().await;
}

/// Each bulk gives all documents one value: no state with two values may ever be published.
pub(crate) async fn one_refresh_is_one_epoch(node: &Node) {
    let settings = json!({"number_of_shards": 1, "refresh_interval": "-1"});
    node.create("t-epoch", settings, json!({"v": ivf(2, Similarity::L2Norm)})).await;
    let follower = Follower::start(node, FakeEngine::keeping_history());
    follower.ready().await;
    for value in 0..30 {
        let lines: Vec<_> =
            (0..20).map(|i| index_line(&format!("d{i}"), &json!({"v": [value, i]}))).collect();
        node.bulk("t-epoch", &lines, true).await;
    }
    follower.assert_equal(node, "t-epoch", "v", Similarity::L2Norm).await;
    let mut newest = -1.0;
    for state in follower.engine.states(&follower.uuid("t-epoch")) {
        let values: Vec<f32> = state.values().map(|(_, vector)| vector[0]).collect();
        assert!(values.is_empty() || values.len() == 20, "{} of 20 documents", values.len());
        assert!(values.iter().all(|value| *value == values[0]), "a torn state: {values:?}");
        let value = values.first().copied().unwrap_or(-1.0);
        assert!(value >= newest, "went back from {newest} to {value}");
        newest = value;
    }
    assert_eq!(newest, 29.0);
    follower.sync.shutdown().await;
}

pub(crate) async fn deletes_are_found(node: &Node) {
    node.create("t-gone", json!({"number_of_shards": 1}), json!({"v": ivf(4, Similarity::L2Norm)})).await;
    let mut random = Random(3);
    let lines: Vec<_> =
        (0..5000).map(|i| index_line(&format!("d{i}"), &json!({"v": random.vector(4)}))).collect();
    node.bulk("t-gone", &lines, true).await;
    let follower = Follower::start(node, FakeEngine::default());
    follower.ready().await;
    let learnt = follower.engine.upserts.load(Ordering::Relaxed);

    let gone: Vec<_> = (0..5000).step_by(137).map(|i| delete_line(&format!("d{i}"))).collect();
    node.bulk("t-gone", &gone, true).await;
    let left = follower.assert_equal(node, "t-gone", "v", Similarity::L2Norm).await;
    assert_eq!(left, 5000 - gone.len());
    let audit = follower.sync.stats("t-gone").unwrap().fields[0].shards[0].last_audit.unwrap();
    assert_eq!((audit.missing, audit.extra, audit.equal), (0, gone.len() as u64, true));
    assert_eq!(follower.engine.upserts.load(Ordering::Relaxed), learnt, "no vector travelled for a delete");

    // As many come as go: only the second look can tell them apart.
    let mut both: Vec<_> = (1..21).map(|i| delete_line(&format!("d{i}"))).collect();
    both.extend((0..20).map(|i| index_line(&format!("new{i}"), &json!({"v": random.vector(4)}))));
    node.bulk("t-gone", &both, true).await;
    follower.assert_equal(node, "t-gone", "v", Similarity::L2Norm).await;

    // All at once.
    let rest: Vec<_> = (0..5000).map(|i| delete_line(&format!("d{i}"))).collect();
    node.bulk("t-gone", &rest, true).await;
    assert_eq!(follower.assert_equal(node, "t-gone", "v", Similarity::L2Norm).await, 20);
    follower.sync.shutdown().await;
}

/// Writers, deleters and refreshes race; in the end nothing may be missing, and every barrier must
/// have kept its promise on the way.
pub(crate) async fn concurrent_writers_lose_nothing(node: &Node) {
    let settings = json!({"number_of_shards": 2, "refresh_interval": "200ms"});
    node.create("t-race", settings, json!({"v": ivf(16, Similarity::Cosine)})).await;
    let follower = Arc::new(Follower::start(node, FakeEngine::default()));
    follower.ready().await;
    let uuid = follower.uuid("t-race");
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4u64 {
        let (stop, follower, uuid) = (Arc::clone(&stop), Arc::clone(&follower), uuid.clone());
        let node = Node::at(&node.url, &node.version.to_string());
        writers.spawn(async move {
            let mut random = Random(writer + 100);
            let mut bulks = 0;
            while !stop.load(Ordering::Relaxed) {
                bulks += 1;
                let lines: Vec<_> = (0..60)
                    .map(|_| {
                        let id = format!("w{writer}-{}", random.below(400));
                        match random.below(4) {
                            0 => delete_line(&id),
                            _ => index_line(&id, &json!({"v": random.vector(16)})),
                        }
                    })
                    .collect();
                node.bulk("t-race", &lines, false).await;
                if bulks % 5 == 0 {
                    let id = format!("w{writer}-marker-{bulks}");
                    let marker = index_line(&id, &json!({"v": random.vector(16)}));
                    node.bulk("t-race", &[marker], true).await;
                    assert!(follower.sync.published(Scope::Index("t-race".into()), PATIENCE).await);
                    let held = follower.engine.documents(&uuid, "v");
                    assert!(
                        held.iter().any(|(_, doc, ..)| *doc.id == *id),
                        "{id} was refreshed and is not there"
                    );
                }
            }
            bulks
        });
    }
    tokio::time::sleep(Duration::from_secs(8)).await;
    stop.store(true, Ordering::Relaxed);
    let bulks: u64 = writers.join_all().await.into_iter().sum();
    node.refresh("t-race").await;
    let documents = follower.assert_equal(node, "t-race", "v", Similarity::Cosine).await;
    eprintln!("{bulks} bulks, {documents} documents");
    assert!(bulks > 40 && documents > 500);
    follower.sync.shutdown().await;
}
