//! Reading all that a filter lets through, beside the feed, in a point in time of its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use roaring::RoaringTreemap;
use serde_json::json;
use tokio::time::timeout;

use super::cached::Cached;
use super::numbers::Numbers;
use crate::context::Context;
use crate::pages::all_of_text;
use crate::pit::Pit;
use crate::poll::Primary;
use crate::registry::IndexEntry;
use crate::response::{self, OrderHit, Search};
use crate::shard::Shard;
use crate::upstream::{Format, UpstreamError};

/// Documents per page, if the index allows so many.
const PAGE: usize = 10_000;
/// Numbers among which one search looks for equal ones.
const NUMBERS_AT_ONCE: i64 = 200_000;
/// Longest that one shard is read, and that its next publication is waited for.
const LIMIT: Duration = Duration::from_secs(60);
/// One set may take this part of the memory for all.
const SHARE: u64 = 4;

/// Why a filter was not fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("it lets more documents through than there is memory for")]
    TooMany,
    #[error("it took too long")]
    TooSlow,
    #[error("documents of the shard have the same _seq_no")]
    SharedNumbers,
    #[error("the shard is not followed at the moment")]
    NotFollowed,
    #[error("reading ended badly: {0}")]
    Blocking(#[from] tokio::task::JoinError),
}

/// Fetches what is wanted of all shards, side by side. Returns how many documents were read.
pub(super) async fn run(
    ctx: &Arc<Context>,
    entry: &Arc<IndexEntry>,
    cached: &Cached,
) -> Result<u64, FetchError> {
    let wanted = entry.shards.iter().filter(|shard| cached.wants(shard.number as usize));
    // To the end, whatever becomes of the others: what is registered must be put in or forgotten.
    let fetched = join_all(wanted.map(|shard| one_shard(ctx, entry, shard, cached))).await;
    fetched.into_iter().sum()
}

async fn one_shard(
    ctx: &Arc<Context>,
    entry: &Arc<IndexEntry>,
    shard: &Arc<Shard>,
    cached: &Cached,
) -> Result<u64, FetchError> {
    let plan = shard.state.lock().plan().ok_or(FetchError::NotFollowed)?;
    let registered = shard.filters.register(cached.filter(), plan.at.incarnation);
    let numbers = registered.ok_or(FetchError::NotFollowed)?;
    let fetch = async {
        let documents = read(ctx, entry, shard, &plan.primary, &numbers).await?;
        until_right(ctx, shard, &numbers).await?;
        Ok(documents)
    };
    let fetched = timeout(LIMIT, fetch).await.unwrap_or(Err(FetchError::TooSlow));
    match &fetched {
        Ok(_) => cached.put(shard, numbers),
        Err(_) => shard.filters.forget(&numbers),
    }
    fetched
}

/// Reads what matches, when it is its turn.
async fn read(
    ctx: &Arc<Context>,
    entry: &Arc<IndexEntry>,
    shard: &Arc<Shard>,
    primary: &Primary,
    numbers: &Arc<Numbers>,
) -> Result<u64, FetchError> {
    let _turn = ctx.filters.fetches.acquire().await.map_err(|_| FetchError::NotFollowed)?;
    let pit = Pit::open(ctx, &entry.info.load().name, shard.number, &primary.node).await?;
    shard.filters.opened(numbers);
    // On its way while pages are read.
    ask_for_pull(ctx, shard);
    let pit = Arc::new(pit);
    let found = async {
        if entry.info.load().resized && !shard.filters.numbers_are_unique() {
            unique(&pit, primary.max_seq_no).await?;
            shard.filters.found_unique(numbers);
        }
        all(ctx, entry, &pit, numbers.filter().query()).await
    };
    let found = found.await;
    ctx.tasks.spawn(async move { pit.close().await });
    let found = found?;
    shard.filters.fetched(numbers, &found);
    Ok(found.len())
}

/// Waits for the publication from which on a set that was read is right.
async fn until_right(ctx: &Context, shard: &Shard, numbers: &Numbers) -> Result<(), FetchError> {
    let mut published = ctx.published.subscribe();
    loop {
        published.mark_unchanged();
        if numbers.is_ready() {
            return Ok(());
        }
        if numbers.is_forgotten() {
            return Err(FetchError::NotFollowed);
        }
        if !numbers.is_shown() {
            // The pull that was asked for may have been part of one that had begun before.
            ask_for_pull(ctx, shard);
        }
        if published.changed().await.is_err() {
            return Err(FetchError::NotFollowed);
        }
    }
}

