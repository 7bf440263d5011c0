//! Comparing an index with what a point in time shows: deletes leave no trace in a search, so they
//! are found as documents that we hold and Elasticsearch no longer shows.
//!
//! Both sides are cut into ranges of `_seq_no`. Ranges whose number of documents (and, where asked,
//! whose sum of `_seq_no`) agree are equal; only the others are listed by id.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use knn_types::{Change, ChangeKind, DocKey, SeqNo};
use serde_json::json;

use crate::pages::{Fields, PullError, Reader, all_of, any_of, seq_nos};
use crate::shard::FieldIndex;

/// Ranges of the first, coarse look.
const COARSE: u64 = 1_000;
/// Ranges of the second look, below Elasticsearch's limit of 65,536 buckets.
const FINE: u64 = 50_000;
/// Up to so many documents are listed without looking finer.
const LIST_AT_ONCE: u64 = 20_000;
/// Ranges that one listing names; Elasticsearch allows 1,024 clauses and more.
const RANGES_AT_ONCE: usize = 200;
/// Documents that one listing holds in memory.
const DOCUMENTS_AT_ONCE: u64 = 200_000;
/// Documents fetched by id at a time.
const IDS_AT_ONCE: usize = 1_000;

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Numbers of documents: enough where nothing can be missing and only deletes are looked for.
    Counts,
    /// Numbers and sums: a missing and an extra document in one range do not hide each other.
    Sums,
    /// Every id.
    Listing,
}

/// What was found, and is staged now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Differences {
    pub(crate) missing: u64,
    pub(crate) extra: u64,
    /// Held in an older version than the one shown.
    pub(crate) stale: u64,
}

impl std::ops::AddAssign for Differences {
    fn add_assign(&mut self, other: Self) {
        self.missing += other.missing;
        self.extra += other.extra;
        self.stale += other.stale;
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    documents: u64,
    /// Of `_seq_no`.
    sum: u64,
}

/// A range that is not equal.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Suspect {
    range: Range<u64>,
    ours: u64,
    theirs: u64,
}

impl Reader {
    /// Number of visible documents that match `query`.
    pub(crate) async fn count(&self, query: serde_json::Value) -> Result<u64, PullError> {
        let body = json!({"size": 0, "track_total_hits": true, "query": all_of(vec![query])});
        Ok(self.pit.search(body).await?.hits.total.map_or(0, |total| total.value))
    }

    /// Visible documents that match `query`, counted by ranges of `width` numbers; ranges without any
    /// are absent.
    pub(crate) async fn documents_by_seq_no(
        &self,
        query: serde_json::Value,
        width: u64,
    ) -> Result<BTreeMap<u64, u64>, PullError> {
        let histogram = json!({"histogram": {"field": "_seq_no", "interval": width, "min_doc_count": 1}});
        let body = json!({
            "size": 0,
            "track_total_hits": false,
            "query": all_of(vec![query]),
            "aggs": {"by_seq_no": histogram},
        });
        let answer = self.pit.search(body).await?;
        let buckets = answer.aggregations.map(|found| found.by_seq_no.buckets).unwrap_or_default();
        Ok(buckets.into_iter().map(|bucket| (bucket.key as u64 / width, bucket.doc_count)).collect())
    }

    /// Compares the documents in `range` and stages what makes them equal.
    pub(crate) async fn audit(
        self: &Arc<Self>,
        field: &Arc<FieldIndex>,
        range: Range<u64>,
        depth: Depth,
    ) -> Result<Differences, PullError> {
        if range.is_empty() {
            return Ok(Differences::default());
        }
        let mut suspects = self.suspects(field, &range, depth, COARSE).await?;
        let documents: u64 = suspects.iter().map(|suspect| suspect.ours.max(suspect.theirs)).sum();
        if depth != Depth::Listing && documents > LIST_AT_ONCE && range.end - range.start > COARSE {
            suspects = self.suspects(field, &range, depth, FINE).await?;
        }
        let (absent, differing): (Vec<_>, Vec<_>) =
            suspects.into_iter().partition(|suspect| suspect.ours == 0);
        let mut found = self.learn_ranges(field, absent).await?;
        for batch in batches(differing) {
            found += self.compare_by_id(field, batch).await?;
        }
        self.ctx.metrics.differences(&found);
        Ok(found)
    }

