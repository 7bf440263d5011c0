//! Lists under local maintenance: each vector stands where it should, exactly once, whatever comes
//! and goes, and what is searched for is found.

use std::path::Path;
use std::sync::Arc;

use knn_types::{
    Change, ChangeKind, DocKey, Element, Epoch, FieldSpec, IndexKey, IvfOptions, KnnIndex, KnnView, Metric,
    Query, SeqNo, Upkeep,
};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256Plus;
use rayon::ThreadPoolBuilder;

use crate::budget::Budget;
use crate::build::nlist_for;
use crate::config::{EngineConfig, Spill};
use crate::index::Index;
use crate::snapshot::{Disk, Faults};
use crate::view::View;

const DIMS: usize = 12;

fn index(metric: Metric, spill: Spill) -> Index {
    index_on(metric, spill, None)
}

/// The same with files below a directory.
fn index_on(metric: Metric, spill: Spill, data_dir: Option<&Path>) -> Index {
    let key = IndexKey { index_uuid: "i".into(), shard: 0, history_uuid: "h".into(), field: "f".into() };
    let spec = FieldSpec { dims: DIMS, metric, element: Element::Float, options: IvfOptions::default() };
    let config = EngineConfig { exact_below: 500, spill, ..EngineConfig::default() };
    let pool = Arc::new(ThreadPoolBuilder::new().num_threads(2).build().unwrap());
    let disk = data_dir.map(|dir| Disk::new(dir, &key, Faults::default()));
    let shares = (Budget::new(None).share(), Budget::new(None).share());
    Index::open(&key, &spec, &config, pool, disk, shares)
}

/// Documents in clusters, written and removed under ascending sequence numbers.
struct Feed {
    rng: Xoshiro256Plus,
    next: u64,
    unit: bool,
}

impl Feed {
    fn new(metric: Metric, seed: u64) -> Self {
        Self { rng: Xoshiro256Plus::seed_from_u64(seed), next: 0, unit: metric == Metric::Cosine }
    }

    fn order(&mut self) -> SeqNo {
        self.next += 1;
        SeqNo { primary_term: 1, seq_no: self.next }
    }

    /// A vector of a cluster.
    fn vector(&mut self, cluster: u64) -> Vec<f32> {
        let mut centre = Xoshiro256Plus::seed_from_u64(cluster);
        let mut vector: Vec<f32> =
            (0..DIMS).map(|_| centre.gen_range(-1f32..1.0) * 4.0 + self.rng.gen_range(-1f32..1.0)).collect();
        if self.unit {
            let norm = ivf_kernels::dot(&vector, &vector).sqrt();
            vector.iter_mut().for_each(|x| *x /= norm);
        }
        vector
    }

    fn upsert(&mut self, doc: u64, cluster: u64) -> Change {
        let vector = self.vector(cluster);
        Change { doc: name(doc), order: self.order(), kind: ChangeKind::Upsert(vector) }
    }

    fn delete(&mut self, doc: u64) -> Change {
        Change { doc: name(doc), order: self.order(), kind: ChangeKind::Delete }
    }

    fn publish(&self, index: &Index) {
        let at = self.next as i64;
        index.publish(Epoch { cursor: at, max_seq_no: at, primary_term: 1 }).unwrap();
    }

    /// Documents `docs`, document `n` in cluster `n % clusters`, trained.
    fn fill(&mut self, index: &Index, docs: u64, clusters: u64) {
        let changes = (0..docs).map(|doc| self.upsert(doc, doc % clusters)).collect();
        index.stage(changes).unwrap();
        self.publish(index);
        while index.maintain().unwrap() {}
        assert_eq!(done(index).trainings, 1);
    }
}

fn name(doc: u64) -> DocKey {
    DocKey::new(doc.to_string())
}

fn done(index: &Index) -> Upkeep {
    *index.done.lock()
}

/// Every live slot stands in as many lists as it should, in each once; frozen and fresh parts are in
/// order, and what local maintenance keeps in mind belongs to these lists.
fn check(view: &View) {
    let Some(lists) = &view.lists else { return };
    let mut seen: Vec<Vec<u32>> = vec![Vec::new(); view.store.slots()];
    for (number, list) in lists.lists.iter().enumerate() {
        for slot in list.members() {
            seen[slot as usize].push(number as u32);
        }
    }
    for slot in view.store.live_slots() {
        let homes = &mut seen[slot as usize];
        homes.sort_unstable();
        homes.dedup();
        assert_eq!(homes.len(), lists.generation.copies(), "slot {slot} stands in {homes:?}");
    }
    let entries: usize = lists.lists.iter().map(|list| list.len()).sum();
    assert!(entries <= view.store.slots() * lists.generation.copies(), "nothing stands anywhere twice");
    assert_eq!(lists.generation.coarse.nlist(), lists.nlist());
    assert_eq!(lists.generation.local.founding.len(), lists.nlist());
    assert_eq!(lists.generation.coarse.residuals().len(), lists.nlist());
}

