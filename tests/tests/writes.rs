//! Writes of every kind through the program: the next search finds exactly what Elasticsearch finds, and
//! the metrics tell that vectors were taken from the requests as they passed.

#![allow(missing_docs, reason = "a test")]

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use outrigger_tests::{Api, Elasticsearch, Outrigger, Reply, Vectors, assert_same};
use serde_json::{Value, json};

const DIMS: usize = 4;

/// The program beside a node, and what its watch of writes has counted.
struct Setup {
    through: Api,
    direct: Api,
    admin: Api,
    /// Since [`Setup::counted`] was called last.
    before: BTreeMap<String, u64>,
}

impl Setup {
    /// Documents handed over, and those left to the feed by reason, since the last call.
    async fn counted(&mut self) -> (u64, BTreeMap<String, u64>) {
        let metrics = self.admin.get("/metrics").await.text;
        let mut now = BTreeMap::new();
        for line in metrics.lines() {
            let Some((name, value)) = line.split_once(' ') else { continue };
            let reason = name
                .strip_prefix("outrigger_writes_left_to_feed_total{reason=\"")
                .and_then(|rest| rest.strip_suffix("\"}"));
            if name == "outrigger_writes_handed_over_total" {
                now.insert(String::new(), value.parse().unwrap());
            } else if let Some(reason) = reason {
                now.insert(reason.to_owned(), value.parse().unwrap());
            }
        }
        let mut grown: BTreeMap<String, u64> = now
            .iter()
            .map(|(name, count)| (name.clone(), count - self.before.get(name).unwrap_or(&0)))
            .filter(|(_, count)| *count > 0)
            .collect();
        self.before = now;
        (grown.remove("").unwrap_or(0), grown)
    }

    /// The same search, through and directly: our own answer, equal to Elasticsearch's.
    async fn same(&self, index: &str, query: &[f32], what: &str) -> Vec<String> {
        let (ours, theirs) =
            (self.through.knn(index, query, 100).await, self.direct.knn(index, query, 100).await);
        assert!(ours.way.starts_with("answer"), "{what}: {}", ours.way);
        assert_same(&ours, &theirs, what);
        ours.ids()
    }

