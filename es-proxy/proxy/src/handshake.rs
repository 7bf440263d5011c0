//! TLS with a client, before its first request. A client that speaks plain HTTP is told so in HTTP, since a
//! connection that just closes leaves people guessing.

use std::time::Duration;

use es_tls::{CertificateNames, Handshake, ServerStream, ServerTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::proxy::Worker;

/// What is read of a plain request after it was answered: closing with bytes unread would take the answer along.
const MAX_UNREAD: usize = 256 << 10;

/// How long that may take.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(1);

/// The connection and the names in the client's certificate; `None`: it is over.
pub(crate) async fn with_client(
    worker: &Worker,
    tls: &ServerTls,
    stream: TcpStream,
) -> Option<(Box<ServerStream>, Option<CertificateNames>)> {
    let shared = &worker.shared;
    let began = shared.telemetry.handshakes.begin();
    let handshake = es_tls::accept(tls, stream, shared.config.tls_handshake_timeout).await;
    began.ended(handshake.outcome());
    match handshake {
        Handshake::Done { stream, names } => return Some((stream, names)),
        Handshake::PlainHttp(stream) => refuse_plain(stream).await,
        Handshake::Failed(error) => tracing::debug!(%error, "TLS handshake with a client failed"),
        Handshake::TimedOut => tracing::debug!("TLS handshake with a client took too long"),
        Handshake::Closed => {}
    }
    None
}

async fn refuse_plain(mut stream: TcpStream) {
    let reason = "this port speaks HTTPS, and the request came without TLS";
    let body = es_wire::error_body(400, "illegal_argument_exception", reason);
    let response = format!(
        "HTTP/1.1 400 Bad Request\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = async {
        stream.write_all(response.as_bytes()).await?;
        stream.shutdown().await?;
        let (mut unread, mut buffer) = (0, vec![0; 16 << 10]);
        while unread < MAX_UNREAD {
            match stream.read(&mut buffer).await? {
                0 => break,
                count => unread += count,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // It may have left, or go on for ever: told is told.
    let _ = tokio::time::timeout(UNREAD_TIMEOUT, answer).await;
}
