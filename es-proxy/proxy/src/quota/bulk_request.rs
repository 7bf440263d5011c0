//! A bulk under quotas or limits of items as a request: what must be changed of it so that its items can be judged, and what of its
//! response, so that the client sees the answer to what it sent.

use std::collections::BTreeMap;

use es_wire::{FilterPath, ItemRefusal, ItemSplicer, Params, RefusedItem};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use crate::body::{RequestBody, ResponseBody};
use crate::door::identity::security_is_on;
use crate::door::limits::items::ItemLimits;
use crate::intercept::own::answer;
use crate::intercept::privilege;
use crate::intercept::write::{JSON_OR_LINES, is_json};
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::quota::bulk::{Gate, GatedBody, Judge, SplicedItems};
use crate::quota::enforce::{Counted, Entered, FIRST_MEASUREMENT, catalog};
use crate::quota::refusal::{is_somebody, unreadable, writes};
use crate::respond;
use crate::telemetry::Served;

/// Largest response to a bulk that is filtered here.
const MAX_FILTERED: usize = 64 << 20;
/// Names of which Elasticsearch is asked whether the caller may write there at all.
const MAX_ASKED: usize = 16;

/// Lets items in while the body streams: under quotas, under limits, or both.
pub(crate) async fn bulk(
    worker: &Worker,
    index: Option<String>,
    request: ClientRequest,
    (quotas_hold, limits): (bool, Option<ItemLimits>),
) -> Entered {
    let ClientRequest { mut parts, body } = request;
    // Elasticsearch refuses a bulk without a content type.
    if !parts.headers.contains_key(CONTENT_TYPE) {
        return Entered::Free(ClientRequest { parts, body });
    }
    if !is_json(&parts.headers) {
        let why = "the items of a bulk cannot be told apart in this format";
        return Entered::Refused(unreadable(worker, &parts, why).await);
    }
    let judge = if quotas_hold {
        let catalog = catalog(worker).await;
        worker.shared.ledger.all_known(FIRST_MEASUREMENT).await;
        Judge::new(&worker.shared, catalog, limits)
    } else {
        Judge::of_limits(&worker.shared, limits)
    };
    let gate = Gate::new(index, judge);
    let encoding = parts.headers.get(CONTENT_ENCODING).cloned();
    let Some(gated) = GatedBody::new(body, encoding.as_ref(), gate.clone()) else {
        return Entered::Refused(unreadable(worker, &parts, "the content encoding is not understood").await);
    };
    let gated = RequestBody::gated(gated, worker.shared.config.max_body_bytes);
    let (body, filter) = match gated.begun().await {
        Ok(body) => (body, filter_of(&parts)),
        Err(failure) => return Entered::Refused(worker.failed(&parts.headers, &failure.into())),
    };
    if gate.refused_all() && body.is_empty() {
        if let Err(reply) = is_somebody(worker, &parts).await {
            return Entered::Refused(reply);
        }
        let mut refused = gate.end(false);
        tell_only_writers(worker, &parts, &mut refused).await;
        let items = ItemSplicer::without_elasticsearch(refused);
        let items = filter.map_or(items.clone(), |filter| filter.apply(&items, keeps_empty(worker)));
        let reason = if quotas_hold { "quota" } else { "items" };
        let (response, _) = answer(&parts, items, reason);
        return Entered::Refused((response, Served::new("refuse", reason)));
    }
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, ACCEPT_ENCODING] {
        parts.headers.remove(name);
    }
    if !takes_json(&parts.headers) {
        parts.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    }
    if let Some(path) = without_filter(&parts) {
        parts.uri = path;
    }
    Entered::Counted(ClientRequest { parts, body }, Counted::Bulk { gate, filter })
}

/// Whether the client takes an answer in JSON.
pub(crate) fn takes_json(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).is_none_or(accepts_json)
}

fn accepts_json(accept: &HeaderValue) -> bool {
    let text = accept.to_str().unwrap_or_default();
    let media_type = text.split(';').next().unwrap_or(text).trim();
    media_type == "*/*" || JSON_OR_LINES.iter().any(|known| media_type.eq_ignore_ascii_case(known))
}

/// What the client wants of the response.
pub(crate) fn filter_of(parts: &Parts) -> Option<FilterPath> {
    let params = Params::parse(parts.uri.query()?)?;
    let filter = FilterPath::parse(params.get("filter_path")?);
    (!filter.is_empty()).then_some(filter)
}

