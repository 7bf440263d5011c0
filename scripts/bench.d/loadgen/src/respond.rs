//! A server that gives every request the same small answer, on as little as hyper needs: what the
//! refusals of a server under test are measured by.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};

/// Where it listens, and what it answers.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Address to listen on.
    #[arg(long)]
    listen: SocketAddr,
    /// Status of every answer.
    #[arg(long, default_value_t = 429)]
    status: u16,
    /// Body of every answer.
    #[arg(long, default_value = "{}")]
    body: String,
    /// Threads, each with a runtime and connections of its own.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Serves until the process is ended.
pub(crate) async fn run(options: Options) -> anyhow::Result<Value> {
    let listener = StdListener::bind(options.listen)?;
    listener.set_nonblocking(true)?;
    let (status, body) = (StatusCode::from_u16(options.status)?, Bytes::from(options.body));
    let mut threads = Vec::new();
    for _ in 0..options.threads.max(1) {
        let (listener, body) = (listener.try_clone()?, body.clone());
        threads.push(std::thread::spawn(move || serve(listener, status, &body)));
    }
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a thread ended"))??;
    }
    Ok(Value::Null)
}

fn serve(listener: StdListener, status: StatusCode, body: &Bytes) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let body = body.clone();
            tokio::task::spawn_local(async move {
                let service = service_fn(move |_: Request<Incoming>| {
                    let answer = answer(status, body.clone());
                    async move { Ok::<_, Infallible>(answer) }
                });
                // A client that goes away is no failure of the measurement.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

fn answer(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
