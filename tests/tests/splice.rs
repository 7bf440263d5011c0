//! Knn inside something larger: random searches of many shapes give, through us, what Elasticsearch
//! gives on a twin index of type `hnsw`, asked with as many candidates as there are documents, so that
//! it is exact too. Both hold the same documents on the same shards.

#![allow(missing_docs, reason = "a test")]

use outrigger_tests::{Api, Elasticsearch, Outrigger, Reply, Vectors};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::{Value, json};

const DIMS: usize = 12;
const DOCUMENTS: usize = 400;
const WORDS: [&str; 6] = ["red", "green", "blue", "fast", "slow", "calm"];

#[tokio::test]
async fn spliced_searches_equal_those_of_a_twin_with_a_graph() {
    let seed: u64 = std::env::var("SPLICE_SEED").map_or(11, |seed| seed.parse().unwrap());
    let rounds: usize = std::env::var("SPLICE_REQUESTS").map_or(600, |rounds| rounds.parse().unwrap());
    eprintln!("SPLICE_SEED={seed}");
    let elasticsearch = Elasticsearch::start("splice").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());
    make(&through, "ours", "ivf").await;
    make(&direct, "twin", "hnsw").await;
    let mut source = Source::new(seed);
    let docs: Vec<_> = (0..DOCUMENTS).map(|n| (n.to_string(), source.document(n))).collect();
    for (api, index) in [(&through, "ours"), (&direct, "twin")] {
        let answer = api.bulk(index, "true", &docs).await.unwrap().ok();
        assert_eq!(answer["errors"], false, "{answer}");
    }
    outrigger.learnt("ours").await;
    let mut ways = std::collections::BTreeMap::<String, usize>::new();
    for number in 0..rounds {
        let (body, url) = source.search();
        let ours = through.post(&format!("/ours/_search{url}"), body.clone()).await;
        let theirs = direct.post(&format!("/twin/_search{url}"), body.clone()).await;
        assert_equal(&ours, &theirs, &format!("request {number} of seed {seed}: {body} {url}"));
        *ways.entry(ours.way.clone()).or_default() += 1;
    }
    eprintln!("{ways:?}");
    let ours: usize = ways.iter().filter(|(way, _)| !way.starts_with("pass")).map(|(_, count)| count).sum();
    assert!(ours * 10 >= rounds * 8, "too few were ours: {ways:?}");
    assert!(ways.contains_key("splice; reason=ok"), "{ways:?}");
    assert!(!ways.contains_key("pass; reason=unknown_key"), "{ways:?}");
}

async fn make(api: &Api, index: &str, kind: &str) {
    let vector = |dims: usize, similarity: &str| json!({"type": "dense_vector", "dims": dims, "index": true, "similarity": similarity, "index_options": options(kind)});
    let mut properties = json!({
        "v": vector(DIMS, "cosine"),
        "w": vector(DIMS, "l2_norm"),
        "t": {"type": "text"},
        "a": {"type": "keyword"},
        "n": {"type": "integer"},
    });
    if Elasticsearch::version_at_least(8, 13) {
        properties["b"] = vector(8, "l2_norm");
        properties["b"]["element_type"] = json!("byte");
    }
    let body = json!({
        "settings": {"number_of_shards": 2, "number_of_replicas": 0},
        "mappings": {"properties": properties},
    });
    api.put(&format!("/{index}"), body).await.ok();
}

fn options(kind: &str) -> Value {
    match kind {
        // So dense that no document is out of reach.
        "hnsw" => json!({"type": "hnsw", "m": 64, "ef_construction": 400}),
        kind => json!({"type": kind}),
    }
}

/// Random documents and searches.
struct Source {
    random: Xoshiro256PlusPlus,
    vectors: Vectors,
}

impl Source {
    fn new(seed: u64) -> Self {
        Self { random: Xoshiro256PlusPlus::seed_from_u64(seed), vectors: Vectors::new(seed, DIMS) }
    }

    fn document(&mut self, n: usize) -> Value {
        let mut document = json!({"n": n, "a": self.word(), "t": format!("{} {}", self.word(), self.word())});
        for field in ["v", "w"] {
            if self.random.gen_bool(0.9) {
                document[field] = json!(self.vectors.draw());
            }
        }
        if Elasticsearch::version_at_least(8, 13) && self.random.gen_bool(0.9) {
            document["b"] = json!(self.bytes());
        }
        document
    }

