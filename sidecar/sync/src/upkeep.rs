//! What an index needs besides changes: training and tidying soon after it changed, and a snapshot
//! now and then. Two lanes, each one index at a time on a thread that may block, so that a long
//! training of one index does not keep the snapshots of all others waiting. An index is in one lane at
//! a time: a snapshot of an index that is being trained comes after the training.

use std::sync::Arc;
use std::time::{Duration, Instant};

use knn_types::EngineError;
use tokio::time::timeout;

use crate::context::Context;
use crate::registry::IndexEntry;
use crate::shard::FieldIndex;

/// What is due for one index.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    maintain: bool,
    changed: bool,
    /// Trainings known of; see [`knn_types::Upkeep`].
    trainings: u64,
    last_snapshot: Option<Instant>,
    retry_snapshot_at: Option<Instant>,
}

impl Upkeep {
    /// Something was published.
    pub(crate) fn published(&mut self) {
        self.maintain = true;
        self.changed = true;
    }

    /// A part of a first build was put by: worth a snapshot, and too early for training.
    pub(crate) fn kept(&mut self) {
        self.changed = true;
    }

    /// After so many trainings. What a new one learnt is worth keeping at once, and vectors leave the
    /// memory when they are saved.
    fn trained(&mut self, trainings: u64) {
        if trainings > self.trainings {
            self.trainings = trainings;
            self.changed = true;
            self.last_snapshot = None;
        }
    }

    fn snapshot_due(&self, interval: Duration, now: Instant) -> bool {
        let waited = self.last_snapshot.is_none_or(|last| now.duration_since(last) >= interval);
        let may_retry = self.retry_snapshot_at.is_none_or(|at| now >= at);
        self.changed && waited && may_retry
    }
}

/// What a lane does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Training and tidying.
    Maintenance,
    /// Snapshots, and letting go of damaged files.
    Files,
}

