//! Throughput and latencies over a time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::connection::Connection;
use crate::requests::Prepared;
use crate::{Target, cpu};

/// How long and over how many connections.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    /// Seconds that count.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds before, sent the same way and not counted.
    #[arg(long, default_value_t = 0.3)]
    warm_up: f64,
    /// Requests per second, all connections together, sent at even distances whether or not earlier ones have
    /// been answered in time; without it each connection sends its next request once it has read a response.
    #[arg(long)]
    rate: Option<f64>,
}

/// What all connections add to.
struct Shared {
    requests: Prepared,
    next: Cell<usize>,
    began: Instant,
    counts_from: Instant,
    ends: Instant,
    /// Between two requests.
    pace: Option<Duration>,
    tally: RefCell<Tally>,
}

#[derive(Default)]
struct Tally {
    nanoseconds: Vec<u64>,
    refused: usize,
    bytes: usize,
    /// When the first and the last success that counts came.
    span: Option<(Instant, Instant)>,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<Value> {
    let target = &options.target;
    let door = target.door()?;
    let requests = Prepared::read(target)?;
    let mut connections = Vec::new();
    for _ in 0..target.connections {
        connections.push(Connection::open(&door).await?);
    }
    let began = Instant::now();
    let counts_from = began + Duration::from_secs_f64(options.warm_up);
    let shared = Rc::new(Shared {
        requests,
        next: Cell::new(0),
        began,
        counts_from,
        pace: options.rate.map(|rate| Duration::from_secs_f64(1.0 / rate.max(1e-3))),
        ends: counts_from + Duration::from_secs_f64(options.seconds),
        tally: RefCell::default(),
    });
    let loops: Vec<_> = connections
        .into_iter()
        .map(|connection| tokio::task::spawn_local(drive(connection, Rc::clone(&shared))))
        .collect();
    tokio::time::sleep_until(counts_from.into()).await;
    let used_before = cpu::seconds_used();
    tokio::time::sleep_until(shared.ends.into()).await;
    let used = cpu::seconds_used() - used_before;
    for each in loops {
        each.await??;
    }
    Ok(report(&options, &shared.tally.borrow(), used))
}

async fn drive(mut connection: Connection, shared: Rc<Shared>) -> anyhow::Result<()> {
    loop {
        let number = shared.next.get();
        shared.next.set(number + 1);
        let request = shared.requests.request(number);
        let sent = match shared.pace {
            None => Instant::now(),
            Some(pace) => {
                // Latency counts from when it should have been sent: a server that is late is not spared.
                let due = shared.began + pace.mul_f64(number as f64);
                tokio::time::sleep_until(due.min(shared.ends).into()).await;
                due
            }
        };
        if sent >= shared.ends {
            return Ok(());
        }
        let (status, bytes) = connection.measure(request).await?;
        let now = Instant::now();
        if now >= shared.ends {
            return Ok(());
        }
        if now >= shared.counts_from {
            let mut tally = shared.tally.borrow_mut();
            if status.is_success() {
                tally.nanoseconds.push((now - sent).as_nanos() as u64);
                tally.bytes += bytes;
                tally.span = Some((tally.span.map_or(now, |(first, _)| first), now));
            } else {
                tally.refused += 1;
            }
        }
    }
}

fn report(options: &Options, tally: &Tally, cpu_s: f64) -> Value {
    let mut sorted = tally.nanoseconds.clone();
    sorted.sort_unstable();
    let microseconds = |share: f64| match sorted.len() {
        0 => Value::Null,
        count => json!(sorted[((count - 1) as f64 * share).round() as usize] as f64 / 1e3),
    };
    json!({
        "connections": options.target.connections,
        "seconds": options.seconds,
        "requests": sorted.len(),
        "errors": tally.refused,
        "errors_per_s": tally.refused as f64 / options.seconds,
        // Without the first one: how often they came.
        "successes_per_s": tally.span.map(|(first, last)| (sorted.len() - 1) as f64 / (last - first).as_secs_f64()),
        "qps": sorted.len() as f64 / options.seconds,
        "p50_us": microseconds(0.50),
        "p90_us": microseconds(0.90),
        "p99_us": microseconds(0.99),
        "bytes_per_response": tally.bytes as f64 / sorted.len().max(1) as f64,
        "cpu_s": cpu_s,
    })
}
