//! What a client is told of a head that hyper could not read, in Elasticsearch's words (ref 6.6).

use bytes::Bytes;
use http::StatusCode;

use crate::config::HeadLimits;
use crate::door::head::Fault;
use crate::telemetry::WireMetrics;

/// What is known of the head that is being received.
pub(super) struct Refusal {
    pub(super) limits: HeadLimits,
    metrics: WireMetrics,
    received: usize,
    line_is_too_long: bool,
    line_is_torn: bool,
}

impl Refusal {
    pub(super) fn new(limits: HeadLimits, metrics: WireMetrics) -> Self {
        Self { limits, metrics, received: 0, line_is_too_long: false, line_is_torn: false }
    }

    /// Another head begins.
    pub(super) fn begin(&mut self) {
        self.received = 0;
        self.line_is_too_long = false;
        self.line_is_torn = false;
    }

    /// So many bytes of it were received.
    pub(super) fn saw(&mut self, count: usize) {
        self.received = self.received.saturating_add(count);
    }

    /// A line feed stands alone in it.
    pub(super) fn line_is_torn(&mut self) {
        self.line_is_torn = true;
    }

    pub(super) fn line_is_too_long(&mut self) {
        self.line_is_too_long = true;
    }

    /// A response for the client instead of hyper's.
    pub(super) fn instead_of(&self, answer: &[u8]) -> Bytes {
        let fault = self.fault(answer);
        self.metrics.head_refused(fault.word());
        let (status, body) = (StatusCode::BAD_REQUEST, fault.body(&self.limits));
        format!(
            "HTTP/1.1 {status}\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .into()
    }

    fn fault(&self, answer: &[u8]) -> Fault {
        let is = |status: StatusCode| answer.get(9..12) == Some(status.as_str().as_bytes());
        if self.line_is_torn {
            Fault::LoneFeed
        } else if self.line_is_too_long || is(StatusCode::URI_TOO_LONG) {
            Fault::LongLine
        } else if is(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE) {
            if self.received > self.limits.max_header_bytes { Fault::LongHeader } else { Fault::ManyHeaders }
        } else {
            Fault::Unreadable
        }
    }
}
