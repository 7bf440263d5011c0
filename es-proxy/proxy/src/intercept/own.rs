//! `/_ivf/…`: the one path on the Elasticsearch port that is ours. Each call needs the privilege that
//! Elasticsearch wants for its own counterpart, checked by asking Elasticsearch as the caller.

use es_wire::pretty;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::body::{Unread, collect};
use crate::intercept::own_request::json_request;
use crate::intercept::pass_search::inflated;
use crate::intercept::show::MAX_SHOWN_BYTES;
use crate::intercept::whoami;
use crate::intercept::{adopt, insight, tenants};
use crate::pass;
use crate::ports::BuildCommand;
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::respond;
use crate::telemetry::Served;
use crate::upstream::UpstreamBody;

/// Serves a call below `/_ivf`.
pub(crate) async fn serve(worker: &Worker, segments: &[String], request: ClientRequest) -> Reply {
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (&request.parts.method, parts.as_slice()) {
        (_, ["_tenants", rest @ ..]) => tenants::serve(worker, rest, request).await,
        (&Method::GET, [index, "_stats"]) => stats(worker, index, &request).await,
        (&Method::POST, [index, "_build", "_cancel"]) => {
            build(worker, index, &request, BuildCommand::Cancel).await
        }
        (&Method::POST, [index, "_build", "_start"]) => {
            build(worker, index, &request, BuildCommand::Start).await
        }
        (&Method::POST, [index, "_recall"]) => insight::recall(worker, index, request).await,
        (&Method::GET | &Method::POST, [index, "_explain"]) => insight::explain(worker, index, request).await,
        (&Method::GET, ["_whoami"]) => whoami::serve(worker, &request).await,
        (&Method::GET, []) => adopt::list(worker, "_all", &request).await,
        (&Method::GET, [target]) => adopt::list(worker, target, &request).await,
        (&Method::PUT, [index, field]) if !field.starts_with('_') => {
            adopt::adopt(worker, index, field, request).await
        }
        (&Method::DELETE, [index, field]) if !field.starts_with('_') => {
            adopt::release(worker, index, field, request).await
        }
        _ => no_handler(&request.parts, &parts),
    }
}

/// The methods of a path below `/_ivf`, in Elasticsearch's order; none where there is no such path.
fn methods(segments: &[&str]) -> &'static [&'static str] {
    match segments {
        [] | ["_whoami" | "_tenants"] => &["GET"],
        ["_tenants", _] => &["GET", "PUT", "DELETE"],
        ["_tenants", _, "_usage"] => &["GET"],
        ["_tenants", _, "_requests"] => &["GET", "POST"],
        ["_tenants", _, "_requests", _, "_approve" | "_deny"] => &["POST"],
        ["_tenants", ..] => &[],
        [_] => &["GET"],
        [_, "_stats"] => &["GET"],
        [_, "_build", "_cancel" | "_start"] | [_, "_recall"] => &["POST"],
        [_, "_explain"] => &["GET", "POST"],
        [_, field] if !field.starts_with('_') => &["PUT", "DELETE"],
        _ => &[],
    }
}

