//! What people see and do of quotas: usage and its history, what is refused as wrong, who may do what.

use outrigger_tests::{Api, Elasticsearch, Outrigger, eventually};
use serde_json::{Value, json};

use crate::{FLAGS, PATIENCE, bulk, refused, tenant, vectors};

#[tokio::test]
async fn usage_is_what_elasticsearch_says_and_is_kept() {
    let elasticsearch = Elasticsearch::start("quota-usage").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start_with(elasticsearch.url(), data.path(), FLAGS).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());
    tenant(
        &through,
        "acme",
        json!({"indices": ["acme-*"], "quotas": {"vectors": 50, "document_bytes": "1gb"}}),
    )
    .await;
    through.create("acme-1", 2, "l2_norm", 2).await;
    through
        .create_as("acme-2", 2, "l2_norm", 1, json!({"type": "hnsw", "m": 16, "ef_construction": 100}))
        .await;
    bulk(&through, "?refresh=true", [vectors("acme-1", 0..30), vectors("acme-2", 0..15)].concat()).await.ok();
    outrigger.learnt("acme-1").await;
    let path = "/acme-*/_stats/store,dense_vector?level=indices";
    let usage = eventually("usage is what Elasticsearch says", PATIENCE, || async {
        let stats = direct.try_get(path).await?.body;
        let usage = through.try_get("/_ivf/_tenants/acme/_usage").await?.body["usage"].clone();
        let same = usage["document_bytes"]["used"] == stats["_all"]["primaries"]["store"]["size_in_bytes"]
            && usage["vectors"]["used"] == stats["_all"]["primaries"]["dense_vector"]["value_count"];
        same.then_some(usage)
    })
    .await;
    assert_eq!(usage["vectors"]["used"], 45, "{usage}");
    assert_eq!((&usage["indices"]["used"], &usage["shards"]["used"]), (&json!(2), &json!(3)), "{usage}");
    assert_eq!(
        (&usage["vector_bytes"]["used"], &usage["vectors"]["percent"]),
        (&json!(45 * 8), &json!(90.0))
    );

    let metrics = outrigger.admin().get("/metrics").await.text;
    for line in [
        "outrigger_quota_usage{tenant=\"acme\",resource=\"vectors\"} 45",
        "outrigger_quota_limit{tenant=\"acme\",resource=\"vectors\"} 50",
        "outrigger_quota_crossings_total{tenant=\"acme\",resource=\"vectors\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let log = outrigger.log();
    let told = log.lines().filter(|line| line.contains("above 80 %")).count();
    assert_eq!(told, 1, "{log}");

    let history = written_down(&through, "acme").await;
    assert_eq!(history.len(), 1, "one for each hour: {history:?}");
    assert!(
        history[0]["at_in_millis"].as_u64().unwrap().is_multiple_of(3_600_000)
            && history[0]["vectors"].is_u64()
    );
}

/// The history of a tenant, as soon as it has one.
async fn written_down(api: &Api, tenant: &str) -> Vec<Value> {
    eventually("usage is written down", PATIENCE, || async {
        let body = api.try_get(&format!("/_ivf/_tenants/{tenant}/_usage?history")).await?.body;
        body["history"].as_array().filter(|points| !points.is_empty()).cloned()
    })
    .await
}

