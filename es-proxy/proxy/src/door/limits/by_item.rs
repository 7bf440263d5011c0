//! A bulk over a limit, refused item by item: 200, and 429 in each item, as Elasticsearch answers where a shard's
//! queue is full.
//!
//! Some helpers of official clients send refused *items* again and give up when the *request* was refused: the
//! bulk helper of JavaScript, the ingester of Java. Those of Python and Go send the request again, and take refused
//! items for final. Elasticsearch answers in both ways; here each gets the one that it recovers from. Who they are
//! they say in a header. Of the body nothing is held but which items it had.

use std::time::Duration;

use bytes::Bytes;
use es_wire::{BulkGate, ItemRefusal, ItemSplicer, RefusedItem};
use http::header::CONTENT_ENCODING;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;

use crate::classify::Route;
use crate::door::Refused;
use crate::door::limits::class::Refusal;
use crate::intercept::write::{Inflate, Share, Write, is_json};
use crate::proxy::{Reply, Worker};
use crate::quota::bulk_request::{filter_of, keeps_empty, takes_json};
use crate::respond;
use crate::telemetry::Served;

/// More items, or more bytes, are refused as a whole.
const MAX_ITEMS: usize = 20_000;
const MAX_BYTES: usize = 32 << 20;
/// So long may the body take.
const MAX_READING: Duration = Duration::from_secs(30);
/// So much is read in one go: well below 500 µs of work.
const STEP: usize = 64 << 10;
/// The same of a compressed body.
const COMPRESSED_STEP: usize = 8 << 10;

/// Whether a request is a bulk whose items its client sends again.
pub(crate) fn concerns(route: &Route, parts: &Parts) -> bool {
    matches!(route, Route::Write(Write { operation: None, .. }))
        && sends_items_again(&parts.headers)
        && is_json(&parts.headers)
        && takes_json(&parts.headers)
}

/// The response to such a bulk; one to the request as a whole where its items cannot be told.
pub(crate) async fn refuse<B>(
    worker: &Worker,
    route: &Route,
    parts: &Parts,
    mut body: B,
    refused: Box<Refused>,
) -> Reply
where
    B: Body<Data = Bytes> + Unpin,
{
    let by_item = match &refused.limit {
        Some(limit) => each(worker, route, parts, &mut body, limit).await,
        None => None,
    };
    by_item.unwrap_or(refused.reply)
}

async fn each<B>(
    worker: &Worker,
    route: &Route,
    parts: &Parts,
    body: &mut B,
    refusal: &Refusal,
) -> Option<Reply>
where
    B: Body<Data = Bytes> + Unpin,
{
    let Route::Write(Write { target, .. }) = route else { return None };
    let mut share = Share::of(&worker.shared.intercepted);
    let error = cause(&refusal.body)?;
    let reading = read(body, &parts.headers, target.clone(), &error, &mut share);
    let refused = tokio::time::timeout(MAX_READING, reading).await.ok()??;
    let (filter, keep_empty) = (filter_of(parts), keeps_empty(worker));
    let written = worker.shared.background.spawn_blocking(move || {
        let items = ItemSplicer::without_elasticsearch(refused);
        filter.map_or(items.clone(), |filter| filter.apply(&items, keep_empty))
    });
    let items = written.await.ok()?;
    let mut response = respond::too_many(&parts.headers, items.into(), refusal.retry_after);
    *response.status_mut() = StatusCode::OK;
    tracing::debug!(limit = refusal.reason.name(), "refused item by item");
    Some((response, Served::new("refuse", refusal.reason.name())))
}

/// What the response to a refused request says, for one item among several.
fn cause(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    body.pointer("/error/root_cause/0").map(ToString::to_string)
}

