//! Quotas of tenants, with two sidecars beside one Elasticsearch: what is over a quota is refused, for each item of a
//! bulk by itself; what is changed through one sidecar holds at the other; usage is what Elasticsearch says.

#![allow(missing_docs, reason = "a test")]

mod administration;

use std::path::Path;
use std::time::{Duration, Instant};

use outrigger_tests::{Api, Elasticsearch, Outrigger, Reply, eventually};
use reqwest::Method;
use serde_json::{Value, json};

/// Changes must hold at every sidecar within this time.
const LIVE: Duration = Duration::from_secs(5);
/// Longest wait for what hangs on the machine too.
const PATIENCE: Duration = Duration::from_secs(30);

const FLAGS: &[&str] = &["--usage-interval", "1s"];

struct Pair {
    one: Outrigger,
    other: Outrigger,
    _data: (tempfile::TempDir, tempfile::TempDir),
}

async fn pair(elasticsearch: &Elasticsearch) -> Pair {
    let data = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = |path: &Path| {
        let (url, path) = (elasticsearch.url().to_owned(), path.to_owned());
        async move { Outrigger::start_with(&url, &path, FLAGS).await }
    };
    Pair { one: start(data.0.path()).await, other: start(data.1.path()).await, _data: data }
}

async fn tenant(api: &Api, name: &str, spec: Value) -> Value {
    api.put(&format!("/_ivf/_tenants/{name}"), spec).await.ok()
}

async fn used(api: &Api, tenant: &str) -> Value {
    api.get(&format!("/_ivf/_tenants/{tenant}/_usage")).await.ok()["usage"].clone()
}

/// A bulk of documents with a vector each; ids from `first` on.
fn vectors(index: &str, ids: std::ops::Range<u32>) -> String {
    ids.map(|id| {
        let action = json!({"index": {"_index": index, "_id": id.to_string()}});
        format!("{action}\n{}\n", json!({"v": [id, 1], "tag": "x"}))
    })
    .collect()
}

async fn bulk(api: &Api, query: &str, body: String) -> Reply {
    api.try_call(Method::POST, &format!("/_bulk{query}"), Some(body)).await.expect("a response")
}

/// The statuses of the items.
fn statuses(reply: &Reply) -> Vec<u64> {
    let items = reply.body["items"].as_array().unwrap_or_else(|| panic!("no items: {}", reply.text));
    let status =
        |item: &Value| item.as_object().unwrap().values().next().unwrap()["status"].as_u64().unwrap();
    items.iter().map(status).collect()
}

fn refused(reply: &Reply, reason: &str) {
    assert_eq!(reply.status, 403, "{}", reply.text);
    let error = &reply.body["error"];
    assert_eq!((&error["type"], &error["reason"]), (&json!("quota_exceeded_exception"), &json!(reason)));
    assert_eq!((&error["root_cause"][0]["reason"], &reply.body["status"]), (&json!(reason), &json!(403)));
}

