//! Whether there is room for what a request adds. What takes away, and what only reads, always goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use es_wire::{Catalog, FilterPath, ItemSplicer, Operation, Params};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;

use crate::body::{RequestBody, ResponseBody};
use crate::door::Caller;
use crate::door::tenant::Source;
use crate::intercept::own::{answer, ask, encoded, refuse};
use crate::intercept::pass_search::understand;
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::quota::account::{Account, Admitted};
use crate::quota::amount::{Amount, Exceeded};
use crate::quota::bulk::{Gate, GatedBody, Judge, SplicedItems, vector_paths};
use crate::quota::request::{Adds, plain_name, restored, shards_in};
use crate::respond::{self, is_json, is_media_type};
use crate::telemetry::Served;

/// How long a request waits until usage was measured for the first time.
const FIRST_MEASUREMENT: Duration = Duration::from_secs(5);
/// Largest response to a bulk that is filtered here.
const MAX_FILTERED: usize = 64 << 20;

/// What becomes of a request.
pub(crate) enum Entered {
    /// Nothing is counted.
    Free(ClientRequest),
    /// It is served, and what it adds is counted until then.
    Counted(ClientRequest, Counted),
    Refused(Reply),
}

/// A request that was let in.
pub(crate) enum Counted {
    Stored(Held),
    Created { creations: Vec<(Arc<Account>, Box<str>)>, stay: bool },
    Bulk { gate: Gate, filter: Option<FilterPath> },
}

/// What a request adds, until it has ended.
pub(crate) struct Held {
    account: Arc<Account>,
    admitted: Option<Admitted>,
    /// The index that it may create.
    creates: Option<Box<str>>,
}

impl Held {
    fn end(mut self, came_about: bool) {
        if let Some(admitted) = self.admitted.take() {
            self.account.end(&admitted, came_about);
        }
        if let Some(index) = self.creates.take().filter(|_| !came_about) {
            self.account.created(&index);
        }
    }
}

impl Drop for Held {
    /// Nobody knows how it ended: it may have come about.
    fn drop(&mut self) {
        if let Some(admitted) = self.admitted.take() {
            self.account.end(&admitted, true);
        }
    }
}

/// Lets a request in, as far as quotas are concerned. Costs one load where there are none.
pub(crate) async fn enter(worker: &Worker, request: ClientRequest) -> Entered {
    if worker.shared.ledger.is_free() || is_exempt(&request.parts) {
        return Entered::Free(request);
    }
    let uri = &request.parts.uri;
    match Adds::of(&request.parts.method, uri.path(), uri.query()) {
        Adds::Nothing => Entered::Free(request),
        Adds::Bulk { index } => bulk(worker, index, request).await,
        Adds::Document { index, is_update } => document(worker, &index, is_update, request).await,
        Adds::Index { name, shards_of, is_rollover } => {
            creation(worker, &name, shards_of.as_deref(), is_rollover, request).await
        }
        Adds::Reindex => reindex(worker, request).await,
        Adds::Restore { repository, snapshot } => restore(worker, &repository, &snapshot, request).await,
    }
}

/// A tenant of whom somebody wrote down that it has no quotas: its requests are not looked at.
fn is_exempt(parts: &Parts) -> bool {
    Caller::of(parts).is_some_and(|caller| {
        caller.tenant.source() != Source::BuiltIn && caller.tenant.spec().quotas.is_empty()
    })
}

impl Counted {
    /// The request has been answered; the response as the client shall get it.
    pub(crate) async fn settle(self, worker: &Worker, headers: &Parts, reply: Reply) -> Reply {
        let came_about = reply.0.status().is_success();
        match self {
            Self::Stored(held) => held.end(came_about),
            Self::Created { creations, stay } => {
                for (account, index) in creations.iter().filter(|_| !came_about || !stay) {
                    account.created(index);
                }
            }
            Self::Bulk { gate, filter } => {
                let refused = gate.end(came_about);
                if came_about {
                    return bulk_response(worker, headers, reply, refused, filter).await;
                }
            }
        }
        reply
    }
}

/// The names of the catalog, counted.
async fn catalog(worker: &Worker) -> Arc<Catalog> {
    let catalog = worker.shared.cluster.catalog();
    worker.shared.ledger.count_aside(&catalog, &worker.shared.background).await;
    catalog
}

