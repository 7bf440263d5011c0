//! Knn hits from Elasticsearch itself, asked with our own credentials and a body of our own: what
//! shadow mode compares with.

use es_proxy::{BoxFuture, KnnHit, KnnQuestion, KnnSource, KnnUnavailable};
use es_wire::IndexInfo;
use knn_types::DocKey;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;
use shard_sync::{Auth, SyncConfig};

/// See the head of this file.
pub(crate) struct UpstreamSource {
    client: reqwest::Client,
    base: String,
    auth: Option<Auth>,
}

#[derive(Deserialize)]
struct Answer {
    hits: Hits,
}

#[derive(Deserialize)]
struct Hits {
    hits: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    #[serde(rename = "_id")]
    id: Box<str>,
    #[serde(rename = "_routing")]
    routing: Option<Box<str>>,
    #[serde(rename = "_score")]
    score: f32,
}

impl UpstreamSource {
    pub(crate) fn new(config: &SyncConfig) -> reqwest::Result<Self> {
        let client = config.client()?;
        let base = config.upstream.first().cloned().unwrap_or_default();
        Ok(Self { client, base, auth: config.auth.clone() })
    }

    async fn ask(&self, question: KnnQuestion<'_>) -> reqwest::Result<Vec<KnnHit>> {
        let index = utf8_percent_encode(&question.index.name, NON_ALPHANUMERIC);
        let mut body = json!({
            "knn": {
                "field": question.field,
                "query_vector": question.vector,
                "k": question.k,
                "num_candidates": question.num_candidates,
            },
            "size": question.k,
            "_source": false,
        });
        if let Some(filter) = question.filter {
            body["knn"]["filter"] = serde_json::from_str(filter.query()).unwrap_or_default();
        }
        let request = self.client.post(format!("{}/{index}/_search", self.base)).json(&body);
        let request = match &self.auth {
            None => request,
            Some(Auth::Basic { user, password }) => request.basic_auth(user, Some(password)),
            Some(Auth::ApiKey(key)) => request.header("authorization", format!("ApiKey {key}")),
            Some(Auth::Bearer(token)) => request.bearer_auth(token),
        };
        let answer: Answer = request.send().await?.error_for_status()?.json().await?;
        let hits = answer.hits.hits.into_iter();
        Ok(hits
            .map(|hit| KnnHit {
                doc: DocKey { id: hit.id, routing: hit.routing },
                order: None,
                score: hit.score,
                shard: 0,
            })
            .collect())
    }
}

impl KnnSource for UpstreamSource {
    fn knn<'a>(&'a self, question: KnnQuestion<'a>) -> BoxFuture<'a, Result<Vec<KnnHit>, KnnUnavailable>> {
        Box::pin(async move {
            self.ask(question).await.map_err(|error| {
                tracing::warn!(%error, index = %question.index.name, "Elasticsearch could not be compared with");
                KnnUnavailable::Failed
            })
        })
    }

    fn vectors(&self, _: &IndexInfo, _: &str) -> u64 {
        0
    }
}
