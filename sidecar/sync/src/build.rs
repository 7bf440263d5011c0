//! The first build of a shard: all that it shows, read in ranges of `_seq_no` by several streams.
//!
//! A range is the unit of progress. What has been read is *kept* now and then: published under an epoch
//! that says "unfinished" ([`unfinished`]), which snapshots preserve and no search is shown, since
//! searches see only what is [`crate::shard::FieldIndex::built`]. So the whole of a large index is never
//! held as staged changes, and after a crash, a lost connection or a cancelled build the next try reads
//! only ranges of which nothing is held; those that were under way are compared by the audit after it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use knn_types::Epoch;
use parking_lot::Mutex;
use tokio::time::sleep_until;

use crate::pages::{Fields, PullError, Reader, all_of, any_of, seq_nos};
use crate::shard::Plan;

/// Documents of a range, about.
const RANGE_DOCUMENTS: u64 = 10_000;
/// Pieces of the histogram that ranges are cut from; Elasticsearch allows 65,536.
const PIECES: u64 = 10_000;
/// Bytes of vectors that are staged before they are kept.
const KEPT_AT_ONCE: u64 = 64 << 20;
/// What is staged is kept after this time, however little it is.
const KEPT_EVERY: Duration = Duration::from_secs(1);

/// Whether an index holds no more than a part of its first build.
pub(crate) fn unfinished(epoch: &Epoch) -> bool {
    epoch.max_seq_no < 0
}

/// The epoch of a part. The term tells, after an interruption, whether a fail-over came between.
fn part_of(term: u64) -> Epoch {
    Epoch { primary_term: term, ..Epoch::EMPTY }
}

/// Documents per second that all first builds together may read.
pub(crate) struct Pace {
    per_second: Option<u64>,
    free_at: Mutex<Instant>,
}

impl Pace {
    pub(crate) fn new(per_second: Option<u64>) -> Self {
        Self { per_second, free_at: Mutex::new(Instant::now()) }
    }

    /// Documents that may be read in one go: at most what one second allows.
    fn at_once(&self) -> u64 {
        self.per_second.map_or(RANGE_DOCUMENTS, |rate| rate.clamp(1, RANGE_DOCUMENTS))
    }

    /// When the next `documents` may be read; whoever asks later comes after them.
    fn reserve(&self, documents: u64, now: Instant) -> Instant {
        let Some(rate) = self.per_second else { return now };
        let mut free_at = self.free_at.lock();
        let begin = (*free_at).max(now);
        *free_at = begin + Duration::from_secs_f64(documents as f64 / rate.max(1) as f64);
        begin
    }

    async fn turn(&self, documents: u64) {
        let now = Instant::now();
        let begin = self.reserve(documents, now);
        if begin > now {
            sleep_until(begin.into()).await;
        }
    }
}

/// Numbers of documents, cut into what is read in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    range: Range<u64>,
    documents: u64,
}

struct Build<'a> {
    reader: &'a Arc<Reader>,
    fields: &'a Fields,
    queue: Mutex<VecDeque<Part>>,
    term: u64,
    /// Documents staged since something was kept.
    staged: AtomicU64,
    keep_after: u64,
    kept_at: Mutex<Instant>,
    highest: AtomicI64,
}

/// Reads all of which nothing is held. Returns the highest `_seq_no` that was read.
pub(crate) async fn read(
    reader: &Arc<Reader>,
    fields: &Fields,
    plan: &Plan,
    term: u64,
) -> Result<i64, PullError> {
    let row: usize = fields.iter().map(|field| field.spec.values() * size_of::<f32>()).sum();
    let build = Build {
        reader,
        fields,
        queue: Mutex::new(parts(reader, fields, plan).await?),
        term,
        staged: AtomicU64::new(0),
        keep_after: KEPT_AT_ONCE / row.max(1) as u64,
        kept_at: Mutex::new(Instant::now()),
        highest: AtomicI64::new(-1),
    };
    // Before anything is staged, so that an interruption knows the term of what it finds.
    build.keep().await?;
    let streams = reader.ctx.config.build_streams.clamp(1, build.queue.lock().len().max(1));
    try_join_all((0..streams).map(|_| build.stream())).await?;
    Ok(build.highest.load(Ordering::Relaxed))
}

