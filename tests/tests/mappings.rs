//! Mappings, both ways, at every endpoint: whatever way one with `ivf` comes in, Elasticsearch gets a type of
//! its own and our key in `meta`; whatever way it is asked for, clients see what they wrote.

#![allow(missing_docs, reason = "a test")]

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use outrigger_tests::{Api, Elasticsearch, Outrigger};
use serde_json::{Value, json};

const KEY: &str = "outrigger.ivf";

/// What a client writes and sees.
fn field() -> Value {
    json!({
        "type": "dense_vector", "dims": 3, "index": true, "similarity": "l2_norm",
        "index_options": {"type": "ivf", "nlist": 7}, "meta": {"unit": "m"},
    })
}

/// Fields in all places that a mapping has.
fn mapping() -> Value {
    let mut properties = json!({
        "v": field(), "o": {"properties": {"v": field()}}, "d.v": field(), "t": {"type": "keyword"},
    });
    if Elasticsearch::version_at_least(8, 11) {
        properties["n"] = json!({"type": "nested", "properties": {"v": field()}});
    }
    json!({
        "dynamic_templates": [{"vectors": {"match": "*_v", "mapping": field()}}],
        "properties": properties,
    })
}

/// What Elasticsearch shows, as a client should see it.
fn as_shown(theirs: &mut Value) {
    if let Some(object) = theirs.as_object_mut() {
        let meta = object.get_mut("meta").and_then(Value::as_object_mut);
        let stored = meta.and_then(|meta| meta.remove(KEY));
        if let Some(stored) = stored {
            if stored.is_string() {
                assert_eq!(stored, "nlist=7");
                object.insert("index_options".into(), json!({"type": "ivf", "nlist": 7}));
            }
            if object["meta"] == json!({}) {
                object.remove("meta");
            }
        }
        object.values_mut().for_each(as_shown);
    } else if let Some(list) = theirs.as_array_mut() {
        list.iter_mut().for_each(as_shown);
    }
}

/// The same request to both: `ivf` through us, something else directly, all the rest equal.
async fn shown_right(through: &Api, direct: &Api, method: &str, path: &str, body: Option<Value>) {
    let ours = through.call(method, path, body.clone()).await;
    assert!(!ours.text.contains(KEY), "{method} {path}: {}", ours.text);
    let mut theirs = direct.call(method, path, body).await;
    assert_eq!((ours.status, theirs.status), (200, 200), "{method} {path}: {}", ours.text);
    assert!(theirs.text.contains(KEY), "{method} {path}: {}", theirs.text);
    assert_eq!(ours.text.starts_with("{\n"), theirs.text.starts_with("{\n"), "{path}: laid out alike");
    as_shown(&mut theirs.body);
    assert_eq!(ours.body, theirs.body, "{method} {path}");
}

