//! Plays raw bytes through the request path and compares what came of them with what was meant.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use es_proxy::{Mode, Modes};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::one_index::{self, Source};
use crate::common::{metric, metrics, proxy_from};
use crate::smuggling::corpus::{Case, End};
use crate::smuggling::recorder::{Recorder, Seen};

/// The request path between a raw client and a recording upstream.
pub struct Stage {
    pub proxy: SocketAddr,
    pub recorder: Recorder,
    registry: Registry,
}

impl Stage {
    pub async fn set() -> Self {
        let recorder = Recorder::start().await;
        let mut registry = Registry::default();
        let modes = Arc::new(Modes::new(Mode::Serve));
        let source = Arc::new(Source::default());
        // One worker, so that all requests share its connections to the upstream.
        let proxy =
            proxy_from(recorder.address, one_index::cluster(true), source, modes, &mut registry, |config| {
                config.workers = 1;
            })
            .await;
        Self { proxy, recorder, registry }
    }

    /// Requests that were served and heads that were refused, so far.
    pub fn counted(&self) -> u64 {
        let text = metrics(&self.registry);
        let is_count = |line: &&str| {
            line.starts_with("outrigger_requests_total{")
                || line.starts_with("outrigger_heads_refused_total{")
        };
        text.lines().filter(is_count).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }
}

/// A response as the client got it.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// Plays a case, `step` bytes at a time; the error says what is wrong.
pub async fn check(stage: &Stage, case: &Case, step: usize) -> Result<(), String> {
    let before = stage.counted();
    let methods: Vec<&str> = case.meant.iter().filter_map(|meant| meant.line.split(' ').next()).collect();
    let received = play(stage.proxy, &case.raw, step, case.end == End::Broken).await?;
    let responses = responses(&received, &methods)?;
    // Somebody else's request right after: on the same connections to the upstream, and with its own response.
    let victim = b"GET /_victim HTTP/1.1\r\nHost: es\r\nConnection: close\r\n\r\n";
    let victims = self::responses(&play(stage.proxy, victim, usize::MAX, false).await?, &["GET"])?;
    let is_own = victims.len() == 1 && victims[0].body == br#"{"you_asked":"GET /_victim"}"#;
    let (mut seen, faults) = stage.recorder.take();
    if !faults.is_empty() {
        return Err(format!("ambiguous bytes reached the upstream: {faults:?}"));
    }
    if !is_own || seen.pop().map(|seen| seen.line).as_deref() != Some("GET /_victim") {
        return Err(format!("the next client got {victims:?}"));
    }
    compare(case, &seen)?;
    compare_responses(case, &responses)?;
    let counted = stage.counted() - before - 1;
    if counted != responses.len() as u64 && !(case.end == End::Broken && counted >= responses.len() as u64) {
        return Err(format!("{} responses, but {counted} requests were counted", responses.len()));
    }
    Ok(())
}

/// How long a client of [`check_unknown`] waits for more before it ends the connection.
const SILENCE: Duration = Duration::from_millis(15);

/// Plays bytes of which nobody knows what they mean. Whatever it is, the upstream must get it unambiguously,
/// each request must be counted, the responses must come in the order of the requests, and the next client must
/// not notice.
pub async fn check_unknown(stage: &Stage, raw: &[u8], step: usize) -> Result<(), String> {
    let before = stage.counted();
    let received = play_on(stage.proxy, raw, step, Close::AfterSilence).await?;
    let victim = b"GET /_victim HTTP/1.1\r\nHost: es\r\nConnection: close\r\n\r\n";
    let victims = responses(&play(stage.proxy, victim, usize::MAX, false).await?, &["GET"])?;
    let (mut seen, faults) = stage.recorder.take();
    let counted = stage.counted() - before - 1;
    if !faults.is_empty() {
        return Err(format!("ambiguous bytes reached the upstream: {faults:?}"));
    }
    let is_own = victims.len() == 1 && victims[0].body == br#"{"you_asked":"GET /_victim"}"#;
    if !is_own || seen.pop().map(|seen| seen.line).as_deref() != Some("GET /_victim") {
        return Err(format!("the next client got {victims:?}, the upstream saw {seen:?}"));
    }
    if metric(&stage.registry, "outrigger_panics_total") != 0 {
        return Err("a panic".to_owned());
    }
    // A request whose client leaves is not counted, and may have been sent.
    if seen.len() as u64 > counted + 1 {
        return Err(format!("{counted} requests were counted, but the upstream saw {seen:?}"));
    }
    let text = String::from_utf8_lossy(&received);
    let mut lines = seen.iter().map(|seen| format!("{:?}}}", seen.line));
    match text.split("{\"you_asked\":").skip(1).find(|answer| !lines.any(|line| answer.starts_with(&line))) {
        None => Ok(()),
        Some(answer) => {
            Err(format!("out of order: {answer}\nthe upstream saw {seen:?}, the client got {text}"))
        }
    }
}