/// The URL without what would hide items from us, or print them in another format.
fn without_filter(parts: &Parts) -> Option<http::Uri> {
    let query = parts.uri.query()?;
    let is_other = |pair: &&str| !matches!(pair.split('=').next(), Some("filter_path" | "format"));
    let kept: Vec<&str> = query.split('&').filter(is_other).collect();
    let path = parts.uri.path();
    let uri = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    uri.parse().ok()
}

/// Whether this Elasticsearch shows arrays of which its filter left nothing.
pub(crate) fn keeps_empty(worker: &Worker) -> bool {
    let node = worker.shared.cluster.node();
    let capabilities = node.as_ref().and_then(|node| node.capabilities.as_ref());
    capabilities.is_some_and(|capabilities| capabilities.filter_keeps_empty_arrays)
}

/// The response to a bulk with what was refused in it, and without what the client does not want.
pub(crate) async fn bulk_response(
    worker: &Worker,
    parts: &Parts,
    reply: Reply,
    mut refused: Vec<RefusedItem>,
    filter: Option<FilterPath>,
) -> Reply {
    let (mut response, served) = reply;
    if !refused.is_empty() {
        tell_only_writers(worker, parts, &mut refused).await;
        response.headers_mut().remove(CONTENT_LENGTH);
        let body = std::mem::replace(response.body_mut(), ResponseBody::empty());
        *response.body_mut() = ResponseBody::Spliced(Box::new(SplicedItems::new(body, refused)));
    }
    let Some(filter) = filter else { return (response, served) };
    let (head, body) = response.into_parts();
    match body.collect(MAX_FILTERED).await {
        Ok(Some(whole)) => {
            let keep_empty = keeps_empty(worker);
            let filtered = worker.shared.background.spawn_blocking(move || {
                let text = String::from_utf8_lossy(&whole);
                filter.apply(&text, keep_empty)
            });
            let filtered = filtered.await.unwrap_or_default();
            let (mut response, _) = answer(parts, filtered, "quota");
            *response.status_mut() = head.status;
            (response, served)
        }
        // The items were written all the same.
        _ => {
            let reason = "the response is too large to be filtered";
            (respond::error(&parts.headers, StatusCode::BAD_GATEWAY, "status_exception", reason), served)
        }
    }
}

/// How much a tenant has is not for those who may not write there: they are told what Elasticsearch would tell.
async fn tell_only_writers(worker: &Worker, parts: &Parts, refused: &mut [RefusedItem]) {
    if !security_is_on(worker) {
        return;
    }
    let mut may_write: BTreeMap<Box<str>, bool> = BTreeMap::new();
    for item in refused.iter_mut().filter(|item| item.status == 403) {
        let may = match may_write.get(&item.index) {
            Some(may) => *may,
            None if may_write.len() >= MAX_ASKED => false,
            None => {
                let may = privilege::check(worker, parts, writes(&item.index)).await.is_ok();
                may_write.insert(item.index.clone(), may);
                may
            }
        };
        if !may {
            let reason = format!(
                "action [indices:data/write/bulk[s]] is unauthorized on indices [{}], this action is granted by the \
                 index privileges [create_doc,create,delete,index,write,all]",
                item.index
            );
            let error = serde_json::json!({"type": "security_exception", "reason": reason}).to_string();
            item.refuse_for(&ItemRefusal { status: 403, error });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str) -> Parts {
        http::Request::builder().uri(uri).body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_hides_items_is_taken_out_of_the_url() {
        for (uri, without) in [
            ("/_bulk?filter_path=errors&refresh=true", "/_bulk?refresh=true"),
            ("/a/_bulk?filter_path=items.*.error&format=yaml", "/a/_bulk"),
            ("/_bulk?pretty", "/_bulk?pretty"),
        ] {
            assert_eq!(without_filter(&parts(uri)).unwrap().to_string(), without);
        }
        assert!(without_filter(&parts("/_bulk")).is_none() && filter_of(&parts("/_bulk?pretty")).is_none());
        let filter = filter_of(&parts("/_bulk?filter_path=items.*.error")).unwrap();
        let text = r#"{"errors":true,"items":[{"index":{"status":201}},{"index":{"status":403,"error":{"type":"t"}}}]}"#;
        assert_eq!(filter.apply(text, true), r#"{"items":[{"index":{"error":{"type":"t"}}}]}"#);
    }

    #[test]
    fn formats_that_can_be_spliced() {
        for (accept, fine) in [
            ("*/*", true),
            ("application/json", true),
            ("application/vnd.elasticsearch+json; compatible-with=8", true),
            ("application/yaml", false),
            ("application/cbor", false),
        ] {
            assert_eq!(accepts_json(&HeaderValue::from_static(accept)), fine, "{accept}");
        }
    }
}
