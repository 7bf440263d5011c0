//! What was let in and is not in the measured numbers yet.
//!
//! Elasticsearch's numbers lag behind: they count what a refresh wrote into segments. So what was let into an index
//! counts beside the measured numbers until they have grown by as much, or until the measurement after one that began
//! when the write had ended and found nothing unwritten, or after which the index was refreshed. The first is how it
//! goes; the others clear what never shows, such as a document that took the place of another, or that was deleted.
//! What went into an index that is gone by the second measurement is gone with it.
//! Where nothing refreshes an index (nobody searches there), what was let in is forgotten after [`KEPT`]: how much that
//! can be is bounded by Elasticsearch's own indexing buffer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::quota::amount::Amount;

/// See the head of this file.
pub(crate) const KEPT: Duration = Duration::from_secs(60);
/// Elasticsearch looks at the size of a shard's files no more often (`index.store.stats_refresh_interval`).
const SIZES: Duration = Duration::from_secs(10);
/// Indices of a tenant that are told apart; the others share one entry, which only time clears.
const MAX_INDICES: usize = 4_096;
/// Stands for the others. No index is called so.
const OTHERS: &str = "";

#[derive(Debug, Default)]
struct Entry {
    /// Of requests that have not ended.
    in_flight: Amount,
    /// What of that shows in the measured numbers already.
    early: Amount,
    /// Of requests that have ended since the last measurement began.
    new: Amount,
    /// From before.
    old: Option<Old>,
}

#[derive(Clone, Copy, Debug)]
struct Old {
    amount: Amount,
    /// Refreshes of the index as the first measurement after it told.
    refreshes: u64,
    /// All of it is in segments.
    is_written: bool,
    /// When it was first measured after it, or after it was written.
    since: Instant,
}

impl Old {
    /// What is left of it by a measurement.
    fn left(self, seen: &Seen, now: Instant) -> Option<Self> {
        let was_refreshed = seen.refreshes.is_some_and(|refreshes| refreshes != self.refreshes);
        let is_written = self.is_written || was_refreshed;
        let since = if is_written == self.is_written { self.since } else { now };
        if now.duration_since(since) >= if is_written { SIZES } else { KEPT } {
            return None;
        }
        // What is in segments is counted, except for the size of their files.
        let amount = if is_written { self.amount.document_bytes_only() } else { self.amount };
        let amount = amount.minus(seen.grown);
        (amount != Amount::default()).then_some(Self { amount, is_written, since, ..self })
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    by_index: HashMap<Box<str>, Entry>,
    total: Amount,
}

impl Pending {
    /// All of it.
    pub(crate) fn total(&self) -> Amount {
        self.total
    }

    /// A request that adds so much is on its way. Returns the name under which it is to be ended.
    pub(crate) fn begin<'i>(&mut self, index: &'i str, amount: Amount) -> &'i str {
        let has_room = self.by_index.contains_key(index) || self.by_index.len() < MAX_INDICES;
        let key = if has_room { index } else { OTHERS };
        let entry = self.by_index.entry(key.into()).or_default();
        entry.in_flight = entry.in_flight.plus(amount);
        self.total = self.total.plus(amount);
        key
    }

    /// It has ended, or what it added did not come about.
    pub(crate) fn end(&mut self, key: &str, amount: Amount, came_about: bool) {
        let Some(entry) = self.by_index.get_mut(key) else { return };
        entry.in_flight = entry.in_flight.minus(amount);
        let shown = amount.at_most(entry.early);
        entry.early = entry.early.minus(shown);
        let hidden = amount.minus(shown);
        if came_about {
            entry.new = entry.new.plus(hidden);
        } else {
            self.total = self.total.minus(hidden);
        }
    }

    /// A measurement begins: what ends from now on may be missing in it.
    pub(crate) fn measuring(&mut self) -> Cut {
        let taken = self.by_index.iter_mut().filter(|(_, entry)| entry.new != Amount::default());
        Cut(taken.map(|(index, entry)| (index.clone(), std::mem::take(&mut entry.new))).collect())
    }

    /// It failed: all stays as it was.
    pub(crate) fn not_measured(&mut self, cut: Cut) {
        for (index, amount) in cut.0 {
            let entry = self.by_index.entry(index).or_default();
            entry.new = entry.new.plus(amount);
        }
    }

    /// It found this.
    pub(crate) fn measured(&mut self, cut: Cut, now: Instant, seen: impl Fn(&str) -> Seen) {
        let mut cut: HashMap<Box<str>, Amount> = cut.0.into_iter().collect();
        for (index, entry) in &mut self.by_index {
            let seen @ Seen { grown, refreshes, is_written, is_gone } = seen(index);
            let new = cut.remove(index).unwrap_or_default();
            let old = entry.old.take();
            let old_amount = old.map_or(Amount::default(), |old| old.amount);
            // What shows was there first.
            let new_left = new.minus(grown.minus(old_amount));
            // What ended while it was measured may show, and what is on its way was perhaps written already.
            let rest = grown.minus(old_amount.plus(new));
            let ended = entry.new.at_most(rest);
            entry.new = entry.new.minus(ended);
            entry.early = entry.in_flight.at_most(entry.early.plus(rest.minus(ended)));
            let is_gone = is_gone && &**index != OTHERS;
            let old_left = old.filter(|_| !is_gone).and_then(|old| old.left(&seen, now));
            entry.old = if new_left == Amount::default() {
                old_left
            } else {
                let before = old_left.map_or(Amount::default(), |old| old.amount);
                let refreshes = refreshes.unwrap_or(0);
                Some(Old { amount: before.plus(new_left), refreshes, is_written, since: now })
            };
        }
        self.by_index.retain(|_, entry| {
            entry.old.is_some() || entry.in_flight != Amount::default() || entry.new != Amount::default()
        });
        let of = |entry: &Entry| {
            let old = entry.old.map_or(Amount::default(), |old| old.amount);
            entry.in_flight.minus(entry.early).plus(entry.new).plus(old)
        };
        self.total = self.by_index.values().map(of).fold(Amount::default(), Amount::plus);
    }
}

