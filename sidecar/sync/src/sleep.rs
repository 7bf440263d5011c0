//! Leaving idle indices idle.
//!
//! Elasticsearch stops refreshing a shard that nobody searched for `search.idle.after`, unless its
//! index has an explicit `refresh_interval`; the next search refreshes first. Our own points in time
//! count as searches there, so following such an index would keep it refreshing for ever. Instead it
//! is *asleep* here too: its refreshes are not pulled until somebody searches or waits for a refresh.
//! What is written meanwhile is a debt that the next search would have to wait for, so an index that is
//! written to in earnest while nobody searches is woken whenever the debt has grown to [`MAX_DEBT`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::timeout;

use crate::barrier::{self, Scope};
use crate::context::Context;
use crate::registry::IndexEntry;
use crate::upstream::{Format, UpstreamError, encoded};

/// When this process began; times are kept as milliseconds since, in one atomic.
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

fn now_millis() -> u64 {
    BEGUN.elapsed().as_millis() as u64 + 1
}

/// When clients searched an index.
#[derive(Default)]
pub(crate) struct Activity {
    /// 0: never.
    last_search: AtomicU64,
    idle_after_millis: AtomicU64,
    /// Only one caller wakes; the others wait for it.
    waking: tokio::sync::Mutex<()>,
}

impl Activity {
    pub(crate) fn set_idle_after(&self, idle_after: Duration) {
        self.idle_after_millis.store(idle_after.as_millis() as u64, Ordering::Relaxed);
    }

    /// A client searched, or something as good as that happened.
    pub(crate) fn searched(&self) {
        self.last_search.store(now_millis(), Ordering::Relaxed);
    }

    pub(crate) fn asleep(&self) -> bool {
        let last = self.last_search.load(Ordering::Relaxed);
        let idle = now_millis().saturating_sub(last);
        last == 0 || idle > self.idle_after_millis.load(Ordering::Relaxed)
    }
}

/// Operations that a sleeping index may owe: a few seconds of pulling.
const MAX_DEBT: u64 = 20_000;

/// Wakes an index in the background that sleeps on too large a debt.
pub(crate) fn wake_indebted(ctx: &Arc<Context>, entry: &Arc<IndexEntry>, debt: u64) {
    if debt <= MAX_DEBT || !entry.asleep() || entry.activity.waking.try_lock().is_err() {
        return;
    }
    tracing::debug!(index = %entry.info.load().name, debt, "woken: much was written while nobody searched");
    let (ctx, entry) = (Arc::clone(ctx), Arc::clone(entry));
    ctx.tasks.clone().spawn(async move { wake(&ctx, &entry.uuid, DEBT_LIMIT).await });
}

/// How long paying a debt may take before it is tried again.
const DEBT_LIMIT: Duration = Duration::from_secs(60);

/// Does to Elasticsearch what a client's search would have done, and waits until what it then shows
/// is published. Only then the index counts as searched, so that nobody overtakes.
pub(crate) async fn wake(ctx: &Context, uuid: &str, limit: Duration) -> bool {
    let Some(entry) = ctx.registry.get(uuid) else { return true };
    let waking = async {
        let _only_one = entry.activity.waking.lock().await;
        if !entry.asleep() {
            return true;
        }
        if let Err(error) = search_on_primaries(ctx, &entry).await {
            tracing::warn!(index = %entry.info.load().name, %error, "waking failed");
            return false;
        }
        let name = entry.info.load().name.to_string();
        let shown = barrier::published(ctx, Scope::Index(name), limit).await;
        if shown {
            entry.activity.searched();
        }
        shown
    };
    timeout(limit, waking).await.unwrap_or(false)
}

/// A search that asks for nothing, on exactly the copies that are followed.
async fn search_on_primaries(ctx: &Context, entry: &Arc<IndexEntry>) -> Result<(), UpstreamError> {
    let mut by_node: std::collections::BTreeMap<Arc<str>, Vec<String>> = std::collections::BTreeMap::new();
    for shard in &entry.shards {
        if let Some(seen) = &shard.state.lock().seen {
            by_node.entry(Arc::clone(&seen.node)).or_default().push(shard.number.to_string());
        }
    }
    let name = encoded(&entry.info.load().name);
    let body = json!({"size": 0, "track_total_hits": false, "query": {"match_all": {}}}).to_string();
    for (node, shards) in by_node {
        let preference = encoded(&format!("_shards:{}|_only_nodes:{node}", shards.join(",")));
        let path = format!("/{name}/_search?preference={preference}&request_cache=false");
        ctx.upstream.post(&path, body.clone(), Format::Json).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_searched_is_asleep_and_a_search_wakes() {
        let activity = Activity::default();
        activity.set_idle_after(Duration::from_secs(30));
        assert!(activity.asleep());
        activity.searched();
        assert!(!activity.asleep());
    }
}
