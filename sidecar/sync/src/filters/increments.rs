//! What a pull asks so that filters stay right: of every document that it stages, which of the filters
//! let it through. One request carries them all, as named clauses; each hit names those that match.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures_util::future::BoxFuture;
use roaring::RoaringTreemap;
use serde::Deserialize;
use serde_json::json;

use super::fetch::order_body;
use super::numbers::Numbers;
use crate::pages::{PullError, Reader, all_of_text};
use crate::response::{self, Search};
use crate::upstream::{Format, UpstreamError};

/// Filters in one request, and bytes of their texts.
const AT_ONCE: usize = 64;
const BYTES_AT_ONCE: usize = 256 << 10;
/// Numbers that one search names; Elasticsearch allows 65,536.
const NUMBERS_AT_ONCE: usize = 4_096;
/// More than so many that must be asked about by their numbers: fetching anew costs less.
const MOST_OWED: u64 = 50_000;

/// A hit and the clauses that it matched.
#[derive(Deserialize)]
struct Judged {
    #[serde(rename = "_seq_no")]
    seq_no: u64,
    sort: (i64,),
    #[serde(default)]
    matched_queries: Vec<Box<str>>,
}

/// One filter; two sets of it are kept while one replaces the other.
type Clause = Vec<Arc<Numbers>>;

impl Reader {
    /// Asks about all documents above `above`. Filters for which that fails are forgotten: the pull goes on.
    pub(crate) async fn judge_above(self: &Arc<Self>, kept: &[Arc<Numbers>], above: i64) {
        if kept.is_empty() {
            return;
        }
        let began = Instant::now();
        self.judge(clauses(kept), format!(r#"{{"range":{{"_seq_no":{{"gt":{above}}}}}}}"#)).await;
        self.ctx.filters.metrics.increment_seconds.observe(began.elapsed().as_secs_f64());
    }

    /// Asks about the documents that were staged although their numbers are not above.
    pub(crate) async fn judge_owed(self: &Arc<Self>, kept: &[Arc<Numbers>]) {
        let owed = self.shard.filters.owed();
        if owed.is_empty() {
            return;
        }
        if owed.len() > MOST_OWED {
            self.forget(kept, "many documents came late");
        } else if !kept.is_empty() {
            let numbers: Vec<u64> = owed.iter().collect();
            for numbers in numbers.chunks(NUMBERS_AT_ONCE) {
                self.judge(clauses(kept), json!({"terms": {"_seq_no": numbers}}).to_string()).await;
            }
        }
        self.shard.filters.settled(&owed);
    }

    async fn judge(self: &Arc<Self>, clauses: Vec<Clause>, which: String) {
        let mut rest = &clauses[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |clause: &&Clause| {
                bytes += clause[0].filter().query().len();
                bytes <= BYTES_AT_ONCE
            };
            let (now, later) = rest.split_at(rest.iter().take(AT_ONCE).take_while(fits).count().max(1));
            self.judge_or_forget(now, &which).await;
            rest = later;
        }
    }

    /// A request that Elasticsearch refuses is parted until the clause stands alone that it refuses.
    fn judge_or_forget<'a>(self: &'a Arc<Self>, clauses: &'a [Clause], which: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let error = match self.judge_at_once(clauses, which).await {
                Ok(()) => return,
                Err(error) => error,
            };
            let refused = matches!(&error, PullError::Upstream(UpstreamError::Status { status, .. }) if status.is_client_error());
            if refused && clauses.len() > 1 {
                let (left, right) = clauses.split_at(clauses.len() / 2);
                self.judge_or_forget(left, which).await;
                self.judge_or_forget(right, which).await;
            } else {
                clauses.iter().for_each(|clause| self.forget(clause, &error.to_string()));
            }
        })
    }

    async fn judge_at_once(self: &Arc<Self>, clauses: &[Clause], which: &str) -> Result<(), PullError> {
        let named = |(name, clause): (usize, &Clause)| {
            format!(r#"{{"bool":{{"filter":[{}],"_name":"{name}"}}}}"#, clause[0].filter().query())
        };
        let named: Vec<String> = clauses.iter().enumerate().map(named).collect();
        let some = format!(r#"{{"bool":{{"should":[{}],"minimum_should_match":1}}}}"#, named.join(","));
        let query = all_of_text(&[which, &some]);
        let size = self.entry.info.load().max_result_window.clamp(1, 10_000);
        let mut body = order_body(size);
        let clauses: Arc<[Clause]> = clauses.into();
        loop {
            let bytes = self.pit.ask_about(&query, body.clone(), Format::Json).await?;
            let (reader, clauses) = (Arc::clone(self), Arc::clone(&clauses));
            let read = move || reader.add_judged(&bytes, &clauses);
            let (hits, after) = self.entry.tasks.spawn_blocking(read).await??;
            match after {
                Some(after) if hits == size => body["search_after"] = json!([after]),
                _ => return Ok(()),
            }
        }
    }

    fn add_judged(&self, bytes: &[u8], clauses: &[Clause]) -> Result<(usize, Option<i64>), UpstreamError> {
        let mut search: Search<Judged> = response::json(bytes)?;
        self.pit.note(&mut search)?;
        let hits = search.hits.hits;
        let mut found: Vec<RoaringTreemap> = vec![RoaringTreemap::new(); clauses.len()];
        for hit in &hits {
            for name in &hit.matched_queries {
                // Names inside a filter are its own; ours are numbers, and filters carry no names.
                if let Some(found) = name.parse().ok().and_then(|at: usize| found.get_mut(at)) {
                    found.insert(hit.seq_no);
                }
            }
        }
        for (clause, found) in clauses.iter().zip(&found).filter(|(_, found)| !found.is_empty()) {
            clause.iter().for_each(|numbers| numbers.add(found));
        }
        Ok((hits.len(), hits.last().map(|hit| hit.sort.0)))
    }

    fn forget(&self, kept: &[Arc<Numbers>], reason: &str) {
        for numbers in kept {
            tracing::info!(index = %self.entry.info.load().name, shard = self.shard.number, reason, filter = %numbers.filter(), "a filter is no longer kept up");
            self.shard.filters.forget(numbers);
            self.ctx.filters.metrics.evicted("increment");
        }
    }

    /// Everything up to `above` was asked about before, so what is staged there must be asked about.
    pub(crate) fn judged_up_to(&self, above: i64) {
        self.judged_up_to.store(above, Ordering::Release);
    }

    /// Notes documents that are about to be staged.
    pub(crate) fn owe(&self, numbers: impl Iterator<Item = u64>) {
        let judged_up_to = self.judged_up_to.load(Ordering::Acquire);
        self.shard.filters.owe(numbers.filter(|number| *number as i64 <= judged_up_to));
    }
}

fn clauses(kept: &[Arc<Numbers>]) -> Vec<Clause> {
    let mut clauses: BTreeMap<&str, Clause> = BTreeMap::new();
    for numbers in kept.iter().filter(|numbers| !numbers.is_forgotten()) {
        clauses.entry(numbers.filter().query()).or_default().push(Arc::clone(numbers));
    }
    clauses.into_values().collect()
}
