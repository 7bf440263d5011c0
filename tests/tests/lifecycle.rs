//! Indices come and go under the same names; the program comes and goes; searches stay right.

#![allow(missing_docs, reason = "a test")]

use std::time::Duration;

use outrigger_tests::{Elasticsearch, Outrigger, Vectors, eventually};
use serde_json::json;

#[tokio::test]
async fn an_index_made_again_under_its_name_never_shows_the_old_documents() {
    let elasticsearch = Elasticsearch::start("again").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let through = outrigger.api();
    for round in 0..4 {
        through.create("again", 2, "l2_norm", 1).await;
        let id = format!("of-round-{round}");
        through.put(&format!("/again/_doc/{id}?refresh=true"), json!({"v": [1, 1]})).await.ok();
        assert_eq!(through.knn("again", &[1.0, 1.0], 5).await.ids(), std::slice::from_ref(&id));
        outrigger.learnt("again").await;
        let answered = through.knn("again", &[1.0, 1.0], 5).await;
        assert!(answered.way.starts_with("answer"), "{}", answered.way);
        assert_eq!(answered.ids(), [id]);
        through.delete("/again").await.ok();
        let gone = through.knn("again", &[1.0, 1.0], 5).await;
        assert_eq!(gone.status, 404, "{}", gone.text);
    }
}

