//! Responses with mappings in them, on their way back: fields of ours show `ivf` again, and our key in
//! their `meta` is hidden.
//!
//! Elasticsearch is asked without `pretty` and `filter_path` (which could hide our options), and both are
//! applied to what is shown. Formats other than JSON pass as they are.

use bytes::Bytes;
use es_wire::FilterPath;
use es_wire::Params;
use es_wire::pretty;
use es_wire::show_ivf;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode, Uri};

use crate::aside::aside;
use crate::body::{RequestBody, ResponseBody, collect};
use crate::intercept::own_request::request_like;
use crate::pass;
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::respond;
use crate::telemetry::Served;

/// Largest response that is read to show `ivf` in it.
pub(crate) const MAX_SHOWN_BYTES: usize = 64 << 20;

/// A request whose response has mappings in it.
pub(crate) async fn show(worker: &Worker, request: ClientRequest) -> Reply {
    let params = Params::of(request.parts.uri.query());
    let plain_json = wants_json(&request.parts.headers, params.as_ref());
    let ClientRequest { parts, body } = request;
    let (body, read) = match body.peek(worker.shared.config.max_intercept_bytes).await {
        Ok(peeked) => peeked,
        Err(failure) => return worker.failed(&parts.headers, &failure.into()),
    };
    let request = ClientRequest { parts, body };
    let (Some(params), true, Ok(body)) = (params, plain_json, read) else {
        return pass::through(worker, request, Served::pass("mapping_format")).await;
    };
    // What it is set to Elasticsearch refuses.
    let Some(is_pretty) = params.flag("pretty") else {
        return pass::through(worker, request, Served::pass("bad_query_string")).await;
    };
    if hides_mappings(&request.parts.uri, &params) {
        return pass::through(worker, request, Served::pass("no_mapping")).await;
    }
    let Some(uri) = without_output_params(&request.parts.uri, &params) else {
        return pass::through(worker, request, Served::pass("mapping_format")).await;
    };
    let mut asked = request_like(&request.parts, request.parts.method.clone(), uri, Bytes::new());
    asked.body = RequestBody::full(body);
    if let Some(encoding) = request.parts.headers.get(CONTENT_ENCODING) {
        asked.parts.headers.insert(CONTENT_ENCODING, encoding.clone());
    }
    let response = match worker.send(asked).await {
        Ok(response) if response.status() != StatusCode::OK => {
            // Errors come in the client's own format.
            return pass::through(worker, request, Served::pass("mapping_error")).await;
        }
        // Where nothing names the format of the answer, it is that of the request.
        Ok(response) if !respond::is_json(response.headers()) => {
            return pass::through(worker, request, Served::pass("mapping_format")).await;
        }
        Ok(response) => response,
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
    let filter = params.get("filter_path").filter(|filter| !filter.is_empty()).map(FilterPath::parse);
    let node = worker.shared.cluster.node();
    let keep_empty = node
        .and_then(|node| node.capabilities.as_ref().map(|known| known.filter_keeps_empty_arrays))
        .unwrap_or_default();
    let (changed, text) = aside(text.len(), move || {
        let shown = show_ivf(&text);
        let (changed, mut text) = (shown.is_some(), shown.unwrap_or(text));
        if let Some(filter) = filter {
            text = filter.apply(&text, keep_empty);
        }
        (changed, if is_pretty { pretty(&text) } else { text })
    })
    .await;
    let served = if changed { Served::new("translate", "ivf") } else { Served::pass("no_ivf_field") };
    let content_type = head.headers.get(CONTENT_TYPE).cloned();
    let content_type = content_type.unwrap_or_else(|| HeaderValue::from_static("application/json"));
    let mut response = respond::json(&request.parts.headers, content_type, text);
    // Framed as Elasticsearch frames this answer; what is compressed comes in chunks there, too.
    if head.headers.contains_key(CONTENT_LENGTH) && !response.headers().contains_key(CONTENT_ENCODING) {
        response = response.map(ResponseBody::with_length);
    }
    for warning in head.headers.get_all(http::header::WARNING) {
        response.headers_mut().append(http::header::WARNING, warning.clone());
    }
    (response, served)
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

/// Whether a filter leaves no mapping in the cluster state, which is asked for often, and is large.
fn hides_mappings(uri: &Uri, params: &Params) -> bool {
    let filter = params.get("filter_path").filter(|_| uri.path().starts_with("/_cluster/state"));
    filter.is_some_and(|filter| !FilterPath::parse(filter).may_keep(&["metadata"]))
}

/// The URI without what only shapes the output.
fn without_output_params(uri: &Uri, params: &Params) -> Option<Uri> {
    let Some(query) = uri.query() else { return uri.path().parse().ok() };
    if params.get("filter_path").is_none() && params.get("pretty").is_none() {
        return uri.path_and_query()?.as_str().parse().ok();
    }
    // Written in any way that Elasticsearch reads.
    let shapes_output = |pair: &str| {
        let read = Params::parse(pair);
        read.is_some_and(|read| read.0.iter().any(|(name, _)| matches!(&**name, "filter_path" | "pretty")))
    };
    let kept: Vec<&str> = query.split(['&', ';']).filter(|pair| !shapes_output(pair)).collect();
    let separator = if kept.is_empty() { "" } else { "?" };
    format!("{}{separator}{}", uri.path(), kept.join("&")).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_shapes_the_output_is_left_out_however_it_is_written() {
        for (asked, left) in [
            ("/a", "/a"),
            ("/a?human;x=%26", "/a?human;x=%26"),
            ("/a?pretty", "/a"),
            ("/a?pretty;filter_path=**.type", "/a"),
            ("/a?filter%5Fpath=b&human=true;%70retty=false", "/a?human=true"),
            ("/a?x=pretty&pretty=&y", "/a?x=pretty&y"),
        ] {
            let uri: Uri = asked.parse().unwrap();
            let params = Params::of(uri.query()).unwrap();
            assert_eq!(without_output_params(&uri, &params).unwrap().to_string(), left, "{asked}");
        }
    }
}