fn ask_for_pull(ctx: &Context, shard: &Shard) {
    shard.state.lock().pull_again();
    ctx.reschedule.notify_one();
}

/// Makes sure that no two documents have one number, as they may after a shrink, where a number says
/// nothing of either. Numbers above `up_to` are given out once.
async fn unique(pit: &Pit, up_to: i64) -> Result<(), FetchError> {
    let mut from = 0;
    while from <= up_to {
        let range = json!({"range": {"_seq_no": {"gte": from, "lt": from + NUMBERS_AT_ONCE}}});
        let shared = json!({"terms": {
            "field": "_seq_no", "size": 1, "min_doc_count": 2, "order": {"_count": "desc"},
        }});
        let body = json!({
            "size": 0, "track_total_hits": false, "query": range, "aggs": {"by_seq_no": shared},
        });
        let found = pit.search(body).await?.aggregations.map(|found| found.by_seq_no.buckets);
        if found.is_none_or(|buckets| !buckets.is_empty()) {
            return Err(FetchError::SharedNumbers);
        }
        from += NUMBERS_AT_ONCE;
    }
    Ok(())
}

async fn all(
    ctx: &Arc<Context>,
    entry: &Arc<IndexEntry>,
    pit: &Arc<Pit>,
    filter: &str,
) -> Result<RoaringTreemap, FetchError> {
    let size = entry.info.load().max_result_window.clamp(1, PAGE);
    let query = all_of_text(&[filter]);
    let mut rest = order_body(size);
    let mut found = RoaringTreemap::new();
    loop {
        let bytes = pit.ask_about(&query, rest.clone(), Format::Json).await?;
        let reading = Arc::clone(pit);
        let read = move || -> Result<(RoaringTreemap, usize, Option<i64>), UpstreamError> {
            let mut search: Search<OrderHit> = response::json(&bytes)?;
            reading.note(&mut search)?;
            let hits = &search.hits.hits;
            let numbers = hits.iter().map(|hit| hit.seq_no).collect();
            Ok((numbers, hits.len(), hits.last().map(|hit| hit.sort.0)))
        };
        let (numbers, hits, after) = entry.tasks.spawn_blocking(read).await??;
        found |= numbers;
        if found.serialized_size() as u64 > ctx.filters.budget() / SHARE {
            return Err(FetchError::TooMany);
        }
        match after {
            Some(after) if hits == size => rest["search_after"] = json!([after]),
            _ => return Ok(found),
        }
    }
}

/// A search body, but for its query, that asks for orders and reads nothing stored.
pub(super) fn order_body(size: usize) -> serde_json::Value {
    json!({
        "size": size,
        "sort": ["_shard_doc"],
        "seq_no_primary_term": true,
        "track_total_hits": false,
        "_source": false,
        "stored_fields": "_none_",
    })
}

/// How long the filter is refused after an error; `None`: it may be asked for again at once.
pub(super) fn penalty(error: &FetchError) -> Option<Duration> {
    match error {
        FetchError::TooMany | FetchError::SharedNumbers => Some(Duration::from_secs(600)),
        FetchError::TooSlow => Some(Duration::from_secs(60)),
        FetchError::Upstream(UpstreamError::Status { status, .. }) if status.is_client_error() => {
            Some(Duration::from_secs(60))
        }
        FetchError::Upstream(_) | FetchError::Blocking(_) => Some(Duration::from_secs(5)),
        FetchError::NotFollowed => None,
    }
}

/// The label of an outcome.
pub(super) fn outcome(result: &Result<u64, FetchError>) -> &'static str {
    match result {
        Ok(_) => "done",
        Err(FetchError::TooMany) => "too_many",
        Err(FetchError::TooSlow) => "too_slow",
        Err(FetchError::SharedNumbers) => "shared_numbers",
        Err(FetchError::NotFollowed) => "not_followed",
        Err(FetchError::Upstream(_) | FetchError::Blocking(_)) => "failed",
    }
}
