//! Which filters are worth fetching.
//!
//! Fetching costs Elasticsearch several searches' worth, and most filters that are asked once are never
//! asked again (one per user, per session). So a filter is fetched when it is asked the second time within
//! a minute. Where nothing is fetched anyway it may be fetched at first sight, as long as such attempts
//! take a small part of the time: whoever repeats one filter need not wait for its third time.

use std::collections::{HashMap, VecDeque};

/// Filters whose first question is remembered; each takes some twenty bytes.
const REMEMBERED: usize = 4_096;
/// The second question must come within this time, in milliseconds.
const WITHIN: u64 = 60_000;
/// Fetches at first sight may take one part in so many of the time.
const SPECULATION: u64 = 20;
/// A filter that had to make room is not fetched again for so long: where more is in use than there is
/// room for, fetching would go round in circles.
const BANNED: u64 = 30_000;

/// What becomes of a question about a filter that is not remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Fetch it. `speculative`: report when that is over.
    Fetch { speculative: bool },
    /// Not yet.
    Wait,
    /// Not for a while.
    Refused,
}

#[derive(Clone, Copy, Debug)]
enum Known {
    Asked(u64),
    BannedUntil(u64),
}

/// See the head of this file. Times are milliseconds of one clock.
#[derive(Debug, Default)]
pub(super) struct Doorkeeper {
    known: HashMap<u64, Known>,
    order: VecDeque<u64>,
    speculating: bool,
    next_speculation: u64,
}

impl Doorkeeper {
    /// `filter` is a hash: that two filters share one does no harm.
    pub(super) fn ask(&mut self, filter: u64, now: u64) -> Admission {
        match self.known.get(&filter) {
            Some(Known::BannedUntil(until)) if now < *until => return Admission::Refused,
            Some(Known::Asked(at)) if now.saturating_sub(*at) <= WITHIN => {
                return Admission::Fetch { speculative: false };
            }
            _ => {}
        }
        self.remember(filter, Known::Asked(now));
        if self.speculating || now < self.next_speculation {
            return Admission::Wait;
        }
        self.speculating = true;
        Admission::Fetch { speculative: true }
    }

    /// A speculative fetch is over.
    pub(super) fn speculated(&mut self, took: u64, now: u64) {
        self.speculating = false;
        self.next_speculation = now + took * (SPECULATION - 1);
    }

    /// A filter had to make room.
    pub(super) fn ban(&mut self, filter: u64, now: u64) {
        self.remember(filter, Known::BannedUntil(now + BANNED));
    }

    fn remember(&mut self, filter: u64, known: Known) {
        if self.known.insert(filter, known).is_none() {
            self.order.push_back(filter);
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Admission = Admission::Wait;
    const FETCH: Admission = Admission::Fetch { speculative: false };

    fn busy() -> Doorkeeper {
        let mut doorkeeper = Doorkeeper::default();
        assert_eq!(doorkeeper.ask(0, 0), Admission::Fetch { speculative: true });
        doorkeeper
    }

    #[test]
    fn the_second_question_within_a_minute_fetches() {
        let mut doorkeeper = busy();
        assert_eq!(doorkeeper.ask(1, 10), WAIT);
        assert_eq!(doorkeeper.ask(2, 20), WAIT);
        assert_eq!(doorkeeper.ask(1, 10 + WITHIN), FETCH);
        assert_eq!(doorkeeper.ask(2, 21 + WITHIN), WAIT, "too late: that counts as the first");
        assert_eq!(doorkeeper.ask(2, 22 + WITHIN), FETCH);
    }

    #[test]
    fn first_sight_is_enough_now_and_then() {
        let mut doorkeeper = busy();
        doorkeeper.speculated(100, 100);
        assert_eq!(doorkeeper.ask(1, 1_999), WAIT);
        assert_eq!(doorkeeper.ask(2, 2_000), Admission::Fetch { speculative: true });
        assert_eq!(doorkeeper.ask(3, 9_000), WAIT, "one at a time");
    }

    #[test]
    fn what_made_room_stays_out_for_a_while() {
        let mut doorkeeper = busy();
        doorkeeper.ban(1, 5);
        assert_eq!(doorkeeper.ask(1, BANNED), Admission::Refused);
        assert_eq!(doorkeeper.ask(1, 5 + BANNED), WAIT);
        assert_eq!(doorkeeper.ask(1, 6 + BANNED), FETCH);
    }

    #[test]
    fn memory_is_bounded() {
        let mut doorkeeper = busy();
        for filter in 1..3 * REMEMBERED as u64 {
            doorkeeper.ask(filter, 1);
        }
        assert_eq!((doorkeeper.known.len(), doorkeeper.order.len()), (REMEMBERED, REMEMBERED));
    }
}
