//! What we send to Elasticsearch: bytes that were read already, then what the client still sends, within its limit,
//! watched and counted on the way.

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

use super::{arrived, longer_by};
use crate::accept::{ClientBody, Watch};
use crate::aside::aside;
use crate::door::limits::Meter;
use crate::intercept::write::{Held, Share, Watching};
use crate::quota::bulk::GatedBody;

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

/// Why a body was not read to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is longer than we read, or comes too slowly.
    Long,
    /// All that are read together hold as much as they may.
    NoRoom,
    /// It is encoded in a way that only Elasticsearch should judge.
    Encoded,
}

/// Where the rest of a body comes from.
enum Rest {
    /// On the heap: the body of a request is moved from future to future.
    Client(Box<ClientBody>),
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
    /// The client's connection.
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
    pub(crate) fn streamed(body: ClientBody, limit: u64, client: Rc<Watch>, held: &Arc<Held>) -> Self {
        let share = Some(Share::of(held));
        let rest = (!body.is_end_stream()).then(|| Rest::Client(Box::new(body)));
        Self { client: Some(client), share, ..Self::new(VecDeque::new(), rest, limit) }
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
                Some(frame) => _ = self.keep(frame?),
            }
        }
        self.note_progress();
        Ok(self)
    }

    /// Puts what was read in front of what comes; how much it was. Trailers mean nothing to Elasticsearch.
    fn keep(&mut self, frame: Frame<Bytes>) -> usize {
        let data = frame.into_data().unwrap_or_default();
        let size = data.len();
        self.count(&data);
        self.read.push_back(data);
        size
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
            Some(Some(frame)) => _ = self.keep(frame?),
            Some(None) => self.rest = None,
            None => {}
        }
        Ok(())
    }

    fn note_progress(&self) {
        self.sent_whole.set(self.is_empty());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.read.iter().all(Bytes::is_empty) && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        Pin::new(rest).poll_frame(cx)
    }

    /// Reads the whole body if it fits into `cap` bytes, into what all requests together may hold, and comes in
    /// time. What was read stays in front of `self`, so the body can still be sent; the second value is all of it
    /// in one piece.
    pub(crate) async fn peek(mut self, cap: usize) -> Result<(Self, Result<Bytes, Unread>), BodyFailure> {
        let mut size: usize = self.read.iter().map(Bytes::len).sum();
        let began = self.client.as_ref().map(|client| client.now());
        let mut has_room = self.holds(size);
        while size <= cap && has_room && self.is_in_time(began) {
            if self.rest.is_none() {
                break;
            }
            match poll_fn(|cx| self.poll_rest(cx)).await {
                None => self.rest = None,
                Some(frame) => size += self.keep(frame?),
            }
            has_room = self.holds(size);
        }
        if size as u64 > self.limit {
            return Err(BodyFailure::TooLarge(self.limit));
        }
        if self.rest.is_some() || !has_room {
            return Ok((self, Err(if has_room { Unread::Long } else { Unread::NoRoom })));
        }
        let whole = match self.read.len() {
            0 => Bytes::new(),
            1 => self.read[0].clone(),
            // For a moment there are two.
            _ if !self.holds(2 * size) => return Ok((self, Err(Unread::NoRoom))),
            _ => {
                let parts = std::mem::take(&mut self.read);
                aside(size, move || joined(&parts, size)).await
            }
        };
        self.read = VecDeque::from([whole.clone()]);
        self.holds(size);
        self.note_progress();
        Ok((self, Ok(whole)))
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
        longer_by(read, self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint))
    }
}

fn joined(parts: &VecDeque<Bytes>, size: usize) -> Bytes {
    let mut joined = BytesMut::with_capacity(size);
    parts.iter().for_each(|part| joined.extend_from_slice(part));
    joined.freeze()
}