#[tokio::test]
async fn what_is_wrong_is_refused_as_elasticsearch_would() {
    let elasticsearch = Elasticsearch::start("quota-wrong").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start_with(elasticsearch.url(), data.path(), FLAGS).await;
    let api = outrigger.api();
    for (path, body, kind, named) in [
        ("Acme", json!({}), "illegal_argument_exception", "[Acme]"),
        ("a", json!({"user": ["x"]}), "x_content_parse_exception", "user"),
        ("a", json!({"users": ["x"], "quotas": {"vectors": 1}}), "illegal_argument_exception", "[bound_to]"),
        ("a", json!({"indices": ["a"], "quotas": {"vectors": -1}}), "x_content_parse_exception", "-1"),
        ("a?if_seq_no=1", json!({}), "action_request_validation_exception", "if_primary_term"),
    ] {
        let reply = api.put(&format!("/_ivf/_tenants/{path}"), body).await;
        assert_eq!((reply.status, &reply.body["error"]["type"]), (400, &json!(kind)), "{}", reply.text);
        assert!(reply.body["error"]["reason"].as_str().unwrap().contains(named), "{}", reply.text);
    }
    for (method, path) in [("GET", "x"), ("DELETE", "x"), ("GET", "x/_usage"), ("GET", "x/_requests")] {
        let reply = api.call(method, &format!("/_ivf/_tenants/{path}"), None).await;
        assert_eq!(
            (reply.status, &reply.body["error"]["type"]),
            (404, &json!("resource_not_found_exception"))
        );
    }
    tenant(&api, "a", json!({"headers": ["a"], "indices": ["a-*"]})).await;
    let reply = api.post("/_ivf/_tenants/a/_requests", json!({"quotas": {}, "reason": "x"})).await;
    assert_eq!(reply.status, 400, "{}", reply.text);
    assert_eq!(api.put("/_ivf/_tenants/a?op_type=create", json!({})).await.status, 409);
    for path in ["x%2Fy", "x%3Fy=z"] {
        assert_eq!(api.delete(&format!("/_ivf/_tenants/{path}")).await.status, 404, "{path}");
        let reply = api.post(&format!("/_ivf/_tenants/a/_requests/{path}/_approve"), json!({})).await;
        assert_eq!(reply.status, 404, "{path}");
    }
    // What is stored in an index that was made anew holds, too; what Elasticsearch made of it is not believed.
    written_down(&api, "a").await;
    api.delete("/.outrigger-tenants").await.ok();
    api.put("/.outrigger-tenants/_doc/x", json!({"tenant": "a"})).await.ok();
    let reply = api.put("/_ivf/_tenants/a", json!({"headers": ["a"], "indices": ["b-*"]})).await;
    assert_eq!(reply.status, 503, "{}", reply.text);
    assert!(reply.text.contains("a mapping that Outrigger did not make: delete the index"), "{}", reply.text);
    api.delete("/.outrigger-tenants").await.ok();
    tenant(&api, "a", json!({"headers": ["a"], "indices": ["b-*"]})).await;
    assert_eq!(api.get("/_ivf/_tenants").await.ok()["tenants"]["a"]["spec"]["indices"], json!(["b-*"]));
    // Elasticsearch's own nodes keep strangers' fields out.
    let reply = elasticsearch.api().put("/.outrigger-tenants/_doc/x", json!({"magic": 1})).await;
    assert_eq!(reply.body["error"]["type"], "strict_dynamic_mapping_exception");
}

/// Users, what they may do, and the sidecar's own: the minimal role, and the index of tenants.
fn security() -> Value {
    let user = |password: &str, roles: &[&str]| json!({"password": password, "roles": roles});
    let on = |names: &[&str], privileges: &[&str]| json!({"names": names, "privileges": privileges});
    json!({
        "users": {
            "elastic": user("elastic-password", &["superuser"]),
            "sidecar": user("password", &["sidecar"]),
            "boss": user("password", &["boss"]),
            "alice": user("password", &["acme"]),
            "bob": user("password", &["nothing"]),
        },
        "roles": {
            "sidecar": {"cluster": ["monitor"], "indices": [
                on(&["*"], &["read", "monitor", "view_index_metadata"]),
                on(&[".outrigger-tenants"], &["create_index", "read", "write"]),
            ]},
            "boss": {"cluster": ["manage"]},
            "acme": {"indices": [on(&["acme-*"], &["all"])]},
            "nothing": {"cluster": ["monitor"]},
        },
    })
}

