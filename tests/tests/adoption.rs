//! Fields that become ours, and cease to be: by the API, by a pattern, by a mapping update; and fields whose
//! options somebody takes away past us.

#![allow(missing_docs, reason = "a test")]

use std::time::Duration;

use outrigger_tests::{Api, Elasticsearch, Outrigger, eventually};
use serde_json::{Value, json};

const KEY: &str = "outrigger.ivf";

/// A field that Elasticsearch indexes by itself, with some `meta` of its own.
fn foreign() -> Value {
    json!({
        "type": "dense_vector", "dims": 2, "index": true, "similarity": "l2_norm",
        "index_options": {"type": "hnsw", "m": 8, "ef_construction": 50}, "meta": {"unit": "m"},
    })
}

async fn create(api: &Api, index: &str, field: Value) {
    let mapping = json!({"properties": {"o": {"properties": {"v": field}}, "t": {"type": "keyword"}}});
    api.put(&format!("/{index}"), json!({"settings": {"number_of_replicas": 0}, "mappings": mapping}))
        .await
        .ok();
    let docs: Vec<_> = (0..30).map(|n| (n.to_string(), json!({"o": {"v": [n, 1]}}))).collect();
    api.bulk(index, "true", &docs).await.unwrap().ok();
}

/// The field as a node shows it.
async fn shown(api: &Api, index: &str) -> Value {
    let mapping = api.get(&format!("/{index}/_mapping")).await.ok();
    mapping[index]["mappings"]["properties"]["o"]["properties"]["v"].clone()
}

/// How a search is answered; its hits must be right either way.
async fn way(api: &Api, index: &str) -> String {
    let knn = json!({"field": "o.v", "query_vector": [7, 1], "k": 1, "num_candidates": 30});
    let found = api.post(&format!("/{index}/_search"), json!({"knn": knn, "_source": false})).await;
    assert_eq!(found.ids(), ["7"], "{}", found.text);
    found.way.split(';').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_field_is_adopted_and_released_without_touching_what_it_is() {
    let elasticsearch = Elasticsearch::start("adopt").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());
    create(&direct, "beside", foreign()).await;
    let before = shown(&direct, "beside").await;
    assert_eq!(way(&through, "beside").await, "pass");
    assert_eq!(through.get("/_ivf").await.ok(), json!({"indices": {}}));

    for options in [json!({"nlist": 4, "recall": 0.9}), json!({"nlist": 4, "recall": 0.9}), Value::Null] {
        let body = (!options.is_null()).then_some(options);
        let adopted = through.call("PUT", "/_ivf/beside/o.v", body).await;
        assert_eq!(adopted.ok(), json!({"acknowledged": true}), "as often as one likes");
        outrigger.learnt("beside").await;
        assert_eq!(way(&through, "beside").await, "answer");
    }
    let mut with_key = before.clone();
    with_key["meta"][KEY] = json!("adopted nlist=4 recall=0.9");
    assert_eq!(shown(&direct, "beside").await, with_key);
    assert_eq!(shown(&through, "beside").await, before, "clients see what they wrote");
    let listed = through.get("/_ivf").await.ok();
    let expected = json!({
        "state": "ready", "mode": "mirror", "adopted_by": "api", "element_type": "float", "dims": 2,
        "similarity": "l2_norm", "options": {"type": "ivf", "nlist": 4, "recall": 0.9},
    });
    assert_eq!(listed["indices"]["beside"]["fields"]["o.v"], expected, "{listed}");
    // A mapping update that knows nothing of it takes nothing away.
    through.put("/beside/_mapping", json!({"properties": {"o.v": foreign()}})).await.ok();
    assert_eq!(shown(&direct, "beside").await, with_key);

    for (path, body, status, kind) in [
        ("/_ivf/nowhere/v", Value::Null, 404, "index_not_found_exception"),
        ("/_ivf/beside/w", Value::Null, 404, "resource_not_found_exception"),
        ("/_ivf/beside/t", Value::Null, 400, "mapper_parsing_exception"),
        ("/_ivf/beside/o.v", json!({"nlist": 0}), 400, "mapper_parsing_exception"),
        ("/_ivf/beside/o.v", json!({"lists": 1}), 400, "mapper_parsing_exception"),
    ] {
        let refused = through.call("PUT", path, (!body.is_null()).then_some(body)).await;
        assert_eq!(
            (refused.status, &refused.body["error"]["type"]),
            (status, &json!(kind)),
            "{}",
            refused.text
        );
    }

    for _ in 0..2 {
        assert_eq!(through.delete("/_ivf/beside/o.v").await.ok(), json!({"acknowledged": true}));
        assert_eq!(way(&through, "beside").await, "pass");
        assert_eq!(through.get("/_ivf/beside").await.ok(), json!({"indices": {}}));
        assert_eq!(shown(&through, "beside").await, before);
    }
    assert_eq!(outrigger.metric("outrigger_feed_options_lost_total").await, 0, "a wish is no loss");
    eventually("its files are gone", Duration::from_secs(20), || async {
        outrigger.log().contains("its files are removed").then_some(())
    })
    .await;
    // Adopted once more, it is learnt anew.
    through.call("PUT", "/_ivf/beside/o.v", None).await.ok();
    outrigger.learnt("beside").await;
    assert_eq!(way(&through, "beside").await, "answer");

    if !Elasticsearch::version_at_least(8, 17) {
        let mapping =
            json!({"_source": {"excludes": ["o"]}, "properties": {"o": {"properties": {"v": foreign()}}}});
        direct.put("/lean", json!({"mappings": mapping})).await.ok();
        let refused = through.call("PUT", "/_ivf/lean/o.v", None).await;
        assert_eq!(refused.status, 400);
        assert!(refused.text.contains("can't be read back"), "{}", refused.text);
    }
}

