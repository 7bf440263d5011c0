//! At the edge of the memory budget: vectors go to files, and what does not fit is refused with an
//! error while everything else goes on.

use std::path::Path;
use std::sync::Arc;

use ivf_index::{Engine, EngineConfig};
use knn_types::{
    BuildState, Change, ChangeKind, DocKey, Element, EngineError, Epoch, FieldSpec, IndexKey, IvfOptions,
    KnnEngine, KnnIndex, Metric, Query, SeqNo,
};

const DIMS: usize = 128;

fn engine(dir: Option<&Path>, budget: u64) -> Engine {
    let config = EngineConfig {
        data_dir: dir.map(Path::to_path_buf),
        train_threads: 1,
        exact_below: 400,
        memory_budget: Some(budget),
        ..EngineConfig::default()
    };
    Engine::open(config).unwrap()
}

fn open(engine: &Engine, field: &str, nlist: Option<u32>) -> Result<Arc<dyn KnnIndex>, EngineError> {
    let key = IndexKey { index_uuid: "i".into(), shard: 0, history_uuid: "h".into(), field: field.into() };
    let options = IvfOptions { nlist, ..IvfOptions::default() };
    engine.open(&key, &FieldSpec { element: Element::Float, dims: DIMS, metric: Metric::L2, options })
}

fn row(n: u64) -> Vec<f32> {
    (0..DIMS as u64).map(|d| ((n * 31 + d * 17 + n * d) % 103) as f32).collect()
}

fn stage(index: &dyn KnnIndex, numbers: std::ops::Range<u64>) -> Result<(), EngineError> {
    let change = |n: u64| Change {
        doc: DocKey::new(n.to_string()),
        order: SeqNo { primary_term: 1, seq_no: n },
        kind: ChangeKind::Upsert(row(n)),
    };
    index.stage(numbers.map(change).collect())
}

fn publish(index: &dyn KnnIndex, cursor: u64) {
    let cursor = cursor as i64;
    index.publish(Epoch { cursor, max_seq_no: cursor, primary_term: 1 }).unwrap();
}

/// Whether the index finds a vector by itself.
fn finds(index: &dyn KnnIndex, n: u64) -> Result<bool, EngineError> {
    let row = row(n);
    let query = Query { vector: &row, k: 1, num_candidates: 100, nprobe: None, filter: None };
    Ok(index.view().search(&query)?.hits.first().is_some_and(|hit| hit.value == 0.0))
}

#[test]
fn vectors_go_to_files_when_only_codes_fit() {
    let dir = tempfile::tempdir().unwrap();
    let budget = 3 << 20;
    let engine = engine(Some(dir.path()), budget);
    let index = open(&engine, "v", None).unwrap();
    // Ten megabytes of vectors.
    for batch in 0..20 {
        stage(&*index, batch * 1_000..(batch + 1) * 1_000).unwrap();
        publish(&*index, (batch + 1) * 1_000 - 1);
        assert!(engine.memory_use().used <= budget, "{:?}", engine.memory_use());
    }
    while index.maintain().unwrap() {}
    assert_eq!((index.stats().state, index.stats().docs), (BuildState::Lists, 20_000));
    assert!(finds(&*index, 4_321).unwrap());
    assert!(engine.memory_use().used <= budget && engine.memory_use().refusals == 0);
}

#[test]
fn what_does_not_fit_is_refused_and_the_rest_goes_on() {
    let engine = engine(None, 2 << 20);
    let index = open(&engine, "v", None).unwrap();
    let mut published = 0;
    let error = loop {
        match stage(&*index, published..published + 500) {
            Ok(()) => published += 500,
            Err(error) => break error,
        }
        publish(&*index, published - 1);
    };
    assert!(matches!(error, EngineError::Memory { budget, .. } if budget == 2 << 20), "{error}");
    assert!(published >= 1_500, "{published}");
    assert!(finds(&*index, published - 1).unwrap() && index.view().len() == published as usize);
    // Deletions need no memory, and nothing half staged is left.
    let order = SeqNo { primary_term: 1, seq_no: 10_000 };
    index.stage(vec![Change { doc: DocKey::new("3"), order, kind: ChangeKind::Delete }]).unwrap();
    publish(&*index, 10_000);
    assert_eq!(index.live(), published - 1);
    assert_eq!(engine.memory_use().refusals, 1);
}

