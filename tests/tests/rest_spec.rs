//! Every endpoint that Elasticsearch documents: its own description of its REST API, filled in with names that
//! exist, is asked through us and directly. Status, headers and bodies must be the same.
//!
//! Requests that only read are asked with the same names on both sides and mostly agree to the byte. Those that
//! change something are asked with names of their own on each side, of equal length, which are made again where
//! a request took them away. What two requests to one server never share (times, counts, generated ids) is not compared.

use outrigger_tests::{Api, Elasticsearch, Outrigger, Reply, api_description};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The description fits the newest version.
const VERSION: &str = "9.2.0";

/// Left out: they take nodes out of the cluster, or wait for what never comes.
const LEFT_OUT: [&str; 3] =
    ["cluster.post_voting_config_exclusions", "nodes.shutdown", "cluster.prevalidate_node_removal"];

/// One documented request.
struct Documented {
    api: String,
    method: String,
    path: String,
    body: Option<&'static str>,
    lines: bool,
}

fn described() -> Vec<Documented> {
    let mut all = Vec::new();
    for (api, described) in
        api_description(VERSION).into_iter().filter(|(api, _)| !LEFT_OUT.contains(&api.as_str()))
    {
        let lines = described["body"]["serialize"] == "bulk";
        let body = described["body"].is_object().then(|| sample(&api, lines));
        for path in described["url"]["paths"].as_array().into_iter().flatten() {
            for method in path["methods"].as_array().into_iter().flatten() {
                let (method, path) =
                    (method.as_str().expect("a method"), path["path"].as_str().expect("a path"));
                let (method, path) = (method.to_owned(), path.to_owned());
                all.push(Documented { api: api.clone(), method, path, body, lines });
            }
        }
    }
    all
}

/// A body with which the request means something, where that is easy; an empty object is an answer, too.
fn sample(api: &str, lines: bool) -> &'static str {
    match api {
        "bulk" => {
            "{\"index\":{\"_index\":\"INDEX\",\"_id\":\"2\"}}\n{\"n\":2}\n{\"delete\":{\"_index\":\"INDEX\",\"_id\":\"9\"}}\n"
        }
        "msearch" => "{\"index\":\"INDEX\"}\n{\"query\":{\"match_all\":{}}}\n{}\n{\"size\":0}\n",
        _ if lines => "{}\n{}\n",
        "index" | "create" => "{\"n\":7,\"text\":\"seven\"}",
        "update" => "{\"doc\":{\"n\":8}}",
        "mget" => "{\"ids\":[\"1\",\"absent\"]}",
        "search" | "count" | "explain" | "indices.validate_query" | "delete_by_query" => {
            "{\"query\":{\"match\":{\"text\":\"one\"}}}"
        }
        "indices.analyze" => "{\"text\":\"one two\"}",
        "indices.put_mapping" => "{\"properties\":{\"more\":{\"type\":\"keyword\"}}}",
        "indices.put_settings" => "{\"index\":{\"refresh_interval\":\"2s\"}}",
        "indices.update_aliases" => {
            "{\"actions\":[{\"add\":{\"index\":\"INDEX\",\"alias\":\"INDEX-more\"}}]}"
        }
        "indices.put_index_template" => "{\"index_patterns\":[\"INDEX-none*\"]}",
        "cluster.put_component_template" => {
            "{\"template\":{\"mappings\":{\"properties\":{\"a\":{\"type\":\"long\"}}}}}"
        }
        "field_caps" => "{\"fields\":[\"*\"]}",
        _ => "{}",
    }
}

/// Values for the parts of a path; all that is not listed is a name.
fn filled(path: &str, name: &str) -> String {
    let mut out = String::new();
    for segment in path.split('/').skip(1) {
        let value = match segment {
            "{index}" | "{target}" => name.to_owned(),
            "{id}" | "{document_id}" => "1".to_owned(),
            "{node_id}" => "_local".to_owned(),
            "{metric}" => "_all".to_owned(),
            "{fields}" | "{field}" => "n".to_owned(),
            "{type}" => "_doc".to_owned(),
            // The message quotes how it is read.
            "{scroll_id}" => "c2Nyb2xs".to_owned(),
            part if part.starts_with('{') => format!("{name}-thing"),
            part => part.to_owned(),
        };
        out.push('/');
        out.push_str(&value);
    }
    out
}