#[tokio::test]
async fn indices_and_shards_are_refused_beyond_their_quotas_on_every_way_of_creation() {
    let elasticsearch = Elasticsearch::start("quota-indices").await;
    let pair = pair(&elasticsearch).await;
    let (one, other) = (pair.one.api(), pair.other.api());
    let acme = json!({"indices": ["acme-*"], "quotas": {"indices": 3, "shards": 5}});
    let made = tenant(&one, "acme", acme).await;
    assert_eq!((&made["result"], &made["acknowledged"]), (&json!("created"), &json!(true)));
    eventually("the other sidecar has heard of the tenant", LIVE, || async {
        (other.try_get("/_ivf/_tenants/acme").await?.status == 200).then_some(())
    })
    .await;

    let two_shards = json!({"settings": {"number_of_shards": 2, "number_of_replicas": 0}});
    one.put("/acme-1", two_shards.clone()).await.ok();
    other.put("/acme-2", two_shards.clone()).await.ok();
    refused(&other.put("/acme-3", two_shards.clone()).await, "quota exceeded: shards usage 4 + 2 > limit 5");
    knows(&one, 2).await;
    let split = json!({"settings": {"index.number_of_shards": 4}});
    refused(&one.put("/acme-1/_split/acme-3", split).await, "quota exceeded: shards usage 4 + 4 > limit 5");
    one.put("/acme-3", json!({"aliases": {"acme-write": {"is_write_index": true}}})).await.ok();
    knows(&other, 3).await;
    for api in [&one, &other] {
        let full = "quota exceeded: indices usage 3 + 1 > limit 3";
        refused(&api.put("/acme-4", json!({})).await, full);
        refused(&api.put("//acme-4/", json!({})).await, full);
        refused(&api.put("/%3Cacme-%7Bnow%2Fd%7D%3E", json!({})).await, full);
        refused(&api.post("/acme-write/_rollover", json!({})).await, full);
        refused(&api.post("/acme-4/_doc", json!({"a": 1})).await, full);
        refused(&api.put("/acme-4/_create/1", json!({"a": 1})).await, full);
        let two = "{\"index\":{\"_index\":\"acme-4\"}}\n{\"a\":1}\n{\"index\":{\"_index\":\"acme-1\"}}\n{\"a\":1}\n";
        let created = bulk(api, "", two.into()).await;
        assert_eq!((created.status, statuses(&created)), (200, vec![403, 201]), "{}", created.text);
        assert_eq!(created.body["items"][0]["index"]["error"]["reason"], full);
    }
    assert_eq!(elasticsearch.api().get("/acme-4").await.status, 404);
    // What is not the tenant's is not counted, and what is there is Elasticsearch's to refuse.
    one.put("/other-1", json!({})).await.ok();
    assert_eq!(
        one.put("/acme-1", json!({})).await.body["error"]["type"],
        "resource_already_exists_exception"
    );
    assert_eq!(one.post("/acme-1/_search", json!({"query": {"match_all": {}}})).await.status, 200);

    // What goes makes room: at once where it went, elsewhere as soon as the cluster state was read again.
    other.delete("/acme-2").await.ok();
    other.put("/acme-5", json!({})).await.ok();
    other.delete("/acme-3").await.ok();
    eventually("there is room at the other sidecar", PATIENCE, || async {
        let made = one.try_call(Method::PUT, "/acme-7", Some("{}".into())).await?;
        (made.status == 200).then_some(())
    })
    .await;
    let usage = used(&one, "acme").await;
    assert_eq!(
        (&usage["indices"]["limit"], &usage["indices"]["percent"]),
        (&json!(3), &json!(100.0)),
        "{usage}"
    );
    // A creation that fails leaves nothing behind. (Where an index goes, there is room at once.)
    one.delete("/acme-5").await.ok();
    let wrong = json!({"mappings": {"properties": {"a": {"type": "nonsense"}}}});
    for _ in 0..3 {
        assert_eq!(one.put("/acme-6", wrong.clone()).await.status, 400);
    }
    one.put("/acme-6", json!({})).await.ok();
    what_went_is_not_counted(&one).await;
}

/// A sidecar has read of what was made through the other one.
async fn knows(api: &Api, indices: u64) {
    eventually("the cluster state was read", PATIENCE, || async {
        let usage = api.try_get("/_ivf/_tenants/acme/_usage").await?.body["usage"]["indices"].clone();
        (usage["used"].as_u64()? + usage["pending"].as_u64()? == indices).then_some(())
    })
    .await;
}

/// There is room for one index: however it comes to be, it is counted once, and not at all when it has gone.
async fn what_went_is_not_counted(api: &Api) {
    api.delete("/acme-6").await.ok();
    let line = |index: &str| format!("{{\"index\":{{\"_index\":\"{index}\"}}}}\n{{\"a\":1}}\n");
    for round in 0..2 {
        let name = |what: &str| format!("acme-{what}-{round}");
        let made = name("document");
        for _ in 0..2 {
            api.post(&format!("/{made}/_doc"), json!({"a": 1})).await.ok();
        }
        api.delete(&format!("/{made}")).await.ok();
        let made = name("bulk");
        let created = bulk(api, "", line(&made).repeat(2)).await;
        assert_eq!(statuses(&created), [201, 201], "{}", created.text);
        api.delete(&format!("/{made}")).await.ok();
        // No index is called so.
        let failed = bulk(api, "", line(&name("Bad"))).await;
        assert_eq!(statuses(&failed), [400], "{}", failed.text);
        let failed = bulk(api, "?pipeline=absent", line(&name("none"))).await;
        assert_ne!((failed.status, failed.body["errors"].clone()), (200, json!(false)), "{}", failed.text);
        api.put(&format!("/%3Cacme-{round}-%7Bnow%2Fd%7D%3E"), json!({})).await.ok();
        api.delete(&format!("/acme-{round}-*?expand_wildcards=open")).await;
        let found = api.get("/_cat/indices/acme-*?format=json&h=index").await.ok();
        for index in found.as_array().unwrap() {
            let index = index["index"].as_str().unwrap();
            if index.starts_with(&format!("acme-{round}-2")) {
                api.delete(&format!("/{index}")).await.ok();
            }
        }
    }
    api.put("/acme-6", json!({})).await.ok();
}