/// What Elasticsearch says of its own paths: which methods there are, or that there is no such path.
pub(super) fn no_handler(parts: &Parts, segments: &[&str]) -> Reply {
    let (method, uri, methods) = (&parts.method, &parts.uri, methods(segments));
    let allow = HeaderValue::try_from(methods.join(",")).ok().filter(|_| !methods.is_empty());
    let mut response = if *method == Method::OPTIONS {
        let mut response = respond::error_with_body(&parts.headers, StatusCode::OK, "");
        let plain = HeaderValue::from_static("text/plain; charset=UTF-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        response
    } else if methods.is_empty() {
        let reason = Value::from(format!("no handler found for uri [{uri}] and method [{method}]"));
        let body = json!({"error": reason}).to_string();
        respond::error_with_body(&parts.headers, StatusCode::BAD_REQUEST, body)
    } else {
        let allowed = methods.join(", ");
        let reason =
            format!("Incorrect HTTP method for uri [{uri}] and method [{method}], allowed: [{allowed}]");
        let body = format!("{{\"error\":{},\"status\":405}}", Value::from(reason));
        respond::error_with_body(&parts.headers, StatusCode::METHOD_NOT_ALLOWED, body)
    };
    if let Some(allow) = allow {
        response.headers_mut().insert(ALLOW, allow);
    }
    (response, Served::new("own", "no_handler"))
}

/// `GET /_ivf/{index}/_stats`: needs what `GET /{index}/_stats` needs (`monitor`).
async fn stats(worker: &Worker, index: &str, request: &ClientRequest) -> Reply {
    let check = "_stats/docs?filter_path=_shards.total";
    if let Err(refusal) = allowed(worker, request, Method::GET, index, check).await {
        return refusal;
    }
    match worker.shared.cluster.report(index) {
        Some(report) => answer(&request.parts, report, "stats"),
        None => no_field(request, index),
    }
}

/// `POST /_ivf/{index}/_build/_cancel` and `…/_start`: need what `POST /{index}/_cache/clear` needs
/// (`manage`), asked for the cache of a field that does not exist, which clears nothing.
async fn build(worker: &Worker, index: &str, request: &ClientRequest, command: BuildCommand) -> Reply {
    let check = "_cache/clear?fielddata=true&fields=_ivf_none&filter_path=_shards.total";
    if let Err(refusal) = allowed(worker, request, Method::POST, index, check).await {
        return refusal;
    }
    if worker.shared.cluster.build(index, command) {
        answer(&request.parts, "{\"acknowledged\":true}".to_owned(), "build")
    } else {
        no_field(request, index)
    }
}

/// Asks Elasticsearch, as the caller, for something that does no more than need the privilege.
async fn allowed(
    worker: &Worker,
    request: &ClientRequest,
    method: Method,
    index: &str,
    call: &str,
) -> Result<(), Reply> {
    let headers = &request.parts.headers;
    let Ok(uri) = format!("/{}/{call}", encoded(index)).parse() else {
        let reason = format!("[{index}] is no index name");
        let response =
            respond::error(headers, StatusCode::BAD_REQUEST, "illegal_argument_exception", &reason);
        return Err((response, Served::new("own", "bad_name")));
    };
    as_caller(worker, &request.parts, method, uri, None).await.map(drop)
}

/// Asks Elasticsearch in the caller's name; whatever is not 200 goes back to the caller as it came.
pub(crate) async fn as_caller(
    worker: &Worker,
    parts: &Parts,
    method: Method,
    uri: Uri,
    body: Option<String>,
) -> Result<Response<Box<UpstreamBody>>, Reply> {
    match worker.send(json_request(parts, method, uri, body)).await {
        Ok(response) if response.status() == StatusCode::OK => Ok(response),
        Ok(refusal) => Err((pass::relay(refusal), Served::new("own", "refused_by_elasticsearch"))),
        Err(failure) => Err(worker.failed(&parts.headers, &failure)),
    }
}

fn no_field(request: &ClientRequest, index: &str) -> Reply {
    let reason = format!("index [{index}] has no field of type [ivf] whose dims are known");
    let response = respond::error(
        &request.parts.headers,
        StatusCode::NOT_FOUND,
        "resource_not_found_exception",
        &reason,
    );
    (response, Served::new("own", "not_found"))
}

/// An answer of our own, laid out as the caller wants it.
pub(crate) fn answer(parts: &Parts, body: String, reason: &'static str) -> Reply {
    let body = if respond::asks_for_layout(parts.uri.query()) { pretty(&body) } else { body };
    let response = respond::json(&parts.headers, HeaderValue::from_static("application/json"), body);
    (response, Served::new("own", reason))
}

/// The body of a call, whole and inflated; whatever is no text is refused.
pub(super) async fn text_of(worker: &Worker, request: ClientRequest) -> Result<(Parts, String), Reply> {
    let ClientRequest { parts, body } = request;
    let cap = worker.shared.config.max_intercept_bytes;
    let read = match body.peek(cap).await {
        Ok((_body, Ok(bytes))) => inflated(worker, &parts.headers, bytes, cap).await,
        Ok((_, Err(unread))) => Err(unread),
        Err(failure) => return Err(worker.failed(&parts.headers, &failure.into())),
    };
    if read == Err(Unread::NoRoom) {
        return Err(respond::no_room(&parts.headers));
    }
    let text = read.ok().and_then(|bytes| String::from_utf8(bytes.into()).ok());
    text.map(|text| (parts.clone(), text)).ok_or_else(|| {
        let reason = "the body cannot be read";
        refuse(&parts, StatusCode::BAD_REQUEST, "illegal_argument_exception", reason)
    })
}

/// What Elasticsearch answers in the caller's name.
pub(crate) async fn ask(
    worker: &Worker,
    parts: &Parts,
    method: Method,
    path: &str,
    body: Option<String>,
) -> Result<String, Reply> {
    let Ok(uri) = path.parse::<Uri>() else {
        let kind = "illegal_argument_exception";
        return Err(refuse(parts, StatusCode::BAD_REQUEST, kind, "that is no index name"));
    };
    let response = as_caller(worker, parts, method, uri, body).await?;
    let read = collect(response.into_body(), MAX_SHOWN_BYTES).await.ok().flatten();
    read.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()).ok_or_else(|| {
        let reason = "Elasticsearch's response could not be read";
        refuse(parts, StatusCode::BAD_GATEWAY, "connection_closed_exception", reason)
    })
}

/// A name as a segment of a path.
pub(crate) fn encoded(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// An error of Elasticsearch's shape.
pub(crate) fn refuse(parts: &Parts, status: StatusCode, kind: &str, reason: &str) -> Reply {
    (respond::error(&parts.headers, status, kind, reason), Served::new("own", "refused"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_method_is_told_from_a_wrong_path() {
        for (method, path, status, allow) in [
            ("PATCH", "/_ivf", 405, Some("GET")),
            ("HEAD", "/_ivf/_whoami", 405, Some("GET")),
            ("POST", "/_ivf/a", 405, Some("GET")),
            ("GET", "/_ivf/a/v", 405, Some("PUT,DELETE")),
            ("PUT", "/_ivf/a/_explain?pretty", 405, Some("GET,POST")),
            ("GET", "/_ivf/_tenants/a/_requests/1/_deny", 405, Some("POST")),
            ("OPTIONS", "/_ivf/_tenants/a", 200, Some("GET,PUT,DELETE")),
            ("OPTIONS", "/_ivf/a/b/c", 200, None),
            ("POST", "/_ivf/a/b/c", 400, None),
            ("GET", "/_ivf/_tenants/a/b", 400, None),
        ] {
            let request = http::Request::builder().method(method).uri(path).body(()).unwrap();
            let segments: Vec<&str> =
                path.split(['/', '?']).skip(2).filter(|part| *part != "pretty").collect();
            let (response, _) = no_handler(&request.into_parts().0, &segments);
            let told = response.headers().get(ALLOW).map(|value| value.to_str().unwrap());
            assert_eq!((response.status().as_u16(), told), (status, allow), "{method} {path}");
        }
    }
}
