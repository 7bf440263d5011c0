//! Kept-alive connections of one worker thread to Elasticsearch.
//!
//! A connection goes back to the pool when its response body has been read to the end, and is closed
//! when the body is dropped before: closing is how Elasticsearch learns that a client has gone and
//! cancels the search task. It is closed too when the response came before the request was read whole:
//! what Elasticsearch did not read of it would be taken for the beginning of the next request, which may
//! be somebody else's. And so it is after a 400, which may mean that Elasticsearch reads nothing more. Until the
//! end of such a response the request is sent on, as far as Elasticsearch reads it.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use es_tls::UpstreamTls;
use http::header::{EXPECT, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::body::{BodyFailure, RequestBody, arrived, longer_by};
use crate::config::{ProxyConfig, UpstreamAddress};
use crate::door::limits::fair::Place;
use crate::upstream::socket::UpstreamSocket;

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

/// A connection to Elasticsearch.
struct Connection {
    /// With boxed bodies: hyper moves what it sends from place to place.
    sender: SendRequest<Box<RequestBody>>,
    /// Ends it, whatever is under way.
    task: AbortHandle,
}

/// See the head of this file.
pub(crate) struct Pool {
    inner: Rc<Inner>,
}

struct Inner {
    idle: RefCell<Vec<Connection>>,
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
        self.inner.idle.borrow_mut().retain(|connection| !connection.sender.is_closed());
    }

    /// Sends a request and waits for the head of its response. A request that never left us is sent
    /// again on another connection; one that may have been seen is never sent twice, except a GET or
    /// HEAD without a body that met a connection which Elasticsearch had closed meanwhile, so it seems: once,
    /// on a new connection. If it was the request itself that ended the connection, that is enough.
    pub(crate) async fn send(
        &self,
        mut request: Request<Box<RequestBody>>,
    ) -> Result<Response<Box<UpstreamBody>>, UpstreamError> {
        *request.version_mut() = Version::HTTP_11;
        let repeatable = is_repeatable(&request);
        // Elasticsearch refuses an expectation that it does not know without reading the body.
        let expects = request.headers().contains_key(EXPECT);
        request.body_mut().take_along().await?;
        frame_body(&mut request);
        let mut repeated = false;
        loop {
            let sent_whole = request.body().sent_whole();
            let kept = if repeated { None } else { self.inner.checkout().await };
            let (mut connection, reused) = match kept {
                Some(connection) => (connection, true),
                // Boxed: connections are made seldom, and the future of every request would carry the room for it.
                None => (Box::pin(self.inner.connect()).await?, false),
            };
            let spare = (repeatable && reused).then(|| clone_head(&request));
            let sent =
                timeout(self.inner.response_timeout, connection.sender.try_send_request(request)).await;
            match sent {
                Ok(Ok(response)) => {
                    // So it answers a head that it could not read, too long for one, and reads nothing more on
                    // that connection, which it leaves open: who came next would wait for ever.
                    let is_deaf = response.status() == StatusCode::BAD_REQUEST;
                    let reusable = sent_whole.get() && !expects && !is_deaf;
                    return Ok(self.inner.lend(response, connection, reusable).await);
                }
                Ok(Err(mut failure)) => match (failure.take_message(), spare) {
                    (Some(unsent), _) if reused => request = unsent,
                    // What came back and could not be read is an answer.
                    (None, Some(again)) if !failure.error().is_parse() => {
                        (request, repeated) = (again, true);
                    }
                    _ => return Err(classify(failure.into_error())),
                },
                Err(_) => return Err(self.inner.timed_out("answer", self.inner.response_timeout)),
            }
        }
    }
}

