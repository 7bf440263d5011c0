//! Which ids of scrolls, points in time and async searches each bound tenant was handed out here.
//!
//! Remembered rather than read: nothing in such an id is signed, so what it says proves nothing. Remembered
//! here alone: a client of a bound tenant goes on with the node that it began with. With other patterns they are
//! forgotten: what was opened under the former ones may lie outside now.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use dashmap::DashMap;
use es_wire::IndexPatterns;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// Ids of one tenant; the oldest go first. Elasticsearch itself allows 500 scrolls per node.
const MAX_IDS: usize = 4_096;

/// See the head of this file.
pub(crate) struct HandedOut {
    /// Two keys that nobody knows: an id stands for itself by 128 bits.
    keys: [RandomState; 2],
    of_tenants: DashMap<Box<str>, Ids>,
    metrics: Metrics,
}

#[derive(Default)]
struct Ids {
    /// What the tenant is bound to.
    patterns: IndexPatterns,
    known: HashSet<u128>,
    by_age: VecDeque<u128>,
}

impl HandedOut {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { keys: [RandomState::new(), RandomState::new()], of_tenants: DashMap::new(), metrics }
    }

    /// Whether the tenant was handed out the id while it was bound to these patterns, not too many ago.
    pub(crate) fn has(&self, tenant: &str, patterns: &IndexPatterns, id: &str) -> bool {
        let print = self.print(id);
        let ids = self.of_tenants.get(tenant);
        ids.is_some_and(|ids| ids.patterns == *patterns && ids.known.contains(&print))
    }

    /// Remembers an id.
    pub(crate) fn add(&self, tenant: &str, patterns: &IndexPatterns, id: &str) {
        let print = self.print(id);
        let mut ids = self.of_tenants.entry(tenant.into()).or_default();
        if ids.patterns != *patterns {
            *ids = Ids { patterns: patterns.clone(), ..Ids::default() };
        }
        if !ids.known.insert(print) {
            return;
        }
        ids.by_age.push_back(print);
        if ids.by_age.len() > MAX_IDS
            && let Some(oldest) = ids.by_age.pop_front()
        {
            ids.known.remove(&oldest);
            self.metrics.forgotten.inc();
        }
    }

    fn print(&self, id: &str) -> u128 {
        let [high, low] = self.keys.each_ref().map(|key| u128::from(key.hash_one(id)));
        high << 64 | low
    }
}

/// What was let go.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    forgotten: Counter,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let this = Self::default();
        let text =
            "Ids of scrolls, points in time and async searches of bound tenants forgotten for newer ones";
        registry.register("outrigger_isolation_ids_forgotten", text, this.forgotten.clone());
        this
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(patterns: &str) -> IndexPatterns {
        patterns.parse().unwrap()
    }

    #[test]
    fn an_id_is_good_for_the_tenant_that_got_it() {
        let handed_out = HandedOut::new(Metrics::default());
        handed_out.add("a", &to("a-*"), "id");
        assert!(handed_out.has("a", &to("a-*"), "id"));
        assert!(!handed_out.has("b", &to("a-*"), "id") && !handed_out.has("a", &to("a-*"), "ie"));
    }

    #[test]
    fn an_id_is_good_as_long_as_its_tenant_is_bound_to_the_same() {
        let handed_out = HandedOut::new(Metrics::default());
        handed_out.add("a", &to("a-*,b-*"), "before");
        assert!(!handed_out.has("a", &to("a-*"), "before"));
        handed_out.add("a", &to("a-*"), "after");
        assert!(handed_out.has("a", &to("a-*"), "after") && !handed_out.has("a", &to("a-*"), "before"));
        assert!(!handed_out.has("a", &to("a-*,b-*"), "before"));
    }

    #[test]
    fn the_oldest_go_first_and_no_tenant_pushes_out_another() {
        let handed_out = HandedOut::new(Metrics::default());
        handed_out.add("b", &to("b"), "mine");
        for number in 0..=MAX_IDS {
            handed_out.add("a", &to("a"), &number.to_string());
        }
        assert!(!handed_out.has("a", &to("a"), "0") && handed_out.has("a", &to("a"), "1"));
        assert!(handed_out.has("b", &to("b"), "mine"));
        assert_eq!(handed_out.metrics.forgotten.get(), 1);
        assert_eq!(handed_out.of_tenants.get("a").unwrap().known.len(), MAX_IDS);
    }
}
