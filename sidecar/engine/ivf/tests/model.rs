//! The engine against a plain map with exact search, under random changes, rollbacks, upkeep,
//! snapshots and restarts, with one vector to a document and with several. proptest prints the seed and the smallest failing history.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ivf_index::{Engine, EngineConfig, Spill};
use knn_types::{
    Change, ChangeKind, DocKey, Element, Epoch, FieldSpec, IndexKey, IvfOptions, KnnEngine, KnnIndex, Metric,
    Query, SeqNo,
};
use proptest::prelude::*;

const DIMS: usize = 6;
const DOCS: u8 = 90;

/// The vectors of a document, or its deletion, as of an order.
type Version = (u8, SeqNo, Option<Vec<[i8; DIMS]>>);

#[derive(Clone, Debug)]
enum Step {
    Stage(Vec<Version>),
    Hold(Vec<Version>),
    /// Confirms every so many-th order that is held, and these.
    Confirm(usize, Vec<SeqNo>),
    /// The cursor.
    Publish(i64),
    Rollback(SeqNo),
    Maintain,
    Restart {
        save: bool,
    },
}

fn order() -> impl Strategy<Value = SeqNo> {
    (1..4u64, 0..300u64).prop_map(|(primary_term, seq_no)| SeqNo { primary_term, seq_no })
}

fn step() -> impl Strategy<Value = Step> {
    let changes = || {
        let vectors = proptest::collection::vec(proptest::array::uniform6(-4..5i8), 1..6);
        let vectors = proptest::option::weighted(0.85, vectors);
        proptest::collection::vec((0..DOCS, order(), vectors), 1..60)
    };
    prop_oneof![
        5 => changes().prop_map(Step::Stage),
        5 => changes().prop_map(Step::Hold),
        4 => (1..4usize, proptest::collection::vec(order(), 0..5)).prop_map(|(nth, more)| Step::Confirm(nth, more)),
        4 => (-1..320i64).prop_map(Step::Publish),
        1 => order().prop_map(Step::Rollback),
        2 => Just(Step::Maintain),
        1 => any::<bool>().prop_map(|save| Step::Restart { save }),
    ]
}

/// The vectors of a document, end to end.
type Vector = Vec<f32>;

/// What the ports promise, in the plainest words.
#[derive(Clone, Default)]
struct Model {
    /// Newest published change per document; `None` is a deletion.
    published: HashMap<u8, (SeqNo, Option<Vector>)>,
    staged: HashMap<u8, (SeqNo, Option<Vector>)>,
    held: BTreeMap<SeqNo, (u8, Option<Vector>)>,
    cursor: i64,
}

impl Model {
    fn hold(&mut self, doc: u8, order: SeqNo, vector: Option<Vector>) {
        let known = self.staged.get(&doc).or(self.published.get(&doc));
        if order.seq_no as i64 > self.cursor && known.is_none_or(|(known, _)| order > *known) {
            self.held.insert(order, (doc, vector));
        }
    }

    /// Whether it was held.
    fn confirm(&mut self, order: SeqNo) -> bool {
        let Some((doc, vector)) = self.held.remove(&order) else { return false };
        self.stage(doc, order, vector);
        true
    }

    fn stage(&mut self, doc: u8, order: SeqNo, vector: Option<Vector>) {
        self.held.remove(&order);
        let held = self.staged.get(&doc).or(self.published.get(&doc));
        let wins = held
            .is_none_or(|(held, had)| order > *held || (order == *held && vector.is_none() && had.is_some()));
        if wins {
            self.staged.insert(doc, (order, vector));
        }
    }

    fn publish(&mut self, cursor: i64) {
        self.published.extend(self.staged.drain());
        self.held.retain(|order, _| order.seq_no as i64 > cursor);
        self.cursor = cursor;
    }

    fn rollback(&mut self, above: SeqNo) {
        let lost = |order: &SeqNo| order.seq_no > above.seq_no && order.primary_term <= above.primary_term;
        self.published.retain(|_, (order, _)| !lost(order));
        self.staged.retain(|_, (order, _)| !lost(order));
        self.held.retain(|order, _| !lost(order));
        self.cursor = self.cursor.min(above.seq_no as i64);
    }

    /// What a restart leaves of it.
    fn saved(&self) -> Model {
        Model { staged: HashMap::new(), held: BTreeMap::new(), ..self.clone() }
    }

