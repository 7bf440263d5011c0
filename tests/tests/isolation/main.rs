//! A tenant bound to `acme-*` against a real Elasticsearch: hundreds of attempts to see or change what lies
//! outside, and what it is allowed to do, which must be answered as by Elasticsearch alone. And the audit log,
//! which has a line for each.

#![allow(missing_docs, reason = "a test")]

mod attempt;
mod audit;
mod by_body;
mod by_target;
mod generated;
mod inside;
mod outside;

use outrigger_tests::{Api, Elasticsearch, Outrigger};
use serde_json::json;

use crate::audit::{every_decision_has_its_line, the_log_is_opened_again};
use crate::inside::{contexts_go_on, what_is_inside_is_answered_alike};
use crate::outside::{nothing_gets_out, random_expressions};

/// Stands in documents outside, and nowhere else.
const MARKER: &str = "marker-5c1d";
/// An index outside that no attempt names: where it shows, something was listed.
const UNNAMED: &str = "zz-unnamed";

const CONFIG: &str = r#"
tenant_header_from = "127.0.0.1"
[tenants.acme]
headers = ["acme"]
bound_to = ["acme-*"]
[tenants.other]
bound_to = ["nothing"]
"#;

#[tokio::test]
async fn a_bound_tenant_stays_inside() {
    let elasticsearch = Elasticsearch::start("isolation").await;
    let folder = tempfile::tempdir().unwrap();
    let (config, audit) = (folder.path().join("outrigger.toml"), folder.path().join("audit.json"));
    std::fs::write(&config, CONFIG).unwrap();
    let direct = elasticsearch.api();
    fill(&direct).await;
    let flags = [
        "--config",
        config.to_str().unwrap(),
        "--audit-log",
        audit.to_str().unwrap(),
        "--audit-events",
        "refused,answered,passed,failed,changed",
    ];
    let outrigger = Outrigger::start_with(elasticsearch.url(), &folder.path().join("data"), &flags).await;

    let mut sent = nothing_gets_out(&elasticsearch, &outrigger).await;
    direct
        .post("/_aliases", json!({"actions": [{"remove": {"index": "*", "alias": "acme-out"}}]}))
        .await
        .ok();
    sent += contexts_go_on(&elasticsearch, &outrigger).await;
    sent += what_is_inside_is_answered_alike(&elasticsearch, &outrigger).await;
    random_expressions(&outrigger).await;
    the_log_is_opened_again(&outrigger, &audit).await;
    outrigger.terminate();
    every_decision_has_its_line(&audit, sent);
}

/// Two indices inside, two outside, and an alias that leads out.
async fn fill(direct: &Api) {
    let mapping = json!({"settings": {"number_of_shards": 1, "number_of_replicas": 0},
        "mappings": {"properties": {"t": {"type": "keyword"}}}});
    for index in ["acme-1", "acme-2", "secret", UNNAMED] {
        direct.put(&format!("/{index}"), mapping.clone()).await.ok();
    }
    for index in ["acme-1", "acme-2"] {
        direct.put(&format!("/{index}/_doc/1?refresh=true"), json!({"t": "red"})).await.ok();
        direct.put(&format!("/{index}/_doc/2?refresh=true"), json!({"t": "blue"})).await.ok();
    }
    for index in ["secret", UNNAMED] {
        let document = json!({"t": ["red", MARKER]});
        direct.put(&format!("/{index}/_doc/1?refresh=true"), document).await.ok();
    }
    let actions = json!({"actions": [
        {"add": {"indices": ["acme-1", "acme-2"], "alias": "acme-in"}},
        {"add": {"indices": ["acme-1", "secret"], "alias": "acme-out"}},
    ]});
    direct.post("/_aliases", actions).await.ok();
    direct.put("/_index_template/others", json!({"index_patterns": ["zz-*"], "priority": 1})).await.ok();
}
