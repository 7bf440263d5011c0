//! Bodies on their way: what we send to Elasticsearch, what we send to clients, and reading the
//! beginning of a body without losing it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::accept::Watch;
use crate::door::limits::{Meter, Ticket};
use crate::intercept::write::{Held, Share, WatchedResponse, Watching};
use crate::quota::bulk::{GatedBody, SplicedItems};
use crate::upstream::UpstreamBody;

/// So much of a refused request is read before its connection is closed.
const MAX_DISCARDED: usize = 32 << 20;
/// And for so long.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a body that is to be understood may take to arrive.
const MAX_READING: Duration = Duration::from_secs(60);

/// Why a client's body could not be passed on.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum BodyFailure {
    #[error("larger than {0} bytes")]
    TooLarge(u64),
    #[error("{0}")]
    Client(String),
}

/// Where the rest of a body comes from.
enum Rest {
    Client(Incoming),
    /// The same, without what does not get through.
    Gated(Box<GatedBody>),
}

impl Body for Rest {
    type Data = Bytes;
    type Error = BodyFailure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        match self.get_mut() {
            Self::Client(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|read| read.map_err(|error| BodyFailure::Client(error.to_string()))))
            }
            Self::Gated(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Client(body) => body.is_end_stream(),
            Self::Gated(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Client(body) => body.size_hint(),
            Self::Gated(body) => body.size_hint(),
        }
    }
}

/// A body for Elasticsearch: bytes that were already read, then what the client still sends.
pub(crate) struct RequestBody {
    read: VecDeque<Bytes>,
    rest: Option<Rest>,
    left: u64,
    limit: u64,
    /// Told apart from the body itself, which hyper owns while it is sent.
    sent_whole: Rc<Cell<bool>>,
    /// Who is shown the bytes as they are sent.
    watching: Option<Watching>,
    /// Who counts the client's bytes as they come.
    meter: Option<Meter>,
    /// The client's connection, which learns when it is waited for.
    client: Option<Rc<Watch>>,
    /// What is held of it while it is read to be understood.
    share: Option<Share>,
}

impl RequestBody {
    pub(crate) fn empty() -> Self {
        Self::new(VecDeque::new(), None, 0)
    }

    pub(crate) fn full(bytes: Bytes) -> Self {
        let limit = bytes.len() as u64;
        Self::new(VecDeque::from([bytes]), None, limit)
    }

    /// Streams the body that a client sends, up to `limit` bytes.
    pub(crate) fn streamed(body: Incoming, limit: u64, client: Rc<Watch>, held: &Arc<Held>) -> Self {
        let share = Some(Share::of(held));
        Self { client: Some(client), share, ..Self::new(VecDeque::new(), Some(Rest::Client(body)), limit) }
    }

    /// Streams what gets through a gate, up to `limit` bytes.
    pub(crate) fn gated(body: GatedBody, limit: u64) -> Self {
        Self::new(VecDeque::new(), Some(Rest::Gated(Box::new(body))), limit)
    }

    /// Waits for the first bytes, or for the end of a body without any.
    pub(crate) async fn begun(mut self) -> Result<Self, BodyFailure> {
        while self.read.is_empty() {
            let Some(rest) = &mut self.rest else { break };
            match rest.frame().await {
                None => self.rest = None,
                Some(frame) => {
                    let data = frame?.into_data().unwrap_or_default();
                    self.count(&data);
                    self.read.push_back(data);
                }
            }
        }
        self.note_progress();
        Ok(self)
    }

    fn new(read: VecDeque<Bytes>, rest: Option<Rest>, limit: u64) -> Self {
        let body = Self {
            read,
            rest,
            left: limit,
            limit,
            sent_whole: Rc::default(),
            watching: None,
            client: None,
            share: None,
            meter: None,
        };
        body.note_progress();
        body
    }

    /// Shows all bytes to a watch as they are sent.
    pub(crate) fn watched_by(mut self, watching: Watching) -> Self {
        self.watching = Some(watching);
        self
    }

    /// Has the bytes that still come counted.
    pub(crate) fn metered_by(mut self, meter: Option<Meter>) -> Self {
        self.meter = meter;
        self
    }

    fn count(&self, data: &[u8]) {
        if let Some(meter) = &self.meter {
            meter.show(data);
        }
    }