    async fn send(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Value {
        let kind = [("content-type", "application/x-ndjson")];
        let headers = [&kind[..], headers].concat();
        let reply = self.through.try_send("POST".parse().unwrap(), path, &headers, body).await;
        reply.expect("a response").ok()
    }
}

fn left(reasons: &[(&str, u64)]) -> BTreeMap<String, u64> {
    reasons.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn writes_are_taken_as_they_pass() {
    let elasticsearch = Elasticsearch::start("writes").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let mut setup = Setup {
        through: outrigger.api(),
        direct: elasticsearch.api(),
        admin: outrigger.admin(),
        before: BTreeMap::new(),
    };
    let mut vectors = Vectors::new(5, DIMS);
    for (index, similarity) in [("w", "cosine"), ("other", "l2_norm")] {
        setup.through.create(index, DIMS, similarity, 3).await;
        setup
            .through
            .put(&format!("/{index}/_doc/first?refresh=true"), json!({"v": vectors.draw()}))
            .await
            .ok();
        outrigger.learnt(index).await;
    }
    assert_eq!(setup.counted().await, (2, left(&[])));

    bulks(&mut setup, &mut vectors).await;
    documents(&mut setup, &mut vectors).await;
    numbers(&mut setup).await;
    what_only_the_feed_can_tell(&mut setup, &mut vectors).await;
}

async fn bulks(setup: &mut Setup, vectors: &mut Vectors) {
    let mut many = String::new();
    for n in 0..60 {
        many.push_str(&format!(
            "{{\"index\":{{\"_id\":\"{n}\"}}}}\n{}\n",
            json!({"n": n, "v": vectors.draw()})
        ));
    }
    setup.send("/w/_bulk?refresh=true", &[], many.into_bytes()).await;
    assert_eq!(setup.counted().await, (60, left(&[])));
    setup.same("w", &vectors.draw(), "a plain bulk").await;

    let mixed = [
        format!(
            "{{\"create\":{{\"_index\":\"w\",\"_id\":\"c\"}}}}\r\n{}\r\n\r\n",
            json!({"v": vectors.draw()})
        ),
        "{\"create\":{\"_index\":\"w\",\"_id\":\"1\"}}\n{\"v\":[1,1,1,1]}\n".to_owned(),
        format!(
            "{{\"update\":{{\"_index\":\"w\",\"_id\":\"2\"}}}}\n{}\n",
            json!({"doc": {"v": vectors.draw()}})
        ),
        "{\"update\":{\"_index\":\"w\",\"_id\":\"3\"}}\n{\"doc\":{\"v\":null}}\n".to_owned(),
        "{\"delete\":{\"_index\":\"w\",\"_id\":\"4\"}}\n{\"delete\":{\"_index\":\"w\",\"_id\":\"none\"}}\n"
            .to_owned(),
        format!("{{\"index\":{{\"_index\":\"w\"}}}}\n{}\n", json!({"tag": "auto", "v": vectors.draw()})),
        format!(
            "{{\"index\":{{\"_index\":\"w\",\"_id\":\"5\"}}}}\n{}\n",
            json!({"tag": "no vector any more"})
        ),
        // Twice in one bulk: the last one holds.
        format!("{{\"index\":{{\"_index\":\"w\",\"_id\":\"6\"}}}}\n{}\n", json!({"v": vectors.draw()})),
        format!("{{\"index\":{{\"_index\":\"w\",\"_id\":\"6\"}}}}\n{}\n", json!({"v": vectors.draw()})),
        format!("{{\"index\":{{\"_index\":\"other\",\"_id\":\"o\"}}}}\n{}\n", json!({"v": vectors.draw()})),
        "{\"index\":{\"_index\":\"w\",\"_id\":\"bad\"}}\n{\"v\":[1,2]}\n".to_owned(),
    ]
    .concat();
    setup.send("/_bulk?refresh=true", &[("content-encoding", "gzip")], gzip(&mixed)).await;
    // Not the create that met a document, nor the delete of none, nor the one with too few dimensions; and
    // not the updates, since nobody knows the routing of what was there.
    assert_eq!(setup.counted().await, (7, left(&[("update", 2)])));
    for index in ["w", "other"] {
        setup.same(index, &vectors.draw(), "a mixed bulk").await;
    }

    let routed: String = (0..20)
        .map(|n| {
            let action = json!({"index": {"_id": format!("r{n}"), "routing": format!("key-{}", n % 7)}});
            format!("{action}\n{}\n", json!({"v": vectors.draw()}))
        })
        .collect();
    setup.send("/w/_bulk?refresh=wait_for", &[("accept-encoding", "gzip")], routed.into_bytes()).await;
    let gone: String = (0..10)
        .map(|n| {
            format!("{}\n", json!({"delete": {"_id": format!("r{n}"), "routing": format!("key-{}", n % 7)}}))
        })
        .collect();
    setup.send("/w/_bulk?refresh=true", &[], gone.into_bytes()).await;
    assert_eq!(setup.counted().await, (30, left(&[])));
    let found = setup.same("w", &vectors.draw(), "routing").await;
    assert!(found.contains(&"r15".to_owned()) && !found.contains(&"r5".to_owned()), "{found:?}");
}

async fn documents(setup: &mut Setup, vectors: &mut Vectors) {
    let through = &setup.through;
    through.put("/w/_doc/s%2F1?refresh=true", json!({"v": vectors.draw()})).await.ok();
    through.put("/w/_create/s2?routing=k", json!({"v": vectors.draw()})).await.ok();
    through.post("/w/_doc", json!({"v": vectors.draw()})).await.ok();
    through.post("/w/_update/s2?routing=k", json!({"doc": {"v": vectors.draw()}})).await.ok();
    through.delete("/w/_doc/7").await.ok();
    through.call("DELETE", "/w/_doc/s%2F1?refresh=wait_for", None).await.ok();
    through.call("POST", "/w/_refresh", None).await.ok();
    assert_eq!(setup.counted().await, (5, left(&[("update", 1)])));
    setup.same("w", &vectors.draw(), "single documents").await;
    routing_of_updates(setup, vectors).await;
}

/// On one shard an update may come with another routing than its document has. What is kept then is for
/// Elasticsearch to say, and differs between a bulk and a call.
async fn routing_of_updates(setup: &mut Setup, vectors: &mut Vectors) {
    setup.through.create("one", DIMS, "cosine", 1).await;
    for (id, own) in [("a", ""), ("b", ""), ("c", "?routing=r"), ("d", "?routing=r")] {
        setup.through.put(&format!("/one/_doc/{id}{own}"), json!({"v": vectors.draw()})).await.ok();
    }
    let mut doc = || json!({"doc": {"v": vectors.draw()}});
    let bulk = format!(
        "{}\n{}\n{}\n{}\n",
        json!({"update": {"_id": "a", "routing": "r"}}),
        doc(),
        json!({"update": {"_id": "c"}}),
        doc()
    );
    setup.send("/one/_bulk", &[], bulk.into_bytes()).await;
    setup.through.post("/one/_update/b?routing=r", doc()).await.ok();
    setup.through.post("/one/_update/d?refresh=true", doc()).await.ok();
    setup.same("one", &vectors.draw(), "routing of updates").await;
    let query = vectors.draw();
    let (ours, theirs) =
        (setup.through.knn("one", &query, 9).await, setup.direct.knn("one", &query, 9).await);
    let routing = |reply: &Reply| -> BTreeMap<String, Value> {
        let hits = reply.body["hits"]["hits"].as_array().unwrap().iter();
        hits.map(|hit| (hit["_id"].to_string(), hit["_routing"].clone())).collect()
    };
    assert_eq!(routing(&ours), routing(&theirs), "{}", ours.text);
    setup.counted().await;
}

/// Numbers whose rounding tells by which way they were read.
async fn numbers(setup: &mut Setup) {
    let body = concat!(
        "{\"index\":{\"_id\":\"once\"}}\n{\"v\":[16777217.0000000001,0,0,0]}\n",
        "{\"index\":{\"_id\":\"long\"}}\n{\"v\":[0,9007199791611905,0,0]}\n",
        "{\"index\":{\"_id\":\"twice\"}}\n{\"v\":[0,0,0,0]}\n",
        "{\"update\":{\"_id\":\"twice\"}}\n{\"doc\":{\"v\":[0,0,16777217.0000000001,0]}}\n",
    );
    setup.send("/other/_bulk?refresh=true", &[], body.into()).await;
    assert_eq!(setup.counted().await, (3, left(&[("document", 1)])));
    // Before 8.17 the feed reads vectors out of JSON, by way of a double.
    if !Elasticsearch::version_at_least(8, 17) {
        return;
    }
    for query in
        [[16777218.0, 0.0, 0.0, 0.0], [0.0, 9_007_200_328_482_816.0, 0.0, 0.0], [0.0, 0.0, 16777216.0, 0.0]]
    {
        let found = setup.same("other", &query, &format!("numbers near {query:?}")).await;
        let nearest = setup.through.knn("other", &query, 1).await.body["hits"]["hits"][0]["_score"].as_f64();
        assert_eq!(nearest, Some(1.0), "{found:?}");
    }
}

/// Whatever is left to the feed is found all the same.
async fn what_only_the_feed_can_tell(setup: &mut Setup, vectors: &mut Vectors) {
    let doc = |vector: &[f32]| json!({"doc": {"v": vector}, "upsert": {"v": [1, 2, 3, 4]}});
    let body = [
        format!("{{\"update\":{{\"_id\":\"upserted\"}}}}\n{}\n", doc(&vectors.draw())),
        "{\"update\":{\"_id\":\"8\"}}\n{\"doc\":{\"n\":-1}}\n".to_owned(),
        format!("{{\"index\":{{\"_id\":\"odd\"}}}}\n{{\"\\u0076\":{}}}\n", json!(vectors.draw())),
    ]
    .concat();
    setup.send("/w/_bulk?refresh=true", &[], body.into_bytes()).await;
    assert_eq!(setup.counted().await, (0, left(&[("update", 2), ("document", 1)])));
    let found = setup.same("w", &vectors.draw(), "left to the feed").await;
    assert!(found.contains(&"upserted".to_owned()) && found.contains(&"odd".to_owned()), "{found:?}");

    let hidden = format!("{{\"index\":{{\"_id\":\"hidden\"}}}}\n{}\n", json!({"v": vectors.draw()}));
    setup.send("/w/_bulk?refresh=true&filter_path=took", &[], hidden.into_bytes()).await;
    assert_eq!(setup.counted().await, (0, left(&[("response", 1)])));
    let found = setup.same("w", &vectors.draw(), "a hidden response").await;
    assert!(found.contains(&"hidden".to_owned()), "{found:?}");

    let aliases = json!({"actions": [
        {"add": {"index": "w", "alias": "plain"}},
        {"add": {"index": "w", "alias": "keyed", "index_routing": "k"}},
    ]});
    setup.through.post("/_aliases", aliases).await.ok();
    for (alias, taken) in [("plain", true), ("keyed", false)] {
        let path = format!("/{alias}/_doc/by-{alias}?refresh=true");
        setup.through.put(&path, json!({"v": vectors.draw()})).await.ok();
        let expected = if taken { (1, left(&[])) } else { (0, left(&[("target", 1)])) };
        assert_eq!(setup.counted().await, expected, "{alias}");
        setup.same("w", &vectors.draw(), alias).await;
    }

    setup.admin.put("/api/v1/mode", json!({"mode": "pass"})).await.ok();
    setup.through.put("/w/_doc/passed?refresh=true", json!({"v": vectors.draw()})).await.ok();
    setup.admin.put("/api/v1/mode", json!({"mode": "serve"})).await.ok();
    assert_eq!(setup.counted().await, (0, left(&[])));
    let found = setup.same("w", &vectors.draw(), "written while switched off").await;
    assert!(found.contains(&"passed".to_owned()), "{found:?}");
}
