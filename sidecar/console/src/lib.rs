//! The admin port: health, metrics and the switch, on a listener of its own. Elasticsearch's port
//! stays Elasticsearch's.
//!
//! | call | answer |
//! |---|---|
//! | `GET /health/live` | 200 while the process runs |
//! | `GET /health/ready` | 200 once all that was there at the start is learnt, else 503 with what is `missing` |
//! | `GET /metrics` | OpenMetrics text |
//! | `GET /api/v1/mode` | the modes in force |
//! | `PUT /api/v1/mode` | switches the node: `{"mode":"serve"\|"shadow"\|"pass"}` |
//! | `PUT /api/v1/indices/{index}/mode` | switches one index |
//!
//! A node that is ready stays so while it learns what came later, which Elasticsearch answers for meanwhile and
//! `learning` names. Both ways of readiness name what is unsafe in `warnings`, where there is something. With TLS the
//! port speaks HTTPS only.
//!
//! Where a token is configured every call but the two health calls must carry it as
//! `Authorization: Bearer …`; without one the port may only be bound to loopback.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use es_tls::{Handshake, ServerTls};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

/// Largest body of an admin call.
const MAX_BODY: usize = 64 << 10;

/// Time that a caller has for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the admin port shows and switches; the binary supplies it.
pub trait Node: Send + Sync + 'static {
    /// Why this node is not to be used yet; empty when it is.
    fn not_ready(&self) -> Vec<String>;

    /// Whose searches Elasticsearch answers until they are learnt.
    fn learning(&self) -> Vec<String> {
        Vec::new()
    }

    /// What is unsafe about this node, by choice or by what Elasticsearch is.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Brings gauges that are read rather than counted up to date, before metrics are written.
    fn refresh_gauges(&self);

    /// The node's mode, and the indices with modes of their own.
    fn modes(&self) -> (String, Vec<(String, String)>);

    /// Switches the node, or one index. The error is for the caller.
    fn set_mode(&self, index: Option<&str>, mode: &str) -> Result<(), String>;
}

/// The admin port's parts.
pub struct Console {
    node: Arc<dyn Node>,
    registry: Registry,
    token: Option<String>,
}

type Answer = Response<Full<Bytes>>;

impl Console {
    /// `token`: what callers must present, `None` where the port is on loopback.
    pub fn new(node: Arc<dyn Node>, registry: Registry, token: Option<String>) -> Arc<Self> {
        Arc::new(Self { node, registry, token })
    }

