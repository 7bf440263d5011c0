//! Several vectors per document: a field below `nested` gives, through us, what Elasticsearch gives on a twin
//! of type `hnsw` that is asked with more candidates than there are vectors, so that it is exact too. Documents
//! come, go, and change the number of their passages between the rounds.

#![allow(missing_docs, reason = "a test")]

use std::collections::BTreeMap;

use outrigger_tests::{Api, Elasticsearch, Outrigger, Reply, Vectors};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::{Value, json};

const DIMS: usize = 12;
const DOCUMENTS: usize = 260;
const WORDS: [&str; 4] = ["red", "green", "blue", "calm"];

#[tokio::test]
async fn searches_of_nested_vectors_equal_those_of_a_twin_with_a_graph() {
    if !Elasticsearch::version_at_least(8, 11) {
        eprintln!("SKIPPED: this version indexes no vectors below nested");
        return;
    }
    let seed: u64 = std::env::var("NESTED_SEED").map_or(5, |seed| seed.parse().unwrap());
    let rounds: usize = std::env::var("NESTED_REQUESTS").map_or(150, |rounds| rounds.parse().unwrap());
    eprintln!("NESTED_SEED={seed}");
    let elasticsearch = Elasticsearch::start("nested").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());
    make(&through, "ours", json!({"type": "ivf"})).await;
    // So dense that no document is out of reach.
    make(&direct, "twin", json!({"type": "hnsw", "m": 64, "ef_construction": 400})).await;
    let shown = through.get("/ours/_mapping").await.ok();
    assert_eq!(
        shown.pointer("/ours/mappings/properties/p/properties/v/index_options/type"),
        Some(&json!("ivf"))
    );
    let mut source = Source::new(seed);
    let both = [(&through, "ours"), (&direct, "twin")];
    let docs: Vec<_> = (0..DOCUMENTS).map(|n| (n.to_string(), source.document())).collect();
    for (api, index) in both {
        assert_eq!(api.bulk(index, "true", &docs).await.unwrap().ok()["errors"], false);
    }
    let report = outrigger.learnt("ours").await;
    eprintln!("{report}");
    let mut ways = BTreeMap::<String, usize>::new();
    for stage in 0..4 {
        for number in 0..rounds {
            let (body, url) = source.search();
            let ours = through.post(&format!("/ours/_search{url}"), body.clone()).await;
            let theirs = direct.post(&format!("/twin/_search{url}"), body.clone()).await;
            let what = format!("request {number} of stage {stage}, seed {seed}, {}: {body} {url}", ours.way);
            assert_equal(&ours, &theirs, &what);
            *ways.entry(ours.way.clone()).or_default() += 1;
        }
        for (path, body) in source.changes() {
            for (api, index) in both {
                let path = path.replace("INDEX", index);
                let answer = match &body {
                    Some(body) => api.post(&path, body.clone()).await,
                    None => api.delete(&path).await,
                };
                // A document that an earlier change deleted is 404 in both.
                assert!(answer.status < 300 || answer.status == 404, "{path}: {}", answer.text);
            }
        }
        for (api, index) in both {
            api.call("POST", &format!("/{index}/_refresh"), None).await.ok();
        }
    }
    eprintln!("{ways:?}");
    let of = |way: &str| ways.iter().filter(|(name, _)| name.starts_with(way)).map(|(_, n)| n).sum::<usize>();
    assert!(of("answer") + of("fetch") >= rounds / 4, "{ways:?}");
    assert!(of("splice; reason=ok") >= rounds, "{ways:?}");
    // Where hits may be there for another reason than the knn that has the inner hits.
    assert!(of("pass") == of("pass; reason=inner_hits") && of("pass") <= rounds, "{ways:?}");
}

