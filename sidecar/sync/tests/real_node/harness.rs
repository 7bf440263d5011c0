//! A real Elasticsearch, a `Sync` on it, and the one question that matters: do we hold what it shows?

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use es_wire::{Capabilities, EsVersion, MappingContext, Similarity, translate_create, translate_update};
use knn_types::{Element, SeqNo};
use serde_json::{Value, json};
use shard_sync::{FieldState, Scope, Sync, SyncConfig};
use tokio::sync::{Mutex, MutexGuard};

use crate::fake_engine::FakeEngine;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One node per version for all tests of this binary; it ends with the process.
pub(crate) struct Node {
    pub(crate) url: String,
    pub(crate) version: EsVersion,
    pub(crate) http: reqwest::Client,
}

static NODES: Mutex<BTreeMap<&'static str, String>> = Mutex::const_new(BTreeMap::new());
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

fn script() -> String {
    format!("{}/../../scripts/es", env!("CARGO_MANIFEST_DIR"))
}

/// Runs `scripts/es` and reads the line of JSON that it prints.
pub(crate) fn es(arguments: &[&str]) -> Value {
    let output = Command::new(script())
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .expect("scripts/es can be run");
    assert!(output.status.success(), "scripts/es {arguments:?} failed: run it by hand to see why");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// Whether this machine's Java can run that version.
pub(crate) fn can_run(version: &str) -> bool {
    let output = Command::new(script()).arg("versions").output().expect("scripts/es can be run");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().any(|line| line.starts_with(&format!("{version}\tJava ")))
}

impl Node {
    /// Starts a node, or takes the one that an earlier test started, alone and with no index on it.
    pub(crate) async fn take(version: &'static str) -> (Self, MutexGuard<'static, ()>) {
        let alone = ONE_AT_A_TIME.lock().await;
        let mut nodes = NODES.lock().await;
        let url = nodes.entry(version).or_insert_with(|| {
            let pid = std::process::id().to_string();
            let started = es(&["start", version, "--heap", "512m", "--exit-with", &pid]);
            started["url"].as_str().expect("a started node has a URL").to_owned()
        });
        let node = Self::at(url, version);
        let left = node.call("GET", "/_cat/indices/t-*?expand_wildcards=all&format=json&h=index", None).await;
        for index in left.as_array().unwrap() {
            node.call("DELETE", &format!("/{}", index["index"].as_str().unwrap()), None).await;
        }
        (node, alone)
    }

    pub(crate) fn at(url: &str, version: &str) -> Self {
        Self { url: url.to_owned(), version: version.parse().unwrap(), http: reqwest::Client::new() }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<String>) -> Value {
        let mut request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.url));
        if let Some(body) = body {
            let kind = if path.contains("_bulk") { "application/x-ndjson" } else { "application/json" };
            request = request.header("content-type", kind).body(body);
        }
        let response = request.send().await.expect("the node answers");
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Creates an index as the proxy would: `ivf` translated for this version.
    pub(crate) async fn create(&self, index: &str, settings: Value, properties: Value) {
        let mut all = json!({"number_of_replicas": 0});
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let body = json!({"settings": all, "mappings": {"properties": properties}}).to_string();
        let caps = Capabilities::of(self.version).unwrap();
        let context = MappingContext { caps: &caps, unspecified_is_ivf: true, existing: &|_| None };
        let body = translate_create(&body, &context).unwrap().expect("there is an ivf field");
        self.call("PUT", &format!("/{index}"), Some(body)).await;
    }

    /// The same with `_source` as given, made past the proxy, which would refuse what cannot be read back.
    pub(crate) async fn create_with_source(&self, index: &str, source: Value, properties: Value) {
        let caps = Capabilities::of(self.version).unwrap();
        let context = MappingContext { caps: &caps, unspecified_is_ivf: true, existing: &|_| None };
        let mappings = json!({"properties": properties});
        let body = json!({"settings": {"number_of_replicas": 0}, "mappings": mappings}).to_string();
        let body = translate_create(&body, &context).unwrap().expect("there is an ivf field");
        let mut body: Value = serde_json::from_str(&body).unwrap();
        body["mappings"]["_source"] = source;
        self.call("PUT", &format!("/{index}"), Some(body.to_string())).await;
    }

    pub(crate) async fn add_field(&self, index: &str, properties: Value) {
        let caps = Capabilities::of(self.version).unwrap();
        let context = MappingContext { caps: &caps, unspecified_is_ivf: true, existing: &|_| None };
        let body = json!({"properties": properties}).to_string();
        let body = translate_update(&body, &context).unwrap().expect("there is an ivf field");
        self.call("PUT", &format!("/{index}/_mapping"), Some(body)).await;
    }

    /// A bulk of actions with `refresh`; panics if an item failed.
    pub(crate) async fn bulk(&self, index: &str, lines: &[String], refresh: bool) -> Value {
        let body = lines.join("\n") + "\n";
        let answer = self.call("POST", &format!("/{index}/_bulk?refresh={refresh}"), Some(body)).await;
        assert_eq!(answer["errors"], json!(false), "{answer}");
        answer
    }

    pub(crate) async fn refresh(&self, index: &str) {
        self.call("POST", &format!("/{index}/_refresh"), None).await;
    }

    /// Everything that Elasticsearch shows: id, routing -> order and prepared vector.
    pub(crate) async fn export(&self, index: &str, field: &str, similarity: Similarity) -> Shown {
        let mut shown = Shown::new();
        let mut after = Value::Null;
        loop {
            let mut body = json!({
                "size": 5000, "_source": [field], "seq_no_primary_term": true, "sort": [{"_doc": "asc"}],
                "query": {"exists": {"field": field}},
            });
            let path = if after.is_null() {
                format!("/{index}/_search?scroll=1m")
            } else {
                body = json!({"scroll": "1m", "scroll_id": after});
                "/_search/scroll".to_owned()
            };
            let page = self.call("POST", &path, Some(body.to_string())).await;
            after = page["_scroll_id"].clone();
            let hits = page["hits"]["hits"].as_array().unwrap();
            if hits.is_empty() {
                self.call("DELETE", "/_search/scroll", Some(json!({"scroll_id": after}).to_string())).await;
                return shown;
            }
            for hit in hits {
                let source = &hit["_source"];
                let nested = field.split('.').fold(source, |value, key| &value[key]);
                let value = if nested.is_array() { nested } else { &source[field] };
                let mut vector: Vec<f32> =
                    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
                similarity.prepare(Element::Float, &mut vector).unwrap();
                let order = SeqNo {
                    primary_term: hit["_primary_term"].as_u64().unwrap(),
                    seq_no: hit["_seq_no"].as_u64().unwrap(),
                };
                let key =
                    (hit["_id"].as_str().unwrap().to_owned(), hit["_routing"].as_str().map(str::to_owned));
                shown.insert(key, (order, vector));
            }
        }
    }
}