#[tokio::test]
async fn patterns_adopt_without_touching_the_mapping() {
    let elasticsearch = Elasticsearch::start("patterns").await;
    let data = tempfile::tempdir().unwrap();
    let flags = ["--mapping-adopt", "vec-*,-vec-old"];
    let outrigger = Outrigger::start_with(elasticsearch.url(), data.path(), &flags).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());
    create(&direct, "vec-a", foreign()).await;
    create(&direct, "vec-old", foreign()).await;
    outrigger.learnt("vec-a").await;
    // It may have been learnt before its documents were written past us.
    through.call("POST", "/vec-a/_refresh", None).await.ok();
    assert_eq!(
        (way(&through, "vec-a").await, way(&through, "vec-old").await),
        ("answer".into(), "pass".into())
    );
    assert_eq!(shown(&direct, "vec-a").await, foreign());
    let listed = through.get("/_ivf/vec-*").await.ok();
    assert_eq!(listed["indices"]["vec-a"]["fields"]["o.v"]["adopted_by"], "pattern", "{listed}");
    through.delete("/_ivf/vec-a/o.v").await.ok();
    assert_eq!(way(&through, "vec-a").await, "pass");
    outrigger.terminate();
    let outrigger = Outrigger::start_with(elasticsearch.url(), data.path(), &flags).await;
    assert_eq!(way(&outrigger.api(), "vec-a").await, "pass", "released stays released");
}

#[tokio::test]
async fn options_that_somebody_took_away_are_restored() {
    let elasticsearch = Elasticsearch::start("restore").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());
    let ivf = json!({
        "type": "dense_vector", "dims": 2, "index": true, "similarity": "l2_norm",
        "index_options": {"type": "ivf", "nlist": 3},
    });
    create(&through, "kept", ivf.clone()).await;
    outrigger.learnt("kept").await;
    let before = shown(&direct, "kept").await;
    let restored = async |losses: u64| {
        eventually("the options are back", Duration::from_secs(20), || async {
            assert_eq!(way(&through, "kept").await, "answer", "it serves all the while");
            let field = shown(&direct, "kept").await;
            let is_back = field["meta"][KEY].is_string();
            (is_back && outrigger.metric("outrigger_feed_options_restored_total").await == losses)
                .then_some(field)
        })
        .await
    };
    // Only `meta` is taken away.
    let mut bare = before.clone();
    bare.as_object_mut().unwrap().remove("meta");
    direct.put("/kept/_mapping", json!({"properties": {"o.v": bare}})).await.ok();
    assert_eq!(restored(1).await, before);
    assert_eq!(outrigger.metric("outrigger_feed_options_lost_total").await, 1);
    if !Elasticsearch::version_at_least(8, 15) {
        return;
    }
    // The index type, too: Elasticsearch builds a graph from now on, and cannot be talked out of it.
    bare.as_object_mut().unwrap().remove("index_options");
    direct.put("/kept/_mapping", json!({"properties": {"o.v": bare}})).await.ok();
    let field = restored(2).await;
    assert_eq!(field["meta"][KEY], "adopted nlist=3", "{field}");
    assert!(field["index_options"]["type"].as_str().unwrap().ends_with("hnsw"), "{field}");
    assert_eq!(outrigger.metric("outrigger_feed_options_lost_total").await, 2);

    // What is said through us is a wish: another type, another index under the name.
    create(&through, "left", ivf).await;
    outrigger.learnt("left").await;
    let mut hnsw = foreign();
    hnsw.as_object_mut().unwrap().remove("meta");
    through.put("/left/_mapping", json!({"properties": {"o.v": hnsw}})).await.ok();
    assert_eq!(way(&through, "left").await, "pass");
    assert_eq!(shown(&through, "left").await, hnsw);
    through.delete("/kept").await.ok();
    create(&direct, "kept", hnsw.clone()).await;
    through.put("/another", json!({})).await.ok();
    assert_eq!(way(&through, "kept").await, "pass");
    assert_eq!(outrigger.metric("outrigger_feed_options_lost_total").await, 2);
    assert_eq!(shown(&direct, "kept").await, hnsw);
}
