//! Responses of our own, with the headers that Elasticsearch would have sent (ref 6.1, 6.2).

use std::io::Write;
use std::sync::LazyLock;

use bytes::Bytes;
use es_wire::Params;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
    WARNING,
};
use http::{HeaderMap, Response, StatusCode};
use hyper::ext::ReasonPhrase;

use crate::body::ResponseBody;
use crate::proxy::Reply;
use crate::telemetry::Served;

/// Clients refuse a 2xx without it.
const PRODUCT: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-elastic-product"), HeaderValue::from_static("Elasticsearch"));
const OPAQUE_ID: HeaderName = HeaderName::from_static("x-opaque-id");
/// How a request was served, for clients that ask.
pub(crate) const WAY: HeaderName = HeaderName::from_static("x-outrigger");

/// Why a request finds no room in front of Elasticsearch.
pub(crate) const OVERLOADED: &str = "rejected execution: as many requests as may be are with Elasticsearch, and too many wait [max_in_flight]";

/// Elasticsearch's level for compressed responses.
pub(crate) const LEVEL: Compression = Compression::new(3);

/// A 200 with a JSON body, chunked and compressed as the client asked.
pub(crate) fn json(request: &HeaderMap, content_type: HeaderValue, body: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    let headers = response.headers_mut();
    echo_opaque_id(request, headers);
    headers.insert(PRODUCT.0, PRODUCT.1);
    headers.insert(CONTENT_TYPE, content_type);
    let (bytes, encoding) = encode(request, body.into_bytes());
    if let Some(encoding) = encoding {
        headers.insert(CONTENT_ENCODING, encoding);
    }
    *response.body_mut() = ResponseBody::chunked(bytes);
    response
}

/// [`json`] around what Elasticsearch answered with these headers: its content type and its warnings are the
/// answer's too.
pub(crate) fn json_like(
    request: &HeaderMap,
    upstream: &HeaderMap,
    otherwise: &HeaderValue,
    body: String,
) -> Response<ResponseBody> {
    let content_type = upstream.get(CONTENT_TYPE).unwrap_or(otherwise).clone();
    let mut response = json(request, content_type, body);
    for warning in upstream.get_all(WARNING) {
        response.headers_mut().append(WARNING, warning.clone());
    }
    response
}

/// An error of Elasticsearch's shape.
pub(crate) fn error(
    request: &HeaderMap,
    status: StatusCode,
    kind: &str,
    reason: &str,
) -> Response<ResponseBody> {
    error_with_body(request, status, es_wire::error_body(status.as_u16(), kind, reason))
}

/// An error whose body is already in Elasticsearch's shape.
pub(crate) fn error_with_body(
    request: &HeaderMap,
    status: StatusCode,
    body: impl Into<Bytes>,
) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    echo_opaque_id(request, headers);
    headers.insert(PRODUCT.0, PRODUCT.1);
    headers.insert(CONTENT_TYPE, error_content_type(request));
    response
}

/// Whether an answer shall be laid out for people, as Elasticsearch does with its errors, too.
pub(crate) fn asks_for_layout(query: Option<&str>) -> bool {
    let named = query.filter(|query| query.contains("pretty"));
    named.and_then(Params::parse).and_then(|params| params.flag("pretty")) == Some(true)
}

/// 429 as from a full thread pool, with the time to wait.
pub(crate) fn rejected(request: &HeaderMap, refused: &crate::brake::Refused) -> Response<ResponseBody> {
    too_many(request, es_wire::rejected_body(&refused.reason).into(), refused.retry_after)
}