    async fn suspects(
        self: &Arc<Self>,
        field: &Arc<FieldIndex>,
        range: &Range<u64>,
        depth: Depth,
        pieces: u64,
    ) -> Result<Vec<Suspect>, PullError> {
        let width = (range.end - range.start).div_ceil(pieces).max(1);
        let theirs = self.their_tallies(field, range, depth, width).await?;
        let ours = self.our_tallies(field, range, depth, width).await?;
        let mut all: BTreeMap<u64, (Tally, Tally)> = BTreeMap::new();
        ours.into_iter().for_each(|(piece, tally)| all.entry(piece).or_default().0 = tally);
        theirs.into_iter().for_each(|(piece, tally)| all.entry(piece).or_default().1 = tally);
        let differs = |ours: Tally, theirs: Tally| match depth {
            Depth::Counts => ours.documents != theirs.documents,
            Depth::Sums => ours != theirs,
            Depth::Listing => true,
        };
        let suspect = |(piece, (ours, theirs)): (u64, (Tally, Tally))| {
            let piece = (piece * width).max(range.start)..((piece + 1) * width).min(range.end);
            let suspicious = !piece.is_empty() && differs(ours, theirs);
            suspicious.then_some(Suspect { range: piece, ours: ours.documents, theirs: theirs.documents })
        };
        Ok(all.into_iter().filter_map(suspect).collect())
    }

    async fn their_tallies(
        &self,
        field: &FieldIndex,
        range: &Range<u64>,
        depth: Depth,
        width: u64,
    ) -> Result<BTreeMap<u64, Tally>, PullError> {
        let mut histogram = json!({"histogram": {"field": "_seq_no", "interval": width, "min_doc_count": 1}});
        if depth == Depth::Sums {
            histogram["aggs"] = json!({"sum": {"sum": {"field": "_seq_no"}}});
        }
        let body = json!({
            "size": 0,
            "track_total_hits": false,
            "query": all_of(vec![field.present(), seq_nos(range)]),
            "aggs": {"by_seq_no": histogram},
        });
        let answer = self.pit.search(body).await?;
        let buckets =
            answer.aggregations.map(|aggregations| aggregations.by_seq_no.buckets).unwrap_or_default();
        let tally = |bucket: crate::response::SeqNoBucket| {
            // Sums stay below 2^53 for as long as a piece times its numbers does; beyond that both
            // sides differ and the piece is listed, which is slower but never wrong.
            let sum = bucket.sum.map_or(0, |sum| sum.value as u64);
            (bucket.key as u64 / width, Tally { documents: bucket.doc_count, sum })
        };
        Ok(buckets.into_iter().map(tally).collect())
    }

    async fn our_tallies(
        &self,
        field: &Arc<FieldIndex>,
        range: &Range<u64>,
        depth: Depth,
        width: u64,
    ) -> Result<BTreeMap<u64, Tally>, PullError> {
        let index = Arc::clone(&field.index);
        let range = range.clone();
        let tallies = move || {
            let mut tallies: BTreeMap<u64, Tally> = BTreeMap::new();
            if depth == Depth::Counts {
                let counts = index.counts_by_seq_no(width).into_iter().enumerate();
                let filled = counts.filter(|(_, documents)| *documents > 0);
                tallies.extend(filled.map(|(piece, documents)| (piece as u64, Tally { documents, sum: 0 })));
                return tallies;
            }
            for part in parts(&range) {
                for (_, order) in index.docs_between(part.start, part.end) {
                    let tally = tallies.entry(order.seq_no / width).or_default();
                    tally.documents += 1;
                    tally.sum += if depth == Depth::Sums { order.seq_no } else { 0 };
                }
            }
            tallies
        };
        Ok(self.entry.tasks.spawn_blocking(tallies).await?)
    }

    /// Where we hold nothing there is nothing to compare: all of it is fetched.
    async fn learn_ranges(
        self: &Arc<Self>,
        field: &Arc<FieldIndex>,
        absent: Vec<Suspect>,
    ) -> Result<Differences, PullError> {
        let mut missing = 0;
        let fields: Fields = Arc::new([Arc::clone(field)]);
        let ranges = merged(absent.iter().map(|suspect| suspect.range.clone()));
        for ranges in ranges.chunks(RANGES_AT_ONCE) {
            let clauses = ranges.iter().map(seq_nos).collect();
            let query = all_of(vec![field.present(), any_of(clauses)]);
            missing += self.learn(query, &fields).await?.documents;
        }
        Ok(Differences { missing, ..Differences::default() })
    }