#[test]
fn an_index_that_does_not_fit_is_not_opened_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let roomy = engine(Some(dir.path()), 64 << 20);
    for field in ["a", "b"] {
        let index = open(&roomy, field, None).unwrap();
        stage(&*index, 0..4_000).unwrap();
        publish(&*index, 3_999);
        while index.maintain().unwrap() {}
        index.snapshot().unwrap();
    }
    let each = roomy.memory_use().used / 2;
    drop(roomy);
    let engine = engine(Some(dir.path()), each + each / 2);
    let a = open(&engine, "a", None).unwrap();
    assert!(finds(&*a, 17).unwrap());
    let Err(error) = open(&engine, "b", None) else { panic!("both fit") };
    assert!(matches!(error, EngineError::Memory { .. }), "{error}");
    assert!(finds(&*a, 17).unwrap(), "the open one is unharmed");
    let key = |field: &str| IndexKey {
        index_uuid: "i".into(),
        shard: 0,
        history_uuid: "h".into(),
        field: field.into(),
    };
    engine.remove(&key("a"));
    drop(a);
    assert!(finds(&*open(&engine, "b", None).unwrap(), 17).unwrap());
}

#[test]
fn without_memory_for_lists_searches_fail_until_comparing_everything_is_cheap_again() {
    let engine = engine(None, 2_700 << 10);
    // So many lists that their centroids do not fit beside the vectors.
    let index = open(&engine, "v", Some(1_000)).unwrap();
    for batch in 0..8 {
        stage(&*index, batch * 500..(batch + 1) * 500).unwrap();
        publish(&*index, (batch + 1) * 500 - 1);
    }
    assert!(!index.maintain().unwrap());
    assert!(matches!(finds(&*index, 5), Err(EngineError::Memory { .. })));
    assert!(engine.memory_use().refusals > 0);
    let delete = |n: u64| Change {
        doc: DocKey::new(n.to_string()),
        order: SeqNo { primary_term: 1, seq_no: 10_000 + n },
        kind: ChangeKind::Delete,
    };
    index.stage((100..4_000).map(delete).collect()).unwrap();
    publish(&*index, 14_000);
    while index.maintain().unwrap() {}
    assert!(finds(&*index, 5).unwrap());
}

#[test]
fn what_is_held_is_bounded_for_all_indexes_and_refused_without_an_error() {
    let change = |n: u64| Change {
        doc: DocKey::new(n.to_string()),
        order: SeqNo { primary_term: 1, seq_no: n },
        kind: ChangeKind::Upsert(row(n)),
    };
    let orders = |numbers: std::ops::Range<u64>| -> Vec<SeqNo> {
        numbers.map(|seq_no| SeqNo { primary_term: 1, seq_no }).collect()
    };
    let config = EngineConfig { hold_bytes: 100 << 10, ..EngineConfig::default() };
    let engine = Engine::open(config).unwrap();
    let (a, b) = (open(&engine, "a", None).unwrap(), open(&engine, "b", None).unwrap());
    a.hold((0..100).map(change).collect()).unwrap();
    b.hold((0..100).map(change).collect()).unwrap();
    let (held, held_bytes) = (a.stats().held, a.stats().held_bytes);
    assert_eq!((held, engine.hold_use().refusals), (100, 200 - held - b.stats().held));
    assert_eq!(engine.hold_use().used, held_bytes + b.stats().held_bytes);
    assert!((90 << 10..=100 << 10).contains(&engine.hold_use().used), "{:?}", engine.hold_use());

    // The oldest are the ones that were kept, and the room comes back.
    let unknown = b.confirm(&orders(0..100)).unwrap();
    assert_eq!(unknown, (b.stats().staged as usize..100).collect::<Vec<_>>());
    a.publish(Epoch { cursor: 99, max_seq_no: 99, primary_term: 1 }).unwrap();
    assert_eq!((engine.hold_use().used, a.stats().held), (0, 0));
    a.hold((100..200).map(change).collect()).unwrap();
    assert_eq!(a.confirm(&orders(100..200)).unwrap(), [0usize; 0]);
    drop((a, b));

    // The budget of all memory counts too.
    let config = EngineConfig { memory_budget: Some(50 << 10), ..EngineConfig::default() };
    let engine = Engine::open(config).unwrap();
    let index = open(&engine, "v", None).unwrap();
    index.hold((0..1_000).map(change).collect()).unwrap();
    assert!(engine.memory_use().used <= 50 << 10 && engine.hold_use().refusals > 900);
    assert!(index.stats().held > 10 && index.stats().held + engine.hold_use().refusals == 1_000);
}
