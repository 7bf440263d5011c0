//! Every request once: bulk loading, and the ids that searches find.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::requests::Prepared;
use crate::{Target, cpu};

/// What to send, and where the ids go.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    /// Writes the ids of each search's hits to this file: one JSON list per request, in their order.
    #[arg(long)]
    hits: Option<PathBuf>,
}

/// The part of a search response that recall needs.
#[derive(Deserialize)]
struct Found {
    hits: Hits,
}

#[derive(Deserialize)]
struct Hits {
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(rename = "_id")]
    id: String,
}

/// What all connections add to. Bodies are kept unread until the clock has stopped.
struct Shared {
    requests: Prepared,
    next: Cell<usize>,
    keep: bool,
    bodies: RefCell<Vec<Bytes>>,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<Value> {
    let target = &options.target;
    let door = target.door()?;
    let requests = Prepared::read(target)?;
    let total = requests.len();
    let mut connections = Vec::new();
    for _ in 0..target.connections {
        connections.push(Connection::open(&door).await?);
    }
    let shared = Rc::new(Shared {
        requests,
        next: Cell::new(0),
        keep: options.hits.is_some(),
        bodies: RefCell::new(vec![Bytes::new(); total]),
    });
    let (used_before, started_unix) = (cpu::seconds_used(), SystemTime::now().duration_since(UNIX_EPOCH)?);
    let started = Instant::now();
    let loops: Vec<_> = connections
        .into_iter()
        .map(|connection| tokio::task::spawn_local(drive(connection, Rc::clone(&shared))))
        .collect();
    for each in loops {
        each.await??;
    }
    let seconds = started.elapsed().as_secs_f64();
    let cpu_s = cpu::seconds_used() - used_before;
    if let Some(file) = &options.hits {
        write_hits(file, &shared.bodies.borrow())
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(json!({
        "connections": target.connections,
        "requests": total,
        "seconds": seconds,
        "started_unix": started_unix.as_secs_f64(),
        "cpu_s": cpu_s,
    }))
}

async fn drive(mut connection: Connection, shared: Rc<Shared>) -> anyhow::Result<()> {
    loop {
        let number = shared.next.get();
        if number >= shared.requests.len() {
            return Ok(());
        }
        shared.next.set(number + 1);
        let body = connection.fetch(shared.requests.request(number)).await?;
        // Bulk says so near its beginning, and answers 200 all the same.
        let head = &body[..body.len().min(200)];
        ensure!(
            !head.windows(13).any(|part| part == b"\"errors\":true"),
            "request {number} was refused in part: {}",
            String::from_utf8_lossy(&body[..body.len().min(600)])
        );
        if shared.keep {
            shared.bodies.borrow_mut()[number] = body;
        }
    }
}

fn write_hits(file: &std::path::Path, bodies: &[Bytes]) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    for body in bodies {
        let found: Found = serde_json::from_slice(body)?;
        let ids: Vec<_> = found.hits.hits.into_iter().map(|hit| hit.id).collect();
        serde_json::to_writer(&mut out, &ids)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}
