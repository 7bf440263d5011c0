//! Looking at bytes on their way: a watch never changes, keeps or delays them, and gives up rather than
//! hold too much.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use es_wire::{AckReader, Left, WriteScanner};
use http::HeaderValue;
use http_body::{Body, Frame, SizeHint};

use crate::intercept::write::inflate::Inflate;
use crate::intercept::write::share::Share;
use crate::proxy::Proxy;
use crate::upstream::UpstreamBody;

/// So much of a body is looked at in one go: well below 500 µs of work.
const STEP: usize = 64 << 10;
/// The same of a compressed body.
const COMPRESSED_STEP: usize = 16 << 10;

/// What a request says, as far as it has passed.
pub(crate) struct RequestWatch {
    scanner: WriteScanner,
    inflate: Inflate,
    share: Share,
    shared: Arc<Proxy>,
    counted: u64,
}

impl RequestWatch {
    /// `None` for a content coding that cannot be followed.
    pub(crate) fn new(
        scanner: WriteScanner,
        encoding: Option<&HeaderValue>,
        shared: Arc<Proxy>,
    ) -> Option<Self> {
        let inflate = Inflate::of(encoding)?;
        Some(Self { scanner, inflate, share: Share::of(&shared.writes_held), shared, counted: 0 })
    }

    fn feed(&mut self, bytes: &[u8]) {
        let (scanner, inflate) = (&mut self.scanner, &mut self.inflate);
        if inflate.feed(bytes, |plain| scanner.feed(plain)).is_err() {
            scanner.stop(Left::Encoding);
        }
        self.account();
    }

    fn account(&mut self) {
        let scanned = self.scanner.scanned();
        self.shared.telemetry.writes.bytes(scanned - self.counted);
        self.counted = scanned;
        if !self.share.resize(self.scanner.held()) {
            // What is not counted must not be held.
            self.scanner.abandon(Left::Memory);
            self.share.resize(0);
        }
    }

    fn end(mut self) -> (WriteScanner, Share) {
        let (scanner, inflate) = (&mut self.scanner, &mut self.inflate);
        if inflate.finish(|plain| scanner.feed(plain)).is_err() {
            scanner.stop(Left::Encoding);
        }
        self.account();
        (self.scanner, self.share)
    }
}

/// A watch that the body holds while it is sent and that its owner takes back afterwards.
#[derive(Clone)]
pub(crate) struct Watching {
    watch: Rc<RefCell<Option<RequestWatch>>>,
    step: usize,
}

impl Watching {
    pub(crate) fn new(watch: RequestWatch) -> Self {
        let step = if watch.inflate.is_needed() { COMPRESSED_STEP } else { STEP };
        Self { watch: Rc::new(RefCell::new(Some(watch))), step }
    }

    /// Bytes that may be shown at once.
    pub(crate) fn step(&self) -> usize {
        self.step
    }

    /// Shows bytes that are about to be sent.
    pub(crate) fn show(&self, bytes: &[u8]) {
        if let Some(watch) = &mut *self.watch.borrow_mut() {
            watch.feed(bytes);
        }
    }

    /// What was seen of a request that was sent whole.
    pub(crate) fn finish(self) -> Option<(WriteScanner, Share)> {
        self.watch.borrow_mut().take().map(RequestWatch::end)
    }
}

/// A response on its way to the client, and what it acknowledges.
pub(crate) struct WatchedResponse {
    body: Box<UpstreamBody>,
    acks: Option<Acks>,
}

struct Acks {
    reader: AckReader,
    inflate: Inflate,
    /// What the writes that wait for their acknowledgement hold.
    share: Share,
    shared: Arc<Proxy>,
}

impl WatchedResponse {
    /// A response that cannot be read (another format, another coding) acknowledges nothing.
    pub(crate) fn new(
        body: Box<UpstreamBody>,
        (reader, share): (AckReader, Share),
        is_json: bool,
        encoding: Option<&HeaderValue>,
        shared: Arc<Proxy>,
    ) -> Self {
        let readable = Inflate::of(encoding).filter(|_| is_json);
        let is_readable = readable.is_some();
        let acks = Acks { reader, inflate: readable.unwrap_or(Inflate::Not), share, shared };
        let mut this = Self { body, acks: Some(acks) };
        if !is_readable || this.body.is_end_stream() {
            this.settle();
        }
        this
    }

    /// Hands over what is acknowledged, once.
    fn settle(&mut self) {
        let Some(mut acks) = self.acks.take() else { return };
        // What a decoder still holds; broken, it leaves the response without its end.
        let _ = acks.inflate.finish(|plain| acks.reader.feed(plain));
        let settled = acks.reader.finish();
        drop(acks.share);
        acks.shared.telemetry.writes.settled(&settled);
        if !settled.acknowledged.is_empty() {
            acks.shared.cluster.acknowledged(settled.acknowledged);
        }
    }

    fn show(&mut self, bytes: &[u8]) {
        let Some(Acks { reader, inflate, .. }) = &mut self.acks else { return };
        let readable = inflate.feed(bytes, |plain| reader.feed(plain)).is_ok();
        // The client will know when it has these bytes, so ours must be handed over before.
        if !readable || reader.ended() || self.body.is_end_stream() {
            self.settle();
        }
    }
}

impl Body for WatchedResponse {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.show(data);
                }
            }
            // The end, or a connection that broke: then the reader knows that it has not seen all.
            None | Some(Err(_)) => self.settle(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for WatchedResponse {
    /// A client that left before the end: what was not read acknowledges nothing, and is counted.
    fn drop(&mut self) {
        self.settle();
    }
}
