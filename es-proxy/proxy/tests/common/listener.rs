//! A server of a test: each connection has a task of its own, and all end with it.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

pub struct Listener {
    pub address: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Listener {
    /// At any free port.
    pub fn serving<S>(serve: impl Fn(TcpStream) -> S + Send + 'static) -> Self
    where
        S: Future<Output = ()> + Send + 'static,
    {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), serve)
    }

    pub fn at<S>(address: SocketAddr, serve: impl Fn(TcpStream) -> S + Send + 'static) -> Self
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::from_std(es_proxy::bind(address).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream));
            }
        });
        Self { address, accepting }
    }
}
