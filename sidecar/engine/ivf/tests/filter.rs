//! Filtered searches against brute force: random filters over random histories with updates, deletes,
//! retraining and compaction. Every case prints its seed.

use std::collections::HashMap;
use std::sync::Arc;

use ivf_index::{Engine, EngineConfig};
use knn_types::{
    Allow, Change, ChangeKind, DocKey, Element, EngineError, Epoch, FieldSpec, IndexKey, IvfOptions,
    KnnEngine, KnnIndex, KnnView, Metric, Query, SeqNo, SlotFilter,
};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256Plus;
use roaring::RoaringTreemap;

/// An index beside the plainest account of what is in it.
struct Case {
    rng: Xoshiro256Plus,
    metric: Metric,
    dims: usize,
    /// The most vectors that a document has.
    most_vectors: usize,
    index: Arc<dyn KnnIndex>,
    /// `_seq_no` and vectors, end to end.
    docs: HashMap<u64, (u64, Vec<f32>)>,
    next_seq_no: u64,
}

/// Documents whose number leaves this remainder.
#[derive(Clone, Copy, Debug)]
struct Share {
    divisor: u64,
    remainder: u64,
}

impl Share {
    fn holds(self, doc: u64) -> bool {
        doc % self.divisor == self.remainder
    }
}

impl Case {
    fn new(seed: u64, metric: Metric, dims: usize) -> Self {
        eprintln!("seed {seed}, {} x {dims}", metric.name());
        let config =
            EngineConfig { data_dir: None, exact_below: 1_000, train_threads: 1, ..EngineConfig::default() };
        let key = IndexKey { index_uuid: "i".into(), shard: 0, history_uuid: "h".into(), field: "f".into() };
        let spec = FieldSpec { element: Element::Float, dims, metric, options: IvfOptions::default() };
        let index = Engine::open(config).unwrap().open(&key, &spec).unwrap();
        let rng = Xoshiro256Plus::seed_from_u64(seed);
        Self { rng, metric, dims, most_vectors: 1, index, docs: HashMap::new(), next_seq_no: 0 }
    }

    /// Small whole numbers around a few centres: sums are exact, so that brute force gives equal bits.
    fn vector(&mut self) -> Vec<f32> {
        let centre = self.rng.gen_range(0..12u32);
        let rng = &mut self.rng;
        let value =
            |dim: usize| (((centre * 7 + dim as u32 * 5) % 11) as i32 * 4 - 20 + rng.gen_range(-6..7)) as f32;
        (0..self.dims).map(value).collect()
    }

    /// Publishes new versions of `upserts` random documents below `below`, and `deletes` deletions.
    fn change(&mut self, upserts: usize, deletes: usize, below: u64) {
        let mut changes = Vec::new();
        for number in 0..upserts + deletes {
            let doc = self.rng.gen_range(0..below);
            let seq_no = self.next_seq_no;
            self.next_seq_no += 1;
            let kind = if number < upserts {
                let count = self.rng.gen_range(1..=self.most_vectors);
                let vector: Vec<f32> = (0..count).flat_map(|_| self.vector()).collect();
                self.docs.insert(doc, (seq_no, vector.clone()));
                ChangeKind::Upsert(vector)
            } else {
                self.docs.remove(&doc);
                ChangeKind::Delete
            };
            let order = SeqNo { primary_term: 1, seq_no };
            changes.push(Change { doc: DocKey::new(doc.to_string()), order, kind });
        }
        self.index.stage(changes).unwrap();
        let last = self.next_seq_no as i64 - 1;
        self.index.publish(Epoch { cursor: last, max_seq_no: last, primary_term: 1 }).unwrap();
    }

    fn seq_nos(&self, share: Share, from: u64) -> RoaringTreemap {
        let allowed = self.docs.iter().filter(|(doc, (seq_no, _))| share.holds(**doc) && *seq_no >= from);
        allowed.map(|(_, (seq_no, _))| *seq_no).collect()
    }

    /// Of the nearest vector.
    fn rank(&self, query: &[f32], vectors: &[f32]) -> f32 {
        let rank = |vector: &[f32]| -> f32 {
            let pairs = query.iter().zip(vector);
            match self.metric {
                Metric::L2 => pairs.map(|(x, y)| (x - y) * (x - y)).sum(),
                _ => -pairs.map(|(x, y)| x * y).sum::<f32>(),
            }
        };
        vectors.chunks_exact(self.dims).map(rank).fold(f32::INFINITY, f32::min)
    }

