//! Learning what a refresh shows where the proxy saw most of it being written: the engine holds the
//! vectors already, so only orders travel. A page of orders costs Elasticsearch a tenth to a fiftieth of
//! a page of vectors: nothing stored is read, not even ids (`stored_fields: _none_`), since an order
//! alone names a version.

use std::sync::Arc;
use std::time::Instant;

use knn_types::{EngineError, SeqNo};
use serde_json::{Value, json};

use crate::pages::{Fields, PullError, Reader, all_of, listing_body, seq_nos_above};
use crate::response::{self, OrderHit, Search};
use crate::shard::FieldIndex;
use crate::upstream::Format;

/// Orders are asked for first where at least one in so many is held.
const WORTHWHILE: u64 = 20;
/// Numbers that one search names; Elasticsearch allows 65,536.
const NUMBERS_AT_ONCE: usize = 4_096;

/// A page of orders, and where the next one begins.
struct Orders {
    orders: Vec<SeqNo>,
    after: Option<i64>,
}

/// Orders that are not held, and the fields that lack them.
struct Lack {
    orders: Vec<SeqNo>,
    fields: Vec<Arc<FieldIndex>>,
}

impl Reader {
    /// Stages everything above `read_up_to`, out of what is held where that is worthwhile. `expected` is
    /// about how many documents that may be. Returns the highest `_seq_no` seen.
    pub(crate) async fn learn_above(
        self: &Arc<Self>,
        read_up_to: i64,
        expected: u64,
        fields: &Fields,
    ) -> Result<i64, PullError> {
        let query = all_of(vec![seq_nos_above(read_up_to)]);
        let of_fields = Arc::clone(fields);
        let held = move || of_fields.iter().map(|field| field.index.stats().held).max().unwrap_or(0);
        let held = self.entry.tasks.spawn_blocking(held).await?;
        if held == 0 || held.saturating_mul(WORTHWHILE) < expected {
            return Ok(self.learn(query, fields).await?.max_seq_no);
        }
        self.learn_by_order(query, fields).await
    }

    async fn learn_by_order(self: &Arc<Self>, query: Value, fields: &Fields) -> Result<i64, PullError> {
        let size = self.entry.info.load().max_result_window.clamp(1, 10_000);
        let mut body = listing_body(query, size);
        body["stored_fields"] = json!("_none_");
        let mut max_seq_no = -1;
        let mut bytes = self.pit.ask(body.clone(), Format::Json).await?;
        loop {
            let reader = Arc::clone(self);
            let page = self.entry.tasks.spawn_blocking(move || reader.orders(&bytes)).await??;
            let full = page.orders.len() == size;
            max_seq_no = page.orders.iter().map(|order| order.seq_no as i64).fold(max_seq_no, i64::max);
            let Some(after) = page.after.filter(|_| full) else {
                self.take_over(page.orders, fields).await?;
                return Ok(max_seq_no);
            };
            body["search_after"] = json!([after]);
            let (next, taken) =
                tokio::join!(self.pit.ask(body.clone(), Format::Json), self.take_over(page.orders, fields));
            taken?;
            bytes = next?;
        }
    }

    fn orders(&self, bytes: &[u8]) -> Result<Orders, PullError> {
        let mut search: Search<OrderHit> = response::json(bytes)?;
        self.pit.note(&mut search)?;
        let after = search.hits.hits.last().map(|hit| hit.sort.0);
        let order = |hit: &OrderHit| SeqNo { primary_term: hit.primary_term, seq_no: hit.seq_no };
        Ok(Orders { orders: search.hits.hits.iter().map(order).collect(), after })
    }

    /// Stages the held versions of these orders. Fields that lack the same ones come back together.
    async fn confirm(
        &self,
        orders: Vec<SeqNo>,
        fields: Vec<Arc<FieldIndex>>,
    ) -> Result<Vec<Lack>, PullError> {
        let confirm = move || {
            let mut lacking: Vec<(Vec<usize>, Vec<Arc<FieldIndex>>)> = Vec::new();
            for field in fields {
                let unknown = field.index.confirm(&orders)?;
                match lacking.iter_mut().find(|(same, _)| *same == unknown) {
                    _ if unknown.is_empty() => {}
                    Some((_, fields)) => fields.push(field),
                    None => lacking.push((unknown, vec![field])),
                }
            }
            let lack = |(unknown, fields): (Vec<usize>, _)| Lack {
                orders: unknown.into_iter().map(|at| orders[at]).collect(),
                fields,
            };
            Ok::<_, EngineError>(lacking.into_iter().map(lack).collect())
        };
        Ok(self.entry.tasks.spawn_blocking(confirm).await??)
    }

    /// Confirms orders, and fetches what is not held.
    async fn take_over(self: &Arc<Self>, orders: Vec<SeqNo>, fields: &Fields) -> Result<(), PullError> {
        let shown = orders.len();
        let mut lacking = self.confirm(orders, fields.to_vec()).await?;
        if !lacking.is_empty() && self.shard.written.lock().lately(Instant::now()) {
            self.ctx.acknowledgements.settle_late().await;
            let mut still = Vec::new();
            for lack in lacking {
                // A document is confirmed once: only the fields that lacked it are asked again.
                still.extend(self.confirm(lack.orders, lack.fields).await?);
            }
            lacking = still;
        }
        let most = lacking.iter().map(|lack| lack.orders.len()).max().unwrap_or(0);
        self.ctx.metrics.confirmed.inc_by((shown - most) as u64);
        for lack in lacking {
            let fields: Fields = lack.fields.into();
            let numbers: Vec<u64> = lack.orders.iter().map(|order| order.seq_no).collect();
            // One less than a page, so that a page that is not full ends the listing.
            let at_once = self.page_size(&fields).saturating_sub(1).clamp(1, NUMBERS_AT_ONCE);
            for numbers in numbers.chunks(at_once) {
                self.learn(all_of(vec![json!({"terms": {"_seq_no": numbers}})]), &fields).await?;
            }
        }
        Ok(())
    }
}