    /// Serves until the task is dropped.
    pub async fn serve(
        self: Arc<Self>,
        listener: StdListener,
        tls: Option<Arc<ServerTls>>,
    ) -> std::io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accept failed on the admin port");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (console, tls) = (Arc::clone(&self), tls.clone());
            tokio::spawn(async move {
                let Some(tls) = tls else { return console.converse(stream).await };
                match es_tls::accept(&tls, stream, HANDSHAKE_TIMEOUT).await {
                    Handshake::Done { stream, .. } => console.converse(stream).await,
                    other => {
                        tracing::debug!(outcome = other.outcome(), "TLS handshake on the admin port failed")
                    }
                }
            });
        }
    }

    /// The calls of one connection.
    async fn converse(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(move |request| {
            let console = Arc::clone(&self);
            async move { Ok::<_, Infallible>(console.answer(request).await) }
        });
        let connection =
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        if let Err(error) = connection.await {
            tracing::debug!(%error, "admin connection ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().trim_matches('/').to_owned();
        let segments: Vec<&str> = path.split('/').collect();
        let is_health = segments.first() == Some(&"health");
        if !is_health && !self.admits(parts.headers.get(AUTHORIZATION)) {
            let mut refusal = error(StatusCode::UNAUTHORIZED, "the admin token is missing or wrong");
            refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return refusal;
        }
        match (&parts.method, segments.as_slice()) {
            (&Method::GET, ["health", "live"]) => ok(json!({"status": "live"})),
            (&Method::GET, ["health", "ready"]) => self.ready(),
            (&Method::GET, ["metrics"]) => self.metrics(),
            (&Method::GET, ["api", "v1", "mode"]) => self.modes(),
            (&Method::PUT, ["api", "v1", "mode"]) => self.switch(None, body).await,
            (&Method::PUT, ["api", "v1", "indices", index, "mode"]) => self.switch(Some(index), body).await,
            _ => error(StatusCode::NOT_FOUND, &format!("no such call: {} /{path}", parts.method)),
        }
    }

    fn admits(&self, given: Option<&HeaderValue>) -> bool {
        let Some(token) = &self.token else { return true };
        let given =
            given.and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
        given.is_some_and(|given| same(given.as_bytes(), token.as_bytes()))
    }

    fn ready(&self) -> Answer {
        let missing = self.node.not_ready();
        let (status, mut body) = if missing.is_empty() {
            let mut body = json!({"status": "ready"});
            let learning = self.node.learning();
            if !learning.is_empty() {
                body["learning"] = learning.into();
            }
            (StatusCode::OK, body)
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, json!({"status": "not_ready", "missing": missing}))
        };
        let warnings = self.node.warnings();
        if !warnings.is_empty() {
            body["warnings"] = warnings.into();
        }
        answer(status, body)
    }

    fn metrics(&self) -> Answer {
        self.node.refresh_gauges();
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            return error(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written");
        }
        let mut response = Response::new(Full::from(text));
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }

    fn modes(&self) -> Answer {
        let (node, indices) = self.node.modes();
        let indices: serde_json::Map<_, _> =
            indices.into_iter().map(|(name, mode)| (name, mode.into())).collect();
        ok(json!({"mode": node, "indices": indices}))
    }

    async fn switch(&self, index: Option<&str>, body: Incoming) -> Answer {
        let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
            return error(StatusCode::BAD_REQUEST, "the body could not be read");
        };
        let wanted: Result<Wanted, _> = serde_json::from_slice(&body.to_bytes());
        match wanted {
            Err(problem) => {
                error(StatusCode::BAD_REQUEST, &format!("expected {{\"mode\":\"…\"}}: {problem}"))
            }
            Ok(wanted) => match self.node.set_mode(index, &wanted.mode) {
                Ok(()) => self.modes(),
                Err(problem) => error(StatusCode::BAD_REQUEST, &problem),
            },
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    mode: String,
}

fn ok(body: serde_json::Value) -> Answer {
    answer(StatusCode::OK, body)
}

fn error(status: StatusCode, reason: &str) -> Answer {
    answer(status, json!({"error": reason, "status": status.as_u16()}))
}

fn answer(status: StatusCode, body: serde_json::Value) -> Answer {
    let mut response = Response::new(Full::from(format!("{body}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Compares in a time that depends on the lengths alone.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake;

    impl Node for Fake {
        fn not_ready(&self) -> Vec<String> {
            vec!["index [a]: building".into()]
        }
        fn warnings(&self) -> Vec<String> {
            vec!["open to everybody".into()]
        }
        fn refresh_gauges(&self) {}
        fn modes(&self) -> (String, Vec<(String, String)>) {
            ("serve".into(), vec![("a".into(), "pass".into())])
        }
        fn set_mode(&self, _: Option<&str>, mode: &str) -> Result<(), String> {
            if mode == "pass" { Ok(()) } else { Err(format!("[{mode}] is none of …")) }
        }
    }

    #[test]
    fn a_token_is_wanted_where_there_is_one() {
        let open = Console::new(Arc::new(Fake), Registry::default(), None);
        assert!(open.admits(None));
        let closed = Console::new(Arc::new(Fake), Registry::default(), Some("secret".into()));
        assert!(!closed.admits(None));
        assert!(!closed.admits(Some(&HeaderValue::from_static("Bearer secre"))));
        assert!(!closed.admits(Some(&HeaderValue::from_static("Basic secret"))));
        assert!(closed.admits(Some(&HeaderValue::from_static("Bearer secret"))));
    }

    #[tokio::test]
    async fn readiness_says_what_is_missing() {
        let console = Console::new(Arc::new(Fake), Registry::default(), None);
        let response = console.ready();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body);
        assert!(body.contains("index [a]: building") && body.contains("open to everybody"), "{body}");
    }
}
