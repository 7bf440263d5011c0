//! Other targets than one index, and other endpoints than `_search`: what they answer through us is what
//! Elasticsearch answers of twin indices of type `hnsw`, asked with as many candidates as there are documents,
//! so that it is exact too. Twins hold the same documents on the same shards.

#![allow(missing_docs, reason = "a test")]

use outrigger_tests::{Api, Elasticsearch, Outrigger, Reply, Vectors, assert_alike};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use reqwest::Method;
use serde_json::{Value, json};

const DIMS: usize = 8;
/// Documents of the two indices with vectors; more than a tenth have the same vector.
const DOCUMENTS: [usize; 2] = [120, 150];

#[tokio::test]
async fn targets_and_endpoints_answer_what_elasticsearch_answers() {
    let seed: u64 = std::env::var("ENDPOINTS_SEED").map_or(3, |seed| seed.parse().unwrap());
    eprintln!("ENDPOINTS_SEED={seed}");
    let elasticsearch = Elasticsearch::start("endpoints").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let mut pair = Pair {
        through: outrigger.api(),
        direct: elasticsearch.api(),
        random: Xoshiro256PlusPlus::seed_from_u64(seed),
        vectors: Vectors::new(seed, DIMS),
    };
    pair.fill().await;
    for index in ["ours-a", "ours-b", "ours-shut"] {
        outrigger.learnt(index).await;
    }
    pair.direct.call("POST", "/ours-shut,twin-shut/_close", None).await.ok();
    // The catalog is one interval old at most, and current after a request that changes names through us.
    let aliases = json!({"actions": [{"add": {"index": "ours-a", "alias": "made-through-us"}}]});
    pair.through.post("/_aliases", aliases).await.ok();
    targets(&mut pair).await;
    ties(&mut pair).await;
    searches_together(&mut pair).await;
    what_fails_together(&mut pair).await;
    counts(&mut pair).await;
    knn_searches(&mut pair).await;
    one_id_in_several_shards(&mut pair).await;
    what_no_reader_of_ours_takes(&pair, &outrigger).await;
}

/// The same requests through us and to twins.
struct Pair {
    through: Api,
    direct: Api,
    random: Xoshiro256PlusPlus,
    vectors: Vectors,
}

impl Pair {
    async fn fill(&mut self) {
        for (api, prefix, kind) in [(&self.through, "ours", "ivf"), (&self.direct, "twin", "hnsw")] {
            for (name, shards) in [("a", 2), ("b", 3), ("shut", 1)] {
                make(api, &format!("{prefix}-{name}"), kind, shards).await;
            }
            let plain = json!({"settings": {"number_of_shards": 1, "number_of_replicas": 0}, "mappings": {"properties": {"a": {"type": "keyword"}}}});
            api.put(&format!("/{prefix}-plain"), plain).await.ok();
            let add = |index: &str, alias: &str, more: Value| {
                let mut add =
                    json!({"index": format!("{prefix}-{index}"), "alias": format!("{prefix}{alias}")});
                add.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                json!({"add": add})
            };
            let actions = [
                add("a", "_both", json!({})),
                add("b", "_both", json!({})),
                add("b", "_b", json!({})),
                add("a", "_routed", json!({"routing": "x"})),
                add("b", "_searched", json!({"search_routing": "x,y"})),
                add("b", "_hidden", json!({"is_hidden": true})),
            ];
            api.post("/_aliases", json!({ "actions": actions })).await.ok();
        }
        let same = self.vectors.draw();
        for (index, count) in ["a", "b"].into_iter().zip(DOCUMENTS) {
            let docs: Vec<(String, Value)> = (0..count)
                .map(|n| {
                    let vector = if n % 8 == 0 { same.clone() } else { self.vectors.draw() };
                    (n.to_string(), json!({"v": vector, "n": n, "a": WORDS[n % 3], "t": WORDS[n % 4]}))
                })
                .collect();
            for (api, prefix) in [(&self.through, "ours"), (&self.direct, "twin")] {
                let answer = api.bulk(&format!("{prefix}-{index}"), "true", &docs).await.unwrap().ok();
                assert_eq!(answer["errors"], false, "{answer}");
            }
        }
    }

    /// Sends both; `ours` in the path and in the body stands for the index's family.
    async fn both(&self, method: &Method, path: &str, body: &str, kind: &str) -> (Reply, Reply) {
        let headers = [("content-type", kind)];
        let (their_path, their_body) = (path.replace("ours", "twin"), body.replace("ours", "twin"));
        let ours = self.through.try_send(method.clone(), path, &headers, body.into()).await.unwrap();
        let theirs =
            self.direct.try_send(method.clone(), &their_path, &headers, their_body.into()).await.unwrap();
        (ours, theirs)
    }

