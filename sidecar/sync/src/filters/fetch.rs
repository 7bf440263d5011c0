//! Reading all that a filter lets through, beside the feed, in a point in time of its own.

use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringTreemap;
use serde_json::json;
use tokio::time::timeout;

use super::cached::Cached;
use super::numbers::Numbers;
use crate::context::Context;
use crate::pages::all_of_text;
use crate::pit::Pit;
use crate::registry::IndexEntry;
use crate::response::{self, OrderHit, Search};
use crate::shard::Shard;
use crate::upstream::{Format, UpstreamError};

/// Documents per page, if the index allows so many.
const PAGE: usize = 10_000;
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
    #[error("the shard is not followed at the moment")]
    NotFollowed,
    #[error("reading ended badly: {0}")]
    Blocking(#[from] tokio::task::JoinError),
}

/// Fetches what is wanted of all shards. Returns how many documents were read.
pub(super) async fn run(
    ctx: &Arc<Context>,
    entry: &Arc<IndexEntry>,
    cached: &Cached,
) -> Result<u64, FetchError> {
    let mut documents = 0;
    for shard in entry.shards.iter().filter(|shard| cached.wants(shard.number as usize)) {
        let (copy, node) = {
            let state = shard.state.lock();
            let plan = state.plan().ok_or(FetchError::NotFollowed)?;
            (plan.at.incarnation, plan.primary.node)
        };
        let numbers =
            shard.filters.register(cached.filter(), copy).ok_or(FetchError::NotFollowed)?;
        let fetched = timeout(LIMIT, one_shard(ctx, entry, shard, &node, &numbers)).await;
        match fetched.unwrap_or(Err(FetchError::TooSlow)) {
            Ok(found) => documents += found,
            Err(error) => {
                shard.filters.forget(&numbers);
                return Err(error);
            }
        }
        cached.put(shard, numbers);
    }
    Ok(documents)
}

async fn one_shard(
    ctx: &Arc<Context>,
    entry: &Arc<IndexEntry>,
    shard: &Arc<Shard>,
    node: &str,
    numbers: &Arc<Numbers>,
) -> Result<u64, FetchError> {
    let pit = Pit::open(ctx, &entry.info.load().name, shard.number, node).await?;
    shard.filters.opened(numbers);
    // On its way while pages are read.
    ask_for_pull(ctx, shard);
    let pit = Arc::new(pit);
    let found = all(ctx, entry, &pit, numbers.filter().query()).await;
    ctx.tasks.spawn(async move { pit.close().await });
    let found = found?;
    shard.filters.fetched(numbers, &found);

    let mut published = ctx.published.subscribe();
    loop {
        published.mark_unchanged();
        if numbers.is_ready() {
            return Ok(found.len());
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
        FetchError::TooMany => Some(Duration::from_secs(600)),
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
        Err(FetchError::NotFollowed) => "not_followed",
        Err(FetchError::Upstream(_) | FetchError::Blocking(_)) => "failed",
    }
}