/// Share of the ten nearest found with half of the lists visited, over queries of all clusters.
fn recall(index: &Index, feed: &mut Feed, clusters: u64) -> f64 {
    let view = index.published.load_full();
    let nprobe = Some(view.lists.as_ref().unwrap().nlist().div_ceil(2));
    let (mut found, mut wanted) = (0, 0);
    for cluster in 0..clusters {
        let vector = feed.vector(cluster);
        let query = Query { nprobe, ..Query::new(&vector, 10) };
        let truth = view.search_exactly(&query).unwrap().hits;
        let hits = view.search(&query).unwrap().hits;
        wanted += truth.len();
        found += truth.iter().filter(|hit| hits.contains(hit)).count();
    }
    found as f64 / wanted as f64
}

#[test]
fn a_flood_into_one_region_splits_and_an_emptied_region_is_dissolved() {
    for (metric, spill) in [
        (Metric::L2, Spill::Off),
        (Metric::Cosine, Spill::Off),
        (Metric::L2, Spill::On),
        (Metric::MaxInnerProduct, Spill::Off),
    ] {
        let (index, mut feed) = (index(metric, spill), Feed::new(metric, 3));
        feed.fill(&index, 4_000, 40);
        let before = index.stats();
        assert_eq!((before.upkeep.splits, before.upkeep.merges), (0, 0));
        // Fifteen clusters of forty go, one gets as many as ten had.
        let gone: Vec<u64> = (0..4_000).filter(|doc| doc % 40 < 15).collect();
        for (step, gone) in gone.chunks(100).enumerate() {
            let step = step as u64;
            let mut changes: Vec<Change> = gone.iter().map(|&doc| feed.delete(doc)).collect();
            changes.extend((0..70).map(|n| feed.upsert(4_000 + step * 70 + n, 20)));
            index.stage(changes).unwrap();
            feed.publish(&index);
            while index.maintain().unwrap() {
                check(&index.published.load());
            }
        }
        let after = index.stats();
        assert_eq!(after.upkeep.trainings, 1, "{metric:?}: {after:?}");
        assert!(after.upkeep.splits > 0 && after.upkeep.merges > 0, "{metric:?}: {after:?}");
        assert!(after.upkeep.reassigned > 0, "{metric:?}: {after:?}");
        let view = index.published.load_full();
        let lists = view.lists.as_ref().unwrap();
        let planned = (view.store.live() * lists.generation.copies()) as f64
            / nlist_for(view.store.live(), None) as f64;
        for (list, &founding) in lists.lists.iter().zip(&lists.generation.local.founding) {
            let live = list.members().filter(|&slot| !view.store.is_dead(slot)).count() as f64;
            // As much as may come until the next look, and then some.
            assert!(
                live <= 2.3 * planned || live <= 1.8 * f64::from(founding),
                "{live} {planned} {founding}"
            );
        }
        let recall = recall(&index, &mut feed, 40);
        assert!(recall > 0.9, "{metric:?} {spill:?}: {recall}");
    }
}

#[test]
fn vectors_that_cannot_be_told_apart_are_tried_once_and_left_alone() {
    let (index, mut feed) = (index(Metric::L2, Spill::Off), Feed::new(Metric::L2, 4));
    feed.fill(&index, 2_000, 20);
    let same = feed.vector(3);
    let change = |feed: &mut Feed, doc| Change {
        doc: name(doc),
        order: feed.order(),
        kind: ChangeKind::Upsert(same.clone()),
    };
    index.stage((2_000..2_900).map(|doc| change(&mut feed, doc)).collect()).unwrap();
    feed.publish(&index);
    let mut calls = 0;
    while index.maintain().unwrap() {
        calls += 1;
        assert!(calls < 30, "upkeep comes to an end");
        check(&index.published.load());
    }
    assert_eq!(index.view().search(&Query::new(&same, 900)).unwrap().hits.len(), 900);
}

