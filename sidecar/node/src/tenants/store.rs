//! Tenants and their requests, stored in Elasticsearch, and heard of by every node of ours within seconds: the newest
//! `_seq_no` and the number of tenants are asked for, and where they changed all are read again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use es_proxy::{
    BoxFuture, Expected, QuotaRequest, StoreAnswer, StoreError, StoredTenant, StoredTenants, TenantSpec,
    TenantStore, UsagePoint, Version,
};
use serde::Deserialize;
use serde_json::{Value, json};
use shard_sync::Verb;
use tokio::sync::Mutex;

use crate::tenants::documents::{
    Document, Documents, INDEX, TenantDocument, UsageDocument, now_in_millis, read, unavailable,
};
use crate::tenants::{Shared, history};

/// Tenants that are read; the table of tenants takes no more.
const MAX_TENANTS: usize = 100_000;
/// Until Elasticsearch has answered once: what is stored holds soon after a start.
const FIRST: Duration = Duration::from_millis(50);
/// Requests of a tenant that are shown.
const MAX_REQUESTS: usize = 1_000;

/// See the head of this file.
pub(crate) struct Store {
    shared: Arc<Shared>,
    heard: ArcSwap<StoredTenants>,
    /// What was there when tenants were last read; held while they are.
    seen: Mutex<Option<Seen>>,
}

/// Tells one state of all tenants from another: whatever is written has a higher number than what was there, and
/// what is deleted is one less. Both begin again in an index that was made anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    uuid: Arc<str>,
    newest: i64,
    count: u64,
}

#[derive(Deserialize)]
struct Counted {
    hits: CountedHits,
    #[serde(default)]
    aggregations: Newest,
}

#[derive(Deserialize)]
struct CountedHits {
    total: Total,
}

#[derive(Deserialize)]
struct Total {
    value: u64,
}

#[derive(Default, Deserialize)]
struct Newest {
    newest: Max,
}

#[derive(Default, Deserialize)]
struct Max {
    value: Option<f64>,
}

/// A tenant's document on its way in.
fn tenant_source(tenant: &str, spec: &TenantSpec, by: &str) -> Value {
    json!({"kind": "tenant", "tenant": tenant, "spec": spec, "by": by, "at": now_in_millis()})
}

fn tenant_id(tenant: &str) -> String {
    format!("tenant:{tenant}")
}

fn request_id(id: &str) -> String {
    format!("request:{id}")
}

fn is_tenant() -> Value {
    json!({"term": {"kind": "tenant"}})
}

fn of_tenant(kind: &str, tenant: &str) -> Value {
    json!({"bool": {"filter": [{"term": {"kind": kind}}, {"term": {"tenant": tenant}}]}})
}

impl Store {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, heard: ArcSwap::default(), seen: Mutex::new(None) }
    }

    pub(crate) fn documents(&self) -> Documents<'_> {
        Documents(&self.shared.sync)
    }

    /// Reads tenants again where they changed.
    async fn catch_up(&self) -> Result<(), StoreError> {
        let mut seen = self.seen.lock().await;
        let now = self.state().await?;
        if seen.as_ref() == Some(&now) {
            return Ok(());
        }
        let found =
            self.documents().search::<Value>(is_tenant(), json!([{"tenant": "asc"}]), MAX_TENANTS).await?;
        let heard = heard(found);
        let specs: BTreeMap<String, TenantSpec> =
            heard.tenants.iter().map(|(tenant, stored)| (tenant.clone(), stored.spec.clone())).collect();
        let mut heard = heard;
        for problem in self.shared.tenants.store(specs) {
            heard.problems.insert(problem.tenant, problem.reason);
        }
        tracing::info!(
            tenants = heard.tenants.len(),
            problems = heard.problems.len(),
            "stored tenants are in force"
        );
        self.heard.store(Arc::new(heard));
        self.shared.tenants_changed();
        *seen = Some(now);
        Ok(())
    }

    /// What is there now. Without the index: nothing.
    async fn state(&self) -> Result<Seen, StoreError> {
        let catalog = self.shared.sync.catalog();
        if catalog.version < 0 {
            return Err(StoreError::Unavailable("the cluster state has not been read yet".to_owned()));
        }
        let Some(index) = catalog.index(INDEX) else { return Ok(Seen::default()) };
        let uuid = Arc::clone(&index.uuid);
        let body = json!({
            "size": 0, "track_total_hits": true, "query": is_tenant(), "aggs": {"newest": {"max": {"field": "_seq_no"}}},
        });
        let path = format!("/{INDEX}/_search?ignore_unavailable=true&request_cache=false");
        let bytes = self.shared.sync.call(Verb::Post, &path, Some(body.to_string())).await;
        let counted: Counted = read(&bytes.map_err(|error| unavailable(&error))?)?;
        // Numbers up to 2^53 are exact.
        let newest = counted.aggregations.newest.value.map_or(0, |newest| newest as i64 + 1);
        Ok(Seen { uuid, newest, count: counted.hits.total.value })
    }

    /// After a change of our own.
    async fn heard_at_once(&self) {
        if let Err(error) = self.catch_up().await {
            tracing::warn!(%error, "a change of a tenant is in force here only when tenants are read again");
        }
    }
}

/// What was found, as far as it can be read.
fn heard(found: Vec<Document<Value>>) -> StoredTenants {
    let mut heard = StoredTenants::default();
    for document in found {
        let version = document.version();
        match serde_json::from_value::<TenantDocument>(document.source) {
            Ok(TenantDocument { tenant, spec }) => {
                heard.tenants.insert(tenant, StoredTenant { spec, version });
            }
            Err(error) => {
                let tenant = document.id.trim_start_matches("tenant:").to_owned();
                tracing::warn!(tenant, %error, "a stored tenant cannot be read");
                heard.problems.insert(tenant, error.to_string());
            }
        }
    }
    heard
}