/// What a measurement says of an index.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// By how much it has more than in the measurement before.
    pub(crate) grown: Amount,
    /// How often it was refreshed, where that is known.
    pub(crate) refreshes: Option<u64>,
    /// Nothing was in its indexing buffer: all that had ended before is in segments.
    pub(crate) is_written: bool,
    /// There is no such index.
    pub(crate) is_gone: bool,
}

/// What had ended when a measurement began.
#[derive(Debug)]
pub(crate) struct Cut(Vec<(Box<str>, Amount)>);

#[cfg(test)]
mod tests {
    use super::*;

    fn of(vectors: u64) -> Amount {
        Amount { vectors, ..Amount::default() }
    }

    struct Clock {
        pending: Pending,
        now: Instant,
    }

    impl Clock {
        fn write(&mut self, vectors: u64) {
            self.write_all(of(vectors));
        }

        fn write_all(&mut self, amount: Amount) {
            self.pending.begin("i", amount);
            self.pending.end("i", amount, true);
        }

        /// Ten seconds later; what is still counted.
        fn measure(&mut self, refreshes: u64) -> u64 {
            self.measure_grown(refreshes, 0)
        }

        fn measure_grown(&mut self, refreshes: u64, grown: u64) -> u64 {
            let seen = Seen { grown: of(grown), refreshes: Some(refreshes), ..Seen::default() };
            self.measure_seen(Duration::from_secs(10), seen).vectors
        }

        fn measure_seen(&mut self, after: Duration, seen: Seen) -> Amount {
            self.now += after;
            let cut = self.pending.measuring();
            self.pending.measured(cut, self.now, |_| seen);
            self.pending.total()
        }
    }

    fn clock() -> Clock {
        Clock { pending: Pending::default(), now: Instant::now() }
    }

    #[test]
    fn counts_until_a_refresh_between_two_measurements_after_it() {
        let mut clock = clock();
        clock.write(100);
        // The refresh may have been before the write.
        assert_eq!(clock.measure(7), 100);
        clock.write(10);
        assert_eq!(clock.measure(8), 10);
        assert_eq!(clock.measure(8), 10);
        assert_eq!(clock.measure(9), 0);
        assert!(clock.pending.by_index.is_empty());
    }

    #[test]
    fn counts_until_the_measured_numbers_have_grown_by_as_much() {
        let mut clock = clock();
        clock.write(100);
        assert_eq!(clock.measure_grown(7, 30), 70);
        clock.write(10);
        // The older shows first.
        assert_eq!(clock.measure_grown(7, 75), 5);
        assert_eq!(clock.measure_grown(7, 5), 0);
        assert!(clock.pending.by_index.is_empty());
        clock.write(100);
        clock.measure(7);
        clock.write(10);
        // Two refreshes: what came between them was shown by the second at the latest, as far as it grew.
        assert_eq!(clock.measure_grown(9, 104), 6);
    }

    #[test]
    fn what_is_in_segments_and_does_not_show_is_gone_without_another_refresh() {
        let mut clock = clock();
        let written =
            |grown| Seen { grown: of(grown), refreshes: Some(7), is_written: true, ..Seen::default() };
        let measure =
            |clock: &mut Clock, grown| clock.measure_seen(Duration::from_secs(1), written(grown)).vectors;
        // Ten, and then two of them deleted.
        clock.write(10);
        assert_eq!((measure(&mut clock, 8), measure(&mut clock, 0)), (2, 0));
        assert!(clock.pending.by_index.is_empty());
    }

