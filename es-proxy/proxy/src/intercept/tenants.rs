//! `/_ivf/_tenants`: what is said of tenants, what they have, and what they ask for. A tenant sees its own page and may
//! ask for more; all else is an administrator's ([`access`]).

mod access;
mod body;
mod requests;

use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::audit::Change;
use crate::door::Caller;
use crate::door::tenant::{Quotas, Source, Tenant, TenantSpec};
use crate::intercept::own::{self, answer, no_handler, text_of};
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::quota::account::Usage;
use crate::quota::{Expected, Resource, StoreError, TenantStore, Version};

/// A call that was not served, and its answer.
struct Refusal(Box<Reply>);

impl From<Reply> for Refusal {
    fn from(reply: Reply) -> Self {
        Self(Box::new(reply))
    }
}

/// Serves a call below `/_ivf/_tenants`.
pub(super) async fn serve(worker: &Worker, segments: &[&str], request: ClientRequest) -> Reply {
    let method = request.parts.method.clone();
    let served = match (&method, segments) {
        (&Method::GET, []) => list(worker, &request.parts).await,
        (&Method::GET, [tenant]) => show(worker, tenant, &request.parts).await,
        (&Method::PUT, [tenant]) => put(worker, tenant, request).await,
        (&Method::DELETE, [tenant]) => delete(worker, tenant, &request.parts).await,
        (&Method::GET, [tenant, "_usage"]) => usage(worker, tenant, &request.parts).await,
        (&Method::GET, [tenant, "_requests"]) => requests::list(worker, tenant, &request.parts).await,
        (&Method::POST, [tenant, "_requests"]) => requests::file(worker, tenant, request).await,
        (&Method::POST, [tenant, "_requests", id, "_approve"]) => {
            requests::decide(worker, tenant, id, true, request).await
        }
        (&Method::POST, [tenant, "_requests", id, "_deny"]) => {
            requests::decide(worker, tenant, id, false, request).await
        }
        _ => {
            let segments: Vec<&str> = std::iter::once("_tenants").chain(segments.iter().copied()).collect();
            Ok(no_handler(&request.parts, &segments))
        }
    };
    served.unwrap_or_else(|Refusal(reply)| *reply)
}

async fn list(worker: &Worker, parts: &Parts) -> Result<Reply, Refusal> {
    access::admin(worker, parts).await?;
    let tenants = worker.shared.config.tenants.all();
    let shown = tenants.iter().map(|tenant| (tenant.name().to_owned(), page(worker, tenant)));
    let mut shown: Map<String, Value> = shown.collect();
    if let Some(store) = &worker.shared.tenant_store {
        for (tenant, problem) in &store.heard().problems {
            shown.entry(tenant.clone()).or_insert_with(|| json!({"source": "stored"}))["problem"] =
                json!(problem);
        }
    }
    Ok(answer(parts, json!({"tenants": shown}).to_string(), "tenants"))
}

async fn show(worker: &Worker, name: &str, parts: &Parts) -> Result<Reply, Refusal> {
    access::own_or_admin(worker, parts, name).await?;
    let tenant = find(worker, name, parts)?;
    let mut shown = json!({"tenant": name});
    let mut page = page(worker, &tenant);
    if tenant.source() == Source::Stored
        && let Some(stored) =
            store(worker, parts)?.tenant(name).await.map_err(|error| failed(parts, &error))?
    {
        // As it is now, which may be newer than what is in force.
        page["spec"] = json!(stored.spec);
        page["_seq_no"] = json!(stored.version.seq_no);
        page["_primary_term"] = json!(stored.version.primary_term);
    }
    merge(&mut shown, page);
    Ok(answer(parts, shown.to_string(), "tenants"))
}

async fn put(worker: &Worker, name: &str, request: ClientRequest) -> Result<Reply, Refusal> {
    let who = access::admin(worker, &request.parts).await?;
    let (parts, text) = text_of(worker, request).await?;
    let spec: TenantSpec = body::read(&parts, "tenant", &text)?;
    let checked = spec.check(name).and_then(|()| spec.check_quotas());
    checked.map_err(|reason| bad_request(&parts, "illegal_argument_exception", &reason))?;
    not_in_file(worker, name, &parts)?;
    let (store, expected) = (store(worker, &parts)?, expected(&parts)?);
    let before = worker.shared.config.tenants.get(name).filter(|tenant| tenant.source() == Source::Stored);
    let is_new = before.is_none();
    let version =
        store.put_tenant(name, &spec, expected, &who).await.map_err(|error| failed(&parts, &error))?;
    tracing::info!(tenant = name, by = who, seq_no = version.seq_no, "tenant changed");
    let before = before.map_or_else(|| "null".to_owned(), |tenant| json!(tenant.spec()).to_string());
    changed(worker, &parts, &who, name, "tenant", &before, &json!(spec).to_string());
    let result = if is_new { "created" } else { "updated" };
    let body = json!({
        "acknowledged": true, "tenant": name, "result": result,
        "_seq_no": version.seq_no, "_primary_term": version.primary_term,
    });
    let mut body = body;
    if let Some(problem) = store.heard().problems.get(name) {
        body["problem"] = json!(problem);
    }
    Ok(answer(&parts, body.to_string(), "tenants"))
}

