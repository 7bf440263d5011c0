//! A response on its way to the client, with the knowledge that a request is being served until its end.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::accept::watch::Serving;
use crate::body::ResponseBody;

/// See the head of this file.
pub(super) struct Answer {
    body: ResponseBody,
    /// hyper drops a body at its end.
    _serving: Serving,
}

impl Answer {
    pub(super) fn new(body: ResponseBody, serving: Serving) -> Self {
        Self { body, _serving: serving }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
