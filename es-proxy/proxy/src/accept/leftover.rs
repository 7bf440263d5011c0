//! Bodies that nobody needs, because their requests were answered without them.
//!
//! A client that cannot send does not read either, and would take a connection that is closed for the answer. So
//! what it still sends is read, beside its answer, until its end: Elasticsearch does the same. It costs what a
//! request costs that is served: who sends it too slowly is cut (`client_body_timeout`), and past a limit the
//! connection closes.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::mpsc;

use crate::accept::inbound::Framing;
use crate::accept::watch::Watch;

/// The body of a client's request. Whoever lets go of it before its end need not care for the rest.
pub(crate) struct ClientBody {
    /// `None` once it has ended.
    body: Option<Incoming>,
    watch: Rc<Watch>,
    /// So many bytes of what nobody needs are read.
    limit: u64,
    /// The client sends nothing before it is told to, which hyper does when the body is read; or it sends its next
    /// request instead, once it has an answer. Nobody could tell, so nothing more is read where nothing was.
    waits: bool,
}

impl ClientBody {
    pub(crate) fn new(body: Incoming, watch: Rc<Watch>, limit: u64, waits: bool) -> Self {
        Self { body: Some(body), watch, limit, waits }
    }

    /// How long a body is, before any of it has been read.
    pub(super) fn framing(body: &Incoming) -> Framing {
        body.size_hint().exact().map_or(Framing::Chunked, Framing::Length)
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.waits = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(cx);
        match &frame {
            Poll::Pending => self.watch.wants_body(),
            Poll::Ready(None | Some(Err(_))) => self.body = None,
            Poll::Ready(Some(Ok(_))) => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        if self.waits {
            self.watch.reads_no_more();
        } else {
            self.watch.leave(body, self.limit);
        }
    }
}

/// What is left of one.
pub(super) struct Leftover {
    body: Incoming,
    left: u64,
    watch: Rc<Watch>,
}

impl Leftover {
    pub(super) fn new(body: Incoming, left: u64, watch: Rc<Watch>) -> Self {
        Self { body, left, watch }
    }

    /// hyper closes the connection where this ends before the body.
    async fn read(mut self) {
        let mut next = async || {
            poll_fn(|cx| {
                let frame = Pin::new(&mut self.body).poll_frame(cx);
                if frame.is_pending() {
                    self.watch.wants_body();
                }
                frame
            })
            .await
        };
        while let Some(Ok(frame)) = next().await {
            let read = frame.data_ref().map_or(0, Bytes::len) as u64;
            let Some(left) = self.left.checked_sub(read) else { return };
            self.left = left;
        }
    }
}

/// Reads what is left of the requests of one worker.
pub(super) async fn read_all(mut leftovers: mpsc::UnboundedReceiver<Leftover>) {
    while let Some(leftover) = leftovers.recv().await {
        tokio::task::spawn_local(leftover.read());
    }
}
