//! Heads that Elasticsearch would not take either, told before anything else is done for them.

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

use crate::config::{HeadLimits, ProxyConfig};
use crate::proxy::Reply;
use crate::respond;
use crate::telemetry::Served;

/// Headers of which Elasticsearch takes one value.
const SINGLE: [HeaderName; 4] = [
    HeaderName::from_static("x-opaque-id"),
    HeaderName::from_static("x-elastic-product-origin"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// What is wrong with the head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its first line.
    LongLine,
    /// All its other lines.
    LongHeader,
    /// More lines than hyper reads.
    ManyHeaders,
    /// A line ends with a line feed alone.
    LoneFeed,
    /// What is asked for is no path: a tunnel, or a name that Elasticsearch would take for an index.
    Target,
    /// It is no head of HTTP/1.
    Unreadable,
}

impl Fault {
    /// The word for metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::LongLine => "long_line",
            Self::LongHeader => "long_header",
            Self::ManyHeaders => "many_headers",
            Self::LoneFeed => "lone_line_feed",
            Self::Target => "bad_target",
            Self::Unreadable => "unreadable",
        }
    }

    /// The error as Elasticsearch words it.
    pub(crate) fn body(self, limits: &HeadLimits) -> String {
        let (kind, reason) = match self {
            Self::LongLine => (
                "too_long_http_line_exception",
                format!("An HTTP line is larger than {} bytes.", limits.max_line_bytes),
            ),
            Self::LongHeader => (
                "too_long_http_header_exception",
                format!("HTTP header is larger than {} bytes.", limits.max_header_bytes),
            ),
            Self::ManyHeaders => {
                ("too_long_http_header_exception", "HTTP header has more than 100 lines.".to_owned())
            }
            Self::LoneFeed => (
                "invalid_line_separator_exception",
                "Line Feed must be preceded by Carriage Return when terminating HTTP start- and header field-lines"
                    .to_owned(),
            ),
            Self::Target => ("illegal_argument_exception", "the target of the request is no path".to_owned()),
            Self::Unreadable => {
                ("illegal_argument_exception", "the head of the request is not valid HTTP/1.1".to_owned())
            }
        };
        es_wire::error_body(StatusCode::BAD_REQUEST.as_u16(), kind, &reason)
    }
}

/// Refuses what must not be served, by its head alone.
pub(crate) fn refuse(parts: &Parts, config: &ProxyConfig) -> Option<Reply> {
    if let Some(fault) = too_long(parts, &config.head) {
        return Some(refusal(parts, fault, config));
    }
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if length.and_then(|length| length.parse().ok()).is_some_and(|length: u64| length > config.max_body_bytes)
    {
        return Some((respond::too_large(), Served::new("refuse", "body_too_large")));
    }
    let of_all = parts.method == Method::OPTIONS && parts.uri.path() == "*";
    if parts.method == Method::CONNECT || !(parts.uri.path().starts_with('/') || of_all) {
        return Some(refusal(parts, Fault::Target, config));
    }
    None
}

/// Whether Elasticsearch refuses a request by headers that mean nothing to us: an expectation that it does not know,
/// or several values where it wants one. Who answers by himself must not be laxer.
pub(crate) fn is_for_elasticsearch_to_refuse(headers: &HeaderMap) -> bool {
    if headers.contains_key(EXPECT) {
        return true;
    }
    // Mostly no header is there twice.
    let is_repeated = |name| {
        let mut values = headers.get_all(name).iter();
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    headers.len() != headers.keys_len() && SINGLE.iter().any(is_repeated)
}

fn refusal(parts: &Parts, fault: Fault, config: &ProxyConfig) -> Reply {
    let body = fault.body(&config.head);
    let mut response = respond::error_with_body(&parts.headers, StatusCode::BAD_REQUEST, body);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    (response, Served::new("refuse", fault.word()))
}

fn too_long(parts: &Parts, limits: &HeadLimits) -> Option<Fault> {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if parts.method.as_str().len() + target + " ".len() + " HTTP/1.1".len() > limits.max_line_bytes {
        return Some(Fault::LongLine);
    }
    let header = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + ": ".len() + value.len();
    (parts.headers.iter().map(header).sum::<usize>() > limits.max_header_bytes).then_some(Fault::LongHeader)
}
