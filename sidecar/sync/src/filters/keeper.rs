//! Keeps remembered filters within their limits: one task for all indices, that looks when something was
//! fetched or made, and now and then.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::cached::Cached;
use crate::context::Context;
use crate::registry::IndexEntry;

/// How often it looks without being called: searches make filters larger, time makes them idle.
const EVERY: Duration = Duration::from_secs(5);
/// Filters that one index may have: each is a clause in what a pull asks.
pub(super) const MOST_OF_INDEX: usize = 128;
/// A filter that is larger than all the memory is refused for so long, in milliseconds.
const TOO_LARGE: u64 = 600_000;

struct Held {
    entry: Arc<IndexEntry>,
    cached: Arc<Cached>,
    bytes: u64,
    worth: f64,
}

/// Runs until shutdown.
pub(crate) async fn run(ctx: Arc<Context>) {
    loop {
        tokio::select! {
            () = ctx.cancel.cancelled() => return,
            () = ctx.filters.changed.notified() => {}
            () = sleep(EVERY) => {}
        }
        let looking = Arc::clone(&ctx);
        if let Err(panic) = tokio::task::spawn_blocking(move || look(&looking)).await {
            tracing::error!(%panic, "keeping filters within their limits failed");
        }
    }
}

fn look(ctx: &Arc<Context>) {
    let now = ctx.filters.now();
    let mut held = Vec::new();
    for entry in ctx.registry.all() {
        for cached in entry.filters.all() {
            if cached.idle_for(now) > ctx.config.filter_idle.as_millis() as u64 && !cached.is_fetching() {
                remove(ctx, &entry, &cached, "idle");
                continue;
            }
            if cached.has_grown() {
                super::fetch(ctx, &entry, &cached, None);
            }
            let bytes = cached.memory_bytes();
            let worth = cached.worth(bytes);
            held.push(Held { entry: Arc::clone(&entry), cached, bytes, worth });
        }
    }
    let (removed, held) = choose(held, ctx.filters.budget());
    for (Held { entry, cached, bytes, worth }, reason) in &removed {
        if *reason == "size" {
            cached.refuse_until(now + TOO_LARGE);
        } else {
            ctx.filters.ban(&entry.uuid, cached.filter(), now);
            ctx.filters.raise_floor(*worth);
        }
        tracing::debug!(index = %entry.info.load().name, filter = %cached.filter(), bytes, reason, "a filter is forgotten");
        remove(ctx, entry, cached, reason);
    }
    ctx.filters.metrics.cached.set(held.len() as i64);
    ctx.filters.metrics.bytes.set(held.iter().map(|held| held.bytes).sum::<u64>() as i64);
}

fn remove(ctx: &Context, entry: &IndexEntry, cached: &Cached, reason: &'static str) {
    match reason {
        "size" => cached.clear(&entry.shards),
        _ => entry.filters.remove(cached, &entry.shards),
    }
    ctx.filters.metrics.evicted(reason);
}

/// What the choice depends on.
trait Candidate {
    fn index(&self) -> &str;
    fn bytes(&self) -> u64;
    fn worth(&self) -> f64;
    /// It cannot go now.
    fn is_bound(&self) -> bool;
}

impl Candidate for Held {
    fn index(&self) -> &str {
        &self.entry.uuid
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn worth(&self) -> f64 {
        self.worth
    }

    fn is_bound(&self) -> bool {
        self.cached.is_fetching()
    }
}

/// Parts what must go, with the reason, from what stays.
fn choose<T: Candidate>(mut held: Vec<T>, budget: u64) -> (Vec<(T, &'static str)>, Vec<T>) {
    held.sort_by(|a, b| a.worth().total_cmp(&b.worth()));
    let mut used: u64 = held.iter().map(Candidate::bytes).sum();
    let mut of_index: HashMap<String, usize> = HashMap::new();
    held.iter().for_each(|held| *of_index.entry(held.index().to_owned()).or_default() += 1);
    let (mut gone, mut stay) = (Vec::new(), Vec::new());
    for held in held {
        let siblings = of_index.entry(held.index().to_owned()).or_default();
        let reason = if held.is_bound() {
            None
        } else if held.bytes() > budget {
            Some("size")
        } else if used > budget {
            Some("memory")
        } else if *siblings > MOST_OF_INDEX {
            Some("count")
        } else {
            None
        };
        match reason {
            Some(reason) => {
                used -= held.bytes();
                *siblings -= 1;
                gone.push((held, reason));
            }
            None => stay.push(held),
        }
    }
    (gone, stay)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Played(&'static str, u64, f64);

    impl Candidate for Played {
        fn index(&self) -> &str {
            self.0
        }

        fn bytes(&self) -> u64 {
            self.1
        }

        fn worth(&self) -> f64 {
            self.2
        }

        fn is_bound(&self) -> bool {
            self.2 == 0.0
        }
    }

    fn gone(held: Vec<Played>, budget: u64) -> Vec<(u64, &'static str)> {
        choose(held, budget).0.into_iter().map(|(held, reason)| (held.1, reason)).collect()
    }

    #[test]
    fn the_least_worth_goes_until_the_rest_fits() {
        let held = || vec![Played("a", 50, 3.0), Played("b", 30, 1.0), Played("a", 20, 2.0)];
        assert_eq!(gone(held(), 100), []);
        assert_eq!(gone(held(), 99), [(30, "memory")]);
        assert_eq!(gone(held(), 60), [(30, "memory"), (20, "memory")]);
    }

    #[test]
    fn what_is_larger_than_everything_goes_however_worthy() {
        let held = vec![Played("a", 500, 9.0), Played("a", 40, 1.0)];
        assert_eq!(gone(held, 100), [(40, "memory"), (500, "size")]);
        let held = vec![Played("a", 500, 9.0), Played("a", 40, 10.0)];
        assert_eq!(gone(held, 100), [(500, "size")]);
    }

    #[test]
    fn what_is_being_fetched_stays() {
        assert_eq!(gone(vec![Played("a", 80, 0.0), Played("a", 40, 1.0)], 100), [(40, "memory")]);
    }

    #[test]
    fn an_index_has_only_so_many() {
        let many = (0..MOST_OF_INDEX as u64 + 3).map(|i| Played("a", i + 1, i as f64 + 1.0));
        let mut held: Vec<Played> = many.collect();
        held.push(Played("b", 9, 0.5));
        assert_eq!(gone(held, 1 << 30), [(1, "count"), (2, "count"), (3, "count")]);
    }
}