    #[test]
    fn what_went_into_an_index_that_is_gone_is_gone() {
        let mut clock = clock();
        let gone = Seen { is_gone: true, ..Seen::default() };
        let second = Duration::from_secs(1);
        clock.write(10);
        // It may have been made a moment ago, where one looked before that.
        assert_eq!(clock.measure_seen(second, gone), of(10));
        clock.pending.begin("i", of(3));
        assert_eq!(clock.measure_seen(second, gone), of(3));
    }

    #[test]
    fn bytes_of_files_count_until_elasticsearch_has_looked_at_their_size_again() {
        let second = Duration::from_secs(1);
        let all = Amount { document_bytes: 50, ..of(1) };
        for refresh in [false, true] {
            let mut clock = clock();
            clock.write_all(all);
            let seen =
                |refreshes| Seen { refreshes: Some(refreshes), is_written: !refresh, ..Seen::default() };
            assert_eq!(clock.measure_seen(second, seen(1)), all);
            let counted: Vec<u64> =
                (0..11).map(|_| clock.measure_seen(second, seen(2)).document_bytes).collect();
            let expected = if refresh { [vec![50; 10], vec![0]] } else { [vec![50; 9], vec![0; 2]] };
            assert_eq!(counted, expected.concat());
        }
    }

    #[test]
    fn without_refreshes_it_is_forgotten_in_the_end() {
        let mut clock = clock();
        clock.write(100);
        let counted: Vec<u64> = (0..8).map(|_| clock.measure(3)).collect();
        assert_eq!(counted, [100, 100, 100, 100, 100, 100, 0, 0]);
    }

    #[test]
    fn what_is_on_its_way_counts_and_what_failed_does_not() {
        let mut clock = clock();
        clock.pending.begin("i", of(5));
        clock.pending.begin("i", of(7));
        assert_eq!((clock.measure(1), clock.measure(2)), (12, 12));
        clock.pending.end("i", of(7), false);
        assert_eq!(clock.pending.total(), of(5));
        clock.pending.end("i", of(5), true);
        assert_eq!((clock.measure(3), clock.measure(4)), (5, 0));
    }

    #[test]
    fn what_shows_before_it_is_answered_is_not_counted_twice() {
        let mut clock = clock();
        clock.pending.begin("i", of(15));
        assert_eq!(clock.measure_grown(1, 15), 0);
        clock.pending.end("i", of(15), true);
        assert_eq!(clock.pending.total(), of(0));
        assert_eq!(clock.measure(1), 0);
        assert!(clock.pending.by_index.is_empty());

        clock.write(4);
        clock.pending.begin("i", of(15));
        assert_eq!(clock.measure_grown(2, 10), 9);
        clock.pending.begin("i", of(1));
        clock.pending.end("i", of(15), true);
        assert_eq!(clock.pending.total(), of(10));
        clock.pending.end("i", of(1), false);
        assert_eq!((clock.measure(2), clock.measure(3)), (9, 0));
    }

    #[test]
    fn what_ends_while_it_is_measured_is_not_counted_twice() {
        let mut clock = clock();
        let cut = clock.pending.measuring();
        clock.write(15);
        clock.pending.begin("i", of(4));
        let seen = Seen { grown: of(16), refreshes: Some(1), ..Seen::default() };
        clock.pending.measured(cut, clock.now, |_| seen);
        assert_eq!(clock.pending.total(), of(3));
        clock.pending.end("i", of(4), true);
        assert_eq!(clock.pending.total(), of(3));
        assert_eq!((clock.measure(1), clock.measure(2)), (3, 0));
    }

    #[test]
    fn a_failed_measurement_changes_nothing() {
        let mut clock = clock();
        clock.write(1);
        let cut = clock.pending.measuring();
        clock.write(2);
        clock.pending.not_measured(cut);
        assert_eq!(clock.pending.total(), of(3));
        assert_eq!((clock.measure(1), clock.measure(2)), (3, 0));
    }

    #[test]
    fn too_many_indices_share_an_entry() {
        let mut clock = clock();
        for number in 0..MAX_INDICES + 10 {
            let name = format!("i{number}");
            let key = clock.pending.begin(&name, of(1));
            clock.pending.end(key, of(1), true);
        }
        assert!(clock.pending.by_index.len() <= MAX_INDICES + 1);
        assert_eq!(clock.pending.total(), of(MAX_INDICES as u64 + 10));
        clock.measure(1);
        assert_eq!(clock.measure(2), 0);
    }
}
