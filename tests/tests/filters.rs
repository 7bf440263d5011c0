//! Filters in a knn: random filters, those that may be remembered and those that may not, give through us
//! what Elasticsearch gives on a twin index of type `hnsw`, asked with more candidates than there are
//! documents, so that it is exact. Each filter comes back again and again, while documents change.

#![allow(missing_docs, reason = "a test")]

use std::collections::BTreeMap;

use outrigger_tests::{Api, Elasticsearch, Outrigger, Reply, Vectors, assert_same};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::{Value, json};

const DIMS: usize = 8;
const DOCUMENTS: usize = 500;
const FILTERS: usize = 60;
const WORDS: [&str; 6] = ["red", "green", "blue", "fast", "slow", "calm"];
/// The index, and an alias of it that has a filter of its own; of ours and of the twin.
const ENDPOINTS: [(&str, &str); 2] = [("ours", "twin"), ("ours-red", "twin-red")];

#[tokio::test]
async fn filtered_searches_equal_those_of_a_twin_with_a_graph() {
    let seed: u64 = std::env::var("FILTERS_SEED").map_or(7, |seed| seed.parse().unwrap());
    let rounds: usize = std::env::var("FILTERS_REQUESTS").map_or(800, |rounds| rounds.parse().unwrap());
    eprintln!("FILTERS_SEED={seed}");
    let elasticsearch = Elasticsearch::start("filters").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());
    make(&through, "ours", "ivf").await;
    make(&direct, "twin", "hnsw").await;
    let mut source = Source::new(seed);
    let both = [(&through, "ours"), (&direct, "twin")];
    let docs: Vec<_> = (0..DOCUMENTS).map(|n| (n.to_string(), source.document(n))).collect();
    write(&both, &docs, &[]).await;
    outrigger.learnt("ours").await;
    let filters: Vec<(Value, bool)> = (0..FILTERS).map(|_| source.filter()).collect();
    let mut ways = BTreeMap::<String, usize>::new();
    let mut remembered = (0, 0);
    for number in 0..rounds {
        if number % 40 == 39 {
            let (changed, gone) = source.changes();
            write(&both, &changed, &gone).await;
        }
        let (filter, may_be_remembered) = filters.choose(&mut source.random).unwrap();
        let (ours, twin) = ENDPOINTS[usize::from(source.random.gen_bool(0.15))];
        let body = source.search(filter);
        let own = through.post(&format!("/{ours}/_search"), body.clone()).await;
        let their = direct.post(&format!("/{twin}/_search"), body.clone()).await;
        let what = format!("request {number} of seed {seed}, {}, to {ours}: {body}", own.way);
        if failure(&own).is_some() || failure(&their).is_some() {
            same_failure(&own, &their, &what);
        } else {
            assert_same(&own, &their, &what);
            assert_eq!(own.body["aggregations"], their.body["aggregations"], "{what}");
        }
        if *may_be_remembered && their.status == 200 {
            remembered.1 += 1;
            remembered.0 += usize::from(!own.way.starts_with("pass"));
        }
        if !may_be_remembered {
            assert!(own.way.starts_with("pass; reason="), "{what}");
        }
        *ways.entry(own.way).or_default() += 1;
    }
    eprintln!("{ways:#?}");
    let (known, asked) = remembered;
    assert!(known * 10 >= asked * 6, "{known} of {asked} filters were remembered: {ways:?}");
}

/// Why Elasticsearch refused a search, or could not do it on some shard.
fn failure(reply: &Reply) -> Option<(Value, String)> {
    let of_all = &reply.body["error"]["root_cause"][0];
    let cause = if of_all.is_null() { &reply.body["_shards"]["failures"][0]["reason"] } else { of_all };
    let reason = cause["reason"].as_str()?.replace("twin", "ours");
    Some((cause["type"].clone(), reason))
}

/// A shard may see that it has nothing before it sees what is wrong with a search: that hangs on which deleted documents
/// are merged away there, and the twin merges at other times.
fn same_failure(ours: &Reply, theirs: &Reply, what: &str) {
    match (failure(ours), failure(theirs)) {
        (Some(own), Some(their)) => assert_eq!(own, their, "{what}"),
        (None, _) => has_nothing(ours, what),
        (_, None) => has_nothing(theirs, what),
    }
    if ours.status != 200 && theirs.status != 200 {
        assert_eq!(ours.status, theirs.status, "{what}");
    }
}

fn has_nothing(reply: &Reply, what: &str) {
    assert_eq!((reply.status, &reply.body["hits"]["hits"]), (200, &json!([])), "{what}");
}