    /// Asserts that both answers are the same, and returns the way of ours.
    async fn same(&self, path: &str, body: &str) -> String {
        let kind = if path.contains("_msearch") { "application/x-ndjson" } else { "application/json" };
        let (ours, theirs) = self.both(&Method::POST, path, body, kind).await;
        let what = format!("{path} [{}]\n{body}", ours.way);
        assert_eq!(ours.status, theirs.status, "{what}\n{}\n{}", ours.text, theirs.text);
        assert_alike(&neutral(&ours), &neutral(&theirs), &what);
        ours.way
    }

    fn knn(&mut self) -> Value {
        let k = self.random.gen_range(1..25);
        json!({"field": "v", "query_vector": self.vectors.draw(), "k": k, "num_candidates": 500})
    }

    /// The knn query has no `k` before 8.15.
    fn knn_query(&mut self) -> Value {
        let mut knn = self.knn();
        if !Elasticsearch::version_at_least(8, 15) {
            knn["num_candidates"] = knn.as_object_mut().unwrap().remove("k").unwrap();
        }
        json!({ "knn": knn })
    }

    fn search(&mut self) -> Value {
        let has_query = Elasticsearch::version_at_least(8, 12);
        let mut body = match self.random.gen_range(0..if has_query { 7 } else { 4 }) {
            0 | 1 => json!({"knn": self.knn(), "_source": false}),
            2 => json!({"knn": self.knn(), "_source": ["n"], "fields": ["a"]}),
            3 => {
                json!({"knn": self.knn(), "query": {"match": {"t": "red"}}, "aggs": {"a": {"terms": {"field": "a"}}}, "_source": "n"})
            }
            4 => json!({"query": self.knn_query(), "_source": false}),
            5 if Elasticsearch::version_at_least(8, 14) => {
                json!({"retriever": {"knn": self.knn()}, "_source": ["n", "t"]})
            }
            _ => {
                json!({"query": {"bool": {"should": [self.knn_query(), {"term": {"a": "blue"}}]}}, "_source": false})
            }
        };
        body["size"] = json!(self.random.gen_range(0..30));
        if self.random.gen_bool(0.2) {
            body["from"] = json!(self.random.gen_range(0..5));
        }
        body
    }
}

const WORDS: [&str; 4] = ["red", "green", "blue", "red blue"];

async fn make(api: &Api, index: &str, kind: &str, shards: usize) {
    let options = match kind {
        // So dense that no document is out of reach.
        "hnsw" => json!({"type": "hnsw", "m": 48, "ef_construction": 300}),
        kind => json!({ "type": kind }),
    };
    let vector = json!({"type": "dense_vector", "dims": DIMS, "index": true, "similarity": "l2_norm", "index_options": options});
    let body = json!({
        "settings": {"number_of_shards": shards, "number_of_replicas": 0},
        "mappings": {"properties": {"v": vector, "n": {"type": "integer"}, "a": {"type": "keyword"}, "t": {"type": "text"}}},
    });
    api.put(&format!("/{index}"), body).await.ok();
}

/// A body without what differs between the two families.
fn neutral(reply: &Reply) -> Value {
    serde_json::from_str(&reply.text.replace("ours", "twin")).unwrap_or(Value::Null)
}

