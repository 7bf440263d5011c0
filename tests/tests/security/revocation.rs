//! What was taken away is gone here too, as soon as the sidecar's memory of callers ends.

use std::time::{Duration, Instant};

use outrigger_tests::{Api, Reply, eventually};
use serde_json::{Value, json};

use crate::Scene;
use crate::principals::security;

/// The sidecar's memory of callers, and the time that two calls and a change of roles may take.
const LIMIT: Duration = Duration::from_secs(1 + 2);

fn is_answered(reply: Reply) -> Option<()> {
    (reply.way == "answer; reason=ok").then_some(())
}

#[tokio::test]
async fn a_right_that_is_taken_away_is_gone_within_seconds() {
    let scene = Scene::new("security-revoked").await;
    let (through, direct) = scene.both("ann");
    let search = json!({"knn": scene.knn(), "_source": false});
    let ask = || async { through.post("/docs/_search", search.clone()).await };
    let mut only_red = security();
    only_red["roles"]["reader"]["indices"][0]["query"] = json!({"term": {"tag": "red"}});
    let mut no_read = security();
    no_read["roles"]["reader"]["indices"][0]["privileges"] = json!(["monitor"]);
    let mut no_role = security();
    no_role["users"]["ann"]["roles"] = json!([]);
    let mut other_password = security();
    other_password["users"]["ann"]["password"] = json!("changed");
    let mut gone = security();
    gone["users"].as_object_mut().unwrap().remove("ann");

    for (what, changed, status) in [
        ("a part of the documents", only_red, 200),
        ("reading", no_read, 403),
        ("the role", no_role, 403),
        ("the password", other_password, 401),
        ("the user", gone, 401),
    ] {
        eventually("she is answered here", Duration::from_secs(10), || async { is_answered(ask().await) })
            .await;
        scene.elasticsearch.set_security(&changed).await;
        let began = Instant::now();
        eventually(&format!("{what} is taken away"), LIMIT, || async {
            let reply = ask().await;
            assert!([200, status].contains(&reply.status), "{what}: {}", reply.text);
            (reply.status == status && is_answered(reply).is_none()).then_some(())
        })
        .await;
        println!("{what}: gone after {:?}", began.elapsed());
        // And it stays so, as it does without us.
        let (ours, theirs) = (ask().await, direct.post("/docs/_search", search.clone()).await);
        assert_eq!((ours.status, ids(&ours)), (theirs.status, ids(&theirs)), "{what}");
        scene.elasticsearch.set_security(&security()).await;
    }
}

#[tokio::test]
async fn what_somebody_is_shown_with_less_rights_than_he_had_is_kept_for_nobody() {
    let scene = Scene::new("security-narrowed").await;
    let (ann, _) = scene.both("ann");
    let (elastic, direct) = scene.both("elastic");
    let mut narrower = security();
    narrower["roles"]["reader"]["indices"][0]["field_security"] =
        json!({"grant": ["*"], "except": ["secret"]});
    let ask = |api: Api, size: usize| {
        let search = json!({"knn": scene.knn(), "size": size});
        async move { api.post("/docs/_search", search).await }
    };
    let sources = |reply: &Reply| -> Vec<Value> {
        let hits = reply.body["hits"]["hits"].as_array().cloned().unwrap_or_default();
        hits.iter().map(|hit| hit["_source"].clone()).collect()
    };
    // Believed to see all for a moment more, she is shown a part by Elasticsearch.
    eventually("she is shown less, fetched", Duration::from_secs(20), || async {
        scene.elasticsearch.set_security(&security()).await;
        eventually("she sees all", LIMIT * 2, || async {
            let reply = ann.post("/docs/_search", json!({"knn": scene.knn(), "_source": false})).await;
            is_answered(reply)
        })
        .await;
        scene.elasticsearch.set_security(&narrower).await;
        let shown = ask(ann.clone(), 10).await;
        (shown.way == "fetch; reason=ok" && sources(&shown)[0]["secret"].is_null()).then_some(())
    })
    .await;
    let (ours, theirs) = (ask(elastic, 10).await, ask(direct, 10).await);
    assert!(sources(&theirs).iter().all(|source| source["secret"].is_string()), "{}", theirs.text);
    assert_eq!(sources(&ours), sources(&theirs), "{}", ours.way);
}

#[tokio::test]
async fn nothing_is_remembered_of_callers_while_elasticsearch_is_silent() {
    let scene = Scene::new("security-silent").await;
    let (through, _) = scene.both("ann");
    let search = json!({"knn": scene.knn(), "_source": false});
    assert_eq!(through.post("/docs/_search", search.clone()).await.way, "answer; reason=ok");
    let resume = scene.elasticsearch.pause();
    // What she was told a moment ago holds to its end and not longer, and then only Elasticsearch can answer.
    let hung = eventually("she is no longer answered here", Duration::from_secs(10), || async {
        let body = Some(search.to_string());
        let asked = through.try_call(reqwest::Method::POST, "/docs/_search", body);
        match tokio::time::timeout(Duration::from_secs(1), asked).await {
            Err(_) => Some(true),
            Ok(reply) => reply.is_none_or(|reply| reply.way != "answer; reason=ok").then_some(false),
        }
    })
    .await;
    resume();
    assert!(hung, "the request waits for Elasticsearch");
    eventually("she is answered here again", Duration::from_secs(30), || async {
        (through.post("/docs/_search", search.clone()).await.way == "answer; reason=ok").then_some(())
    })
    .await;
}

fn ids(reply: &Reply) -> Vec<String> {
    let mut ids = reply.ids();
    ids.sort();
    ids
}

/// The number of questions that the sidecar asked about callers.
async fn questions(scene: &Scene) -> f64 {
    let metrics = scene.outrigger.admin().get("/metrics").await.text;
    let counted = metrics.lines().filter(|line| line.starts_with("outrigger_identity_questions_total{"));
    counted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test]
async fn elasticsearch_is_asked_about_a_caller_once_in_a_while_and_only_where_a_knn_is() {
    let scene = Scene::new("security-asked").await;
    let (through, _) = scene.both("ann");
    let before = questions(&scene).await;
    for _ in 0..20 {
        through.post("/docs/_search", json!({"query": {"match_all": {}}})).await.ok();
    }
    assert_eq!(questions(&scene).await, before, "searches without a knn");
    let search: Value = json!({"knn": scene.knn(), "_source": false});
    let began = Instant::now();
    for _ in 0..50 {
        through.post("/docs/_search", search.clone()).await.ok();
    }
    let asked = questions(&scene).await - before;
    assert!(asked >= 1.0 && asked <= began.elapsed().as_secs_f64() + 1.0, "{asked} questions");
}