async fn make(api: &Api, index: &str, kind: &str) {
    let options = match kind {
        // So dense that no document is out of reach.
        "hnsw" => json!({"type": "hnsw", "m": 64, "ef_construction": 400}),
        kind => json!({"type": kind}),
    };
    let body = json!({
        "settings": {"number_of_shards": 2, "number_of_replicas": 0},
        "aliases": {format!("{index}-red"): {"filter": {"term": {"k": "red"}}}},
        "mappings": {
            "runtime": {"made": {"type": "keyword"}, "shadowed": {"type": "keyword"}},
            "properties": {
                "v": {"type": "dense_vector", "dims": DIMS, "index": true, "similarity": "l2_norm", "index_options": options},
                "k": {"type": "keyword"},
                "t": {"type": "text", "fields": {"raw": {"type": "keyword"}}},
                "n": {"type": "integer"},
                "f": {"type": "double"},
                "b": {"type": "boolean"},
                "d": {"type": "date"},
                "i": {"type": "ip"},
                "o": {"properties": {"k": {"type": "keyword"}}},
                "c": {"type": "nested", "properties": {"k": {"type": "keyword"}}},
                "shadowed": {"type": "keyword"},
                "also": {"type": "alias", "path": "k"},
            },
        },
    });
    api.put(&format!("/{index}"), body).await.ok();
}

/// Writes documents and deletes some, then shows all of it, in both indices.
async fn write(both: &[(&Api, &str); 2], docs: &[(String, Value)], gone: &[String]) {
    for (api, index) in both {
        for id in gone {
            api.delete(&format!("/{index}/_doc/{id}")).await;
        }
        let answer = api.bulk(index, "true", docs).await.unwrap().ok();
        assert_eq!(answer["errors"], false, "{answer}");
    }
}