async fn bulk(worker: &Worker, index: Option<String>, request: ClientRequest) -> Entered {
    let ClientRequest { mut parts, body } = request;
    // Elasticsearch refuses a bulk without a content type.
    if !parts.headers.contains_key(CONTENT_TYPE) {
        return Entered::Free(ClientRequest { parts, body });
    }
    if !is_media_type(&parts.headers, LINES) {
        return Entered::Refused(unreadable(
            &parts,
            "the items of a bulk cannot be told apart in this format",
        ));
    }
    let catalog = catalog(worker).await;
    worker.shared.ledger.all_known(FIRST_MEASUREMENT).await;
    let gate = Gate::new(index, Judge::new(&worker.shared, catalog));
    let encoding = parts.headers.get(CONTENT_ENCODING).cloned();
    let Some(gated) = GatedBody::new(body, encoding.as_ref(), gate.clone()) else {
        return Entered::Refused(unreadable(&parts, "the content encoding is not understood"));
    };
    let gated = RequestBody::gated(gated, worker.shared.config.max_body_bytes);
    let (body, filter) = match gated.begun().await {
        Ok(body) => (body, filter_of(&parts)),
        Err(failure) => return Entered::Refused(worker.failed(&parts.headers, &failure.into())),
    };
    if gate.refused_all() && body.is_empty() {
        let items = ItemSplicer::without_elasticsearch(gate.end(false));
        let items = filter.map_or(items.clone(), |filter| filter.apply(&items, keeps_empty(worker)));
        let (response, _) = answer(&parts, items, "quota");
        return Entered::Refused((response, Served::new("refuse", "quota")));
    }
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, ACCEPT_ENCODING] {
        parts.headers.remove(name);
    }
    if !parts.headers.get(ACCEPT).is_none_or(accepts_json) {
        parts.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    }
    if let Some(path) = without_filter(&parts) {
        parts.uri = path;
    }
    Entered::Counted(ClientRequest { parts, body }, Counted::Bulk { gate, filter })
}

/// Formats whose lines are read here.
const LINES: &[&str] = &[
    "application/json",
    "application/x-ndjson",
    "application/vnd.elasticsearch+json",
    "application/vnd.elasticsearch+x-ndjson",
];

fn accepts_json(accept: &HeaderValue) -> bool {
    let text = accept.to_str().unwrap_or_default();
    let media_type = text.split(';').next().unwrap_or(text).trim();
    media_type == "*/*" || LINES.iter().any(|known| media_type.eq_ignore_ascii_case(known))
}

