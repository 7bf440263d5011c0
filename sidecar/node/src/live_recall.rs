//! Recall of the searches that clients really send: now and then an answered search is repeated as an
//! exact scan of the same view, in the background, and the share of the true neighbours that the answer
//! held is remembered.
//!
//! A sample costs what an exact scan costs, so samples are spaced: all together they take [`SHARE`] of
//! one core, one at a time. What they say comes with Wilson's interval (Wilson 1927): with `n` samples a
//! mean of shares is no less certain than that of `n` coin tosses.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use es_wire::Scoring;
use knn_types::{EngineError, Query};
use parking_lot::Mutex;

use crate::insight::share;
use crate::searched::Searched;

/// Of one core, for all samples together.
const SHARE: f64 = 0.01;
/// However cheap scans are.
const LEAST_PAUSE: Duration = Duration::from_millis(200);
/// Samples remembered per field.
const WINDOW: usize = 512;
/// Fields remembered; further ones are not sampled.
const MAX_FIELDS: usize = 1_000;
/// 95 % of a normal distribution lie within so many standard deviations.
const DEVIATIONS: f64 = 1.96;

/// A field of an index: `settings.index.uuid` and path.
pub(crate) type FieldKey = (Arc<str>, Box<str>);

/// An answered search.
pub(crate) struct Answered {
    pub(crate) field: FieldKey,
    pub(crate) scoring: Scoring,
    pub(crate) vector: Vec<f32>,
    pub(crate) k: usize,
    /// What was searched, shard by shard.
    pub(crate) shards: Vec<Searched>,
    /// Scores of the hits.
    pub(crate) scores: Vec<f32>,
}

/// Mean recall of recent samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Measured {
    pub(crate) mean: f64,
    /// 95 % interval.
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) samples: usize,
}

/// See the head of this file.
pub(crate) struct LiveRecall {
    started: Instant,
    /// Nanoseconds after `started` from which the next sample may be taken.
    next: AtomicU64,
    busy: AtomicBool,
    samples: Mutex<HashMap<FieldKey, VecDeque<f32>>>,
}