/// What was learnt from Elasticsearch alone: documents that were there before us, with more passages than
/// inner hits would show, and what a restart reads again.
#[tokio::test]
async fn documents_with_many_vectors_are_adopted_and_survive_a_restart() {
    if !Elasticsearch::version_at_least(8, 11) {
        eprintln!("SKIPPED: this version indexes no vectors below nested");
        return;
    }
    let elasticsearch = Elasticsearch::start("nested-many").await;
    let direct = elasticsearch.api();
    make(&direct, "many", json!({"type": "hnsw", "m": 64, "ef_construction": 400})).await;
    let mut vectors = Vectors::new(9, DIMS);
    let passages = |vectors: &mut Vectors, count: usize| -> Vec<Value> {
        (0..count).map(|_| json!({"v": vectors.draw(), "w": vectors.draw()})).collect()
    };
    let mut docs: Vec<_> =
        (0..40).map(|n| (n.to_string(), json!({"n": n, "p": passages(&mut vectors, 1 + n % 9)}))).collect();
    docs.push(("long".to_owned(), json!({"n": 40, "p": passages(&mut vectors, 230)})));
    docs.push(("none".to_owned(), json!({"n": 41, "p": []})));
    docs.push(("one".to_owned(), json!({"n": 42, "p": passages(&mut vectors, 1)[0]})));
    assert_eq!(direct.bulk("many", "true", &docs).await.unwrap().ok()["errors"], false);
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    outrigger.api().put("/_ivf/many/p.v", json!({})).await.ok();
    outrigger.learnt("many").await;
    let mut compare = async |outrigger: &Outrigger, when: &str| {
        for _ in 0..20 {
            let knn =
                json!({"field": "p.v", "query_vector": vectors.draw(), "k": 12, "num_candidates": 3_000});
            let body = json!({"knn": knn, "size": 12, "_source": false});
            let ours = outrigger.api().post("/many/_search", body.clone()).await;
            let theirs = direct.post("/many/_search", body.clone()).await;
            assert!(ours.way.starts_with("answer"), "{}", ours.way);
            assert_equal(&ours, &theirs, &format!("{when}: {body}"));
        }
    };
    compare(&outrigger, "learnt").await;
    outrigger.terminate();
    // While nobody looked: the long document becomes short, the empty one gets vectors, one goes.
    direct.put("/many/_doc/long", json!({"n": 40, "p": [{"v": vec![0.5; DIMS]}, {"n": 1}]})).await.ok();
    direct.put("/many/_doc/none", json!({"n": 41, "p": [{"v": vec![-0.5; DIMS]}]})).await.ok();
    direct.delete("/many/_doc/7").await.ok();
    direct.call("POST", "/many/_refresh", None).await.ok();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    outrigger.learnt("many").await;
    compare(&outrigger, "after a restart").await;
}

async fn make(api: &Api, index: &str, options: Value) {
    let vector = |similarity: &str| json!({"type": "dense_vector", "dims": DIMS, "index": true, "similarity": similarity, "index_options": options});
    let mut passage = json!({"v": vector("cosine"), "w": vector("l2_norm"), "text": {"type": "text"}, "c": {"type": "integer"}});
    if Elasticsearch::version_at_least(8, 13) {
        passage["b"] = vector("l2_norm");
        passage["b"]["element_type"] = json!("byte");
    }
    let body = json!({
        "settings": {"number_of_shards": 2, "number_of_replicas": 0},
        "mappings": {"properties": {
            "p": {"type": "nested", "properties": passage},
            "t": {"type": "text"},
            "a": {"type": "keyword"},
            "n": {"type": "integer"},
        }},
    });
    api.put(&format!("/{index}"), body).await.ok();
}

/// Random documents, changes and searches.
struct Source {
    random: Xoshiro256PlusPlus,
    vectors: Vectors,
}

impl Source {
    fn new(seed: u64) -> Self {
        Self { random: Xoshiro256PlusPlus::seed_from_u64(seed), vectors: Vectors::new(seed, DIMS) }
    }