#[test]
fn what_was_coded_for_other_centroids_is_found_after_a_split() {
    for spill in [Spill::Off, Spill::On] {
        let (index, mut feed) = (index(Metric::L2, spill), Feed::new(Metric::L2, 5));
        feed.fill(&index, 3_000, 30);
        index.stage((3_000..3_800).map(|doc| feed.upsert(doc, 7)).collect()).unwrap();
        feed.publish(&index);
        // Coded now, published after everything has changed.
        let late: Vec<Change> = (3_800..3_900).map(|doc| feed.upsert(doc, 7)).collect();
        index.stage(late.clone()).unwrap();
        while index.maintain().unwrap() {}
        assert!(done(&index).splits > 0, "{:?}", index.stats());
        feed.publish(&index);
        check(&index.published.load());
        // In the list that it belongs to now, or the next: a code against another centroid misleads.
        let is_found = |change: &&Change| {
            let ChangeKind::Upsert(vector) = &change.kind else { unreachable!() };
            let query = Query { nprobe: Some(2), ..Query::new(vector, 1) };
            index.view().search(&query).unwrap().hits[0].doc == change.doc
        };
        let found = late.iter().filter(is_found).count();
        assert!(found > 90, "{spill:?}: {found} of 100");
    }
}

#[test]
fn lists_that_were_split_and_dissolved_come_back_from_their_files() {
    for spill in [Spill::Off, Spill::On] {
        let dir = tempfile::tempdir().unwrap();
        let (index, mut feed) = (index_on(Metric::L2, spill, Some(dir.path())), Feed::new(Metric::L2, 6));
        feed.fill(&index, 3_000, 30);
        // A snapshot before and one between, so that the last links what did not change.
        assert!(index.snapshot().unwrap());
        let mut doc = 3_000;
        for cluster in [7, 8] {
            let mut changes: Vec<Change> = (0..800).map(|n| feed.upsert(doc + n, cluster)).collect();
            changes.extend((0..500).map(|n| feed.delete(n * 5 + cluster - 7)));
            doc += 800;
            index.stage(changes).unwrap();
            feed.publish(&index);
            while index.maintain().unwrap() {}
            assert!(index.snapshot().unwrap());
        }
        assert!(done(&index).splits > 0 && done(&index).trainings == 1, "{:?}", done(&index));
        let queries: Vec<Vec<f32>> = (0..30).map(|cluster| feed.vector(cluster)).collect();
        let answers = |index: &Index| -> Vec<_> {
            let ask = |vector: &Vec<f32>| {
                index.view().search(&Query { nprobe: Some(3), ..Query::new(vector, 10) }).unwrap().hits
            };
            queries.iter().map(ask).collect()
        };
        let before = answers(&index);
        drop(index);
        let again = index_on(Metric::L2, spill, Some(dir.path()));
        check(&again.published.load());
        assert_eq!(answers(&again), before, "{spill:?}");
        // And it goes on from there.
        again.stage((doc..doc + 900).map(|n| feed.upsert(n, 9)).collect()).unwrap();
        feed.publish(&again);
        while again.maintain().unwrap() {
            check(&again.published.load());
        }
        assert!(done(&again).splits > 0 && done(&again).trainings == 0, "{:?}", done(&again));
    }
}

/// Random histories with rollbacks between any two steps of upkeep.
#[test]
fn every_vector_stands_in_its_lists_once_whatever_happens() {
    for seed in 0..12 {
        let spill = if seed % 3 == 0 { Spill::On } else { Spill::Off };
        let metric = [Metric::L2, Metric::Cosine][seed as usize % 2];
        let (index, mut feed) = (index(metric, spill), Feed::new(metric, seed));
        let mut rng = Xoshiro256Plus::seed_from_u64(seed);
        feed.fill(&index, 1_500, 25);
        for _ in 0..25 {
            let hot = rng.gen_range(0..30);
            let mut changes = Vec::new();
            for _ in 0..rng.gen_range(1..200) {
                let doc = rng.gen_range(0..2_500);
                let cluster = if rng.gen_bool(0.7) { hot } else { rng.gen_range(0..30) };
                let goes = rng.gen_bool(0.4);
                changes.push(if goes { feed.delete(doc) } else { feed.upsert(doc, cluster) });
            }
            index.stage(changes).unwrap();
            match rng.gen_range(0..4) {
                0 => {}
                1 => {
                    let seq_no = feed.next - rng.gen_range(0..feed.next.min(300));
                    index.rollback_above(SeqNo { primary_term: 1, seq_no }).unwrap();
                }
                _ => feed.publish(&index),
            }
            for _ in 0..rng.gen_range(0..4) {
                index.maintain().unwrap();
                check(&index.published.load());
            }
        }
        feed.publish(&index);
        while index.maintain().unwrap() {}
        let view = index.published.load_full();
        check(&view);
        assert_eq!(view.len() as u64, index.live(), "seed {seed}");
        let vector = feed.vector(1);
        let found = view.search(&Query::new(&vector, 10_000)).unwrap().hits;
        assert_eq!(found.len(), view.len(), "seed {seed}: none is lost");
    }
}
