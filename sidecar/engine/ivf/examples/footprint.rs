//! What an index takes besides time: memory per vector, with ids like those that Elasticsearch gives,
//! the time to open it, and the cost of thousands of small indexes.
//!
//! ```text
//! cargo run --release -p ivf-index --example footprint -- VECTORS DIMS SMALL_INDEXES DIR
//! ```
//!
//! The first run builds, a second one opens what the first left. The vectors are made here (a thousand clusters): sizes do not depend on what is in them.

use std::path::Path;
use std::time::Instant;

use ivf_index::{Engine, EngineConfig};
use knn_types::{
    Change, ChangeKind, DocKey, Element, Epoch, FieldSpec, IndexKey, IvfOptions, KnnEngine, KnnIndex, Metric,
    SeqNo,
};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256Plus;

const SMALL: u64 = 100;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [vectors, dims, small, dir] = args.as_slice() else {
        panic!("usage: footprint VECTORS DIMS SMALL_INDEXES DIR");
    };
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let (vectors, dims, small) = (number(vectors), number(dims) as usize, number(small));
    large(Path::new(dir), vectors, dims);
    many(Path::new(dir), small, dims);
}

fn large(dir: &Path, vectors: u64, dims: usize) {
    let engine = open(dir);
    let before = anonymous_bytes();
    let started = Instant::now();
    let index = engine.open(&key("large"), &spec(dims)).expect("opens");
    let took = started.elapsed();
    let per_vector = |bytes: u64| bytes as f64 / vectors as f64;
    if index.view().is_empty() {
        fill(&*index, vectors, dims);
        while index.maintain().expect("trains") {}
        index.snapshot().expect("is written");
        println!("{vectors} x {dims} built; run it again to see it opened by a fresh process");
    } else {
        let by_process = anonymous_bytes().saturating_sub(before);
        println!("{} x {dims} opened in {took:.1?}, {} lists", index.view().len(), index.stats().nlist);
        println!("{:.1} B/vector by the process", per_vector(by_process));
    }
    println!("{:.1} B/vector by its own count", per_vector(index.stats().memory_bytes));
}

fn many(dir: &Path, count: u64, dims: usize) {
    let engine = open(dir);
    let before = anonymous_bytes();
    for number in 0..count {
        let index = engine.open(&key(&format!("small-{number}")), &spec(dims)).expect("opens");
        fill(&*index, SMALL, dims);
        index.snapshot().expect("is written");
    }
    println!(
        "{count} indexes of {SMALL} x {dims}: {:.1} MB by the process",
        anonymous_bytes().saturating_sub(before) as f64 / 1e6
    );
}

fn open(dir: &Path) -> Engine {
    Engine::open(EngineConfig { data_dir: Some(dir.to_path_buf()), ..EngineConfig::default() })
        .expect("a directory")
}

fn key(field: &str) -> IndexKey {
    IndexKey { index_uuid: "i".into(), shard: 0, history_uuid: "h".into(), field: field.into() }
}

fn spec(dims: usize) -> FieldSpec {
    FieldSpec { element: Element::Float, dims, metric: Metric::L2, options: IvfOptions::default() }
}

fn fill(index: &dyn KnnIndex, vectors: u64, dims: usize) {
    let mut rng = Xoshiro256Plus::seed_from_u64(7);
    let mut change = |n: u64| {
        let mut cluster = Xoshiro256Plus::seed_from_u64(n % 1_000);
        let vector = (0..dims).map(|_| cluster.r#gen::<f32>() + 0.2 * rng.r#gen::<f32>()).collect();
        Change {
            doc: DocKey::new(auto_id(n)),
            order: SeqNo { primary_term: 1, seq_no: n },
            kind: ChangeKind::Upsert(vector),
        }
    };
    for first in (0..vectors).step_by(5_000) {
        let end = (first + 5_000).min(vectors);
        index.stage((first..end).map(&mut change).collect()).expect("fits");
        let cursor = end as i64 - 1;
        index.publish(Epoch { cursor, max_seq_no: cursor, primary_term: 1 }).expect("is shown");
    }
}

/// Fifteen bytes as Elasticsearch's `TimeBasedUUIDGenerator` lays them out, in URL-safe base64: low
/// bytes of a counter, a clock in milliseconds, a machine's address.
fn auto_id(n: u64) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (counter, clock) = (n.to_le_bytes(), (1_763_000_000_000 + n / 20).to_le_bytes());
    let mut bytes = [0u8; 15];
    bytes[..4].copy_from_slice(&[counter[0], counter[2], clock[1], clock[2]]);
    bytes[4..6].copy_from_slice(&[clock[3], clock[4]]);
    bytes[6..12].copy_from_slice(&[0x3e, 0x12, 0x99, 0xa0, 0x41, 0x07]);
    bytes[12..].copy_from_slice(&[clock[0], counter[1], clock[5]]);
    let bits = bytes.iter().fold(0u128, |bits, &byte| bits << 8 | u128::from(byte));
    (0..20).map(|at| char::from(DIGITS[(bits >> (114 - 6 * at)) as usize & 63])).collect()
}

/// Memory of this process that no file stands behind.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("Linux 4.5 or later");
    let kilobytes = line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
    kilobytes.expect("a number of kB") * 1024
}
