//! Lists of nodes: each node is shown with the address of its sidecar, so that clients that look for nodes
//! themselves stay with us. All else in these answers is Elasticsearch's, to the byte where they are text.

use std::io::Read;
use std::path::Path;

use outrigger_tests::{Api, Cluster, Elasticsearch, Outrigger, Reply};
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;

async fn get(api: &Api, path: &str, headers: &[(&str, &str)]) -> Reply {
    let reply = api.try_send(Method::GET, path, headers, Vec::new()).await.expect("a response");
    assert_eq!(reply.status, 200, "{path}: {}", reply.text);
    reply
}

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// The headers that both sides must share; a length follows from the addresses.
fn headers(reply: &Reply) -> Vec<(&str, &str)> {
    let shared = reply.headers.iter().filter(|(name, _)| name != "x-outrigger");
    let mut named: Vec<_> = shared
        .map(|(name, value)| (name.as_str(), if name == "content-length" { "" } else { value.as_str() }))
        .collect();
    named.sort_unstable();
    named
}

/// The body without its compression.
fn inflated(reply: &Reply) -> Vec<u8> {
    let mut plain = Vec::new();
    match header(reply, "content-encoding") {
        Some("gzip") => flate2::read::GzDecoder::new(&reply.bytes[..]).read_to_end(&mut plain),
        Some("deflate") => flate2::read::ZlibDecoder::new(&reply.bytes[..]).read_to_end(&mut plain),
        _ => return reply.bytes.clone(),
    }
    .expect("a body compressed as its head says");
    plain
}

fn decoded(kind: &str, body: &[u8]) -> Value {
    match kind {
        "cbor" => cbor4ii::serde::from_slice(body).expect("CBOR"),
        "smile" => serde_smile::from_slice(body).expect("SMILE"),
        "yaml" => serde_yaml_ng::from_slice(body).expect("YAML"),
        _ => serde_json::from_slice(body).expect("JSON"),
    }
}

/// The same with another HTTP address.
fn expected(mut answer: Value, cat: bool, ours: &str) -> Value {
    if cat {
        for row in answer.as_array_mut().into_iter().flatten() {
            for key in ["http", "http_address"] {
                if let Some(address) = row.get_mut(key) {
                    *address = ours.into();
                }
            }
        }
    } else if let Some(nodes) = answer["nodes"].as_object_mut() {
        for node in nodes.values_mut() {
            if let Some(address) = node.get_mut("http").and_then(|http| http.get_mut("publish_address")) {
                *address = ours.into();
            }
        }
    }
    answer
}

