//! Responses that come while their request is still being sent: Elasticsearch refuses by the head alone, or in the
//! middle of a body, and then reads on, hangs up, or does neither. The client must get all of such a response, and
//! what it still sends of its body must never be taken for a request, on either side. Its next request on the
//! same connection is served like any other.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::listener::Listener;
use common::{in_chunks, proxy_with};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// What the upstream does when it has answered.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Reads the rest, and serves the next request.
    ReadOn,
    /// Ends the connection with all that is unread: the sender gets a reset.
    HangUp,
    /// Says that it will send no more, and reads on.
    HalfClose,
    /// Neither reads nor ends the connection, for a while.
    Pause,
}

const PAUSE: Duration = Duration::from_millis(50);

/// What a reset does not take away from who has not read it yet.
const MOST_BEFORE_RESET: usize = 30_000;

#[derive(Clone, Debug)]
struct Plan {
    endpoint: &'static str,
    body: usize,
    chunked: bool,
    /// Bytes of the body, as they are on the wire, that the upstream reads before it answers.
    read_before: usize,
    status: &'static str,
    response: usize,
    /// The length of the response is told.
    told: bool,
    then: Then,
    /// The client sends so many bytes at a time.
    step: usize,
    /// And in one piece with the last of them, its next request.
    together: bool,
}

impl Plan {
    fn drawn(random: &mut Xoshiro256PlusPlus) -> Self {
        let pick = |random: &mut Xoshiro256PlusPlus, of: &[usize]| of[random.gen_range(0..of.len())];
        let then = [Then::ReadOn, Then::HangUp, Then::HalfClose, Then::Pause][random.gen_range(0..4)];
        let most = if matches!(then, Then::HangUp) { MOST_BEFORE_RESET } else { usize::MAX };
        let body = pick(random, &[1, 100, 5_000, 70_000, 1_000_000, 4_000_000]) + random.gen_range(0..60);
        Self {
            endpoint: ["/_cluster/reroute", "/_bulk", "/i/_doc/1", "/i/_search", "/_msearch"]
                [random.gen_range(0..5)],
            body,
            chunked: random.gen_bool(0.4),
            read_before: pick(random, &[0, 0, 1, body / 3, body - 1]),
            status: ["413 Payload Too Large", "429 Too Many Requests", "401 Unauthorized", "200 OK"]
                [random.gen_range(0..4)],
            response: pick(random, &[0, 2, 500, 30_000, 600_000]).min(most),
            told: random.gen_bool(0.7),
            then,
            step: pick(random, &[usize::MAX, 65_536, 4_000, 333]).max(body / 2_000),
            together: random.gen_bool(0.5),
        }
    }

    /// A body that is full of requests and of lone line feeds, in case somebody takes it for a head.
    fn sent(&self) -> Vec<u8> {
        let line =
            b"GET /<_smuggled> HTTP/1.1\r\nHost: es\r\n\r\n{\"index\":{}}\nGET /_smuggled HTTP/1.1\r\n\r\n";
        let body: Vec<u8> = line.iter().copied().cycle().take(self.body).collect();
        let mut sent =
            format!("POST {} HTTP/1.1\r\nHost: es\r\nContent-Type: application/x-ndjson\r\n", self.endpoint)
                .into_bytes();
        if self.chunked {
            sent.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            sent.extend_from_slice(&in_chunks(&body, 3_000));
        } else {
            sent.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            sent.extend_from_slice(&body);
        }
        sent
    }

    fn response(&self) -> Vec<u8> {
        let body = vec![b'y'; self.response];
        let head = format!("HTTP/1.1 {}\r\nX-elastic-product: Elasticsearch\r\n", self.status);
        if self.told {
            [format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat()
        } else {
            let chunks = in_chunks(&body, 7_000);
            [format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes(), &chunks].concat()
        }
    }
}

/// The upstream of one plan, and the request lines that it read.
struct Upstream {
    listener: Listener,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    fn of(plan: &Plan) -> Self {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (written, plan) = (Arc::clone(&lines), plan.clone());
        let listener = Listener::serving(move |stream| {
            let (written, plan) = (Arc::clone(&written), plan.clone());
            async move { _ = play(stream, &plan, &written).await }
        });
        Self { listener, lines }
    }
}

/// Serves a connection by the plan; `None` where it ended.
async fn play(stream: TcpStream, plan: &Plan, lines: &Mutex<Vec<String>>) -> Option<()> {
    // What is not sent yet goes with a reset.
    stream.set_nodelay(true).ok()?;
    let mut stream = BufReader::new(stream);
    loop {
        let (line, length) = read_head(&mut stream).await?;
        let is_planned = line.starts_with("POST");
        lines.lock().push(line);
        if !is_planned {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond").await.ok()?;
            continue;
        }
        read_body(&mut stream, length, plan.read_before).await?;
        for part in plan.response().chunks(9_000) {
            stream.write_all(part).await.ok()?;
        }
        match plan.then {
            Then::HangUp => return None,
            Then::HalfClose => {
                stream.shutdown().await.ok()?;
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok()?;
                return None;
            }
            Then::ReadOn | Then::Pause => {
                if matches!(plan.then, Then::Pause) {
                    tokio::time::sleep(PAUSE).await;
                }
                let rest = length.map(|length| length - plan.read_before.min(length));
                read_body(&mut stream, rest, usize::MAX).await?;
            }
        }
    }
}

/// The request line, and the length of the body unless it comes in chunks.
async fn read_head(stream: &mut BufReader<TcpStream>) -> Option<(String, Option<usize>)> {
    let (mut first, mut length) = (String::new(), Some(0));
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|count| *count > 0)?;
        let lower = line.trim_end().to_ascii_lowercase();
        match lower.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok(),
            Some(("transfer-encoding", _)) => length = None,
            _ if lower.is_empty() => return Some((first, length)),
            _ if first.is_empty() => first = line.trim_end().to_owned(),
            _ => {}
        }
    }
}