/// The index of one side, as it is before each request.
async fn prepare(api: &Api, name: &str) {
    api.delete(&format!("/{name}?ignore_unavailable=true")).await;
    let body = json!({
        "settings": {"number_of_shards": 1, "number_of_replicas": 0},
        "mappings": {"properties": {"n": {"type": "long"}, "text": {"type": "text"}}},
    });
    api.put(&format!("/{name}"), body).await.ok();
    api.put(&format!("/{name}/_doc/1?refresh=true"), json!({"n": 1, "text": "one"})).await.ok();
}

/// Whether the index still has its document.
async fn is_there(api: &Api, name: &str) -> bool {
    api.get(&format!("/{name}/_doc/1?_source=false")).await.status == 200
}

async fn ask(api: &Api, request: &Documented, name: &str) -> Reply {
    let method: Method = request.method.parse().expect("a method");
    let body = request.body.map(|body| body.replace("INDEX", name)).unwrap_or_default();
    let kind = if request.lines { "application/x-ndjson" } else { "application/json" };
    let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &[("content-type", kind)] };
    let path = filled(&request.path, name);
    let reply = api.try_send(method, &path, headers, body.into_bytes()).await;
    reply.unwrap_or_else(|| panic!("no response: {} {path}", request.method))
}

/// Without what names the side, and without numbers.
fn plain(text: &str, name: &str) -> String {
    let mut out = String::new();
    let sides = text.replace(name, "NAME").replace("spec-ours", "NAME").replace("spec-them", "NAME");
    let mut uuid = 0;
    for character in sides.chars() {
        // An index in a message: its name, a slash, its uuid.
        if out.ends_with("[NAME/") && uuid < 22 {
            uuid += 1;
            continue;
        }
        uuid = 0;
        match character {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            other => out.push(other),
        }
    }
    out
}

/// Values under these keys are made anew by each request, or tell the moment.
const VOLATILE: [&str; 12] = [
    "uuid",
    "index_uuid",
    "_id",
    "id",
    "_scroll_id",
    "pit_id",
    "history_uuid",
    "sync_id",
    "user_data",
    "commit",
    "translog_uuid",
    "allocation_id",
];

fn comparable(value: &Value, name: &str) -> Value {
    match value {
        Value::Object(object) => {
            let entries = object.iter().map(|(key, value)| {
                let value =
                    if VOLATILE.contains(&key.as_str()) { json!("") } else { comparable(value, name) };
                (plain(key, name), value)
            });
            Value::Object(entries.collect())
        }
        Value::Array(values) => values.iter().map(|value| comparable(value, name)).collect(),
        Value::String(text) => json!(plain(text, name)),
        Value::Number(_) => json!(0),
        other => other.clone(),
    }
}

/// Tables and other text: the words of each line, without numbers and their units.
fn words(text: &str, name: &str) -> Vec<Vec<String>> {
    let line = |line: &str| {
        line.split_whitespace()
            .map(|word| word.trim_end_matches(|c: char| "kmgtbs.%".contains(c)).to_owned())
            .collect()
    };
    plain(text, name).lines().map(line).collect()
}

fn headers(reply: &Reply, name: &str) -> Vec<String> {
    let shown = reply.headers.iter().filter(|(name, _)| name != "x-outrigger" && name != "connection");
    // The id in a location may be generated.
    let mut shown: Vec<_> = shown
        .map(|(key, value)| {
            plain(&format!("{key}: {}", value.split("/_doc/").next().unwrap_or_default()), name)
        })
        .collect();
    shown.sort_unstable();
    shown
}

/// Elasticsearch says of some answers to `HEAD` that they come in chunks; there is no body, and ours say nothing.
fn framed(request: &Documented, mut headers: Vec<String>) -> Vec<String> {
    headers.retain(|header| request.method != "HEAD" || !header.starts_with("transfer-encoding"));
    headers
}