#[tokio::test]
async fn who_may_do_what_is_elasticsearchs_to_say() {
    let elasticsearch = Elasticsearch::start_secured("quota-secured", &security()).await;
    let data = tempfile::tempdir().unwrap();
    let secret = data.path().join("own-credentials");
    std::fs::write(&secret, "sidecar:password").unwrap();
    let flags = [FLAGS, &["--upstream-auth-file", secret.to_str().unwrap(), "--identity-ttl", "1s"]].concat();
    let outrigger = Outrigger::start_with(elasticsearch.url(), &data.path().join("snapshots"), &flags).await;
    let anonymous = outrigger.api();
    let by = |user: &str| anonymous.as_user(user, "password");
    let (boss, alice, bob) = (by("boss"), by("alice"), by("bob"));

    let spec = json!({"users": ["alice"], "indices": ["acme-*"], "quotas": {"indices": 1}});
    for (api, status) in
        [(&anonymous, 401), (&anonymous.as_user("boss", "wrong"), 401), (&bob, 403), (&alice, 403)]
    {
        let reply = api.put("/_ivf/_tenants/acme", spec.clone()).await;
        assert_eq!(
            (reply.status, &reply.body["error"]["type"]),
            (status, &json!("security_exception")),
            "{}",
            reply.text
        );
    }
    boss.put("/_ivf/_tenants/acme", spec).await.ok();
    boss.put("/_ivf/_tenants/beta", json!({"users": ["bob"]})).await.ok();

    // The tenant: its own page, a request for more, and nothing else.
    assert_eq!(alice.get("/_ivf/_tenants/acme").await.ok()["spec"]["quotas"], json!({"indices": 1}));
    let asked = json!({"quotas": {"indices": 2}, "reason": "more"});
    let filed = alice.post("/_ivf/_tenants/acme/_requests", asked.clone()).await.ok();
    assert_eq!(filed["by"], "alice");
    let approve = format!("/_ivf/_tenants/acme/_requests/{}/_approve", filed["id"].as_str().unwrap());
    for (api, status) in [(&anonymous, 401), (&bob, 403)] {
        for (method, path) in [("GET", ""), ("GET", "/_usage"), ("GET", "/_requests"), ("DELETE", "")] {
            let reply = api.call(method, &format!("/_ivf/_tenants/acme{path}"), None).await;
            assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
        }
        assert_eq!(api.post("/_ivf/_tenants/acme/_requests", asked.clone()).await.status, status);
    }
    for (method, path) in [("GET", "/_ivf/_tenants"), ("DELETE", "/_ivf/_tenants/acme"), ("POST", &approve)] {
        assert_eq!(alice.call(method, path, None).await.status, 403, "{method} {path}");
    }

    // A refusal tells of usage only those who might do it.
    alice.put("/acme-1", json!({})).await.ok();
    refused(&alice.put("/acme-2", json!({})).await, "quota exceeded: indices usage 1 + 1 > limit 1");
    let line = "{\"index\":{\"_index\":\"acme-2\"}}\n{\"a\":1}\n";
    assert_eq!(bulk(&alice, "", line.into()).await.body["items"][0]["index"]["error"]["limit"], 1);
    for (api, status) in [(&anonymous, 401), (&bob, 403)] {
        for (method, path) in [("PUT", "/acme-2"), ("PUT", "/acme-2/_doc/1")] {
            let reply = api.call(method, path, Some(json!({}))).await;
            assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
            assert_eq!(reply.body["error"]["type"], "security_exception", "{}", reply.text);
        }
        let reply = bulk(api, "", line.into()).await;
        assert!(!reply.text.contains("quota"), "{}", reply.text);
    }
    boss.call("POST", &approve, None).await.ok();
    alice.put("/acme-2", json!({})).await.ok();
    let approved = boss.get("/_ivf/_tenants/acme/_requests").await.ok();
    assert_eq!(approved["requests"][0]["decided_by"], "boss");
}