#[tokio::test]
async fn every_way_in_translates_and_every_way_back_shows_ivf() {
    let elasticsearch = Elasticsearch::start("mappings").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());

    let index = json!({"mappings": mapping()});
    let template = |pattern: &str| json!({"index_patterns": [pattern], "template": index});
    let legacy = json!({"index_patterns": ["m-legacy-*"], "order": 1, "mappings": mapping()});
    let composed = json!({"index_patterns": ["m-composed-*"], "composed_of": ["m-component"]});
    let alias = json!({"aliases": {"m-alias": {"is_write_index": true}}});
    let document = json!({"x_v": [1, 2, 3]});
    let ways_in = [
        ("PUT", "/m-created", index.clone()),
        ("PUT", "/m-later", json!({})),
        ("PUT", "/m-later/_mapping", mapping()),
        ("PUT", "/m-many-a", json!({})),
        ("PUT", "/m-many-b", json!({})),
        ("POST", "/m-many-a,m-many-b/_mappings", mapping()),
        ("PUT", "/_component_template/m-component", json!({"template": index})),
        ("PUT", "/_index_template/m-composed", composed),
        ("PUT", "/_index_template/m-whole", template("m-whole-*")),
        ("PUT", "/_template/m-legacy", legacy),
        ("PUT", "/m-composed-1", json!({})),
        ("POST", "/m-whole-1/_doc", document.clone()),
        ("PUT", "/m-legacy-1", json!({})),
        ("PUT", "/m-rolled-000001", alias),
        ("POST", "/m-alias/_rollover", index.clone()),
        ("POST", "/m-rolled-000002/_doc", document),
    ];
    for (method, path, body) in ways_in {
        let reply = through.call(method, path, Some(body)).await;
        assert!((200..300).contains(&reply.status), "{method} {path}: {}", reply.text);
    }

    let ways_back = [
        "/m-created",
        "/m-created?features=mappings",
        "/m-created?flat_settings&human",
        "/m-created/_mapping",
        "/m-later/_mappings?pretty",
        "/m-many-a,m-many-b/_mapping",
        "/m-many-*",
        "/m-composed-1",
        "/m-whole-1/_mapping",
        "/m-legacy-1/_mapping",
        "/m-rolled-000002/_mapping",
        "/m-alias/_mapping",
        "/_mapping",
        "/_mappings",
        "/_all",
        "/*",
        "/_all/_mapping?filter_path=m-created.mappings.properties",
        "/m-*/_mapping?filter_path=**.v,-**.dims&pretty=true",
        "/m-created/_mapping?pretty;filter_path=**.v",
        "/m-created/_mapping?filter%5Fpath=**.v",
        "/_mapping/field/v",
        "/m-created/_mapping/field/*v",
        "/m-created/_mapping/field/o.v?include_defaults=true",
        "/_field_caps?fields=*",
        "/m-created/_field_caps?fields=v,o.v&filter_path=fields.*.dense_vector.meta",
        "/_cluster/state/metadata",
        "/_cluster/state?filter_path=metadata.indices.m-created.mappings,metadata.*template*",
        "/_index_template/m-whole",
        "/_index_template?pretty",
        "/_component_template/m-component",
        "/_component_template?filter_path=component_templates.component_template.template.mappings",
        "/_template/m-legacy",
        "/_template",
    ];
    for path in ways_back {
        shown_right(&through, &direct, "GET", path, None).await;
    }
    shown_right(&through, &direct, "POST", "/m-created/_field_caps?fields=v", Some(json!({}))).await;
    for path in [
        "/_index_template/_simulate/m-whole",
        "/_index_template/_simulate_index/m-composed-2",
        "/_index_template/_simulate_index/m-composed-2?filter_path=template.mappings.properties&pretty",
    ] {
        shown_right(&through, &direct, "POST", path, None).await;
    }
    // A simulation of what nobody has made yet: only we can translate its body.
    for path in ["/_index_template/_simulate", "/_index_template/_simulate_index/m-new-1"] {
        let mut body = template("m-new-*");
        body["priority"] = json!(9);
        let simulated = through.post(path, body).await.ok();
        let properties = &simulated["template"]["mappings"]["properties"];
        assert_eq!(
            properties["o"]["properties"]["v"]["index_options"],
            field()["index_options"],
            "{simulated}"
        );
        assert!(!simulated.to_string().contains(KEY), "{simulated}");
    }
    // A filter that leaves no mapping is Elasticsearch's own to apply.
    let ticker = through.get("/_cluster/state?filter_path=version,metadata.cluster_uuid").await;
    assert!(ticker.body["version"].is_u64() && ticker.body["metadata"]["cluster_uuid"].is_string());
    let version = through.get("/_cluster/state/version?filter_path=version").await;
    assert_eq!((version.way.as_str(), version.status), ("pass; reason=no_mapping", 200));
    // The field that a document brought is ours, too.
    outrigger.learnt("m-rolled-000002").await;
    let report = through.get("/_ivf/m-rolled-000002/_stats").await.ok();
    let learnt: Vec<_> = report["fields"].as_array().unwrap().iter().map(|field| &field["field"]).collect();
    let below_nested = Elasticsearch::version_at_least(8, 11).then_some("n.v");
    let expected: Vec<_> = ["d.v"].into_iter().chain(below_nested).chain(["o.v", "v", "x_v"]).collect();
    assert_eq!(learnt, expected);
}

