//! A client's socket as hyper gets it: bytes pass, except where hyper and Elasticsearch differ.
//!
//! - **Boundaries.** [`Inbound`] tells heads from bodies, and hyper gets them apart.
//! - **Request lines.** Elasticsearch takes characters in a target that `http::Uri` refuses or reads otherwise.
//!   [`target`](crate::accept::target) writes them as escapes, which Elasticsearch decodes to the same.
//! - **Refusals.** A head that hyper cannot read it answers by itself, without a body. Such an answer is told
//!   from ours by what [`Watch`] knows, and replaced by one of Elasticsearch's shape ([`Refusal`]).
//! - **Waiting.** [`Watch`] hears of all progress.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::accept::inbound::{Inbound, Taken};
use crate::accept::refusal::Refusal;
use crate::accept::watch::Watch;

/// See the head of this file.
pub(super) struct ClientSocket<S> {
    stream: S,
    watch: Rc<Watch>,
    inbound: Inbound,
    /// Received in one piece with what hyper has got already.
    ahead: BytesMut,
    /// What the client gets instead of hyper's own answer.
    refusing: Option<Bytes>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientSocket<S> {
    pub(super) fn new(stream: S, watch: Rc<Watch>, refusal: Refusal) -> Self {
        let inbound = Inbound::new(Rc::clone(&watch), refusal);
        Self { stream, watch, inbound, ahead: BytesMut::new(), refusing: None }
    }

    /// Whether this is an answer of hyper's own, which the client does not get.
    fn is_replaced(&mut self, answer: &[u8]) -> bool {
        if self.refusing.is_none() && self.watch.is_unasked() {
            self.refusing = Some(self.inbound.refusal.instead_of(answer));
        }
        self.refusing.is_some()
    }

    fn poll_refuse(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(left) = self.refusing.as_mut().filter(|left| left.has_remaining()) {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, left))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            left.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    fn noted(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.watch.wrote(written.is_ready());
        written
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.inbound.instead.is_empty() {
                let count = this.inbound.instead.len().min(buf.remaining());
                hand_over(&mut this.inbound.instead, count, buf);
                return Poll::Ready(Ok(()));
            }
            if this.ahead.is_empty() {
                let before = buf.filled().len();
                ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
                let received = &buf.filled()[before..];
                if received.is_empty() {
                    this.inbound.ended();
                    if this.inbound.instead.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    continue;
                }
                this.watch.received();
                let (passed, taken) = match this.inbound.take(received) {
                    Taken::Pass(count) => (count, count),
                    Taken::Keep(count) => (0, count),
                    Taken::End => (0, received.len()),
                };
                this.ahead.extend_from_slice(&received[taken..]);
                buf.set_filled(before + passed);
                if passed > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else {
                let count = this.ahead.len().min(buf.remaining());
                match this.inbound.take(&this.ahead[..count]) {
                    Taken::Pass(count) => {
                        hand_over(&mut this.ahead, count, buf);
                        return Poll::Ready(Ok(()));
                    }
                    Taken::Keep(count) => this.ahead.advance(count),
                    Taken::End => return Poll::Ready(Ok(())),
                }
            }
        }
    }
}

/// Gives `count` bytes away. What is empty then takes no memory: most connections are idle.
fn hand_over(from: &mut BytesMut, count: usize, buf: &mut ReadBuf<'_>) {
    buf.put_slice(&from[..count]);
    if count == from.len() {
        *from = BytesMut::new();
    } else {
        from.advance(count);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_replaced(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_replaced(parts.first().map_or(&[], |part| part)) {
            return Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refuse(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        // hyper calls this when it has nothing left to write.
        self.watch.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refuse(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
