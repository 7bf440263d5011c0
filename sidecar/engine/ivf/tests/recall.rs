//! Recall floors: clustered data of each metric, data with shifted and replaced documents, and, where they lie
//! beside the repository, real vectors. Queries are never stored vectors.

use std::path::PathBuf;
use std::sync::Arc;

use ivf_index::{Engine, EngineConfig};
use knn_types::{
    BuildState, Change, ChangeKind, DocKey, Element, Epoch, FieldSpec, IndexKey, IvfOptions, KnnEngine,
    KnnIndex, Metric, Query, SeqNo,
};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256Plus;

/// Points around centres of different spread, as embeddings are, and a heavy tail of norms for mip.
struct Mixture {
    centres: Vec<Vec<f32>>,
    metric: Metric,
    rng: Xoshiro256Plus,
}

impl Mixture {
    fn new(dims: usize, metric: Metric, seed: u64) -> Self {
        let mut rng = Xoshiro256Plus::seed_from_u64(seed);
        let centres = (0..300).map(|_| (0..dims).map(|_| normal(&mut rng)).collect()).collect();
        Self { centres, metric, rng }
    }

    fn vector(&mut self) -> Vec<f32> {
        let centre = self.rng.gen_range(0..self.centres.len());
        let spread = 0.4 + 0.01 * (centre % 60) as f32;
        let rng = &mut self.rng;
        let mut vector: Vec<f32> = self.centres[centre].iter().map(|c| c + spread * normal(rng)).collect();
        match self.metric {
            Metric::Cosine | Metric::Dot => {
                let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
                vector.iter_mut().for_each(|x| *x /= norm);
            }
            Metric::MaxInnerProduct => {
                let length = (0.6 * normal(&mut self.rng)).exp();
                vector.iter_mut().for_each(|x| *x *= length);
            }
            Metric::L2 => {}
        }
        vector
    }

    fn vectors(&mut self, count: usize) -> Vec<Vec<f32>> {
        (0..count).map(|_| self.vector()).collect()
    }
}

