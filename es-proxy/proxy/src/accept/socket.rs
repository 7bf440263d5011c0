//! A client's socket as hyper gets it: bytes pass, except where hyper and Elasticsearch differ.
//!
//! - **Request lines.** Elasticsearch takes characters in a target that `http::Uri` refuses or reads otherwise.
//!   [`target`] writes them as escapes, which Elasticsearch decodes to the same.
//! - **Refusals.** A head that hyper cannot read it answers by itself, without a body. Such an answer is told
//!   from ours by what [`Watch`] knows, and replaced by one of Elasticsearch's shape ([`Refusal`]).
//! - **Waiting.** [`Watch`] hears of all progress.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::accept::refusal::Refusal;
use crate::accept::target::{self, Line};
use crate::accept::watch::Watch;

/// See the head of this file.
pub(super) struct ClientSocket<S> {
    stream: S,
    watch: Rc<Watch>,
    refusal: Refusal,
    /// A request line comes next, or the rest of one.
    line_wanted: bool,
    /// What hyper gets before anything else, once `line_wanted` is over.
    held: BytesMut,
    /// What the client gets instead of hyper's own answer.
    refusing: Option<Bytes>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientSocket<S> {
    pub(super) fn new(stream: S, watch: Rc<Watch>, refusal: Refusal) -> Self {
        Self { stream, watch, refusal, line_wanted: false, held: BytesMut::new(), refusing: None }
    }

    /// Looks at what was just read of a request line. Whether it may go to hyper as it stands in `buf`; it is
    /// held otherwise.
    fn may_go(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> bool {
        let new = &buf.filled()[before..];
        if self.held.is_empty() {
            match target::read(new) {
                Line::Empty => return true,
                Line::Whole(None) => {
                    self.line_wanted = false;
                    return true;
                }
                Line::Whole(Some(changed)) => {
                    self.line_wanted = false;
                    self.held = changed;
                }
                Line::Partial => self.held.extend_from_slice(new),
            }
        } else {
            self.held.extend_from_slice(new);
            if new.contains(&b'\n') {
                self.line_wanted = false;
                if let Line::Whole(Some(changed)) = target::read(&self.held) {
                    self.held = changed;
                }
            }
        }
        if self.line_wanted && self.held.len() > self.refusal.limits.max_line_bytes {
            self.refusal.line_is_too_long();
            self.line_wanted = false;
        }
        buf.set_filled(before);
        false
    }

    /// Whether this is an answer of hyper's own, which the client does not get.
    fn is_replaced(&mut self, answer: &[u8]) -> bool {
        if self.refusing.is_none() && self.watch.is_unasked() {
            self.refusing = Some(self.refusal.instead_of(answer));
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
            if !this.line_wanted && !this.held.is_empty() {
                let count = this.held.len().min(buf.remaining());
                buf.put_slice(&this.held.split_to(count));
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                // The end: hyper says what it makes of half a line.
                this.line_wanted = false;
                if this.held.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            if this.watch.received() {
                this.line_wanted = true;
                this.refusal.begin();
            }
            if this.watch.in_head() {
                if let Some(torn) = this.refusal.saw(&buf.filled()[before..]) {
                    // No parser takes NUL: hyper refuses the head here and now.
                    this.held.extend_from_slice(&buf.filled()[before..before + torn]);
                    this.held.extend_from_slice(b"\0\r\n\r\n");
                    this.line_wanted = false;
                    buf.set_filled(before);
                    continue;
                }
                if this.line_wanted && !this.may_go(buf, before) {
                    continue;
                }
                if !this.held.is_empty() {
                    // The beginning of its line goes first.
                    this.held.extend_from_slice(&buf.filled()[before..]);
                    buf.set_filled(before);
                    continue;
                }
            }
            return Poll::Ready(Ok(()));
        }
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
