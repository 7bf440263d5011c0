//! Documents that were fetched, kept for the next search that finds them: a version of a document never
//! changes, so what Elasticsearch printed of it stays right as long as a search can find that version.
//!
//! Used only where nobody's rights decide about what is shown (see [`crate::SecurityMode`]). Bounded in
//! bytes; what is seldom found goes first.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use es_wire::ScoredHit;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};

/// Bytes of an entry beside its text, about.
const OVERHEAD: usize = 160;
/// Of an average entry; the cache sizes its tables by it.
const EXPECTED_BYTES: u64 = 1_024;
/// Hits larger than this share of the cache are not kept.
const LARGEST_SHARE: u64 = 64;

/// See the head of this file.
pub(crate) struct DocumentCache {
    kept: Cache<Key, Arc<str>, ByBytes>,
    largest: usize,
    metrics: Metrics,
}

/// A version of a document, and what a search wants to see of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    index_uuid: Box<str>,
    wish: Arc<str>,
    id: Box<str>,
    routing: Option<Box<str>>,
    primary_term: u64,
    seq_no: u64,
}

/// A [`Key`] without copies.
#[derive(Clone, Copy)]
struct Sought<'a> {
    wish: &'a Wish,
    hit: &'a ScoredHit<'a>,
}

/// What one search wants to see of documents.
pub(crate) struct Wish {
    text: Arc<str>,
}

impl Wish {
    pub(crate) fn new(text: String) -> Self {
        Self { text: text.into() }
    }
}

impl DocumentCache {
    /// Keeps up to `bytes`; nothing at 0.
    pub(crate) fn new(bytes: u64, metrics: Metrics) -> Self {
        let expected = usize::try_from(bytes / EXPECTED_BYTES).unwrap_or(usize::MAX).max(16);
        let largest = usize::try_from(bytes / LARGEST_SHARE).unwrap_or(usize::MAX);
        Self { kept: Cache::with_weighter(expected, bytes, ByBytes), largest, metrics }
    }

    /// The hit as Elasticsearch printed it for the same wish.
    pub(crate) fn get(&self, wish: &Wish, hit: &ScoredHit<'_>) -> Option<Arc<str>> {
        let found = self.kept.get(&Sought { wish, hit });
        let counter = if found.is_some() { &self.metrics.hits } else { &self.metrics.misses };
        counter.inc();
        found
    }

    /// Keeps what Elasticsearch printed of a hit.
    pub(crate) fn keep(&self, wish: &Wish, hit: &ScoredHit<'_>, raw: &str) {
        if raw.len() > self.largest {
            return;
        }
        let key = Key {
            index_uuid: hit.index_uuid.into(),
            wish: Arc::clone(&wish.text),
            id: hit.id.into(),
            routing: hit.routing.map(Into::into),
            primary_term: hit.primary_term,
            seq_no: hit.seq_no,
        };
        self.kept.insert(key, raw.into());
        self.metrics.bytes.set(i64::try_from(self.kept.weight()).unwrap_or(i64::MAX));
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&*self.index_uuid, &*self.wish, &*self.id, self.routing.as_deref()).hash(state);
        (self.primary_term, self.seq_no).hash(state);
    }
}

impl Hash for Sought<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.hit.index_uuid, &*self.wish.text, self.hit.id, self.hit.routing).hash(state);
        (self.hit.primary_term, self.hit.seq_no).hash(state);
    }
}

impl Equivalent<Key> for Sought<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        let Sought { wish, hit } = *self;
        (hit.seq_no, hit.primary_term) == (key.seq_no, key.primary_term)
            && *hit.id == *key.id
            && hit.routing == key.routing.as_deref()
            && hit.index_uuid == &*key.index_uuid
            && wish.text == key.wish
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Arc<str>> for ByBytes {
    fn weight(&self, key: &Key, raw: &Arc<str>) -> u64 {
        (raw.len() + key.id.len() + key.routing.as_ref().map_or(0, |routing| routing.len()) + OVERHEAD) as u64
    }
}

/// How well it works.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    hits: Counter,
    misses: Counter,
    bytes: Gauge,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let this = Self::default();
        let text = "Documents of found hits that were kept from an earlier search";
        registry.register("outrigger_document_cache_hits", text, this.hits.clone());
        let text = "Documents of found hits that Elasticsearch had to be asked for";
        registry.register("outrigger_document_cache_misses", text, this.misses.clone());
        let text = "Bytes of documents kept";
        registry.register("outrigger_document_cache_bytes", text, this.bytes.clone());
        this
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(text: &str) -> Wish {
        Wish::new(text.to_owned())
    }

    fn hit<'a>(id: &'a str, routing: Option<&'a str>, seq_no: u64) -> ScoredHit<'a> {
        ScoredHit { index: "i", index_uuid: "u", id, routing, score: 1.0, seq_no, primary_term: 1 }
    }

    #[test]
    fn only_the_same_version_under_the_same_wish_is_found() {
        let cache = DocumentCache::new(1 << 20, Metrics::default());
        cache.keep(&wish("w"), &hit("1", Some("r"), 7), "kept");
        assert_eq!(cache.get(&wish("w"), &hit("1", Some("r"), 7)).as_deref(), Some("kept"));
        let later_term = ScoredHit { primary_term: 2, ..hit("1", Some("r"), 7) };
        for (wish, hit) in [
            (wish("w"), hit("1", Some("r"), 8)),
            (wish("w"), hit("1", None, 7)),
            (wish("w"), hit("2", Some("r"), 7)),
            (wish("x"), hit("1", Some("r"), 7)),
            (wish("w"), ScoredHit { index_uuid: "v", ..hit("1", Some("r"), 7) }),
            (wish("w"), later_term),
        ] {
            assert_eq!(cache.get(&wish, &hit), None);
        }
        assert_eq!((cache.metrics.hits.get(), cache.metrics.misses.get()), (1, 6));
    }

    #[test]
    fn it_holds_no_more_than_it_may() {
        let cache = DocumentCache::new(64 << 10, Metrics::default());
        let raw = "x".repeat(500);
        for seq_no in 0..1_000 {
            cache.keep(&wish("w"), &hit("1", None, seq_no), &raw);
        }
        assert!(cache.kept.weight() <= 64 << 10 && cache.kept.len() > 10);
        cache.keep(&wish("w"), &hit("2", None, 0), &"x".repeat(40 << 10));
        assert_eq!(cache.get(&wish("w"), &hit("2", None, 0)), None, "too large a share");
        let none = DocumentCache::new(0, Metrics::default());
        none.keep(&wish("w"), &hit("1", None, 0), "x");
        assert_eq!(none.get(&wish("w"), &hit("1", None, 0)), None);
    }
}