fn normal(rng: &mut Xoshiro256Plus) -> f32 {
    (0..12).map(|_| rng.r#gen::<f32>()).sum::<f32>() - 6.0
}

fn open(dims: usize, metric: Metric, options: IvfOptions) -> Arc<dyn KnnIndex> {
    let engine = Engine::open(EngineConfig { train_threads: 2, ..EngineConfig::default() }).unwrap();
    let key = IndexKey { index_uuid: "i".into(), shard: 0, history_uuid: "h".into(), field: "f".into() };
    engine.open(&key, &FieldSpec { element: Element::Float, dims, metric, options }).unwrap()
}

fn publish(index: &dyn KnnIndex, round: u64, first: usize, rows: &[Vec<f32>]) {
    for (number, chunk) in rows.chunks(1_000).enumerate() {
        let change = |(at, row): (usize, &Vec<f32>)| {
            let doc = first + number * 1_000 + at;
            let order = SeqNo { primary_term: round, seq_no: doc as u64 };
            Change { doc: DocKey::new(doc.to_string()), order, kind: ChangeKind::Upsert(row.clone()) }
        };
        index.stage(chunk.iter().enumerate().map(change).collect()).unwrap();
    }
    index.publish(Epoch { cursor: 1, max_seq_no: 1, primary_term: round }).unwrap();
}

/// Mean share of the k nearest that a search finds; equal values count whoever has them.
fn recall(
    index: &dyn KnnIndex,
    metric: Metric,
    rows: &[Vec<f32>],
    queries: &[Vec<f32>],
    k: usize,
    num_candidates: usize,
) -> f64 {
    let view = index.view();
    let mut hits = 0;
    for query in queries {
        let rank = |value: f32| if metric.smaller_is_nearer() { value } else { -value };
        let mut ranks: Vec<f32> = rows
            .iter()
            .map(|row| match metric {
                Metric::L2 => ivf_kernels::l2_squared(query, row),
                _ => -ivf_kernels::dot(query, row),
            })
            .collect();
        ranks.select_nth_unstable_by(k - 1, f32::total_cmp);
        let last = ranks[k - 1] + ranks[k - 1].abs() * 1e-5;
        let found =
            view.search(&Query { vector: query, k, num_candidates, nprobe: None, filter: None }).unwrap();
        assert_eq!(found.hits.len(), k);
        hits += found.hits.iter().filter(|hit| rank(hit.value) <= last).count();
    }
    hits as f64 / (queries.len() * k) as f64
}

fn floors(name: &str, metric: Metric, rows: &[Vec<f32>], queries: &[Vec<f32>]) {
    let index = open(rows[0].len(), metric, IvfOptions::default());
    publish(&*index, 1, 0, rows);
    while index.maintain().unwrap() {}
    let stats = index.stats();
    assert_eq!(stats.state, BuildState::Lists);
    for (k, num_candidates, floor) in [
        (10, 15, 0.95),
        (10, 100, 0.985),
        (10, 1_000, 0.996),
        (10, 10_000, 0.999),
        (100, 150, 0.95),
        (1, 2, 0.95),
    ] {
        let got = recall(&*index, metric, rows, queries, k, num_candidates);
        eprintln!(
            "{name}: k {k} num_candidates {num_candidates}: {got:.4}, nprobe {} of {}",
            stats.nprobe, stats.nlist
        );
        assert!(got >= floor, "{name}: recall@{k} at {num_candidates} is {got}, not {floor}");
    }
}

#[test]
fn clustered_data_of_every_metric() {
    for (dims, metric) in [
        (48, Metric::L2),
        (300, Metric::Cosine),
        (96, Metric::Dot),
        (64, Metric::MaxInnerProduct),
        (8, Metric::L2),
    ] {
        let mut mixture = Mixture::new(dims, metric, dims as u64);
        let (rows, queries) = (mixture.vectors(12_000), mixture.vectors(250));
        floors(&format!("{} x {dims}", metric.name()), metric, &rows, &queries);
    }
}

/// As passages of texts are: up to 15 vectors of a document lie around one of their own.
#[test]
fn documents_with_several_vectors() {
    let (dims, metric) = (48, Metric::L2);
    let mut mixture = Mixture::new(dims, metric, 5);
    let passages = |mixture: &mut Mixture, n: usize| -> Vec<f32> {
        let topic = mixture.vector();
        let rng = &mut mixture.rng;
        let spread = 0.1 + 0.1 * (n % 4) as f32;
        (0..1 + n % 15)
            .flat_map(|_| topic.iter().map(|x| x + spread * normal(rng)).collect::<Vec<_>>())
            .collect()
    };
    let documents: Vec<Vec<f32>> = (0..3_000).map(|n| passages(&mut mixture, n)).collect();
    let queries: Vec<Vec<f32>> = (0..200).map(|_| passages(&mut mixture, 0)).collect();
    let index = open(dims, metric, IvfOptions::default());
    publish(&*index, 1, 0, &documents);
    while index.maintain().unwrap() {}
    assert_eq!((index.stats().state, index.live()), (BuildState::Lists, 3_000));
    let view = index.view();
    // Two hundred queries for one hit each tell a recall to two hundredths.
    for (k, num_candidates, floor) in [(10, 15, 0.95), (10, 100, 0.985), (100, 150, 0.95), (1, 2, 0.92)] {
        let (mut found, mut scanned) = (0, 0);
        for query in &queries {
            let rank = |vectors: &Vec<f32>| {
                let ranks = vectors.chunks_exact(dims).map(|vector| ivf_kernels::l2_squared(query, vector));
                ranks.fold(f32::INFINITY, f32::min)
            };
            let mut ranks: Vec<f32> = documents.iter().map(rank).collect();
            ranks.select_nth_unstable_by(k - 1, f32::total_cmp);
            let last = ranks[k - 1] * (1.0 + 1e-5);
            let query = Query { vector: query, k, num_candidates, nprobe: None, filter: None };
            let answer = view.search(&query).unwrap();
            assert_eq!(answer.hits.len(), k);
            let mut ids: Vec<&str> = answer.hits.iter().map(|hit| &*hit.doc.id).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), k, "a document is found once");
            found += answer.hits.iter().filter(|hit| hit.value <= last).count();
            scanned += answer.stats.scanned;
            let exactly: Vec<f32> =
                view.search_exactly(&query).unwrap().hits.iter().map(|h| h.value).collect();
            assert!(exactly.iter().all(|value| *value <= last) && exactly.len() == k);
        }
        let got = found as f64 / (queries.len() * k) as f64;
        eprintln!("k {k} num_candidates {num_candidates}: {got:.4}, {} scanned", scanned / queries.len());
        assert!(got >= floor, "recall@{k} at {num_candidates} is {got}, not {floor}");
        assert!(scanned / queries.len() < 24_000 || num_candidates > 15, "lists are of use");
    }
}

