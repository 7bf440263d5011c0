//! The request path: everything between a client's connection and Elasticsearch's answer.
//!
//! | phase | file | what happens |
//! |---|---|---|
//! | accept | [`accept`] | listen, hand connections to worker threads, HTTP/1.1, drain |
//! | handshake | [`handshake`] | TLS, where it is configured |
//! | classify | [`classify`] | method, path and query become a [`classify::Route`] |
//! | door | [`door`] | whose request is it, and is there room for it? |
//! | quota | [`quota`] | is there room for what it adds to a tenant's indices? |
//! | pass | [`pass`] | stream to Elasticsearch and back; never parsed |
//! | intercept | [`intercept`] | search, mapping (in and out), refresh, index life, lists of nodes, `/_ivf`: one file each |
//! | documents | [`documents`] | what earlier searches fetched, for hits found again |
//! | brake | [`brake`] | knn that must pass to an offload field is an exact scan: limited |
//! | respond | [`respond`] | responses of our own: headers, encoding |
//! | rescue | [`rescue`] | any failure becomes an error of Elasticsearch's shape |
//! | telemetry | [`telemetry`] | one event, one log line, one metric |
//! | audit | [`audit`] | who asked what and how it was decided, as a log of its own |
//!
//! A worker is one thread with its own runtime and its own upstream connections: a request never
//! changes threads. The engine, the feed and the catalog are reached through [`ports`] alone.

#![forbid(unsafe_code)]

mod accept;
mod advertise;
mod aside;
mod audit;
mod body;
mod brake;
mod classify;
mod config;
mod documents;
mod door;
mod handshake;
mod insight;
mod intercept;
mod mode;
mod pass;
mod ports;
mod proxy;
mod quota;
mod rescue;
mod respond;
mod shadow;
mod telemetry;
pub mod units;
mod upstream;

pub use accept::{Server, bind};
pub use advertise::{Advertise, AdvertisedNodes, HostPort};
pub use audit::{AuditEvents, AuditLog, AuditTarget, Change};
pub use config::{ClientTimeouts, HeadLimits, PassedKnnLimits, ProxyConfig, SecurityMode, UpstreamAddress};
pub use door::limits::fair::{FairGate, Flow, Full, GateMetrics, Place};
pub use door::measured::MeasuredDoor;
pub use door::tenant::{
    AddressLimits, Class, ClassLimits, DEFAULT_TENANT, OTHER_TENANT, Problem, Quotas, Source, Tenant,
    TenantConfig, TenantSpec, Tenants,
};
pub use insight::{DocumentFate, Lost, RecallPoint, RecallQuery, SeenList, ShardWork};
pub use mode::{Mode, Modes};
pub use ports::{
    BoxFuture, BuildCommand, Cluster, KnnAnswer, KnnHit, KnnQuestion, KnnSource, KnnUnavailable, NodeFacts,
    ProfiledAnswer, RecallMeasure, Scope,
};
pub use proxy::Proxy;
pub use quota::{
    Amount, Exceeded, Expected, IndexMeasured, Ledger, Measuring, QuotaRequest, RequestState, Resource,
    StoreAnswer, StoreError, StoredTenant, StoredTenants, TenantStore, UsagePoint, Version, vector_bytes,
};
pub use telemetry::Telemetry;
