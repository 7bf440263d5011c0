//! The model test (`outrigger_tests::model`): `scripts/test-model` plays it longer, and a seed again.

#![allow(missing_docs, reason = "a test")]

use outrigger_tests::model::{Scope, play};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sidecar_without_faults() {
    play("model-plain", Scope { sidecars: 1, nodes: 1, faults: false }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sidecars_with_faults() {
    play("model-faults", Scope { sidecars: 2, nodes: 1, faults: true }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sidecars_and_three_nodes_with_faults() {
    play("model-cluster", Scope { sidecars: 2, nodes: 3, faults: true }).await;
}
