//! Mappings, both ways: `ivf` on its way in becomes what Elasticsearch knows, on its way back `ivf`
//! again. What changes the set of indices makes the catalog be read again before the client hears of it.

use bytes::Bytes;
use es_wire::Capabilities;
use es_wire::FilterPath;
use es_wire::Params;
use es_wire::pretty;
use es_wire::{
    ExistingField, MappingContext, MappingError, existing_fields, show_ivf, translate_create,
    translate_template, translate_update,
};
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri};

use crate::body::{RequestBody, collect};
use crate::intercept::search::{body_failure, inflated, request_like};
use crate::pass;
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::respond;
use crate::telemetry::Served;

/// Largest mapping response that is read to show `ivf` in it.
const MAX_SHOWN_BYTES: usize = 64 << 20;

type Translate = fn(&str, &MappingContext<'_>) -> Result<Option<String>, MappingError>;

/// `PUT /{index}`.
pub(crate) async fn create(worker: &Worker, request: ClientRequest) -> Reply {
    translate(worker, request, translate_create, None).await
}

/// `PUT /{index}/_mapping`.
pub(crate) async fn update(worker: &Worker, target: &str, request: ClientRequest) -> Reply {
    translate(worker, request, translate_update, Some(target)).await
}

/// `PUT /_index_template/{name}` and its kin.
pub(crate) async fn template(worker: &Worker, request: ClientRequest) -> Reply {
    let (mut response, served) = translate(worker, request, translate_template, None).await;
    // `_simulate` answers with mappings.
    if response.status() == StatusCode::OK {
        response = shown(response).await;
    }
    (response, served)
}

/// Passes, and reads the catalog again when it succeeded.
pub(crate) async fn index_life(worker: &Worker, request: ClientRequest) -> Reply {
    let reply = pass::through(worker, request, Served::pass("index_life")).await;
    if reply.0.status().is_success() {
        worker.read_catalog_again().await;
    }
    reply
}

async fn translate(
    worker: &Worker,
    request: ClientRequest,
    translate: Translate,
    target: Option<&str>,
) -> Reply {
    let node = worker.shared.cluster.node();
    let Some(capabilities) = node.as_ref().and_then(|node| node.capabilities.as_ref()) else {
        return pass::through(worker, request, Served::pass("version_unknown")).await;
    };
    let ClientRequest { parts, body } = request;
    let cap = worker.shared.config.max_intercept_bytes;
    let (body, read) = match body.peek(cap).await {
        Ok(peeked) => peeked,
        Err(failure) => return worker.failed(&parts.headers, &body_failure(failure)),
    };
    let plain = read.and_then(|bytes| inflated(&parts.headers, bytes, cap));
    let text = plain
        .as_deref()
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .filter(|_| is_json(&parts.headers));
    let mut request = ClientRequest { parts, body };
    let mut served = Served::pass("mapping_untouched");
    if let Some(text) = text.filter(|text| text.contains("dense_vector")) {
        match translated(worker, &request.parts, text, translate, target, capabilities).await {
            Ok(None) => {}
            Ok(Some(new)) => {
                request.parts.headers.remove(CONTENT_LENGTH);
                request.parts.headers.remove(CONTENT_ENCODING);
                request.body = RequestBody::full(Bytes::from(new));
                served = Served::new("translate", "ivf");
            }
            Err(error) => {
                let response =
                    respond::error_with_body(&request.parts.headers, StatusCode::BAD_REQUEST, error.body());
                return (response, Served::new("refuse", "bad_mapping"));
            }
        }
    }
    let reply = pass::through(worker, request, served).await;
    if reply.0.status().is_success() {
        worker.read_catalog_again().await;
    }
    reply
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
        None => Vec::new(),
    };
    let context = MappingContext {
        caps: capabilities,
        unspecified_is_ivf: worker.shared.config.unspecified_is_ivf,
        existing: &|path| existing.iter().find(|(field, _)| field == path).map(|(_, what)| what.clone()),
    };
    translate(text, &context)
}