/// Reads up to so many bytes of a body.
async fn read_body(stream: &mut BufReader<TcpStream>, length: Option<usize>, most: usize) -> Option<()> {
    let mut part = vec![0; 64 << 10];
    match length {
        Some(length) => {
            let mut left = length.min(most);
            while left > 0 {
                let room = left.min(part.len());
                left -= stream.read(&mut part[..room]).await.ok().filter(|count| *count > 0)?;
            }
        }
        None if most == 0 => {}
        None => {
            // The end of the last chunk stands nowhere else in these bodies.
            let (mut seen, mut tail) = (0, Vec::new());
            while seen < most && !tail.ends_with(b"\r\n0\r\n\r\n") {
                let count = stream.read(&mut part[..1]).await.ok().filter(|count| *count > 0)?;
                seen += count;
                tail.push(part[0]);
                if tail.len() > 64 {
                    tail.drain(..32);
                }
            }
        }
    }
    Some(())
}

const SECOND: &[u8] = b"GET /_second HTTP/1.1\r\nHost: es\r\n\r\n";

/// Plays one plan; the error says what is wrong.
async fn check(plan: &Plan) -> Result<(), String> {
    let upstream = Upstream::of(plan);
    let proxy = proxy_with(upstream.listener.address, |config| config.workers = 1).await;
    let stream = TcpStream::connect(proxy).await.unwrap();
    let (reading, mut writing) = stream.into_split();
    let mut sent = plan.sent();
    if plan.together {
        sent.extend_from_slice(SECOND);
    }
    let (step, together) = (plan.step, plan.together);
    let sending = tokio::spawn(async move {
        for part in sent.chunks(step.min(sent.len())) {
            writing.write_all(part).await.map_err(|error| error.to_string())?;
            tokio::task::yield_now().await;
        }
        if !together {
            writing.write_all(SECOND).await.map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(writing)
    });
    let mut reading = BufReader::new(reading);
    let first = read_response(&mut reading).await.map_err(|error| format!("the response: {error}"))?;
    if first.0 != plan.status.split(' ').next().unwrap() || first.1 != "y".repeat(plan.response).into_bytes()
    {
        return Err(format!("another response: {}, {} bytes", first.0, first.1.len()));
    }
    let second = read_response(&mut reading).await.map_err(|error| format!("the next response: {error}"))?;
    if second != ("200".to_owned(), b"second".to_vec()) {
        return Err(format!("another response to the next request: {second:?}"));
    }
    sending.await.unwrap()?;
    let lines = upstream.lines.lock().clone();
    let expected = [format!("POST {} HTTP/1.1", plan.endpoint), "GET /_second HTTP/1.1".to_owned()];
    if lines == expected { Ok(()) } else { Err(format!("the upstream read {lines:?}")) }
}

async fn read_response(
    stream: &mut BufReader<tokio::net::tcp::OwnedReadHalf>,
) -> Result<(String, Vec<u8>), String> {
    let broken = |error: std::io::Error| error.to_string();
    let (mut status, mut length) = (String::new(), None);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.map_err(broken)? == 0 {
            return Err(format!("the connection ended in its head, after {status:?}"));
        }
        let lower = line.trim_end().to_ascii_lowercase();
        match lower.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok(),
            _ if lower.is_empty() => break,
            _ if status.is_empty() => status = line.split(' ').nth(1).unwrap_or_default().to_owned(),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if let Some(length) = length {
        body.resize(length, 0);
        stream.read_exact(&mut body).await.map_err(broken)?;
        return Ok((status, body));
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.map_err(broken)?;
        let size = usize::from_str_radix(line.trim_end(), 16).map_err(|_| format!("cut off at {line:?}"))?;
        let mut part = vec![0; size + 2];
        stream.read_exact(&mut part).await.map_err(broken)?;
        if size == 0 {
            return Ok((status, body));
        }
        body.extend_from_slice(&part[..size]);
    }
}

#[tokio::test]
async fn early_responses_arrive_whole_and_bodies_are_no_requests() {
    let only: Option<u64> = std::env::var("EARLY_CASE").ok().and_then(|text| text.parse().ok());
    let count: u64 = std::env::var("EARLY_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(150);
    for number in only.map_or(0..count, |only| only..only + 1) {
        let plan = Plan::drawn(&mut Xoshiro256PlusPlus::seed_from_u64(number));
        let checked = tokio::time::timeout(Duration::from_secs(20), check(&plan)).await;
        if let Err(fault) = checked.unwrap_or_else(|_| Err("nothing moves".to_owned())) {
            panic!("EARLY_CASE={number}: {fault}\n{plan:?}");
        }
    }
}