/// Whose body is another with each request, so that only status and headers are compared.
fn never_twice(api: &str) -> bool {
    ["hot_threads", "stats", "tasks", "cat.", "allocation", "pending", "usage", "segments", "cluster.state"]
        .iter()
        .any(|word| api.contains(word))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_endpoint_answers_as_elasticsearch_does() {
    if !Elasticsearch::can_run(VERSION).await {
        return eprintln!("not tested: this machine's Java does not run Elasticsearch {VERSION}");
    }
    let elasticsearch = Elasticsearch::start_version("spec", VERSION, &[]).await;
    let data = TempDir::new().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (direct, through) = (elasticsearch.api(), outrigger.api());
    let requests = described();
    assert!(requests.len() > 800, "{} requests are documented", requests.len());
    let (mut wrong, mut reads, mut exact, mut dirty) = (Vec::new(), 0, 0, true);
    prepare(&direct, "spec-read").await;
    for request in &requests {
        let reads_only = matches!(request.method.as_str(), "GET" | "HEAD");
        let names = if reads_only { ["spec-read", "spec-read"] } else { ["spec-ours", "spec-them"] };
        if !reads_only {
            let both = (is_there(&direct, names[0]).await, is_there(&direct, names[1]).await);
            if dirty || both != (true, true) {
                for name in names {
                    prepare(&direct, name).await;
                }
            }
            // What these do to an index (blocks, settings, mappings) the next request must not find.
            dirty = request.api.starts_with("indices.");
        }
        let (ours, theirs) = (ask(&through, request, names[0]).await, ask(&direct, request, names[1]).await);
        reads += usize::from(reads_only);
        let alike = if reads_only && ours.bytes == theirs.bytes {
            exact += 1;
            true
        } else if ours.body.is_null() || theirs.body.is_null() {
            words(&ours.text, names[0]) == words(&theirs.text, names[1])
        } else {
            comparable(&ours.body, names[0]) == comparable(&theirs.body, names[1])
        };
        let same = ours.status == theirs.status
            && framed(request, headers(&ours, names[0])) == framed(request, headers(&theirs, names[1]))
            && (alike || never_twice(&request.api));
        if !same {
            wrong.push(format!(
                "{} {} ({})\n  ours   {} {:?} {:.600}\n  theirs {} {:?} {:.600}",
                request.method,
                request.path,
                ours.way,
                ours.status,
                headers(&ours, names[0]),
                ours.text,
                theirs.status,
                headers(&theirs, names[1]),
                theirs.text
            ));
        }
    }
    eprintln!("{} requests; of {reads} that read, {exact} equal to the byte", requests.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), requests.len(), wrong.join("\n"));
    assert!(exact * 10 > reads * 7, "only {exact} of {reads} equal to the byte");
}

/// Method, path, headers, body; `NAME` stands for the side's index.
type Case<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>, Vec<u8>);

