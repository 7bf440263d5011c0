//! Refusals of our own come after Elasticsearch's: whoever may not do a thing at all is told that and
//! nothing else, and by Elasticsearch. Asked only where we are about to refuse.

use http::request::Parts;
use http::{Method, StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;

use crate::body::collect;
use crate::door::identity;
use crate::intercept::own_request::json_request;
use crate::pass;
use crate::proxy::{Reply, Worker};
use crate::respond;
use crate::telemetry::Served;

/// Longest answer that is read.
const MAX_ANSWER: usize = 64 << 10;

/// What a request needs of Elasticsearch's privileges: an action, and the privilege by which it is commonly
/// granted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Needs<'a> {
    /// On an index, or on whatever else has that name.
    Index { name: &'a str, action: &'static str, privilege: &'static str },
    /// In the cluster.
    Cluster { action: &'static str, privilege: &'static str },
}

#[derive(Deserialize)]
struct Has {
    username: String,
    has_all_requested: bool,
}

/// Whether the caller has a privilege; the error is the refusal to be sent.
pub(crate) async fn check(worker: &Worker, parts: &Parts, needs: Needs<'_>) -> Result<(), Reply> {
    if !identity::security_is_on(worker) {
        return Ok(());
    }
    let (body, action) = match needs {
        Needs::Index { name, action, .. } => {
            (json!({"index": [{"names": [name], "privileges": [action]}]}), action)
        }
        Needs::Cluster { action, .. } => (json!({"cluster": [action]}), action),
    };
    let uri = Uri::from_static("/_security/user/_has_privileges");
    let request = json_request(parts, Method::POST, uri, Some(body.to_string()));
    let response = worker.send(request).await.map_err(|failure| worker.failed(&parts.headers, &failure))?;
    match response.status() {
        StatusCode::OK => {}
        // Security is declared, but there is none.
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => return Ok(()),
        _ => return Err((pass::relay(response), Served::new("refuse", "refused_by_elasticsearch"))),
    }
    let read = collect(response.into_body(), MAX_ANSWER).await.ok().flatten();
    let has: Option<Has> = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    match has {
        Some(Has { has_all_requested: true, .. }) => Ok(()),
        Some(Has { username, .. }) => {
            let of = match needs {
                Needs::Index { name, privilege, .. } => {
                    format!(
                        "on indices [{name}], this action is granted by the index privileges [{privilege},all]"
                    )
                }
                Needs::Cluster { privilege, .. } => {
                    format!("this action is granted by the cluster privileges [{privilege},all]")
                }
            };
            let comma = if matches!(needs, Needs::Cluster { .. }) { "," } else { "" };
            let reason = format!("action [{action}] is unauthorized for user [{username}]{comma} {of}");
            Err(refusal(parts, &reason))
        }
        None => {
            let reason = "Elasticsearch's word on privileges could not be read";
            let kind = "connection_closed_exception";
            let response = respond::error(&parts.headers, StatusCode::BAD_GATEWAY, kind, reason);
            Err((response, Served::new("fail", "privileges_unreadable")))
        }
    }
}

/// 403 in Elasticsearch's shape.
pub(crate) fn refusal(parts: &Parts, reason: &str) -> Reply {
    let response = respond::error(&parts.headers, StatusCode::FORBIDDEN, "security_exception", reason);
    (response, Served::new("refuse", "security"))
}
