//! Filters: what is remembered of them must be right for every state that a search can see, however
//! documents change meanwhile. The first number of a document's vector tells its colour, so that each
//! published state says by itself what a filter on the colour must let through.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use es_wire::{DocFilter, Similarity};
use knn_types::{KnnView, Query, SlotFilter};
use serde_json::{Value, json};
use shard_sync::{Filtered, FilteredShard, Scope, SyncConfig};

use crate::fake_engine::FakeEngine;
use crate::harness::{Follower, Node, PATIENCE, Random, delete_line, eventually, index_line, ivf};

const COLOURS: u64 = 6;

fn mapping() -> Value {
    json!({"v": ivf(2, Similarity::L2Norm), "colour": {"type": "keyword"}, "number": {"type": "long"}})
}

fn document(random: &mut Random) -> Value {
    let colour = random.below(COLOURS);
    json!({"v": [colour, random.below(1000)], "colour": format!("c{colour}"), "number": colour})
}

fn colour(colour: u64) -> DocFilter {
    DocFilter::new(format!(r#"{{"term":{{"colour":{{"value":"c{colour}"}}}}}}"#))
}

/// Documents of a state, with their `_seq_no`.
fn found(
    view: &dyn KnnView,
    filter: Option<&dyn SlotFilter>,
    colour: Option<u64>,
) -> BTreeSet<(String, u64)> {
    let found = view.search(&Query { filter, ..Query::new(&[0.0, 0.0], 10_000) }).unwrap();
    let wanted = found.hits.into_iter().filter(|hit| colour.is_none_or(|colour| hit.value == colour as f32));
    wanted.map(|hit| (hit.doc.id.to_string(), hit.order.seq_no)).collect()
}

/// Compares what a filter lets through of each state with what the state says. Returns how many that are.
fn check(shards: &[FilteredShard], of: u64) -> usize {
    let of_shard = |shard: &FilteredShard| {
        let under = found(&*shard.view, Some(&*shard.filter), None);
        let wanted = found(&*shard.view, None, Some(of));
        assert_eq!(under, wanted, "colour {of}");
        under.len()
    };
    shards.iter().map(of_shard).sum()
}

async fn ask(follower: &Follower, index: &str, filter: &DocFilter) -> Filtered {
    follower.sync.filtered(&follower.uuid(index), "v", filter).await
}

/// Asks until it is answered.
async fn ready(follower: &Follower, index: &str, filter: &DocFilter) -> Vec<FilteredShard> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask(follower, index, filter).await {
            Filtered::Ready(shards) => return shards,
            Filtered::Refused => panic!("{filter} is refused"),
            Filtered::Unknown => assert!(Instant::now() < deadline, "{filter} was not fetched"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn number_of_hits(node: &Node, index: &str, filter: &DocFilter) -> u64 {
    let body = format!(r#"{{"query":{}}}"#, filter.query());
    node.call("POST", &format!("/{index}/_count"), Some(body)).await["count"].as_u64().unwrap()
}

/// Random small changes, each refreshed: once a filter is known, every later state is answered at the
/// first question, and nothing is fetched again.
pub(crate) async fn a_filter_is_fetched_once_and_kept_up(node: &Node) {
    let settings = json!({"number_of_shards": 2, "refresh_interval": "-1"});
    node.create("t-colours", settings, mapping()).await;
    let mut random = Random(11);
    let lines: Vec<_> = (0..500).map(|i| index_line(&format!("d{i}"), &document(&mut random))).collect();
    node.bulk("t-colours", &lines, true).await;
    let follower = Follower::start(node, FakeEngine::default());
    follower.ready().await;
    for of in 0..COLOURS {
        assert!(check(&ready(&follower, "t-colours", &colour(of)).await, of) > 0);
    }
    for step in 0..40 {
        let change = |random: &mut Random| {
            let id = format!("d{}", random.below(600));
            match random.below(8) {
                0 => delete_line(&id),
                1 => index_line(&id, &json!({"colour": "c0", "number": 0})),
                _ => index_line(&id, &document(random)),
            }
        };
        let lines: Vec<_> = (0..=random.below(15)).map(|_| change(&mut random)).collect();
        node.bulk("t-colours", &lines, step % 3 != 2).await;
        node.refresh("t-colours").await;
        assert!(follower.sync.published(Scope::Index("t-colours".into()), PATIENCE).await);
        for of in 0..COLOURS {
            let filter = colour(of);
            let Filtered::Ready(shards) = ask(&follower, "t-colours", &filter).await else {
                panic!("step {step}: {filter} is known no longer");
            };
            let held = check(&shards, of) as u64;
            let without_vector = if of == 0 { 600 } else { 0 };
            let shown = number_of_hits(node, "t-colours", &filter).await;
            assert!(held <= shown && shown <= held + without_vector, "step {step}: {held} of {shown}");
        }
    }
    let fetched = follower.number(r#"outrigger_filter_fetches_total{outcome="done"}"#);
    assert_eq!(fetched, COLOURS, "each once");
    follower.sync.shutdown().await;
}

/// Writers race, so that numbers have gaps, while ever new filters are asked for, fetched and used: no
/// answer may disagree with the state that it was given with.
pub(crate) async fn no_search_sees_a_wrong_set(node: &Node) {
    let settings = json!({"number_of_shards": 2, "refresh_interval": "100ms"});
    node.create("t-flips", settings, mapping()).await;
    let mut random = Random(5);
    let lines: Vec<_> = (0..3_000).map(|i| index_line(&format!("d{i}"), &document(&mut random))).collect();
    node.bulk("t-flips", &lines, true).await;
    let follower = Arc::new(Follower::start(node, FakeEngine::default()));
    follower.ready().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4u64 {
        let stop = Arc::clone(&stop);
        let node = Node::at(&node.url, &node.version.to_string());
        writers.spawn(async move {
            let mut random = Random(writer + 50);
            // In bursts: fast enough to race, seldom enough that Elasticsearch has time for the rest.
            let mut pace = tokio::time::interval(Duration::from_millis(250));
            while !stop.load(Ordering::Relaxed) {
                let line = |random: &mut Random| {
                    let id = format!("d{}", random.below(3_000));
                    match random.below(10) {
                        0 => delete_line(&id),
                        _ => index_line(&id, &document(random)),
                    }
                };
                pace.tick().await;
                for _ in 0..8 {
                    let lines: Vec<_> = (0..15).map(|_| line(&mut random)).collect();
                    node.bulk("t-flips", &lines, false).await;
                }
            }
        });
    }
    // Documents whose numbers lie below others that were shown before them.
    let late = || follower.number(r#"outrigger_feed_audit_differences_total{kind="missing"}"#);
    let (mut answered, mut asked) = (0, 0);
    // Every round asks in words of its own, so that the filters are other ones.
    for round in 0.. {
        let texts = |of: u64| {
            [
                format!(r#"{{"term":{{"colour":{{"value":"c{of}","boost":1.{round}}}}}}}"#),
                format!(r#"{{"range":{{"number":{{"gte":{of},"lte":{of},"boost":1.{round}}}}}}}"#),
            ]
        };
        let filters: Vec<(u64, DocFilter)> =
            (0..COLOURS).flat_map(|of| texts(of).map(|text| (of, DocFilter::new(text)))).collect();
        let pulls = || follower.metric("pulls");
        let (before, pulls_before, round_began) = (answered, pulls(), Instant::now());
        let enough = |answered| answered >= before + 300 && pulls() >= pulls_before + 12;
        while !enough(answered) && round_began.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(2)).await;
            for (of, filter) in &filters {
                asked += 1;
                if let Filtered::Ready(shards) = ask(&follower, "t-flips", filter).await {
                    answered += 1;
                    assert!(check(&shards, *of) > 0);
                }
            }
        }
        assert!(enough(answered), "{} of {asked} were answered", answered - before);
        if round == 3 || round > 0 && late() > 2 {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    writers.join_all().await;
    eprintln!("{answered} of {asked} questions were answered; {} documents came late", late());
    node.refresh("t-flips").await;
    follower.assert_equal(node, "t-flips", "v", Similarity::L2Norm).await;
    let last = colour(1);
    let shards = ready(&follower, "t-flips", &last).await;
    assert_eq!(check(&shards, 1) as u64, number_of_hits(node, "t-flips", &last).await);
    follower.sync.shutdown().await;
}

/// What cannot be kept is refused, and what does not fit makes room.
pub(crate) async fn filters_stay_within_their_limits(node: &Node) {
    node.create("t-limits", json!({"number_of_shards": 1}), mapping()).await;
    let mut random = Random(9);
    let lines: Vec<_> = (0..400).map(|i| index_line(&format!("d{i}"), &document(&mut random))).collect();
    node.bulk("t-limits", &lines, true).await;
    let evicted = |follower: &Follower| {
        ["memory", "size"].map(|reason| {
            follower.number(&format!(r#"outrigger_filter_evictions_total{{reason="{reason}"}}"#))
        })
    };

    let none = SyncConfig { filter_memory: 0, ..SyncConfig::default() };
    let follower = Follower::with(node, FakeEngine::default(), none);
    follower.ready().await;
    assert!(matches!(ask(&follower, "t-limits", &colour(1)).await, Filtered::Refused));
    follower.sync.shutdown().await;

    // Sets of so few documents are small; what the engine makes of one is some 26 KB.
    let one = SyncConfig { filter_memory: 20 << 10, ..SyncConfig::default() };
    let follower = Follower::with(node, FakeEngine::default(), one);
    follower.ready().await;
    ready(&follower, "t-limits", &colour(1)).await;
    eventually("it is found too large", || evicted(&follower)[1] > 0).await;
    assert!(matches!(ask(&follower, "t-limits", &colour(1)).await, Filtered::Refused));
    follower.sync.shutdown().await;

    let two = SyncConfig { filter_memory: 70 << 10, ..SyncConfig::default() };
    let follower = Follower::with(node, FakeEngine::default(), two);
    follower.ready().await;
    for of in 0..3 {
        ready(&follower, "t-limits", &colour(of)).await;
    }
    eventually("one makes room", || evicted(&follower)[0] > 0).await;
    eventually("the rest fits", || follower.number("outrigger_filter_bytes") <= 70 << 10).await;
    let bad = DocFilter::new(r#"{"term":{"colour":{"value":"c1"},"more":{"value":"c2"}}}"#);
    eventually_refused(&follower, "t-limits", &bad).await;
    follower.sync.shutdown().await;
}

async fn eventually_refused(follower: &Follower, index: &str, filter: &DocFilter) {
    let deadline = Instant::now() + PATIENCE;
    while !matches!(ask(follower, index, filter).await, Filtered::Refused) {
        assert!(Instant::now() < deadline, "{filter} is not refused");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A restart of Elasticsearch, and a shrink after which two documents have one number.
pub(crate) async fn a_filter_is_forgotten_where_numbers_mean_something_else(node: &Node) {
    node.create("t-wide", json!({"number_of_shards": 2}), mapping()).await;
    let mut random = Random(21);
    let lines: Vec<_> = (0..300).map(|i| index_line(&format!("d{i}"), &document(&mut random))).collect();
    node.bulk("t-wide", &lines, true).await;
    let follower = Follower::start(node, FakeEngine::default());
    follower.ready().await;
    check(&ready(&follower, "t-wide", &colour(2)).await, 2);

    let settings = json!({"index.blocks.write": true});
    node.call("PUT", "/t-wide/_settings", Some(settings.to_string())).await;
    for (verb, target, shards) in [("_shrink", "t-narrow", 1), ("_clone", "t-same", 2)] {
        let settings = json!({"index.number_of_shards": shards, "index.number_of_replicas": 0, "index.blocks.write": null});
        let body = json!({"settings": settings}).to_string();
        node.call("POST", &format!("/t-wide/{verb}/{target}?wait_for_active_shards=1"), Some(body)).await;
    }
    follower.ready().await;
    eventually_refused(&follower, "t-narrow", &colour(2)).await;
    check(&ready(&follower, "t-same", &colour(2)).await, 2);

    // Closing and opening starts the copies anew.
    node.call("PUT", "/t-wide/_settings", Some(json!({"index.blocks.write": null}).to_string())).await;
    node.call("POST", "/t-wide/_close", None).await;
    follower.sync.invalidate().await;
    node.call("POST", "/t-wide/_open", None).await;
    follower.sync.invalidate().await;
    follower.ready().await;
    node.bulk("t-wide", &[index_line("d1", &json!({"v": [2, 2], "colour": "c2", "number": 2}))], true).await;
    assert!(follower.sync.published(Scope::Index("t-wide".into()), PATIENCE).await);
    let shards = ready(&follower, "t-wide", &colour(2)).await;
    assert_eq!(check(&shards, 2) as u64, number_of_hits(node, "t-wide", &colour(2)).await);
    follower.sync.shutdown().await;
}
