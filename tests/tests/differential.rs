//! Random searches of every shape give, through us, what Elasticsearch gives on a twin index of type `hnsw`: see
//! `src/differential`.

#![allow(missing_docs, reason = "a test")]

use outrigger_tests::differential::{Options, play};
use outrigger_tests::{Elasticsearch, Outrigger};

#[tokio::test]
async fn searches_equal_those_of_a_twin_with_a_graph() {
    let number = |name: &str, default: u64| {
        std::env::var(name)
            .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
    };
    let options = Options {
        seed: number("DIFFERENTIAL_SEED", 11),
        requests: number("DIFFERENTIAL_REQUESTS", 5_000) as usize,
        first_world: number("DIFFERENTIAL_WORLD", 0),
        differences: number("DIFFERENTIAL_DIFFERENCES", 1) as usize,
    };
    let elasticsearch = Elasticsearch::start("differential").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let report = play(&outrigger, elasticsearch.api(), &options).await;
    let seconds = report.took.as_secs_f64();
    eprintln!(
        "{} requests in {seconds:.0} s, {:.0} a second; Elasticsearch answered {} in two ways itself, {} by estimates",
        report.requests,
        report.requests as f64 / seconds,
        report.unsteady,
        report.estimated,
    );
    report.ways.iter().for_each(|(way, count)| eprintln!("{count:8} {way}"));
    report.shapes.iter().for_each(|(shape, ways)| eprintln!("{shape}: {ways:?}"));
    assert!(report.differences.is_empty(), "{}", report.differences.join("\n\n"));
    assert!(report.estimated * 50 <= report.requests, "too many were estimated: {}", report.estimated);
    // What only passes proves nothing.
    let ours = report.went("answer") + report.went("fetch") + report.went("splice");
    assert!(ours * 3 > report.requests, "too few were ours: {:?}", report.ways);
}