fn filter_of(parts: &Parts) -> Option<FilterPath> {
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

fn keeps_empty(worker: &Worker) -> bool {
    let node = worker.shared.cluster.node();
    let capabilities = node.as_ref().and_then(|node| node.capabilities.as_ref());
    capabilities.is_some_and(|capabilities| capabilities.filter_keeps_empty_arrays)
}

/// The response to a bulk with what was refused in it, and without what the client does not want.
async fn bulk_response(
    worker: &Worker,
    parts: &Parts,
    reply: Reply,
    refused: Vec<es_wire::RefusedItem>,
    filter: Option<FilterPath>,
) -> Reply {
    let (mut response, served) = reply;
    if !refused.is_empty() {
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

async fn document(worker: &Worker, name: &str, is_update: bool, request: ClientRequest) -> Entered {
    let catalog = worker.shared.cluster.catalog();
    let name = plain_name(name);
    let info = catalog.written(&name);
    let index = info.as_ref().map_or(&*name, |info| &*info.name);
    let Some(account) = worker.shared.ledger.owner(index) else { return Entered::Free(request) };
    let creates = info.is_none() && account.limits_creation();
    if !creates && !account.limits_ingest() {
        return Entered::Free(request);
    }
    if !worker.shared.ledger.known(&account, FIRST_MEASUREMENT).await {
        return Entered::Refused(not_known(&request.parts, &account));
    }
    let declared = length(&request.parts.headers);
    let (request, text) = match understand(worker, request).await {
        Ok(read) => read,
        Err(reply) => return Entered::Refused(reply),
    };
    let paths = info.as_deref().map(vector_paths).unwrap_or_default();
    let operation = if is_update { Operation::Update } else { Operation::Index };
    // What is not JSON is no object either, and counts as much as it may hold.
    let count = paths.count(operation, text.as_deref().unwrap_or_default());
    let bytes = text.map_or(declared.unwrap_or_default(), |text| text.len() as u64);
    let amount = Amount {
        indices: u64::from(creates),
        shards: u64::from(creates),
        vectors: count.vectors,
        vector_bytes: count.bytes,
        document_bytes: bytes,
    };
    counted(worker, request, account, index, amount, &catalog).await
}

/// Lets in what adds so much to an index.
async fn counted(
    worker: &Worker,
    request: ClientRequest,
    account: Arc<Account>,
    index: &str,
    amount: Amount,
    catalog: &Arc<Catalog>,
) -> Entered {
    let ledger = &worker.shared.ledger;
    ledger.count_aside(catalog, &worker.shared.background).await;
    let census = ledger.count(&account, catalog);
    match account.admit(index, amount, census, catalog) {
        Ok(admitted) => {
            let creates = (amount.indices > 0).then(|| index.into());
            let held = Held { account, admitted: Some(admitted), creates };
            Entered::Counted(request, Counted::Stored(held))
        }
        Err(exceeded) => Entered::Refused(refused(worker, &request.parts, &exceeded)),
    }
}

async fn creation(
    worker: &Worker,
    name: &str,
    shards_of: Option<&str>,
    is_rollover: bool,
    request: ClientRequest,
) -> Entered {
    let known = worker.shared.cluster.catalog();
    let name = plain_name(name);
    let info = known.written(&name);
    let index = info.as_ref().filter(|_| is_rollover).map_or(&*name, |info| &*info.name);
    let Some(account) = worker.shared.ledger.owner(index).filter(|account| account.limits_creation()) else {
        return Entered::Free(request);
    };
    // An index that is there is Elasticsearch's to refuse.
    if !is_rollover && info.is_some() {
        return Entered::Free(request);
    }
    let source = shards_of.and_then(|source| known.written(source)).or(info.clone().filter(|_| is_rollover));
    let (request, shards) = match asked_shards(worker, &account, request).await {
        Ok((request, asked)) => {
            (request, asked.or(source.map(|source| u64::from(source.shards))).unwrap_or(1))
        }
        Err(reply) => return Entered::Refused(reply),
    };
    let catalog = catalog(worker).await;
    let census = worker.shared.ledger.count(&account, &catalog);
    let key = if is_rollover { rollover_key(index) } else { index.to_owned() };
    let amount = Amount { indices: 1, shards, ..Amount::default() };
    match account.admit(&key, amount, census, &catalog) {
        Ok(_) => {
            let creations = vec![(account, key.into())];
            // The name of what a rollover creates is not known; the catalog is read again before the client hears.
            Entered::Counted(request, Counted::Created { creations, stay: !is_rollover })
        }
        Err(exceeded) => Entered::Refused(refused(worker, &request.parts, &exceeded)),
    }
}

/// Stands for the index that a rollover creates; no index is called so.
fn rollover_key(index: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{index}/_rollover/{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// How many shards the body asks for, where they are limited.
async fn asked_shards(
    worker: &Worker,
    account: &Account,
    request: ClientRequest,
) -> Result<(ClientRequest, Option<u64>), Reply> {
    if account.quotas.shards.is_none() || request.body.is_empty() {
        return Ok((request, None));
    }
    let is_json = is_json(&request.parts.headers);
    let (request, text) = understand(worker, request).await?;
    let body = text.filter(|_| is_json).and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    match body {
        Some(body) => Ok((request, shards_in(&body))),
        None => Err(unreadable(&request.parts, "how many shards are asked for must be said in JSON")),
    }
}

/// Documents that come from elsewhere are counted once they are there; a tenant that has no room for one gets none.
async fn reindex(worker: &Worker, request: ClientRequest) -> Entered {
    let (request, text) = match understand(worker, request).await {
        Ok(read) => read,
        Err(reply) => return Entered::Refused(reply),
    };
    let body = text.as_deref().and_then(|text: &[u8]| serde_json::from_slice::<Value>(text).ok());
    let Some(body) = body else {
        return Entered::Refused(unreadable(&request.parts, "where documents go must be said in JSON"));
    };
    let Some(name) = body["dest"]["index"].as_str().map(plain_name) else { return Entered::Free(request) };
    let catalog = worker.shared.cluster.catalog();
    let info = catalog.written(&name);
    let index = info.as_ref().map_or(&*name, |info| &*info.name);
    let Some(account) = worker.shared.ledger.owner(index) else { return Entered::Free(request) };
    if !worker.shared.ledger.known(&account, FIRST_MEASUREMENT).await {
        return Entered::Refused(not_known(&request.parts, &account));
    }
    let creates = u64::from(info.is_none());
    let paths = info.as_deref().map(vector_paths).unwrap_or_default();
    let one = paths.count(Operation::Index, b"");
    let amount = Amount {
        indices: creates,
        shards: creates,
        vectors: one.vectors,
        vector_bytes: one.bytes,
        document_bytes: 1,
    };
    counted(worker, request, account, index, amount, &catalog).await
}

/// A restore creates what the snapshot holds and the body wants. Under other names it counts for the caller's tenant.
async fn restore(worker: &Worker, repository: &str, snapshot: &str, request: ClientRequest) -> Entered {
    let (request, text) = match understand(worker, request).await {
        Ok(read) => read,
        Err(reply) => return Entered::Refused(reply),
    };
    let body = match text.as_deref() {
        Some([]) => Some(Value::Null),
        Some(text) => serde_json::from_slice::<Value>(text).ok(),
        None => None,
    };
    let Some(body) = body else {
        return Entered::Refused(unreadable(&request.parts, "what is restored must be said in JSON"));
    };
    let path =
        format!("/_snapshot/{}/{}?filter_path=snapshots.indices", encoded(repository), encoded(snapshot));
    let listed = match ask(worker, &request.parts, Method::GET, &path, None).await {
        Ok(text) => serde_json::from_str::<Value>(&text).unwrap_or_default(),
        Err(reply) => return Entered::Refused(reply),
    };
    let all = listed["snapshots"][0]["indices"].as_array().cloned().unwrap_or_default();
    let all: Vec<String> = all.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
    let renamed = ["rename_pattern", "renamed_index"].iter().any(|key| body.get(key).is_some());
    let ledger = &worker.shared.ledger;
    let own = Caller::of(&request.parts).and_then(|caller| ledger.account(caller.tenant.name()));
    let catalog = catalog(worker).await;
    let mut creations: Vec<(Arc<Account>, Box<str>)> = Vec::new();
    for index in restored(&all, &body) {
        let account = if renamed { own.clone() } else { ledger.owner(index) };
        let Some(account) = account.filter(|account| account.limits_creation()) else { continue };
        // One that is there is closed, and stays one.
        if !renamed && catalog.written(index).is_some() {
            continue;
        }
        let census = ledger.count(&account, &catalog);
        let amount = Amount { indices: 1, shards: 1, ..Amount::default() };
        let key = if renamed { rollover_key(index) } else { index.to_owned() };
        if let Err(exceeded) = account.admit(&key, amount, census, &catalog) {
            creations.iter().for_each(|(account, index)| account.created(index));
            return Entered::Refused(refused(worker, &request.parts, &exceeded));
        }
        creations.push((account, key.into()));
    }
    Entered::Counted(request, Counted::Created { creations, stay: !renamed })
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn refused(worker: &Worker, parts: &Parts, exceeded: &Exceeded) -> Reply {
    worker.shared.ledger.refused(&exceeded.tenant, exceeded.resource);
    let response = respond::error_with_body(&parts.headers, StatusCode::FORBIDDEN, exceeded.body());
    (response, Served::new("refuse", "quota"))
}

/// What cannot be counted is not let in.
fn unreadable(parts: &Parts, why: &str) -> Reply {
    let reason = format!("quotas are in force, and {why}; use application/json or application/x-ndjson");
    refuse(parts, StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type_header_exception", &reason)
}

/// While usage is not known there is no telling whether there is room.
pub(crate) fn unknown_usage(tenant: &str) -> String {
    format!("usage of tenant [{tenant}] has not been measured yet, and its quotas are in force")
}

fn not_known(parts: &Parts, account: &Account) -> Reply {
    let reason = unknown_usage(&account.tenant);
    refuse(parts, StatusCode::SERVICE_UNAVAILABLE, "status_exception", &reason)
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