impl Build<'_> {
    async fn stream(&self) -> Result<(), PullError> {
        loop {
            let Some(part) = self.queue.lock().pop_front() else { return Ok(()) };
            self.reader.ctx.pace.turn(part.documents).await;
            let query = all_of(vec![any_field(self.fields), seq_nos(&part.range)]);
            let learnt = self.reader.learn(query, self.fields).await?;
            self.highest.fetch_max(learnt.max_seq_no, Ordering::Relaxed);
            if self.is_enough(learnt.documents) {
                self.keep().await?;
            }
        }
    }

    /// Whether what is staged should be kept now; only one stream is told so.
    fn is_enough(&self, documents: u64) -> bool {
        let staged = self.staged.fetch_add(documents, Ordering::Relaxed) + documents;
        let mut kept_at = self.kept_at.lock();
        let enough = staged > self.keep_after || kept_at.elapsed() > KEPT_EVERY;
        if enough {
            *kept_at = Instant::now();
            self.staged.store(0, Ordering::Relaxed);
        }
        enough
    }

    async fn keep(&self) -> Result<(), PullError> {
        let (fields, epoch) = (Arc::clone(self.fields), part_of(self.term));
        let keep = move || fields.iter().try_for_each(|field| field.index.publish(epoch));
        self.reader.entry.tasks.spawn_blocking(keep).await??;
        self.fields.iter().for_each(|field| field.upkeep.lock().kept());
        Ok(())
    }
}

fn any_field(fields: &Fields) -> serde_json::Value {
    any_of(fields.iter().map(|field| field.present()).collect())
}

/// What is to be read, in order of `_seq_no`.
async fn parts(reader: &Arc<Reader>, fields: &Fields, plan: &Plan) -> Result<VecDeque<Part>, PullError> {
    let width = (plan.primary.max_seq_no + 1).max(1) as u64;
    let width = width.div_ceil(PIECES);
    let shown = reader.documents_by_seq_no(any_field(fields), width).await?;
    let of_fields = Arc::clone(fields);
    let held = move || -> Vec<Vec<u64>> {
        of_fields.iter().map(|field| field.index.counts_by_seq_no(width)).collect()
    };
    let held = reader.entry.tasks.spawn_blocking(held).await?;
    let is_held = |piece: u64| {
        held.iter().any(|counts| counts.get(piece as usize).is_some_and(|documents| *documents > 0))
    };
    Ok(cut(&shown, width, reader.ctx.pace.at_once(), is_held))
}

/// Joins neighbouring pieces of which nothing is held until a part is large enough.
fn cut(
    shown: &BTreeMap<u64, u64>,
    width: u64,
    documents_at_once: u64,
    is_held: impl Fn(u64) -> bool,
) -> VecDeque<Part> {
    let mut parts: VecDeque<Part> = VecDeque::new();
    let mut open = false;
    for (piece, documents) in shown {
        if is_held(*piece) {
            open = false;
            continue;
        }
        let range = piece * width..(piece + 1) * width;
        match parts.back_mut() {
            Some(last) if open && last.documents + documents <= documents_at_once => {
                last.range.end = range.end;
                last.documents += documents;
            }
            _ => parts.push_back(Part { range, documents: *documents }),
        }
        open = true;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(range: Range<u64>, documents: u64) -> Part {
        Part { range, documents }
    }

    #[test]
    fn parts_hold_about_what_is_read_in_one_go() {
        let shown = BTreeMap::from([(0, 4), (1, 4), (2, 4), (9, 1), (10, 30), (11, 1)]);
        let parts = cut(&shown, 100, 10, |_| false);
        let expected = [part(0..200, 8), part(200..1000, 5), part(1000..1100, 30), part(1100..1200, 1)];
        assert_eq!(parts, expected, "pieces are never split, and gaps belong to a part");
    }

    #[test]
    fn what_is_held_is_not_read_again_and_never_bridged() {
        let shown = BTreeMap::from([(0, 1), (1, 1), (2, 1), (3, 1)]);
        let parts = cut(&shown, 10, 100, |piece| piece == 1);
        assert_eq!(parts, [part(0..10, 1), part(20..40, 2)]);
        assert!(cut(&shown, 10, 100, |_| true).is_empty());
    }

    #[test]
    fn a_pace_spreads_what_is_read_over_time() {
        let pace = Pace::new(Some(100));
        let now = Instant::now();
        assert_eq!(pace.at_once(), 100);
        assert_eq!(pace.reserve(50, now), now);
        assert_eq!(pace.reserve(100, now), now + Duration::from_millis(500));
        assert_eq!(pace.reserve(1, now), now + Duration::from_millis(1500));
        let later = now + Duration::from_secs(9);
        assert_eq!(pace.reserve(1, later), later, "what was not used is not saved up");
        assert_eq!(Pace::new(None).reserve(1 << 40, now), now);
    }
}
