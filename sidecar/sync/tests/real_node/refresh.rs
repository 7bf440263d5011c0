//! When changes show: never before Elasticsearch shows them, and soon after.

use std::time::{Duration, Instant};

use es_wire::Similarity;
use serde_json::json;
use shard_sync::{Scope, SyncConfig};

use crate::fake_engine::FakeEngine;
use crate::harness::{Follower, Node, PATIENCE, eventually, index_line, ivf};

pub(crate) async fn without_automatic_refresh_nothing_shows_early(node: &Node) {
    let settings = json!({"number_of_shards": 1, "refresh_interval": "-1"});
    node.create("t-manual", settings, json!({"v": ivf(2, Similarity::L2Norm)})).await;
    let follower = Follower::start(node, FakeEngine::default());
    follower.ready().await;
    let uuid = follower.uuid("t-manual");
    assert!(!follower.sync.touch(&uuid), "an explicit refresh_interval never sleeps");
    let mut waits = Vec::new();
    for i in 0..20 {
        node.bulk("t-manual", &[index_line(&format!("d{i}"), &json!({"v": [i, 1]}))], false).await;
        assert!(follower.sync.published(Scope::Index("t-manual".into()), PATIENCE).await);
        assert_eq!(follower.engine.documents(&uuid, "v").len(), i, "not refreshed, not shown");
        node.refresh("t-manual").await;
        let began = Instant::now();
        assert!(follower.sync.published(Scope::Index("t-manual".into()), PATIENCE).await);
        waits.push(began.elapsed());
        assert_eq!(follower.engine.documents(&uuid, "v").len(), i + 1, "refreshed, shown");
    }
    let idle = Instant::now();
    for _ in 0..50 {
        assert!(follower.sync.published(Scope::All, PATIENCE).await);
    }
    waits.sort();
    eprintln!("barrier after a refresh: median {:?}; with nothing new: {:?}", waits[10], idle.elapsed() / 50);
    follower.sync.shutdown().await;
}

pub(crate) async fn an_automatic_refresh_shows_soon(node: &Node) {
    let settings = json!({"number_of_shards": 1, "refresh_interval": "1s"});
    node.create("t-auto", settings, json!({"v": ivf(2, Similarity::L2Norm)})).await;
    let follower = Follower::start(node, FakeEngine::default());
    follower.ready().await;
    let uuid = follower.uuid("t-auto");
    for i in 0..3usize {
        node.bulk("t-auto", &[index_line(&format!("d{i}"), &json!({"v": [i, 1]}))], false).await;
        let began = Instant::now();
        eventually("the document shows by itself", || follower.engine.documents(&uuid, "v").len() == i + 1)
            .await;
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    follower.sync.shutdown().await;
}

pub(crate) async fn an_idle_index_sleeps_and_wakes(node: &Node) {
    let settings = json!({"number_of_shards": 2, "search.idle.after": "1s"});
    node.create("t-idle", settings, json!({"v": ivf(2, Similarity::L2Norm)})).await;
    let config = SyncConfig { search_idle_after: Duration::from_secs(1), ..SyncConfig::default() };
    let follower = Follower::with(node, FakeEngine::default(), config);
    follower.ready().await;
    let uuid = follower.uuid("t-idle");
    // Not by asking touch again and again: that is what a searching client does.
    let asleep = || follower.sync.stats("t-idle").unwrap().asleep;
    eventually("it falls asleep", asleep).await;

    let lines: Vec<_> = (0..10).map(|i| index_line(&format!("d{i}"), &json!({"v": [i, 1]}))).collect();
    node.bulk("t-idle", &lines, false).await;
    // Elasticsearch sleeps too: its refresh counters must stand still although there is something new.
    let counters = async || {
        let stats = node.call("GET", "/t-idle/_stats/refresh", None).await;
        stats["_all"]["primaries"]["refresh"]["external_total"].as_u64().unwrap()
    };
    let before = counters().await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(counters().await, before, "something keeps the index awake");
    assert_eq!(follower.engine.documents(&uuid, "v").len(), 0);

    assert!(follower.sync.touch(&uuid));
    let began = Instant::now();
    assert!(follower.sync.wake(&uuid, PATIENCE).await);
    eprintln!("woken in {:?}", began.elapsed());
    assert_eq!(follower.engine.documents(&uuid, "v").len(), 10, "awake, it shows what a search would");
    assert!(!follower.sync.touch(&uuid));

    // An acknowledged refresh is published even while asleep.
    eventually("it falls asleep again", asleep).await;
    node.bulk("t-idle", &[index_line("late", &json!({"v": [9, 9]}))], true).await;
    assert!(follower.sync.published(Scope::Index("t-idle".into()), PATIENCE).await);
    assert_eq!(follower.engine.documents(&uuid, "v").len(), 11);
    follower.sync.shutdown().await;
}

pub(crate) async fn a_sleeping_index_does_not_run_into_debt(node: &Node) {
    node.create("t-debt", json!({"number_of_shards": 1}), json!({"v": ivf(2, Similarity::L2Norm)})).await;
    let config = SyncConfig { search_idle_after: Duration::from_millis(200), ..SyncConfig::default() };
    let follower = Follower::with(node, FakeEngine::default(), config);
    follower.ready().await;
    let uuid = follower.uuid("t-debt");
    eventually("it falls asleep", || follower.sync.stats("t-debt").unwrap().asleep).await;
    for batch in 0..5usize {
        let line = |i: usize| index_line(&format!("d{i}"), &json!({"v": [i, 1]}));
        let lines: Vec<_> = (batch * 5000..(batch + 1) * 5000).map(line).collect();
        node.bulk("t-debt", &lines, false).await;
    }
    // Nobody searches and nobody refreshes: 25,000 were written, 20,000 may be owed.
    eventually("no more is owed than allowed", || follower.engine.documents(&uuid, "v").len() >= 5_000).await;
    follower.sync.shutdown().await;
}
