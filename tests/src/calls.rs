//! Calls as a plain HTTP client makes them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

/// A base URL and a client.
#[derive(Clone, Debug)]
pub struct Api {
    client: reqwest::Client,
    base: String,
    /// Sent with every call.
    headers: Vec<(String, String)>,
}

/// A status and a body.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `x-outrigger`, where it was asked for.
    pub way: String,
    /// The body; `Null` when it is not JSON.
    pub body: Value,
    /// The body as text.
    pub text: String,
    /// The body as it came.
    pub bytes: Vec<u8>,
    /// Names, in lower case, and values.
    pub headers: Vec<(String, String)>,
}

impl Reply {
    /// Panics unless the status is 2xx.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "status {}: {}", self.status, self.text);
        self.body
    }

    /// `_id`s of the hits, in order.
    pub fn ids(&self) -> Vec<String> {
        let hits = self.body["hits"]["hits"].as_array().cloned().unwrap_or_default();
        hits.iter().filter_map(|hit| hit["_id"].as_str().map(str::to_owned)).collect()
    }
}

impl Api {
    /// Calls on `base` (`http://host:port`).
    pub fn new(base: &str) -> Self {
        Self::with_timeout(base, Duration::from_secs(60))
    }

    /// The same, giving up earlier or later.
    pub fn with_timeout(base: &str, limit: Duration) -> Self {
        let client = reqwest::Client::builder().timeout(limit).build().expect("a client");
        Self { client, base: base.to_owned(), headers: Vec::new() }
    }

    /// The same calls with one more header.
    #[must_use]
    pub fn with_header(&self, name: &str, value: &str) -> Self {
        let mut this = self.clone();
        this.headers.push((name.to_owned(), value.to_owned()));
        this
    }

    /// The same calls as somebody with a password.
    #[must_use]
    pub fn as_user(&self, name: &str, password: &str) -> Self {
        let pair = STANDARD.encode(format!("{name}:{password}"));
        self.with_header("authorization", &format!("Basic {pair}"))
    }

    /// `http://host:port`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// One call; `None` when no response came.
    pub async fn try_call(&self, method: Method, path: &str, body: Option<String>) -> Option<Reply> {
        let kind = if path.contains("_bulk") { "application/x-ndjson" } else { "application/json" };
        match body {
            Some(body) => self.try_send(method, path, &[("content-type", kind)], body.into()).await,
            None => self.try_send(method, path, &[], Vec::new()).await,
        }
    }

    /// One call with headers and a body of bytes; `None` when no response came.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Option<Reply> {
        let mut request =
            self.client.request(method, format!("{}{path}", self.base)).header("x-outrigger-explain", "true");
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.chain(headers.iter().copied()) {
            request = request.header(name, value);
        }
        if !body.is_empty() {
            request = request.body(body);
        }
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let way =
            response.headers().get("x-outrigger").and_then(|way| way.to_str().ok()).unwrap_or("").to_owned();
        let headers = response.headers().iter();
        let headers = headers
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let bytes = response.bytes().await.ok()?.to_vec();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Some(Reply { status, way, body, text, bytes, headers })
    }

    /// One call; panics when no response came.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        let method: Method = method.parse().expect("a method");
        let called = self.try_call(method.clone(), path, body.map(|body| body.to_string())).await;
        called.unwrap_or_else(|| panic!("no response: {method} {}{path}", self.base))
    }

    /// GET; `None` when no response came.
    pub async fn try_get(&self, path: &str) -> Option<Reply> {
        self.try_call(Method::GET, path, None).await
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, None).await
    }

    /// PUT.
    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.call("PUT", path, Some(body)).await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.call("POST", path, Some(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Reply {
        self.call("DELETE", path, None).await
    }

    /// Indexes documents with `_bulk`; `None` when no response came, else whether all succeeded.
    pub async fn bulk(&self, index: &str, refresh: &str, docs: &[(String, Value)]) -> Option<Reply> {
        let mut body = String::new();
        for (id, doc) in docs {
            body.push_str(&format!("{}\n{doc}\n", json!({"index": {"_id": id}})));
        }
        self.try_call(Method::POST, &format!("/{index}/_bulk?refresh={refresh}"), Some(body)).await
    }

    /// Makes an index with an `ivf` field `v`, a keyword `tag` and a number `n`.
    pub async fn create(&self, index: &str, dims: usize, similarity: &str, shards: usize) {
        self.create_as(index, dims, similarity, shards, json!({"type": "ivf"})).await;
    }

    /// The same with other index options.
    pub async fn create_as(&self, index: &str, dims: usize, similarity: &str, shards: usize, options: Value) {
        let body = json!({
            "settings": {"number_of_shards": shards, "number_of_replicas": 0},
            "mappings": {"properties": {
                "v": {"type": "dense_vector", "dims": dims, "index": true, "similarity": similarity, "index_options": options},
                "tag": {"type": "keyword"},
                "n": {"type": "integer"},
            }},
        });
        self.put(&format!("/{index}"), body).await.ok();
    }

    /// A knn search for `k` ids.
    pub async fn knn(&self, index: &str, vector: &[f32], k: usize) -> Reply {
        let knn = json!({"field": "v", "query_vector": vector, "k": k, "num_candidates": 10.max(k * 10).min(10_000)});
        self.post(&format!("/{index}/_search"), json!({"knn": knn, "size": k, "_source": false})).await
    }
}
