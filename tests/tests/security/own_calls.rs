//! `/_ivf/…`: each call needs the privilege that its effect deserves, whatever the sidecar itself may do. And
//! refusals of ours come after Elasticsearch's.

use outrigger_tests::{Reply, eventually};
use serde_json::{Value, json};
use std::time::Duration;

use crate::principals::{PRINCIPALS, password};
use crate::{Scene, mapping};

/// A call, and the principals who may make it. The table stands in `es-proxy/SECURITY.md`.
struct Row {
    method: &'static str,
    path: &'static str,
    body: Option<Value>,
    allowed: &'static [&'static str],
}

/// Who sees all documents of `docs`, by a name and a password.
const SEES_ALL: &[&str] = &["elastic", "ann", "keeper", "sidecar"];
const MONITORS: &[&str] = &["elastic", "watcher", "keeper", "sidecar"];
const MANAGES: &[&str] = &["elastic", "keeper"];
/// The role of the sidecar's own credentials has that right alone.
const MAPS: &[&str] = &["elastic", "keeper", "sidecar"];

fn rows(scene: &Scene) -> Vec<Row> {
    let row = |method, path, body, allowed| Row { method, path, body, allowed };
    let explain = json!({"id": "1", "knn": scene.knn()});
    vec![
        row("GET", "/_ivf/docs/_stats", None, MONITORS),
        row("GET", "/_ivf/docs", None, MONITORS),
        row("POST", "/_ivf/docs/_build/_cancel", None, MANAGES),
        row("POST", "/_ivf/docs/_build/_start", None, MANAGES),
        row("DELETE", "/_ivf/docs/v", None, MAPS),
        row("PUT", "/_ivf/docs/v", None, MAPS),
        row("POST", "/_ivf/docs/_recall", Some(json!({"sample": 5})), SEES_ALL),
        row("POST", "/_ivf/docs/_recall", Some(json!({"queries": [scene.query]})), SEES_ALL),
        row("POST", "/_ivf/docs/_explain", Some(explain), SEES_ALL),
        // Wrong in themselves: only who may make the call is told so.
        row("POST", "/_ivf/docs/_recall", Some(json!({"nonsense": 1})), SEES_ALL),
        row("PUT", "/_ivf/docs/tag", None, MAPS),
    ]
}

#[tokio::test]
async fn own_calls_need_the_privilege_that_their_effect_deserves() {
    let scene = Scene::new("security-own").await;
    for row in rows(&scene) {
        for (principal, ..) in PRINCIPALS {
            let (through, _) = scene.both(principal);
            let reply = through.call(row.method, row.path, row.body.clone()).await;
            let context = format!("{principal}: {} {} {:?}\n{}", row.method, row.path, row.body, reply.text);
            if row.allowed.contains(&principal) {
                assert!(![401, 403].contains(&reply.status), "{context}");
            } else {
                assert_refused(principal, &reply, &context);
            }
        }
        // What these calls did to the field is undone.
        let (elastic, _) = scene.both("elastic");
        elastic.call("PUT", "/_ivf/docs/v", None).await.ok();
        scene.outrigger.learnt_by(&elastic, "docs").await;
    }
    whoever_may_not_see_an_index_is_not_told_whether_it_is_there(&scene).await;
    a_list_has_what_the_caller_may_see(&scene).await;
}

fn assert_refused(principal: &str, reply: &Reply, context: &str) {
    let expected = if matches!(principal, "wrong_password" | "no_credentials") { 401 } else { 403 };
    assert_eq!(reply.status, expected, "{context}");
    assert_eq!(reply.body["error"]["type"], "security_exception", "{context}");
}

async fn whoever_may_not_see_an_index_is_not_told_whether_it_is_there(scene: &Scene) {
    for principal in ["nobody", "writer", "wrong_password", "no_credentials"] {
        let (through, _) = scene.both(principal);
        for call in ["_recall", "_explain", "_build/_start"] {
            for index in ["docs", "nothing"] {
                let reply = through.post(&format!("/_ivf/{index}/{call}"), json!({"id": "1"})).await;
                assert_refused(principal, &reply, &format!("{principal}: {index}/{call}: {}", reply.text));
            }
        }
    }
}

async fn a_list_has_what_the_caller_may_see(scene: &Scene) {
    for (principal, expected) in [("watcher", vec!["docs", "other"]), ("ann", vec![]), ("nobody", vec![])] {
        let (through, _) = scene.both(principal);
        let listed = through.get("/_ivf").await.ok();
        let names: Vec<&String> = listed["indices"].as_object().unwrap().keys().collect();
        assert_eq!(names, expected, "{principal}");
    }
}

#[tokio::test]
async fn refusals_of_our_own_come_after_elasticsearchs() {
    let scene = Scene::new("security-refusals").await;
    let mut bad = mapping();
    bad["mappings"]["properties"]["v"]["index_options"] = json!({"type": "ivf", "nlist": -1});
    let template = json!({"index_patterns": ["t*"], "template": {"mappings": bad["mappings"]}});
    for (method, path, body, allowed) in [
        ("PUT", "/made", bad.clone(), vec!["elastic", "keeper"]),
        ("PUT", "/docs/_mapping", bad["mappings"].clone(), vec!["elastic", "keeper", "sidecar"]),
        ("PUT", "/_index_template/t", template, vec!["elastic"]),
    ] {
        for principal in ["elastic", "keeper", "sidecar", "ann", "nobody", "wrong_password", "no_credentials"]
        {
            let (through, _) = scene.both(principal);
            let reply = through.call(method, path, Some(body.clone())).await;
            let context = format!("{principal}: {method} {path}: {}", reply.text);
            if allowed.contains(&principal) {
                assert_eq!(reply.status, 400, "{context}");
            } else {
                assert_refused(principal, &reply, &context);
            }
        }
    }
    own_credentials_restore_a_field_and_need_no_more_for_it(&scene).await;
}

/// Somebody resets the options of a field behind our back, and the sidecar, which has the minimal role alone,
/// puts them back.
async fn own_credentials_restore_a_field_and_need_no_more_for_it(scene: &Scene) {
    let direct = scene.elasticsearch.api();
    let stored =
        async || direct.get("/docs/_mapping").await.ok()["docs"]["mappings"]["properties"]["v"].clone();
    let before = stored().await;
    let mut reset = before.clone();
    reset.as_object_mut().unwrap().remove("meta");
    direct.put("/docs/_mapping", json!({"properties": {"v": reset}})).await.ok();
    eventually("the field is ours again", Duration::from_secs(20), || async {
        (stored().await["meta"] == before["meta"]).then_some(())
    })
    .await;
    let log = scene.outrigger.log();
    assert!(!log.contains("security_exception"), "some call of the sidecar was refused");
    assert!(!log.contains(password("sidecar")), "secrets are not logged");
}
