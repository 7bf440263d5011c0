//! How fast writes are read as they pass, beside serde_json on the same bytes:
//! `cargo run --release -p es-wire --example scan -- [DIMS] [DOCUMENTS]`.
//!
//! Best of several rounds, in turns, so that a busy machine disturbs both alike.

#![allow(missing_docs, reason = "a program")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use es_wire::{AckReader, Addressed, Capabilities, Catalog, Limits, WriteScanner};

/// What arrives at once over a connection.
const CHUNK: usize = 64 << 10;
const ROUNDS: usize = 300;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|word| word.parse::<usize>().expect("a number"));
    let dims = arguments.next().unwrap_or(384);
    let documents = arguments.next().unwrap_or(50);
    let catalog = catalog(dims);
    println!("{documents} documents of {dims} dimensions; best of {ROUNDS}");
    // As clients print float32 and float64.
    for (name, digits) in [("float32 digits", 8), ("float64 digits", 17)] {
        let (request, response) = (request(dims, documents, digits), response(documents));
        let mut ours = [Duration::MAX; 3];
        let (mut theirs, mut longest) = (Duration::MAX, Duration::ZERO);
        for _ in 0..ROUNDS {
            let (times, chunk) = scan(&catalog, request.as_bytes(), response.as_bytes());
            ours = std::array::from_fn(|at| ours[at].min(times[at]));
            longest = if longest.is_zero() { chunk } else { longest.min(chunk) };
            theirs = theirs.min(parse(&request));
        }
        let per_document = |time: Duration| time.as_secs_f64() * 1e6 / documents as f64;
        let rate = |time: Duration| request.len() as f64 / time.as_secs_f64() / 1e6;
        println!("{name}: {} bytes a document", request.len() / documents);
        println!("  request    {:7.2} us a document, {:6.0} MB/s", per_document(ours[0]), rate(ours[0]));
        println!("  response   {:7.2} us a document", per_document(ours[1]));
        println!(
            "  skipped    {:7.2} us a document, {:6.0} MB/s (no field of ours)",
            per_document(ours[2]),
            rate(ours[2])
        );
        println!("  serde_json {:7.2} us a document, {:6.0} MB/s", per_document(theirs), rate(theirs));
        println!(
            "  serde_json / ours {:.1}; longest chunk of a round, best round: {:.0} us",
            theirs.as_secs_f64() / ours[0].as_secs_f64(),
            longest.as_secs_f64() * 1e6
        );
    }
}

/// Time for the request, for the response, for the request where another field is ours; the longest chunk.
fn scan(catalog: &Arc<Catalog>, request: &[u8], response: &[u8]) -> ([Duration; 3], Duration) {
    let mut longest = Duration::ZERO;
    let mut read = |index: &str| {
        let addressed = Addressed { index: Some(index.to_owned()), ..Addressed::default() };
        let mut scanner = WriteScanner::bulk(Arc::clone(catalog), Vec::new(), addressed, Limits::default());
        let began = Instant::now();
        for chunk in request.chunks(CHUNK) {
            let chunk_began = Instant::now();
            scanner.feed(chunk);
            longest = longest.max(chunk_began.elapsed());
        }
        (scanner, began.elapsed())
    };
    let (_, skipped) = read("elsewhere");
    let (scanner, requested) = read("i");
    let began = Instant::now();
    let mut reader = AckReader::new(scanner, false).expect("writes of interest");
    response.chunks(CHUNK).for_each(|chunk| reader.feed(chunk));
    let settled = black_box(reader.finish());
    let answered = began.elapsed();
    assert!(settled.left.is_empty(), "{:?}", settled.left);
    ([requested, answered, skipped], longest)
}

fn parse(request: &str) -> Duration {
    let began = Instant::now();
    for line in request.lines() {
        black_box(serde_json::from_slice::<serde_json::Value>(line.as_bytes()).expect("JSON"));
    }
    began.elapsed()
}

fn request(dims: usize, documents: usize, digits: usize) -> String {
    // A generator of its own keeps the bytes the same everywhere.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut value = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 / (1u64 << 53) as f64 - 0.5) / 4.0
    };
    let mut text = String::new();
    for id in 0..documents {
        let vector: Vec<String> = (0..dims)
            .map(|_| if digits < 10 { (value() as f32).to_string() } else { value().to_string() })
            .collect();
        let words = "a few words that stand for the text of a document, as most of them have one";
        text.push_str(&format!(
            "{{\"index\":{{\"_id\":\"doc-{id}\"}}}}\n{{\"title\":\"{words}\",\"tags\":[\"a\",\"b\"],\"n\":{id},\"v\":[{}]}}\n",
            vector.join(",")
        ));
    }
    text
}

fn response(documents: usize) -> String {
    let items: Vec<String> = (0..documents)
        .map(|id| {
            format!(
                r#"{{"index":{{"_index":"i","_id":"doc-{id}","_version":1,"result":"created","_shards":{{"total":1,"successful":1,"failed":0}},"_seq_no":{id},"_primary_term":1,"status":201}}}}"#
            )
        })
        .collect();
    format!(r#"{{"errors":false,"took":200,"items":[{}]}}"#, items.join(","))
}

fn catalog(dims: usize) -> Arc<Catalog> {
    let index = |field: &str| {
        format!(
            r#"{{"settings_version":1,"routing_num_shards":1024,"state":"open","settings":{{"index":{{"number_of_shards":"2","uuid":"{field}","version":{{"created":"9039001"}}}}}},"mappings":{{"_doc":{{"properties":{{"{field}":{{"type":"dense_vector","dims":{dims},"index":true,"similarity":"cosine","meta":{{"outrigger.ivf":"default"}}}}}}}}}}}}"#
        )
    };
    let (ours, other) = (index("v"), index("w"));
    let state = format!(r#"{{"version":1,"metadata":{{"indices":{{"i":{ours},"elsewhere":{other}}}}}}}"#);
    let capabilities = Capabilities::of("9.2.0".parse().expect("a version")).expect("a known version");
    Arc::new(Catalog::parse(&state, "{}", &capabilities).expect("a catalog"))
}