#[tokio::test]
async fn closed_indices_and_aliases_answer_as_elasticsearch_does() {
    let elasticsearch = Elasticsearch::start("alias").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());
    for index in ["blue", "green"] {
        through.create(index, 2, "l2_norm", 1).await;
        through.put(&format!("/{index}/_doc/{index}?refresh=true"), json!({"v": [1, 1]})).await.ok();
        outrigger.learnt(index).await;
    }
    let point = |index: &str| {
        json!({"actions": [
            {"remove": {"index": "*", "alias": "live", "must_exist": false}},
            {"add": {"index": index, "alias": "live"}},
        ]})
    };
    for index in ["blue", "green", "blue"] {
        through.post("/_aliases", point(index)).await.ok();
        let found = through.knn("live", &[1.0, 1.0], 1).await;
        assert_eq!(found.ids(), [index], "{}", found.text);
        assert!(found.way.starts_with("answer"), "{}", found.way);
        assert_eq!(found.body["hits"]["hits"][0]["_index"], index);
    }
    through.put("/blue/_settings", json!({"index.blocks.read": true})).await.ok();
    let (ours, theirs) =
        (through.knn("blue", &[1.0, 1.0], 1).await, direct.knn("blue", &[1.0, 1.0], 1).await);
    assert_eq!((ours.status, &ours.text), (theirs.status, &theirs.text));
    assert_eq!(ours.status, 403, "{}", ours.text);
    through.put("/blue/_settings", json!({"index.blocks.read": false})).await.ok();
    through.call("POST", "/blue/_close", None).await.ok();
    let (ours, theirs) =
        (through.knn("blue", &[1.0, 1.0], 1).await, direct.knn("blue", &[1.0, 1.0], 1).await);
    assert_eq!((ours.status, &ours.body["error"]["type"]), (theirs.status, &theirs.body["error"]["type"]));
    through.call("POST", "/blue/_open", None).await.ok();
    eventually("the opened index is answered again", Duration::from_secs(20), || async {
        let found = through.knn("blue", &[1.0, 1.0], 1).await;
        (found.ids() == ["blue"] && found.way.starts_with("answer")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_restart_goes_on_from_the_snapshot() {
    let elasticsearch = Elasticsearch::start("restart").await;
    let data = tempfile::tempdir().unwrap();
    let mut vectors = Vectors::new(11, 16);
    let docs: Vec<_> = (0..3000).map(|n| (n.to_string(), json!({"v": vectors.draw()}))).collect();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    outrigger.api().create("kept", 16, "cosine", 2).await;
    outrigger.api().bulk("kept", "true", &docs).await.unwrap().ok();
    outrigger.learnt("kept").await;
    outrigger.terminate();

    // While it is away: updates, deletes, inserts.
    let direct = elasticsearch.api();
    let changed: Vec<_> = (2990..3100).map(|n| (n.to_string(), json!({"v": vectors.draw()}))).collect();
    direct.bulk("kept", "true", &changed).await.unwrap().ok();
    for n in 0..20 {
        direct.delete(&format!("/kept/_doc/{n}?refresh=true")).await.ok();
    }
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let report = outrigger.learnt("kept").await;
    assert_eq!(report["fields"][0]["docs"], 3080, "{report}");
    let log = outrigger.log();
    assert!(!log.contains("damaged"), "{log}");
    for _ in 0..10 {
        let query = vectors.draw();
        let (ours, theirs) =
            (outrigger.api().knn("kept", &query, 10).await, direct.knn("kept", &query, 10).await);
        assert!(ours.way.starts_with("answer"), "{}", ours.way);
        assert_eq!(ours.ids(), theirs.ids());
    }
}

#[tokio::test]
async fn the_switch_makes_everything_pass_at_once() {
    let elasticsearch = Elasticsearch::start("switch").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (through, admin) = (outrigger.api(), outrigger.admin());
    through.create("switched", 2, "l2_norm", 1).await;
    through.put("/switched/_doc/1?refresh=true", json!({"v": [1, 1]})).await.ok();
    outrigger.learnt("switched").await;
    let way = || async { through.knn("switched", &[1.0, 1.0], 1).await.way };
    assert!(way().await.starts_with("answer"));
    admin.put("/api/v1/mode", json!({"mode": "pass"})).await.ok();
    assert_eq!(way().await, "pass; reason=switched_off");
    admin.put("/api/v1/mode", json!({"mode": "serve"})).await.ok();
    admin.put("/api/v1/indices/switched/mode", json!({"mode": "shadow"})).await.ok();
    assert_eq!(way().await, "pass; reason=shadow");
    eventually("shadow mode has compared", Duration::from_secs(10), || async {
        let metrics = admin.get("/metrics").await.text;
        (metrics.contains("outrigger_shadow_compared_total 1")
            && metrics.contains("outrigger_shadow_overlap_total 1.0"))
        .then_some(())
    })
    .await;
    admin.put("/api/v1/indices/switched/mode", json!({"mode": "serve"})).await.ok();
    assert!(way().await.starts_with("answer"));
    let wrong = admin.put("/api/v1/mode", json!({"mode": "off"})).await;
    assert_eq!(wrong.status, 400, "{}", wrong.text);
}

#[tokio::test]
async fn a_strict_index_never_misses_what_elasticsearch_shows() {
    let elasticsearch = Elasticsearch::start("strict").await;
    let data = tempfile::tempdir().unwrap();
    // Refreshes are looked for so seldom that only the look before each search can find them.
    let flags = ["--strict", "other-*,strict-*", "--feed-interval", "2s"];
    let outrigger = Outrigger::start_with(elasticsearch.url(), data.path(), &flags).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());
    through.create("strict-1", 2, "l2_norm", 2).await;
    through.put("/strict-1/_settings", json!({"index.refresh_interval": "-1"})).await.ok();
    outrigger.learnt("strict-1").await;
    for round in 0..20 {
        let id = round.to_string();
        direct.put(&format!("/strict-1/_doc/{id}?refresh=true"), json!({"v": [round, 1]})).await.ok();
        let query = [round as f32, 1.0];
        let searches = (0..4).map(|_| through.knn("strict-1", &query, 1));
        for found in futures_util::future::join_all(searches).await {
            assert_eq!(found.ids(), [id.as_str()], "{}", found.text);
            assert!(found.way.starts_with("answer"), "{}", found.way);
        }
    }
}

/// An index that is ours, with documents of which nothing is learnt yet.
async fn filled_behind_our_back(
    elasticsearch: &Elasticsearch,
    index: &str,
    documents: usize,
    vectors: &mut Vectors,
) {
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    outrigger.api().create(index, 16, "cosine", 1).await;
    outrigger.terminate();
    let numbers: Vec<usize> = (0..documents).collect();
    for batch in numbers.chunks(2000) {
        let docs: Vec<_> = batch.iter().map(|n| (n.to_string(), json!({"v": vectors.draw()}))).collect();
        elasticsearch.api().bulk(index, "true", &docs).await.unwrap().ok();
    }
}

#[tokio::test]
async fn a_refresh_that_cannot_be_published_in_time_is_released_and_counted() {
    let elasticsearch = Elasticsearch::start("held").await;
    let data = tempfile::tempdir().unwrap();
    filled_behind_our_back(&elasticsearch, "slow", 3_000, &mut Vectors::new(67, 16)).await;
    // Small enough to be waited for, and learnt too slowly for that.
    let flags = ["--build-rate", "20", "--publish-timeout", "700ms"];
    let outrigger = Outrigger::spawn(elasticsearch.url(), data.path(), &flags).await;
    let through = outrigger.api();
    eventually("it is being learnt", Duration::from_secs(20), || async {
        let report = through.try_get("/_ivf/slow/_stats").await?.body;
        (report["fields"][0]["shards"][0]["state"] == "building").then_some(())
    })
    .await;
    let began = std::time::Instant::now();
    through.call("POST", "/slow/_refresh", None).await.ok();
    let held = began.elapsed();
    assert!(held >= Duration::from_millis(700) && held < Duration::from_secs(10), "held for {held:?}");
    assert_eq!(outrigger.metric("outrigger_held_refresh_timeouts_total").await, 1);
    let found = through.knn("slow", &[0.5; 16], 3).await;
    assert_eq!((found.way.as_str(), found.ids().len()), ("pass; reason=building", 3), "{}", found.text);
}

#[tokio::test]
async fn a_first_build_survives_a_crash_of_ours_and_is_cancelled_and_started_by_its_users() {
    let elasticsearch = Elasticsearch::start("catchup").await;
    let data = tempfile::tempdir().unwrap();
    let direct = elasticsearch.api();
    let mut vectors = Vectors::new(61, 16);
    filled_behind_our_back(&elasticsearch, "large", 12_000, &mut vectors).await;
    let flags = ["--build-rate", "1000"];
    let progress = async |outrigger: &Outrigger| {
        let report = outrigger.api().try_get("/_ivf/large/_stats").await?.body;
        let shard = report["fields"][0]["shards"][0].clone();
        Some((shard["state"].as_str()?.to_owned(), shard["progress"]["done"].as_u64().unwrap_or(0), shard))
    };
    let outrigger = Outrigger::spawn(elasticsearch.url(), data.path(), &flags).await;
    eventually("a part is learnt", Duration::from_secs(60), || async {
        let (_, _, shard) = progress(&outrigger).await?;
        (shard["disk_bytes"].as_u64()? > 0 && shard["docs"].as_u64()? > 2000).then_some(())
    })
    .await;
    let passed = outrigger.api().knn("large", &vectors.draw(), 3).await;
    assert_eq!((passed.way.as_str(), passed.ids().len()), ("pass; reason=building", 3), "{}", passed.text);
    outrigger.kill();

    let outrigger = Outrigger::spawn(elasticsearch.url(), data.path(), &flags).await;
    let (_, done, _) = eventually("it goes on", Duration::from_secs(20), || async {
        progress(&outrigger).await.filter(|(_, done, _)| *done > 0)
    })
    .await;
    assert!(done >= 1000, "it began anew: {done}");
    let through = outrigger.api();
    through.call("POST", "/_ivf/large/_build/_cancel", None).await.ok();
    eventually("it is cancelled", Duration::from_secs(20), || async {
        progress(&outrigger).await.filter(|(state, ..)| state == "cancelled")
    })
    .await;
    outrigger.ready().await;
    assert_eq!(through.knn("large", &vectors.draw(), 3).await.way, "pass; reason=building");
    let missing = through.call("POST", "/_ivf/absent/_build/_start", None).await;
    assert_eq!((missing.status, &missing.body["error"]["type"]), (404, &json!("index_not_found_exception")));
    through.call("POST", "/_ivf/large/_build/_start", None).await.ok();
    // One index does not take the node away from all others.
    eventually("it is told as being learnt", Duration::from_secs(20), || async {
        let health = outrigger.admin().get("/health/ready").await.ok();
        health["learning"].to_string().contains("[large]").then_some(())
    })
    .await;
    let report = outrigger.learnt("large").await;
    assert_eq!(report["fields"][0]["docs"], 12_000, "{report}");
    assert_eq!(report["fields"][0]["shards"][0]["last_agreement"]["documents"], 12_000, "{report}");
    let query = vectors.draw();
    let (ours, theirs) = (through.knn("large", &query, 10).await, direct.knn("large", &query, 10).await);
    assert!(ours.way.starts_with("answer"), "{}", ours.way);
    assert_eq!(ours.ids(), theirs.ids());
}

#[tokio::test]
async fn a_name_that_comes_to_mean_another_index_is_that_index_at_once() {
    let elasticsearch = Elasticsearch::start("swap").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let through = outrigger.api();
    for index in ["shop", "shop-2"] {
        through.create(index, 2, "l2_norm", 1).await;
        through.put(&format!("/{index}/_doc/of-{index}?refresh=true"), json!({"v": [1, 1]})).await.ok();
        outrigger.learnt(index).await;
    }
    let swap = json!({"actions": [
        {"remove_index": {"index": "shop"}},
        {"add": {"index": "shop-2", "alias": "shop", "is_write_index": true}},
    ]});
    through.post("/_aliases", swap).await.ok();
    let found = through.knn("shop", &[1.0, 1.0], 1).await;
    assert_eq!(found.ids(), ["of-shop-2"], "{}", found.text);
    assert!(found.way.starts_with("answer"), "{}", found.way);
    assert_eq!(found.body["hits"]["hits"][0]["_index"], "shop-2");
}