async fn targets(pair: &mut Pair) {
    let mut ways = std::collections::BTreeMap::<String, usize>::new();
    for target in [
        "ours-a,ours-b",
        "ours-b,ours-a",
        "ours-a,ours-a",
        "ours-*,-ours-plain",
        "ours-*",
        "ours-a,-ours-*",
        "ours-*,-ours-a,-ours-plain",
        "ours-*,-ours_both",
        "ours_both",
        "ours_both,ours-a",
        "ours_b*",
        "ours_b",
        "ours_routed",
        "ours_searched",
        "ours_searched,ours-a",
        "ours_routed?routing=y",
        "ours_hidden",
        "ours_hid*",
        "ours-a?routing=x",
        "ours-a,ours-b?routing=x,z",
        "ours-b?routing=",
        "ours-a,ours-missing",
        "ours-a,ours-missing?ignore_unavailable=true",
        "ours-missing?ignore_unavailable=true",
        "ours-a,ours-none*",
        "ours-a,ours-none*?allow_no_indices=false",
        "ours-none*",
        "ours-a,ours-shut",
        "ours-a,ours-shut?ignore_unavailable=true",
        "ours-s*",
        "ours-a,ours-b?expand_wildcards=none",
        "ours-*,-ours-plain?expand_wildcards=all&ignore_unavailable=true",
        "ours-a,ours-plain",
        "ours-a,",
        ",ours-a",
        "-ours-a",
        "ours-a,-ours-b",
        "%3Cours-a%3E",
        "ours-a%2Cours-b",
        "ours-a,ours-b?preference=me",
        "ours-a?preference=_shards:1",
        "ours-a,ours-b?rest_total_hits_as_int=true&size=3",
    ] {
        let (names, query) = target.split_once('?').unwrap_or((target, ""));
        for _ in 0..4 {
            let body = pair.search().to_string();
            let way = pair.same(&format!("/{names}/_search?{query}"), &body).await;
            *ways.entry(way).or_default() += 1;
        }
    }
    eprintln!("{ways:?}");
    let of = |way: &str| {
        ways.iter().filter(|(told, _)| told.starts_with(way)).map(|(_, count)| count).sum::<usize>()
    };
    assert!(of("answer") > 30 && of("fetch") > 10 && of("splice") > 10, "{ways:?}");
    let boosted =
        json!({"knn": pair.knn(), "indices_boost": [{"ours-b": 2.0}], "_source": false, "size": 20});
    assert_eq!(pair.same("/ours-a,ours-b/_search", &boosted.to_string()).await, "splice; reason=ok");
}

/// Equal scores come by the number of the shard, then by index, then by age.
async fn ties(pair: &mut Pair) {
    let (ours, _) = pair.both(&Method::GET, "/ours-a/_doc/0?_source=v", "", "application/json").await;
    let vector = match ours.body["_source"]["v"].clone() {
        // 9.2 does not show it.
        Value::Null => {
            let fields = json!({"query": {"ids": {"values": ["0"]}}, "fields": ["v"], "_source": false});
            pair.direct.post("/twin-a/_search", fields).await.body["hits"]["hits"][0]["fields"]["v"].clone()
        }
        vector => vector,
    };
    let knn = json!({"field": "v", "query_vector": vector, "k": 30, "num_candidates": 500});
    for (target, body) in [
        ("ours-a", json!({"knn": knn, "size": 40, "_source": false})),
        ("ours-a,ours-b", json!({"knn": knn, "size": 40, "_source": false})),
        ("ours-b,ours-a", json!({"knn": knn, "size": 12, "from": 3, "_source": ["n"]})),
    ] {
        let body = body.to_string();
        let (ours, theirs) =
            pair.both(&Method::POST, &format!("/{target}/_search"), &body, "application/json").await;
        let names = |reply: &Reply| -> Vec<String> {
            let hits = reply.body["hits"]["hits"].as_array().unwrap();
            // Up to the first hit that another vector made.
            let tied = hits.iter().filter(|hit| hit["_score"] == 1.0);
            tied.map(|hit| format!("{}/{}", hit["_index"], hit["_id"]).replace("ours", "twin")).collect()
        };
        assert!(names(&theirs).len() > 8, "{}", theirs.text);
        assert_eq!(names(&ours), names(&theirs), "{target} [{}]", ours.way);
    }
}

async fn searches_together(pair: &mut Pair) {
    let mut ways = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..120 {
        let mut lines = String::new();
        for _ in 0..pair.random.gen_range(1..9) {
            let header = [
                json!({}),
                json!({"index": "ours-a"}),
                json!({"index": ["ours-a", "ours-b"]}),
                json!({"index": "ours-b", "preference": "me"}),
                json!({"index": "ours-*,-ours-plain", "ignore_unavailable": true}),
                json!({"index": "ours-a", "routing": "x"}),
                json!({"index": "ours-missing"}),
                json!({"index": "ours-a", "search_type": "query_then_fetch", "request_cache": false}),
            ];
            let header = header.choose(&mut pair.random).unwrap().clone();
            let mut body = match pair.random.gen_range(0..12) {
                0 => json!({"query": {"match": {"t": "green"}}, "size": 3}),
                1 => json!({}),
                _ => pair.search(),
            };
            if body.get("knn").is_some_and(Value::is_object) && pair.random.gen_bool(0.06) {
                body["knn"]["query_vector"] = json!([1, 2]);
            }
            lines.push_str(&format!("{header}\n{body}\n"));
        }
        let urls = [
            "/ours-b/_msearch",
            "/ours-a,ours-b/_msearch?typed_keys=true",
            "/ours-a/_msearch?rest_total_hits_as_int=true",
            "/ours-a/_msearch?pretty",
            "/ours_both/_msearch?max_concurrent_searches=2",
            "/ours-a/_msearch?filter_path=responses.hits.hits._id,responses.hits.hits._source,responses.error.type",
            "/ours-a/_msearch?filter_path=-responses.hits.hits._score&pretty=true",
        ];
        let url = *urls.choose(&mut pair.random).unwrap();
        let way = pair.same(url, &lines).await;
        *ways.entry(way).or_default() += 1;
    }
    eprintln!("{ways:?}");
    let ours: usize = ways.iter().filter(|(way, _)| !way.starts_with("pass")).map(|(_, count)| count).sum();
    assert!(ours > 90, "{ways:?}");
    let bare = json!({"knn": pair.knn(), "_source": false});
    let way = pair.same("/ours-a/_msearch", &format!("{{}}\n{bare}\n{{}}\n{bare}\n")).await;
    assert_eq!(way, "answer; reason=ok");
}

