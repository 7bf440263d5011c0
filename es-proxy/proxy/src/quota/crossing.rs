//! When a tenant comes near to a quota: told once, and again only after it was well below.

use std::time::{Duration, Instant};

use crate::door::tenant::Quotas;
use crate::quota::amount::{Amount, Resource};

/// Above so many percent of a quota.
const ABOVE: u128 = 80;
/// It must fall below so many before it can be told again.
const BELOW: u128 = 75;
/// Two events about one resource of a tenant are so far apart at least: usage may swing by itself, as
/// Elasticsearch merges.
const APART: Duration = Duration::from_secs(600);

/// Usage of a resource came above 80 % of its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crossing {
    pub(crate) resource: Resource,
    pub(crate) usage: u64,
    pub(crate) limit: u64,
}

/// One tenant's.
#[derive(Debug, Default)]
pub(crate) struct Crossings {
    /// Which resources are above.
    above: [bool; Resource::ALL.len()],
    told: [Option<Instant>; Resource::ALL.len()],
}

impl Crossings {
    /// What there is to tell of usage as it is now.
    pub(crate) fn update(&mut self, usage: Amount, quotas: &Quotas, now: Instant) -> Vec<Crossing> {
        let mut crossings = Vec::new();
        for (at, resource) in Resource::ALL.into_iter().enumerate() {
            let usage = usage.of(resource);
            let Some(limit) = resource.limit(quotas) else {
                self.above[at] = false;
                continue;
            };
            let (scaled, limit_wide) = (u128::from(usage) * 100, u128::from(limit));
            if scaled <= limit_wide * BELOW {
                self.above[at] = false;
            } else if scaled > limit_wide * ABOVE && !self.above[at] {
                let lately = self.told[at].is_some_and(|told| now.duration_since(told) < APART);
                if !lately {
                    self.above[at] = true;
                    self.told[at] = Some(now);
                    crossings.push(Crossing { resource, usage, limit });
                }
            }
        }
        crossings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_crossing_is_told_once() {
        let quotas = Quotas { vectors: Some(100), ..Quotas::default() };
        let (mut crossings, start) = (Crossings::default(), Instant::now());
        let mut at = |minutes: u64, vectors: u64| {
            let usage = Amount { vectors, indices: 1_000, ..Amount::default() };
            let told = crossings.update(usage, &quotas, start + Duration::from_secs(60 * minutes));
            told.iter().map(|crossing| crossing.usage).collect::<Vec<_>>()
        };
        assert_eq!(at(0, 80), [0u64; 0]);
        assert_eq!(at(1, 81), [81]);
        assert_eq!(at(2, 99), [0u64; 0]);
        assert_eq!(at(30, 76), [0u64; 0], "not well below");
        assert_eq!(at(31, 90), [0u64; 0]);
        assert_eq!(at(32, 75), [0u64; 0]);
        assert_eq!(at(33, 200), [200]);
        // Up and down within minutes: told later, if it is still so.
        assert_eq!((at(34, 10), at(35, 95)), (vec![], vec![]));
        assert_eq!(at(43, 95), [95]);
    }

    #[test]
    fn quotas_that_come_go_or_are_nothing() {
        let (mut crossings, now) = (Crossings::default(), Instant::now());
        let usage = Amount { shards: 1, ..Amount::default() };
        assert_eq!(crossings.update(usage, &Quotas::default(), now), []);
        let nothing = Quotas { shards: Some(0), ..Quotas::default() };
        let told = crossings.update(usage, &nothing, now);
        assert_eq!(told, [Crossing { resource: Resource::Shards, usage: 1, limit: 0 }]);
        let much = Quotas { shards: Some(u64::MAX), ..Quotas::default() };
        assert_eq!(crossings.update(Amount { shards: u64::MAX, ..usage }, &much, now + APART).len(), 0);
        assert_eq!(crossings.update(usage, &much, now + APART).len(), 0);
        assert_eq!(crossings.update(Amount { shards: u64::MAX, ..usage }, &much, now + APART).len(), 1);
    }
}
