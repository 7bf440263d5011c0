//! The exact scans that an `_msearch` would be if all of it passed. Where its searches cannot be told apart, as many
//! as they may be.

use std::collections::HashMap;

use es_wire::read_msearch;

use super::{BYTES_PER_TURN, MAX_LIMITED};
use crate::aside::aside;
use crate::door::limits::{self, Scans};
use crate::intercept::pass_search::{ReadRequest, mentions_knn, scanned_vectors};
use crate::proxy::Worker;

/// A search with a knn takes so many bytes, where nobody has read how many there are.
const SHORT: u64 = 1 << 10;

/// Counts them.
pub(super) async fn of(worker: &Worker, names: &str, read: &ReadRequest) -> Scans {
    if !read.may_hold_knn() {
        return Scans::default();
    }
    let several = |searches: u64| {
        let each = scanned_vectors(worker, "", &read.catalog);
        Scans { searches, vectors: searches.saturating_mul(each) }
    };
    let Some(text) = &read.text else {
        let length = limits::declared_length(&read.request.parts);
        return several(length.unwrap_or(worker.shared.config.max_intercept_bytes as u64).div_ceil(SHORT));
    };
    let Ok(items) = read_msearch(text, MAX_LIMITED) else {
        let (length, text) = (text.len(), text.clone());
        let named = aside(length, move || memchr::memmem::find_iter(&text, b"knn").count() as u64).await;
        return several(named.max(1));
    };
    let (mut scans, mut known, mut bytes) = (Scans::default(), HashMap::new(), 0);
    for item in items.iter().filter(|item| mentions_knn(item.body.as_bytes())) {
        bytes += item.header.len() + item.body.len();
        if bytes > BYTES_PER_TURN {
            bytes = 0;
            tokio::task::yield_now().await;
        }
        // A header that only Elasticsearch can read may name anything.
        let of_item = match item.header() {
            Ok(header) => header.names.unwrap_or_else(|| names.to_owned()),
            Err(_) => String::new(),
        };
        let vectors = match known.get(&of_item) {
            Some(vectors) => *vectors,
            None => *known.entry(of_item.clone()).or_insert(scanned_vectors(worker, &of_item, &read.catalog)),
        };
        scans.searches += 1;
        scans.vectors = scans.vectors.saturating_add(vectors);
    }
    scans.searches = scans.searches.max(1);
    scans
}
