//! `_recall` and `_explain`: what they say of a running index agrees with what searches give.

#![allow(missing_docs, reason = "a test")]

use outrigger_tests::{Elasticsearch, Outrigger, Vectors};
use serde_json::json;

const DIMS: usize = 16;

#[tokio::test]
async fn people_can_ask_how_good_searches_are_and_what_became_of_a_document() {
    let elasticsearch = Elasticsearch::start("insight").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let through = outrigger.api();
    let mapping = json!({
        "settings": {"number_of_shards": 2, "number_of_replicas": 0},
        "mappings": {"properties": {
            "v": {"type": "dense_vector", "dims": DIMS, "index": true, "similarity": "l2_norm", "index_options": {"type": "ivf"}},
            "t": {"type": "keyword"},
        }},
    });
    through.put("/i", mapping).await.ok();
    let mut vectors = Vectors::new(3, DIMS);
    let mut docs: Vec<_> = (0..400).map(|n| (n.to_string(), json!({"v": vectors.draw()}))).collect();
    docs.push(("bare".into(), json!({"t": "no vector"})));
    through.bulk("i", "true", &docs).await.unwrap().ok();
    outrigger.learnt("i").await;

    for body in
        [json!({}), json!({"sample": 20, "k": 5, "curve": true}), json!({"queries": [vectors.draw()]})]
    {
        let measured = through.post("/_ivf/i/_recall", body).await.ok();
        // So few vectors are compared exactly.
        assert_eq!(measured["recall"]["mean"], 1.0, "{measured}");
        assert!(measured["recall"]["low"].as_f64().unwrap() < 1.0, "{measured}");
        assert_eq!((&measured["field"], &measured["lists"]), (&json!("v"), &json!(0.0)), "{measured}");
    }
    for (body, status, kind) in [
        (json!({"field": "t"}), 404, "resource_not_found_exception"),
        (json!({"fields": "v"}), 400, "parsing_exception"),
        (json!({"queries": [[1, 2]]}), 400, "illegal_argument_exception"),
        (json!({"sample": 0}), 400, "illegal_argument_exception"),
        (json!({"k": 10, "num_candidates": 9}), 400, "illegal_argument_exception"),
    ] {
        let refused = through.post("/_ivf/i/_recall", body.clone()).await;
        assert_eq!(
            (refused.status, &refused.body["error"]["type"]),
            (status, &json!(kind)),
            "{body}: {}",
            refused.text
        );
    }
    assert_eq!(through.post("/_ivf/none/_recall", json!({})).await.status, 404);

    let knn = json!({"field": "v", "query_vector": vectors.draw(), "k": 10, "num_candidates": 20});
    let hits = through.post("/i/_search", json!({"knn": knn})).await;
    let ids = hits.ids();
    for (rank, id) in ids.iter().enumerate() {
        let told = through.post("/_ivf/i/_explain", json!({"id": id, "knn": knn})).await.ok();
        assert_eq!((&told["matched"], &told["rank"]), (&json!(true), &json!(rank)), "{told}");
        let score = hits.body["hits"]["hits"][rank]["_score"].as_f64().unwrap();
        assert!((told["score"].as_f64().unwrap() - score).abs() < 1e-6, "{told}");
        assert_eq!(told["_seq_no"], told["elasticsearch"]["_seq_no"], "{told}");
    }
    for (body, part) in [
        (json!({"knn": knn, "profile": true}), "dfs"),
        (json!({"knn": knn, "query": {"match_all": {}}, "profile": true}), "dfs"),
    ] {
        let profiled = through.post("/i/_search", body.clone()).await;
        assert_eq!(profiled.way, "splice; reason=ok", "{body}");
        let shards = profiled.body["profile"]["shards"].as_array().unwrap();
        assert_eq!(shards.len(), 2, "{}", profiled.text);
        for shard in shards {
            let ours = &shard[part]["ivf"][0];
            assert_eq!((&ours["field"], &ours["plan"]), (&json!("v"), &json!("exact")), "{shard}");
            assert_eq!(ours["compared"], ours["documents"], "{shard}");
            assert!(shard[part]["knn"].is_array() || part != "dfs", "{shard}");
        }
    }
    for (url, way) in [("?ivf_nprobe=3", "answer; reason=ok"), ("?ivf_nprobe=0", "pass; reason=nprobe")] {
        let found = through.post(&format!("/i/_search{url}"), json!({"knn": knn, "_source": false})).await;
        assert_eq!((found.status, &*found.way), (200, way), "{}", found.text);
    }
    let other = (0..400).map(|n| n.to_string()).find(|id| !ids.contains(id)).unwrap();
    let told = through.call("GET", "/_ivf/i/_explain", Some(json!({"id": other, "knn": knn}))).await.ok();
    assert_eq!((&told["matched"], &told["lost"]), (&json!(false), &json!("nearer_ones")), "{told}");
    let told = through.post("/_ivf/i/_explain", json!({"id": "bare", "knn": knn})).await.ok();
    assert_eq!(told["lost"], "no_vector", "{told}");
    for (body, status) in [
        (json!({"id": "nobody", "knn": knn}), 404),
        (json!({"knn": knn}), 400),
        (json!({"id": "1", "query": {"match_all": {}}}), 400),
    ] {
        assert_eq!(through.post("/_ivf/i/_explain", body.clone()).await.status, status, "{body}");
    }
}
