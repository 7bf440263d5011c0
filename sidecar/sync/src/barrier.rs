//! Waiting for what a refresh showed: an acknowledged refresh must be part of every later search.
//!
//! A waiter's counters are read after it called: it joins the next poll of the feed, so any number
//! of waiters share one request, and when nothing moved that request is all it costs.

use std::time::Duration;

use es_wire::Resolved;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::context::Context;
use crate::registry::IndexEntry;
use crate::shard::{Need, Shard};

/// What a caller waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every adopted index.
    All,
    /// One index, by name or alias. A name that means several indices waits for all.
    Index(String),
}

/// What one waiter needs: shards and the refreshes that must be published.
pub(crate) type Needs = Vec<(Arc<Shard>, Need)>;

struct Waiter {
    /// `None`: all.
    uuid: Option<Arc<str>>,
    answer: oneshot::Sender<Needs>,
}

/// Waiters for the next poll.
#[derive(Default)]
pub(crate) struct Barriers {
    waiting: Mutex<Vec<Waiter>>,
}

/// Waiters that a poll took along.
pub(crate) struct Boarded(Vec<Waiter>);

impl Barriers {
    /// Called before a poll is sent.
    pub(crate) fn board(&self) -> Boarded {
        Boarded(std::mem::take(&mut *self.waiting.lock()))
    }

    /// The poll failed: its waiters take the next one.
    pub(crate) fn put_back(&self, boarded: Boarded) {
        let still_there = boarded.0.into_iter().filter(|waiter| !waiter.answer.is_closed());
        self.waiting.lock().extend(still_there);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }
}

impl Boarded {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether some waiter needs to know about this index.
    pub(crate) fn concerns(&self, uuid: &str) -> bool {
        self.0.iter().any(|waiter| waiter.uuid.as_deref().is_none_or(|wanted| wanted == uuid))
    }

    /// Called when the poll has been recorded.
    pub(crate) fn answer(self, entries: &[Arc<IndexEntry>]) {
        for waiter in self.0 {
            let concerned =
                |entry: &&Arc<IndexEntry>| waiter.uuid.as_ref().is_none_or(|uuid| *uuid == entry.uuid);
            let mut needs = Needs::new();
            for entry in entries.iter().filter(concerned) {
                for shard in &entry.shards {
                    match shard.state.lock().need() {
                        Need::Nothing => {}
                        need => needs.push((Arc::clone(shard), need)),
                    }
                }
            }
            // A waiter that gave up in the meantime needs nothing any more.
            let _ = waiter.answer.send(needs);
        }
    }
}

/// Waits until all that Elasticsearch shows now is published. False when `limit` passed first.
pub(crate) async fn published(ctx: &Context, scope: Scope, limit: Duration) -> bool {
    let uuid = match scope {
        Scope::All => None,
        Scope::Index(name) => match ctx.catalog.load().resolve(&name) {
            Resolved::One(info) if info.fields.is_empty() => return true,
            Resolved::One(info) => Some(Arc::clone(&info.uuid)),
            Resolved::NotOne(_) => None,
            // A new name: whatever it is will be learnt by a first build that begins later.
            Resolved::Unknown => return true,
        },
    };
    let began = std::time::Instant::now();
    let reached = timeout(limit, wait(ctx, uuid)).await.unwrap_or(false);
    ctx.metrics.barrier(began.elapsed(), reached);
    reached
}

async fn wait(ctx: &Context, uuid: Option<Arc<str>>) -> bool {
    let mut ticks = ctx.published.subscribe();
    let (answer, needs) = oneshot::channel();
    ctx.barriers.waiting.lock().push(Waiter { uuid, answer });
    ctx.poll_now.notify_one();
    let Ok(mut needs) = needs.await else { return false };
    loop {
        ticks.mark_unchanged();
        needs.retain(|(shard, need)| !shard.state.lock().satisfied(*need));
        if needs.is_empty() {
            return true;
        }
        if ticks.changed().await.is_err() {
            return false;
        }
    }
}
