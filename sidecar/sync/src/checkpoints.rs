//! Up to which `_seq_no` nothing can be missing in what a point in time shows.
//!
//! The argument. Refreshes of a shard are serial; refresh number n begins at B(n), shows all that
//! was processed before B(n), and only then counts itself at C(n): B(n) < C(n) < B(n+1). Every
//! operation up to a global checkpoint was processed before that checkpoint could be read.
//!
//! So a checkpoint g read at time t is wholly shown by every refresh that begins after t. Take two
//! polls of one copy, P before Q, P answered before Q was sent. g was read in P, so before Q. Q saw
//! the counter at E, which means C(E+1) lies after that look; refresh E+1 may have begun long ago,
//! but B(E+2) > C(E+1) > the look > g's reading. Hence every point in time that was opened after the
//! counter was seen at E+2 or above shows everything up to g.
//!
//! g of P is paired with the counter of Q, not of P, because Elasticsearch reads the counter of an
//! answer first and its checkpoints later, and two refreshes might fit in between.
//!
//! All this holds for one copy on one node, started once: another copy starts a new record.

use std::collections::VecDeque;

/// Pairs kept; older ones can only matter for a pull that takes longer than so many refreshes.
const KEPT: usize = 64;

/// Checkpoints of one copy and from when on they are safe.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    previous: Option<i64>,
    pairs: VecDeque<Pair>,
}

#[derive(Debug)]
struct Pair {
    counter: u64,
    checkpoint: i64,
}

impl Checkpoints {
    /// Takes in one poll: the refresh counter and the global checkpoint of one answer.
    pub(crate) fn record(&mut self, counter: u64, checkpoint: i64) {
        if let Some(earlier) = self.previous.replace(checkpoint) {
            match self.pairs.back_mut() {
                Some(last) if last.counter == counter => last.checkpoint = last.checkpoint.max(earlier),
                _ => self.pairs.push_back(Pair { counter, checkpoint: earlier }),
            }
            if self.pairs.len() > KEPT {
                self.pairs.pop_front();
            }
        }
    }

    /// What a point in time surely shows that was opened after the counter was seen at `counter`.
    pub(crate) fn shown_by(&self, counter: u64) -> Option<i64> {
        self.pairs.iter().rev().find(|pair| pair.counter + 2 <= counter).map(|pair| pair.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_poll_proves_nothing() {
        let mut record = Checkpoints::default();
        record.record(5, 10);
        assert_eq!(record.shown_by(100), None);
    }

    #[test]
    fn a_checkpoint_needs_a_later_poll_and_two_more_refreshes() {
        let mut record = Checkpoints::default();
        record.record(5, 10);
        record.record(5, 20);
        // 10 was read before the counter was seen at 5; 20 has no later look yet.
        assert_eq!(record.shown_by(6), None);
        assert_eq!(record.shown_by(7), Some(10));
        record.record(7, 30);
        assert_eq!(record.shown_by(7), Some(10));
        assert_eq!(record.shown_by(8), Some(10));
        assert_eq!(record.shown_by(9), Some(20));
    }

    #[test]
    fn polls_without_a_refresh_raise_the_checkpoint_of_their_counter() {
        let mut record = Checkpoints::default();
        for checkpoint in [1, 2, 3, 4] {
            record.record(5, checkpoint);
        }
        assert_eq!(record.shown_by(7), Some(3));
    }

    #[test]
    fn the_record_is_bounded_and_keeps_the_newest() {
        let mut record = Checkpoints::default();
        for step in 0..1000 {
            record.record(step, step as i64);
        }
        assert_eq!(record.pairs.len(), KEPT);
        assert_eq!(record.shown_by(999), Some(996));
    }
}