    async fn compare_by_id(
        self: &Arc<Self>,
        field: &Arc<FieldIndex>,
        suspects: Vec<Suspect>,
    ) -> Result<Differences, PullError> {
        let ranges = merged(suspects.into_iter().map(|suspect| suspect.range));
        let clauses = ranges.iter().map(seq_nos).collect();
        let shown = self.list(all_of(vec![field.present(), any_of(clauses)])).await?;

        let index = Arc::clone(&field.index);
        let compare = move || {
            let held: Vec<(DocKey, SeqNo)> =
                ranges.iter().flat_map(|range| index.docs_between(range.start, range.end)).collect();
            let extra: Vec<Change> = held
                .iter()
                .filter(|(doc, order)| shown.get(doc) != Some(order))
                .map(|(doc, order)| Change { doc: doc.clone(), order: *order, kind: ChangeKind::Delete })
                .collect();
            let held: std::collections::HashMap<DocKey, SeqNo> = held.into_iter().collect();
            let superseded = extra.iter().filter(|change| shown.contains_key(&change.doc)).count();
            let mut found =
                Differences { extra: (extra.len() - superseded) as u64, ..Differences::default() };
            let mut missing = Vec::new();
            let mut rewound = false;
            for (doc, order) in &shown {
                if held.get(doc) != Some(order) {
                    let ours = index.order_of(doc);
                    rewound |= ours.is_some_and(|newer| newer > *order);
                    found.stale += u64::from(ours.is_some());
                    found.missing += u64::from(ours.is_none());
                    missing.push(doc.id.clone());
                }
            }
            (extra, missing, found, rewound)
        };
        let (extra, missing, found, rewound) = self.entry.tasks.spawn_blocking(compare).await?;
        if rewound {
            return Err(PullError::Rewound(Arc::clone(field)));
        }
        let fields: Fields = Arc::new([Arc::clone(field)]);
        // The order of a Delete is that of the version it removes: a newer version stays.
        self.stage(&fields, vec![extra]).await?;
        for ids in missing.chunks(IDS_AT_ONCE) {
            self.learn(all_of(vec![json!({"ids": {"values": ids}})]), &fields).await?;
        }
        Ok(found)
    }
}

/// Cuts a long range, so that a listing of our own documents stays small.
fn parts(range: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let (start, end) = (range.start, range.end);
    let step = DOCUMENTS_AT_ONCE;
    (0..(end - start).div_ceil(step)).map(move |i| start + i * step..(start + (i + 1) * step).min(end))
}

/// Joins neighbours.
fn merged(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

/// Groups that one listing can name and hold.
fn batches(suspects: Vec<Suspect>) -> Vec<Vec<Suspect>> {
    let mut batches: Vec<Vec<Suspect>> = Vec::new();
    let mut documents = 0;
    for suspect in suspects {
        let size = suspect.ours.max(suspect.theirs);
        let fits = batches
            .last()
            .is_some_and(|batch| batch.len() < RANGES_AT_ONCE && documents + size <= DOCUMENTS_AT_ONCE);
        if !fits {
            batches.push(Vec::new());
            documents = 0;
        }
        documents += size;
        if let Some(batch) = batches.last_mut() {
            batch.push(suspect);
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one_range() {
        let ranges = [0..10, 10..20, 30..40, 40..41];
        assert_eq!(merged(ranges.into_iter()), [0..20, 30..41]);
    }

    #[test]
    fn parts_cover_the_range_without_overlap() {
        let range = 5..DOCUMENTS_AT_ONCE * 2 + 7;
        let parts: Vec<_> = parts(&range).collect();
        assert_eq!(parts.len(), 3);
        assert_eq!(merged(parts.into_iter()), [range]);
    }

    #[test]
    fn batches_are_bounded_in_ranges_and_documents() {
        let suspect = |i: u64, ours| Suspect { range: i..i + 1, ours, theirs: 0 };
        let many: Vec<_> = (0..450).map(|i| suspect(i, 1)).collect();
        assert_eq!(batches(many).iter().map(Vec::len).collect::<Vec<_>>(), [200, 200, 50]);
        let large: Vec<_> = (0..3).map(|i| suspect(i, DOCUMENTS_AT_ONCE / 2 + 1)).collect();
        assert_eq!(batches(large).len(), 3);
    }
}
