//! An upstream that writes down every request it gets, and takes nothing that could be read in two ways.
//!
//! What reaches Elasticsearch must not depend on how lenient its parser is. So this one is strict beyond the
//! standard: each line ends in CR LF and holds no control bytes, exactly one header says where the body ends
//! and says it plainly, and nothing that belongs to the client's connection is there. Whatever is otherwise is
//! noted as a fault.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::common::listener::Listener;

/// A request as it arrived whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

#[derive(Default)]
struct Log {
    seen: Vec<Seen>,
    faults: Vec<String>,
}

/// See the head of this file.
pub struct Recorder {
    pub address: SocketAddr,
    log: Arc<Mutex<Log>>,
    _listener: Listener,
}

impl Recorder {
    pub async fn start() -> Self {
        let log = Arc::<Mutex<Log>>::default();
        let writing = Arc::clone(&log);
        let listener = Listener::serving(move |stream| record(stream, Arc::clone(&writing)));
        Self { address: listener.address, log, _listener: listener }
    }

    /// What arrived whole since this was asked last, and what was wrong with anything.
    pub fn take(&self) -> (Vec<Seen>, Vec<String>) {
        let log = std::mem::take(&mut *self.log.lock());
        (log.seen, log.faults)
    }
}

async fn record(stream: TcpStream, log: Arc<Mutex<Log>>) {
    let mut stream = BufReader::new(stream);
    loop {
        match read(&mut stream).await {
            Ok(Some(seen)) => {
                let body = format!("{{\"you_asked\":{:?}}}", seen.line);
                let is_head = seen.line.starts_with("HEAD ");
                log.lock().seen.push(seen);
                let head = format!(
                    "HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                let response = if is_head { head } else { head + &body };
                if stream.write_all(response.as_bytes()).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(fault) => {
                log.lock().faults.push(fault);
                return;
            }
        }
    }
}

/// One request; `None` where the connection ends, also within one: nobody would serve that.
async fn read(stream: &mut BufReader<TcpStream>) -> Result<Option<Seen>, String> {
    let Some(line) = read_line(stream).await? else { return Ok(None) };
    let target = line.strip_suffix(" HTTP/1.1").ok_or(format!("no request line: {line:?}"))?.to_owned();
    if target.split(' ').count() != 2 {
        return Err(format!("no request line: {line:?}"));
    }
    let (mut headers, mut length, mut chunked) = (Vec::new(), None, false);
    loop {
        let Some(line) = read_line(stream).await? else { return Ok(None) };
        if line.is_empty() {
            break;
        }
        let (name, value) = line
            .split_once(':')
            .map(|(name, value)| (name, value.strip_prefix(' ').unwrap_or(value)))
            .ok_or(format!("no header: {line:?}"))?;
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
        {
            return Err(format!("no name of a header: {line:?}"));
        }
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let number = value
                    .parse()
                    .ok()
                    .filter(|number: &usize| value.trim_start_matches('0').len() <= number.to_string().len());
                if length.is_some() || !value.bytes().all(|byte| byte.is_ascii_digit()) || number.is_none() {
                    return Err(format!("no plain length: {line:?}"));
                }
                length = number;
            }
            "transfer-encoding" if value == "chunked" && !chunked => chunked = true,
            "transfer-encoding" | "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer"
            | "upgrade" | "http2-settings" => return Err(format!("not for Elasticsearch: {line:?}")),
            _ => {}
        }
        headers.push((name.to_owned(), value.to_owned()));
    }
    if chunked && length.is_some() {
        return Err("two lengths".to_owned());
    }
    let Some(body) =
        (if chunked { read_chunks(stream).await? } else { read_exact(stream, length.unwrap_or(0)).await })
    else {
        return Ok(None);
    };
    Ok(Some(Seen { line: target, headers, body }))
}

/// A line without its end; `None` where the connection ended before.
async fn read_line(stream: &mut BufReader<TcpStream>) -> Result<Option<String>, String> {
    let mut line = Vec::new();
    if stream.read_until(b'\n', &mut line).await.is_err() || !line.ends_with(b"\n") {
        return Ok(None);
    }
    let line =
        line.strip_suffix(b"\r\n").ok_or(format!("a lone line feed: {}", String::from_utf8_lossy(&line)))?;
    if line.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
        return Err(format!("a control byte: {}", String::from_utf8_lossy(line)));
    }
    Ok(Some(String::from_utf8_lossy(line).into_owned()))
}

async fn read_exact(stream: &mut BufReader<TcpStream>, length: usize) -> Option<Vec<u8>> {
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok().map(|_| body)
}

async fn read_chunks(stream: &mut BufReader<TcpStream>) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        let Some(size) = read_line(stream).await? else { return Ok(None) };
        let count =
            usize::from_str_radix(&size, 16).map_err(|_| format!("no plain size of a chunk: {size:?}"))?;
        let Some(chunk) = read_exact(stream, count).await else { return Ok(None) };
        body.extend_from_slice(&chunk);
        match read_line(stream).await? {
            None => return Ok(None),
            Some(end) if end.is_empty() && count == 0 => return Ok(Some(body)),
            Some(end) if end.is_empty() => {}
            Some(more) => return Err(format!("after a chunk: {more:?}")),
        }
    }
}
