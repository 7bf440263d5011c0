//! The heart beat: one poll of all refresh counters, then a pull for each shard that moved.
//!
//! One task for all indices. It slows down while nothing changes, while polls are slow (so that
//! polling never takes more than a tenth of the time), and while Elasticsearch is away.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::{sleep_until, timeout};

use crate::context::Context;
use crate::poll::{self, Polled};
use crate::pull;
use crate::registry::IndexEntry;
use crate::shard::Shard;
use crate::sleep;
use crate::upstream::UpstreamError;

/// After a change the feed looks often for so long.
const ACTIVE_FOR: Duration = Duration::from_secs(1);
/// A poll that takes longer is given up and asked again, of another node if there is one.
const POLL_LIMIT: Duration = Duration::from_secs(10);
/// A poll may take at most this part of the time.
const DUTY: u32 = 10;
/// How often sleeping indices are asked about where nobody waits for them. What they do is of no interest
/// but for their debt, and thousands of them should cost little.
const ASLEEP_EVERY: Duration = Duration::from_secs(1);
/// How often lag is turned into metrics.
const LAG_EVERY: Duration = Duration::from_secs(1);

/// Runs until shutdown.
pub(crate) async fn run(ctx: Arc<Context>) {
    let mut next_poll = Instant::now();
    let mut active_until = Instant::now();
    let mut next_lag = Instant::now();
    let mut next_asleep = Instant::now();
    let mut next_retry: Option<Instant> = None;
    let mut failures = 0u32;
    loop {
        let wake_at = next_retry.map_or(next_poll, |retry| retry.min(next_poll));
        // With thousands of indices a look at all of them is worth a reason.
        let mut look_at_all = false;
        tokio::select! {
            () = ctx.cancel.cancelled() => return,
            () = ctx.poll_now.notified() => next_poll = Instant::now(),
            () = ctx.reschedule.notified() => look_at_all = true,
            () = sleep_until(wake_at.into()) => {}
        }
        look_at_all |= next_retry.is_some_and(|retry| Instant::now() >= retry);
        let mut polled = Vec::new();
        // A waiter may have come while the newest poll was on its way.
        if Instant::now() >= next_poll || !ctx.barriers.is_empty() {
            let began = Instant::now();
            let with_asleep = began >= next_asleep;
            if with_asleep {
                next_asleep = began + ASLEEP_EVERY;
            }
            match beat(&ctx, with_asleep).await {
                Ok(beat) => {
                    failures = 0;
                    polled = beat.entries;
                    if beat.moved {
                        active_until = Instant::now() + ACTIVE_FOR;
                    }
                    next_poll = Instant::now() + pause(&ctx, began.elapsed(), Instant::now() < active_until);
                }
                Err(error) => {
                    lost(&ctx, failures, &error);
                    failures = failures.saturating_add(1);
                    let pause = Duration::from_millis(50) * 2u32.saturating_pow(failures.min(10));
                    next_poll = Instant::now() + pause.min(ctx.config.retry_max);
                    // Waiters must not turn the pause into a storm.
                    tokio::select! {
                        () = ctx.cancel.cancelled() => return,
                        () = sleep_until(next_poll.into()) => {}
                    }
                }
            }
        }
        if look_at_all {
            polled = ctx.registry.all();
        }
        start_due_pulls(&ctx, &polled);
        if look_at_all {
            next_retry = earliest_retry(&polled, Instant::now());
        }
        if Instant::now() >= next_lag {
            report_lag(&ctx);
            next_lag = Instant::now() + LAG_EVERY;
        }
    }
}

fn pause(ctx: &Context, took: Duration, active: bool) -> Duration {
    let wanted = if active { ctx.config.feed_interval } else { ctx.config.feed_interval_idle };
    wanted.max(took * DUTY).min(Duration::from_secs(2))
}

fn lost(ctx: &Context, failures: u32, error: &UpstreamError) {
    ctx.metrics.error("poll");
    if failures == 0 {
        tracing::warn!(%error, "polling failed; the published state stays, and it is tried again");
    }
    if error.is_block() {
        // One index is not to be asked about any more, and nothing is out of sight: the catalog will tell which.
        ctx.invalidations.look_again();
        return;
    }
    // Whoever answers next may be another version, and may hold other copies.
    ctx.node_stale.store(true, Ordering::Release);
    for entry in ctx.registry.all() {
        entry.shards.iter().for_each(|shard| shard.state.lock().doubt());
    }
}

