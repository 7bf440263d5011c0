//! Two answers to one search, ours and Elasticsearch's own.

use serde_json::{Value, json};

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

/// Panics unless two JSON values are alike: the same keys in the same order, numbers nearly equal. What tells
/// one request, node or index from another (times, uuids, names of nodes) is not compared. Hits with equal
/// scores may be exchanged.
#[track_caller]
pub fn assert_alike(ours: &Value, theirs: &Value, what: &str) {
    if let Err(place) = alike(ours, theirs) {
        panic!("{what}\n{place}\nours:   {ours}\ntheirs: {theirs}");
    }
}

fn alike(a: &Value, b: &Value) -> Result<(), String> {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            if !x.keys().eq(y.keys()) {
                return Err(format!("keys differ: {:?} / {:?}", x.keys(), y.keys()));
            }
            let incomparable = ["took", "index_uuid", "node", "node_id", "_seq_no"];
            x.iter()
                .filter(|(key, _)| !incomparable.contains(&key.as_str()))
                .try_for_each(|(key, value)| alike(value, &y[key]).map_err(|place| format!("{key}: {place}")))
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            let (x, y) = (settled(x), settled(y));
            x.iter().zip(&y).try_for_each(|(x, y)| alike(x, y))
        }
        _ => match (a.as_f64(), b.as_f64()) {
            (Some(x), Some(y)) if (x - y).abs() <= 1e-5 * y.abs().max(1.0) => Ok(()),
            _ if a == b => Ok(()),
            _ => Err(format!("{a} / {b}")),
        },
    }
}

/// Hits in an order that does not depend on which of several with one score came first; of those with the
/// last score only the number counts, since any of them may be cut off.
fn settled(values: &[Value]) -> Vec<Value> {
    let score = |value: &Value| value["_score"].as_f64();
    let Some(least) = values.last().and_then(score) else { return values.to_vec() };
    let mut kept: Vec<Value> =
        values.iter().filter(|hit| score(hit).is_none_or(|score| score > least + 1e-6)).cloned().collect();
    kept.sort_by(|a, b| {
        let rounded = |value: &Value| score(value).map(|score| -(score * 1e5).round() as i64);
        rounded(a).cmp(&rounded(b)).then_with(|| a["_id"].to_string().cmp(&b["_id"].to_string()))
    });
    kept.push(json!(values.len()));
    kept
}