/// One bad pair of lines is an error of the whole, and Elasticsearch's to tell.
async fn what_fails_together(pair: &mut Pair) {
    let good = json!({"knn": pair.knn(), "_source": false}).to_string();
    let vector = json!(pair.vectors.draw());
    for lines in [
        format!("{{}}\n{good}\n{{}}\n{{\"knnx\":{{}}}}\n"),
        format!("{{}}\n{good}\n{{\"zzz\":1}}\n{good}\n"),
        format!("{{}}\n{good}\n{{}}\n{{\"knn\":{{\"field\":\"v\",\"query_vector\":{vector},\"k\":0}}}}\n"),
        format!("{{}}\n{good}\n{{}}\n{{\"query\":\n"),
        format!("{{}}\n{good}\n{{}}\n{good}"),
        format!("\n{{}}\n{good}\n"),
        format!("{{}}\n{good}\n{{}}\n"),
        format!("{{}}\n{good}\n\n\n"),
        "\n".to_owned(),
    ] {
        pair.same("/ours-a/_msearch", &lines).await;
    }
    let two = format!("{{}}\n{good}\n{{}}\n{good}\n");
    for url in ["?zzz=1", "?search_type=query_then_fetch", "?max_concurrent_searches=0", "?format=yaml"] {
        pair.same(&format!("/ours-a/_msearch{url}"), &two).await;
    }
}

/// `_count` has no size, and so a knn query in it no default of `k`.
async fn counts(pair: &mut Pair) {
    let mut spliced = 0;
    for target in ["ours-a", "ours-a,ours-b", "ours-a?routing=x"] {
        let (names, query) = target.split_once('?').unwrap_or((target, ""));
        for _ in 0..3 {
            let alone = json!({"query": pair.knn_query()});
            let inside = json!({"query": {"bool": {"must": [pair.knn_query(), {"term": {"a": "red"}}]}}});
            for body in [alone, inside] {
                let way = pair.same(&format!("/{names}/_count?{query}"), &body.to_string()).await;
                spliced += usize::from(way == "splice; reason=ok");
            }
        }
    }
    assert_eq!(spliced, if Elasticsearch::version_at_least(8, 12) { 18 } else { 0 });
    let section = json!({"knn": pair.knn()});
    pair.same("/ours-a/_count", &section.to_string()).await;
}

/// From 9 on `_knn_search` is there only for clients that speak the language of 8.
async fn knn_searches(pair: &mut Pair) {
    let compatible = "application/vnd.elasticsearch+json;compatible-with=8";
    let is_9 = Elasticsearch::version_at_least(9, 0);
    let headers = if is_9 {
        vec![("content-type", compatible), ("accept", compatible)]
    } else {
        vec![("content-type", "application/json")]
    };
    let mut answered = 0;
    for target in ["ours-a", "ours-a,ours-b", "ours_b", "ours-b?routing=x", "ours-a?pretty", "ours-none"] {
        let (names, query) = target.split_once('?').unwrap_or((target, ""));
        for source in [json!(false), json!(["n"]), json!(true)] {
            let knn = json!({"field": "v", "query_vector": pair.vectors.draw(), "k": pair.random.gen_range(1..9), "num_candidates": pair.random.gen_range(9..40)});
            // What the twin finds must not depend on its graph.
            let body = json!({"knn": knn, "_source": source, "fields": ["a"]}).to_string();
            let send = |api: Api, names: String, headers: Vec<(&'static str, &'static str)>, body: String| async move {
                let path = format!("/{names}/_knn_search?{query}");
                api.try_send(Method::POST, &path, &headers, body.into()).await.unwrap()
            };
            let ours = send(pair.through.clone(), names.to_owned(), headers.clone(), body.clone()).await;
            let theirs =
                send(pair.direct.clone(), names.replace("ours", "twin"), headers.clone(), body.clone()).await;
            let what = format!("{target} [{}] {body}", ours.way);
            assert_eq!(ours.status, theirs.status, "{what}\n{}\n{}", ours.text, theirs.text);
            assert_alike(&neutral(&ours), &neutral(&theirs), &what);
            answered += usize::from(ours.way.starts_with("fetch"));
        }
    }
    assert_eq!(answered, 15);
    let knn =
        json!({"knn": {"field": "v", "query_vector": pair.vectors.draw(), "k": 2, "num_candidates": 9}});
    if is_9 {
        assert_eq!(pair.same("/ours-a/_knn_search", &knn.to_string()).await, "pass; reason=version");
    }
    let sized = json!({"knn": knn["knn"], "size": 3});
    pair.same("/ours-a/_knn_search", &sized.to_string()).await;
}