/// What one poll brought.
struct Beat {
    /// Those that were asked about.
    entries: Vec<Arc<IndexEntry>>,
    /// Some shard has something to pull, or somebody waits.
    moved: bool,
}

/// One poll.
async fn beat(ctx: &Arc<Context>, with_asleep: bool) -> Result<Beat, UpstreamError> {
    let boarded = ctx.barriers.board();
    let entries = ctx.registry.select(|entry| {
        entry.can_be_followed()
            && (with_asleep || !entry.asleep() || !entry.ready() || boarded.concerns(&entry.uuid))
    });
    if entries.is_empty() {
        boarded.answer(&entries);
        return Ok(Beat { entries, moved: false });
    }
    let names: Vec<Arc<str>> = entries.iter().map(|entry| Arc::clone(&entry.info.load().name)).collect();
    let began = Instant::now();
    let answer = timeout(POLL_LIMIT, poll::poll(&ctx.upstream, &names)).await;
    match answer.unwrap_or_else(|_| Err(UpstreamError::Unreachable("a poll took too long".to_owned()))) {
        Ok(polled) => {
            ctx.metrics.poll_seconds.observe(began.elapsed().as_secs_f64());
            let waited_for = !boarded.is_empty();
            let moved = record(&entries, polled);
            boarded.answer(&entries);
            Ok(Beat { entries, moved: moved || waited_for })
        }
        Err(error) => {
            ctx.barriers.put_back(boarded);
            Err(error)
        }
    }
}

fn record(entries: &[Arc<IndexEntry>], mut polled: Polled) -> bool {
    let now = Instant::now();
    let mut moved = false;
    for entry in entries {
        let mut primaries = polled.remove(&*entry.uuid).unwrap_or_default();
        let asleep = entry.asleep();
        for shard in &entry.shards {
            let mut state = shard.state.lock();
            match primaries.remove(&shard.number) {
                Some(primary) => state.record(primary, asleep, now),
                None => state.doubt(),
            }
            moved |= state.lags(asleep);
        }
    }
    moved
}

fn start_due_pulls(ctx: &Arc<Context>, entries: &[Arc<IndexEntry>]) {
    let now = Instant::now();
    for entry in entries {
        let asleep = entry.asleep();
        for shard in &entry.shards {
            let mut state = shard.state.lock();
            if state.due(asleep, now) && !entry.cancel.is_cancelled() {
                state.pulling = true;
                entry.tasks.spawn(pull::run(Arc::clone(ctx), Arc::clone(entry), Arc::clone(shard)));
            }
        }
    }
}

/// The feed wakes for a retry even between two polls. One whose time has passed without a pull waits for
/// something else, such as somebody who searches a sleeping index.
fn earliest_retry(entries: &[Arc<IndexEntry>], now: Instant) -> Option<Instant> {
    let of_entry = |entry: &Arc<IndexEntry>| {
        let retries = entry.shards.iter().filter_map(|shard| shard.state.lock().retry_at());
        retries.filter(|retry| *retry > now).min()
    };
    entries.iter().filter_map(of_entry).min()
}

fn report_lag(ctx: &Arc<Context>) {
    let now = Instant::now();
    let of_entry = |entry: Arc<IndexEntry>| {
        let (mut operations, mut time) = (0, Duration::ZERO);
        for shard in &entry.shards {
            let (shard_operations, shard_time) = shard.state.lock().behind(now);
            operations += shard_operations;
            time = time.max(shard_time);
        }
        sleep::wake_indebted(ctx, &entry, operations);
        (entry.info.load().name.to_string(), operations, time)
    };
    let mut lags: Vec<_> = ctx.registry.all().into_iter().map(of_entry).collect();
    lags.sort();
    ctx.metrics.lag(&lags);
    let ages = ctx.registry.all().into_iter().filter_map(|entry| agreement_age(&entry));
    ctx.metrics.agreement_age(ages.max().unwrap_or_default());
}

/// Time since a shard of this index agreed, where it disagrees or waits for a pull now; an index of which
/// nothing changed since the last agreement still agrees.
fn agreement_age(entry: &IndexEntry) -> Option<Duration> {
    let asleep = entry.asleep();
    let of_shard = |shard: &Arc<Shard>| {
        let state = shard.state.lock();
        if !state.lags(asleep) {
            return None;
        }
        state.fields.values().filter_map(|field| *field.last_agreement.lock()).map(|last| last.age()).max()
    };
    entry.shards.iter().filter_map(of_shard).max()
}
