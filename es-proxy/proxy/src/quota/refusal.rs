//! What quotas refuse, and to whom it is told: whoever may not do a thing at all gets Elasticsearch's refusal, and
//! learns nothing of anybody's usage.

use http::request::Parts;
use http::{Method, StatusCode};

use crate::door::identity::security_is_on;
use crate::intercept::own::{ask, refuse};
use crate::intercept::privilege::{self, Needs};
use crate::proxy::{Reply, Worker};
use crate::quota::account::Account;
use crate::quota::amount::Exceeded;
use crate::respond;
use crate::telemetry::Served;

/// What writing a document needs.
pub(crate) fn writes(index: &str) -> Needs<'_> {
    Needs::Index {
        name: index,
        action: "indices:data/write/index",
        privilege: "create_doc,create,index,write",
    }
}

/// What creating an index needs.
pub(crate) fn creates(index: &str) -> Needs<'_> {
    Needs::Index { name: index, action: "indices:admin/create", privilege: "create_index,manage" }
}

/// The refusal of what would exceed a quota.
pub(crate) async fn refused(worker: &Worker, parts: &Parts, needs: Needs<'_>, exceeded: &Exceeded) -> Reply {
    if let Err(reply) = privilege::check(worker, parts, needs).await {
        return reply;
    }
    worker.shared.ledger.refused(&exceeded.tenant, exceeded.resource);
    let response = respond::error_with_body(&parts.headers, StatusCode::FORBIDDEN, exceeded.body());
    (response, Served::new("refuse", "quota"))
}

/// What cannot be counted is not let in.
pub(crate) async fn unreadable(worker: &Worker, parts: &Parts, why: &str) -> Reply {
    if let Err(reply) = is_somebody(worker, parts).await {
        return reply;
    }
    let reason = format!("quotas are in force, and {why}; use application/json or application/x-ndjson");
    refuse(parts, StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type_header_exception", &reason)
}

/// While usage is not known there is no telling whether there is room.
pub(crate) async fn not_known(worker: &Worker, parts: &Parts, account: &Account) -> Reply {
    if let Err(reply) = is_somebody(worker, parts).await {
        return reply;
    }
    refuse(parts, StatusCode::SERVICE_UNAVAILABLE, "status_exception", &unknown_usage(&account.tenant))
}

/// The sentence for it.
pub(crate) fn unknown_usage(tenant: &str) -> String {
    format!("usage of tenant [{tenant}] has not been measured yet, and its quotas are in force")
}

/// Elasticsearch's refusal of a caller that it does not know.
pub(crate) async fn is_somebody(worker: &Worker, parts: &Parts) -> Result<(), Reply> {
    if !security_is_on(worker) {
        return Ok(());
    }
    ask(worker, parts, Method::GET, "/_security/_authenticate", None).await.map(drop)
}
