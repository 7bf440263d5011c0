//! The fate of single documents: what `explain` says must agree with what `search` found, and with the truth.

use std::sync::Arc;

use ivf_index::{Engine, EngineConfig};
use knn_types::{
    Allow, Change, ChangeKind, DocKey, Element, Epoch, Fate, FieldSpec, IndexKey, IvfOptions, KnnEngine,
    KnnView, Metric, Query, SeqNo,
};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256Plus;

const DIMS: usize = 24;

/// A view of `count` random vectors, with lists if there are 1,000 of them.
fn view(count: usize, metric: Metric) -> Arc<dyn KnnView> {
    let mut rng = Xoshiro256Plus::seed_from_u64(5);
    let config =
        EngineConfig { data_dir: None, exact_below: 1_000, train_threads: 1, ..EngineConfig::default() };
    let key = IndexKey { index_uuid: "i".into(), shard: 0, history_uuid: "h".into(), field: "f".into() };
    let spec = FieldSpec { element: Element::Float, dims: DIMS, metric, options: IvfOptions::default() };
    let index = Engine::open(config).unwrap().open(&key, &spec).unwrap();
    let change = |n: usize| Change {
        doc: DocKey::new(n.to_string()),
        order: SeqNo { primary_term: 1, seq_no: n as u64 },
        kind: ChangeKind::Upsert((0..DIMS).map(|_| rng.gen_range(-1.0..1.0)).collect()),
    };
    index.stage((0..count).map(change).collect()).unwrap();
    let last = count as i64 - 1;
    index.publish(Epoch { cursor: last, max_seq_no: last, primary_term: 1 }).unwrap();
    while index.maintain().unwrap() {}
    index.view()
}

#[test]
fn fates_agree_with_searches_and_with_the_truth() {
    for metric in [Metric::L2, Metric::MaxInnerProduct] {
        let view = view(4_000, metric);
        let mut rng = Xoshiro256Plus::seed_from_u64(6);
        let mut seen = [0usize; 4];
        for _ in 0..30 {
            let vector: Vec<f32> = (0..DIMS).map(|_| rng.gen_range(-1.0..1.0)).collect();
            // So little effort that much is missed.
            let query = Query { nprobe: Some(2), ..Query::new(&vector, 20) };
            let found = view.search(&query).unwrap();
            let truth = view.search_exactly(&query).unwrap();
            let strangers = (0..10).map(|_| DocKey::new(rng.gen_range(0..4_000).to_string()));
            let docs: Vec<DocKey> = truth.hits.iter().map(|hit| hit.doc.clone()).chain(strangers).collect();
            for doc in docs {
                let told = view.explain(&query, &doc).unwrap().unwrap();
                let place = found.hits.iter().position(|hit| hit.doc == doc);
                let is_true = truth.hits.iter().any(|hit| hit.doc == doc);
                assert!(!told.lists.is_empty());
                match told.fate {
                    Fate::Hit { place: said } => {
                        seen[0] += 1;
                        assert_eq!(Some(said), place);
                        assert_eq!(told.value, found.hits[said].value);
                        assert!(told.lists.iter().any(|list| list.visited));
                    }
                    Fate::NearerOnes => {
                        seen[1] += 1;
                        assert!(place.is_none() && told.worst == found.hits.last().map(|hit| hit.value));
                    }
                    Fate::NotVisited => {
                        seen[2] += 1;
                        assert!(place.is_none() && told.lists.iter().all(|list| !list.visited));
                    }
                    Fate::Bounded => {
                        seen[3] += 1;
                        assert!(place.is_none() && told.lists.iter().any(|list| list.visited));
                    }
                    Fate::Filtered => panic!("there is no filter"),
                }
                assert!(is_true || !matches!(told.fate, Fate::Hit { .. }) || place.is_some());
            }
        }
        assert!(seen[..3].iter().all(|&count| count > 20), "{metric:?}: {seen:?}");
    }
}

#[test]
fn estimates_lie_within_their_errors() {
    let view = view(4_000, Metric::L2);
    let query = Query::new(&[0.1; DIMS], 10);
    let mut errors = 0.0;
    for n in (0..4_000).step_by(40) {
        let told = view.explain(&query, &DocKey::new(n.to_string())).unwrap().unwrap();
        let list = told.lists[0];
        assert!(list.error > 0.0 && list.entries > 0);
        errors += ((list.estimate - told.value) / list.error).powi(2);
    }
    let mean = errors / 100.0;
    assert!((0.3..3.0).contains(&mean), "squared errors are {mean} of what they are said to be");
}

#[test]
fn exact_views_filters_and_strangers() {
    let view = view(300, Metric::L2);
    let filter = view.filter(Allow::Docs(&|_, order| order.seq_no % 2 == 0));
    let query = Query { filter: Some(&*filter), ..Query::new(&[0.0; DIMS], 300) };
    let told = |n: u64| view.explain(&query, &DocKey::new(n.to_string())).unwrap();
    let even = told(42).unwrap();
    assert!(matches!(even.fate, Fate::Hit { .. }) && even.allowed == Some(true) && even.lists.is_empty());
    let odd = told(43).unwrap();
    assert_eq!((odd.fate, odd.allowed), (Fate::Filtered, Some(false)));
    assert_eq!(odd.order, SeqNo { primary_term: 1, seq_no: 43 });
    assert!(told(300).is_none());
    assert!(view.explain(&Query::new(&[0.0; 3], 1), &DocKey::new("1")).is_err());
}