/// Random documents, filters and searches.
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

    fn number(&mut self) -> i32 {
        self.random.gen_range(0..40)
    }

    fn day(&mut self) -> String {
        format!("2024-{:02}-{:02}", self.random.gen_range(1..13), self.random.gen_range(1..29))
    }

    fn document(&mut self, n: usize) -> Value {
        let mut document = json!({"id": n});
        let mut put = |key: &str, chance: f64, value: Value, random: &mut Xoshiro256PlusPlus| {
            if random.gen_bool(chance) {
                document[key] = value;
            }
        };
        let values = [
            ("v", 0.95, json!(self.vectors.draw())),
            ("k", 0.9, json!([self.word(), self.word()])),
            ("t", 0.9, json!(format!("{} {} {}", self.word(), self.word(), self.word()))),
            ("n", 0.9, json!(self.number())),
            ("f", 0.9, json!(f64::from(self.number()) / 4.0)),
            ("b", 0.8, json!(self.random.gen_bool(0.3))),
            ("d", 0.9, json!(self.day())),
            ("i", 0.8, json!(format!("10.0.{}.{}", self.random.gen_range(0..4), self.number()))),
            ("o", 0.7, json!({"k": self.word()})),
            ("c", 0.4, json!([{"k": self.word()}, {"k": self.word()}])),
            ("made", 0.3, json!(self.word())),
            ("shadowed", 0.3, json!(self.word())),
        ];
        for (key, chance, value) in values {
            put(key, chance, value, &mut self.random);
        }
        document
    }

    /// Some documents anew and some gone.
    fn changes(&mut self) -> (Vec<(String, Value)>, Vec<String>) {
        let mut id = || self.random.gen_range(0..DOCUMENTS + 50);
        let (written, gone): (Vec<usize>, Vec<usize>) =
            ((0..12).map(|_| id()).collect(), (0..4).map(|_| id()).collect());
        let written = written.into_iter().map(|n| (n.to_string(), self.document(n))).collect();
        (written, gone.into_iter().map(|n| n.to_string()).collect())
    }

    /// A filter as a client would give it, and whether it may be remembered.
    fn filter(&mut self) -> (Value, bool) {
        match self.random.gen_range(0..10) {
            0..=5 => self.clause(0),
            6 | 7 => {
                let (one, first) = self.clause(0);
                let (other, second) = self.clause(0);
                (json!([one, other]), first && second)
            }
            _ => {
                let (one, ours) = self.clause(0);
                (json!([one]), ours)
            }
        }
    }

    fn clause(&mut self, depth: usize) -> (Value, bool) {
        if depth > 2 || self.random.gen_bool(0.5) {
            return if self.random.gen_bool(0.12) { (self.foreign(), false) } else { (self.leaf(), true) };
        }
        if self.random.gen_bool(0.2) {
            let (filter, ours) = self.clause(depth + 1);
            return (json!({"constant_score": {"filter": filter, "boost": 2}}), ours);
        }
        let mut all_ours = true;
        let mut query = json!({});
        for occurrence in ["must", "should", "filter", "must_not"] {
            if !self.random.gen_bool(0.5) {
                continue;
            }
            let clauses: Vec<Value> = (0..self.random.gen_range(1..3))
                .map(|_| {
                    let (clause, ours) = self.clause(depth + 1);
                    all_ours &= ours;
                    clause
                })
                .collect();
            query[occurrence] = json!(clauses);
            if occurrence == "should" && self.random.gen_bool(0.5) {
                query["minimum_should_match"] = json!(1);
            }
        }
        (json!({"bool": query}), all_ours)
    }

    /// A clause that looks at nothing but the document.
    fn leaf(&mut self) -> Value {
        match self.random.gen_range(0..21) {
            0 => json!({"term": {"k": self.word()}}),
            1 => json!({"term": {"o.k": {"value": self.word().to_uppercase(), "case_insensitive": true}}}),
            2 => json!({"term": {"n": self.number()}}),
            3 => json!({"term": {"b": self.random.gen_bool(0.5)}}),
            4 => json!({"term": {"i": format!("10.0.{}.0/24", self.random.gen_range(0..4))}}),
            5 => json!({"terms": {"k": [self.word(), self.word()]}}),
            6 => json!({"terms": {"n": [self.number(), self.number(), self.number().to_string()]}}),
            7 => json!({"range": {"n": {"gte": self.number(), "lt": self.number() + 10}}}),
            8 => json!({"range": {"f": {"gt": f64::from(self.number()) / 4.0}}}),
            9 => json!({"range": {"d": {"gte": self.day(), "lte": "2024-12-31||/M", "time_zone": "+02:00"}}}),
            10 => json!({"range": {"d": {"lt": "05/2024", "format": "MM/yyyy"}}}),
            11 => json!({"range": {"i": {"gte": "10.0.1.0", "lt": "10.0.3.0"}}}),
            12 => json!({"range": {"k": {"gt": self.word(), "lte": null}}}),
            13 => {
                json!({"exists": {"field": *["k", "t", "n", "i", "o.k", "v", "t.raw"].choose(&mut self.random).unwrap()}})
            }
            14 => {
                json!({"ids": {"values": (0..60).map(|_| self.random.gen_range(0..DOCUMENTS).to_string()).collect::<Vec<_>>()}})
            }
            15 => json!({"match": {"t": format!("{} {}", self.word(), self.word())}}),
            16 => {
                json!({"match": {"t": {"query": format!("{} {}", self.word(), self.word()), "operator": "and"}}})
            }
            17 => {
                json!({"match_phrase": {"t": {"query": format!("{} {}", self.word(), self.word()), "slop": 1}}})
            }
            18 => json!({"match": {"n": {"query": self.number()}}}),
            // An error, where Elasticsearch comes to look at it.
            19 if self.random.gen_bool(0.3) => json!({"term": {"n": "many"}}),
            _ => json!({*["match_all", "match_none"].choose(&mut self.random).unwrap(): {}}),
        }
    }

    /// A clause that may not be remembered, or that Elasticsearch refuses.
    fn foreign(&mut self) -> Value {
        match self.random.gen_range(0..14) {
            0 => json!({"range": {"d": {"lt": "now/d"}}}),
            // Deprecated with a warning, later refused.
            12 => json!({"range": {"n": {"from": self.number(), "include_lower": false}}}),
            1 => json!({"prefix": {"k": "re"}}),
            2 => json!({"wildcard": {"t.raw": "*red*"}}),
            3 => json!({"fuzzy": {"k": "rad"}}),
            4 => json!({"match": {"t": {"query": "gren", "fuzziness": 1}}}),
            5 => json!({"term": {"made": self.word()}}),
            6 => json!({"term": {"shadowed": self.word()}}),
            7 => json!({"term": {"also": self.word()}}),
            8 => json!({"nested": {"path": "c", "query": {"term": {"c.k": self.word()}}}}),
            9 => json!({"query_string": {"query": format!("k:{}", self.word())}}),
            10 => json!({"terms": {"k": {"index": "nowhere", "id": "1", "path": "k"}}}),
            11 => json!({"term": {"unmapped": 1}}),
            _ => json!({"exists": {"field": "o"}}),
        }
    }

    fn search(&mut self, filter: &Value) -> Value {
        let at_least = Elasticsearch::version_at_least;
        let k = self.random.gen_range(1..40);
        let mut knn = json!({"field": "v", "query_vector": self.vectors.draw(), "k": k, "num_candidates": 2_000, "filter": filter});
        let mut body = match self.random.gen_range(0..8) {
            0 | 1 if at_least(8, 12) => {
                if !at_least(8, 15) {
                    knn["num_candidates"] = knn.as_object_mut().unwrap().remove("k").unwrap();
                }
                json!({"query": {"knn": knn}})
            }
            2 if at_least(8, 15) => {
                json!({"query": {"bool": {"should": [{"knn": knn}, {"constant_score": {"filter": {"term": {"k": self.word()}}}}]}}})
            }
            3 if at_least(8, 14) => json!({"retriever": {"knn": knn}}),
            4 if at_least(8, 19) => {
                let mut own = knn;
                let pushed_down = own.as_object_mut().unwrap().remove("filter").unwrap();
                let rescore = json!({"window_size": 60, "query": {"query_weight": 2, "rescore_query_weight": 0, "rescore_query": {"match_all": {}}}});
                json!({"retriever": {"rescorer": {"retriever": {"knn": own}, "rescore": rescore, "filter": pushed_down}}})
            }
            5 => json!({"knn": [knn], "aggs": {"k": {"terms": {"field": "k"}}}}),
            _ => json!({"knn": knn}),
        };
        body["size"] = json!(self.random.gen_range(1..40));
        body["_source"] = json!(*[json!(false), json!(["id"])].choose(&mut self.random).unwrap());
        body
    }
}