    /// Asks with a filter; returns hits that are among the true nearest, and how many there could be.
    fn check(&mut self, view: &dyn KnnView, filter: &dyn SlotFilter, share: Share) -> (usize, usize) {
        let allowed: Vec<(&u64, &(u64, Vec<f32>))> =
            self.docs.iter().filter(|(doc, _)| share.holds(**doc)).collect();
        assert_eq!(view.allowed(filter).unwrap(), allowed.len() as u64, "{share:?}");
        assert!(filter.len() >= allowed.len() as u64);
        let vector: Vec<f32> = (0..self.dims).map(|_| self.rng.gen_range(-24..25) as f32).collect();
        let mut truth: Vec<(f32, u64)> =
            allowed.iter().map(|(_, (seq_no, row))| (self.rank(&vector, row), *seq_no)).collect();
        truth.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let (mut found, mut wanted) = (0, 0);
        for (k, num_candidates) in [(1, 2), (10, 15), (60, 90), (10, 10_000), (5_000, 7_500)] {
            let query = Query { vector: &vector, k, num_candidates, nprobe: None, filter: Some(filter) };
            let hits = view.search(&query).unwrap().hits;
            let truth = &truth[..k.min(truth.len())];
            assert_eq!(hits.len(), truth.len(), "{share:?}: as many hits as there are, up to k");
            let got: Vec<(f32, u64)> = hits
                .iter()
                .map(|hit| {
                    let doc: u64 = hit.doc.id.parse().unwrap();
                    let (seq_no, row) = &self.docs[&doc];
                    assert!(share.holds(doc), "{doc} is not allowed by {share:?}");
                    let rank = self.rank(&vector, row);
                    assert_eq!(hit.order.seq_no, *seq_no);
                    assert_eq!(hit.value.abs(), rank.abs(), "values are exact");
                    (rank, *seq_no)
                })
                .collect();
            assert!(got.is_sorted_by(|a, b| a.0 < b.0 || (a.0 == b.0 && a.1 < b.1)), "in order, none twice");
            if num_candidates == 10_000 {
                assert_eq!(got, truth, "{share:?}: everything is looked at");
            } else if let Some(last) = truth.last() {
                found += got.iter().filter(|hit| hit.0 <= last.0).count();
                wanted += truth.len();
            }
        }
        (found, wanted)
    }
}

fn random_history(seed: u64, metric: Metric, dims: usize, most_vectors: usize) {
    let mut case = Case { most_vectors, ..Case::new(seed, metric, dims) };
    let (mut found, mut wanted) = (0, 0);
    let mut held: Vec<(Share, u64, Arc<dyn SlotFilter>)> = Vec::new();
    let mut stale = 0;
    for round in 0..14 {
        let (upserts, deletes) = match round {
            0 => (5_000, 0),
            1 => (case.rng.gen_range(0..40), 0),
            8 => (200, 3_500),
            _ => (case.rng.gen_range(0..900), case.rng.gen_range(0..300)),
        };
        case.change(upserts, deletes, 6_000);
        if round % 3 == 0 || round == 8 {
            while case.index.maintain().unwrap() {}
        }
        let view = case.index.view();
        for (share, seen, filter) in std::mem::take(&mut held) {
            // What is new since the filter was made is told by `_seq_no`.
            let new = case.seq_nos(share, seen);
            let debt = view.filter_debt(&*filter);
            match view.extend_filter(&*filter, Allow::SeqNos(&new)) {
                Ok(extended) => {
                    assert!(debt.unwrap() > 0 || extended.up_to() == filter.up_to());
                    assert_eq!(view.filter_debt(&*extended).unwrap(), 0);
                    let filter = extended;
                    let (f, w) = case.check(&*view, &*filter, share);
                    (found, wanted) = (found + f, wanted + w);
                    held.push((share, case.next_seq_no, filter));
                }
                Err(error) => {
                    assert!(matches!(error, EngineError::StaleFilter));
                    assert!(matches!(debt, Err(EngineError::StaleFilter)));
                    let query = Query {
                        vector: &vec![0.0; dims],
                        k: 1,
                        num_candidates: 1,
                        nprobe: None,
                        filter: Some(&*filter),
                    };
                    assert!(matches!(view.search(&query), Err(EngineError::StaleFilter)));
                    stale += 1;
                }
            }
        }
        for divisor in [1, 2, 7, 12, 100, 700, 100_000] {
            let remainder = case.rng.gen_range(0..divisor.min(6_000));
            let share = Share { divisor, remainder };
            let by_predicate = |doc: &DocKey, _: SeqNo| share.holds(doc.id.parse().unwrap());
            let filter = if case.rng.r#gen::<bool>() {
                view.filter(Allow::SeqNos(&case.seq_nos(share, 0)))
            } else {
                view.filter(Allow::Docs(&by_predicate))
            };
            assert_eq!(view.filter_debt(&*filter).unwrap(), 0, "a new filter is ready");
            for _ in 0..2 {
                let (f, w) = case.check(&*view, &*filter, share);
                (found, wanted) = (found + f, wanted + w);
            }
            if round % 2 == 1 {
                held.push((share, case.next_seq_no, filter));
            }
        }
    }
    assert!(stale > 0, "compaction makes filters stale");
    let recall = found as f64 / wanted as f64;
    eprintln!("seed {seed}: recall {recall:.4}");
    assert!(recall >= 0.95, "{recall}");
}

