//! Random searches and reads, and whether two answers are one.

use outrigger_tests::{Api, Elasticsearch, Reply};
use reqwest::Method;
use serde_json::{Value, json};

use super::Draw;

const TARGETS: [&str; 28] = [
    "docs",
    "docs",
    "docs",
    "docs",
    "docs",
    "docs",
    "docs",
    "other",
    "other",
    "docs-all",
    "other-all",
    "red",
    "both",
    "road",
    "docs,other",
    "docs,docs-all",
    "do*",
    "*",
    "_all",
    "",
    "docs,nothing?ignore_unavailable=true",
    "docs-all?ignore_unavailable=true",
    "nothing",
    "*,-other",
    "red,docs",
    "oth*,docs",
    "both?ignore_unavailable=true",
    "docs",
];

/// One request, or two where a point in time is opened first.
#[derive(Clone, Debug)]
pub(super) struct Request {
    method: &'static str,
    path: String,
    body: String,
    /// Opens a point in time on these and searches it.
    in_context: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) status: u16,
    pub(super) ways: Vec<String>,
    pub(super) body: Value,
}

fn path(target: &str, endpoint: &str, parameters: &[String]) -> String {
    let (names, own) = target.split_once('?').unwrap_or((target, ""));
    let slash = if names.is_empty() { "" } else { "/" };
    let query: Vec<&str> = std::iter::once(own)
        .chain(parameters.iter().map(String::as_str))
        .filter(|part| !part.is_empty())
        .collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{slash}{names}/{endpoint}{mark}{}", query.join("&"))
}

fn filter(draw: &mut Draw) -> Value {
    draw.pick(&[
        json!({"term": {"tag": "red"}}),
        json!({"term": {"secret": "s3"}}),
        json!({"exists": {"field": "secret"}}),
        json!({"range": {"n": {"lt": 25}}}),
        json!({"bool": {"must_not": [{"terms": {"secret": ["s1", "s2"]}}]}}),
        json!({"prefix": {"secret": "s"}}),
    ])
}

fn knn(draw: &mut Draw) -> Value {
    let (field, dims) = if draw.chance(0.85) { ("v", 8) } else { ("parts.u", 4) };
    let k = draw.between(1, 20);
    let mut knn = json!({"field": field, "query_vector": draw.vector(dims), "k": k, "num_candidates": 200});
    if draw.chance(0.3) {
        knn["filter"] = filter(draw);
    }
    if draw.chance(0.1) {
        knn["similarity"] = json!(draw.pick(&[0.5, 1.0]));
    }
    knn
}

/// A knn as a query: only where each shard's `k` is what decides.
fn knn_query(draw: &mut Draw) -> Value {
    let mut knn =
        json!({"field": "v", "query_vector": draw.vector(8), "num_candidates": draw.between(10, 40)});
    if draw.chance(0.3) {
        knn["filter"] = filter(draw);
    }
    json!({"knn": knn})
}

/// What is searched for.
fn search(draw: &mut Draw) -> Value {
    match draw.between(0, 14) {
        0..=7 => json!({"knn": knn(draw)}),
        8 => json!({"knn": knn(draw), "query": {"match": {"text": "w1 word"}}}),
        9 => json!({"query": knn_query(draw), "size": 15}),
        10 => json!({"query": {"bool": {"must": [knn_query(draw)], "filter": [filter(draw)]}}}),
        11 => json!({"knn": [knn(draw), knn(draw)]}),
        12 if Elasticsearch::version_at_least(8, 15) => {
            json!({"retriever": {"knn": knn(draw)}})
        }
        13 => json!({"query": filter(draw)}),
        _ => json!({"query": {"match_all": {}}}),
    }
}

