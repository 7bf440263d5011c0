//! What we send to clients: Elasticsearch's bytes as they arrive, looked at or read ahead where somebody must know
//! them first, or bytes of our own.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use super::collect;
use crate::door::limits::Ticket;
use crate::intercept::write::WatchedResponse;
use crate::quota::bulk::SplicedItems;
use crate::upstream::UpstreamBody;

/// A body for the client.
pub(crate) enum ResponseBody {
    /// Elasticsearch's, as it arrives.
    Upstream(Box<UpstreamBody>),
    /// The same, looked at on its way.
    Watched(Box<WatchedResponse>),
    /// The same, of which a part has already been read.
    ReadAhead(Box<ReadAhead>),
    /// The response to a bulk, with the items that never reached Elasticsearch.
    Spliced(Box<SplicedItems>),
    /// The same or ours, with what its request holds until it has ended.
    Holding(Box<Holding>),
    /// Ours, with `content-length`.
    Full(Option<Bytes>),
    /// Ours, chunked: what Elasticsearch does for searches and mappings.
    Chunked(Option<Bytes>),
}

impl ResponseBody {
    pub(crate) fn empty() -> Self {
        Self::Full(None)
    }

    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::Full((!bytes.is_empty()).then_some(bytes))
    }

    pub(crate) fn chunked(bytes: impl Into<Bytes>) -> Self {
        Self::Chunked(Some(bytes.into()))
    }

    /// Reads it wholly, up to `cap` bytes; `None` when it is larger.
    pub(crate) async fn collect(self, cap: usize) -> Result<Option<Bytes>, hyper::Error> {
        collect(self, cap).await
    }

    /// Keeps what the request holds until the response has ended.
    pub(crate) fn holding(self, ticket: Arc<Ticket>) -> Self {
        Self::Holding(Box::new(Holding { body: self, _ticket: ticket }))
    }

    /// The same with its length told instead of chunks, where it is ours.
    pub(crate) fn with_length(self) -> Self {
        match self {
            Self::Chunked(bytes) => Self::Full(bytes),
            other => other,
        }
    }

    /// The same laid out for people, where it is ours and JSON.
    pub(crate) fn laid_out(self) -> Self {
        let pretty = |text: &str| text.starts_with('{').then(|| es_wire::pretty(text));
        match self {
            Self::Full(Some(bytes)) => match std::str::from_utf8(&bytes).ok().and_then(pretty) {
                Some(text) => Self::full(text),
                None => Self::Full(Some(bytes)),
            },
            Self::Holding(mut holding) => {
                holding.body = std::mem::replace(&mut holding.body, Self::empty()).laid_out();
                Self::Holding(holding)
            }
            other => other,
        }
    }

    /// Reads a watched body up to `cap` bytes before the client gets any of it; others stay as they are.
    pub(crate) async fn read_ahead(self, cap: usize) -> Self {
        match self {
            Self::Watched(_) => {
                let mut size = 0;
                self.read_until(|data| {
                    size += data.len();
                    size > cap
                })
                .await
            }
            other => other,
        }
    }

    /// Reads until `enough`, which is shown the data, says so; the client still gets all of it.
    pub(crate) async fn read_until(self, enough: impl FnMut(&[u8]) -> bool) -> Self {
        Self::ReadAhead(Box::new(ReadAhead::of(self, enough).await))
    }
}

/// A response whose request holds something of its tenant's limits: free again when the response has ended, or
/// its client has gone.
pub(crate) struct Holding {
    body: ResponseBody,
    _ticket: Arc<Ticket>,
}

/// A response whose beginning was read before it is passed on, with its framing kept.
pub(crate) struct ReadAhead {
    read: VecDeque<Result<Frame<Bytes>, hyper::Error>>,
    /// `None` once it was read to its end.
    rest: Option<ResponseBody>,
    size_hint: SizeHint,
}

impl ReadAhead {
    async fn of(mut body: ResponseBody, mut enough: impl FnMut(&[u8]) -> bool) -> Self {
        let size_hint = body.size_hint();
        let mut read = VecDeque::new();
        loop {
            let Some(frame) = body.frame().await else { return Self { read, rest: None, size_hint } };
            let broken = frame.is_err();
            let is_enough = frame.as_ref().ok().and_then(Frame::data_ref).is_some_and(|data| enough(data));
            read.push_back(frame);
            if broken {
                return Self { read, rest: None, size_hint };
            }
            if is_enough {
                return Self { read, rest: Some(body), size_hint };
            }
        }
    }
}

impl Body for ReadAhead {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match (self.read.pop_front(), &mut self.rest) {
            (Some(frame), _) => Poll::Ready(Some(frame)),
            (None, Some(rest)) => Pin::new(rest).poll_frame(cx),
            (None, None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        // Asked before anything is taken, to frame the response as Elasticsearch did.
        self.size_hint
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Upstream(body) => Pin::new(body).poll_frame(cx),
            Self::Watched(body) => Pin::new(body).poll_frame(cx),
            Self::ReadAhead(body) => Pin::new(body).poll_frame(cx),
            Self::Spliced(body) => Pin::new(body).poll_frame(cx),
            Self::Holding(body) => Pin::new(&mut body.body).poll_frame(cx),
            Self::Full(bytes) | Self::Chunked(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Upstream(body) => body.is_end_stream(),
            Self::Watched(body) => body.is_end_stream(),
            Self::ReadAhead(body) => body.is_end_stream(),
            Self::Spliced(body) => body.is_end_stream(),
            Self::Holding(body) => body.body.is_end_stream(),
            Self::Full(bytes) | Self::Chunked(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Upstream(body) => body.size_hint(),
            Self::Watched(body) => body.size_hint(),
            Self::ReadAhead(body) => body.size_hint(),
            Self::Spliced(body) => body.size_hint(),
            Self::Holding(body) => body.body.size_hint(),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            // An unknown size is what makes hyper use chunks.
            Self::Chunked(_) => SizeHint::default(),
        }
    }
}