    /// Becomes true when the last byte has been handed to the connection.
    pub(crate) fn sent_whole(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.sent_whole)
    }

    /// Shows bytes that come next to the watch. A long part is cut, so that nobody waits long.
    fn show(&mut self, mut data: Bytes) -> Bytes {
        let Some(watching) = &self.watching else { return data };
        if data.len() > watching.step() {
            self.read.push_front(data.split_off(watching.step()));
        }
        watching.show(&data);
        data
    }

    /// Takes along what has already arrived, so that it leaves in one piece with the head of the request:
    /// a system call less for each small body.
    pub(crate) async fn take_along(&mut self) -> Result<(), BodyFailure> {
        let (true, Some(rest)) = (self.read.is_empty(), &mut self.rest) else { return Ok(()) };
        if rest.is_end_stream() {
            return Ok(());
        }
        match arrived(rest).await {
            Some(Some(Ok(frame))) => {
                let data = frame.into_data().unwrap_or_default();
                self.count(&data);
                self.read.push_back(data);
            }
            Some(Some(Err(failure))) => return Err(failure),
            Some(None) => self.rest = None,
            None => {}
        }
        Ok(())
    }

    /// Leaves unread what a client sends of a request that was refused; see [`discard`].
    pub(crate) async fn discard(self) {
        if let Some(rest) = self.rest {
            discard(rest).await;
        }
    }

    fn note_progress(&self) {
        self.sent_whole.set(self.is_empty());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.read.iter().all(Bytes::is_empty) && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let frame = Pin::new(rest).poll_frame(cx);
        if let (Poll::Pending, Some(client)) = (&frame, &self.client) {
            client.wants_body();
        }
        frame
    }

    /// Reads the whole body if it fits into `cap` bytes, into what all requests together may hold, and comes in
    /// time. What was read stays in front of `self`, so the body can still be sent; the second value is a
    /// contiguous copy, absent when the body was not read whole.
    pub(crate) async fn peek(mut self, cap: usize) -> Result<(Self, Option<Bytes>), BodyFailure> {
        let mut size: usize = self.read.iter().map(Bytes::len).sum();
        let began = self.client.as_ref().map(|client| client.now());
        while size <= cap && self.holds(size) && self.is_in_time(began) {
            if self.rest.is_none() {
                break;
            }
            match poll_fn(|cx| self.poll_rest(cx)).await {
                None => self.rest = None,
                Some(Err(failure)) => return Err(failure),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        size += data.len();
                        self.count(&data);
                        self.read.push_back(data);
                    }
                }
            }
        }
        if size as u64 > self.limit {
            return Err(BodyFailure::TooLarge(self.limit));
        }
        if self.rest.is_some() {
            return Ok((self, None));
        }
        let whole = match self.read.len() {
            0 => Bytes::new(),
            1 => self.read[0].clone(),
            _ => {
                let mut joined = BytesMut::with_capacity(size);
                self.read.iter().for_each(|part| joined.extend_from_slice(part));
                joined.freeze()
            }
        };
        self.read = VecDeque::from([whole.clone()]);
        self.note_progress();
        Ok((self, Some(whole)))
    }

    /// Whether there is room for so much of it.
    fn holds(&mut self, size: usize) -> bool {
        self.share.as_mut().is_none_or(|share| share.resize(size))
    }

    /// A client that sends it slowly holds memory; what comes later than this is passed on as it comes.
    fn is_in_time(&self, began: Option<u64>) -> bool {
        let waited =
            self.client.as_ref().zip(began).map(|(client, began)| client.now().saturating_sub(began));
        waited.is_none_or(|millis| millis <= MAX_READING.as_millis() as u64)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFailure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        let data = loop {
            if let Some(data) = self.read.pop_front() {
                if data.is_empty() {
                    continue;
                }
                break data;
            }
            match ready!(self.poll_rest(cx)) {
                None => {
                    self.rest = None;
                    self.note_progress();
                    return Poll::Ready(None);
                }
                Some(Err(failure)) => return Poll::Ready(Some(Err(failure))),
                // Trailers of a request mean nothing to Elasticsearch and are dropped.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.count(&data);
                        break data;
                    }
                    Err(_) => continue,
                },
            }
        };
        let data = self.show(data);
        match self.left.checked_sub(data.len() as u64) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Some(Err(BodyFailure::TooLarge(self.limit)))),
        }
        self.note_progress();
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let read: u64 = self.read.iter().map(|part| part.len() as u64).sum();
        let mut hint = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + read);
        }
        hint.set_lower(hint.lower() + read);
        hint
    }
}

/// A body for the client.
pub(crate) enum ResponseBody {
    /// Elasticsearch's, as it arrives.
    Upstream(UpstreamBody),
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

/// The next frame of a body if it is there already. The connection that reads it learns from being asked
/// that it is wanted, and gets its turn once.
pub(crate) async fn arrived<B: Body + Unpin>(
    body: &mut B,
) -> Option<Option<Result<Frame<B::Data>, B::Error>>> {
    let mut had_its_turn = false;
    poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
        Poll::Ready(frame) => Poll::Ready(Some(frame)),
        Poll::Pending if had_its_turn => Poll::Ready(None),
        Poll::Pending => {
            had_its_turn = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// Reads, for a while, what a client sends of a request that is answered without it: one that cannot send does
/// not read either, and would take the closed connection for the answer. Before the answer, not beside it: what
/// comes after an answer is the head of the next request.
pub(crate) async fn discard(mut body: impl Body<Data = Bytes> + Unpin) {
    if body.is_end_stream() {
        return;
    }
    let reading = async {
        let mut left = MAX_DISCARDED;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // Whoever is slower finds the connection closed.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, reading).await;
}

/// Reads a body of Elasticsearch's wholly, up to `cap` bytes; `None` when it is larger.
pub(crate) async fn collect(
    mut body: impl Body<Data = Bytes, Error = hyper::Error> + Unpin,
    cap: usize,
) -> Result<Option<Bytes>, hyper::Error> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if whole.len() + data.len() > cap {
                return Ok(None);
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(Some(whole.freeze()))
}
