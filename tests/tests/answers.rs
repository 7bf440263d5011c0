//! The main promise: knn searches through us are what Elasticsearch gives, over inserts, updates,
//! deletes, several shards and all similarities. The truth is an exact scan by Elasticsearch itself:
//! the same request sent past us.

#![allow(missing_docs, reason = "a test")]

use std::time::Duration;

use outrigger_tests::{Elasticsearch, Outrigger, Reply, Vectors, assert_same, eventually};
use serde_json::{Value, json};

#[tokio::test]
async fn answers_equal_an_exact_scan_through_inserts_updates_and_deletes() {
    let elasticsearch = Elasticsearch::start("answers").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());
    for (similarity, shards, dims) in
        [("cosine", 1, 24), ("l2_norm", 3, 24), ("dot_product", 2, 17), ("max_inner_product", 2, 8)]
    {
        if similarity == "max_inner_product" && !Elasticsearch::version_at_least(8, 11) {
            continue;
        }
        let index = format!("answers-{similarity}");
        let mut vectors = Vectors::new(7, dims);
        through.create(&index, dims, similarity, shards).await;
        let mut draw = |unit: bool| if unit { vectors.draw_unit() } else { vectors.draw() };
        let unit = similarity == "dot_product";
        let docs: Vec<_> = (0..600).map(|n| (n.to_string(), json!({"v": draw(unit), "n": n}))).collect();
        through.bulk(&index, "true", &docs).await.unwrap().ok();
        outrigger.learnt(&index).await;
        for round in 0..4 {
            for k in [1, 10, 50] {
                let query = draw(unit);
                let ours = through.knn(&index, &query, k).await;
                assert!(ours.way.starts_with("answer"), "{index}: {}", ours.way);
                assert_same(
                    &ours,
                    &direct.knn(&index, &query, k).await,
                    &format!("{index}, round {round}, k {k}"),
                );
            }
            // Updates, deletes and documents that lose their vector, some of them past us.
            let changed: Vec<_> = (0..40)
                .map(|n| {
                    (
                        (n * 7 + round).to_string(),
                        if n % 5 == 0 { json!({"n": n}) } else { json!({"v": draw(unit)}) },
                    )
                })
                .collect();
            through.bulk(&index, "false", &changed).await.unwrap().ok();
            for n in 0..10 {
                let api = if n % 2 == 0 { &through } else { &direct };
                api.delete(&format!("/{index}/_doc/{}", n * 11 + round)).await;
            }
            through.call("POST", &format!("/{index}/_refresh"), None).await.ok();
        }
    }
}

#[tokio::test]
async fn a_refresh_acknowledged_through_us_is_in_the_next_search() {
    let elasticsearch = Elasticsearch::start("refresh").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let through = outrigger.api();
    through.create("seen", 4, "l2_norm", 2).await;
    through.put("/seen/_doc/first?refresh=true", json!({"v": [9, 9, 9, 9]})).await.ok();
    outrigger.learnt("seen").await;
    for n in 0..60 {
        let vector = [n as f32, 1.0, 2.0, 3.0];
        let id = n.to_string();
        match n % 4 {
            0 => through.put(&format!("/seen/_doc/{id}?refresh=true"), json!({"v": vector})).await.ok(),
            1 => through.put(&format!("/seen/_doc/{id}?refresh=wait_for"), json!({"v": vector})).await.ok(),
            2 => through.bulk("seen", "true", &[(id.clone(), json!({"v": vector}))]).await.unwrap().ok(),
            _ => {
                through.put(&format!("/seen/_doc/{id}"), json!({"v": vector})).await.ok();
                through.call("POST", "/seen/_refresh", None).await.ok()
            }
        };
        let found = through.knn("seen", &vector, 1).await;
        assert!(found.way.starts_with("answer"), "{}", found.way);
        assert_eq!(found.ids(), std::slice::from_ref(&id), "{}", found.text);
        if n % 3 == 0 {
            through.delete(&format!("/seen/_doc/{id}?refresh=true")).await.ok();
            assert_ne!(through.knn("seen", &vector, 1).await.ids(), [id]);
        }
    }
}

