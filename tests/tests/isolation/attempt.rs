//! One request, sent byte for byte: no client in between that would tidy up its path.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// Sent with every request; must never be logged.
pub(crate) const CREDENTIALS: &str = "Basic YWNtZTpodW50ZXIy";

#[derive(Clone)]
pub(crate) struct Attempt {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

pub(crate) fn attempt(method: &'static str, target: impl Into<String>, body: impl Into<Vec<u8>>) -> Attempt {
    let (target, body) = (target.into(), body.into());
    let lines = target.contains("_bulk") || target.contains("_msearch");
    let kind = if lines { "application/x-ndjson" } else { "application/json" };
    let headers = if body.is_empty() { vec![] } else { vec![("content-type", kind.to_owned())] };
    Attempt { method, target, headers, body }
}

impl Attempt {
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Sends the bytes as they are: no client in between that would tidy up the path.
    pub(crate) async fn send(&self, base: &str, tenant: Option<&str>, id: &str) -> Answer {
        let mut head =
            format!("{} {} HTTP/1.1\r\nhost: es\r\nconnection: close\r\n", self.method, self.target);
        head.push_str(&format!("x-opaque-id: {id}\r\nauthorization: {CREDENTIALS}\r\n"));
        if let Some(tenant) = tenant {
            head.push_str(&format!("x-tenant-id: {tenant}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        let (mut bytes, address) = (head.into_bytes(), base.trim_start_matches("http://").to_owned());
        bytes.extend_from_slice(&self.body);
        tokio::task::spawn_blocking(move || exchange(&address, &bytes)).await.expect("an exchange")
    }
}

pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn exchange(address: &str, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    // A refusal may come before everything was sent.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let header = |wanted: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.trim().to_owned())
            .next()
            .unwrap_or_default()
    };
    let body = bytes.get(end + 4..).unwrap_or_default();
    let body = if header("transfer-encoding") == "chunked" { unchunked(body) } else { body.to_vec() };
    Answer { status, content_type: header("content-type"), body }
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|window| window == b"\r\n") {
        let length =
            std::str::from_utf8(&body[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let Some(length) = length.filter(|length| *length > 0 && body.len() >= end + 4 + length) else {
            break;
        };
        whole.extend_from_slice(&body[end + 2..end + 2 + length]);
        body = &body[end + 4 + length..];
    }
    whole
}