/// Follows changes until the runtime ends.
pub(crate) async fn follow(store: Arc<Store>, every: Duration) {
    let (mut failing, mut pause) = (false, FIRST);
    loop {
        match store.catch_up().await {
            Ok(()) => (failing, pause) = (false, every),
            // Before first contact with Elasticsearch there is nothing to tell.
            Err(error) if !failing && store.shared.sync.catalog().version >= 0 => {
                (failing, pause) = (true, every);
                tracing::warn!(%error, "stored tenants cannot be read; those that were in force stay");
            }
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
    }
}

impl TenantStore for Store {
    fn heard(&self) -> Arc<StoredTenants> {
        self.heard.load_full()
    }

    fn tenant<'a>(&'a self, tenant: &'a str) -> StoreAnswer<'a, Option<StoredTenant>> {
        Box::pin(async move {
            let found = self.documents().get::<TenantDocument>(&tenant_id(tenant)).await?;
            Ok(found.map(|found| StoredTenant { version: found.version(), spec: found.source.spec }))
        })
    }

    fn put_tenant<'a>(
        &'a self,
        tenant: &'a str,
        spec: &'a TenantSpec,
        expected: Expected,
        by: &'a str,
    ) -> StoreAnswer<'a, Version> {
        Box::pin(async move {
            let source = tenant_source(tenant, spec, by);
            let version = self.documents().put(&tenant_id(tenant), &source, expected).await?;
            self.heard_at_once().await;
            Ok(version)
        })
    }

    fn delete_tenant<'a>(&'a self, tenant: &'a str, expected: Expected) -> StoreAnswer<'a, bool> {
        Box::pin(async move {
            let was_there = self.documents().delete(&tenant_id(tenant), expected).await?;
            self.heard_at_once().await;
            Ok(was_there)
        })
    }

    fn history<'a>(&'a self, tenant: &'a str, since: Duration) -> StoreAnswer<'a, Vec<UsagePoint>> {
        Box::pin(async move {
            let begin = now_in_millis().saturating_sub(since.as_millis() as u64);
            let mut query = of_tenant("usage", tenant);
            if let Some(filters) = query["bool"]["filter"].as_array_mut() {
                filters.push(json!({"range": {"at": {"gte": begin}}}));
            }
            let (documents, sort) = (self.documents(), json!([{"at": "asc"}]));
            let found = documents.search::<UsageDocument>(query, sort, history::MAX_POINTS).await?;
            let point = |UsageDocument { at, usage }| UsagePoint { at_in_millis: at, usage };
            Ok(found.into_iter().map(|found| point(found.source)).collect())
        })
    }

    fn requests<'a>(&'a self, tenant: &'a str) -> StoreAnswer<'a, Vec<QuotaRequest>> {
        Box::pin(async move {
            let query = of_tenant("request", tenant);
            let sort = json!([{"at": "desc"}]);
            let found = self.documents().search::<QuotaRequest>(query, sort, MAX_REQUESTS).await?;
            Ok(found.into_iter().map(request).collect())
        })
    }

    fn request<'a>(&'a self, id: &'a str) -> StoreAnswer<'a, Option<(QuotaRequest, Version)>> {
        Box::pin(async move {
            let found = self.documents().get::<QuotaRequest>(&request_id(id)).await?;
            Ok(found.map(|found| {
                let version = found.version();
                (request(found), version)
            }))
        })
    }

    fn put_request<'a>(
        &'a self,
        request: &'a QuotaRequest,
        expected: Expected,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        Box::pin(async move {
            let mut source = serde_json::to_value(request).unwrap_or_default();
            source["kind"] = json!("request");
            self.documents().put(&request_id(&request.id), &source, expected).await
        })
    }
}

fn request(document: Document<QuotaRequest>) -> QuotaRequest {
    let id = document.id.trim_start_matches("request:").to_owned();
    QuotaRequest { id, ..document.source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_a_problem_of_that_tenant_alone() {
        let document = |tenant: &str, spec: Value| {
            let source = json!({"kind": "tenant", "tenant": tenant, "spec": spec, "by": "me", "at": 1});
            let document =
                json!({"_id": tenant_id(tenant), "_seq_no": 3, "_primary_term": 1, "_source": source});
            serde_json::from_value::<Document<Value>>(document).unwrap()
        };
        let found = vec![
            document("a", json!({"indices": ["a-*"], "quotas": {"vectors": 5}})),
            document("b", json!({"magic": true})),
        ];
        let heard = heard(found);
        assert_eq!(heard.tenants["a"].spec.quotas.vectors, Some(5));
        assert_eq!(heard.tenants["a"].version, Version { seq_no: 3, primary_term: 1 });
        assert!(heard.problems["b"].contains("magic") && heard.tenants.len() == 1);
    }

    #[test]
    fn a_request_is_stored_without_its_id_and_read_with_it() {
        let asked = QuotaRequest {
            id: "x1".into(),
            tenant: "a".into(),
            wanted: serde_json::from_value(json!({"vectors": 7})).unwrap(),
            reason: "growth".into(),
            state: es_proxy::RequestState::Pending,
            by: "alice".into(),
            at: 5,
            decided_by: None,
            decided_at: None,
            comment: None,
        };
        let source = serde_json::to_value(&asked).unwrap();
        assert!(source.get("id").is_none());
        let document = json!({"_id": "request:x1", "_seq_no": 0, "_primary_term": 1, "_source": source});
        assert_eq!(request(serde_json::from_value(document).unwrap()), asked);
    }
}
