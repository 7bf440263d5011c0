//! What tenants have, measured: one request for all of them. Bytes are those of `_stats/store`; vectors those that
//! our indexes hold, and where Elasticsearch has vectors that we don't hold, those of `_stats/dense_vector`, which
//! counts deleted documents until they are merged away.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use es_proxy::{Amount, IndexMeasured, vector_bytes};
use es_wire::{Catalog, IndexInfo};
use serde::Deserialize;
use shard_sync::{CallError, Sync, Verb, lists_for_urls};

use crate::tenants::Shared;
use crate::tenants::documents::Documents;
use crate::tenants::history::History;

/// Names in a URL; where there are more, all indices are asked for.
const MAX_TARGETS: usize = 3_000;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stats {
    indices: HashMap<String, OfIndex>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OfIndex {
    primaries: Primaries,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Primaries {
    store: StoreStats,
    refresh: RefreshStats,
    segments: SegmentsStats,
    dense_vector: DenseVectorStats,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StoreStats {
    size_in_bytes: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RefreshStats {
    total: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SegmentsStats {
    index_writer_memory_in_bytes: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DenseVectorStats {
    value_count: u64,
}

/// Measures until the runtime ends.
pub(crate) async fn run(shared: Arc<Shared>, every: Duration) {
    let (mut history, mut failing) = (History::default(), false);
    loop {
        if shared.ledger.has_accounts() {
            match measure(&shared).await {
                Ok(()) => {
                    failing = false;
                    let snapshot = || shared.ledger.snapshot(&shared.sync.catalog());
                    history.note(&Documents(&shared.sync), snapshot).await;
                }
                Err(error) if !failing && shared.sync.node().is_some() => {
                    failing = true;
                    tracing::warn!(%error, "usage of tenants cannot be measured");
                }
                Err(_) => {}
            }
        }
        // Elasticsearch is away, or not there yet: the first measurement is waited for.
        let pause = if failing { every.min(Duration::from_secs(1)) } else { every };
        let _ = tokio::time::timeout(pause, shared.measure.notified()).await;
    }
}

async fn measure(shared: &Shared) -> Result<(), CallError> {
    let paths = paths(&shared.ledger.patterns(), &shared.sync.catalog());
    let measuring = shared.ledger.measuring();
    match stats(&shared.sync, paths).await {
        Ok(stats) => {
            let indices = stats.indices.into_iter().map(|(index, of)| {
                let measured = measured(&shared.sync, &index, &of.primaries);
                (index, measured)
            });
            let indices = indices.collect();
            shared.ledger.measured(measuring, indices, &shared.sync.catalog());
            Ok(())
        }
        Err(error) => {
            shared.ledger.not_measured(measuring);
            Err(error)
        }
    }
}

async fn stats(sync: &Sync, paths: Vec<String>) -> Result<Stats, CallError> {
    let mut all = Stats::default();
    for path in paths {
        let bytes = sync.call(Verb::Get, &path, None).await?;
        let some: Stats =
            serde_json::from_slice(&bytes).map_err(|error| CallError::Unreachable(error.to_string()))?;
        all.indices.extend(some.indices);
    }
    Ok(all)
}

/// One request for all of these patterns. Where Elasticsearch would refuse that, because one of the indices has
/// `index.blocks.metadata`, the others are asked about by name.
fn paths(patterns: &[String], catalog: &Catalog) -> Vec<String> {
    if !catalog.indices().any(|index| index.hides_metadata()) {
        return vec![path(&targets(patterns))];
    }
    let others = catalog.indices().filter(|index| index.open && !index.hides_metadata());
    lists_for_urls(others.map(|index| &*index.name)).iter().map(|list| path(list)).collect()
}

fn targets(patterns: &[String]) -> String {
    let included =
        patterns.iter().flat_map(|list| list.split(',')).filter(|pattern| !pattern.starts_with('-'));
    let joined = included.collect::<Vec<_>>().join(",");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.*,".contains(c);
    if joined.len() <= MAX_TARGETS && joined.chars().all(is_plain) { joined } else { "_all".to_owned() }
}

fn path(targets: &str) -> String {
    format!(
        "/{targets}/_stats/store,refresh,segments,dense_vector?level=indices&expand_wildcards=open,hidden&ignore_unavailable=true\
         &forbid_closed_indices=false&filter_path=indices.*.primaries.store.size_in_bytes,\
         indices.*.primaries.refresh.total,indices.*.primaries.segments.index_writer_memory_in_bytes,\
         indices.*.primaries.dense_vector.value_count"
    )
}

fn measured(sync: &Sync, index: &str, primaries: &Primaries) -> IndexMeasured {
    let (vectors, vector_bytes) = match sync.catalog().index(index) {
        Some(info) => vectors(sync, info, primaries.dense_vector.value_count),
        None => (primaries.dense_vector.value_count, 0),
    };
    let amount =
        Amount { vectors, vector_bytes, document_bytes: primaries.store.size_in_bytes, ..Amount::default() };
    // The buffer from which a refresh writes segments.
    let is_written = primaries.segments.index_writer_memory_in_bytes == Some(0);
    IndexMeasured { amount, refreshes: primaries.refresh.total, is_written }
}

/// How many vectors an index has, and their bytes.
fn vectors(sync: &Sync, info: &IndexInfo, value_count: u64) -> (u64, u64) {
    if let Some(held) = held(sync, info) {
        return held;
    }
    let foreign = info.foreign.values().map(|foreign| &foreign.field);
    let sizes: Vec<u64> =
        info.fields.values().chain(foreign).map(|field| vector_bytes(&field.spec)).collect();
    // Elasticsearch does not say which field they are of: those of a mean size.
    let bytes = sizes.iter().sum::<u64>() * value_count / (sizes.len() as u64).max(1);
    (value_count, bytes)
}

/// The same, where all vectors of the index are held here, one for each document.
fn held(sync: &Sync, info: &IndexInfo) -> Option<(u64, u64)> {
    let has_others = !info.foreign.is_empty() || info.fields.values().any(|field| field.nested.is_some());
    if has_others || info.fields.is_empty() {
        return None;
    }
    let report = sync.stats(&info.name).filter(|report| report.ready && !report.asleep)?;
    let mut sum = (0, 0);
    for field in &report.fields {
        let spec = &info.fields.get(field.field.as_str())?.spec;
        sum = (sum.0 + field.docs, sum.1 + field.docs * vector_bytes(spec));
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use es_wire::Capabilities;
    use serde_json::json;

    #[test]
    fn only_what_belongs_to_tenants_is_asked_for() {
        let of = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
            targets(&patterns)
        };
        assert_eq!(of(&["a-*,-a-old*", "b"]), "a-*,b");
        assert_eq!(of(&["ä*"]), "_all");
        let many = vec!["tenant-number-n-*"; 1_000];
        assert_eq!(of(&many), "_all");
    }

    #[test]
    fn one_index_whose_metadata_are_blocked_hides_no_other() {
        let settings = |blocked: bool| {
            json!({"settings": {"index": {"uuid": "u", "number_of_shards": "1", "version": {"created": "9039001"},
                   "blocks": {"metadata": blocked.to_string()}}}})
        };
        let paths_of = |blocked: bool| {
            let indices = json!({"acme-1": settings(false), "acme-2": settings(blocked)});
            let state = json!({"version": 1, "metadata": {"indices": indices}}).to_string();
            let caps = Capabilities::of("9.2.0".parse().unwrap()).unwrap();
            let catalog = Catalog::parse(&state, "{}", &caps).unwrap();
            let paths = paths(&["acme-*".to_owned()], &catalog);
            paths.iter().map(|path| path.split("/_stats").next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(paths_of(false), ["/acme-*"]);
        assert_eq!(paths_of(true), ["/acme-1"]);
    }

    #[test]
    fn statistics_may_lack_anything() {
        let text = r#"{"indices":{"a":{"primaries":{"store":{"size_in_bytes":7}}},"b":{}}}"#;
        let stats: Stats = serde_json::from_str(text).unwrap();
        assert_eq!(stats.indices["a"].primaries.store.size_in_bytes, 7);
        assert_eq!(stats.indices["b"].primaries.refresh.total, 0);
        assert!(serde_json::from_str::<Stats>("{}").unwrap().indices.is_empty());
    }
}
