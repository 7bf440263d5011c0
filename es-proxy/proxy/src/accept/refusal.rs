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
    lines: Lines,
}

/// The lines of a head, as far as they were received.
#[derive(Clone, Copy)]
struct Lines {
    /// The byte before.
    last: u8,
    /// Bytes since the last line began.
    length: usize,
    /// A line feed stood alone.
    torn: bool,
    /// The empty line was there: what follows is a body.
    over: bool,
    /// A line that is not empty was there.
    begun: bool,
}

impl Default for Lines {
    fn default() -> Self {
        // What came before these bytes nobody saw, where they follow a request that was sent too early.
        Self { last: b'\r', length: 0, torn: false, over: false, begun: false }
    }
}

impl Lines {
    /// Reads on; where a line feed without a return before it stands, the first time.
    fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.over || self.torn {
            return None;
        }
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let before = if end > start { bytes[end - 1] } else { self.last };
            let length = self.length + end - start;
            if before != b'\r' {
                self.torn = true;
                return Some(end);
            }
            if length > 1 {
                self.begun = true;
            } else if self.begun {
                self.over = true;
                return None;
            }
            (start, self.length, self.last) = (end + 1, 0, b'\n');
        }
        if let Some(last) = bytes[start..].last() {
            self.last = *last;
            self.length += bytes.len() - start;
        }
        None
    }
}

impl Refusal {
    pub(super) fn new(limits: HeadLimits, metrics: WireMetrics) -> Self {
        Self { limits, metrics, received: 0, line_is_too_long: false, lines: Lines::default() }
    }

    /// Another head begins.
    pub(super) fn begin(&mut self) {
        self.received = 0;
        self.line_is_too_long = false;
        self.lines = Lines::default();
    }

    /// These bytes of it, and perhaps of what follows, were received. Where a line feed stands alone among them:
    /// Elasticsearch takes that for no end of a line (from 9.1 on), and whoever passed it to us need not either.
    pub(super) fn saw(&mut self, bytes: &[u8]) -> Option<usize> {
        self.received = self.received.saturating_add(bytes.len());
        self.lines.read(bytes)
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
        if self.lines.torn {
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

#[cfg(test)]
mod tests {
    use super::Lines;

    fn torn_at(head: &[u8], step: usize) -> Option<usize> {
        let mut lines = Lines::default();
        head.chunks(step).enumerate().find_map(|(at, part)| lines.read(part).map(|within| at * step + within))
    }

    #[test]
    fn a_lone_line_feed_is_found_in_a_head_and_nowhere_else() {
        for (head, at) in [
            (&b"GET / HTTP/1.1\r\nA: b\r\n\r\nbody\nwith\nlines\n"[..], None),
            (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n\n", None),
            (b"GET / HTTP/1.1\nA: b\n\n", Some(14)),
            (b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", Some(20)),
            (b"GET / HTTP/1.1\r\n\nGET / HTTP/1.1\r\n\r\n", Some(16)),
            (b"\nGET / HTTP/1.1\r\nA: b\n\r\n", Some(21)),
            (b"\n", None),
            (b"GET / HTTP/1.1\r\nA: b\r", None),
        ] {
            for step in [1, 2, 3, 7, 1000] {
                assert_eq!(torn_at(head, step), at, "{} in steps of {step}", String::from_utf8_lossy(head));
            }
        }
    }
}
