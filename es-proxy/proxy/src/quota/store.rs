//! Where tenants, their requests for more and the history of their usage are kept. The binary supplies it (an index
//! of Elasticsearch), tests fake it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::door::tenant::{Quotas, TenantSpec};
use crate::ports::BoxFuture;
use crate::quota::amount::Amount;

/// Which state of a document it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// `_seq_no`.
    pub seq_no: i64,
    /// `_primary_term`.
    pub primary_term: u64,
}

/// What must be there for a change to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever there is.
    Any,
    /// Nothing.
    Absent,
    /// This state.
    At(Version),
}

/// A tenant as it is stored.
#[derive(Clone, Debug)]
pub struct StoredTenant {
    /// What is said of it.
    pub spec: TenantSpec,
    /// Which state that is.
    pub version: Version,
}

/// What is stored, as far as this node has heard.
#[derive(Clone, Debug, Default)]
pub struct StoredTenants {
    /// By name.
    pub tenants: BTreeMap<String, StoredTenant>,
    /// What of it is not in force, and why.
    pub problems: BTreeMap<String, String>,
}

/// Usage at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct UsagePoint {
    /// Milliseconds since 1970.
    pub at_in_millis: u64,
    /// What the tenant had.
    pub usage: Amount,
}

/// What became of a request for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// Nobody has decided.
    Pending,
    /// The quotas were changed.
    Approved,
    /// They were not.
    Denied,
}

/// A tenant's request for other quotas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaRequest {
    /// Tells it from others.
    #[serde(skip)]
    pub id: String,
    /// Whose.
    pub tenant: String,
    /// The quotas that are asked for; others stay as they are.
    pub wanted: Quotas,
    /// Why.
    pub reason: String,
    /// What became of it.
    pub state: RequestState,
    /// Who asked.
    pub by: String,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Who decided.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decided_by: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decided_at: Option<u64>,
    /// What was said about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comment: Option<String>,
}

/// Why something was not stored or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Something else is there than expected.
    #[error("something else is stored than what the change is based on")]
    Conflict,
    /// Elasticsearch did not answer, or refused it to us.
    #[error("{0}")]
    Unavailable(String),
}

/// An answer of the store.
pub type StoreAnswer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// See the head of this file.
pub trait TenantStore: Send + Sync + 'static {
    /// What this node has heard, seconds ago at most.
    fn heard(&self) -> Arc<StoredTenants>;

    /// A tenant as it is stored now.
    fn tenant<'a>(&'a self, tenant: &'a str) -> StoreAnswer<'a, Option<StoredTenant>>;

    /// Stores a tenant; in force here when this returns.
    fn put_tenant<'a>(
        &'a self,
        tenant: &'a str,
        spec: &'a TenantSpec,
        expected: Expected,
        by: &'a str,
    ) -> StoreAnswer<'a, Version>;

    /// Forgets a tenant; false where there was none.
    fn delete_tenant<'a>(&'a self, tenant: &'a str, expected: Expected) -> StoreAnswer<'a, bool>;

    /// A tenant's usage in the past, oldest first.
    fn history<'a>(&'a self, tenant: &'a str, since: Duration) -> StoreAnswer<'a, Vec<UsagePoint>>;

    /// A tenant's requests, newest first.
    fn requests<'a>(&'a self, tenant: &'a str) -> StoreAnswer<'a, Vec<QuotaRequest>>;

    /// One request, and which state of it.
    fn request<'a>(&'a self, id: &'a str) -> StoreAnswer<'a, Option<(QuotaRequest, Version)>>;

    /// Stores a request.
    fn put_request<'a>(&'a self, request: &'a QuotaRequest, expected: Expected) -> StoreAnswer<'a, Version>;
}
