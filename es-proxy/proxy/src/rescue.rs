//! Any failure on the way to Elasticsearch becomes an error of Elasticsearch's shape: the only such
//! table. 502, 503 and 504 are what official clients retry.

use http::{HeaderMap, Response, StatusCode};

use crate::body::ResponseBody;
use crate::respond;
use crate::upstream::UpstreamError;

/// The response for a failed request.
pub(crate) fn rescue(request: &HeaderMap, failure: &UpstreamError) -> Response<ResponseBody> {
    let (status, kind) = match failure {
        UpstreamError::Connect { .. } => (StatusCode::SERVICE_UNAVAILABLE, "connect_exception"),
        UpstreamError::Tls { .. } => (StatusCode::BAD_GATEWAY, "ssl_handshake_exception"),
        UpstreamError::Timeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "timeout_exception"),
        UpstreamError::Broken(_) => (StatusCode::BAD_GATEWAY, "connection_closed_exception"),
        UpstreamError::Overloaded => return respond::overloaded(request),
        UpstreamError::BodyTooLarge(_) => return respond::too_large(),
        UpstreamError::Client(_) => (StatusCode::BAD_REQUEST, "parse_exception"),
    };
    respond::error(request, status, kind, &failure.to_string())
}

/// The word for metrics.
pub(crate) fn kind(failure: &UpstreamError) -> &'static str {
    match failure {
        UpstreamError::Connect { .. } => "connect",
        UpstreamError::Tls { .. } => "tls",
        UpstreamError::Timeout { .. } => "timeout",
        UpstreamError::Broken(_) => "broken",
        UpstreamError::Overloaded => "overloaded",
        UpstreamError::BodyTooLarge(_) => "body_too_large",
        UpstreamError::Client(_) => "client",
    }
}