/// Whether the client says that it is a helper which sends refused items again, but no refused requests.
fn sends_items_again(headers: &HeaderMap) -> bool {
    let meta = headers.get("x-elastic-client-meta").and_then(|meta| meta.to_str().ok()).unwrap_or_default();
    let pairs = || meta.split(',').filter_map(|pair| pair.trim().split_once('='));
    let is = |key: &str, value: &str| pairs().any(|pair| pair == (key, value));
    let has = |key: &str| pairs().any(|(said, _)| said == key);
    // Java's ingester does not say what it is; its low-level client, which has no helpers, has no `hl`.
    has("js") && is("h", "bp") || has("jv") && is("hl", "2")
}

/// All items of a body, refused; `None` where they cannot be told apart, or are too many.
async fn read<B>(
    body: &mut B,
    headers: &HeaderMap,
    index: Option<String>,
    error: &str,
    share: &mut Share,
) -> Option<Vec<RefusedItem>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut inflate = Inflate::of(headers.get(CONTENT_ENCODING))?;
    let step = if inflate.is_needed() { COMPRESSED_STEP } else { STEP };
    let mut items = Items { gate: BulkGate::new(index), error, left: MAX_BYTES, beside: Vec::new() };
    while let Some(frame) = body.frame().await {
        let mut data = frame.ok()?.into_data().unwrap_or_default();
        while !data.is_empty() {
            let part = data.split_to(step.min(data.len()));
            let mut fine = true;
            inflate.feed(&part, |plain| fine = fine && items.feed(plain)).ok()?;
            if !fine || !share.resize(items.gate.held()) {
                return None;
            }
            tokio::task::yield_now().await;
        }
    }
    let mut fine = true;
    inflate.finish(|plain| fine = fine && items.feed(plain)).ok()?;
    (fine && items.finish()).then(|| items.gate.take_refused())
}

/// The items of a body while it is read.
struct Items<'e> {
    gate: BulkGate,
    error: &'e str,
    left: usize,
    /// What is no item: empty lines.
    beside: Vec<u8>,
}

impl Items<'_> {
    fn feed(&mut self, plain: &[u8]) -> bool {
        let Some(left) = self.left.checked_sub(plain.len()) else { return false };
        self.left = left;
        self.beside.clear();
        let refusal = |error: &str| ItemRefusal { status: 429, error: error.to_owned() };
        let read = self.gate.feed(plain, &mut self.beside, &mut |_| Err(refusal(self.error)));
        read.is_ok() && self.gate.refused() <= MAX_ITEMS
    }

    /// The end of the body; whether it was one of whole items.
    fn finish(&mut self) -> bool {
        self.beside.clear();
        let refusal = |error: &str| ItemRefusal { status: 429, error: error.to_owned() };
        let read = self.gate.finish(&mut self.beside, &mut |_| Err(refusal(self.error)));
        read.is_ok() && self.gate.refused() > 0 && self.beside.trim_ascii().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn an_item_says_what_the_response_would() {
        let body = es_wire::rejected_body("slow [\"a\"}],\"]");
        let cause = cause(body.as_bytes()).unwrap();
        assert_eq!(cause, r#"{"type":"es_rejected_execution_exception","reason":"slow [\"a\"}],\"]"}"#);
    }

    #[test]
    fn who_sends_items_again() {
        for (meta, again) in [
            ("es=9.4.3,js=20.0.0,t=9.4.0,hc=20.0.0,h=bp", true),
            ("es=8.19.2,js=20.0.0,t=8.11.0,hc=20.0.0", false),
            ("es=9.2.0,jv=25,t=9.2.0,hl=2,hc=5.2", true),
            ("es=8.18.0,jv=17,t=8.18.0,hc=4.1", false),
            ("es=9.5.1,py=3.11.7,t=9.4.2,ur=2.8.0,h=bp", false),
            ("es=9.2.0,go=1.26,t=8.7.0,hc=1.26,h=bp", false),
            ("", false),
            (",,=,js,h", false),
        ] {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("x-elastic-client-meta"),
                HeaderValue::from_static(meta),
            )]);
            assert_eq!(sends_items_again(&headers), again, "{meta}");
        }
        assert!(!sends_items_again(&HeaderMap::new()));
    }
}
