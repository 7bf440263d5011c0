//! Requests for more: a tenant says what it wants and why, an administrator approves, which changes the quotas, or
//! denies.

use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;
use http::request::Parts;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::door::tenant::{Quotas, TenantSpec};
use crate::intercept::own::{answer, text_of};
use crate::intercept::tenants::{
    Refusal, access, bad_request, body, failed, find, not_in_file, refuse, store,
};
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::quota::{Expected, QuotaRequest, RequestState, StoreError, TenantStore};

/// Requests of a tenant that may wait for a decision.
const MAX_PENDING: usize = 20;
/// Bytes of a reason or comment.
const MAX_TEXT: usize = 4_000;
/// Times that a quota is changed again because somebody else changed the tenant meanwhile.
const TRIES: usize = 5;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filed {
    quotas: Quotas,
    reason: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Decided {
    comment: Option<String>,
}

/// `GET /_ivf/_tenants/{tenant}/_requests`.
pub(super) async fn list(worker: &Worker, tenant: &str, parts: &Parts) -> Result<Reply, Refusal> {
    access::own_or_admin(worker, parts, tenant).await?;
    find(worker, tenant, parts)?;
    let found = store(worker, parts)?.requests(tenant).await.map_err(|error| failed(parts, &error))?;
    let shown: Vec<Value> = found.iter().map(shown).collect();
    Ok(answer(parts, json!({"tenant": tenant, "requests": shown}).to_string(), "tenants"))
}

/// `POST /_ivf/_tenants/{tenant}/_requests`.
pub(super) async fn file(worker: &Worker, tenant: &str, request: ClientRequest) -> Result<Reply, Refusal> {
    let who = access::own_or_admin(worker, &request.parts, tenant).await?;
    let known = find(worker, tenant, &request.parts)?;
    let (parts, text) = text_of(worker, request).await?;
    let filed: Filed = body::read(&parts, "quota_request", &text)?;
    let wanted = TenantSpec { quotas: filed.quotas, ..known.spec().clone() };
    wanted.check_quotas().map_err(|reason| bad_request(&parts, "illegal_argument_exception", &reason))?;
    if filed.quotas.is_empty() || filed.reason.trim().is_empty() || filed.reason.len() > MAX_TEXT {
        let reason = format!("a request names [quotas] and a [reason] of at most {MAX_TEXT} bytes");
        return Err(bad_request(&parts, "illegal_argument_exception", &reason));
    }
    let store = store(worker, &parts)?;
    let waiting = store.requests(tenant).await.map_err(|error| failed(&parts, &error))?;
    if waiting.iter().filter(|request| request.state == RequestState::Pending).count() >= MAX_PENDING {
        let reason = format!("[{MAX_PENDING}] requests of tenant [{tenant}] wait for a decision already");
        return Err(refuse(
            &parts,
            StatusCode::TOO_MANY_REQUESTS,
            "es_rejected_execution_exception",
            &reason,
        ));
    }
    let request = QuotaRequest {
        id: new_id(),
        tenant: tenant.to_owned(),
        wanted: filed.quotas,
        reason: filed.reason,
        state: RequestState::Pending,
        by: who,
        at: now_in_millis(),
        decided_by: None,
        decided_at: None,
        comment: None,
    };
    store.put_request(&request, Expected::Absent).await.map_err(|error| failed(&parts, &error))?;
    tracing::info!(tenant, id = request.id, by = request.by, "a tenant asks for other quotas");
    Ok(answer(&parts, shown(&request).to_string(), "tenants"))
}

/// `POST /_ivf/_tenants/{tenant}/_requests/{id}/_approve` and `…/_deny`.
pub(super) async fn decide(
    worker: &Worker,
    tenant: &str,
    id: &str,
    approve: bool,
    request: ClientRequest,
) -> Result<Reply, Refusal> {
    let who = access::admin(worker, &request.parts).await?;
    let (parts, text) = text_of(worker, request).await?;
    let decided = match text.trim() {
        "" => Decided::default(),
        text => body::read(&parts, "decision", text)?,
    };
    if decided.comment.as_ref().is_some_and(|comment| comment.len() > MAX_TEXT) {
        return Err(bad_request(&parts, "illegal_argument_exception", "[comment] is too long"));
    }
    if approve {
        not_in_file(worker, tenant, &parts)?;
    }
    let store = store(worker, &parts)?;
    let missing = || {
        let reason = format!("tenant [{tenant}] has no request [{id}]");
        refuse(&parts, StatusCode::NOT_FOUND, "resource_not_found_exception", &reason)
    };
    // It stands in a URL.
    if !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(missing());
    }
    let found = store.request(id).await.map_err(|error| failed(&parts, &error))?;
    let (before, version) = found.filter(|(request, _)| request.tenant == tenant).ok_or_else(missing)?;
    if before.state != RequestState::Pending {
        let reason = format!("request [{id}] was decided already");
        return Err(refuse(&parts, StatusCode::CONFLICT, "version_conflict_engine_exception", &reason));
    }
    let after = QuotaRequest {
        state: if approve { RequestState::Approved } else { RequestState::Denied },
        decided_by: Some(who.clone()),
        decided_at: Some(now_in_millis()),
        comment: decided.comment,
        ..before.clone()
    };
    // First who decided, so that two who decide at once do not both change the quotas.
    let version =
        store.put_request(&after, Expected::At(version)).await.map_err(|error| failed(&parts, &error))?;
    let raised = if approve { raise(store, tenant, &after.wanted, &who).await.map(Some) } else { Ok(None) };
    match raised {
        Ok(Some((from, to))) => {
            super::changed(
                worker,
                &parts,
                &who,
                tenant,
                "quotas",
                &json!(from).to_string(),
                &json!(to).to_string(),
            );
        }
        Ok(None) => {}
        Err(error) => {
            if let Err(error) = store.put_request(&before, Expected::At(version)).await {
                tracing::warn!(tenant, id, %error, "a request stands as approved, but the quotas could not be changed");
            }
            return Err(
                error.map_or_else(|| super::not_found(&parts, tenant), |error| failed(&parts, &error))
            );
        }
    }
    tracing::info!(tenant, id, by = who, approved = approve, "a request for other quotas was decided");
    Ok(answer(&parts, shown(&after).to_string(), "tenants"))
}