#[test]
fn the_recall_option_picks_the_lists() {
    let mut mixture = Mixture::new(64, Metric::L2, 9);
    let (rows, queries) = (mixture.vectors(12_000), mixture.vectors(250));
    let mut before = 0;
    for wanted in [0.8, 0.95, 0.99] {
        let index = open(64, Metric::L2, IvfOptions { recall: Some(wanted), ..IvfOptions::default() });
        publish(&*index, 1, 0, &rows);
        while index.maintain().unwrap() {}
        let nprobe = index.stats().nprobe;
        assert!(nprobe > before, "{wanted}: {nprobe} after {before}");
        before = nprobe;
        let got = recall(&*index, Metric::L2, &rows, &queries, 10, 15);
        assert!(got >= f64::from(wanted) - 0.005, "{wanted}: {got}");
    }
}

#[test]
fn a_third_replaced_by_shifted_data_keeps_its_recall() {
    let (dims, metric) = (64, Metric::L2);
    let mut mixture = Mixture::new(dims, metric, 21);
    let mut rows = mixture.vectors(12_000);
    let index = open(dims, metric, IvfOptions::default());
    publish(&*index, 1, 0, &rows);
    while index.maintain().unwrap() {}
    let mut shifted = Mixture::new(dims, metric, 22);
    for round in 0..4 {
        let first = round * 1_000;
        let new = shifted.vectors(1_000);
        publish(&*index, 2, first, &new);
        rows[first..first + 1_000].clone_from_slice(&new);
        while index.maintain().unwrap() {}
    }
    let queries: Vec<Vec<f32>> = [mixture.vectors(150), shifted.vectors(150)].concat();
    let got = recall(&*index, metric, &rows, &queries, 10, 15);
    eprintln!("after churn: {got:.4}, imbalance {:.2}", index.stats().imbalance);
    // The centroids and the calibration are of the old data: a hundredth may be lost by that.
    assert!(got >= 0.94, "{got}");
}

/// A file of real vectors beside the repository, or a loud notice that it is not there.
fn real(name: &str) -> Option<(Vec<Vec<f32>>, usize)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/data").join(name);
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("SKIPPED: no {}", path.display());
        return None;
    };
    let header_end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..header_end]).unwrap();
    let shape = header.split("'shape': (").nth(1).unwrap().split(')').next().unwrap();
    let dims: usize = shape.split(',').nth(1).unwrap().trim().parse().unwrap();
    let data = &bytes[header_end..];
    let values: Vec<f32> = if header.contains("f2") {
        data.chunks_exact(2).map(|b| half(u16::from_le_bytes([b[0], b[1]]))).collect()
    } else if header.contains("u1") {
        data.iter().map(|&b| f32::from(b)).collect()
    } else {
        data.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f32).collect()
    };
    Some((values.chunks_exact(dims).map(<[f32]>::to_vec).collect(), dims))
}

fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1_023));
    if exponent == 0 {
        sign * fraction * 2f32.powi(-24)
    } else {
        sign * (1.0 + fraction / 1_024.0) * 2f32.powi(exponent - 15)
    }
}

#[test]
fn real_text_embeddings() {
    let Some((mut rows, _)) = real("wordnet-glosses-384.f16.npy") else { return };
    for row in &mut rows {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
    }
    let queries = rows.split_off(rows.len() - 300);
    floors("wordnet", Metric::Cosine, &rows, &queries);
}

#[test]
fn somebody_elses_truth() {
    let (Some((rows, dims)), Some((queries, _)), Some((truth, _))) = (
        real("siftsmall-128.u8.npy"),
        real("siftsmall-128-queries.u8.npy"),
        real("siftsmall-128-truth.i32.npy"),
    ) else {
        return;
    };
    let index = open(dims, Metric::L2, IvfOptions::default());
    publish(&*index, 1, 0, &rows);
    let found_by = |num_candidates: usize| -> usize {
        let found = |(query, truth): (&Vec<f32>, &Vec<f32>)| {
            let query = Query { vector: query, k: 10, num_candidates, nprobe: None, filter: None };
            let hits = index.view().search(&query).unwrap().hits;
            hits.iter().filter(|hit| truth[..10].contains(&hit.doc.id.parse().unwrap())).count()
        };
        queries.iter().zip(&truth).map(found).sum()
    };
    // Equal distances at the tenth place may be answered by another row.
    assert!(found_by(15) >= 995, "exact scan: {}", found_by(15));
    while index.maintain().unwrap() {}
    assert_eq!(index.stats().state, BuildState::Lists);
    assert!(found_by(15) >= 950, "{}", found_by(15));
    assert!(found_by(10_000) >= 995, "{}", found_by(10_000));
}