impl LiveRecall {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            next: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            samples: Mutex::default(),
        }
    }

    /// Whether the next answered search may be sampled; true for one caller, who must then call
    /// [`LiveRecall::measure`].
    pub(crate) fn claim(&self) -> bool {
        self.nanos() >= self.next.load(Ordering::Relaxed) && !self.busy.swap(true, Ordering::Acquire)
    }

    /// Scans exactly and remembers; takes as long as that takes.
    pub(crate) fn measure(&self, answered: &Answered) {
        let began = Instant::now();
        match recall(answered) {
            Ok(Some(recall)) => self.remember(&answered.field, recall),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "a search could not be sampled for its recall"),
        }
        let pause = began.elapsed().div_f64(SHARE).max(LEAST_PAUSE);
        let next = self.nanos().saturating_add(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX));
        self.next.store(next, Ordering::Relaxed);
        self.busy.store(false, Ordering::Release);
    }

    /// What is known of a field; `None` before its first sample.
    pub(crate) fn of(&self, index_uuid: &Arc<str>, field: &str) -> Option<Measured> {
        let samples = self.samples.lock();
        let samples = samples.get(&(Arc::clone(index_uuid), field.into()))?;
        let count = samples.len() as f64;
        let mean = samples.iter().copied().map(f64::from).sum::<f64>() / count;
        let (low, high) = wilson(mean, count);
        Some(Measured { mean, low, high, samples: samples.len() })
    }

    /// Forgets fields of indices that are gone.
    pub(crate) fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.samples.lock().retain(|(uuid, _), _| keep(uuid));
    }

    fn remember(&self, field: &FieldKey, recall: f32) {
        let mut samples = self.samples.lock();
        if samples.len() >= MAX_FIELDS && !samples.contains_key(field) {
            return;
        }
        let window = samples.entry(field.clone()).or_default();
        if window.len() == WINDOW {
            window.pop_front();
        }
        window.push_back(recall);
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The share of the true nearest that was found; equal scores count whoever has them. `None` when
/// there is nothing to find.
fn recall(answered: &Answered) -> Result<Option<f32>, EngineError> {
    let query = Query::new(&answered.vector, answered.k);
    let mut truth: Vec<f32> = Vec::new();
    for shard in &answered.shards {
        let found = shard.view.search_exactly(&shard.query(&query))?;
        truth.extend(found.hits.iter().map(|hit| answered.scoring.score(hit.value)));
    }
    truth.sort_unstable_by(|a, b| b.total_cmp(a));
    truth.truncate(answered.k);
    let known = !truth.is_empty();
    Ok(known.then(|| share(&answered.scores, &truth) as f32))
}

/// Wilson's score interval for a share `mean` of `count`.
pub(crate) fn wilson(mean: f64, count: f64) -> (f64, f64) {
    let squared = DEVIATIONS * DEVIATIONS;
    let scale = 1.0 / (1.0 + squared / count);
    let centre = scale * (mean + squared / (2.0 * count));
    let half = scale * DEVIATIONS * (mean * (1.0 - mean) / count + squared / (4.0 * count * count)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use es_wire::Similarity;
    use ivf_index::{Engine, EngineConfig};
    use knn_types::{
        Change, ChangeKind, DocKey, Element, Epoch, FieldSpec, IndexKey, KnnEngine, KnnView, Metric, SeqNo,
    };

    use super::*;

    /// 20 documents on a line, at their numbers.
    fn view() -> Arc<dyn KnnView> {
        let engine = Engine::open(EngineConfig::default()).unwrap();
        let key = IndexKey { index_uuid: "u".into(), shard: 0, history_uuid: "h".into(), field: "v".into() };
        let spec =
            FieldSpec { element: Element::Float, dims: 1, metric: Metric::L2, options: Default::default() };
        let index = engine.open(&key, &spec).unwrap();
        let change = |n: u16| Change {
            doc: DocKey::new(n.to_string()),
            order: SeqNo { primary_term: 1, seq_no: n.into() },
            kind: ChangeKind::Upsert(vec![f32::from(n)]),
        };
        index.stage((0..20).map(change).collect()).unwrap();
        index.publish(Epoch { cursor: 19, max_seq_no: 19, primary_term: 1 }).unwrap();
        index.view()
    }

    fn answered(distances: &[f32]) -> Answered {
        let scoring = Scoring { similarity: Similarity::L2Norm, element: Element::Float, dims: 1 };
        Answered {
            field: ("u".into(), "v".into()),
            scoring,
            vector: vec![0.0],
            k: 4,
            shards: vec![Searched::whole(view())],
            scores: distances.iter().map(|distance| scoring.score(distance * distance)).collect(),
        }
    }

    #[test]
    fn recall_is_the_share_of_the_true_nearest() {
        assert_eq!(recall(&answered(&[0.0, 1.0, 2.0, 3.0])).unwrap(), Some(1.0));
        assert_eq!(recall(&answered(&[0.0, 2.0, 7.0, 8.0])).unwrap(), Some(0.5));
        assert_eq!(recall(&answered(&[])).unwrap(), Some(0.0));
    }

    #[test]
    fn samples_are_spaced_and_remembered() {
        let live = LiveRecall::new();
        assert!(live.claim() && !live.claim(), "one at a time");
        live.measure(&answered(&[0.0, 1.0, 2.0, 9.0]));
        assert!(!live.claim(), "the next one has to wait");
        let measured = live.of(&"u".into(), "v").unwrap();
        assert_eq!((measured.mean, measured.samples), (0.75, 1));
        assert!(measured.low < 0.75 && measured.high > 0.75 && measured.high <= 1.0);
        assert_eq!(live.of(&"u".into(), "w"), None);
        live.retain(|_| false);
        assert_eq!(live.of(&"u".into(), "v"), None);
    }

    #[test]
    fn the_window_forgets_the_oldest() {
        let live = LiveRecall::new();
        let field: FieldKey = ("u".into(), "v".into());
        (0..WINDOW).for_each(|_| live.remember(&field, 0.0));
        (0..WINDOW).for_each(|_| live.remember(&field, 1.0));
        let measured = live.of(&field.0, "v").unwrap();
        assert_eq!((measured.mean, measured.samples), (1.0, WINDOW));
        assert!(measured.low > 0.99);
    }

    #[test]
    fn intervals_are_wilsons() {
        // Worked example: 9 of 10.
        let (low, high) = wilson(0.9, 10.0);
        assert!((low - 0.596).abs() < 1e-3 && (high - 0.982).abs() < 1e-3, "{low} {high}");
    }
}