#[tokio::test]
async fn items_of_a_bulk_are_refused_one_by_one_and_the_others_run() {
    let elasticsearch = Elasticsearch::start("quota-bulk").await;
    let pair = pair(&elasticsearch).await;
    let (one, other) = (pair.one.api(), pair.other.api());
    tenant(&one, "acme", json!({"indices": ["acme-*"], "quotas": {"vectors": 10}})).await;
    one.create("acme-1", 2, "l2_norm", 1).await;
    one.create("free-1", 2, "l2_norm", 1).await;
    eventually("usage was measured", PATIENCE, || async {
        let usage = one.try_get("/_ivf/_tenants/acme/_usage").await?.body;
        usage["usage"]["vectors"].get("pending").map(drop)
    })
    .await;

    let text = "{\"index\":{\"_index\":\"acme-1\",\"_id\":\"t\"}}\n{\"tag\":\"no vector\"}\n";
    let mixed =
        [&vectors("acme-1", 0..8), text, &vectors("free-1", 0..3), &vectors("acme-1", 8..13)].concat();
    let reply = bulk(&one, "?refresh=true", mixed).await;
    assert_eq!(reply.status, 200);
    assert_eq!(statuses(&reply), [vec![201; 8 + 1 + 3 + 2], vec![403; 3]].concat(), "{}", reply.text);
    assert_eq!(reply.body["errors"], true);
    let item = &reply.body["items"][14]["index"];
    assert_eq!((&item["_index"], &item["_id"]), (&json!("acme-1"), &json!("10")));
    assert_eq!(item["error"]["reason"], "quota exceeded: vectors usage 10 + 1 > limit 10");
    assert_eq!((&item["error"]["tenant"], &item["error"]["limit"]), (&json!("acme"), &json!(10)));
    assert_eq!(elasticsearch.api().get("/acme-1/_count").await.body["count"], 11);
    assert_eq!(one.knn("acme-1", &[9.0, 1.0], 1).await.ids(), ["9"], "what got through is found at once");

    // All of it refused, none of it sent; hidden by filter_path; compressed; alone.
    let reply = bulk(&one, "", vectors("acme-1", 20..22)).await;
    assert_eq!((reply.status, statuses(&reply), &reply.body["errors"]), (200, vec![403, 403], &json!(true)));
    let both = [vectors("acme-1", 20..21), vectors("free-1", 5..6)].concat();
    let reply = bulk(&one, "?filter_path=errors,items.*.error.type", both.clone()).await;
    let error = json!({"index": {"error": {"type": "quota_exceeded_exception"}}});
    assert_eq!(reply.body, json!({"errors": true, "items": [error]}), "{}", reply.text);
    let gzip = {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(both.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let headers =
        [("content-type", "application/x-ndjson"), ("content-encoding", "gzip"), ("accept-encoding", "gzip")];
    let reply = one.try_send(Method::POST, "/_bulk", &headers, gzip).await.unwrap();
    assert_eq!(statuses(&reply), [403, 200], "{}", reply.text);
    let single = one.put("/acme-1/_doc/77", json!({"v": [1, 1]})).await;
    refused(&single, "quota exceeded: vectors usage 10 + 1 > limit 10");
    assert_eq!(one.post("/acme-1/_update/1", json!({"doc": {"tag": "y"}})).await.status, 200);
    let both = json!({"actions": [
        {"add": {"index": "free-1", "alias": "both"}},
        {"add": {"index": "acme-1", "alias": "both", "is_write_index": true}},
    ]});
    one.post("/_aliases", both).await.ok();
    let single = one.put("/both/_doc/77", json!({"v": [1, 1]})).await;
    refused(&single, "quota exceeded: vectors usage 10 + 1 > limit 10");

    // The other sidecar knows it as soon as it was measured.
    eventually("the other sidecar has measured", PATIENCE, || async {
        let usage = other.try_get("/_ivf/_tenants/acme/_usage").await?.body;
        (usage["usage"]["vectors"]["used"] == 10).then_some(())
    })
    .await;
    let reply = bulk(&other, "", vectors("acme-1", 30..31)).await;
    assert_eq!(statuses(&reply), [403], "{}", reply.text);

    // Deletions always go, and make room.
    let gone = "{\"delete\":{\"_index\":\"acme-1\",\"_id\":\"0\"}}\n{\"delete\":{\"_index\":\"acme-1\",\"_id\":\"1\"}}\n";
    let reply = bulk(&one, "?refresh=true", gone.into()).await;
    assert_eq!(statuses(&reply), [200, 200]);
    there_is_room(&one, "/acme-1/_doc/77").await;
    one.create("acme-2", 2, "l2_norm", 1).await;
    one.put("/acme-2/_doc/1", json!({"v": [1, 1]})).await.ok();
    refused(
        &one.put("/acme-2/_doc/2", json!({"v": [1, 1]})).await,
        "quota exceeded: vectors usage 10 + 1 > limit 10",
    );
    one.delete("/acme-2").await.ok();
    there_is_room(&one, "/acme-1/_doc/78").await;

    // What cannot be read is not let in.
    let headers = [("content-type", "application/smile")];
    let reply = one.try_send(Method::POST, "/_bulk", &headers, b":)\n\0".to_vec()).await.unwrap();
    assert_eq!((reply.status, &reply.body["error"]["type"]), (415, &json!("media_type_header_exception")));
    let reply = bulk(&one, "", "/* x */{\"index\":{\"_index\":\"acme-1\"}}\n{\"v\":[1,1]}\n".into()).await;
    assert_eq!(reply.status, 400, "{}", reply.text);
}

async fn there_is_room(api: &Api, document: &str) {
    eventually("there is room again", PATIENCE, || async {
        let reply = api.try_call(Method::PUT, document, Some(json!({"v": [1, 1]}).to_string())).await?;
        (reply.status == 201).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_bulk_without_a_refusal_is_answered_as_by_elasticsearch() {
    let elasticsearch = Elasticsearch::start("quota-same").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start_with(elasticsearch.url(), data.path(), FLAGS).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());
    tenant(&through, "acme", json!({"indices": ["a-*"], "quotas": {"document_bytes": "1gb"}})).await;
    direct.put("/a-1", json!({})).await.ok();
    let lines = "{\"index\":{\"_id\":\"1\"}}\n{\"a\":1}\n\n{\"create\":{\"_id\":\"1\"}}\n{\"a\":2}\n\
                 {\"update\":{\"_id\":\"1\"}}\n{\"doc\":{\"a\":\"x\"}}\n{\"delete\":{\"_id\":\"2\"}}\n";
    let mut answers = Vec::new();
    for api in [&through, &direct] {
        direct.delete("/a-1").await.ok();
        direct.put("/a-1", json!({"settings": {"number_of_replicas": 0}})).await.ok();
        let reply =
            api.try_call(Method::POST, "/a-1/_bulk?refresh=true&pretty", Some(lines.into())).await.unwrap();
        let mut body = reply.body;
        body["took"] = json!(0);
        let shape = reply.text.lines().filter(|line| !line.contains("took")).count();
        let text = body.to_string();
        // Names of shards and indices differ between two indices of one name.
        let uuid = text.find("\"index_uuid\":\"").map(|at| text[at + 14..at + 36].to_owned());
        answers.push((reply.status, shape, uuid.map_or(text.clone(), |uuid| text.replace(&uuid, "?"))));
    }
    assert_eq!(answers[0], answers[1]);
    for wrong in
        ["{\"index\":{}}\n{\"a\":1}", "nonsense\n", "{\"index\":{}}\n", "", "{\"index\":{\"magic\":1}}\n{}\n"]
    {
        let through = through.try_call(Method::POST, "/a-1/_bulk", Some(wrong.into())).await.unwrap();
        let direct = direct.try_call(Method::POST, "/a-1/_bulk", Some(wrong.into())).await.unwrap();
        assert_eq!(through.status, direct.status, "{wrong}: {} {}", through.text, direct.text);
    }
}

#[tokio::test]
async fn a_request_for_more_is_approved_and_holds_everywhere_also_after_a_restart() {
    let elasticsearch = Elasticsearch::start("quota-more").await;
    let pair = pair(&elasticsearch).await;
    let (one, other) = (pair.one.api(), pair.other.api());
    let spec = json!({"indices": ["acme-*"], "quotas": {"indices": 1, "vectors": 100}});
    let version = tenant(&one, "acme", spec.clone()).await;
    one.put("/acme-1", json!({})).await.ok();

    let asked = json!({"quotas": {"indices": 2}, "reason": "a second language"});
    let filed = one.post("/_ivf/_tenants/acme/_requests", asked).await.ok();
    assert_eq!((&filed["state"], &filed["reason"]), (&json!("pending"), &json!("a second language")));
    let denied = one
        .post("/_ivf/_tenants/acme/_requests", json!({"quotas": {"vectors": 999}, "reason": "x"}))
        .await
        .ok();
    let path = |request: &Value, what: &str| {
        format!("/_ivf/_tenants/acme/_requests/{}/{what}", request["id"].as_str().unwrap())
    };
    let answer = other.post(&path(&denied, "_deny"), json!({"comment": "too much"})).await.ok();
    assert_eq!((&answer["state"], &answer["comment"]), (&json!("denied"), &json!("too much")));
    refused(&one.put("/acme-2", json!({})).await, "quota exceeded: indices usage 1 + 1 > limit 1");
    let began = Instant::now();
    other.call("POST", &path(&filed, "_approve"), None).await.ok();
    assert_eq!(other.call("POST", &path(&filed, "_approve"), None).await.status, 409);
    assert_eq!(other.call("POST", "/_ivf/_tenants/acme/_requests/x/_approve", None).await.status, 404);
    eventually("the approved quota holds at the other sidecar", LIVE, || async {
        let reply = one.try_call(Method::PUT, "/acme-2", Some("{}".into())).await?;
        (reply.status == 200).then_some(())
    })
    .await;
    println!("in force at the other sidecar after {:?}", began.elapsed());
    let listed = one.get("/_ivf/_tenants/acme/_requests").await.ok();
    let states: Vec<&str> = listed["requests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|request| request["state"].as_str().unwrap())
        .collect();
    assert_eq!(states.len(), 2, "{listed}");
    assert!(states.contains(&"denied") && states.contains(&"approved"));

    // A change based on what is no longer there is refused; what was asked for stands beside the rest.
    let old = format!(
        "/_ivf/_tenants/acme?if_seq_no={}&if_primary_term={}",
        version["_seq_no"], version["_primary_term"]
    );
    let lost = one.put(&old, spec.clone()).await;
    assert_eq!(
        (lost.status, &lost.body["error"]["type"]),
        (409, &json!("version_conflict_engine_exception"))
    );
    let page = one.get("/_ivf/_tenants/acme").await.ok();
    assert_eq!(page["spec"]["quotas"], json!({"indices": 2, "vectors": 100}));
    assert_eq!((&page["source"], &page["usage"]["indices"]["limit"]), (&json!("stored"), &json!(2)));
    let new = format!(
        "/_ivf/_tenants/acme?if_seq_no={}&if_primary_term={}",
        page["_seq_no"], page["_primary_term"]
    );
    assert_eq!(one.put(&new, page["spec"].clone()).await.ok()["result"], "updated");

    // Restarted, with a file that names another tenant and this one.
    let Pair { one: first, other: second, _data: data } = pair;
    first.terminate();
    second.terminate();
    let file = data.0.path().join("outrigger.toml");
    std::fs::write(&file, "[tenants.beta]\nindices = ['beta-*']\nquotas = { indices = 0 }\n").unwrap();
    let flags = [FLAGS, &["--config", file.to_str().unwrap()]].concat();
    let again = Outrigger::start_with(elasticsearch.url(), data.1.path(), &flags).await;
    let api = again.api();
    eventually("stored tenants are read after a restart", LIVE, || async {
        (api.try_get("/_ivf/_tenants/acme").await?.status == 200).then_some(())
    })
    .await;
    refused(&api.put("/acme-3", json!({})).await, "quota exceeded: indices usage 2 + 1 > limit 2");
    refused(&api.put("/beta-1", json!({})).await, "quota exceeded: indices usage 0 + 1 > limit 0");
    assert_eq!(api.get("/_ivf/_tenants/beta").await.ok()["source"], "file");
    let reply = api.put("/_ivf/_tenants/beta", json!({})).await;
    assert!(reply.status == 400 && reply.text.contains("file"), "{}", reply.text);
    let all = api.get("/_ivf/_tenants").await.ok();
    let names: Vec<&String> = all["tenants"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["acme", "beta", "default", "other"]);

    api.delete("/_ivf/_tenants/acme").await.ok();
    assert_eq!(api.get("/_ivf/_tenants/acme").await.status, 404);
    api.put("/acme-3", json!({})).await.ok();
    let hidden = elasticsearch.api().get("/*?expand_wildcards=open").await.ok();
    assert!(hidden.get(".outrigger-tenants").is_none(), "{hidden}");
}
