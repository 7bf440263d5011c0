//! Mappings on their way in: `ivf` becomes what Elasticsearch knows. What changes the set of indices makes
//! the catalog be read again before the client hears of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use es_wire::Capabilities;
use es_wire::{
    ExistingField, MappingContext, MappingError, existing_fields, translate_create, translate_template,
    translate_update,
};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri};

use crate::body::{RequestBody, Unread, collect};
use crate::intercept::own_request::json_request;
use crate::intercept::pass_search::inflated;
use crate::intercept::privilege::{self, Needs};
use crate::intercept::show::{self, MAX_SHOWN_BYTES};
use crate::pass;
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::respond;
use crate::telemetry::Served;

type Translate = fn(&str, &MappingContext<'_>) -> Result<Option<String>, MappingError>;

/// `PUT /{index}`, a rollover.
pub(crate) async fn create(worker: &Worker, request: ClientRequest) -> Reply {
    send(worker, translate(worker, request, translate_create, None).await).await
}

/// `PUT /{target}/_mapping`.
pub(crate) async fn update(worker: &Worker, target: &str, request: ClientRequest) -> Reply {
    send(worker, translate(worker, request, translate_update, Some(target)).await).await
}

/// `PUT /_data_stream/{name}/_mappings`: the answer has mappings, too.
pub(crate) async fn update_data_stream(worker: &Worker, request: ClientRequest) -> Reply {
    match translate(worker, request, translate_update, None).await {
        Ok((request, _)) => {
            let reply = show::show(worker, request).await;
            read_again_after(worker, reply).await
        }
        Err(reply) => reply,
    }
}

/// `PUT /_index_template/{name}` and its kin.
pub(crate) async fn template(worker: &Worker, request: ClientRequest) -> Reply {
    match translate(worker, request, translate_template, None).await {
        Ok((request, served)) => pass::through(worker, request, served).await,
        Err(reply) => reply,
    }
}

/// `POST /_index_template/_simulate`: nothing is made, and the answer has mappings.
pub(crate) async fn simulate(worker: &Worker, request: ClientRequest) -> Reply {
    match translate(worker, request, translate_template, None).await {
        Ok((request, _)) => show::show(worker, request).await,
        Err(reply) => reply,
    }
}

/// Passes, and reads the catalog again when it succeeded.
pub(crate) async fn index_life(worker: &Worker, request: ClientRequest) -> Reply {
    let reply = pass::through(worker, request, Served::pass("index_life")).await;
    read_again_after(worker, reply).await
}

/// Sends what was translated, and reads the catalog again when it succeeded.
async fn send(worker: &Worker, translated: Result<(ClientRequest, Served), Reply>) -> Reply {
    match translated {
        Ok((request, served)) => {
            let reply = pass::through(worker, request, served).await;
            read_again_after(worker, reply).await
        }
        Err(reply) => reply,
    }
}

async fn read_again_after(worker: &Worker, reply: Reply) -> Reply {
    if reply.0.status().is_success() {
        worker.read_catalog_again().await;
    }
    reply
}

/// The request as Elasticsearch shall get it, or the refusal.
async fn translate(
    worker: &Worker,
    request: ClientRequest,
    translate: Translate,
    target: Option<&str>,
) -> Result<(ClientRequest, Served), Reply> {
    let node = worker.shared.cluster.node();
    let Some(capabilities) = node.as_ref().and_then(|node| node.capabilities.as_ref()) else {
        return Ok((request, Served::pass("version_unknown")));
    };
    let ClientRequest { parts, body } = request;
    let cap = worker.shared.config.max_intercept_bytes;
    let (body, read) = match body.peek(cap).await {
        Ok(peeked) => peeked,
        Err(failure) => return Err(worker.failed(&parts.headers, &failure.into())),
    };
    let plain = match read {
        Ok(bytes) => inflated(worker, &parts.headers, bytes, cap).await,
        Err(unread) => Err(unread),
    };
    // Unread, Elasticsearch would refuse it for a type that it does not know.
    if plain == Err(Unread::NoRoom) {
        return Err(respond::no_room(&parts.headers));
    }
    let plain = plain.ok();
    let text = plain
        .as_deref()
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .filter(|_| is_json(&parts.headers));
    let mut request = ClientRequest { parts, body };
    let mut served = Served::pass("mapping_untouched");
    if let Some(text) = text.filter(|text| text.contains("dense_vector")) {
        let uri = request.parts.uri.clone();
        let segments = es_wire::segments(uri.path()).unwrap_or_default();
        match translated(worker, &request.parts, text, translate, target, capabilities).await {
            Ok(None) => {}
            Ok(Some(new)) => {
                request.parts.headers.remove(CONTENT_LENGTH);
                request.parts.headers.remove(CONTENT_ENCODING);
                request.body = RequestBody::full(Bytes::from(new));
                served = Served::new("translate", "ivf");
            }
            Err(error) => {
                privilege::check(worker, &request.parts, needs(&segments)).await?;
                let response =
                    respond::error_with_body(&request.parts.headers, StatusCode::BAD_REQUEST, error.body());
                return Err((response, Served::new("refuse", "bad_mapping")));
            }
        }
    }
    Ok((request, served))
}

/// What Elasticsearch would want of whoever changes a mapping by this path.
fn needs<'a>(segments: &'a [Cow<'_, str>]) -> Needs<'a> {
    let parts: Vec<&str> = segments.iter().map(|part| &**part).collect();
    let manage = |name, action| Needs::Index { name, privilege: "manage", action };
    match parts.as_slice() {
        [_, "_mapping" | "_mappings"] | ["_data_stream", _, "_mappings"] => manage(
            parts.iter().find(|part| !part.starts_with('_')).copied().unwrap_or_default(),
            "indices:admin/mapping/put",
        ),
        [alias, "_rollover", ..] => manage(alias, "indices:admin/rollover"),
        [kind, ..] if kind.starts_with('_') && *kind != "_create_from" => {
            Needs::Cluster { privilege: "manage_index_templates", action: "indices:admin/index_template/put" }
        }
        parts => {
            let name = parts.last().copied().unwrap_or_default();
            Needs::Index { name, privilege: "create_index", action: "indices:admin/create" }
        }
    }
}

async fn translated(
    worker: &Worker,
    parts: &Parts,
    text: &str,
    translate: Translate,
    target: Option<&str>,
    capabilities: &Capabilities,
) -> Result<Option<String>, MappingError> {
    // An update replaces options and meta as a whole, so what the fields are now decides.
    let existing = match target {
        Some(target) => existing_in(worker, parts, target).await,
        None => Existing::Known(BTreeMap::new()),
    };
    let context = MappingContext {
        caps: capabilities,
        unspecified_is_ivf: worker.shared.config.unspecified_is_ivf,
        existing: &|path| match &existing {
            Existing::Known(fields) => fields.get(path).cloned(),
            Existing::Unknown => Some(ExistingField::Other),
        },
    };
    translate(text, &context)
}

/// The vector fields of the indices that an update goes to.
enum Existing {
    Known(BTreeMap<String, ExistingField>),
    /// The caller may not see them: what says nothing of `ivf` stays as it is. Where that takes a field's
    /// options away, they are restored.
    Unknown,
}

/// Asks for them with the caller's credentials. Where the indices can't be found, the update will say why.
async fn existing_in(worker: &Worker, parts: &Parts, target: &str) -> Existing {
    let target = percent_encoding::utf8_percent_encode(target, percent_encoding::NON_ALPHANUMERIC);
    let Ok(uri) = format!("/{target}/_mapping{}", which_indices(&parts.uri)).parse::<Uri>() else {
        return Existing::Unknown;
    };
    let Ok(response) = worker.send(json_request(parts, Method::GET, uri, None)).await else {
        return Existing::Unknown;
    };
    if response.status() == StatusCode::NOT_FOUND {
        return Existing::Known(BTreeMap::new());
    }
    if response.status() != StatusCode::OK {
        return Existing::Unknown;
    }
    match collect(response.into_body(), MAX_SHOWN_BYTES).await {
        Ok(Some(bytes)) => std::str::from_utf8(&bytes)
            .map_or(Existing::Unknown, |text| Existing::Known(existing_fields(text))),
        _ => Existing::Unknown,
    }
}

/// The parameters that decide which indices an expression means, as the client wrote them.
fn which_indices(uri: &Uri) -> String {
    let is_one = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or(pair);
        matches!(name, "expand_wildcards" | "ignore_unavailable" | "allow_no_indices")
    };
    let kept: Vec<&str> = uri.query().unwrap_or_default().split('&').filter(is_one).collect();
    if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value.starts_with("application/json") || value.starts_with("application/vnd.elasticsearch+json")
    })
}