    fn with_staged(&self) -> HashMap<u8, (SeqNo, Option<Vector>)> {
        let mut all = self.published.clone();
        all.extend(self.staged.clone());
        all.retain(|_, (_, vector)| vector.is_some());
        all
    }
}

fn doc(number: u8) -> DocKey {
    DocKey { id: format!("d{number}").into(), routing: number.is_multiple_of(7).then(|| "r".into()) }
}

/// What vectors consist of and how they are compared.
type Kind = (Element, Metric);

const KINDS: [Kind; 8] = [
    (Element::Float, Metric::L2),
    (Element::Float, Metric::Dot),
    (Element::Float, Metric::MaxInnerProduct),
    (Element::Byte, Metric::L2),
    (Element::Byte, Metric::Cosine),
    (Element::Byte, Metric::Dot),
    (Element::Byte, Metric::MaxInnerProduct),
    (Element::Bit, Metric::L2),
];

fn value(kind: Kind, a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(x, y)| x * y).sum() };
    match kind {
        (Element::Bit, _) => a.iter().zip(b).map(|(&x, &y)| (x as i8 ^ y as i8).count_ones() as f32).sum(),
        (Element::Byte, Metric::Cosine) => {
            let lengths = (f64::from(dot(a, a)) * f64::from(dot(b, b))).sqrt();
            if lengths == 0.0 { 0.0 } else { (f64::from(dot(a, b)) / lengths) as f32 }
        }
        (_, Metric::L2) => a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum(),
        _ => dot(a, b),
    }
}

/// The value of the nearest of a document's vectors.
fn best(kind: Kind, query: &[f32], vectors: &[f32]) -> f32 {
    let values = vectors.chunks_exact(query.len()).map(|vector| value(kind, query, vector));
    let nearer = if kind.1.smaller_is_nearer() { f32::min } else { f32::max };
    values.reduce(nearer).expect("a vector")
}

fn compare(index: &dyn KnnIndex, model: &Model, kind: Kind, epoch: Epoch) {
    let view = index.view();
    assert_eq!(view.epoch(), epoch);
    let live: HashMap<DocKey, (SeqNo, &Vector)> = model
        .published
        .iter()
        .filter_map(|(n, (order, vector))| Some((doc(*n), (*order, vector.as_ref()?))))
        .collect();
    assert_eq!(view.len(), live.len());
    let query = if kind.0 == Element::Float {
        [0.5, -1.5, 2.5, 0.0, 1.0, -3.5]
    } else {
        [1.0, -2.0, 3.0, 0.0, 1.0, -4.0]
    };
    let nearer = |a: f32, b: f32| if kind.1.smaller_is_nearer() { a < b } else { a > b };
    for k in [1, 5, 40, 10_000] {
        let hits = view
            .search(&Query { vector: &query, k, num_candidates: k.max(15), nprobe: None, filter: None })
            .unwrap()
            .hits;
        assert_eq!(hits.len(), k.min(live.len()), "never fewer hits than there are");
        let mut seen = std::collections::HashSet::new();
        for hit in &hits {
            let (order, vector) = live.get(&hit.doc).unwrap_or_else(|| panic!("{:?} is not there", hit.doc));
            assert_eq!((hit.order, hit.value), (*order, best(kind, &query, vector)));
            assert!(seen.insert(&hit.doc), "twice");
        }
        for pair in hits.windows(2) {
            let in_order = nearer(pair[0].value, pair[1].value)
                || (pair[0].value == pair[1].value && pair[0].order.seq_no <= pair[1].order.seq_no);
            assert!(in_order, "{pair:?}");
        }
    }
    compare_census(index, model);
}

fn compare_census(index: &dyn KnnIndex, model: &Model) {
    let all = model.with_staged();
    assert_eq!(index.live(), all.len() as u64);
    assert_eq!(index.stats().held, model.held.len() as u64);
    assert_eq!(index.stats().held_bytes > 0, !model.held.is_empty());
    for number in 0..DOCS {
        assert_eq!(index.order_of(&doc(number)), all.get(&number).map(|(order, _)| *order));
    }
    let counts = index.counts_by_seq_no(16);
    assert_eq!(counts.iter().sum::<u64>(), all.len() as u64);
    for (range, count) in counts.iter().enumerate() {
        let (from, to) = (range as u64 * 16, range as u64 * 16 + 16);
        let mut found = index.docs_between(from, to);
        found.sort();
        let within = all.iter().filter(|(_, (order, _))| (from..to).contains(&order.seq_no));
        let mut want: Vec<_> = within.map(|(n, (order, _))| (doc(*n), *order)).collect();
        want.sort();
        assert_eq!(*count, want.len() as u64);
        assert_eq!(found, want);
    }
}

