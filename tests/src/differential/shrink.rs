//! Making a difference small: parts of the request are left out as long as the answers still differ, then changes and
//! documents of the world.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::format::{Format, method};
use super::pair::Pair;
use super::play::exchange;
use super::request::{Body, Request};
use super::world::{World, Write};

/// What a shrinking may cost.
const MAX_REQUESTS: usize = 600;
const MAX_TIME: Duration = Duration::from_secs(90);

/// The smallest form of a difference, as calls to make.
pub(super) async fn smallest(
    pair: &Pair<'_>,
    world: &World,
    request: Request,
    fewer_documents: bool,
) -> String {
    if !differs(pair, &request).await {
        return format!("gone when asked again:\n{}", request.curl(&pair.ours));
    }
    let request = smaller_request(pair, request).await;
    if !fewer_documents {
        let exchange = exchange(pair, &request).await;
        return format!(
            "{}\nway: {}\n{}",
            exchange.difference.unwrap_or_default(),
            exchange.way,
            request.curl(&pair.ours)
        );
    }
    match smaller_world(pair, world, &request).await {
        Some((documents, difference)) => {
            let (shown, number) = (shown(&documents), documents.len());
            format!(
                "{difference}\nwith {number} documents that never changed:\n{}{shown}{}",
                creation(pair, world),
                request.curl(&pair.ours)
            )
        }
        None => format!(
            "only after the changes of the world:\n{}{}",
            creation(pair, world),
            request.curl(&pair.ours)
        ),
    }
}

async fn differs(pair: &Pair<'_>, request: &Request) -> bool {
    exchange(pair, request).await.fault().is_some()
}

async fn smaller_request(pair: &Pair<'_>, mut request: Request) -> Request {
    let mut asked = 0;
    loop {
        let mut changed = false;
        for smaller in smaller(&request) {
            asked += 1;
            if asked > MAX_REQUESTS {
                return request;
            }
            if differs(pair, &smaller).await {
                request = smaller;
                changed = true;
                break;
            }
        }
        if !changed {
            return request;
        }
    }
}

/// Every request with one thing less.
fn smaller(request: &Request) -> Vec<Request> {
    let mut all = Vec::new();
    if request.format != Format::Json {
        all.push(Request { format: Format::Json, method: method(Format::Json), ..request.clone() });
    }
    for number in 0..request.parameters.len() {
        let mut smaller = request.clone();
        smaller.parameters.remove(number);
        all.push(smaller);
    }
    match &request.body {
        Body::Json(body) => {
            all.extend(
                less(body).into_iter().map(|body| Request { body: Body::Json(body), ..request.clone() }),
            );
        }
        Body::Lines(lines) if lines.len() > 2 => {
            for pair in 0..lines.len() / 2 {
                let mut lines = lines.clone();
                lines.drain(2 * pair..2 * pair + 2);
                all.push(Request { body: Body::Lines(lines), ..request.clone() });
            }
        }
        Body::Lines(_) | Body::Text(_) => {}
    }
    all
}

/// A value with one member or element less, anywhere but in vectors; or one that gives its place to its only child.
fn less(value: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    match value {
        Value::Object(members) => {
            for key in members.keys() {
                let mut fewer = members.clone();
                fewer.shift_remove(key);
                all.push(Value::Object(fewer));
            }
            for (key, member) in members {
                for smaller in less(member) {
                    let mut changed = members.clone();
                    changed[key] = smaller;
                    all.push(Value::Object(changed));
                }
            }
            // A query in the place of the query around it.
            for inner in members.values().flat_map(queries_in) {
                all.push(inner);
            }
        }
        Value::Array(values) if !values.iter().all(Value::is_number) => {
            for number in 0..values.len() {
                let mut fewer = values.clone();
                fewer.remove(number);
                all.push(Value::Array(fewer));
            }
            for (number, element) in values.iter().enumerate() {
                for smaller in less(element) {
                    let mut changed = values.clone();
                    changed[number] = smaller;
                    all.push(Value::Array(changed));
                }
            }
        }
        _ => {}
    }
    all
}

fn queries_in(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(members) => members.values().flat_map(queries_below).collect(),
        _ => Vec::new(),
    }
}

fn queries_below(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(members) if members.len() == 1 && members.values().all(Value::is_object) => {
            vec![value.clone()]
        }
        Value::Array(values) => values.iter().flat_map(queries_below).collect(),
        _ => Vec::new(),
    }
}

/// Fewer documents on a new pair, written once. `None`: it takes the changes too.
async fn smaller_world(
    pair: &Pair<'_>,
    world: &World,
    request: &Request,
) -> Option<(Vec<(String, Value)>, String)> {
    let mut documents: Vec<(String, Value)> =
        world.documents.iter().map(|(id, document)| (id.clone(), document.clone())).collect();
    let mut made = 0;
    let mut said = on_new_pair(pair, world, request, &documents, &mut made).await?;
    let started = Instant::now();
    let mut part = documents.len().div_ceil(2);
    while part > 0 && started.elapsed() < MAX_TIME {
        let mut changed = false;
        let mut start = 0;
        while start < documents.len() && started.elapsed() < MAX_TIME {
            let mut fewer = documents.clone();
            fewer.drain(start..(start + part).min(documents.len()));
            match on_new_pair(pair, world, request, &fewer, &mut made).await {
                Some(difference) => {
                    said = difference;
                    documents = fewer;
                    changed = true;
                }
                None => start += part,
            }
        }
        if !changed {
            part /= 2;
        }
    }
    Some((documents, said))
}

async fn on_new_pair(
    pair: &Pair<'_>,
    world: &World,
    request: &Request,
    documents: &[(String, Value)],
    made: &mut usize,
) -> Option<String> {
    *made += 1;
    let new = Pair::make(pair.sides, &format!("{}-small-{made}", world.number), world).await;
    new.change(&[Write::Bulk(lines(documents))]).await;
    new.learnt().await;
    let exchange = exchange(&new, request).await;
    new.drop().await;
    exchange.fault()
}

fn lines(documents: &[(String, Value)]) -> Vec<Value> {
    let line =
        |(id, document): &(String, Value)| [serde_json::json!({"index": {"_id": id}}), document.clone()];
    documents.iter().flat_map(line).collect()
}

fn creation(pair: &Pair<'_>, world: &World) -> String {
    let body = world.creation("ivf");
    format!(
        "# the twin: \"type\": \"hnsw\", \"m\": 64, \"ef_construction\": 400\ncurl -XPUT \"$URL/{}\" -H 'content-type: application/json' -d '{body}'\n",
        pair.ours
    )
}

fn shown(documents: &[(String, Value)]) -> String {
    let mut text = "curl -XPOST \"$URL/INDEX/_bulk?refresh=true\" -H 'content-type: application/x-ndjson' --data-binary @- <<'END'\n".to_owned();
    lines(documents).iter().for_each(|line| text.push_str(&format!("{line}\n")));
    text.push_str("END\n");
    text
}
