//! A proxy between Outrigger and Elasticsearch that behaves badly on purpose.
//!
//! It reads whole HTTP messages, so that a fault hits exactly one request: the request may be lost, its
//! response may be lost, cut, late, or come from an Elasticsearch that got the request twice (as behind
//! an intermediary that repeats what it thinks was lost).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What may happen to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The connection breaks before Elasticsearch gets the request.
    LoseRequest,
    /// Elasticsearch carries it out, and the connection breaks before a byte of the response arrives.
    LoseResponse,
    /// As above, in the middle of the response.
    CutResponse,
    /// The response comes so many milliseconds late.
    Delay(u64),
    /// Elasticsearch gets the request twice, and the second response arrives.
    RepeatRequest,
}

/// Which requests are hit while faults are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// What happens.
    pub trouble: Trouble,
    /// One request in so many is hit; 1: each.
    pub one_in: u64,
}

struct Shared {
    target: String,
    faults: watch::Sender<Option<Faults>>,
    random: AtomicU64,
    in_flight: AtomicUsize,
    hit: AtomicU64,
}

/// See the head of this file. Ends when dropped.
pub struct FaultProxy {
    url: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl FaultProxy {
    /// Forwards to `target` (`http://host:port`), without faults at first.
    pub async fn start(target: &str, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Arc::new(Shared {
            target: target.trim_start_matches("http://").to_owned(),
            faults: watch::channel(None).0,
            random: AtomicU64::new(seed),
            in_flight: AtomicUsize::new(0),
            hit: AtomicU64::new(0),
        });
        let serving = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                tokio::spawn(async move {
                    // A broken connection is what this proxy is for.
                    let _ = serve(&shared, client).await;
                });
            }
        });
        Self { url, shared, accepting }
    }

    /// `http://host:port` of the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Faults from now on, or none.
    pub fn set(&self, faults: Option<Faults>) {
        self.shared.faults.send_replace(faults);
    }

    /// Faults until `time` has passed; a later call makes this one void.
    pub fn set_for(&self, faults: Faults, time: Duration) {
        self.set(Some(faults));
        let (shared, mut changed) = (Arc::clone(&self.shared), self.shared.faults.subscribe());
        tokio::spawn(async move {
            if tokio::time::timeout(time, changed.changed()).await.is_err() {
                shared.faults.send_replace(None);
            }
        });
    }

    /// Whether there are faults now.
    pub fn is_troubled(&self) -> bool {
        self.shared.faults.borrow().is_some()
    }

    /// Requests that were hit so far.
    pub fn hit(&self) -> u64 {
        self.shared.hit.load(Ordering::Relaxed)
    }

    /// Requests on their way now.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(shared: &Shared, client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = Wire::new(client);
    let mut upstream = None;
    while let Some(request) = client.message(Kind::Request).await? {
        let _in_flight = InFlight::new(&shared.in_flight);
        let trouble = shared.draw();
        if trouble == Some(Trouble::LoseRequest) {
            return Ok(());
        }
        let is_head = request.starts_with(b"HEAD ");
        let mut response = exchange(shared, &mut upstream, &request, is_head).await?;
        match trouble {
            Some(Trouble::LoseResponse) => return Ok(()),
            Some(Trouble::CutResponse) => {
                client.stream.write_all(&response[..response.len() / 2]).await?;
                return Ok(());
            }
            Some(Trouble::Delay(late)) => tokio::time::sleep(Duration::from_millis(late)).await,
            Some(Trouble::RepeatRequest) => {
                response = exchange(shared, &mut upstream, &request, is_head).await?;
            }
            Some(Trouble::LoseRequest) | None => {}
        }
        client.stream.write_all(&response).await?;
    }
    Ok(())
}

impl Shared {
    fn draw(&self) -> Option<Trouble> {
        let faults = (*self.faults.borrow())?;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.random.fetch_add(1, Ordering::Relaxed));
        let hit = random.gen_range(0..faults.one_in.max(1)) == 0;
        self.hit.fetch_add(u64::from(hit), Ordering::Relaxed);
        hit.then_some(faults.trouble)
    }
}

/// One request and its response; a connection that Elasticsearch closed while idle is opened anew.
async fn exchange(
    shared: &Shared,
    upstream: &mut Option<Wire>,
    request: &[u8],
    is_head: bool,
) -> io::Result<Vec<u8>> {
    if let Some(wire) = upstream
        && wire.stream.write_all(request).await.is_ok()
        && let Ok(Some(response)) = wire.message(Kind::Response { is_head }).await
    {
        return Ok(response);
    }
    let stream = TcpStream::connect(&shared.target).await?;
    stream.set_nodelay(true)?;
    let wire = upstream.insert(Wire::new(stream));
    wire.stream.write_all(request).await?;
    let response = wire.message(Kind::Response { is_head }).await?;
    response.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[derive(Clone, Copy)]
enum Kind {
    Request,
    Response { is_head: bool },
}

/// A stream of HTTP/1.1 messages.
struct Wire {
    stream: TcpStream,
    /// Read and not yet given out.
    ahead: Vec<u8>,
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        Self { stream, ahead: Vec::new() }
    }

    async fn more(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.ahead).await
    }

    /// The next whole message as it came; `None` at the end of the stream.
    async fn message(&mut self, kind: Kind) -> io::Result<Option<Vec<u8>>> {
        let head = loop {
            if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                break end + 4;
            }
            if self.more().await? == 0 {
                return if self.ahead.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        };
        let length = match body_length(&self.ahead[..head], kind) {
            Body::Sized(length) => length,
            Body::Chunked => self.chunks(head).await?,
        };
        while self.ahead.len() < head + length {
            self.need_more().await?;
        }
        let rest = self.ahead.split_off(head + length);
        Ok(Some(std::mem::replace(&mut self.ahead, rest)))
    }

    async fn need_more(&mut self) -> io::Result<()> {
        if self.more().await? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Length of a chunked body that starts at `start`, trailers included.
    async fn chunks(&mut self, start: usize) -> io::Result<usize> {
        let mut at = start;
        loop {
            let line = loop {
                if let Some(end) = find(&self.ahead[at..], b"\r\n") {
                    break at + end;
                }
                self.need_more().await?;
            };
            let digits = String::from_utf8_lossy(&self.ahead[at..line]).into_owned();
            let digits = digits.split(';').next().unwrap_or("").trim();
            let size =
                usize::from_str_radix(digits, 16).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            at = line + 2 + size + 2;
            while self.ahead.len() < at {
                self.need_more().await?;
            }
            if size == 0 {
                return Ok(at - start);
            }
        }
    }
}

enum Body {
    Sized(usize),
    Chunked,
}

fn body_length(head: &[u8], kind: Kind) -> Body {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap_or("");
    if let Kind::Response { is_head } = kind
        && (is_head || status == "204" || status == "304")
    {
        return Body::Sized(0);
    }
    let value = |name: &str| {
        let line = head.lines().find(|line| line.split(':').next() == Some(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    if value("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        return Body::Chunked;
    }
    Body::Sized(value("content-length").and_then(|length| length.parse().ok()).unwrap_or(0))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