/// The vector fields of the indices that an update goes to, asked with the caller's credentials.
/// Where they can't be read, the update itself will say why.
async fn existing_in(worker: &Worker, parts: &Parts, target: &str) -> Vec<(String, ExistingField)> {
    let target = percent_encoding::utf8_percent_encode(target, percent_encoding::NON_ALPHANUMERIC);
    let Ok(uri) = format!("/{target}/_mapping").parse::<Uri>() else { return Vec::new() };
    let mut request = request_like(parts, Method::GET, uri, "".into());
    request.parts.headers.remove(CONTENT_TYPE);
    request.parts.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let Ok(response) = worker.send(request).await else { return Vec::new() };
    if response.status() != StatusCode::OK {
        return Vec::new();
    }
    match collect(response.into_body(), MAX_SHOWN_BYTES).await {
        Ok(Some(bytes)) => std::str::from_utf8(&bytes).map(existing_fields).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// `GET` of anything with mappings in it. Elasticsearch is asked without `pretty` and `filter_path`
/// (which could hide our options), and both are applied to what is shown.
pub(crate) async fn show(worker: &Worker, request: ClientRequest) -> Reply {
    let params = request.parts.uri.query().map_or_else(|| Some(Params::default()), Params::parse);
    let plain_json = wants_json(&request.parts.headers, params.as_ref());
    let ClientRequest { parts, body } = request;
    let (body, read) = match body.peek(worker.shared.config.max_intercept_bytes).await {
        Ok(peeked) => peeked,
        Err(failure) => return worker.failed(&parts.headers, &body_failure(failure)),
    };
    let request = ClientRequest { parts, body };
    let (Some(params), true, Some(body)) = (params, plain_json, read) else {
        return pass::through(worker, request, Served::pass("mapping_format")).await;
    };
    let Some(uri) = without_output_params(&request.parts.uri, &params) else {
        return pass::through(worker, request, Served::pass("mapping_format")).await;
    };
    let mut asked = request_like(&request.parts, request.parts.method.clone(), uri, "".into());
    asked.body = RequestBody::full(body);
    if let Some(encoding) = request.parts.headers.get(CONTENT_ENCODING) {
        asked.parts.headers.insert(CONTENT_ENCODING, encoding.clone());
    }
    let response = match worker.send(asked).await {
        Ok(response) if response.status() == StatusCode::OK => response,
        // Errors come in the client's own format.
        Ok(_) => return pass::through(worker, request, Served::pass("mapping_error")).await,
        Err(failure) => return worker.failed(&request.parts.headers, &failure),
    };
    let (head, body) = response.into_parts();
    let read = match collect(body, MAX_SHOWN_BYTES).await {
        Ok(Some(bytes)) => bytes,
        _ => return pass::through(worker, request, Served::pass("mapping_too_large")).await,
    };
    let Ok(text) = String::from_utf8(read.to_vec()) else {
        return pass::through(worker, request, Served::pass("mapping_format")).await;
    };
    let changed = show_ivf(&text);
    let served =
        if changed.is_some() { Served::new("translate", "ivf") } else { Served::pass("no_ivf_field") };
    let mut text = changed.unwrap_or(text);
    if let Some(filter) = params.get("filter_path").filter(|filter| !filter.is_empty()) {
        let keep_empty = worker
            .shared
            .cluster
            .node()
            .is_some_and(|n| n.capabilities.as_ref().is_some_and(|c| c.filter_keeps_empty_arrays));
        text = FilterPath::parse(filter).apply(&text, keep_empty);
    }
    if params.flag("pretty") == Some(true) {
        text = pretty(&text);
    }
    let content_type = head.headers.get(CONTENT_TYPE).cloned();
    let content_type = content_type.unwrap_or_else(|| HeaderValue::from_static("application/json"));
    let mut response = respond::json(&request.parts.headers, content_type, text);
    for warning in head.headers.get_all(http::header::WARNING) {
        response.headers_mut().append(http::header::WARNING, warning.clone());
    }
    (response, served)
}

/// Shows `ivf` in a response that is already on its way; left alone when compressed or not JSON.
async fn shown(
    response: http::Response<crate::body::ResponseBody>,
) -> http::Response<crate::body::ResponseBody> {
    let (head, body) = response.into_parts();
    let crate::body::ResponseBody::Upstream(body) = body else {
        return http::Response::from_parts(head, body);
    };
    if head.headers.contains_key(CONTENT_ENCODING) {
        return http::Response::from_parts(head, crate::body::ResponseBody::Upstream(body));
    }
    match collect(body, MAX_SHOWN_BYTES).await {
        Ok(Some(bytes)) => {
            let new = std::str::from_utf8(&bytes).ok().and_then(show_ivf);
            respond::with_new_body(head, new.map_or(bytes, Bytes::from))
        }
        _ => {
            let failed = (StatusCode::BAD_GATEWAY, "connection_closed_exception");
            respond::error(
                &HeaderMap::new(),
                failed.0,
                failed.1,
                "Elasticsearch's response could not be read",
            )
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value.starts_with("application/json") || value.starts_with("application/vnd.elasticsearch+json")
    })
}

fn wants_json(headers: &HeaderMap, params: Option<&Params>) -> bool {
    if params.and_then(|params| params.get("format")).is_some_and(|format| format != "json") {
        return false;
    }
    match headers.get(ACCEPT).map(|value| value.to_str()) {
        None => true,
        Some(Ok(accept)) => !["yaml", "cbor", "smile"].iter().any(|format| accept.contains(format)),
        Some(Err(_)) => false,
    }
}

/// The URI without what only shapes the output.
fn without_output_params(uri: &Uri, params: &Params) -> Option<Uri> {
    let Some(query) = uri.query() else { return uri.path().parse().ok() };
    if params.get("filter_path").is_none() && params.get("pretty").is_none() {
        return uri.path_and_query()?.as_str().parse().ok();
    }
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| {
            let name = pair.split('=').next().unwrap_or(pair);
            !matches!(name, "filter_path" | "pretty")
        })
        .collect();
    let separator = if kept.is_empty() { "" } else { "?" };
    format!("{}{separator}{}", uri.path(), kept.join("&")).parse().ok()
}