/// By routings of their own several documents have one id; each is a hit with its own source.
async fn one_id_in_several_shards(pair: &mut Pair) {
    for id in 0..12 {
        for routing in ["one", "two", "three", "four"] {
            let document =
                json!({"v": pair.vectors.draw(), "n": id, "a": routing, "t": format!("{id} {routing}")});
            for (api, index) in [(&pair.through, "ours-b"), (&pair.direct, "twin-b")] {
                api.put(&format!("/{index}/_doc/{id}?routing={routing}"), document.clone()).await.ok();
            }
        }
    }
    for (api, index) in [(&pair.through, "ours-b"), (&pair.direct, "twin-b")] {
        api.call("POST", &format!("/{index}/_refresh"), None).await.ok();
    }
    for target in ["ours-b", "ours-a,ours-b"] {
        for k in [5, 60, 200] {
            let knn =
                json!({"field": "v", "query_vector": pair.vectors.draw(), "k": k, "num_candidates": 500});
            let body = json!({"knn": knn, "size": k, "_source": ["n", "a", "t"], "version": true});
            let way = pair.same(&format!("/{target}/_search"), &body.to_string()).await;
            assert!(way.starts_with("fetch"), "{target}, k {k}: {way}");
        }
    }
}

/// Elasticsearch takes half a surrogate pair in names of fields and in filters, and objects of any depth. Such an index must not hide what
/// happens to others.
async fn what_no_reader_of_ours_takes(pair: &Pair, outrigger: &Outrigger) {
    let send = |path: &'static str, body: String| async move {
        let headers = [("content-type", "application/json")];
        let method = if path == "/_aliases" { Method::POST } else { Method::PUT };
        pair.direct.try_send(method, path, &headers, body.into()).await.unwrap().ok();
    };
    let deep = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
    let strange =
        format!(r#"{{"mappings":{{"_meta":{deep},"properties":{{"q\ud800":{{"type":"keyword"}}}}}}}}"#);
    send("/strange", strange).await;
    let filtered = r#"{"add":{"index":"FAMILY-a","alias":"FAMILY_half","filter":{"bool":{"must_not":[{"term":{"a":"\udc00"}}]}}}}"#;
    let (ours, twin) = (filtered.replace("FAMILY", "ours"), filtered.replace("FAMILY", "twin"));
    send("/_aliases", format!(r#"{{"actions":[{ours},{twin}]}}"#)).await;

    make(&pair.through, "later", "ivf", 1).await;
    pair.through.put("/later/_doc/1?refresh=true", json!({"v": vec![1.0; DIMS]})).await.ok();
    outrigger.learnt("later").await;
    assert_eq!(pair.through.knn("later", &[1.0; DIMS], 1).await.way, "answer; reason=ok");
    let knn = json!({"field": "v", "query_vector": vec![0.5; DIMS], "k": 20, "num_candidates": 500});
    let way = pair.same("/ours_half/_search", &json!({"knn": knn, "_source": false}).to_string()).await;
    assert_eq!(way, "pass; reason=filter_query");
    // Nor what people are shown of others.
    for (path, shown) in [
        ("/_mapping?filter_path=later", r#""type":"ivf""#),
        ("/_mapping?filter_path=**.v.index_options.type", r#""type":"ivf""#),
        ("/_ivf", r#""later":{"#),
    ] {
        let reply = pair.through.try_send(Method::GET, path, &[], Vec::new()).await.unwrap();
        assert!(
            reply.text.contains(shown) && !reply.text.contains("outrigger.ivf"),
            "{path}: {}",
            reply.text
        );
    }
}