fn compare(case: &Case, seen: &[Seen]) -> Result<(), String> {
    let meant: Vec<_> = case.meant.iter().filter(|meant| meant.goes_on).collect();
    let agree = meant.len() == seen.len()
        && meant.iter().zip(seen).all(|(meant, seen)| meant.line == seen.line && meant.body == seen.body);
    if agree { Ok(()) } else { Err(format!("meant {meant:?}, the upstream saw {seen:?}")) }
}

fn compare_responses(case: &Case, responses: &[Response]) -> Result<(), String> {
    let refused = match case.end {
        End::Served => 0,
        End::Closed => usize::from(case.meant.is_empty() && !responses.is_empty()),
        End::Refused => 1,
        End::Broken => return Ok(()),
    };
    if responses.len() != case.meant.len() + refused {
        return Err(format!("{} requests meant, responses: {responses:?}", case.meant.len()));
    }
    for (meant, response) in case.meant.iter().zip(responses) {
        let own = format!("{{\"you_asked\":{:?}}}", meant.line);
        if meant.goes_on && !meant.line.starts_with("HEAD ") && response.body != own.as_bytes() {
            return Err(format!("{} was answered by {response:?}", meant.line));
        }
    }
    match responses.last() {
        Some(last) if refused == 1 && !is_refusal(last) => {
            Err(format!("no refusal of Elasticsearch's: {last:?}"))
        }
        _ => Ok(()),
    }
}

/// 400 with an error of Elasticsearch's shape.
fn is_refusal(response: &Response) -> bool {
    let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
    response.status == 400
        && body["status"] == 400
        && body["error"]["type"].is_string()
        && body["error"]["root_cause"][0]["reason"].is_string()
        && response.head.to_ascii_lowercase().contains("content-type: application/json")
}

/// When a client ends its side of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Close {
    Never,
    AfterSending,
    AfterSilence,
}

/// Sends bytes on a connection of their own and reads to its end, which must come.
pub async fn play(proxy: SocketAddr, raw: &[u8], step: usize, half_close: bool) -> Result<Vec<u8>, String> {
    play_on(proxy, raw, step, if half_close { Close::AfterSending } else { Close::Never }).await
}

async fn play_on(proxy: SocketAddr, raw: &[u8], step: usize, close: Close) -> Result<Vec<u8>, String> {
    let stream = TcpStream::connect(proxy).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (mut reading, mut writing) = stream.into_split();
    let sending = async {
        for part in raw.chunks(step.min(raw.len().max(1))) {
            // The proxy may have closed already, which is its right.
            if writing.write_all(part).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        if close == Close::AfterSending {
            let _ = writing.shutdown().await;
        }
        writing
    };
    let mut received = Vec::new();
    let both = async {
        let mut part = [0; 4096];
        let (mut sending, mut open) = (Box::pin(sending), None);
        loop {
            let silent = tokio::time::sleep(SILENCE);
            tokio::select! {
                writing = &mut sending, if open.is_none() => open = Some(Some(writing)),
                () = silent, if close == Close::AfterSilence && matches!(open, Some(Some(_))) => open = Some(None),
                // A reset is an end too: the proxy closed while there was more to read.
                read = reading.read(&mut part) => match read {
                    Ok(0) | Err(_) => break,
                    Ok(count) => received.extend_from_slice(&part[..count]),
                },
            }
        }
    };
    match tokio::time::timeout(Duration::from_secs(10), both).await {
        Ok(()) => Ok(received),
        Err(_) => Err(format!("the connection stays open after {:?}", String::from_utf8_lossy(&received))),
    }
}

/// Takes the responses apart; `methods` are those of the requests, as far as they are known.
pub fn responses(bytes: &[u8], methods: &[&str]) -> Result<Vec<Response>, String> {
    let (mut rest, mut responses) = (bytes, Vec::new());
    while !rest.is_empty() {
        let unreadable = || format!("no response: {:?}", String::from_utf8_lossy(rest));
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(unreadable)? + 4;
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        let status = head.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(unreadable)?;
        rest = &rest[end..];
        if status == 100 {
            continue;
        }
        let lower = head.to_ascii_lowercase();
        let length =
            lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let body = match length {
            _ if methods.get(responses.len()) == Some(&"HEAD") => Vec::new(),
            Some(length) => {
                let body = rest.get(..length).ok_or_else(|| format!("cut off: {head}"))?.to_vec();
                rest = &rest[length..];
                body
            }
            None if lower.contains("transfer-encoding: chunked") => {
                let (body, after) = dechunked(rest).ok_or_else(|| format!("cut off: {head}"))?;
                rest = after;
                body
            }
            // Until the connection ends, for HTTP/1.0.
            None => std::mem::take(&mut rest).to_vec(),
        };
        responses.push(Response { status, head, body });
    }
    Ok(responses)
}

fn dechunked(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        let chunk = rest.get(end + 2..end + 2 + size)?;
        body.extend_from_slice(chunk);
        rest = rest[end + 2 + size..].strip_prefix(b"\r\n")?;
        if size == 0 {
            return Some((body, rest));
        }
    }
}