#[tokio::test]
async fn compressed_mappings_are_read_and_shown() {
    let elasticsearch = Elasticsearch::start("zipped").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let url = |path: &str| format!("{}{path}", outrigger.api().base());
    let client = reqwest::Client::new();
    let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
    zipped.write_all(json!({"mappings": mapping()}).to_string().as_bytes()).unwrap();
    let created = client
        .put(url("/zipped"))
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .body(zipped.finish().unwrap());
    assert_eq!(created.send().await.unwrap().status(), 200);
    let shown = client.get(url("/zipped/_mapping")).header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(shown.headers()["content-encoding"], "gzip");
    let mut text = String::new();
    GzDecoder::new(&*shown.bytes().await.unwrap()).read_to_string(&mut text).unwrap();
    assert!(text.contains(r#""index_options":{"type":"ivf","nlist":7}"#) && !text.contains(KEY), "{text}");
}

#[tokio::test]
async fn an_update_that_says_less_takes_nothing_away() {
    let elasticsearch = Elasticsearch::start("updates").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());
    for index in ["up-a", "up-b"] {
        through.put(&format!("/{index}"), json!({"mappings": mapping()})).await.ok();
    }
    let before = direct.get("/up-a/_mapping").await.ok();
    let mut bare = field();
    bare.as_object_mut().unwrap().remove("index_options");
    let mut properties =
        json!({"v": bare, "o": {"properties": {"v": bare}}, "d": {"properties": {"v": bare}}});
    if Elasticsearch::version_at_least(8, 11) {
        properties["n"] = json!({"type": "nested", "properties": {"v": bare}});
    }
    for target in ["up-a", "up-a,up-b", "up-*", "_all"] {
        let path = format!("/{target}/_mapping?expand_wildcards=open");
        through.put(&path, json!({"properties": properties})).await.ok();
        assert_eq!(direct.get("/up-a/_mapping").await.ok(), before, "{path}");
    }
    // `meta` is the client's to change; our key stays beside.
    let mut other = bare.clone();
    other["meta"] = json!({"unit": "km", "by": "me"});
    through.put("/up-a/_mapping", json!({"properties": {"v": other}})).await.ok();
    let after = direct.get("/up-a/_mapping").await.ok();
    let v = |mapping: &Value| mapping["up-a"]["mappings"]["properties"]["v"].clone();
    assert_eq!(v(&after)["meta"], json!({"unit": "km", "by": "me", KEY: "nlist=7"}));
    assert_eq!(v(&after)["index_options"], v(&before)["index_options"]);
    // Other options.
    let mut options = field();
    options["index_options"] = json!({"type": "ivf", "nlist": 9, "recall": 0.9});
    through.put("/up-a/_mapping", json!({"properties": {"v": options}})).await.ok();
    let shown = v(&through.get("/up-a/_mapping").await.ok());
    assert_eq!(shown, options);
    // Now the two indices differ: which options a bare definition means is not for us to guess.
    let refused = through.put("/up-*/_mapping", json!({"properties": {"v": bare}})).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    let reason = refused.body["error"]["reason"].as_str().unwrap();
    assert!(reason.contains("[index_options] of field [v] must be given"), "{reason}");
    // What Elasticsearch refuses it refuses in its own words, and nothing has changed.
    let before = direct.get("/up-a/_mapping").await.ok();
    let mut wrong = bare.clone();
    wrong["similarity"] = json!("cosine");
    let update = json!({"properties": {"v": wrong}});
    let refused = through.put("/up-a/_mapping", update).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert!(refused.text.contains("Cannot update parameter [similarity]"), "{}", refused.text);
    assert_eq!(direct.get("/up-a/_mapping").await.ok(), before);
}
