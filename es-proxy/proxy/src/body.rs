//! Bodies on their way: what we send to Elasticsearch (`request`), what we send to clients (`response`), and here
//! what is done with bodies of any kind.

mod request;
mod response;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

pub(crate) use self::request::{BodyFailure, RequestBody, Unread};
pub(crate) use self::response::ResponseBody;

/// The size of a body of which so many bytes have been read already.
pub(crate) fn longer_by(read: u64, mut rest: SizeHint) -> SizeHint {
    if let Some(upper) = rest.upper() {
        rest.set_upper(upper + read);
    }
    rest.set_lower(rest.lower() + read);
    rest
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