pub(crate) type Shown = BTreeMap<(String, Option<String>), (SeqNo, Vec<f32>)>;

/// A `Sync` with the fake engine behind it.
pub(crate) struct Follower {
    pub(crate) sync: Arc<Sync>,
    pub(crate) engine: Arc<FakeEngine>,
    registry: prometheus_client::registry::Registry,
}

impl Follower {
    pub(crate) fn start(node: &Node, engine: FakeEngine) -> Self {
        Self::with(node, engine, SyncConfig::default())
    }

    pub(crate) fn with(node: &Node, engine: FakeEngine, config: SyncConfig) -> Self {
        let engine = Arc::new(engine);
        let config = SyncConfig { upstream: vec![node.url.clone()], ..config };
        let mut registry = prometheus_client::registry::Registry::default();
        let sync = Sync::start(config, Arc::clone(&engine) as Arc<dyn knn_types::KnnEngine>, &mut registry);
        Self { sync, engine, registry }
    }

    /// Reads the catalog and waits until everything in it can be searched.
    pub(crate) async fn ready(&self) {
        self.sync.invalidate().await;
        eventually("everything is searchable", || self.sync.ready()).await;
    }

    /// A counter of the feed; one that was never touched is 0.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let start = format!("outrigger_feed_{name}{} ", if name.contains('{') { "" } else { "_total" });
        text.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |value| value.parse().unwrap())
    }

    /// A number as `/metrics` would show it, by its full name and labels; 0 where there is none.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        text.lines().find_map(line).unwrap_or(0)
    }

    pub(crate) fn uuid(&self, index: &str) -> String {
        self.sync.catalog().index(index).expect("the index is in the catalog").uuid.to_string()
    }

    pub(crate) fn state(&self, index: &str, field: &str) -> FieldState {
        self.sync.field(&self.uuid(index), field)
    }

    /// Waits for what is shown now, and compares it document by document.
    pub(crate) async fn assert_equal(
        &self,
        node: &Node,
        index: &str,
        field: &str,
        similarity: Similarity,
    ) -> usize {
        assert!(self.sync.published(Scope::Index(index.to_owned()), PATIENCE).await, "not published in time");
        let held = self.engine.documents(&self.uuid(index), field);
        let shown = node.export(index, field, similarity).await;
        let mut ours = Shown::new();
        for (_, doc, order, vector) in held {
            let key = (doc.id.to_string(), doc.routing.map(|routing| routing.to_string()));
            assert!(ours.insert(key, (order, vector)).is_none(), "held twice");
        }
        let missing: Vec<_> = shown.keys().filter(|key| !ours.contains_key(*key)).take(5).collect();
        let extra: Vec<_> = ours.keys().filter(|key| !shown.contains_key(*key)).take(5).collect();
        assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, extra {extra:?}");
        for (key, (order, vector)) in &shown {
            let (our_order, our_vector) = &ours[key];
            assert_eq!(our_order, order, "another version of {key:?}");
            let far = vector.iter().zip(our_vector).any(|(a, b)| (a - b).abs() > 1e-6 * a.abs().max(1.0));
            assert!(!far && vector.len() == our_vector.len(), "{key:?}: {vector:?} is not {our_vector:?}");
        }
        shown.len()
    }
}

/// Polls with a deadline.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A small generator of reproducible numbers.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }

    pub(crate) fn vector(&mut self, dims: usize) -> Vec<f32> {
        (0..dims).map(|_| (self.below(2000) as f32 - 999.5) / 100.0).collect()
    }
}

pub(crate) fn index_line(id: &str, document: &Value) -> String {
    format!("{}\n{document}", json!({"index": {"_id": id}}))
}

pub(crate) fn delete_line(id: &str) -> String {
    json!({"delete": {"_id": id}}).to_string()
}

/// The mapping of an ivf field.
pub(crate) fn ivf(dims: usize, similarity: Similarity) -> Value {
    json!({"type": "dense_vector", "dims": dims, "similarity": similarity.name(),
           "index_options": {"type": "ivf"}})
}
