//! Whether two answers are one: status, the headers that clients read, and the whole body, numbers to 1e-5, hits of
//! equal rank in any order. What may differ is named here, with its reason.

use serde_json::Value;

use super::request::Answer;

/// What names the moment, the node or the index, not the answer.
const VOLATILE: &[&str] =
    &["took", "index_uuid", "node", "_node", "_scroll_id", "pit_id", "task", "completion_time_in_millis"];

/// Relative.
const TOLERANCE: f64 = 1e-5;

/// Scores are float32 around 1, whose last digit weighs more in `(1 + cosine) / 2` near 0.
const LEAST_TOLERANCE: f64 = 3e-7;

/// What is said of the first place where two answers differ.
type Difference = Result<(), String>;

/// The first difference between two lists of answers. `ours` and `theirs` come with the name of their index.
pub(super) fn difference(ours: (&[Answer], &str), theirs: (&[Answer], &str)) -> Option<String> {
    let ((ours, our_index), (theirs, their_index)) = (ours, theirs);
    if ours.len() != theirs.len() {
        return Some(format!("{} pages, not {}", ours.len(), theirs.len()));
    }
    ours.iter().zip(theirs).enumerate().find_map(|(page, (own, their))| {
        let found = answers(own, our_index, their, their_index).err()?;
        Some(if ours.len() == 1 { found } else { format!("page {page}: {found}") })
    })
}

fn answers(ours: &Answer, our_index: &str, theirs: &Answer, their_index: &str) -> Difference {
    if ours.status != theirs.status {
        return Err(format!("status {}, not {}", ours.status, theirs.status));
    }
    if ours.headers != theirs.headers {
        return Err(format!("headers {:?}, not {:?}", ours.headers, theirs.headers));
    }
    if ours.body.is_null() && theirs.body.is_null() {
        return same_text(&ours.text.replace(our_index, "I"), &theirs.text.replace(their_index, "I"));
    }
    values(&neutral(&ours.body, our_index), &neutral(&theirs.body, their_index), "")
}

fn same_text(ours: &str, theirs: &str) -> Difference {
    if ours == theirs { Ok(()) } else { Err(format!("text [{ours}], not [{theirs}]")) }
}

/// A body without what may differ.
fn neutral(value: &Value, index: &str) -> Value {
    match value {
        Value::String(text) => neutral_text(&text.replace(index, "INDEX")).into(),
        Value::Array(values) => values.iter().map(|value| neutral(value, index)).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| {
                let value = match key.as_str() {
                    volatile if VOLATILE.contains(&volatile) => Value::Null,
                    // Of shards that fail alike, whichever failed first is named.
                    "shard" => Value::Null,
                    // Calls of Java in the order of the moment.
                    "stack_trace" => Value::Null,
                    // Elasticsearch describes its index types here, not the search: only the score is compared.
                    "_explanation" => value["value"].clone(),
                    "explanation" => Value::Null,
                    "profile" => value["shards"].as_array().map_or(0, Vec::len).into(),
                    _ => neutral(value, index),
                };
                (key.replace(index, "INDEX"), value)
            })
            .collect(),
        other => other.clone(),
    }
}

/// Texts of errors without what is not the request's: a query in the words of its index type, and the place in
/// Elasticsearch's buffer, headers and all, that stands for the place in a binary body.
fn neutral_text(text: &str) -> String {
    if let Some((_, after)) = text.strip_prefix("[-1:").and_then(|rest| rest.split_once(']')) {
        return format!("[-1:…]{}", neutral_text(after));
    }
    match text.split_once("negative [boost] are not allowed in [") {
        Some((before, _)) => format!("{before}negative [boost] are not allowed in […"),
        None => text.to_owned(),
    }
}

fn values(ours: &Value, theirs: &Value, path: &str) -> Difference {
    match (ours, theirs) {
        (Value::Object(own), Value::Object(their)) => {
            if own.keys().ne(their.keys()) {
                let (own, their): (Vec<_>, Vec<_>) = (own.keys().collect(), their.keys().collect());
                return Err(format!("{path}: keys {own:?}, not {their:?}"));
            }
            own.iter().try_for_each(|(key, value)| values(value, &their[key], &format!("{path}.{key}")))
        }
        (Value::Array(own), Value::Array(their)) => {
            if own.len() != their.len() {
                return Err(format!("{path}: {} entries, not {}", own.len(), their.len()));
            }
            let in_order = own
                .iter()
                .zip(their)
                .enumerate()
                .try_for_each(|(at, (own, their))| values(own, their, &format!("{path}[{at}]")));
            if in_order.is_err() && path.ends_with(".hits.hits") {
                return hits(own, their, path).map_err(|found| {
                    format!("{found}\n   in order: {}", in_order.err().unwrap_or_default())
                });
            }
            in_order
        }
        _ if near(ours, theirs) => Ok(()),
        _ => Err(format!("{path}: {ours}, not {theirs}")),
    }
}

