//! The played shard behind HTTP. One request, by its number, may go wrong: lost on its way there or
//! back, cut, refused, or the last one before the follower's process dies.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::crash::Crash;
use crate::played_shard::PlayedShard;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It does not arrive.
    Lost,
    /// It is carried out, and nobody learns of it.
    Unanswered,
    /// Half of the response arrives.
    Cut,
    /// 503.
    Refused,
    /// The follower dies before it arrives.
    DiesBefore,
    /// The follower dies when it was carried out.
    DiesAfter,
}

pub(crate) struct Server {
    pub(crate) shard: Arc<Mutex<PlayedShard>>,
    pub(crate) url: String,
    pub(crate) requests: Arc<AtomicU64>,
}

type Body = BoxBody<Bytes, io::Error>;

impl Server {
    /// Listens; request number `fault.0` goes wrong.
    pub(crate) async fn start(fault: Option<(u64, Wrong)>, crash: Arc<Crash>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shard = Arc::new(Mutex::new(PlayedShard::new()));
        let requests = Arc::new(AtomicU64::new(0));
        let (serving, counting) = (Arc::clone(&shard), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shard, requests, crash) =
                    (Arc::clone(&serving), Arc::clone(&counting), Arc::clone(&crash));
                let service = service_fn(move |request| {
                    let (shard, crash) = (Arc::clone(&shard), Arc::clone(&crash));
                    let number = requests.fetch_add(1, Ordering::SeqCst);
                    let wrong = fault.and_then(|(at, wrong)| (at == number).then_some(wrong));
                    async move { answer(&shard, request, wrong, &crash).await }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                // A connection that breaks is part of the play.
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self { shard, url, requests }
    }
}

async fn answer(
    shard: &Mutex<PlayedShard>,
    request: Request<Incoming>,
    wrong: Option<Wrong>,
    crash: &Crash,
) -> Result<Response<Body>, io::Error> {
    let broken = || io::Error::from(io::ErrorKind::ConnectionAborted);
    match wrong {
        Some(Wrong::Lost) => return Err(broken()),
        Some(Wrong::DiesBefore) => {
            crash.now();
            return Err(broken());
        }
        Some(Wrong::Refused) => return Ok(respond(503, whole("{\"error\":\"busy\"}".into()))),
        _ => {}
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| broken())?.to_bytes();
    let uri = parts.uri.path_and_query().map_or("/", |uri| uri.as_str());
    let (status, value) = shard.lock().answer(parts.method.as_str(), uri, &String::from_utf8_lossy(&body));
    let text = value.to_string();
    match wrong {
        Some(Wrong::Unanswered) => Err(broken()),
        Some(Wrong::DiesAfter) => {
            crash.now();
            Err(broken())
        }
        Some(Wrong::Cut) => {
            let half = Bytes::from(text[..text.len() / 2].to_owned());
            let frames = [Ok(Frame::data(half)), Err(broken())];
            Ok(respond(status, StreamBody::new(stream::iter(frames)).boxed()))
        }
        _ => Ok(respond(status, whole(text))),
    }
}

fn whole(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {}).boxed()
}

fn respond(status: u16, body: Body) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body)
        .expect("a status and a header that are known to be right")
}