    fn word(&mut self) -> &'static str {
        WORDS.choose(&mut self.random).unwrap()
    }

    fn bytes(&mut self) -> Vec<i8> {
        (0..8).map(|_| self.random.gen_range(-20..20)).collect()
    }

    /// A knn object; exact in the twin because of its candidates.
    fn knn(&mut self) -> Value {
        let bytes = Elasticsearch::version_at_least(8, 13) && self.random.gen_bool(0.15);
        let mut knn = match bytes {
            true => json!({"field": "b", "query_vector": self.bytes()}),
            false => {
                let field = if self.random.gen_bool(0.6) { "v" } else { "w" };
                json!({"field": field, "query_vector": self.vectors.draw()})
            }
        };
        knn["num_candidates"] = json!(1_000);
        knn["k"] = json!(self.random.gen_range(1..40));
        if self.random.gen_bool(0.2) {
            knn["boost"] = json!(self.random.gen_range(1..30) as f64 / 10.0);
        }
        if self.random.gen_bool(0.1) && Elasticsearch::version_at_least(8, 15) {
            knn["_name"] = json!("named");
        }
        knn
    }

    /// The knn query has no `k` before 8.15.
    fn knn_query(&mut self) -> Value {
        let mut knn = self.knn();
        if !Elasticsearch::version_at_least(8, 15) {
            knn["num_candidates"] = knn.as_object_mut().unwrap().remove("k").unwrap();
        }
        json!({"knn": knn})
    }

    fn plain_query(&mut self) -> Value {
        match self.random.gen_range(0..3) {
            0 => json!({"match": {"t": self.word()}}),
            1 => json!({"term": {"a": self.word()}}),
            _ => json!({"range": {"n": {"gte": self.random.gen_range(0..DOCUMENTS)}}}),
        }
    }

    fn query(&mut self, depth: usize) -> Value {
        let choice = if depth > 2 { 0 } else { self.random.gen_range(0..9) };
        match choice {
            0 | 1 => self.knn_query(),
            2 | 3 => {
                let mut query = json!({});
                for clause in ["must", "should", "filter", "must_not"] {
                    if self.random.gen_bool(0.4) {
                        query[clause] = if self.random.gen_bool(0.6) {
                            self.query(depth + 1)
                        } else {
                            json!([self.plain_query()])
                        };
                    }
                }
                query["should"] = json!([self.knn_query(), self.plain_query()]);
                json!({"bool": query})
            }
            4 => json!({"constant_score": {"filter": self.query(depth + 1), "boost": 1.5}}),
            5 => {
                json!({"dis_max": {"queries": [self.query(depth + 1), self.plain_query()], "tie_breaker": 0.3}})
            }
            6 => {
                json!({"boosting": {"positive": self.query(depth + 1), "negative": self.plain_query(), "negative_boost": 0.5}})
            }
            7 => {
                json!({"function_score": {"query": self.query(depth + 1), "field_value_factor": {"field": "n", "factor": 0.01, "modifier": "log1p"}}})
            }
            _ => json!({"bool": {"must": self.query(depth + 1), "filter": self.plain_query()}}),
        }
    }

    fn search(&mut self) -> (Value, &'static str) {
        let mut body = json!({"_source": ["n"]});
        let has_query = Elasticsearch::version_at_least(8, 12);
        match self.random.gen_range(0..if has_query { 8 } else { 4 }) {
            0 => body["knn"] = json!([self.knn(), self.knn()]),
            1 => {
                body["knn"] = self.knn();
                body["query"] = self.plain_query();
            }
            2 | 3 => {
                body["knn"] = self.knn();
                body["aggs"] = json!({"a": {"terms": {"field": "a"}}, "n": {"stats": {"field": "n"}}});
            }
            4 if Elasticsearch::version_at_least(8, 14) => {
                let knn = self.knn();
                let mut retriever = json!({"field": knn["field"], "query_vector": knn["query_vector"], "k": knn["k"], "num_candidates": 1_000});
                if self.random.gen_bool(0.5) {
                    retriever = json!({"standard": {"query": self.query(0)}});
                } else {
                    retriever = json!({"knn": retriever});
                }
                body["retriever"] = retriever;
            }
            _ => {
                body["query"] = self.query(0);
                if self.random.gen_bool(0.2) {
                    body["knn"] = self.knn();
                }
            }
        }
        self.decorate(&mut body);
        let url = *["", "", "?typed_keys=true", "?size=7", "?from=2", "?track_total_hits=false"]
            .choose(&mut self.random)
            .unwrap();
        (body, url)
    }

    fn decorate(&mut self, body: &mut Value) {
        body["size"] = json!(self.random.gen_range(0..30));
        if self.random.gen_bool(0.15) {
            body["from"] = json!(self.random.gen_range(0..5));
        }
        if self.random.gen_bool(0.15) {
            body["post_filter"] = self.plain_query();
        }
        // With a knn query inside, what 8.15 highlights depends on the type of the field.
        if body.get("query").is_none_or(|query| query.get("match").is_some()) && self.random.gen_bool(0.3) {
            body["highlight"] = json!({"fields": {"t": {}}});
        }
        if self.random.gen_bool(0.1) {
            body["fields"] = json!(["a", "n"]);
        }
        if body.get("retriever").is_some() {
            return;
        }
        match self.random.gen_range(0..10) {
            0 => body["sort"] = json!([{"n": "desc"}]),
            1 => {
                body["sort"] = json!(["_score", {"n": "asc"}]);
                body["track_scores"] = json!(true);
            }
            2 => {
                body["rescore"] = json!({"window_size": 10, "query": {"rescore_query": {"match": {"t": self.word()}}, "query_weight": 0.7}})
            }
            3 => body["collapse"] = json!({"field": "a"}),
            4 => body["min_score"] = json!(0.3),
            5 => body["track_total_hits"] = json!(5),
            _ => {}
        }
    }
}

