//! Two answers to one search, ours and Elasticsearch's own.

use serde_json::Value;

use crate::Reply;

/// Panics unless two answers are alike: status, total, shards, and hits whose scores agree within a float
/// rounding, with the same ids wherever a score differs from the last one's.
#[track_caller]
pub fn assert_same(ours: &Reply, theirs: &Reply, what: &str) {
    assert_eq!(ours.status, theirs.status, "{what}: {} / {}", ours.text, theirs.text);
    assert_eq!(ours.body["hits"]["total"], theirs.body["hits"]["total"], "{what}");
    assert_eq!(ours.body["_shards"], theirs.body["_shards"], "{what}");
    let score = |hit: &Value| hit["_score"].as_f64().unwrap();
    let (ours, theirs) = (hits(ours), hits(theirs));
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (own, their) in ours.iter().zip(&theirs) {
        assert!(
            (score(own) - score(their)).abs() <= 2e-6 * score(their).abs().max(1.0),
            "{what}: {own} / {their}"
        );
    }
    let least = theirs.last().map_or(0.0, score) + 1e-5;
    let ids = |hits: &[Value]| -> Vec<String> {
        let mut ids: Vec<String> =
            hits.iter().filter(|hit| score(hit) > least).map(|hit| hit["_id"].to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&ours), ids(&theirs), "{what}");
}

fn hits(reply: &Reply) -> Vec<Value> {
    reply.body["hits"]["hits"].as_array().cloned().unwrap_or_default()
}