fn run(kind: Kind, spill: Spill, several: bool, steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let key = IndexKey { index_uuid: "i".into(), shard: 0, history_uuid: "h".into(), field: "f".into() };
    let (element, metric) = kind;
    let dims = if element == Element::Bit { DIMS * 8 } else { DIMS };
    let options = IvfOptions { nlist: Some(5), ..IvfOptions::default() };
    let spec = FieldSpec { element, dims, metric, options };
    let open = || -> Arc<dyn KnnIndex> {
        let config = EngineConfig {
            data_dir: Some(dir.path().to_path_buf()),
            exact_below: 30,
            train_threads: 1,
            spill,
            ..EngineConfig::default()
        };
        Engine::open(config).unwrap().open(&key, &spec).unwrap()
    };
    let mut index = open();
    let empty = || Model { cursor: Epoch::EMPTY.cursor, ..Model::default() };
    let (mut model, mut epoch) = (empty(), Epoch::EMPTY);
    let (mut saved_model, mut saved_epoch) = (empty(), Epoch::EMPTY);
    let batch = |changes: &[Version]| -> Vec<(u8, Change)> {
        let change = |&(n, order, ref vectors): &Version| {
            let taken = if several { usize::MAX } else { 1 };
            let values = |vectors: &Vec<[i8; DIMS]>| -> Vector {
                vectors.iter().take(taken).flatten().copied().map(f32::from).collect()
            };
            let vector = vectors.as_ref().map(values);
            (n, Change { doc: doc(n), order, kind: vector.map_or(ChangeKind::Delete, ChangeKind::Upsert) })
        };
        changes.iter().map(change).collect()
    };
    let vector = |change: &Change| match &change.kind {
        ChangeKind::Upsert(vector) => Some(vector.clone()),
        ChangeKind::Delete => None,
    };
    for step in steps {
        match step {
            Step::Stage(changes) => {
                let batch = batch(&changes);
                batch.iter().for_each(|(n, change)| model.stage(*n, change.order, vector(change)));
                index.stage(batch.into_iter().map(|(_, change)| change).collect()).unwrap();
            }
            Step::Hold(changes) => {
                let batch = batch(&changes);
                batch.iter().for_each(|(n, change)| model.hold(*n, change.order, vector(change)));
                index.hold(batch.into_iter().map(|(_, change)| change).collect()).unwrap();
            }
            Step::Confirm(nth, more) => {
                let shown: Vec<SeqNo> = model.held.keys().copied().step_by(nth).chain(more).collect();
                let unknown: Vec<usize> = (0..shown.len()).filter(|&at| !model.confirm(shown[at])).collect();
                assert_eq!(index.confirm(&shown).unwrap(), unknown);
            }
            Step::Publish(cursor) => {
                epoch = Epoch { cursor, max_seq_no: 2_000, primary_term: 3 };
                index.publish(epoch).unwrap();
                model.publish(cursor);
            }
            Step::Rollback(above) => {
                index.rollback_above(above).unwrap();
                model.rollback(above);
                let kept = model.published.values().filter(|(_, vector)| vector.is_some());
                let highest = kept.map(|(order, _)| order.seq_no).chain([above.seq_no]).max().unwrap() as i64;
                epoch.cursor = epoch.cursor.min(above.seq_no as i64);
                epoch.max_seq_no = epoch.max_seq_no.min(highest);
            }
            Step::Maintain => while index.maintain().unwrap() {},
            Step::Restart { save } => {
                if save {
                    index.snapshot().unwrap();
                    (saved_model, saved_epoch) = (model.saved(), epoch);
                }
                index = open();
                (model, epoch) = (saved_model.clone(), saved_epoch);
            }
        }
        compare(&*index, &model, kind, epoch);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_is_a_map_with_search(kind in 0..KINDS.len(), spills: bool, several: bool, steps in proptest::collection::vec(step(), 1..30)) {
        let spill = if spills { Spill::On } else { Spill::Off };
        run(KINDS[kind], spill, several, steps);
    }
}

#[test]
fn a_delete_with_the_order_held_removes_and_an_older_upsert_stays_out() {
    let order = |seq_no| SeqNo { primary_term: 1, seq_no };
    run(
        (Element::Float, Metric::L2),
        Spill::On,
        false,
        vec![
            Step::Stage(vec![(1, order(5), Some(vec![[1; DIMS]])), (2, order(6), Some(vec![[2; DIMS]]))]),
            Step::Publish(10),
            Step::Stage(vec![(1, order(5), None), (2, order(4), None)]),
            Step::Publish(10),
            Step::Stage(vec![(1, order(5), Some(vec![[3; DIMS]])), (1, order(2), Some(vec![[4; DIMS]]))]),
            Step::Publish(10),
            Step::Restart { save: true },
            Step::Stage(vec![(1, order(9), Some(vec![[3; DIMS]]))]),
            Step::Publish(10),
        ],
    );
}

#[test]
fn a_held_version_is_nowhere_until_it_is_confirmed_and_a_superseded_one_never() {
    let order = |seq_no| SeqNo { primary_term: 1, seq_no };
    run(
        (Element::Float, Metric::L2),
        Spill::Off,
        false,
        vec![
            Step::Stage((0..40).map(|n| (n, order(u64::from(n)), Some(vec![[n as i8; DIMS]]))).collect()),
            Step::Publish(39),
            Step::Hold(vec![
                (1, order(41), Some(vec![[1; DIMS]])),
                (1, order(43), None),
                (2, order(42), Some(vec![[2; DIMS]])),
            ]),
            Step::Publish(39),
            // Training comes between: what is held is coded for other centroids then, or for none.
            Step::Maintain,
            Step::Confirm(2, vec![order(99)]),
            Step::Publish(41),
            Step::Hold(vec![(3, order(40), Some(vec![[3; DIMS]])), (1, order(42), Some(vec![[4; DIMS]]))]),
            Step::Rollback(order(42)),
            Step::Confirm(1, vec![]),
            Step::Publish(42),
        ],
    );
}

/// A document gets more vectors, fewer, none, and comes back; the slots of all versions are killed.
#[test]
fn a_new_version_replaces_all_vectors_of_the_one_before() {
    let order = |seq_no| SeqNo { primary_term: 1, seq_no };
    let many = |n: i8, count: usize| Some((0..count).map(|at| [n, at as i8, 0, 0, 0, 1]).collect());
    run(
        (Element::Float, Metric::L2),
        Spill::Off,
        true,
        vec![
            Step::Stage(
                (0..60).map(|n| (n, order(u64::from(n)), many(n as i8, 1 + n as usize % 7))).collect(),
            ),
            Step::Publish(59),
            Step::Maintain,
            Step::Stage(vec![(1, order(60), many(1, 50)), (2, order(61), many(2, 1)), (3, order(62), None)]),
            Step::Hold(vec![(3, order(63), many(3, 3))]),
            Step::Publish(62),
            Step::Restart { save: true },
            Step::Hold(vec![(3, order(63), many(3, 3)), (4, order(64), many(4, 9))]),
            Step::Confirm(1, vec![]),
            Step::Publish(64),
            Step::Maintain,
            Step::Rollback(order(59)),
            Step::Stage((0..60).map(|n| (n, order(100 + u64::from(n)), many(n as i8, 3))).collect()),
            Step::Publish(160),
            Step::Maintain,
            Step::Restart { save: true },
        ],
    );
}

#[test]
fn changed_options_take_effect_while_the_index_is_open() {
    let config = EngineConfig { data_dir: None, exact_below: 100, ..EngineConfig::default() };
    let engine = Engine::open(config).unwrap();
    let key = IndexKey { index_uuid: "u".into(), shard: 0, history_uuid: "h".into(), field: "v".into() };
    let spec = |nprobe| FieldSpec {
        element: Element::Float,
        dims: 4,
        metric: Metric::L2,
        options: IvfOptions { nprobe, ..IvfOptions::default() },
    };
    let index = engine.open(&key, &spec(None)).unwrap();
    let upsert = |n: u64| Change {
        doc: DocKey::new(n.to_string()),
        order: SeqNo { primary_term: 1, seq_no: n },
        kind: ChangeKind::Upsert((0..4).map(|d| ((n * 7 + d * 13) % 101) as f32).collect()),
    };
    index.stage((0..3000).map(upsert).collect()).unwrap();
    index.publish(Epoch { cursor: 2999, max_seq_no: 2999, primary_term: 1 }).unwrap();
    while index.maintain().unwrap() {}
    for nprobe in [1, 3] {
        let again = engine.open(&key, &spec(Some(nprobe))).unwrap();
        assert_eq!(again.stats().nprobe, nprobe as usize);
        assert_eq!(index.view().len(), 3000, "nothing is lost");
    }
}
