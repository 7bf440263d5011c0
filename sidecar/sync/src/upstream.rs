//! Our own HTTP calls to Elasticsearch: base URLs, credentials, limits, and one error type.
//!
//! Transparent traffic of clients does not pass here.

use std::sync::atomic::{AtomicUsize, Ordering};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::{Method, StatusCode, header};

use crate::config::{Auth, SyncConfig};

/// Bytes that may not stand in a path segment or a query value.
const RESERVED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b',')
    .add(b'/')
    .add(b':')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'@')
    .add(b'|');

/// Percent-encodes a name for a path segment or a query value.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// In which format an answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    /// A third smaller than JSON and half the work for vectors.
    Cbor,
}

impl Format {
    fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Cbor => "application/cbor",
        }
    }
}

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("unreachable: {0}")]
    Unreachable(String),
    #[error("status {status}: {body}")]
    Status { status: StatusCode, body: String },
    #[error("unreadable answer: {0}")]
    Unreadable(String),
}

impl UpstreamError {
    /// Elasticsearch refuses what means an index with `index.blocks.metadata`, also where others are meant with it.
    pub(crate) fn is_block(&self) -> bool {
        matches!(self, Self::Status { status: StatusCode::FORBIDDEN, body } if body.contains("cluster_block_exception"))
    }
}

/// A pool of connections to one cluster.
pub(crate) struct Upstream {
    client: reqwest::Client,
    bases: Vec<String>,
    current: AtomicUsize,
    auth: Option<Auth>,
}

impl Upstream {
    pub(crate) fn new(config: &SyncConfig) -> Self {
        let client = config.client().expect("a client whose TLS is ready and without proxies cannot fail");
        let bases = config.upstream.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        Self { client, bases, current: AtomicUsize::new(0), auth: config.auth.clone() }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Vec<u8>, UpstreamError> {
        self.call(Method::GET, path, None, Format::Json).await
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        body: String,
        answer: Format,
    ) -> Result<Vec<u8>, UpstreamError> {
        self.call(Method::POST, path, Some(body), answer).await
    }

    pub(crate) async fn put(&self, path: &str, body: String) -> Result<Vec<u8>, UpstreamError> {
        self.call(Method::PUT, path, Some(body), Format::Json).await
    }

    pub(crate) async fn delete(&self, path: &str, body: String) -> Result<Vec<u8>, UpstreamError> {
        self.call(Method::DELETE, path, Some(body), Format::Json).await
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        answer: Format,
    ) -> Result<Vec<u8>, UpstreamError> {
        let used = self.current.load(Ordering::Relaxed);
        let Some(base) = self.bases.get(used % self.bases.len().max(1)) else {
            return Err(UpstreamError::Unreachable("no upstream is configured".to_owned()));
        };
        let mut request =
            self.client.request(method, format!("{base}{path}")).header(header::ACCEPT, answer.media_type());
        request = match &self.auth {
            Some(Auth::Basic { user, password }) => request.basic_auth(user, Some(password)),
            Some(Auth::ApiKey(key)) => request.header(header::AUTHORIZATION, format!("ApiKey {key}")),
            Some(Auth::Bearer(token)) => request.bearer_auth(token),
            None => request,
        };
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, Format::Json.media_type()).body(body);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                self.turn_from(used);
                return Err(UpstreamError::Unreachable(with_causes(&error)));
            }
        };
        let status = response.status();
        let bytes = match response.bytes().await {
            Ok(bytes) => bytes,
            Err(error) => {
                self.turn_from(used);
                return Err(UpstreamError::Unreachable(with_causes(&error)));
            }
        };
        if status.is_success() {
            return Ok(bytes.into());
        }
        let body: String = String::from_utf8_lossy(&bytes).chars().take(500).collect();
        Err(UpstreamError::Status { status, body })
    }

    /// After a failure the next base URL is tried; concurrent failures of one URL count once.
    fn turn_from(&self, used: usize) {
        let next = used.wrapping_add(1);
        let _ = self.current.compare_exchange(used, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// `reqwest` hides the reason ("connection refused") in the chain of sources.
fn with_causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn names_and_preferences_survive_a_url() {
        assert_eq!(encoded("a+b/c?d e"), "a%2Bb%2Fc%3Fd%20e");
        assert_eq!(encoded("_shards:0|_only_nodes:x"), "_shards%3A0%7C_only_nodes%3Ax");
        assert_eq!(encoded(".ds-logs-2024.01"), ".ds-logs-2024.01");
    }
}
