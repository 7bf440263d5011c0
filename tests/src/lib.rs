//! A real Elasticsearch and a real `outrigger` for whole-program tests, and the calls that tests make.
//!
//! Elasticsearch comes from `scripts/es`, its version from `OUTRIGGER_TEST_ES` (9.2.0 where it is not
//! set); the program is the one beside the test binary, `cargo build -p outrigger` builds it.

#![forbid(unsafe_code)]

mod api_description;
mod calls;
mod cluster;
mod compare;
pub mod differential;
mod elasticsearch;
mod fault_proxy;
pub mod model;
mod outrigger;
mod vectors;

pub use api_description::api_description;
pub use calls::{Api, Reply};
pub use cluster::Cluster;
pub use compare::{assert_alike, assert_same};
pub use elasticsearch::Elasticsearch;
pub use fault_proxy::{FaultProxy, Faults, Trouble};
pub use outrigger::Outrigger;
pub use vectors::Vectors;

use std::future::Future;
use std::time::{Duration, Instant};

/// Asks again until `probe` has an answer; panics with `what` when the time is up.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = probe().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