/// 429 with a body that is there already.
pub(crate) fn too_many(
    request: &HeaderMap,
    body: Bytes,
    retry_after: std::time::Duration,
) -> Response<ResponseBody> {
    let mut response = error_with_body(request, StatusCode::TOO_MANY_REQUESTS, body);
    let seconds = retry_after.as_secs_f64().ceil().max(1.0) as u64;
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// 500 where a bug of ours ended a request; its connection ends with it.
pub(crate) fn panicked() -> Response<ResponseBody> {
    let reason = "the proxy could not serve this request; its log says why";
    let body = es_wire::error_body(500, "internal_proxy_exception", reason);
    let mut response = error_with_body(&HeaderMap::new(), StatusCode::INTERNAL_SERVER_ERROR, body);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// 429 where Elasticsearch has more to do than it may have at once.
pub(crate) fn overloaded(request: &HeaderMap) -> Response<ResponseBody> {
    static BODY: LazyLock<Bytes> = LazyLock::new(|| es_wire::rejected_body(OVERLOADED).into());
    too_many(request, BODY.clone(), std::time::Duration::from_secs(1))
}

/// 429 where a body must be read, and the bodies of other requests hold all the memory there is for that.
pub(crate) fn no_room(request: &HeaderMap) -> Reply {
    const REASON: &str = "the bodies of other requests fill [intercept_memory], and this one must be read";
    let body = es_wire::rejected_body(REASON).into();
    let response = too_many(request, body, std::time::Duration::from_secs(1));
    (response, Served::new("refuse", "intercept_memory"))
}

/// 413 as Elasticsearch sends it: without a body and without the product header.
pub(crate) fn too_large() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
    response.extensions_mut().insert(ReasonPhrase::from_static(b"Request Entity Too Large"));
    response
}

/// The content type that Elasticsearch would answer a JSON request with, or `None` where the headers
/// ask for something that only Elasticsearch should decide (other formats, compatibility versions).
pub(crate) fn json_content_type(request: &HeaderMap, major: u16) -> Option<HeaderValue> {
    let accept = single(request, http::header::ACCEPT)?;
    let content = single(request, CONTENT_TYPE)?;
    match (accept, content) {
        (None | Some("*/*" | "application/json"), Some("application/json")) => {
            Some(HeaderValue::from_static("application/json"))
        }
        (Some(accept), Some(content)) if accept == content => {
            let version = compatible_version(accept)?;
            // Before 8 hits had types.
            if version < 8 || (version != major && version + 1 != major) {
                return None;
            }
            json_of_version(version)
        }
        _ => None,
    }
}

/// The version in a media type that asks for JSON as that version of Elasticsearch writes it.
fn compatible_version(media_type: &str) -> Option<u16> {
    let parameters = media_type.strip_prefix("application/vnd.elasticsearch+json;")?;
    parameters.trim_start().strip_prefix("compatible-with=")?.parse().ok()
}

fn json_of_version(version: u16) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("application/vnd.elasticsearch+json;compatible-with={version}")).ok()
}

/// The content type of an error, which is JSON: of the version that the client takes, where it names one.
fn error_content_type(request: &HeaderMap) -> HeaderValue {
    let accept = single(request, http::header::ACCEPT).flatten();
    let version = accept.and_then(compatible_version).and_then(json_of_version);
    version.unwrap_or_else(|| HeaderValue::from_static("application/json"))
}

/// The same for a request whose body is lines of JSON.
pub(crate) fn ndjson_content_type(request: &HeaderMap, major: u16) -> Option<HeaderValue> {
    let mut as_json = request.clone();
    for name in [http::header::ACCEPT, CONTENT_TYPE] {
        if let Some(Some(value)) = single(request, name.clone()) {
            if name == http::header::ACCEPT && !value.starts_with("application/vnd.elasticsearch+") {
                continue;
            }
            let media_type = value.replace("x-ndjson", "json");
            as_json.insert(name, HeaderValue::try_from(media_type).ok()?);
        }
    }
    json_content_type(&as_json, major)
}

/// Whether the body of a message is JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    is_media_type(headers, &["application/json", "application/vnd.elasticsearch+json"])
}

/// Whether the body of a message is of one of these media types, whatever parameters come with it.
pub(crate) fn is_media_type(headers: &HeaderMap, known: &[&str]) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let media_type = value.split(';').next().unwrap_or(value).trim();
    known.iter().any(|known| media_type.eq_ignore_ascii_case(known))
}

/// The one value of a header; `None` outside when it is repeated or not text.
fn single(headers: &HeaderMap, name: HeaderName) -> Option<Option<&str>> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Some(None),
        (Some(value), None) => value.to_str().ok().map(Some),
        _ => None,
    }
}

/// What a response to this request must repeat, where the request will be gone.
pub(crate) fn opaque_id(request: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    echo_opaque_id(request, &mut kept);
    kept
}

fn echo_opaque_id(request: &HeaderMap, response: &mut HeaderMap) {
    if let Some(id) = request.get(OPAQUE_ID) {
        response.insert(OPAQUE_ID, id.clone());
    }
}

pub(crate) fn encode(request: &HeaderMap, body: Vec<u8>) -> (Bytes, Option<HeaderValue>) {
    let Some(name) = coding(request) else { return (body.into(), None) };
    let room = Vec::with_capacity(body.len() / 2);
    let encoded = if name == "gzip" {
        let mut encoder = GzEncoder::new(room, LEVEL);
        encoder.write_all(&body).and_then(|()| encoder.finish())
    } else {
        let mut encoder = ZlibEncoder::new(room, LEVEL);
        encoder.write_all(&body).and_then(|()| encoder.finish())
    };
    match encoded {
        Ok(bytes) => (bytes.into(), Some(HeaderValue::from_static(name))),
        // Writing to memory does not fail; if it ever did, the plain body is right too.
        Err(_) => (body.into(), None),
    }
}