    fn word(&mut self) -> &'static str {
        WORDS.choose(&mut self.random).unwrap()
    }

    fn bytes(&mut self) -> Vec<i8> {
        (0..DIMS).map(|_| self.random.gen_range(-128..=127)).collect()
    }

    fn passage(&mut self) -> Value {
        let mut passage = json!({"text": self.word(), "c": self.random.gen_range(0..4)});
        for field in ["v", "w"] {
            if self.random.gen_bool(0.85) {
                passage[field] = json!(self.vectors.draw());
            }
        }
        if Elasticsearch::version_at_least(8, 13) && self.random.gen_bool(0.85) {
            passage["b"] = json!(self.bytes());
        }
        passage
    }

    fn passages(&mut self) -> Value {
        match *[0, 1, 1, 2, 3, 5, 9].choose(&mut self.random).unwrap() {
            // An object stands for an array of one.
            1 if self.random.gen_bool(0.3) => self.passage(),
            count => (0..count).map(|_| self.passage()).collect(),
        }
    }

    fn document(&mut self) -> Value {
        let text = format!("{} {}", self.word(), self.word());
        json!({"n": self.random.gen_range(0..100), "a": self.word(), "t": text, "p": self.passages()})
    }

    /// Requests with `INDEX` in their paths.
    fn changes(&mut self) -> Vec<(String, Option<Value>)> {
        let change = |source: &mut Self| {
            let id = source.random.gen_range(0..DOCUMENTS + 40);
            match source.random.gen_range(0..5) {
                0 => (format!("/INDEX/_doc/{id}"), None),
                1 => {
                    let part = json!({"doc": {"p": source.passages()}});
                    (format!("/INDEX/_update/{id}"), Some(part))
                }
                2 => (format!("/INDEX/_update/{id}"), Some(json!({"doc": {"n": 7}}))),
                _ => (format!("/INDEX/_doc/{id}"), Some(source.document())),
            }
        };
        (0..70).map(|_| change(self)).collect()
    }

    /// A knn object; exact in the twin because of its candidates. Bytes span their whole range, so that hardly two
    /// are as far from the query.
    fn knn(&mut self) -> Value {
        let mut knn = if Elasticsearch::version_at_least(8, 13) && self.random.gen_bool(0.2) {
            json!({"field": "p.b", "query_vector": self.bytes()})
        } else {
            let field = if self.random.gen_bool(0.6) { "p.v" } else { "p.w" };
            json!({"field": field, "query_vector": self.vectors.draw()})
        };
        knn["num_candidates"] = json!(3_000);
        knn["k"] = json!(self.random.gen_range(1..30));
        if self.random.gen_bool(0.2) {
            knn["boost"] = json!(self.random.gen_range(1..30) as f64 / 10.0);
        }
        if self.random.gen_bool(0.1) {
            knn["similarity"] = json!(if knn["field"] == "p.v" { 0.4 } else { 3.0 });
        }
        knn
    }

    fn inner_hits(&mut self) -> Value {
        json!({"size": self.random.gen_range(1..6), "_source": ["p.text", "p.c"]})
    }

    /// A nested query around a knn query, whatever its `score_mode`.
    fn nested_query(&mut self) -> Value {
        let knn = json!({"knn": self.knn()});
        let inside = if self.random.gen_bool(0.2) {
            json!({"bool": {"must": knn, "filter": {"term": {"p.c": self.random.gen_range(0..4)}}}})
        } else {
            knn
        };
        let mut nested = json!({"path": "p", "query": inside});
        if self.random.gen_bool(0.7) {
            nested["score_mode"] =
                json!(["max", "max", "avg", "sum", "min", "none"].choose(&mut self.random));
        }
        if self.random.gen_bool(0.3) {
            nested["inner_hits"] = self.inner_hits();
        }
        json!({"nested": nested})
    }

    /// All score alike: what a word counts for depends on when Elasticsearch merges segments.
    fn plain(&mut self) -> Value {
        let filter = match self.random.gen_range(0..3) {
            0 => json!({"match": {"t": self.word()}}),
            1 => json!({"term": {"a": self.word()}}),
            _ => json!({"nested": {"path": "p", "query": {"match": {"p.text": self.word()}}}}),
        };
        json!({"constant_score": {"filter": filter, "boost": 0.7}})
    }

    fn query(&mut self) -> Value {
        let plain = self.plain();
        match self.random.gen_range(0..4) {
            0 => plain,
            1 => json!({"bool": {"must": self.nested_query(), "filter": plain}}),
            2 => json!({"bool": {"should": [self.nested_query(), plain]}}),
            _ => self.nested_query(),
        }
    }

    fn search(&mut self) -> (Value, &'static str) {
        let mut body = json!({"size": self.random.gen_range(0..20), "_source": ["n", "p.c"]});
        // The knn query came with 8.12, its `k` with 8.15.
        let has_query = Elasticsearch::version_at_least(8, 15);
        match self.random.gen_range(0..if has_query { 8 } else { 5 }) {
            0 => body["knn"] = self.knn(),
            1 => {
                body["knn"] = self.knn();
                body["_source"] = json!(false);
            }
            2 => {
                body["knn"] = self.knn();
                body["knn"]["inner_hits"] = self.inner_hits();
            }
            3 => {
                body["knn"] = json!([self.knn(), self.knn()]);
                body["aggs"] = json!({"a": {"terms": {"field": "a"}}, "p": {"nested": {"path": "p"}, "aggs": {"c": {"sum": {"field": "p.c"}}}}});
            }
            4 => {
                body["knn"] = self.knn();
                body["query"] = self.plain();
            }
            5 if self.random.gen_bool(0.3) => {
                let knn = self.knn();
                body["retriever"] = json!({"knn": {"field": knn["field"], "query_vector": knn["query_vector"], "k": knn["k"], "num_candidates": 3_000}});
            }
            _ => body["query"] = self.query(),
        }
        let holds_knn = body.to_string().contains("num_candidates");
        if !holds_knn {
            body["knn"] = self.knn();
        }
        // Of hits with equal scores, as words give them, either may stand before the page.
        let urls: &[_] =
            if body.get("query").is_none() { &["", "?from=2"] } else { &["", "?track_total_hits=false"] };
        (body, urls.choose(&mut self.random).unwrap())
    }
}

