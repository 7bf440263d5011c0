//! Who may do what with tenants.
//!
//! Where Elasticsearch has security, an administrator is whoever has the cluster privilege `manage`; Elasticsearch is
//! asked with the caller's own credentials. Where it has none, an administrator is whoever carries the token of the
//! admin port or, where there is no such token, who calls from this machine and is no tenant by a rule: as with the
//! admin port itself. A tenant may see its own page, and ask for more; whose a request is was decided at the door.

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::door::Caller;
use crate::door::tenant::Rule;
use crate::intercept::own::ask;
use crate::intercept::tenants::{Refusal, refuse};
use crate::proxy::Worker;

/// Asks for no more than whether the caller has the privilege.
const MANAGE: &str = r#"{"cluster":["manage"]}"#;

/// Lets an administrator through; who that is, for the log.
pub(super) async fn admin(worker: &Worker, parts: &Parts) -> Result<String, Refusal> {
    if !has_security(worker) {
        return without_security(worker, parts);
    }
    let path = "/_security/user/_has_privileges";
    let text = ask(worker, parts, Method::POST, path, Some(MANAGE.to_owned())).await?;
    let told: Value = serde_json::from_str(&text).unwrap_or_default();
    let who = told["username"].as_str().unwrap_or("unknown");
    if told["has_all_requested"] == true {
        return Ok(who.to_owned());
    }
    Err(unauthorized(parts, who))
}

/// The same, or the tenant itself.
pub(super) async fn own_or_admin(worker: &Worker, parts: &Parts, tenant: &str) -> Result<String, Refusal> {
    let is_own = Caller::of(parts).is_some_and(|caller| {
        caller.tenant.name() == tenant && !matches!(caller.rule, Rule::Unmatched | Rule::UnknownHeader)
    });
    if !is_own {
        return admin(worker, parts).await;
    }
    if !has_security(worker) {
        return Ok(address(parts));
    }
    // A header or a name makes it the tenant's page; only Elasticsearch says whether there is anybody at all.
    let text = ask(worker, parts, Method::GET, "/_security/_authenticate", None).await?;
    let told: Value = serde_json::from_str(&text).unwrap_or_default();
    Ok(told["username"].as_str().unwrap_or("unknown").to_owned())
}

fn has_security(worker: &Worker) -> bool {
    let node = worker.shared.cluster.node();
    node.is_none_or(|node| worker.shared.config.security.is_on(&node))
}

fn without_security(worker: &Worker, parts: &Parts) -> Result<String, Refusal> {
    let who = address(parts);
    let is_admin = match &worker.shared.admin_token {
        Some(token) => carries(parts, token),
        None => Caller::of(parts).is_some_and(|caller| {
            caller.rule == Rule::Unmatched && caller.peer.address.ip().to_canonical().is_loopback()
        }),
    };
    if is_admin { Ok(who) } else { Err(unauthorized(parts, &who)) }
}

fn address(parts: &Parts) -> String {
    Caller::of(parts).map_or_else(String::new, |caller| caller.peer.address.ip().to_string())
}

/// Compared in a time that does not depend on where they differ.
fn carries(parts: &Parts, token: &str) -> bool {
    let sent = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(sent) = sent.and_then(|value| value.strip_prefix("Bearer ")) else { return false };
    let differing = sent.bytes().zip(token.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b));
    sent.len() == token.len() && differing == 0
}

fn unauthorized(parts: &Parts, who: &str) -> Refusal {
    let reason = format!(
        "action [cluster:admin/outrigger/tenants] is unauthorized for user [{who}], this action is granted by the \
         cluster privileges [manage,all]"
    );
    refuse(parts, StatusCode::FORBIDDEN, "security_exception", &reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_carried_whole_or_not_at_all() {
        let parts = |value: &str| {
            http::Request::builder().header("authorization", value).body(()).unwrap().into_parts().0
        };
        assert!(carries(&parts("Bearer s3cret"), "s3cret"));
        for wrong in ["Bearer s3cre", "Bearer s3crets", "Bearer S3cret", "s3cret", "Basic s3cret", "Bearer "]
        {
            assert!(!carries(&parts(wrong), "s3cret"), "{wrong}");
        }
    }
}