/// What is wanted beside it.
fn wishes(draw: &mut Draw, body: &mut Value) {
    let all = [
        ("_source", json!(false)),
        ("_source", json!(["tag", "secret"])),
        ("_source", json!({"excludes": ["v", "parts"]})),
        ("fields", json!(["secret", "tag", "n"])),
        ("fields", json!(["*"])),
        ("docvalue_fields", json!(["secret", "n"])),
        ("highlight", json!({"fields": {"text": {}, "secret": {}}})),
        (
            "aggs",
            json!({"tags": {"terms": {"field": "tag"}}, "secrets": {"terms": {"field": "secret", "order": {"_key": "asc"}}}}),
        ),
        ("aggs", json!({"most": {"max": {"field": "n"}}, "count": {"value_count": {"field": "secret"}}})),
        ("aggs", json!({"all": {"global": {}, "aggs": {"secrets": {"cardinality": {"field": "secret"}}}}})),
        ("explain", json!(true)),
        ("profile", json!(true)),
        (
            "suggest",
            json!({"s": {"text": "wurd", "term": {"field": "text"}}, "t": {"text": "s9", "term": {"field": "secret"}}}),
        ),
        ("track_total_hits", json!(true)),
        ("track_total_hits", json!(false)),
        ("track_total_hits", json!(3)),
        ("size", json!(0)),
        ("size", json!(5)),
        ("from", json!(2)),
        ("sort", json!([{"n": "desc"}])),
        ("sort", json!([{"secret": "asc"}, {"n": "asc"}])),
        ("collapse", json!({"field": "tag"})),
        ("post_filter", filter(draw)),
        ("min_score", json!(0.3)),
        ("version", json!(true)),
        ("seq_no_primary_term", json!(true)),
        ("stored_fields", json!(["_none_"])),
        ("runtime_mappings", json!({"r": {"type": "keyword"}})),
    ];
    for (key, value) in draw.some(&all, 3) {
        body[key] = value;
    }
}

fn searched(draw: &mut Draw) -> Value {
    let mut body = search(draw);
    if draw.chance(0.5) {
        wishes(draw, &mut body);
    }
    body
}

impl Request {
    pub(super) fn draw(draw: &mut Draw) -> Self {
        let target = draw.pick(&TARGETS);
        let post = |path: String, body: Value| Self {
            method: "POST",
            path,
            body: body.to_string(),
            in_context: None,
        };
        match draw.between(0, 19) {
            0..=9 => post(path(target, "_search", &parameters(draw)), searched(draw)),
            10..=11 => {
                let count = draw.between(1, 4);
                let mut body = String::new();
                for _ in 0..count {
                    let header = msearch_header(draw);
                    body.push_str(&format!("{header}\n{}\n", searched(draw)));
                }
                Self { method: "POST", path: path(target, "_msearch", &[]), body, in_context: None }
            }
            12 => post(path(target, "_count", &[]), json!({"query": knn_query(draw)})),
            13 => post(path(target, "_count", &[]), json!({"query": filter(draw)})),
            14 => {
                let index = draw.pick(&["docs", "other", "docs-all", "red"]);
                post(format!("/{index}/_explain/{}", draw.between(0, 60)), json!({"query": filter(draw)}))
            }
            15 => {
                let query = draw.pick(&["secret:s3", "tag:red", "text:w1", "_exists_:secret", "s3"]);
                let path = path(target, "_search", &[format!("q={query}")]);
                Self { method: "GET", path, body: String::new(), in_context: None }
            }
            16 => {
                let docs: Vec<Value> = (0..3)
                    .map(|_| json!({"_index": draw.pick(&["docs", "other", "docs-all", "nothing"]), "_id": draw.between(0, 60).to_string()}))
                    .collect();
                post("/_mget".into(), json!({"docs": docs}))
            }
            17 => {
                let index = draw.pick(&["docs", "docs-all", "red", "nothing"]);
                let path = format!("/{index}/_doc/{}", draw.between(0, 60));
                Self { method: "GET", path, body: String::new(), in_context: None }
            }
            18 => {
                let mut request = post("/_search".into(), searched(draw));
                request.in_context =
                    Some(draw.pick(&["docs", "other", "docs-all", "red", "do*", "docs,other"]).into());
                request
            }
            _ if Elasticsearch::version_at_least(9, 0) => {
                post(path(target, "_search", &parameters(draw)), searched(draw))
            }
            _ => {
                let mut knn = knn(draw);
                let object = knn.as_object_mut().expect("an object");
                let (filter, _) = (object.remove("filter"), object.remove("similarity"));
                let mut body = json!({"knn": knn});
                if let Some(filter) = filter {
                    body["filter"] = filter;
                }
                post(path(target, "_knn_search", &[]), body)
            }
        }
    }

