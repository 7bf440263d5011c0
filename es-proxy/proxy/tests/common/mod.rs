//! A scripted upstream on a raw socket, the request path with fakes behind its ports, and a raw client.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a module of several test files; each uses its part"
)]

pub mod authority;
pub mod listener;
pub mod one_index;
pub mod ports;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use es_proxy::{Cluster, KnnSource, Mode, Modes, Proxy, ProxyConfig, Server, Telemetry, UpstreamAddress};
use listener::Listener;
use ports::{FakeCluster, NoHits};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc, watch};

pub async fn proxy_to(upstream: SocketAddr) -> SocketAddr {
    proxy_with(upstream, |_| {}).await
}

pub async fn proxy_with(upstream: SocketAddr, change: impl FnOnce(&mut ProxyConfig)) -> SocketAddr {
    let modes = Arc::new(Modes::new(Mode::Serve));
    proxy_on(upstream, FakeCluster::empty(), modes, &mut Registry::default(), change).await
}

pub async fn proxy_on(
    upstream: SocketAddr,
    cluster: Arc<dyn Cluster>,
    modes: Arc<Modes>,
    registry: &mut Registry,
    change: impl FnOnce(&mut ProxyConfig),
) -> SocketAddr {
    proxy_from(upstream, cluster, Arc::new(NoHits), modes, registry, change).await
}

pub async fn proxy_from(
    upstream: SocketAddr,
    cluster: Arc<dyn Cluster>,
    engine: Arc<dyn KnnSource>,
    modes: Arc<Modes>,
    registry: &mut Registry,
    change: impl FnOnce(&mut ProxyConfig),
) -> SocketAddr {
    let mut config = ProxyConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        upstream: vec![UpstreamAddress {
            host: upstream.ip().to_string(),
            port: upstream.port(),
            tls: false,
        }],
        workers: 2,
        ..ProxyConfig::default()
    };
    change(&mut config);
    let listener = es_proxy::bind(config.listen).unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = Proxy::new(config, cluster, engine, Arc::new(NoHits), modes, Telemetry::new(registry));
    Server::start(Arc::new(proxy), listener).unwrap();
    address
}