impl Inner {
    /// An idle connection that is still open.
    async fn checkout(&self) -> Option<Connection> {
        loop {
            let mut connection = self.idle.borrow_mut().pop()?;
            if !connection.sender.is_closed() && connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<Connection, UpstreamError> {
        let first = self.preferred.get();
        let mut failure = None;
        for step in 0..self.addresses.len() {
            let number = (first + step) % self.addresses.len();
            match self.connect_to(&self.addresses[number]).await {
                Ok(connection) => {
                    self.preferred.set(number);
                    return Ok(connection);
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| self.timed_out("exist", Duration::ZERO)))
    }

    async fn connect_to(&self, address: &UpstreamAddress) -> Result<Connection, UpstreamError> {
        match timeout(self.connect_timeout, self.connect_now(address)).await {
            Ok(connected) => connected,
            Err(_) => Err(self.timed_out("take a connection", self.connect_timeout)),
        }
    }

    async fn connect_now(&self, address: &UpstreamAddress) -> Result<Connection, UpstreamError> {
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
    ) -> Result<Connection, UpstreamError> {
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .max_buf_size(self.max_head_bytes)
            .handshake(TokioIo::new(UpstreamSocket::new(stream)))
            .await
            .map_err(UpstreamError::Broken)?;
        let task = tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(Connection { sender, task: task.abort_handle() })
    }

    fn timed_out(&self, what: &'static str, limit: Duration) -> UpstreamError {
        let address = &self.addresses[self.preferred.get()];
        UpstreamError::Timeout { address: address.to_string(), what, limit }
    }

    /// The response, with its connection, and whether that may serve again.
    async fn lend(
        self: &Rc<Self>,
        response: Response<Incoming>,
        connection: Connection,
        reusable: bool,
    ) -> Response<Box<UpstreamBody>> {
        let (head, body) = response.into_parts();
        let pool = Rc::downgrade(self);
        // Boxed: responses move a dozen times on their way.
        let body = Box::new(UpstreamBody {
            body,
            ahead: [const { None }; 2],
            ended: false,
            connection: Some(connection),
            reusable,
            pool,
            place: None,
        });
        Response::from_parts(head, body.settled().await)
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if !connection.sender.is_closed() && idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }
}

/// hyper leaves out a body of unknown length where the method rarely has one, unless it is told.
fn frame_body(request: &mut Request<Box<RequestBody>>) {
    let is_rare = matches!(*request.method(), Method::GET | Method::HEAD);
    if is_rare && !request.body().is_empty() && request.body().size_hint().exact().is_none() {
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Whether it does no harm that Elasticsearch sees a request twice. A scroll that goes on would skip a page.
fn is_repeatable(request: &Request<Box<RequestBody>>) -> bool {
    let moves_on = || {
        let mut words = request.uri().path().split('/').filter(|word| !word.is_empty());
        (words.next(), words.next()) == (Some("_search"), Some("scroll"))
    };
    request.method().is_safe() && request.body().is_empty() && !moves_on()
}

fn clone_head(request: &Request<Box<RequestBody>>) -> Request<Box<RequestBody>> {
    let mut copy = Request::new(Box::new(RequestBody::empty()));
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
    ahead: [Option<Result<Frame<Bytes>, hyper::Error>>; 2],
    /// Nothing comes after `ahead`: the last chunk has been seen.
    ended: bool,
    /// Until it has ended: without a sender hyper closes its connection.
    connection: Option<Connection>,
    reusable: bool,
    pool: Weak<Inner>,
    /// Among the requests that Elasticsearch may have at once.
    place: Option<Place>,
}

impl UpstreamBody {
    /// With what has already arrived. Of a body in chunks that is also what comes after the first of them, mostly
    /// the end: it would else leave in a packet of its own.
    async fn settled(mut self: Box<Self>) -> Box<Self> {
        let expected = if self.body.size_hint().exact().is_some() { 1 } else { 2 };
        for slot in 0..expected {
            if self.body.is_end_stream() || self.ended {
                break;
            }
            match arrived(&mut self.body).await {
                Some(Some(frame)) => self.ahead[slot] = Some(frame),
                Some(None) if slot > 0 => self.ended = true,
                // An empty body in chunks goes on as such.
                Some(None) => return self.released(),
                None => break,
            }
        }
        if self.ahead.iter().flatten().any(Result::is_err) {
            self.connection = None;
        }
        if self.ended || self.body.is_end_stream() { self.released() } else { self }
    }

    fn released(mut self: Box<Self>) -> Box<Self> {
        self.release();
        self
    }

    /// Keeps its request's place until it has been read.
    pub(crate) fn hold(&mut self, place: Place) {
        self.place = (!self.ended && !self.body.is_end_stream()).then_some(place);
    }

    fn release(&mut self) {
        self.place = None;
        match (self.connection.take(), self.pool.upgrade()) {
            (Some(connection), Some(pool)) if self.reusable => pool.give_back(connection),
            // Elasticsearch has said all that it had to say; the rest of the request is of no use to it.
            (Some(connection), _) => connection.task.abort(),
            (None, _) => {}
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
        if let Some(frame) = self.ahead[0].take() {
            self.ahead.swap(0, 1);
            return Poll::Ready(Some(frame));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            None => {
                self.ended = true;
                self.release();
            }
            Some(Ok(_)) if self.body.is_end_stream() => self.release(),
            Some(Ok(_)) => {}
            Some(Err(_)) => (self.connection, self.place) = (None, None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ahead[0].is_none() && (self.ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.iter().flatten().filter_map(|frame| frame.as_ref().ok()?.data_ref());
        longer_by(ahead.map(Bytes::len).sum::<usize>() as u64, self.body.size_hint())
    }
}
