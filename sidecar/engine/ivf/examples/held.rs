//! What a document costs that is held, confirmed and published, on one thread and with trained lists.
//!
//! `held BASE METRIC [BATCH] [ROUNDS]`: a file as `ivf_index::tool` reads it; BATCH (1,000) documents a
//! time, ROUNDS (20) times, new ones after 80 % of the rows. Prints one line of JSON, microseconds of CPU
//! per document.

mod common;

use std::path::Path;

use common::Failure;
use ivf_index::tool::{metric_named, read_vectors};
use knn_types::{Change, Element, SeqNo};
use serde_json::json;

/// Share of the rows that are there before.
const FIRST: f64 = 0.8;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [base, metric, rest @ ..] = args.as_slice() else {
        return Err("usage: held BASE METRIC [BATCH] [ROUNDS]".into());
    };
    let metric = metric_named(metric).ok_or("metric: l2, cosine, dot or mip")?;
    let batch: usize = rest.first().map_or(Ok(1_000), |batch| batch.parse())?;
    let rounds: usize = rest.get(1).map_or(Ok(20), |rounds| rounds.parse())?;
    let mut base = read_vectors(Path::new(base))?;
    base.prepare(Element::Float, metric);
    let rows: Vec<&[f32]> = base.rows().collect();
    let first = (rows.len() as f64 * FIRST) as usize;
    let index = common::empty(base.dims(), metric)?;
    common::fill(&*index, &rows[..first])?;

    let mut took = [0.0; 3];
    let mut next = first;
    for _ in 0..rounds {
        let end = next + batch;
        let changes: Vec<Change> =
            (next..end).map(|n| common::upsert(n % rows.len(), n, rows[n % rows.len()])).collect();
        let shown: Vec<SeqNo> = changes.iter().map(|change| change.order).collect();
        let mut clock = cpu_micros()?;
        let mut lap = |of: &mut f64| -> Result<(), Failure> {
            let now = cpu_micros()?;
            *of += now - clock;
            clock = now;
            Ok(())
        };
        index.hold(changes)?;
        lap(&mut took[0])?;
        assert_eq!(index.confirm(&shown)?.len(), 0, "everything fits");
        lap(&mut took[1])?;
        index.publish(common::epoch(end))?;
        lap(&mut took[2])?;
        next = end;
    }
    let documents = (batch * rounds) as f64;
    let [hold, confirm, publish] = took.map(|took| took / documents);
    let stats = index.stats();
    println!(
        "{}",
        json!({
            "vectors": stats.docs, "dims": base.dims(), "metric": metric.name(), "nlist": stats.nlist, "batch": batch,
            "hold_us": hold, "confirm_us": confirm, "publish_us": publish, "all_us": hold + confirm + publish,
        })
    );
    Ok(())
}

/// CPU time of this thread, which shares the machine with others.
fn cpu_micros() -> Result<f64, Failure> {
    // The first number: nanoseconds on a CPU (proc(5), schedstat).
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: f64 = text.split_whitespace().next().ok_or("an empty schedstat")?.parse()?;
    Ok(nanos / 1e3)
}
