//! Listening, and the worker threads.
//!
//! One task accepts and hands each connection to the worker with the fewest; a worker is one thread
//! with a runtime of its own, so a request and its upstream connection never cross threads. At
//! shutdown listening ends, idle connections close, and requests in flight may finish.
//!
//! | file | |
//! |---|---|
//! | [`inbound`] | which bytes are a head, and which a body: [`lines`], [`chunks`] |
//! | [`leftover`] | bodies that nobody needs to read |
//! | [`watch`] | who lets us wait, and who has been idle for longest |
//! | [`socket`] | what hyper gets to read, and what it may write |
//! | [`target`] | targets that hyper would misread |
//! | [`refusal`] | what is said of a head that hyper cannot read |
//! | [`answer`] | when a response has ended |

mod answer;
mod chunks;
mod inbound;
mod leftover;
mod lines;
mod refusal;
mod socket;
mod target;
mod watch;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt;
use http::Request;
use http::header::{CONNECTION, HeaderValue};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::answer::Answer;
pub(crate) use crate::accept::leftover::ClientBody;
use crate::accept::refusal::Refusal;
use crate::accept::socket::ClientSocket;
pub(crate) use crate::accept::watch::Watch;
use crate::accept::watch::Watchman;
use crate::door::Peer;
use crate::handshake;
use crate::proxy::{Proxy, Worker};
use crate::respond;

/// Connections that may wait in the kernel to be accepted.
const BACKLOG: i32 = 1024;

/// How long a connection is silent before the kernel asks whether somebody is still there, as on Elasticsearch's
/// (`network.tcp.keep_alive`): who vanished without a word is found, and what stands between forgets nobody.
const KEEP_ALIVE: Duration = Duration::from_secs(300);

/// How often a worker tidies up. A timer that is always near has another use: for one that is due before all
/// others, as each request's would be, tokio wakes its own driver by a system call.
const TICK: Duration = Duration::from_secs(1);

/// How long one worker is given to make room before the next one is asked.
const ROOM_WAIT: Duration = Duration::from_millis(50);

/// What a worker is told.
enum Order {
    /// A connection, with its place among `max_connections`.
    Serve(StdStream, OwnedSemaphorePermit),
    /// Somebody waits for a place.
    MakeRoom,
}

/// Binds the listening socket. Done before anything else starts, so that a port in use is one clear
/// message.
pub fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Those that are accepted inherit it.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The running request path.
pub struct Server {
    stop: CancellationToken,
    drain_timeout: Duration,
    workers: Vec<WorkerThread>,
}