/// Sends one request on a connection of its own and reads one response.
pub async fn send(proxy: SocketAddr, request: &str) -> String {
    let mut client = TcpStream::connect(proxy).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    let is_head = request.starts_with("HEAD");
    let reading =
        async { if is_head { read_head(&mut client).await } else { read_response(&mut client).await } };
    tokio::time::timeout(Duration::from_secs(10), reading).await.expect("a response in time")
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.unwrap() == 1 {
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

/// Reads a head and the body it announces.
pub async fn read_response(stream: &mut TcpStream) -> String {
    let mut text = read_head(stream).await;
    let lower = text.to_lowercase();
    if let Some(length) = lower.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        let mut body = vec![0; length.trim().parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        text.push_str(&String::from_utf8(body).unwrap());
    } else if lower.contains("transfer-encoding: chunked") {
        let mut byte = [0];
        while !text.ends_with("0\r\n\r\n") && stream.read(&mut byte).await.unwrap() == 1 {
            text.push(byte[0] as char);
        }
    }
    text
}

#[derive(Clone, Copy)]
enum Script {
    Answer(&'static str),
    AnswerAndClose(&'static str),
    /// Answers by the head alone and takes the body for the next request.
    RefuseHead(&'static str),
    HangUp,
    Stream(usize),
}

/// A scripted Elasticsearch.
pub struct Upstream {
    pub address: SocketAddr,
    requests: Mutex<mpsc::UnboundedReceiver<String>>,
    connections: Arc<AtomicUsize>,
    closed: watch::Receiver<usize>,
    sent: Arc<AtomicUsize>,
    _listener: Listener,
}

impl Upstream {
    pub async fn answering(response: &'static str) -> Self {
        Self::start(None, Script::Answer(response)).await
    }

    pub async fn at(address: SocketAddr, response: &'static str) -> Self {
        Self::start(Some(address), Script::Answer(response)).await
    }

    pub async fn closing_after_each(response: &'static str) -> Self {
        Self::start(None, Script::AnswerAndClose(response)).await
    }

    pub async fn refusing_heads(response: &'static str) -> Self {
        Self::start(None, Script::RefuseHead(response)).await
    }

    pub async fn hanging_up() -> Self {
        Self::start(None, Script::HangUp).await
    }

    pub async fn streaming(bytes: usize) -> Self {
        Self::start(None, Script::Stream(bytes)).await
    }

    async fn start(address: Option<SocketAddr>, script: Script) -> Self {
        let wanted = address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let (seen, requests) = mpsc::unbounded_channel();
        let (ended, closed) = watch::channel(0);
        let connections = Arc::new(AtomicUsize::new(0));
        let sent = Arc::new(AtomicUsize::new(0));
        let (counted, counted_bytes) = (Arc::clone(&connections), Arc::clone(&sent));
        let listener = Listener::at(wanted, move |stream| {
            counted.fetch_add(1, Ordering::SeqCst);
            let (seen, ended, bytes) = (seen.clone(), ended.clone(), Arc::clone(&counted_bytes));
            async move {
                play(stream, script, &seen, &bytes).await;
                ended.send_modify(|count| *count += 1);
            }
        });
        let (address, requests) = (listener.address, Mutex::new(requests));
        Self { address, requests, connections, closed, sent, _listener: listener }
    }

    /// The next request that arrived, as text.
    pub async fn request(&self) -> String {
        let mut requests = self.requests.lock().await;
        tokio::time::timeout(Duration::from_secs(5), requests.recv()).await.expect("a request").unwrap()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Returns when a connection has ended.
    pub async fn closed(&self) {
        self.closed.clone().wait_for(|count| *count > 0).await.unwrap();
    }

    /// Bytes written once no more are taken.
    pub async fn sent_when_still(&self) -> usize {
        let mut last = usize::MAX;
        loop {
            let now = self.sent.load(Ordering::SeqCst);
            if now == last && now > 0 {
                return now;
            }
            last = now;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn play(
    mut stream: TcpStream,
    script: Script,
    seen: &mpsc::UnboundedSender<String>,
    sent: &AtomicUsize,
) {
    let with_body = !matches!(script, Script::RefuseHead(_));
    while let Some(request) = read_request(&mut stream, with_body).await {
        let _ = seen.send(request);
        match script {
            Script::HangUp => return,
            Script::Answer(response) | Script::RefuseHead(response) => {
                stream.write_all(response.as_bytes()).await.unwrap()
            }
            Script::AnswerAndClose(response) => {
                stream.write_all(response.as_bytes()).await.unwrap();
                return;
            }
            Script::Stream(bytes) => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                let chunk = vec![b'x'; 64 << 10];
                for _ in 0..bytes / chunk.len() {
                    if stream.write_all(&chunk).await.is_err() {
                        return;
                    }
                    sent.fetch_add(chunk.len(), Ordering::SeqCst);
                }
            }
        }
    }
}

/// One request; `None` at the end of the connection.
async fn read_request(stream: &mut TcpStream, with_body: bool) -> Option<String> {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        read.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&read).to_lowercase();
    if !with_body {
        return String::from_utf8(read).ok();
    }
    if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        let mut body = vec![0; length.trim().parse().ok()?];
        stream.read_exact(&mut body).await.ok()?;
        read.extend_from_slice(&body);
    } else if head.contains("transfer-encoding: chunked") {
        while !read.ends_with(b"0\r\n\r\n") {
            if stream.read(&mut byte).await.ok()? == 0 {
                return None;
            }
            read.push(byte[0]);
        }
    }
    String::from_utf8(read).ok()
}

/// Reads a head and the body it announces, chunks undone, or what came of it when the connection ended.
pub async fn read_message(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|count| count == 1) {
        read.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&read).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    if let Some(length) = length.map(|length| length.trim().parse::<usize>().unwrap()) {
        let whole = read.len() + length;
        while read.len() < whole && stream.read(&mut byte).await.is_ok_and(|count| count == 1) {
            read.push(byte[0]);
        }
    } else if head.contains("transfer-encoding: chunked") {
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") && stream.read(&mut byte).await.is_ok_and(|count| count == 1) {
                line.push(byte[0]);
            }
            let size = std::str::from_utf8(&line).unwrap().trim();
            let mut part = vec![0; usize::from_str_radix(size, 16).unwrap_or(0) + 2];
            if stream.read_exact(&mut part).await.is_err() || part.len() == 2 {
                break;
            }
            read.extend_from_slice(&part[..part.len() - 2]);
        }
    }
    read
}

/// All metrics, as an operator sees them.
pub fn metrics(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

/// The value of a metric, of which labels are a part.
pub fn metric(registry: &Registry, name: &str) -> u64 {
    let text = metrics(registry);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

/// A body in chunks of some bytes.
pub fn in_chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut sent = Vec::new();
    for part in body.chunks(size) {
        sent.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        sent.extend_from_slice(part);
        sent.extend_from_slice(b"\r\n");
    }
    sent.extend_from_slice(b"0\r\n\r\n");
    sent
}

/// A scripted Elasticsearch that speaks bytes: every request gets the same response on a connection that
/// ends with it.
pub struct Recorded {
    pub address: SocketAddr,
    requests: Mutex<mpsc::UnboundedReceiver<Vec<u8>>>,
    _listener: Listener,
}

impl Recorded {
    pub async fn answering(response: Vec<u8>) -> Self {
        let (seen, requests) = mpsc::unbounded_channel();
        let response = Arc::new(response);
        let listener = Listener::serving(move |mut stream| {
            let (seen, response) = (seen.clone(), Arc::clone(&response));
            async move {
                let request = read_message(&mut stream).await;
                let _ = seen.send(request);
                // A client that left does not matter here.
                let _ = stream.write_all(&response).await;
            }
        });
        Self { address: listener.address, requests: Mutex::new(requests), _listener: listener }
    }

    /// The next request that arrived.
    pub async fn request(&self) -> Vec<u8> {
        let mut requests = self.requests.lock().await;
        tokio::time::timeout(Duration::from_secs(5), requests.recv()).await.expect("a request").unwrap()
    }
}