/// Runs one lane until shutdown.
pub(crate) async fn run(ctx: Arc<Context>, lane: Lane) {
    loop {
        tokio::select! {
            () = ctx.cancel.cancelled() => return,
            () = ctx.upkeep.notified(), if lane == Lane::Maintenance => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        for (entry, field) in due(&ctx, lane) {
            if ctx.cancel.is_cancelled() {
                return;
            }
            if entry.cancel.is_cancelled() {
                continue;
            }
            let _keeps_files = entry.tasks.token();
            match lane {
                Lane::Maintenance => attend(&ctx, &field).await,
                Lane::Files if field.index.is_damaged() => begin_anew(&ctx, &entry, &field),
                Lane::Files => save(&ctx, &field).await,
            }
        }
    }
}

/// What a lane has to do, on a look that costs little where that is nothing.
fn due(ctx: &Context, lane: Lane) -> Vec<(Arc<IndexEntry>, Arc<FieldIndex>)> {
    let now = Instant::now();
    let mut due = Vec::new();
    for entry in ctx.registry.all() {
        for shard in &entry.shards {
            let state = shard.state.lock();
            let fields = state.fields.values().filter(|field| match lane {
                Lane::Maintenance => field.upkeep.lock().maintain,
                Lane::Files => {
                    let snapshot_due = field.upkeep.lock().snapshot_due(ctx.config.snapshot_interval, now);
                    snapshot_due || field.index.is_damaged()
                }
            });
            due.extend(fields.map(|field| (Arc::clone(&entry), Arc::clone(field))));
        }
    }
    due
}

/// Lets go of an index whose files are damaged: the next pull opens it anew and reads everything.
fn begin_anew(ctx: &Context, entry: &IndexEntry, field: &Arc<FieldIndex>) {
    let Some(shard) = entry.shards.iter().find(|shard| shard.number == field.key.shard) else { return };
    {
        let mut state = shard.state.lock();
        let name = &field.key.field;
        if !state.fields.get(name).is_some_and(|held| Arc::ptr_eq(held, field)) {
            return;
        }
        state.fields.remove(name);
        state.pull_again();
    }
    ctx.metrics.error("engine");
    tracing::error!(index = %field.key, "stored vectors are damaged; the index is read again from Elasticsearch");
    entry.refresh_states();
    ctx.reschedule.notify_one();
}

async fn attend(ctx: &Arc<Context>, field: &Arc<FieldIndex>) {
    if !field.upkeep.lock().maintain || field.index.is_damaged() {
        return;
    }
    let _one_lane = field.attended.lock().await;
    field.upkeep.lock().maintain = false;
    maintain(ctx, field).await;
}

async fn save(ctx: &Arc<Context>, field: &Arc<FieldIndex>) {
    let due = || field.upkeep.lock().snapshot_due(ctx.config.snapshot_interval, Instant::now());
    // Where it is being trained, the next round comes soon enough.
    if due()
        && let Ok(_one_lane) = field.attended.try_lock()
    {
        snapshot(ctx, field).await;
    }
}

/// One step; when it found work there may be more, so it stays due.
async fn maintain(ctx: &Arc<Context>, field: &Arc<FieldIndex>) {
    let index = Arc::clone(&field.index);
    let step = move || {
        let more = index.maintain()?;
        Ok::<_, EngineError>((more, index.stats().upkeep.trainings))
    };
    match tokio::task::spawn_blocking(step).await {
        Ok(Ok((more, trainings))) => {
            let mut upkeep = field.upkeep.lock();
            upkeep.trained(trainings);
            if more {
                upkeep.published();
                ctx.upkeep.notify_one();
            }
        }
        Ok(Err(error)) => {
            ctx.metrics.error("engine");
            tracing::error!(index = %field.key, %error, "maintenance failed");
        }
        Err(panic) => {
            ctx.metrics.error("engine");
            tracing::error!(index = %field.key, %panic, "maintenance panicked");
        }
    }
}

async fn snapshot(ctx: &Arc<Context>, field: &Arc<FieldIndex>) {
    // Taken before the write: what is published meanwhile makes the next one due.
    field.upkeep.lock().changed = false;
    let index = Arc::clone(&field.index);
    let written = tokio::task::spawn_blocking(move || index.snapshot()).await;
    let mut upkeep = field.upkeep.lock();
    let failure = match written {
        Ok(Ok(_)) => {
            upkeep.last_snapshot = Some(Instant::now());
            upkeep.retry_snapshot_at = None;
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic.to_string(),
    };
    upkeep.changed = true;
    upkeep.retry_snapshot_at = Some(Instant::now() + ctx.config.snapshot_interval);
    ctx.metrics.snapshot_failures.inc();
    tracing::error!(index = %field.key, error = %failure, "no snapshot was written; the previous one stays");
}

/// Writes what changed, at the end of the process or when an index is closed.
pub(crate) async fn last_snapshots(ctx: &Arc<Context>, entry: &Arc<IndexEntry>) {
    for shard in &entry.shards {
        let fields: Vec<_> = shard.state.lock().fields.values().cloned().collect();
        for field in fields {
            if field.upkeep.lock().changed
                && timeout(Duration::from_secs(120), snapshot(ctx, &field)).await.is_err()
            {
                tracing::warn!(index = %field.key, "the last snapshot took too long and is left");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_due_after_a_change_and_the_interval() {
        let interval = Duration::from_secs(30);
        let now = Instant::now();
        let mut upkeep = Upkeep::default();
        assert!(!upkeep.snapshot_due(interval, now));
        upkeep.published();
        assert!(upkeep.snapshot_due(interval, now), "the first build is written at once");
        upkeep.last_snapshot = Some(now);
        assert!(!upkeep.snapshot_due(interval, now + Duration::from_secs(29)));
        assert!(upkeep.snapshot_due(interval, now + interval));
    }
}