fn host(url: &str) -> &str {
    url.trim_start_matches("http://")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_of_nodes_shows_our_address_and_is_elasticsearchs_own_otherwise() {
    let elasticsearch = Elasticsearch::start("sniffing").await;
    let data = TempDir::new().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (theirs, ours) = (host(elasticsearch.url()), host(outrigger.url()));
    let (direct, through) = (elasticsearch.api(), outrigger.api());

    let info = [
        "/_nodes",
        "/_nodes/",
        "/_nodes/http",
        "/_nodes/_all/http",
        "/_nodes/_local",
        "/_nodes/_local/http,transport",
        "/_nodes/_all/info/http",
        "/_nodes/data:true/http,settings",
        "/_nodes/_all/http?flat_settings=true&human",
        "/_nodes/http,settings?flat_settings",
        "/_nodes/http?filter_path=nodes.*.http.publish_address",
        "/_nodes/http?filter_path=**.publish_address,-nodes.*.transport",
        "/_nodes/_all/http?pretty&filter_path=nodes.*.name,nodes.*.http",
    ];
    let cat = [
        "/_cat/nodes?h=name,http",
        "/_cat/nodes?h=http,name,version&v",
        "/_cat/nodes?h=ht*&v=true",
        "/_cat/nodes?h=name,http,id,http_address,ip&full_id=true&s=http",
        "/_cat/nodes?h=http",
    ];
    let unchanged = ["/_nodes/settings", "/_nodes/nobody/http", "/_cat/nodes?h=name,ip", "/_cat/nodes?help"];
    let formats = ["", "json", "yaml", "cbor", "smile"];
    let codings = ["", "gzip", "deflate"];
    let mut seen = 0;
    for path in info.iter().chain(&cat).chain(&unchanged) {
        for (number, kind) in formats.iter().enumerate() {
            let coding = codings[(seen + number) % codings.len()];
            let separator = if path.contains('?') { '&' } else { '?' };
            let path =
                if kind.is_empty() { (*path).to_owned() } else { format!("{path}{separator}format={kind}") };
            let mut asked = vec![("x-opaque-id", "who")];
            if !coding.is_empty() {
                asked.push(("accept-encoding", coding));
            }
            let (left, right) = (get(&through, &path, &asked).await, get(&direct, &path, &asked).await);
            assert_eq!(headers(&left), headers(&right), "{path} {coding}");
            let (left_body, right_body) = (inflated(&left), inflated(&right));
            let is_cat = path.starts_with("/_cat");
            let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
            if unchanged.iter().any(|same| path.starts_with(same)) {
                assert_eq!(text(&left_body), text(&right_body), "{path}");
                assert!(left.way.starts_with("pass"), "{path}: {}", left.way);
                continue;
            }
            assert_eq!(left.way, "translate; reason=address", "{path}");
            match *kind {
                // Both addresses are as long as each other, so a table keeps its layout.
                "" if is_cat => {
                    assert_eq!(theirs.len(), ours.len(), "ports of five digits");
                    assert_eq!(text(&left_body), text(&right_body).replace(theirs, ours), "{path}");
                }
                "" | "json" | "yaml" => {
                    let mut wanted = text(&right_body);
                    for (key, separators) in [
                        ("publish_address", [":", " : ", ": "]),
                        ("http", [":", " : ", ": "]),
                        ("http_address", [":", " : ", ": "]),
                    ] {
                        for separator in separators {
                            for quote in ["\"", ""] {
                                let with = |address| format!("{key}{quote}{separator}\"{address}\"");
                                wanted = wanted.replace(&with(theirs), &with(ours));
                            }
                        }
                    }
                    assert_eq!(text(&left_body), wanted, "{path}");
                }
                _ => assert_eq!(
                    decoded(kind, &left_body),
                    expected(decoded(kind, &right_body), is_cat, ours),
                    "{path}"
                ),
            }
            seen += 1;
        }
    }
    assert_eq!(seen, (info.len() + cat.len()) * formats.len());

    // By the header, and as a compatible version.
    for accept in
        ["application/yaml", "application/cbor", "application/vnd.elasticsearch+json;compatible-with=8"]
    {
        let reply = get(&through, "/_nodes/http", &[("accept", accept)]).await;
        assert_eq!(reply.way, "translate; reason=address", "{accept}");
        assert_eq!(header(&reply, "content-type"), Some(accept));
    }
    // With a coding that we do not read, or all of them.
    for coding in ["*", "snappy", "snappy, gzip;q=0.1"] {
        for path in ["/_nodes/http", "/_cat/nodes?h=http"] {
            let reply = get(&through, path, &[("accept-encoding", coding)]).await;
            assert_eq!(reply.way, "translate; reason=address", "{path} {coding}");
            assert!(String::from_utf8_lossy(&inflated(&reply)).contains(ours), "{path} {coding}");
        }
    }
    // An error is Elasticsearch's, and so is a client that asks for nothing of it.
    let wrong = through.get("/_nodes/http?nope=1").await;
    assert_eq!((wrong.status, wrong.way.as_str()), (400, "pass; reason=node_list_error"));
    let stats = through.get("/_nodes/stats/http").await;
    assert_eq!(stats.way, "pass; reason=not_ours");
}

async fn shown(api: &Api) -> Vec<(String, String)> {
    let listed = api.get("/_nodes/http").await.ok();
    let nodes = listed["nodes"].as_object().expect("nodes").values();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let mut nodes: Vec<_> =
        nodes.map(|node| (text(&node["name"]), text(&node["http"]["publish_address"]))).collect();
    nodes.sort_unstable();
    let mut rows: Vec<_> = api
        .get("/_cat/nodes?h=name,http")
        .await
        .text
        .lines()
        .map(|row| {
            let (name, address) = row.split_once(' ').expect("two columns");
            (name.to_owned(), address.trim().to_owned())
        })
        .collect();
    rows.sort_unstable();
    assert_eq!(rows, nodes, "_cat/nodes and _nodes tell the same");
    nodes
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_is_shown_with_the_address_of_its_own_sidecar() {
    let cluster = Cluster::start("sniffed", 2).await;
    cluster.healthy(0, 2, "green").await;
    let names = [cluster.node_name(0), cluster.node_name(1)];
    let urls: Vec<String> = cluster.upstream().split(',').map(str::to_owned).collect();
    let start = async |node: usize, folder: &Path, flags: &[&str]| {
        Outrigger::start_with(&urls[node], folder, flags).await
    };
    let with_names = |addresses: [&str; 2]| -> Vec<(String, String)> {
        names.iter().cloned().zip(addresses.map(str::to_owned)).collect()
    };
    let folder = TempDir::new().unwrap();

    // Alone on this machine: the other node's host with our port is ours, too.
    let first = start(0, &folder.path().join("1"), &[]).await;
    let own = host(first.url()).to_owned();
    assert_eq!(shown(&first.api()).await, with_names([&own, &own]));

    // Told where the other sidecar is; it is told the same.
    let second =
        start(1, &folder.path().join("2"), &["--advertise-nodes", &format!("{}={own}", names[0])]).await;
    let other = host(second.url()).to_owned();
    assert_ne!(own, other);
    assert_eq!(shown(&second.api()).await, with_names([&own, &other]));

    // By name; the node beside us by its setting; none for what stays.
    let rule = format!("{}={other},keep", host(&urls[1]));
    let third =
        start(0, &folder.path().join("3"), &["--advertise", "es.example:443", "--advertise-nodes", &rule])
            .await;
    assert_eq!(shown(&third.api()).await, with_names(["es.example:443", &other]));
    let fourth = start(0, &folder.path().join("4"), &["--advertise-nodes", "keep"]).await;
    assert_eq!(shown(&fourth.api()).await, with_names([host(&urls[0]), host(&urls[1])]));
    let fifth =
        start(0, &folder.path().join("5"), &["--advertise", "[::1]:9201", "--advertise-nodes", "self"]).await;
    assert_eq!(shown(&fifth.api()).await, with_names(["[::1]:9201", "[::1]:9201"]));
}