#[tokio::test]
async fn writes_past_us_show_within_a_moment_and_never_before_elasticsearch_shows_them() {
    let elasticsearch = Elasticsearch::start("past").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());
    let body = json!({
        "settings": {"refresh_interval": -1},
        "mappings": {"properties": {"v": {"type": "dense_vector", "dims": 2, "index": true, "similarity": "l2_norm"}}},
    });
    through.put("/past", body).await.ok();
    outrigger.learnt("past").await;
    direct.put("/past/_doc/a", json!({"v": [1, 1]})).await.ok();
    // Acknowledged, not refreshed: nobody may see it.
    let hidden = through.knn("past", &[1.0, 1.0], 1).await;
    assert_eq!(hidden.ids(), Vec::<String>::new(), "{}", hidden.text);
    direct.call("POST", "/past/_refresh", None).await.ok();
    eventually("the write past us is found", Duration::from_secs(20), || async {
        (through.knn("past", &[1.0, 1.0], 1).await.ids() == ["a"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn where_security_is_declared_on_every_hit_is_fetched_as_the_caller() {
    let elasticsearch = Elasticsearch::start("secured").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start_with(elasticsearch.url(), data.path(), &["--security", "on"]).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());
    through.create("secured", 2, "l2_norm", 2).await;
    let docs: Vec<_> = (0..30).map(|n| (n.to_string(), json!({"v": [n, 1], "tag": "t"}))).collect();
    through.bulk("secured", "true", &docs).await.unwrap().ok();
    outrigger.learnt("secured").await;
    for body in [
        json!({"knn": {"field": "v", "query_vector": [3, 1], "k": 7, "num_candidates": 100}, "size": 3, "_source": false}),
        json!({"knn": {"field": "v", "query_vector": [3, 1], "k": 7, "num_candidates": 100}, "_source": ["tag"], "version": true}),
        json!({"knn": {"field": "v", "query_vector": [3, 1], "k": 7, "num_candidates": 100}, "from": 5, "fields": ["n"], "seq_no_primary_term": true}),
    ] {
        let ours = through.post("/secured/_search", body.clone()).await;
        assert_eq!(ours.way, "fetch; reason=ok", "{body}");
        let theirs = direct.post("/secured/_search", body.clone()).await;
        assert_eq!(ours.body["hits"], theirs.body["hits"], "{body}");
    }
    // Nothing on the page: whether the caller may know even that is Elasticsearch's to say.
    let counted =
        json!({"knn": {"field": "v", "query_vector": [3, 1], "k": 7, "num_candidates": 100}, "size": 0});
    let ours = through.post("/secured/_search", counted).await;
    assert!(ours.way.starts_with("fetch") || ours.way == "pass; reason=security", "{}", ours.way);
    assert_eq!(ours.body["hits"]["total"]["value"], 7);
}

#[tokio::test]
async fn documents_found_again_are_not_fetched_again_unless_they_changed() {
    let elasticsearch = Elasticsearch::start("kept").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());
    through.create("kept", 2, "l2_norm", 2).await;
    let docs: Vec<_> = (0..30)
        .map(|n| (n.to_string(), json!({"v": [n, 1], "n": n, "tag": format!("caf\u{e9} {n}")})))
        .collect();
    through.bulk("kept", "true", &docs).await.unwrap().ok();
    outrigger.learnt("kept").await;
    let search = |source: Value| json!({"knn": {"field": "v", "query_vector": [3.2, 1], "k": 5, "num_candidates": 50}, "_source": source});
    let compare = async |path: &str, body: &Value, way: &str| {
        let ours = through.post(path, body.clone()).await;
        assert_eq!(ours.way, way, "{path} {body}");
        let theirs = direct.post(path, body.clone()).await;
        assert_eq!(ours.body["hits"], theirs.body["hits"], "{path} {body}");
        assert_eq!(ours.body["_shards"], theirs.body["_shards"], "{path} {body}");
        let documents = |reply: &Reply| reply.text.split_once("max_score").map(|(_, hits)| hits.to_owned());
        assert_eq!(documents(&ours), documents(&theirs), "the same bytes");
    };
    // Each wish is fetched once, and then kept under its own name.
    for source in [json!(true), json!(["tag"]), json!({"excludes": ["v", "n"]})] {
        for path in
            ["/kept/_search", "/kept/_search?pretty", "/kept/_search?version=true&filter_path=hits,_shards"]
        {
            compare(path, &search(source.clone()), "fetch; reason=ok").await;
            compare(path, &search(source.clone()), "answer; reason=documents_kept").await;
        }
    }
    // What depends on more than the document is always asked for.
    let fields = json!({"knn": {"field": "v", "query_vector": [3.2, 1], "k": 5, "num_candidates": 50}, "fields": ["n"]});
    compare("/kept/_search", &fields, "fetch; reason=ok").await;
    compare("/kept/_search", &fields, "fetch; reason=ok").await;
    // An update is another version, a deletion brings another hit: both are fetched, the rest is not.
    let wish = search(json!(["tag"]));
    through.put("/kept/_doc/3?refresh=true", json!({"v": [3, 1], "tag": "changed"})).await.ok();
    compare("/kept/_search", &wish, "fetch; reason=ok").await;
    compare("/kept/_search", &wish, "answer; reason=documents_kept").await;
    through.delete("/kept/_doc/4?refresh=true").await.ok();
    compare("/kept/_search", &wish, "fetch; reason=ok").await;
    compare("/kept/_search", &wish, "answer; reason=documents_kept").await;
    // The same name is not the same index.
    through.delete("/kept").await.ok();
    through.create("kept", 2, "l2_norm", 2).await;
    let again: Vec<_> = (0..30).map(|n| (n.to_string(), json!({"v": [n, 1], "tag": "anew"}))).collect();
    through.bulk("kept", "true", &again).await.unwrap().ok();
    outrigger.learnt("kept").await;
    compare("/kept/_search", &wish, "fetch; reason=ok").await;
}

#[tokio::test]
async fn ignored_values_are_shown_as_elasticsearch_shows_them() {
    let elasticsearch = Elasticsearch::start("ignored").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());
    through.create("ignored", 2, "l2_norm", 1).await;
    // Dynamic strings get `ignore_above: 256`: their index may ignore values, but has not yet.
    through.put("/ignored/_doc/1?refresh=true", json!({"v": [1, 1], "title": "short"})).await.ok();
    outrigger.learnt("ignored").await;
    let answered = through.knn("ignored", &[1.0, 1.0], 2).await;
    assert_eq!(answered.way, "answer; reason=ok");
    through.put("/ignored/_doc/2?refresh=true", json!({"v": [1, 2], "title": "long".repeat(100)})).await.ok();
    let fetched = through.knn("ignored", &[1.0, 1.0], 2).await;
    assert_eq!(fetched.way, "fetch; reason=ok");
    assert_eq!(fetched.body["hits"], direct.knn("ignored", &[1.0, 1.0], 2).await.body["hits"]);
    assert!(fetched.text.contains("_ignored"), "{}", fetched.text);
    through.delete("/ignored/_doc/2?refresh=true").await.ok();
    assert_eq!(through.knn("ignored", &[1.0, 1.0], 2).await.way, "answer; reason=ok");
}