#[test]
fn filtered_search_equals_brute_force() {
    for (seed, metric, dims) in [(1, Metric::L2, 16), (2, Metric::Dot, 40), (3, Metric::MaxInnerProduct, 24)]
    {
        random_history(seed, metric, dims, 1);
    }
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    random_history(seed, Metric::L2, 12, 1);
}

#[test]
fn documents_with_several_vectors_are_filtered_as_documents() {
    for (seed, metric, dims) in [(11, Metric::L2, 16), (12, Metric::Dot, 32)] {
        random_history(seed, metric, dims, 6);
    }
}

#[test]
fn a_filter_of_another_index_is_refused_and_an_older_view_sees_only_its_own() {
    let mut case = Case::new(4, Metric::L2, 8);
    case.change(300, 0, 400);
    let old = case.index.view();
    case.change(300, 0, 400);
    let new = case.index.view();
    let all = |_: &DocKey, _: SeqNo| true;
    let filter = new.filter(Allow::Docs(&all));
    let survives = |doc: &DocKey, order: SeqNo| {
        let now = case.docs.get(&doc.id.parse().unwrap());
        now.is_some_and(|(seq_no, _)| *seq_no == order.seq_no)
    };
    let survivors = old.allowed(&*old.filter(Allow::Docs(&survives))).unwrap();
    assert!(survivors > 0 && survivors < old.len() as u64);
    assert_eq!(old.allowed(&*filter).unwrap(), survivors);
    let query =
        Query { vector: &[1.0; 8], k: 1_000, num_candidates: 1_500, nprobe: None, filter: Some(&*filter) };
    assert_eq!(old.search(&query).unwrap().hits.len() as u64, survivors, "later slots are not there");
    let again = old.extend_filter(&*filter, Allow::Docs(&all)).unwrap();
    assert_eq!((again.len(), again.up_to()), (filter.len(), filter.up_to()), "nothing to add");
    let mut other = Case::new(5, Metric::L2, 8);
    other.change(300, 0, 400);
    assert!(matches!(other.index.view().search(&query), Err(EngineError::StaleFilter)));
    assert!(matches!(other.index.view().allowed(&*filter), Err(EngineError::StaleFilter)));
}

/// What a search would otherwise make in passing is owed, and paid by extending.
#[test]
fn a_filter_owes_the_slots_it_lacks_and_what_lists_demand() {
    let mut case = Case::new(6, Metric::L2, 16);
    case.change(3_000, 0, 1_000_000);
    let all = |_: &DocKey, _: SeqNo| true;
    let filter = case.index.view().filter(Allow::Docs(&all));
    case.change(70, 0, 1_000_000);
    let view = case.index.view();
    assert_eq!(view.filter_debt(&*filter).unwrap(), 70);
    let filter = view.extend_filter(&*filter, Allow::Docs(&all)).unwrap();
    assert_eq!(view.filter_debt(&*filter).unwrap(), 0);
    while case.index.maintain().unwrap() {}
    let trained = case.index.view();
    assert!(trained.filter_debt(&*filter).unwrap() >= 3_000, "lists are new: all of it is looked at again");
    let filter = trained.extend_filter(&*filter, Allow::Docs(&all)).unwrap();
    assert_eq!(trained.filter_debt(&*filter).unwrap(), 0);
    assert_eq!(view.filter_debt(&*filter).unwrap(), 0, "the view before knows no lists");
}

/// A wide filter is scanned by codes, a narrow one compared exactly: predictions follow the plan.
#[test]
fn predicted_costs_follow_the_plan() {
    let mut case = Case::new(41, Metric::L2, 64);
    case.change(20_000, 0, 1_000_000);
    while case.index.maintain().unwrap() {}
    let view = case.index.view();
    let vector = case.vector();
    let predicted = |filter: Option<&dyn SlotFilter>| {
        let cost =
            view.predicted_cost(&Query { vector: &vector, k: 10, num_candidates: 15, nprobe: None, filter });
        assert!(!cost.is_zero());
        cost
    };
    let under = |divisor: u64| {
        let filter = view.filter(Allow::Docs(&|_, order| order.seq_no.is_multiple_of(divisor)));
        (filter.len() as u32, predicted(Some(&*filter)))
    };
    let ((all, wide), (half, half_wide), (few, narrow)) = (under(1), under(2), under(100));
    // What one comparison of a vector costs, by the plan that compares all that is allowed.
    let compared = narrow / few;
    assert!(few <= 256 && half > 9_000);
    assert!(half_wide < compared * half / 3, "{half_wide:?} for {half} at {compared:?} each");
    assert!(wide < compared * all / 3, "{wide:?} for {all} at {compared:?} each");
    assert!(wide >= predicted(None), "a filter makes nothing cheaper");
}
