//! Searches while everything is replaced, maintained and saved: each answer is of one epoch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use ivf_index::{Engine, EngineConfig};
use knn_types::{
    BuildState, Change, ChangeKind, DocKey, Element, Epoch, FieldSpec, IndexKey, IvfOptions, KnnEngine,
    KnnIndex, Metric, Query, SeqNo,
};

const DIMS: usize = 16;
const DOCS: u64 = 1_500;
const EPOCHS: u64 = 40;

/// A vector that depends on document and epoch.
fn row(doc: u64, epoch: u64) -> Vec<f32> {
    let mut state = (doc * 1_000 + epoch).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..DIMS).map(|_| next()).collect()
}

/// Every document gets a new version in each epoch; a third of them is gone in odd ones.
fn publish(index: &dyn KnnIndex, epoch: u64) {
    let change = |doc: u64| {
        let gone = epoch % 2 == 1 && doc.is_multiple_of(3);
        let kind = if gone { ChangeKind::Delete } else { ChangeKind::Upsert(row(doc, epoch)) };
        Change { doc: DocKey::new(doc.to_string()), order: SeqNo { primary_term: epoch, seq_no: doc }, kind }
    };
    // In parts, out of order: only the publish may show them.
    for part in (0..5).rev() {
        index.stage((0..DOCS).filter(|doc| doc % 5 == part).map(change).collect()).unwrap();
    }
    index.publish(Epoch { cursor: epoch as i64, max_seq_no: epoch as i64, primary_term: epoch }).unwrap();
}

fn check(index: &dyn KnnIndex, number: u64) -> bool {
    let view = index.view();
    let epoch = view.epoch().primary_term;
    let there = if epoch % 2 == 1 { DOCS - DOCS / 3 } else { DOCS };
    assert_eq!(view.len() as u64, there);
    let query = row(number, 0);
    let k = if number.is_multiple_of(10) { 2_000 } else { 20 };
    let found =
        view.search(&Query { vector: &query, k, num_candidates: k * 2, nprobe: None, filter: None }).unwrap();
    assert_eq!(found.hits.len(), k.min(there as usize));
    for hit in &found.hits {
        assert_eq!(hit.order.primary_term, epoch, "an answer of two epochs");
        let vector = row(hit.doc.id.parse().unwrap(), epoch);
        let distance: f32 = vector.iter().zip(&query).map(|(x, y)| (x - y) * (x - y)).sum();
        assert!((hit.value - distance).abs() < 1e-5, "a value of another version");
    }
    found.stats.lists > 0
}

#[test]
fn every_answer_is_of_one_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let config = EngineConfig {
        data_dir: Some(dir.path().to_path_buf()),
        exact_below: 400,
        train_threads: 1,
        ..EngineConfig::default()
    };
    let engine = Engine::open(config).unwrap();
    let key = IndexKey { index_uuid: "i".into(), shard: 0, history_uuid: "h".into(), field: "f".into() };
    let spec =
        FieldSpec { element: Element::Float, dims: DIMS, metric: Metric::L2, options: IvfOptions::default() };
    let index: Arc<dyn KnnIndex> = engine.open(&key, &spec).unwrap();
    publish(&*index, 2);
    let done = AtomicBool::new(false);
    let (over_lists, maintained, saved) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for searcher in 0..3 {
            let (index, done, over_lists) = (&index, &done, &over_lists);
            scope.spawn(move || {
                let mut number = searcher;
                while !done.load(Ordering::Relaxed) {
                    over_lists.fetch_add(usize::from(check(&**index, number)), Ordering::Relaxed);
                    number += 3;
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let worked = index.maintain().unwrap();
                maintained.fetch_add(usize::from(worked), Ordering::Relaxed);
                saved.fetch_add(usize::from(index.snapshot().unwrap()), Ordering::Relaxed);
                thread::yield_now();
            }
        });
        for epoch in 3..EPOCHS {
            publish(&*index, epoch);
            // Let some searches see this epoch.
            let before = over_lists.load(Ordering::Relaxed);
            let deadline = std::time::Instant::now() + std::time::Duration::from_millis(200);
            while over_lists.load(Ordering::Relaxed) < before + 10 && std::time::Instant::now() < deadline {
                thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(over_lists.into_inner() > 100, "searches went over lists");
    assert!(maintained.into_inner() >= 2 && saved.into_inner() >= 2);
    while index.maintain().unwrap() {}
    assert_eq!(index.stats().state, BuildState::Lists);
    let held = index.stats().memory_bytes;
    assert!(held < 40 * DOCS * DIMS as u64 * 4, "dead versions were purged: {held}");
    index.snapshot().unwrap();
    let again =
        Engine::open(EngineConfig { data_dir: Some(dir.path().to_path_buf()), ..EngineConfig::default() })
            .unwrap();
    check(&*again.open(&key, &spec).unwrap(), 7);
}
