//! Security: whoever may not see something of Elasticsearch does not see it of us either, by any request.
//! Elasticsearch is a node with the stand-in for security (`scripts/es.d/security`); the sidecar's own
//! credentials are those of the minimal role in `es-proxy/SECURITY.md`.

#![allow(missing_docs, reason = "a test")]

mod bound;
mod matrix;
mod own_calls;
mod principals;
mod random;
mod revocation;

use outrigger_tests::{Api, Elasticsearch, Outrigger, Vectors};
use serde_json::{Value, json};
use tempfile::TempDir;

const DIMS: usize = 8;
const DOCS: usize = 60;
/// How long the sidecar believes what Elasticsearch said of a caller.
const TTL: &str = "1s";

/// A node with security, a sidecar beside it, and two indices with what principals may or may not see.
struct Scene {
    elasticsearch: Elasticsearch,
    outrigger: Outrigger,
    _data: TempDir,
    /// Where searches look.
    query: Vec<f32>,
}

impl Scene {
    async fn new(label: &str) -> Self {
        let elasticsearch = Elasticsearch::start_secured(label, &principals::security()).await;
        let data = tempfile::tempdir().unwrap();
        let secret = data.path().join("own-credentials");
        std::fs::write(&secret, "sidecar:sidecar-password").unwrap();
        let flags = ["--upstream-auth-file", secret.to_str().unwrap(), "--identity-ttl", TTL];
        let outrigger =
            Outrigger::start_with(elasticsearch.url(), &data.path().join("snapshots"), &flags).await;
        let mut vectors = Vectors::new(7, DIMS);
        let admin = outrigger.api().as_user("elastic", principals::password("elastic"));
        for index in ["docs", "other"] {
            admin.put(&format!("/{index}"), mapping()).await.ok();
            let docs: Vec<_> = (0..DOCS).map(|n| (n.to_string(), document(n, &vectors.draw()))).collect();
            admin.bulk(index, "true", &docs).await.unwrap().ok();
            outrigger.learnt_by(&admin, index).await;
        }
        Self { elasticsearch, outrigger, _data: data, query: vectors.draw() }
    }

    /// Calls through the sidecar, and calls on Elasticsearch alone, by the same principal.
    fn both(&self, principal: &str) -> (Api, Api) {
        let (through, direct) = (self.outrigger.api(), self.elasticsearch.anonymous());
        (principals::calling(&through, principal), principals::calling(&direct, principal))
    }

    fn knn(&self) -> Value {
        json!({"field": "v", "query_vector": self.query, "k": 10, "num_candidates": 100})
    }
}

fn mapping() -> Value {
    json!({
        "settings": {"number_of_shards": 1, "number_of_replicas": 0},
        "mappings": {"properties": {
            "v": {"type": "dense_vector", "dims": DIMS, "index": true, "similarity": "l2_norm", "index_options": {"type": "ivf"}},
            "tag": {"type": "keyword"},
            "secret": {"type": "keyword"},
        }},
        "aliases": {"shelf": {}, "red": {"filter": {"term": {"tag": "red"}}}},
    })
}

/// Half of the documents are red, the others blue.
fn document(n: usize, vector: &[f32]) -> Value {
    let tag = if n.is_multiple_of(2) { "red" } else { "blue" };
    json!({"v": vector, "tag": tag, "secret": format!("secret of {n}")})
}
