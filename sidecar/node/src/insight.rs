//! Looking into searches: recall against exact scans, and the fate of one document. For people, on
//! request; all of it runs on threads that may block.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use es_proxy::{DocumentFate, Lost, RecallPoint, RecallQuery, SeenList, ShardWork};
use es_wire::Scoring;
use knn_types::{DocKey, EngineError, Explanation, Fate, KnnView, Query, SearchStats};

use crate::live_recall::wilson;
use crate::searched::Searched;

/// A curve ends where nothing is left to gain.
const PERFECT: f64 = 0.9995;

/// One index under measurement.
pub(crate) struct Measurement {
    pub(crate) views: Vec<Arc<dyn KnnView>>,
    pub(crate) scoring: Scoring,
    pub(crate) queries: Vec<RecallQuery>,
    pub(crate) k: usize,
    pub(crate) num_candidates: usize,
    pub(crate) curve: bool,
    /// Set when nobody waits for the result any more.
    pub(crate) abandoned: Arc<AtomicBool>,
}

impl Measurement {
    /// The setting as asked, then, for a curve, twice as many lists each time. `None` if abandoned.
    pub(crate) fn run(&self) -> Result<Option<Vec<RecallPoint>>, EngineError> {
        let mut truths = Vec::with_capacity(self.queries.len());
        for query in &self.queries {
            if self.abandoned.load(Ordering::Relaxed) {
                return Ok(None);
            }
            truths.push(self.truth(query)?);
        }
        let Some(asked) = self.point(None, &truths)? else { return Ok(None) };
        // An exact scan visits no lists: then there is no curve.
        let has_lists = asked.lists > 0.0;
        let mut points = vec![asked];
        if self.curve && has_lists {
            for nprobe in (0..).map(|power| 1 << power) {
                let Some(point) = self.point(Some(nprobe), &truths)? else { return Ok(None) };
                let done = point.mean >= PERFECT || point.lists < nprobe as f64;
                points.push(point);
                if done {
                    break;
                }
            }
        }
        Ok(Some(points))
    }

    /// Scores of the true nearest, best first.
    fn truth(&self, query: &RecallQuery) -> Result<Vec<f32>, EngineError> {
        let mut scores = Vec::new();
        for view in &self.views {
            let found = view.search_exactly(&self.query(query, None))?;
            scores.extend(self.scores(query, &found.hits));
        }
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        scores.truncate(self.k);
        Ok(scores)
    }

    fn point(&self, nprobe: Option<usize>, truths: &[Vec<f32>]) -> Result<Option<RecallPoint>, EngineError> {
        let (mut shares, mut work, mut took) = (0.0, SearchStats::default(), Duration::ZERO);
        for (query, truth) in self.queries.iter().zip(truths) {
            if self.abandoned.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let started = Instant::now();
            let mut scores = Vec::new();
            for view in &self.views {
                let found = view.search(&self.query(query, nprobe))?;
                scores.extend(self.scores(query, &found.hits));
                work.lists += found.stats.lists;
                work.scanned += found.stats.scanned;
                work.reranked += found.stats.reranked;
            }
            took += started.elapsed();
            shares += share(&scores, truth);
        }
        let count = self.queries.len() as f64;
        let mean = shares / count;
        let (low, high) = wilson(mean, count);
        Ok(Some(RecallPoint {
            nprobe,
            mean,
            low,
            high,
            lists: work.lists as f64 / count / self.views.len() as f64,
            scanned: work.scanned as f64 / count,
            compared: work.reranked as f64 / count,
            microseconds: took.as_secs_f64() * 1e6 / count,
        }))
    }

    /// One hit more where the document that the query was taken from is going to be dropped.
    fn query<'a>(&self, query: &'a RecallQuery, nprobe: Option<usize>) -> Query<'a> {
        let k = self.k + usize::from(query.except.is_some());
        Query { num_candidates: self.num_candidates.max(k), nprobe, ..Query::new(&query.vector, k) }
    }

    fn scores<'a>(
        &'a self,
        query: &'a RecallQuery,
        hits: &'a [knn_types::Hit],
    ) -> impl Iterator<Item = f32> + 'a {
        let others = hits.iter().filter(|hit| query.except.as_ref() != Some(&hit.doc));
        others.take(self.k).map(|hit| self.scoring.score(hit.value))
    }
}

/// The share of the true nearest that was found; equal scores count whoever has them.
pub(crate) fn share(found: &[f32], truth: &[f32]) -> f64 {
    let Some(&last) = truth.last() else { return 1.0 };
    found.iter().filter(|score| **score >= last).count().min(truth.len()) as f64 / truth.len() as f64
}

/// What a search does on each shard, found out by searching once more.
pub(crate) fn works(shards: &[Searched], query: &Query<'_>) -> Result<Vec<ShardWork>, EngineError> {
    let work = |(number, shard): (usize, &Searched)| {
        let started = Instant::now();
        let found = shard.view.search(&shard.query(query))?;
        Ok(ShardWork {
            shard: number as u32,
            documents: shard.view.len(),
            allowed: shard.filter.as_ref().map(|filter| filter.len()),
            lists: found.stats.lists,
            scanned: found.stats.scanned,
            compared: found.stats.reranked,
            hits: found.hits.len(),
            took: started.elapsed(),
        })
    };
    shards.iter().enumerate().map(work).collect()
}

/// What became of a document; `None` if no shard holds a vector of it.
pub(crate) fn fate(
    shards: &[Searched],
    scoring: Scoring,
    query: &Query<'_>,
    doc: &DocKey,
) -> Result<Option<DocumentFate>, EngineError> {
    for (shard, searched) in shards.iter().enumerate() {
        if let Some(explained) = searched.view.explain(&searched.query(query), doc)? {
            let mut nearer = 0;
            for (number, other) in shards.iter().enumerate().filter(|(number, _)| *number != shard) {
                let score = scoring.score(explained.value);
                let found = other.view.search(&other.query(query))?;
                let before = |hit: &&knn_types::Hit| {
                    let theirs = scoring.score(hit.value);
                    theirs > score || theirs == score && number < shard
                };
                nearer += found.hits.iter().filter(before).count();
            }
            return Ok(Some(told(shard, &explained, scoring, nearer, query.k)));
        }
    }
    Ok(None)
}

/// `nearer` hits of other shards come before the document.
fn told(shard: usize, explained: &Explanation, scoring: Scoring, nearer: usize, k: usize) -> DocumentFate {
    let lost = match explained.fate {
        Fate::Hit { place } if place + nearer < k => None,
        Fate::Hit { .. } => Some(Lost::NearerOnes),
        Fate::Filtered => Some(Lost::Filtered),
        Fate::NearerOnes => Some(Lost::NearerOnes),
        Fate::NotVisited => Some(Lost::NotVisited),
        Fate::Bounded => Some(Lost::Bounded),
    };
    let rank = match explained.fate {
        Fate::Hit { place } if lost.is_none() => Some(place + nearer),
        _ => None,
    };
    let seen = |list: &knn_types::ListSeen| SeenList {
        list: list.list,
        place: list.place,
        visited: list.visited,
        entries: list.entries,
        estimate: scoring.score(list.estimate),
        error: list.error,
    };
    DocumentFate {
        shard,
        order: explained.order,
        score: scoring.score(explained.value),
        allowed: explained.allowed,
        rank,
        lost,
        worst: explained.worst.map(|value| scoring.score(value)),
        lists_visited: explained.stats.lists,
        scanned: explained.stats.scanned,
        compared: explained.stats.reranked,
        lists: explained.lists.iter().map(seen).collect(),
    }
}