fn assert_equal(ours: &Reply, theirs: &Reply, what: &str) {
    assert_eq!(ours.status, theirs.status, "{what}\n{}\n{}", ours.text, theirs.text);
    let (ours, theirs) = (neutral(&ours.text), neutral(&theirs.text));
    if let (Some(own), Some(their)) = (ours.get("error"), theirs.get("error")) {
        assert_eq!((&own["type"], &own["reason"]), (&their["type"], &their["reason"]), "{what}");
        return;
    }
    assert_eq!(ours["hits"]["total"], theirs["hits"]["total"], "{what}\n{ours}\n{theirs}");
    assert_eq!(ours["_shards"], theirs["_shards"], "{what}");
    close(&ours["hits"]["max_score"], &theirs["hits"]["max_score"], what);
    close(&ours["aggregations"], &theirs["aggregations"], what);
    let (ours, theirs) = (hits(&ours), hits(&theirs));
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let least = theirs.last().map_or(&Value::Null, |hit| &hit["_score"]).clone();
    for (own, their) in ours.iter().zip(&theirs) {
        close(&own["_score"], &their["_score"], what);
    }
    // Of equal scores either may stand first, and at the end of the page either may be cut off.
    let sorted = |hits: &[Value]| {
        let mut kept: Vec<Value> =
            hits.iter().filter(|hit| !same(&hit["_score"], &least) || least.is_null()).cloned().collect();
        kept.sort_by_key(|hit| hit["_id"].as_str().unwrap_or_default().to_owned());
        kept
    };
    let (ours, theirs) = (sorted(&ours), sorted(&theirs));
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (own, their) in ours.iter().zip(&theirs) {
        close(own, their, what);
    }
}

/// A body without what differs between the two indices.
fn neutral(text: &str) -> Value {
    serde_json::from_str(
        &text
            .replace("\"ours\"", "\"index\"")
            .replace("\"twin\"", "\"index\"")
            .replace("[ours]", "[index]")
            .replace("[twin]", "[index]"),
    )
    .unwrap_or(Value::Null)
}

fn hits(body: &Value) -> Vec<Value> {
    body["hits"]["hits"].as_array().cloned().unwrap_or_default()
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-5 * b.abs().max(1.0),
        _ => a == b,
    }
}

/// Equal, numbers nearly.
#[track_caller]
fn close(a: &Value, b: &Value, what: &str) {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            assert_eq!(x.keys().collect::<Vec<_>>(), y.keys().collect::<Vec<_>>(), "{what}\n{a}\n{b}");
            x.iter().for_each(|(key, value)| close(value, &y[key], what));
        }
        (Value::Array(x), Value::Array(y)) => {
            assert_eq!(x.len(), y.len(), "{what}\n{a}\n{b}");
            x.iter().zip(y).for_each(|(x, y)| close(x, y, what));
        }
        _ => assert!(same(a, b), "{what}\n{a}\n{b}"),
    }
}
