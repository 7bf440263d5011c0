//! Tenants and their limits, the program beside a real Elasticsearch: who floods is refused as Elasticsearch would
//! refuse, and others are served; without configuration nothing is limited.

#![allow(missing_docs, reason = "a test")]

use std::path::Path;

use outrigger_tests::{Api, Elasticsearch, Outrigger, Reply, eventually};
use serde_json::{Value, json};

const CONFIG: &str = r#"
tenant_header_from = "127.0.0.1"

[tenants.noisy]
headers = ["noisy"]
[tenants.noisy.limits.search]
requests_per_second = 0.01
burst = 5
[tenants.noisy.limits.knn]
requests_per_second = 0.01
burst = 3
[tenants.noisy.limits.bulk]
vectors_per_second = 1

[tenants.quiet]
headers = ["quiet"]
indices = ["quiet-*"]
weight = 4
"#;

#[tokio::test]
async fn who_floods_is_refused_and_others_are_served() {
    let elasticsearch = Elasticsearch::start("tenants").await;
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("outrigger.toml");
    std::fs::write(&file, CONFIG).unwrap();
    let flags = ["--config", file.to_str().unwrap()];
    let outrigger = Outrigger::start_with(elasticsearch.url(), &data.path().join("data"), &flags).await;
    let direct = elasticsearch.api();
    let noisy = outrigger.api().with_header("x-tenant-id", "noisy");
    let quiet = outrigger.api().with_header("x-tenant-id", "quiet");
    fill(&quiet, "docs").await;
    outrigger.learnt("docs").await;

    // Searches without a knn are one class, those with one count in two.
    let knn = json!({"knn": {"field": "v", "query_vector": [1, 2], "k": 2, "num_candidates": 10}, "_source": false});
    let statuses = replies(&noisy, "/docs/_search", &knn, 4).await;
    assert_eq!(statuses.iter().map(|reply| reply.status).collect::<Vec<_>>(), [200, 200, 200, 429]);
    is_rejection(&statuses[3], "knn request of tenant [noisy]: requests_per_second=0.01");
    let all = json!({"query": {"match_all": {}}});
    let statuses = replies(&noisy, "/docs/_search", &all, 3).await;
    assert_eq!(statuses.iter().map(|reply| reply.status).collect::<Vec<_>>(), [200, 429, 429]);
    is_rejection(&statuses[1], "search request of tenant [noisy]: requests_per_second=0.01");

    // What the neighbour does is nothing to the others, nor to other classes.
    for reply in replies(&quiet, "/docs/_search", &knn, 50).await {
        assert_eq!(reply.ok()["hits"]["hits"][0]["_id"], "1");
    }
    assert_eq!(noisy.get("/_cluster/health").await.status, 200);
    assert_eq!(noisy.get("/docs/_doc/1").await.status, 200);

    searches_are_refused_one_by_one(&outrigger).await;
    vectors_are_charged_when_they_have_passed(&noisy).await;
    each_is_told_who_it_is(&outrigger, &noisy).await;

    let metrics = outrigger.admin().get("/metrics").await.text;
    for line in [
        r#"outrigger_tenant_refused_total{tenant="noisy",class="knn",reason="requests"} "#,
        r#"outrigger_tenant_refused_total{tenant="noisy",class="bulk",reason="vectors"} 1"#,
        r#"outrigger_tenant_admitted_total{tenant="quiet",class="search"} "#,
        r#"outrigger_tenant_in_flight{tenant="quiet",class="search"} 0"#,
        r#"outrigger_tenant_matched_total{rule="header"} "#,
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    // Nothing of what was refused reached Elasticsearch.
    assert_eq!(direct.get("/docs/_count").await.ok()["count"], 13);
}

/// Each search of a request by itself, as Elasticsearch does when a queue is full.
async fn searches_are_refused_one_by_one(outrigger: &Outrigger) {
    let api = outrigger.api();
    let limits = json!({"indices": ["many-*"], "limits": {"knn": {"requests_per_second": 0.01, "burst": 2}}});
    api.put("/_ivf/_tenants/many", limits).await.ok();
    fill(&api, "many-docs").await;
    outrigger.learnt("many-docs").await;
    eventually("the stored tenant holds", std::time::Duration::from_secs(10), || async {
        (api.get("/many-docs/_ivf_nothing").await.status < 500).then_some(())?;
        let tenants = api.get("/_ivf/_tenants/many").await;
        (tenants.status == 200).then_some(())
    })
    .await;
    let pair = |body: Value| format!("{{}}\n{body}\n");
    let knn = json!({"knn": {"field": "v", "query_vector": [1, 2], "k": 1, "num_candidates": 10}, "_source": false});
    let lines = [pair(knn.clone()), pair(json!({"size": 1})), pair(knn.clone()), pair(knn)].concat();
    let reply = api.try_call("POST".parse().unwrap(), "/many-docs/_msearch", Some(lines)).await.unwrap();
    let responses = reply.ok()["responses"].as_array().unwrap().clone();
    let statuses: Vec<_> = responses.iter().map(|one| one["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 200, 200, 429], "{responses:?}");
    let reason = responses[3]["error"]["reason"].as_str().unwrap();
    assert!(reason.contains("tenant [many]"), "{reason}");
}

async fn vectors_are_charged_when_they_have_passed(noisy: &Api) {
    let lines: String =
        (100..103).map(|id| format!("{{\"index\":{{\"_id\":\"{id}\"}}}}\n{{\"v\":[{id},1]}}\n")).collect();
    let bulk = || noisy.try_call("POST".parse().unwrap(), "/docs/_bulk?refresh=true", Some(lines.clone()));
    assert_eq!(bulk().await.unwrap().ok()["errors"], false);
    let refused = bulk().await.unwrap();
    is_rejection(&refused, "bulk request of tenant [noisy]: vectors_per_second=1");
}

async fn each_is_told_who_it_is(outrigger: &Outrigger, noisy: &Api) {
    let told = noisy.get("/_ivf/_whoami").await.ok();
    assert_eq!(
        (&told["tenant"], &told["rule"], &told["source"]),
        (&json!("noisy"), &json!("header"), &json!("file"))
    );
    assert_eq!(told["limits"]["knn"]["burst"], 3);
    assert_eq!(told["limits"]["knn"]["left"]["requests"], 0);
    assert!(told["limits"]["bulk"]["left"]["vectors"].as_i64().unwrap() <= 0, "{told}");
    let nobody = outrigger.api().get("/_ivf/_whoami").await.ok();
    assert_eq!((&nobody["tenant"], &nobody["limits"]), (&json!("default"), &json!({})));
}

#[tokio::test]
async fn without_configuration_nothing_is_limited() {
    let elasticsearch = Elasticsearch::start("tenants-none").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), Path::new(data.path())).await;
    let api = outrigger.api().with_header("x-tenant-id", "anybody");
    fill(&api, "docs").await;
    let all = json!({"query": {"match_all": {}}});
    for reply in replies(&api, "/docs/_search", &all, 200).await {
        reply.ok();
    }
    let told = api.get("/_ivf/_whoami").await.ok();
    assert_eq!((&told["tenant"], &told["rule"]), (&json!("default"), &json!("default")));
    let metrics = outrigger.admin().get("/metrics").await.text;
    assert!(!metrics.contains("outrigger_tenant_admitted_total{"), "nothing is counted");
}

/// An index of ten documents with vectors.
async fn fill(api: &Api, index: &str) {
    let vector =
        json!({"type": "dense_vector", "dims": 2, "similarity": "l2_norm", "index_options": {"type": "ivf"}});
    let settings = json!({"number_of_shards": 1, "number_of_replicas": 0});
    api.put(&format!("/{index}"), json!({"settings": settings, "mappings": {"properties": {"v": vector}}}))
        .await
        .ok();
    let lines: String =
        (1..=10).map(|id| format!("{{\"index\":{{\"_id\":\"{id}\"}}}}\n{{\"v\":[{id},2]}}\n")).collect();
    let path = format!("/{index}/_bulk?refresh=true");
    api.try_call("POST".parse().unwrap(), &path, Some(lines)).await.unwrap().ok();
}

async fn replies(api: &Api, path: &str, body: &Value, count: usize) -> Vec<Reply> {
    let mut replies = Vec::with_capacity(count);
    for _ in 0..count {
        replies.push(api.post(path, body.clone()).await);
    }
    replies
}

fn is_rejection(reply: &Reply, reason: &str) {
    assert_eq!(reply.status, 429, "{}", reply.text);
    let error = &reply.body["error"];
    assert_eq!(
        (&error["type"], &reply.body["status"]),
        (&json!("es_rejected_execution_exception"), &json!(429))
    );
    assert_eq!(error["root_cause"][0]["type"], error["type"]);
    assert_eq!(error["reason"], format!("rejected execution of {reason}"));
    let retry_after = reply.headers.iter().find(|(name, _)| name == "retry-after").map(|(_, value)| value);
    assert!(retry_after.is_some_and(|seconds| seconds.parse::<u64>().is_ok()), "{:?}", reply.headers);
}