async fn delete(worker: &Worker, name: &str, parts: &Parts) -> Result<Reply, Refusal> {
    let who = access::admin(worker, parts).await?;
    not_in_file(worker, name, parts)?;
    if TenantSpec::check_name(name).is_err() {
        return Err(not_found(parts, name));
    }
    let (store, expected) = (store(worker, parts)?, expected(parts)?);
    let before = worker.shared.config.tenants.get(name).map(|tenant| json!(tenant.spec()).to_string());
    if !store.delete_tenant(name, expected).await.map_err(|error| failed(parts, &error))? {
        return Err(not_found(parts, name));
    }
    tracing::info!(tenant = name, by = who, "tenant deleted");
    changed(worker, parts, &who, name, "tenant", before.as_deref().unwrap_or("null"), "null");
    Ok(answer(parts, json!({"acknowledged": true}).to_string(), "tenants"))
}

async fn usage(worker: &Worker, name: &str, parts: &Parts) -> Result<Reply, Refusal> {
    access::own_or_admin(worker, parts, name).await?;
    let tenant = find(worker, name, parts)?;
    let mut body = json!({"tenant": name, "usage": usage_of(worker, &tenant)});
    let params = parts.uri.query().and_then(es_wire::Params::parse);
    if let Some(since) = params.as_ref().and_then(|params| params.get("history")) {
        let since = match since {
            "" | "true" => "168h",
            other => other,
        };
        let since: crate::units::Time = since
            .parse()
            .map_err(|reason: String| bad_request(parts, "illegal_argument_exception", &reason))?;
        let points =
            store(worker, parts)?.history(name, since.0).await.map_err(|error| failed(parts, &error))?;
        let points: Vec<Value> = points
            .iter()
            .map(|point| {
                let mut shown = json!({"at_in_millis": point.at_in_millis});
                merge(&mut shown, json!(point.usage));
                shown
            })
            .collect();
        body["history"] = json!(points);
    }
    Ok(answer(parts, body.to_string(), "tenants"))
}

/// What is in force of a tenant, and what it has.
fn page(worker: &Worker, tenant: &Tenant) -> Value {
    let mut page =
        json!({"source": tenant.source().name(), "spec": tenant.spec(), "usage": usage_of(worker, tenant)});
    let heard = worker.shared.tenant_store.as_ref().map(|store| store.heard());
    if let Some(problem) = heard.as_ref().and_then(|heard| heard.problems.get(tenant.name())) {
        page["problem"] = json!(problem);
    }
    if let Some(stored) = heard.as_ref().and_then(|heard| heard.tenants.get(tenant.name()))
        && tenant.source() == Source::Stored
    {
        page["_seq_no"] = json!(stored.version.seq_no);
        page["_primary_term"] = json!(stored.version.primary_term);
    }
    page
}

/// Usage of each resource beside its limit; nothing of a tenant without indices of its own.
fn usage_of(worker: &Worker, tenant: &Tenant) -> Value {
    let ledger = &worker.shared.ledger;
    match ledger.account(tenant.name()) {
        Some(account) => {
            shown_usage(ledger.usage(&account, &worker.shared.cluster.catalog()), &tenant.spec().quotas)
        }
        None => json!({}),
    }
}

fn shown_usage(usage: Usage, quotas: &Quotas) -> Value {
    let mut shown = Map::new();
    for resource in Resource::ALL {
        let total = usage.total().of(resource);
        let mut of = json!({"used": usage.measured.unwrap_or(usage.pending).of(resource)});
        if usage.measured.is_some() {
            of["pending"] = json!(usage.pending.of(resource));
        }
        if let Some(limit) = resource.limit(quotas) {
            of["limit"] = json!(limit);
            let percent = if limit == 0 { 100.0 } else { total as f64 * 100.0 / limit as f64 };
            of["percent"] = json!((percent * 10.0).round() / 10.0);
        }
        shown.insert(resource.name().to_owned(), of);
    }
    Value::Object(shown)
}

fn find(worker: &Worker, name: &str, parts: &Parts) -> Result<std::sync::Arc<Tenant>, Refusal> {
    worker.shared.config.tenants.get(name).ok_or_else(|| not_found(parts, name))
}

fn not_in_file(worker: &Worker, name: &str, parts: &Parts) -> Result<(), Refusal> {
    let in_file = worker.shared.config.tenants.config().tenants.contains_key(name);
    if in_file {
        let reason = format!("tenant [{name}] is configured in a file, which wins; change it there");
        return Err(bad_request(parts, "illegal_argument_exception", &reason));
    }
    Ok(())
}