/// Hits in another order: that is equal only where hits of one rank changed places, or where the edge of the page
/// lies between hits of one rank.
fn hits(ours: &[Value], theirs: &[Value], path: &str) -> Difference {
    for (at, (own, their)) in ours.iter().zip(theirs).enumerate() {
        values(rank(own), rank(their), &format!("{path}[{at}] (rank)"))?;
    }
    let edges = [theirs.first().map(rank), theirs.last().map(rank)];
    for (at, own) in ours.iter().enumerate() {
        let path = format!("{path}[{at}]");
        match theirs.iter().find(|their| name(own).is_some() && name(own) == name(their)) {
            Some(their) => {
                values(own, their, &path)?;
            }
            None if edges.iter().flatten().any(|edge| values(rank(own), edge, "").is_ok()) => {}
            None => return Err(format!("{path}: {:?} is not among the other's", name(own))),
        }
    }
    Ok(())
}

/// What a hit is ordered by.
fn rank(hit: &Value) -> &Value {
    hit.get("sort").unwrap_or(&hit["_score"])
}

fn name(hit: &Value) -> Option<(&str, String)> {
    Some((hit["_id"].as_str()?, hit["_nested"].to_string()))
}

fn near(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            let (x, y) = (x.as_f64().unwrap_or(f64::NAN), y.as_f64().unwrap_or(f64::NAN));
            // Both or none with a fraction: `1` is not `1.0` to every client.
            a.is_f64() == b.is_f64()
                && (x - y).abs() <= (TOLERANCE * x.abs().max(y.abs())).max(LEAST_TOLERANCE)
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(body: Value) -> Answer {
        Answer { status: 200, headers: Vec::new(), way: String::new(), text: body.to_string(), body }
    }

    fn differ(ours: Value, theirs: Value) -> Option<String> {
        difference((&[answer(ours)], "ours"), (&[answer(theirs)], "twin"))
    }

    fn page(hits: &[(&str, f64)]) -> Value {
        let hits: Vec<Value> =
            hits.iter().map(|(id, score)| json!({"_index": "ours", "_id": id, "_score": score})).collect();
        json!({"took": 1, "hits": {"hits": hits}})
    }

    #[test]
    fn only_what_may_differ_is_overlooked() {
        let ours = json!({"took": 1, "hits": {"hits": [{"_index": "ours", "_score": 0.5}]}});
        let theirs = json!({"took": 7, "hits": {"hits": [{"_index": "twin", "_score": 0.500_000_1}]}});
        assert_eq!(differ(ours.clone(), theirs), None);
        for theirs in [
            json!({"took": 1, "hits": {"hits": [{"_index": "twin", "_score": 0.5001}]}}),
            json!({"took": 1, "hits": {"hits": [{"_index": "other", "_score": 0.5}]}}),
            json!({"took": 1, "hits": {"hits": [{"_score": 0.5, "_index": "twin"}]}}),
            json!({"took": 1, "hits": {"hits": []}}),
            json!({"took": 1, "timed_out": false, "hits": {"hits": [{"_index": "twin", "_score": 0.5}]}}),
        ] {
            assert!(differ(ours.clone(), theirs.clone()).is_some(), "{theirs}");
        }
    }

    #[test]
    fn hits_of_one_rank_may_change_places() {
        let ours = page(&[("a", 0.9), ("b", 0.5), ("c", 0.5), ("d", 0.1)]);
        assert_eq!(differ(ours.clone(), page(&[("a", 0.9), ("c", 0.5), ("b", 0.5), ("d", 0.1)])), None);
        // The page ends between equals.
        assert_eq!(differ(ours.clone(), page(&[("a", 0.9), ("b", 0.5), ("c", 0.5), ("e", 0.1)])), None);
        assert!(differ(ours.clone(), page(&[("a", 0.9), ("b", 0.5), ("e", 0.5), ("d", 0.1)])).is_some());
        assert!(differ(ours, page(&[("b", 0.9), ("a", 0.5), ("c", 0.5), ("d", 0.1)])).is_some());
    }

    #[test]
    fn whole_numbers_are_not_fractions() {
        assert!(differ(json!({"n": 1}), json!({"n": 1.0})).is_some());
    }
}
