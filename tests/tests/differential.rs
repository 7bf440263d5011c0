//! Random searches of every shape give, through us, what Elasticsearch gives on a twin index of type `hnsw`: see
//! `src/differential`.

#![allow(missing_docs, reason = "a test")]

use outrigger_tests::differential::{Options, page_of_this_version, play};
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
        "{} requests in {seconds:.0} s, {:.0} a second; Elasticsearch answered {} in two ways itself, {} by estimates, {} without some hits",
        report.requests,
        report.requests as f64 / seconds,
        report.unsteady,
        report.estimated,
        report.skipped,
    );
    report.ways.iter().for_each(|(way, count)| eprintln!("{count:8} {way}"));
    report.shapes.iter().for_each(|(shape, ways)| eprintln!("{shape}: {ways:?}"));
    assert!(report.differences.is_empty(), "{}", report.differences.join("\n\n"));
    assert!(report.estimated * 50 <= report.requests, "too many were estimated: {}", report.estimated);
    assert!(report.skipped * 500 <= report.requests, "too many had hits skipped: {}", report.skipped);
    // What only passes proves nothing.
    let ours = report.went("answer") + report.went("fetch") + report.went("splice");
    assert!(ours * 3 > report.requests, "too few were ours: {:?}", report.ways);
}

#[tokio::test]
#[ignore = "a minute for each version: scripts/fuzz shapes"]
async fn the_page_of_shapes_is_what_is_seen() {
    let elasticsearch = Elasticsearch::start("shapes").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let page = page_of_this_version(&outrigger, elasticsearch.api()).await;
    assert!(page.differences.is_empty(), "{}", page.differences.join("\n"));
    let stale = page.stale_lines(std::env::var_os("SHAPES_WRITE").is_some());
    assert!(stale.is_empty(), "scripts/fuzz shapes --write renews es-proxy/SHAPES.md:\n{}", stale.join("\n"));
}
