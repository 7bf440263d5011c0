//! Requests of our own to Elasticsearch, under the caller's credentials.

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderValue,
    TRANSFER_ENCODING,
};
use http::request::Parts;

use crate::body::RequestBody;
use crate::door::Caller;
use crate::proxy::ClientRequest;

/// A request of our own for JSON, under the caller's credentials.
pub(crate) fn json_request(
    parts: &Parts,
    method: http::Method,
    uri: http::Uri,
    body: Option<String>,
) -> ClientRequest {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    let has_body = body.is_some();
    let mut request = request_like(parts, method, uri, body.unwrap_or_default());
    request.parts.headers.remove(CONTENT_TYPE);
    if has_body {
        request.parts.headers.insert(CONTENT_TYPE, JSON);
    }
    request.parts.headers.insert(ACCEPT, JSON);
    request
}

/// A whole body in a [`ClientRequest`], as a request of our own under the caller's credentials.
pub(crate) fn request_like(
    parts: &Parts,
    method: http::Method,
    uri: http::Uri,
    body: impl Into<Bytes>,
) -> ClientRequest {
    let mut own = http::Request::new(()).into_parts().0;
    own.method = method;
    own.uri = uri;
    own.headers = parts.headers.clone();
    if let Some(caller) = Caller::of(parts) {
        own.extensions.insert(caller.clone());
    }
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, ACCEPT_ENCODING, TRANSFER_ENCODING, EXPECT] {
        own.headers.remove(name);
    }
    ClientRequest { parts: own, body: RequestBody::full(body.into()) }
}
