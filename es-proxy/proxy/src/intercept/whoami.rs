//! `GET /_ivf/_whoami`: on whose account a caller's requests are served, why, and what is left of the limits.
//! Needs what `GET /_security/_authenticate` needs: to be somebody.

use http::header::HeaderValue;
use http::{Method, Uri};
use serde_json::{Map, Value, json};

use crate::door::Caller;
use crate::door::limits::{Gates, Left};
use crate::door::tenant::{Class, ClassLimits};
use crate::intercept::own::{answer, as_caller};
use crate::proxy::{ClientRequest, Reply, Worker};

/// Answers the call.
pub(crate) async fn serve(worker: &Worker, request: &ClientRequest) -> Reply {
    let parts = &request.parts;
    let Some(caller) = Caller::of(parts) else { return answer(parts, "{}".to_owned(), "whoami") };
    let shared = &worker.shared;
    let is_secured = shared.cluster.node().is_none_or(|node| shared.config.security.is_on(&node));
    let claims = caller.identity.claims();
    if is_secured && claims.is_none() {
        let authenticate = Uri::from_static("/_security/_authenticate");
        if let Err(refusal) = as_caller(worker, parts, Method::GET, authenticate, None).await {
            return refusal;
        }
    }
    let tenant = &caller.tenant;
    let mut told = json!({
        "tenant": tenant.name(),
        "rule": caller.rule.name(),
        "source": tenant.source().name(),
        "address": caller.peer.address.ip().to_string(),
        "verified": claims.is_some(),
        "limits": limits(tenant.gates()),
    });
    if let Some(told) = told.as_object_mut() {
        if let Some(claims) = claims {
            told.insert("username".into(), json!(claims.username));
            told.insert("realm".into(), json!(claims.realm));
            if let Some((id, name)) = claims.api_key {
                told.insert("api_key".into(), json!({"id": id, "name": name}));
            }
        }
        if let Some(names) = &caller.peer.certificate {
            told.insert("certificate".into(), json!(names.shown()));
        }
        if let Some(patterns) = tenant.bound_to() {
            told.insert("bound_to".into(), json!(patterns.to_string()));
        }
        let tenants = &shared.config.tenants;
        if let Some(gates) =
            tenants.of_address(caller.peer.address.ip(), caller.identity.claims().is_some(), caller.rule)
        {
            told.insert("limits_of_address".into(), limits(&gates));
        }
    }
    let (mut response, served) = answer(parts, told.to_string(), "whoami");
    // Tomorrow it is another answer.
    response.headers_mut().insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (response, served)
}

/// Limits in force by class, each with what is left.
fn limits(gates: &Gates) -> Value {
    let of = |class: Class| {
        let (limits, left) = gates.in_force(class)?;
        Some((class.name().to_owned(), of_class(limits, left)))
    };
    Value::Object(Class::ALL.into_iter().filter_map(of).collect())
}

fn of_class(limits: &ClassLimits, left: Left) -> Value {
    let mut told = serde_json::to_value(limits).unwrap_or_default();
    let whole = |left: Option<f64>| left.map(|left| json!(left.floor() as i64));
    let left: Map<String, Value> = [
        ("requests", whole(left.requests)),
        ("bytes", whole(left.bytes)),
        ("vectors", whole(left.vectors)),
        ("cost", whole(left.cost)),
        ("concurrency", left.concurrency.map(|left| json!(left))),
    ]
    .into_iter()
    .filter_map(|(name, left)| Some((name.to_owned(), left?)))
    .collect();
    if let Some(told) = told.as_object_mut() {
        told.insert("left".into(), Value::Object(left));
    }
    told
}
