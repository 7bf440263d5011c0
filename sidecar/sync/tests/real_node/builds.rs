//! First builds: interrupted, cancelled, throttled, and of indices that nobody can read.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use es_wire::Similarity;
use serde_json::json;
use shard_sync::{FieldState, Scope, ShardState, SyncConfig};

use crate::fake_engine::FakeEngine;
use crate::harness::{Follower, Node, PATIENCE, delete_line, eventually, index_line, ivf};

const DOCUMENTS: usize = 24_000;

async fn filled(node: &Node, index: &str) {
    let settings = json!({"number_of_shards": 1, "refresh_interval": "1s"});
    node.create(index, settings, json!({"v": ivf(2, Similarity::L2Norm)})).await;
    for batch in 0..4 {
        let line = |i: usize| index_line(&format!("d{i}"), &json!({"v": [i, 1]}));
        let each = DOCUMENTS / 4;
        let lines: Vec<_> = (batch * each..(batch + 1) * each).map(line).collect();
        node.bulk(index, &lines, true).await;
    }
}

fn slowly() -> SyncConfig {
    SyncConfig {
        build_rate: Some(4_000),
        snapshot_interval: Duration::from_millis(100),
        ..SyncConfig::default()
    }
}

pub(crate) async fn a_build_cut_off_by_a_crash_goes_on_where_it_was(node: &Node) {
    filled(node, "t-crash").await;
    let first = Follower::with(node, FakeEngine::default(), slowly());
    first.sync.invalidate().await;
    let uuid = first.uuid("t-crash");
    eventually("a part is on disk", || first.engine.saved(&uuid) >= 8_000).await;
    assert!(matches!(first.state("t-crash", "v"), FieldState::Building), "a part is shown to nobody");
    let report = first.sync.stats("t-crash").unwrap().fields.remove(0).shards.remove(0);
    let progress = report.progress.expect("a build tells how far it is");
    assert_eq!((report.state, progress.total), (ShardState::Building, DOCUMENTS as u64));
    assert!(progress.done > 0 && progress.eta_seconds.is_some_and(|eta| eta > 0.0), "{progress:?}");
    // As after a crash: only what is on disk is left.
    let second = first.engine.restarted();
    let saved = second.saved(&uuid);
    drop(first);

    // Meanwhile some of what was read is deleted or overwritten.
    let gone: Vec<_> = (0..2_000).step_by(10).map(|i| delete_line(&format!("d{i}"))).collect();
    node.bulk("t-crash", &gone, true).await;
    let again: Vec<_> =
        (1..2_000).step_by(10).map(|i| index_line(&format!("d{i}"), &json!({"v": [i, 2]}))).collect();
    node.bulk("t-crash", &again, true).await;

    let second = Follower::start(node, second);
    second.ready().await;
    assert_eq!(second.assert_equal(node, "t-crash", "v", Similarity::L2Norm).await, DOCUMENTS - 200);
    let read = second.engine.upserts.load(Ordering::Relaxed) as usize;
    // What was under way at the crash is read by id, so that nothing is read twice.
    assert!(read <= DOCUMENTS - saved + 200, "{read} were read again although {saved} were there");
    second.sync.shutdown().await;
}

pub(crate) async fn a_build_is_throttled_cancelled_and_started_again(node: &Node) {
    filled(node, "t-cancel").await;
    let follower = Follower::with(node, FakeEngine::default(), slowly());
    follower.sync.invalidate().await;
    let began = Instant::now();
    let read = || follower.engine.upserts.load(Ordering::Relaxed);
    eventually("something is read", || read() > 0).await;
    assert!(follower.sync.cancel_build("t-cancel"));
    assert!(!follower.sync.cancel_build("t-no-such-index"));
    let state = || follower.sync.stats("t-cancel").unwrap().fields[0].shards[0].state;
    eventually("it is cancelled", || state() == ShardState::Cancelled).await;
    assert!(follower.sync.ready(), "nothing is under way that one could wait for");
    // A refresh is not held for an index that nobody learns.
    node.bulk("t-cancel", &[index_line("late", &json!({"v": [9, 9]}))], true).await;
    let waited = Instant::now();
    assert!(follower.sync.published(Scope::Index("t-cancel".into()), PATIENCE).await);
    assert!(waited.elapsed() < Duration::from_secs(5));
    let so_far = read();
    assert!(so_far < DOCUMENTS as u64 && matches!(follower.state("t-cancel", "v"), FieldState::Building));

    assert!(follower.sync.start_build("t-cancel"));
    eventually("it is learnt", || matches!(follower.state("t-cancel", "v"), FieldState::Ready(_))).await;
    assert_eq!(follower.assert_equal(node, "t-cancel", "v", Similarity::L2Norm).await, DOCUMENTS + 1);
    assert!(read() <= DOCUMENTS as u64 + 1, "{} were read", read());
    assert!(began.elapsed() > Duration::from_secs(4), "faster than the rate allows: {:?}", began.elapsed());
    follower.sync.shutdown().await;
}

/// Before 8.17 vectors come out of `_source` alone; what is not there must be told, not tried for ever.
pub(crate) async fn vectors_outside_source_are_read_or_told(node: &Node) {
    let field = ivf(2, Similarity::L2Norm);
    let of_doc_values = node.version >= "8.17.0".parse().unwrap();
    let sources = [
        ("t-nosource", json!({"enabled": false})),
        ("t-excluded", json!({"excludes": ["v"]})),
        ("t-synthetic", json!({"mode": "synthetic"})),
    ];
    for (index, source) in sources {
        node.create_with_source(index, source, json!({"v": field, "w": field})).await;
        node.bulk(index, &[index_line("1", &json!({"v": [1, 2], "w": [3, 4]}))], true).await;
    }
    let follower = Follower::start(node, FakeEngine::default());
    follower.ready().await;
    for (index, field, in_source) in [
        ("t-nosource", "v", false),
        ("t-nosource", "w", false),
        ("t-excluded", "v", false),
        ("t-excluded", "w", true),
        ("t-synthetic", "v", true),
        ("t-synthetic", "w", true),
    ] {
        let readable = of_doc_values || in_source;
        let state = follower.state(index, field);
        let as_expected = match state {
            FieldState::Ready(_) => readable,
            FieldState::Unreadable => !readable,
            _ => false,
        };
        assert!(as_expected, "{index} {field}: {state:?}");
        let report = follower.sync.stats(index).unwrap();
        let of_field = report.fields.iter().find(|report| report.field == field).unwrap();
        assert_eq!(of_field.unreadable.is_none(), readable);
        let held = follower.engine.documents(&follower.uuid(index), field);
        assert_eq!(held.len(), usize::from(readable), "{index} {field}");
    }
    follower.sync.shutdown().await;
}
