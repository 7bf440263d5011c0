//! The client that `scripts/bench` measures with: it sends prepared requests over kept-alive
//! connections, each sending its next request once it has read the response (a closed loop), and
//! prints one line of JSON.
//!
//! One thread drives all connections: what it costs is plain to see (`cpu_s` beside `seconds`), and it
//! takes as little as it can from the servers that share its processors.

mod connection;
mod cpu;
mod door;
mod once;
mod requests;
mod respond;
mod timed;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, LocalOptions};

/// Sends prepared requests and prints one line of JSON.
#[derive(Parser)]
#[command(name = "loadgen")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send the requests in turn, again and again, for a time: throughput and latencies.
    Timed(timed::Options),
    /// Send every request once: the time it took, and the ids found if wanted.
    Once(once::Options),
    /// Be a server that answers everything alike, at once: the ceiling of what a server on hyper can do.
    Respond(respond::Options),
}

/// What both commands need.
#[derive(clap::Args)]
struct Target {
    /// Where to connect, as HOST:PORT or https://HOST:PORT.
    #[arg(long)]
    server: String,
    /// PEM: who signed the server's certificate, for https.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// The file of prepared requests.
    #[arg(long)]
    requests: PathBuf,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// The content type of every body.
    #[arg(long, default_value = "application/json")]
    content_type: String,
    /// A further header of every request, as NAME:VALUE; may be repeated.
    #[arg(long, value_name = "NAME:VALUE")]
    header: Vec<String>,
}

impl Target {
    fn door(&self) -> anyhow::Result<door::Door> {
        door::Door::new(&self.server, self.ca.as_deref())
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let line = runtime.block_on(async {
        match arguments.command {
            Command::Timed(options) => timed::run(options).await,
            Command::Once(options) => once::run(options).await,
            Command::Respond(options) => respond::run(options).await,
        }
    })?;
    println!("{line}");
    Ok(())
}