struct WorkerThread {
    sender: mpsc::UnboundedSender<Order>,
    open: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts the workers and accepts from `listener` until [`Server::shutdown`].
    pub fn start(proxy: Arc<Proxy>, listener: StdListener) -> io::Result<Arc<Self>> {
        let stop = CancellationToken::new();
        let workers = (0..proxy.config.workers.max(1))
            .map(|number| WorkerThread::start(number, Arc::clone(&proxy), stop.clone()))
            .collect::<io::Result<Vec<_>>>()?;
        let server = Arc::new(Self { stop, drain_timeout: proxy.config.drain_timeout, workers });
        let listener = TcpListener::from_std(listener)?;
        tokio::spawn(Arc::clone(&server).accept(listener, proxy.config.max_connections.max(1)));
        Ok(server)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, max_connections: usize) {
        let places = Arc::new(Semaphore::new(max_connections));
        loop {
            let next = async {
                match listener.accept().await {
                    Ok((stream, _)) => Ok((stream, self.place(&places).await)),
                    Err(error) => Err(error),
                }
            };
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                next = next => next,
            };
            match accepted {
                Ok((stream, Some(place))) => self.hand_over(stream, place),
                Ok((_, None)) => return,
                Err(error) => {
                    // Out of file descriptors, most often: give requests in flight time to end.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// A place for one more connection. Where there is none, those that have been idle for longest make room;
    /// where none is idle, it waits.
    async fn place(&self, places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Some(place);
        }
        loop {
            let mut workers: Vec<_> = self.workers.iter().collect();
            workers.sort_by_key(|worker| std::cmp::Reverse(worker.open.load(Ordering::Relaxed)));
            for worker in workers {
                worker.sender.send(Order::MakeRoom).ok()?;
                if let Ok(place) = tokio::time::timeout(ROOM_WAIT, Arc::clone(places).acquire_owned()).await {
                    return place.ok();
                }
            }
        }
    }

    fn hand_over(&self, stream: TcpStream, place: OwnedSemaphorePermit) {
        let Ok(stream) = stream.into_std() else { return };
        if let Some(worker) = self.workers.iter().min_by_key(|worker| worker.open.load(Ordering::Relaxed)) {
            worker.open.fetch_add(1, Ordering::Relaxed);
            // A worker that is gone is only seen at shutdown; the connection closes then.
            let _ = worker.sender.send(Order::Serve(stream, place));
        }
    }

    /// Stops listening, lets requests in flight finish within the drain timeout, ends the workers.
    pub async fn shutdown(self: Arc<Self>) {
        self.stop.cancel();
        let deadline = tokio::time::Instant::now() + self.drain_timeout;
        while self.workers.iter().any(|worker| worker.thread.as_ref().is_some_and(|t| !t.is_finished())) {
            if tokio::time::Instant::now() >= deadline {
                tracing::warn!("requests still in flight at the end of the drain timeout were cut");
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl WorkerThread {
    fn start(number: usize, proxy: Arc<Proxy>, stop: CancellationToken) -> io::Result<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let open = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&open);
        let (started, has_started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            // A runtime that belongs to its thread: a `LocalSet` would be woken by a system call for each event.
            match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => {
                    let _ = started.send(Ok(()));
                    runtime.block_on(run(proxy, receiver, counted, stop));
                }
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
        has_started.recv().map_err(io::Error::other)??;
        Ok(Self { sender, open, thread: Some(thread) })
    }
}

async fn run(
    proxy: Arc<Proxy>,
    mut receiver: mpsc::UnboundedReceiver<Order>,
    open: Arc<AtomicUsize>,
    stop: CancellationToken,
) {
    let (leave, leftovers) = mpsc::unbounded_channel();
    let watchman = Watchman::new(proxy.config.client_timeouts, proxy.telemetry.wire.clone(), leave);
    let watchman = Rc::new(watchman);
    let worker = Rc::new(Worker::new(proxy));
    let connections = TaskTracker::new();
    let mut tick = tokio::time::interval(TICK);
    let watching = Rc::clone(&watchman);
    tokio::task::spawn_local(async move { watching.watch().await });
    tokio::task::spawn_local(leftover::read_all(leftovers));
    loop {
        let order = tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => {
                worker.pool.drop_closed();
                continue;
            }
            order = receiver.recv() => order,
        };
        let (stream, place) = match order {
            Some(Order::Serve(stream, place)) => (stream, place),
            Some(Order::MakeRoom) => {
                watchman.make_room();
                continue;
            }
            None => break,
        };
        let watch = watchman.admit();
        let (worker, open, watched) = (Rc::clone(&worker), Arc::clone(&open), Rc::clone(&watch));
        let task = connections.spawn_local(async move {
            let _place = place;
            let _open = Open::enter(open, &worker);
            let serving = AssertUnwindSafe(serve_connection(Rc::clone(&worker), stream, watched));
            match serving.catch_unwind().await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "client connection ended"),
                Err(panic) => worker.shared.telemetry.wire.panicked(&*panic),
            }
        });
        watch.attended_by(task.abort_handle());
    }
    watchman.stop();
    connections.close();
    connections.wait().await;
}

async fn serve_connection(
    worker: Rc<Worker>,
    stream: StdStream,
    watch: Rc<Watch>,
) -> Result<(), Box<dyn std::error::Error>> {
    stream.set_nodelay(true)?;
    let mut peer = Peer { address: stream.peer_addr()?, local: stream.local_addr()?, certificate: None };
    let stream = TcpStream::from_std(stream)?;
    let Some(tls) = &worker.shared.config.tls else {
        return serve_http(worker, peer, stream, watch).await;
    };
    let shaken = tokio::select! {
        shaken = handshake::with_client(&worker, tls, stream) => shaken,
        () = watch.stopped() => return Ok(()),
    };
    let Some((stream, certificate)) = shaken else { return Ok(()) };
    peer.certificate = certificate;
    serve_http(Rc::clone(&worker), peer, stream, watch).await
}

/// The requests of one connection, whatever it runs over.
async fn serve_http(
    worker: Rc<Worker>,
    peer: Peer,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    watch: Rc<Watch>,
) -> Result<(), Box<dyn std::error::Error>> {
    let peer = Arc::new(peer);
    let config = &worker.shared.config;
    let max_head_bytes = config.max_head_bytes.max(8 << 10);
    let refusal = Refusal::new(config.head, worker.shared.telemetry.wire.clone());
    let stream = TokioIo::new(ClientSocket::new(stream, Rc::clone(&watch), refusal));
    let stopping = Rc::clone(&watch);
    let service = service_fn(move |request: Request<Incoming>| {
        let serving = watch.serving(ClientBody::framing(request.body()));
        let (worker, peer) = (Rc::clone(&worker), Arc::clone(&peer));
        async move {
            let served = AssertUnwindSafe(worker.serve(&peer, request, serving.watch())).catch_unwind().await;
            let mut response = served.unwrap_or_else(|panic| {
                worker.shared.telemetry.wire.panicked(&*panic);
                respond::panicked()
            });
            if serving.watch().is_closing() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| Answer::new(body, serving)))
        }
    });
    let connection = http1::Builder::new()
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_buf_size(max_head_bytes)
        // hyper's limit for reading a head also ends idle connections; Elasticsearch keeps those for ever,
        // and clients rely on it. The watchman knows the one from the other.
        .header_read_timeout(None)
        .serve_connection(stream, service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        result = connection.as_mut() => return Ok(result?),
        () = stopping.stopped() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

/// Counts a connection as open on its worker and in the metrics.
struct Open {
    worker: Arc<AtomicUsize>,
    gauge: prometheus_client::metrics::gauge::Gauge,
}

impl Open {
    fn enter(counter: Arc<AtomicUsize>, worker: &Worker) -> Self {
        let gauge = worker.shared.telemetry.connections.clone();
        gauge.inc();
        Self { worker: counter, gauge }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;

    #[test]
    fn who_vanishes_without_a_word_is_asked_for() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let _client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(SockRef::from(&accepted).keepalive().unwrap());
    }
}