fn store<'w>(worker: &'w Worker, parts: &Parts) -> Result<&'w dyn TenantStore, Refusal> {
    worker.shared.tenant_store.as_deref().ok_or_else(|| {
        bad_request(parts, "illegal_argument_exception", "this node keeps tenants in its configuration alone")
    })
}

/// `if_seq_no` and `if_primary_term`, or `op_type=create`.
fn expected(parts: &Parts) -> Result<Expected, Refusal> {
    let Some(query) = parts.uri.query() else { return Ok(Expected::Any) };
    let params = es_wire::Params::parse(query);
    let params =
        params.ok_or_else(|| bad_request(parts, "illegal_argument_exception", "bad query string"))?;
    let number = |name: &str| match params.get(name).map(str::parse::<i64>) {
        None => Ok(None),
        Some(Ok(number)) if number >= 0 => Ok(Some(number)),
        Some(_) => {
            let reason = format!("Failed to parse value of [{name}]: a whole number, not negative");
            Err(bad_request(parts, "illegal_argument_exception", &reason))
        }
    };
    match (number("if_seq_no")?, number("if_primary_term")?, params.get("op_type")) {
        (None, None, None | Some("index")) => Ok(Expected::Any),
        (None, None, Some("create")) => Ok(Expected::Absent),
        (Some(seq_no), Some(term), None | Some("index")) => {
            Ok(Expected::At(Version { seq_no, primary_term: term as u64 }))
        }
        _ => {
            let reason = "Validation Failed: 1: [if_seq_no] and [if_primary_term] belong together, and not to [op_type];";
            Err(bad_request(parts, "action_request_validation_exception", reason))
        }
    }
}

/// Who changed what goes to the audit log.
fn changed(worker: &Worker, parts: &Parts, by: &str, tenant: &str, what: &str, from: &str, to: &str) {
    if let Some(audit) = &worker.shared.audit {
        let origin = Caller::of(parts).map(|caller| caller.peer.address);
        audit.changed(&Change { by, origin, tenant, what, from, to });
    }
}

fn failed(parts: &Parts, error: &StoreError) -> Refusal {
    match error {
        StoreError::Conflict => {
            let kind = "version_conflict_engine_exception";
            let reason = "version conflict: the tenant was changed meanwhile; read it again";
            refuse(parts, StatusCode::CONFLICT, kind, reason)
        }
        StoreError::Unavailable(reason) => {
            refuse(parts, StatusCode::SERVICE_UNAVAILABLE, "status_exception", reason)
        }
    }
}

fn not_found(parts: &Parts, name: &str) -> Refusal {
    let reason = format!("tenant [{name}] not found");
    refuse(parts, StatusCode::NOT_FOUND, "resource_not_found_exception", &reason)
}

fn bad_request(parts: &Parts, kind: &str, reason: &str) -> Refusal {
    refuse(parts, StatusCode::BAD_REQUEST, kind, reason)
}

fn refuse(parts: &Parts, status: StatusCode, kind: &str, reason: &str) -> Refusal {
    own::refuse(parts, status, kind, reason).into()
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::Amount;

    fn of(query: &str) -> Result<Expected, u16> {
        let parts =
            http::Request::builder().uri(format!("/_ivf/_tenants/a{query}")).body(()).unwrap().into_parts().0;
        expected(&parts).map_err(|Refusal(reply)| reply.0.status().as_u16())
    }

    #[test]
    fn what_a_change_is_based_on_is_said_as_in_elasticsearch() {
        let at = Version { seq_no: 3, primary_term: 1 };
        assert_eq!(of(""), Ok(Expected::Any));
        assert_eq!(of("?pretty"), Ok(Expected::Any));
        assert_eq!(of("?op_type=create"), Ok(Expected::Absent));
        assert_eq!(of("?if_seq_no=3&if_primary_term=1"), Ok(Expected::At(at)));
        for wrong in [
            "?if_seq_no=3",
            "?if_seq_no=x&if_primary_term=1",
            "?if_seq_no=-2&if_primary_term=1",
            "?op_type=update",
        ] {
            assert_eq!(of(wrong), Err(400), "{wrong}");
        }
    }

    #[test]
    fn usage_stands_beside_its_limit() {
        let measured = Some(Amount { vectors: 7, indices: 1, ..Amount::default() });
        let usage = Usage { measured, pending: Amount { vectors: 1, ..Amount::default() } };
        let shown = shown_usage(usage, &Quotas { vectors: Some(10), shards: Some(0), ..Quotas::default() });
        assert_eq!(shown["vectors"], json!({"used": 7, "pending": 1, "limit": 10, "percent": 80.0}));
        assert_eq!(shown["indices"], json!({"used": 1, "pending": 0}));
        assert_eq!(shown["shards"]["percent"], 100.0);
    }
}