/// Equal but for the order of equal scores.
#[track_caller]
fn assert_equal(ours: &Reply, theirs: &Reply, what: &str) {
    let what = &format!("{what}\nours: {}\ntheirs: {}", ours.text, theirs.text);
    assert_eq!(ours.status, theirs.status, "{what}");
    let (ours, theirs) = (neutral(&ours.text), neutral(&theirs.text));
    for part in ["total", "max_score"] {
        close(&ours["hits"][part], &theirs["hits"][part], what);
    }
    close(&ours["aggregations"], &theirs["aggregations"], what);
    assert_eq!(ours["_shards"], theirs["_shards"], "{what}");
    let hits = |body: &Value| body["hits"]["hits"].as_array().cloned().unwrap_or_default();
    let (ours, theirs) = (hits(&ours), hits(&theirs));
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let least = theirs.last().map_or(Value::Null, |hit| hit["_score"].clone());
    for (own, their) in ours.iter().zip(&theirs) {
        close(&own["_score"], &their["_score"], what);
    }
    // Of equal scores either may stand first, and at the end of the page either may be cut off.
    let kept = |hits: &[Value]| {
        let kept = hits.iter().filter(|hit| !same(&hit["_score"], &least));
        let mut kept: Vec<Value> = kept.cloned().collect();
        kept.sort_by_key(|hit| hit["_id"].as_str().unwrap_or_default().to_owned());
        kept
    };
    close(&Value::Array(kept(&ours)), &Value::Array(kept(&theirs)), what);
}

/// A body without what differs between two indices.
fn neutral(text: &str) -> Value {
    serde_json::from_str(&text.replace("\"ours\"", "\"index\"").replace("\"twin\"", "\"index\""))
        .unwrap_or(Value::Null)
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