/// Which of `gzip` and `deflate` a client would rather have, as Elasticsearch chooses: by weight, `gzip` where both
/// have the same. None where it refuses both (weight 0) or names others; plain everybody reads.
pub(crate) fn coding(request: &HeaderMap) -> Option<&'static str> {
    let mut weights = [0.0, 0.0];
    for line in request.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()) {
        for item in line.split(',') {
            let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
            for (weight, known) in weights.iter_mut().zip(["gzip", "deflate"]) {
                if name.trim().eq_ignore_ascii_case(known) {
                    *weight = weight_in(parameters).max(*weight);
                }
            }
        }
    }
    match weights {
        [gzip, deflate] if gzip > 0.0 && gzip >= deflate => Some("gzip"),
        [_, deflate] if deflate > 0.0 => Some("deflate"),
        _ => None,
    }
}

/// The weight among the parameters of a coding: 1 where there is none, 0 where it cannot be read.
fn weight_in(parameters: &str) -> f32 {
    let weight = parameters.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse().unwrap_or(0.0))
    });
    weight.unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn content_types_are_echoed_as_elasticsearch_does() {
        let compat = "application/vnd.elasticsearch+json; compatible-with=8";
        for (request, answer) in [
            (headers(&[("content-type", "application/json")]), Some("application/json")),
            (headers(&[("content-type", "application/json"), ("accept", "*/*")]), Some("application/json")),
            (
                headers(&[("content-type", compat), ("accept", compat)]),
                Some("application/vnd.elasticsearch+json;compatible-with=8"),
            ),
            (headers(&[("content-type", compat)]), None),
            (headers(&[("content-type", "application/json"), ("accept", "application/yaml")]), None),
            (headers(&[]), None),
        ] {
            let got = json_content_type(&request, 9);
            assert_eq!(got.as_ref().map(|value| value.to_str().unwrap()), answer, "{request:?}");
        }
        let seven = "application/vnd.elasticsearch+json;compatible-with=7";
        for major in [8, 9] {
            let of_seven = headers(&[("content-type", seven), ("accept", seven)]);
            assert!(json_content_type(&of_seven, major).is_none(), "hits of version 7 have a type");
        }
    }

    #[test]
    fn errors_are_of_the_version_that_the_client_takes() {
        for (accept, answer) in [
            (
                "application/vnd.elasticsearch+json; compatible-with=8",
                "application/vnd.elasticsearch+json;compatible-with=8",
            ),
            (
                "application/vnd.elasticsearch+json;compatible-with=9",
                "application/vnd.elasticsearch+json;compatible-with=9",
            ),
            ("application/vnd.elasticsearch+json;compatible-with=nine", "application/json"),
            ("application/vnd.elasticsearch+json", "application/json"),
            ("application/yaml", "application/json"),
            ("*/*", "application/json"),
        ] {
            let response =
                error(&headers(&[("accept", accept)]), StatusCode::TOO_MANY_REQUESTS, "kind", "reason");
            assert_eq!(response.headers()[CONTENT_TYPE], answer, "{accept}");
        }
    }

    #[test]
    fn answers_are_compressed_only_when_asked() {
        let plain = json(&headers(&[]), HeaderValue::from_static("application/json"), "{}".into());
        assert!(!plain.headers().contains_key(CONTENT_ENCODING));
        let asked = headers(&[("accept-encoding", "br, gzip;q=0.5"), ("x-opaque-id", "me")]);
        let packed = json(&asked, HeaderValue::from_static("application/json"), "{}".into());
        assert_eq!(packed.headers()[CONTENT_ENCODING], "gzip");
        assert_eq!(packed.headers()["x-opaque-id"], "me");
    }

    #[test]
    fn codings_are_chosen_by_weight_and_refused_ones_are_not_used() {
        for (asked, chosen) in [
            ("gzip", Some("gzip")),
            ("deflate, GZIP", Some("gzip")),
            ("gzip;q=0.5, deflate", Some("deflate")),
            ("gzip; q=0.5,deflate;q=0.500", Some("gzip")),
            ("br;q=1.0, gzip;q=0.8, *;q=0.1", Some("gzip")),
            ("gzip;q=0", None),
            ("gzip;q=0.0", None),
            ("gzip ; Q = 0.000", None),
            ("gzip;q=0.000, deflate;q=0.001", Some("deflate")),
            ("gzip;q=nan, deflate;q=x", None),
            ("*", None),
            ("br, zstd, snappy", None),
            ("identity;q=0", None),
            ("", None),
        ] {
            assert_eq!(coding(&headers(&[("accept-encoding", asked)])), chosen, "{asked}");
        }
        let mut lines = headers(&[("accept-encoding", "br")]);
        lines.append(ACCEPT_ENCODING, HeaderValue::from_static("deflate"));
        assert_eq!(coding(&lines), Some("deflate"));
    }
}