#[tokio::test(flavor = "multi_thread")]
async fn odd_paths_formats_and_headers_are_answered_as_elasticsearch_does() {
    let elasticsearch = Elasticsearch::start("conventions").await;
    let data = TempDir::new().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (direct, through) = (elasticsearch.api(), outrigger.api());
    for name in ["odd-ours", "odd-them"] {
        prepare(&direct, name).await;
    }
    let query = json!({"query": {"match": {"text": "one"}}});
    let yaml = serde_yaml_ng::to_string(&query).unwrap().into_bytes();
    let cbor = cbor4ii::serde::to_vec(Vec::new(), &query).unwrap();
    let smile = serde_smile::to_vec(&query).unwrap();
    let json_body = query.to_string().into_bytes();
    let document = |encode: fn(&Value) -> Vec<u8>| encode(&json!({"n": 3, "text": "three"}));
    let (eight, nine) = (
        "application/vnd.elasticsearch+json;compatible-with=8",
        "application/vnd.elasticsearch+json;compatible-with=9",
    );
    let long = format!("/NAME/_search?q={}", "a".repeat(5000));
    let big = "b".repeat(20_000);
    let mut cases: Vec<Case<'_>> = Vec::new();
    for path in [
        "/",
        "/NAME",
        "/NAME/_search",
        "/NAME/_doc/1",
        "/_bulk",
        "/_cat/indices",
        "/_nodes/http",
        "/nope/_nothing",
        "/_ivf_no",
    ] {
        cases.push(("OPTIONS", path, vec![], vec![]));
    }
    for path in [
        "/NAME/_search/",
        "/NAME/",
        "//NAME/_search",
        "/NAME//_search",
        "/NAME/_doc/1/",
        "/NAME/_count//",
        "/%4eAME/_search",
        &long,
    ] {
        cases.push(("GET", path, vec![], vec![]));
    }
    cases.push(("GET", "/NAME/_search", vec![("accept", eight)], vec![]));
    for method in ["PUT", "DELETE", "PATCH", "HEAD", "TRACE"] {
        cases.push((method, "/NAME/_search", vec![], vec![]));
    }
    // Where nothing else says so an answer has the format of the request, mappings that we show too.
    for path in [
        "/NAME/_mapping",
        "/NAME/_mapping?filter_path=**.type",
        "/NAME/_mapping?pretty",
        "/NAME?pretty=maybe",
    ] {
        for kind in ["application/yaml", "application/cbor", "application/json"] {
            cases.push(("GET", path, vec![("content-type", kind)], vec![]));
        }
    }
    for (kind, body) in [
        ("application/yaml", &yaml),
        ("application/cbor", &cbor),
        ("application/smile", &smile),
        ("application/json", &json_body),
    ] {
        cases.push(("POST", "/NAME/_search?filter_path=hits", vec![("content-type", kind)], body.clone()));
        cases.push((
            "POST",
            "/NAME/_search",
            vec![("content-type", kind), ("accept", "application/json")],
            body.clone(),
        ));
        cases.push(("POST", "/NAME/_count?format=yaml", vec![("content-type", kind)], body.clone()));
        cases.push((
            "POST",
            "/NAME/_search?pretty&filter_path=hits",
            vec![("content-type", "application/json"), ("accept", kind)],
            json_body.clone(),
        ));
    }
    for (kind, body) in [
        ("application/yaml", document(|value| serde_yaml_ng::to_string(value).unwrap().into_bytes())),
        ("application/cbor", document(|value| cbor4ii::serde::to_vec(Vec::new(), value).unwrap())),
        ("application/smile", document(|value| serde_smile::to_vec(value).unwrap())),
    ] {
        cases.push(("PUT", "/NAME/_doc/3?refresh=true", vec![("content-type", kind)], body));
    }
    let bulk = b"{\"index\":{\"_index\":\"NAME\",\"_id\":\"4\"}}\n{\"n\":4}\n".to_vec();
    let ndjson = "application/vnd.elasticsearch+x-ndjson;compatible-with=8";
    for headers in [
        vec![("content-type", "application/x-ndjson")],
        vec![("content-type", "application/json"), ("accept", "application/cbor")],
        vec![("content-type", ndjson), ("accept", eight)],
        vec![("content-type", ndjson)],
        vec![("content-type", "text/plain")],
        vec![],
    ] {
        cases.push(("POST", "/_bulk?refresh=true&filter_path=errors,items", headers, bulk.clone()));
    }
    for headers in [
        vec![("content-type", eight), ("accept", eight)],
        vec![("content-type", nine), ("accept", nine)],
        vec![("content-type", eight), ("accept", nine)],
        vec![("content-type", eight)],
        vec![("accept", eight), ("content-type", "application/json")],
        vec![("content-type", "application/vnd.elasticsearch+json;compatible-with=5"), ("accept", eight)],
        vec![("content-type", "text/plain")],
        vec![("content-type", "application/json"), ("accept", "")],
    ] {
        cases.push(("POST", "/NAME/_search", headers.clone(), json_body.clone()));
        cases.push(("POST", "/NAME/_doc", headers, b"{\"n\":5}".to_vec()));
    }
    // Last of all: Elasticsearch answers nothing more on this connection, which its client keeps.
    cases.push(("GET", "/NAME/_search", vec![("x-big", &big)], vec![]));
    let mut wrong = Vec::new();
    for (method, path, asked, body) in &cases {
        let mut replies = Vec::new();
        for (api, name) in [(&through, "odd-ours"), (&direct, "odd-them")] {
            let verb: Method = method.parse().expect("a method");
            let body = String::from_utf8(body.clone())
                .map(|text| text.replace("NAME", name).into_bytes())
                .unwrap_or_else(|_| body.clone());
            let path = path.replace("NAME", name);
            let mut reply = api.try_send(verb.clone(), &path, asked, body.clone()).await;
            // What was refused by its head closes the connection, and the client may try to use it again.
            if reply.is_none() {
                reply = api.try_send(verb, &path, asked, body).await;
            }
            replies.push(reply.map(|reply| {
                let text = if reply.body.is_null() {
                    plain(&reply.text, name)
                } else {
                    comparable(&reply.body, name).to_string()
                };
                (reply.status, headers(&reply, name), text)
            }));
        }
        if replies[0] != replies[1] {
            wrong.push(format!(
                "{method} {path} {asked:.80?}\n  ours   {:.700?}\n  theirs {:.700?}",
                replies[0], replies[1]
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