/// Changes the quotas that are named, and returns what they were and are. The error is none where there is no such
/// tenant.
async fn raise(
    store: &dyn TenantStore,
    tenant: &str,
    wanted: &Quotas,
    who: &str,
) -> Result<(Quotas, Quotas), Option<StoreError>> {
    for _ in 0..TRIES {
        let stored = store.tenant(tenant).await.map_err(Some)?.ok_or(None)?;
        let mut spec = stored.spec;
        let before = spec.quotas;
        spec.quotas = merged(before, wanted);
        match store.put_tenant(tenant, &spec, Expected::At(stored.version), who).await {
            Ok(_) => return Ok((before, spec.quotas)),
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(Some(error)),
        }
    }
    Err(Some(StoreError::Conflict))
}

fn merged(before: Quotas, wanted: &Quotas) -> Quotas {
    Quotas {
        indices: wanted.indices.or(before.indices),
        shards: wanted.shards.or(before.shards),
        vectors: wanted.vectors.or(before.vectors),
        vector_bytes: wanted.vector_bytes.or(before.vector_bytes),
        document_bytes: wanted.document_bytes.or(before.document_bytes),
    }
}

fn shown(request: &QuotaRequest) -> Value {
    let mut shown = json!({"id": request.id});
    super::merge(&mut shown, serde_json::to_value(request).unwrap_or_default());
    shown
}

fn now_in_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Nobody needs to guess it: whoever decides is an administrator. Two at the same time must differ.
fn new_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{:x}{:08x}", now_in_millis(), RandomState::new().hash_one(now_in_millis()) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_for_changes() {
        let before = Quotas { indices: Some(5), vectors: Some(10), ..Quotas::default() };
        let wanted = Quotas { vectors: Some(20), shards: Some(3), ..Quotas::default() };
        let after = Quotas { indices: Some(5), vectors: Some(20), shards: Some(3), ..Quotas::default() };
        assert_eq!(merged(before, &wanted), after);
    }

    #[test]
    fn ids_differ() {
        let ids: std::collections::HashSet<String> = (0..100).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 100);
    }
}
