//! Kept-alive connections of one worker thread to Elasticsearch.
//!
//! A connection goes back to the pool when its response body has been read to the end, and is closed
//! when the body is dropped before: closing is how Elasticsearch learns that a client has gone and
//! cancels the search task. It is closed too when the response came before the request was read whole:
//! what Elasticsearch did not read of it would be taken for the beginning of the next request, which may
//! be somebody else's.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use es_tls::UpstreamTls;
use http::header::EXPECT;
use http::{Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::body::{BodyFailure, RequestBody, arrived};
use crate::config::{ProxyConfig, UpstreamAddress};
use crate::door::limits::fair::Place;

/// Connections that may lie idle per worker; further ones are closed after use.
const MAX_IDLE: usize = 256;

/// Why Elasticsearch gave no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// No node took the connection.
    #[error("cannot connect to Elasticsearch at {address}: {source}")]
    Connect { address: String, source: io::Error },
    /// The TLS handshake failed: the node is not who it should be, or does not want us.
    #[error("no TLS connection to Elasticsearch at {address}: {source}")]
    Tls { address: String, source: io::Error },
    /// It did not take a connection, or gave no response head, in time.
    #[error("Elasticsearch at {address} did not {what} within {limit:?}")]
    Timeout { address: String, what: &'static str, limit: Duration },
    /// The connection broke before a response head came.
    #[error("the connection to Elasticsearch broke before it answered: {}", with_causes(.0))]
    Broken(hyper::Error),
    /// More requests than may be are with Elasticsearch, and too many wait.
    #[error("{}", crate::respond::OVERLOADED)]
    Overloaded,
    /// The client's body grew over the limit while it was streamed.
    #[error("the request body is larger than {0} bytes")]
    BodyTooLarge(u64),
    /// The client's body ended early.
    #[error("the request body could not be read: {0}")]
    Client(String),
}

/// hyper says "connection error" where the cause is what helps: a reset, or an alert of TLS.
fn with_causes(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

type Sender = SendRequest<RequestBody>;

/// See the head of this file.
pub(crate) struct Pool {
    inner: Rc<Inner>,
}

struct Inner {
    idle: RefCell<Vec<Sender>>,
    addresses: Vec<UpstreamAddress>,
    tls: Option<Arc<UpstreamTls>>,
    /// The node that answered last.
    preferred: Cell<usize>,
    connect_timeout: Duration,
    response_timeout: Duration,
    max_head_bytes: usize,
}

impl Pool {
    pub(crate) fn new(config: &ProxyConfig) -> Self {
        Self {
            inner: Rc::new(Inner {
                idle: RefCell::new(Vec::new()),
                addresses: config.upstream.clone(),
                tls: config.upstream_tls.clone(),
                preferred: Cell::new(0),
                connect_timeout: config.connect_timeout,
                response_timeout: config.response_timeout,
                max_head_bytes: config.max_head_bytes.max(8 << 10),
            }),
        }
    }

    /// Forgets idle connections that Elasticsearch has closed.
    pub(crate) fn drop_closed(&self) {
        self.inner.idle.borrow_mut().retain(|sender| !sender.is_closed());
    }

    /// Sends a request and waits for the head of its response. A request that never left us is sent
    /// again on a new connection; one that may have been seen is never sent twice, except a GET or
    /// HEAD without a body that met a connection which Elasticsearch had closed meanwhile.
    pub(crate) async fn send(
        &self,
        mut request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        *request.version_mut() = Version::HTTP_11;
        let repeatable = request.method().is_safe() && request.body().is_empty();
        // Elasticsearch refuses an expectation that it does not know without reading the body.
        let expects = request.headers().contains_key(EXPECT);
        request.body_mut().take_along().await?;
        loop {
            let sent_whole = request.body().sent_whole();
            let (mut sender, reused) = match self.inner.checkout().await {
                Some(sender) => (sender, true),
                // Boxed: connections are made seldom, and the future of every request would carry the room for it.
                None => (Box::pin(self.inner.connect()).await?, false),
            };
            let spare = (repeatable && reused).then(|| clone_head(&request));
            let sent = timeout(self.inner.response_timeout, sender.try_send_request(request)).await;
            match sent {
                Ok(Ok(response)) => {
                    let reusable = sent_whole.get() && !expects;
                    return Ok(self.inner.lend(response, reusable.then_some(sender)).await);
                }
                Ok(Err(mut failure)) => match (failure.take_message(), spare) {
                    (Some(unsent), _) if reused => request = unsent,
                    (None, Some(again)) => request = again,
                    _ => return Err(classify(failure.into_error())),
                },
                Err(_) => return Err(self.inner.timed_out("answer", self.inner.response_timeout)),
            }
        }
    }
}

impl Inner {
    /// An idle connection that is still open.
    async fn checkout(&self) -> Option<Sender> {
        loop {
            let mut sender = self.idle.borrow_mut().pop()?;
            if !sender.is_closed() && sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    async fn connect(&self) -> Result<Sender, UpstreamError> {
        let first = self.preferred.get();
        let mut failure = None;
        for step in 0..self.addresses.len() {
            let number = (first + step) % self.addresses.len();
            match self.connect_to(&self.addresses[number]).await {
                Ok(sender) => {
                    self.preferred.set(number);
                    return Ok(sender);
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| self.timed_out("exist", Duration::ZERO)))
    }

    async fn connect_to(&self, address: &UpstreamAddress) -> Result<Sender, UpstreamError> {
        match timeout(self.connect_timeout, self.connect_now(address)).await {
            Ok(connected) => connected,
            Err(_) => Err(self.timed_out("take a connection", self.connect_timeout)),
        }
    }

    async fn connect_now(&self, address: &UpstreamAddress) -> Result<Sender, UpstreamError> {
        let failed = |source| UpstreamError::Connect { address: address.to_string(), source };
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(failed)?;
        // Small requests must not wait for the peer's delayed acknowledgement.
        stream.set_nodelay(true).map_err(failed)?;
        if !address.tls {
            return self.speak_http(stream).await;
        }
        let refused = |source| UpstreamError::Tls { address: address.to_string(), source };
        let tls = self.tls.as_ref().ok_or_else(|| refused(io::Error::other("TLS is not set up")))?;
        self.speak_http(tls.connect(&address.host, stream).await.map_err(refused)?).await
    }

    async fn speak_http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    ) -> Result<Sender, UpstreamError> {
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .max_buf_size(self.max_head_bytes)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(UpstreamError::Broken)?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(sender)
    }

    fn timed_out(&self, what: &'static str, limit: Duration) -> UpstreamError {
        let address = &self.addresses[self.preferred.get()];
        UpstreamError::Timeout { address: address.to_string(), what, limit }
    }

    /// The response, with its connection where that may serve again; without, it ends with the body.
    async fn lend(
        self: &Rc<Self>,
        response: Response<Incoming>,
        sender: Option<Sender>,
    ) -> Response<UpstreamBody> {
        let (head, body) = response.into_parts();
        let body = UpstreamBody { body, ahead: None, sender, pool: Rc::downgrade(self), place: None };
        Response::from_parts(head, body.settled().await)
    }

    fn give_back(&self, sender: Sender) {
        let mut idle = self.idle.borrow_mut();
        if !sender.is_closed() && idle.len() < MAX_IDLE {
            idle.push(sender);
        }
    }
}

fn clone_head(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    copy
}

impl From<BodyFailure> for UpstreamError {
    fn from(failure: BodyFailure) -> Self {
        match failure {
            BodyFailure::TooLarge(limit) => Self::BodyTooLarge(limit),
            BodyFailure::Client(text) => Self::Client(text),
        }
    }
}

/// A failed send is the client's fault when the body we were reading from it failed.
fn classify(error: hyper::Error) -> UpstreamError {
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        if let Some(failure) = inner.downcast_ref::<BodyFailure>() {
            return failure.clone().into();
        }
        cause = inner.source();
    }
    UpstreamError::Broken(error)
}

/// A response body that holds its connection until it has been read.
pub(crate) struct UpstreamBody {
    body: Incoming,
    /// What had come with the head: it leaves with it, too.
    ahead: Option<Result<Frame<Bytes>, hyper::Error>>,
    sender: Option<Sender>,
    pool: Weak<Inner>,
    /// Among the requests that Elasticsearch may have at once.
    place: Option<Place>,
}

impl UpstreamBody {
    /// With what has already arrived. Gives the connection back at once where there is nothing left to read.
    async fn settled(mut self) -> Self {
        if !self.body.is_end_stream() {
            match arrived(&mut self.body).await {
                Some(Some(frame)) => {
                    if frame.is_err() {
                        self.sender = None;
                    }
                    self.ahead = Some(frame);
                }
                Some(None) => self.release(),
                None => {}
            }
        }
        if self.body.is_end_stream() {
            self.release();
        }
        self
    }

    /// Keeps its request's place until it has been read.
    pub(crate) fn hold(&mut self, place: Place) {
        self.place = (!self.body.is_end_stream()).then_some(place);
    }

    fn release(&mut self) {
        self.place = None;
        if let (Some(sender), Some(pool)) = (self.sender.take(), self.pool.upgrade()) {
            pool.give_back(sender);
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(frame) = self.ahead.take() {
            return Poll::Ready(Some(frame));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            None => self.release(),
            Some(Ok(_)) if self.body.is_end_stream() => self.release(),
            Some(Ok(_)) => {}
            Some(Err(_)) => (self.sender, self.place) = (None, None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        let ahead = ahead.map_or(0, Bytes::len) as u64;
        let mut hint = self.body.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + ahead);
        }
        hint.set_lower(hint.lower() + ahead);
        hint
    }
}
