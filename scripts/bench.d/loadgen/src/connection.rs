//! One kept-alive connection: a request goes out, the whole response comes in.

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::door::Door;

/// An open connection to the server under test.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(crate) async fn open(door: &Door) -> anyhow::Result<Self> {
        let server = &door.server;
        let stream =
            TcpStream::connect(server).await.with_context(|| format!("cannot connect to {server}"))?;
        stream.set_nodelay(true)?;
        match &door.tls {
            None => Self::speak_http(stream).await,
            Some(tls) => {
                let name = ServerName::try_from(door.host().to_owned())?;
                let secure = tls.connect(name, stream).await;
                Self::speak_http(secure.with_context(|| format!("no TLS with {server}"))?).await
            }
        }
    }

    async fn speak_http(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> anyhow::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        Ok(Self { sender })
    }

    /// Sends a request and reads the response to its end, keeping nothing; returns its status and length.
    pub(crate) async fn measure(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> anyhow::Result<(StatusCode, usize)> {
        let mut response = self.respond(request).await?;
        let mut length = 0;
        while let Some(frame) = response.body_mut().frame().await {
            length += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok((response.status(), length))
    }

    /// Sends a request and returns the body of its response, which must be a success.
    pub(crate) async fn fetch(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Bytes> {
        let response = self.respond(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{status}: {}", String::from_utf8_lossy(&body[..body.len().min(500)]));
        }
        Ok(body)
    }

    async fn respond(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<http::Response<Incoming>> {
        // A connection that the server closed is an error of the measurement: never opened again in secret.
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }
}
