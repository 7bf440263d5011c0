//! A server that gives every request the same small answer, on as little as hyper needs: what the
//! refusals of a server under test are measured by.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};

use crate::requests::named;

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
    /// A header of every answer, as NAME:VALUE; may be repeated.
    #[arg(long)]
    header: Vec<String>,
    /// Threads, each with a runtime and connections of its own.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Serves until the process is ended.
pub(crate) async fn run(options: Options) -> anyhow::Result<Value> {
    let listener = StdListener::bind(options.listen)?;
    listener.set_nonblocking(true)?;
    let mut answer = Response::new(Full::new(Bytes::from(options.body)));
    *answer.status_mut() = StatusCode::from_u16(options.status)?;
    *answer.headers_mut() = named(&options.header)?;
    let mut threads = Vec::new();
    for _ in 0..options.threads.max(1) {
        let (listener, answer) = (listener.try_clone()?, answer.clone());
        threads.push(std::thread::spawn(move || serve(listener, &answer)));
    }
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a thread ended"))??;
    }
    Ok(Value::Null)
}

fn serve(listener: StdListener, answer: &Response<Full<Bytes>>) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let answer = answer.clone();
            tokio::task::spawn_local(async move {
                let service = service_fn(move |_: Request<Incoming>| {
                    let answer = answer.clone();
                    async move { Ok::<_, Infallible>(answer) }
                });
                let connection = http1::Builder::new()
                    .auto_date_header(false)
                    .serve_connection(TokioIo::new(stream), service);
                // A client that goes away is no failure of the measurement.
                let _ = connection.await;
            });
        }
    })
}