    pub(super) async fn send(&self, api: &Api) -> Sent {
        let mut ways = Vec::new();
        let Some(names) = &self.in_context else {
            let reply = self.call(api, self.body.clone()).await;
            return Sent { status: reply.status, ways: vec![reply.way], body: told(reply.body) };
        };
        let opened = api.call("POST", &format!("/{names}/_pit?keep_alive=1m"), None).await;
        ways.push(opened.way);
        let Some(id) = opened.body["id"].as_str() else {
            return Sent { status: opened.status, ways, body: told(opened.body) };
        };
        let mut body: Value = serde_json::from_str(&self.body).expect("it was made of JSON");
        body["pit"] = json!({"id": id});
        let reply = self.call(api, body.to_string()).await;
        ways.push(reply.way);
        api.call("DELETE", "/_pit", Some(json!({"id": id}))).await;
        Sent { status: reply.status, ways, body: told(reply.body) }
    }

    async fn call(&self, api: &Api, body: String) -> Reply {
        let kind = if self.path.contains("_msearch") { "application/x-ndjson" } else { "application/json" };
        let method: Method = self.method.parse().expect("a method");
        let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &[("content-type", kind)] };
        let sent = api.try_send(method, &self.path, headers, body.into_bytes()).await;
        sent.unwrap_or_else(|| panic!("no response to {self:?}"))
    }
}

fn parameters(draw: &mut Draw) -> Vec<String> {
    let all = [
        "preference=_local",
        "routing=a",
        "typed_keys",
        "rest_total_hits_as_int=true&track_total_hits=true",
        "_source=false",
        "_source_includes=secret",
        "docvalue_fields=secret",
        "request_cache=true",
        "request_cache=false",
        "filter_path=hits.total,hits.hits._id",
        "allow_no_indices=false",
        "expand_wildcards=all",
        "search_type=dfs_query_then_fetch",
        "pretty",
        "stored_fields=secret",
    ];
    if draw.chance(0.25) { vec![draw.pick(&all).to_owned()] } else { Vec::new() }
}

fn msearch_header(draw: &mut Draw) -> Value {
    let names = draw.pick(&["docs", "other", "docs-all", "red", "both", "do*", "nothing", "docs,other"]);
    match draw.between(0, 4) {
        0 => json!({}),
        1 => json!({"index": [names, "docs"]}),
        2 => json!({"index": names, "ignore_unavailable": true}),
        _ => json!({"index": names}),
    }
}

/// A body without what names the moment, and without what Elasticsearch says of its own index types.
fn told(mut body: Value) -> Value {
    strip(&mut body);
    body
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for volatile in [
                "took",
                "_shard",
                "_node",
                "node",
                "shard",
                "pit_id",
                "_scroll_id",
                "profile",
                "_explanation",
                "index_uuid",
            ] {
                members.remove(volatile);
            }
            members.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}

impl Sent {
    /// The first difference between two answers.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        if self.status != other.status {
            return Some(format!("status {}, not {}", self.status, other.status));
        }
        differ(&self.body, &other.body, "")
    }
}

fn differ(ours: &Value, theirs: &Value, at: &str) -> Option<String> {
    match (ours, theirs) {
        (Value::Object(own), Value::Object(their)) => {
            if !own.keys().eq(their.keys()) {
                let (own, their): (Vec<_>, Vec<_>) = (own.keys().collect(), their.keys().collect());
                return Some(format!("{at}: keys {own:?}, not {their:?}"));
            }
            own.iter().find_map(|(key, value)| differ(value, &their[key], &format!("{at}.{key}")))
        }
        (Value::Array(own), Value::Array(their)) => {
            if own.len() != their.len() {
                return Some(format!("{at}: {} entries, not {}", own.len(), their.len()));
            }
            let (own, their) = if at.ends_with(".hits") {
                (ordered(own), ordered(their))
            } else {
                (own.clone(), their.clone())
            };
            own.iter()
                .zip(&their)
                .enumerate()
                .find_map(|(n, (own, their))| differ(own, their, &format!("{at}[{n}]")))
        }
        _ => {
            let near = ours
                .as_f64()
                .zip(theirs.as_f64())
                .is_some_and(|(a, b)| (a - b).abs() <= 1e-5 * a.abs().max(1.0));
            (ours != theirs && !near).then(|| format!("{at}: {ours}, not {theirs}"))
        }
    }
}

/// Hits of one score may stand in any order.
fn ordered(hits: &[Value]) -> Vec<Value> {
    let mut hits = hits.to_vec();
    let score = |hit: &Value| hit["_score"].as_f64().map_or(0, |score| -(score * 1e5).round() as i64);
    if hits.iter().all(|hit| hit["sort"].is_null()) {
        hits.sort_by_key(|hit| (score(hit), hit["_index"].to_string(), hit["_id"].to_string()));
    }
    hits
}
