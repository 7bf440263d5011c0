//! Whether there is room for what a request adds. What takes away, and what only reads, always goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use es_wire::{Catalog, FilterPath, Operation};
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, Method};
use serde_json::Value;

use crate::door::Caller;
use crate::door::limits::items::ItemLimits;
use crate::door::tenant::Source;
use crate::intercept::own::{ask, encoded};
use crate::intercept::pass_search::understand;
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::quota::account::{Account, Admitted, Creations};
use crate::quota::amount::Amount;
use crate::quota::bulk::{Gate, vector_paths};
use crate::quota::bulk_request::{bulk, bulk_response};
use crate::quota::refusal::{creates, not_known, refused, unreadable, writes};
use crate::quota::request::{Adds, plain_name, restored, shards_in};
use crate::respond::is_json;

/// How long a request waits until usage was measured for the first time.
pub(crate) const FIRST_MEASUREMENT: Duration = Duration::from_secs(5);

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
    Created(Creations),
    Bulk { gate: Gate, filter: Option<FilterPath> },
}

/// What a request adds, until it has ended.
pub(crate) struct Held {
    account: Arc<Account>,
    admitted: Option<Admitted>,
    creations: Creations,
}

impl Held {
    fn end(mut self, came_about: bool) {
        if let Some(admitted) = self.admitted.take() {
            self.account.end(&admitted, came_about);
        }
        self.creations.settle();
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

/// Lets a request in, as far as quotas, and limits of a bulk's items, are concerned.
pub(crate) async fn enter(worker: &Worker, request: ClientRequest, limits: Option<ItemLimits>) -> Entered {
    let quotas_hold = !worker.shared.ledger.is_free() && !is_exempt(&request.parts);
    if !quotas_hold && limits.is_none() {
        return Entered::Free(request);
    }
    let uri = &request.parts.uri;
    match Adds::of(&request.parts.method, uri.path(), uri.query()) {
        Adds::Bulk { index } => bulk(worker, index, request, (quotas_hold, limits)).await,
        _ if !quotas_hold => Entered::Free(request),
        Adds::Nothing => Entered::Free(request),
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
            Self::Stored(held) => {
                if came_about && !held.creations.is_empty() {
                    worker.read_catalog_again().await;
                }
                held.end(came_about);
            }
            // The catalog was read again before the answer came here.
            Self::Created(mut creations) => creations.settle(),
            Self::Bulk { gate, filter } => {
                let refused = gate.end(came_about);
                let mut creations = gate.creations();
                if came_about && !creations.is_empty() {
                    worker.read_catalog_again().await;
                }
                creations.settle();
                if came_about {
                    return bulk_response(worker, headers, reply, refused, filter).await;
                }
            }
        }
        reply
    }
}

/// The names of the catalog, counted.
pub(crate) async fn catalog(worker: &Worker) -> Arc<Catalog> {
    let catalog = worker.shared.cluster.catalog();
    worker.shared.ledger.count_aside(&catalog, &worker.shared.background).await;
    catalog
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
        return Entered::Refused(not_known(worker, &request.parts, &account).await);
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
    let needs = writes(index);
    match account.admit(index, amount, census, catalog) {
        Ok(admitted) => {
            let mut creations = Creations::default();
            if admitted.creates() {
                creations.add(Arc::clone(&account), index);
            }
            let held = Held { account, admitted: Some(admitted), creations };
            Entered::Counted(request, Counted::Stored(held))
        }
        Err(exceeded) => Entered::Refused(refused(worker, &request.parts, needs, &exceeded).await),
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
    let needs = creates(index);
    match account.admit(&key, amount, census, &catalog) {
        Ok(admitted) => {
            let mut creations = Creations::default();
            if admitted.creates() {
                creations.add(account, &key);
            }
            Entered::Counted(request, Counted::Created(creations))
        }
        Err(exceeded) => Entered::Refused(refused(worker, &request.parts, needs, &exceeded).await),
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
        None => {
            Err(unreadable(worker, &request.parts, "how many shards are asked for must be said in JSON")
                .await)
        }
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
        return Entered::Refused(
            unreadable(worker, &request.parts, "where documents go must be said in JSON").await,
        );
    };
    let Some(name) = body["dest"]["index"].as_str().map(plain_name) else { return Entered::Free(request) };
    let catalog = worker.shared.cluster.catalog();
    let info = catalog.written(&name);
    let index = info.as_ref().map_or(&*name, |info| &*info.name);
    let Some(account) = worker.shared.ledger.owner(index) else { return Entered::Free(request) };
    if !worker.shared.ledger.known(&account, FIRST_MEASUREMENT).await {
        return Entered::Refused(not_known(worker, &request.parts, &account).await);
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
        return Entered::Refused(
            unreadable(worker, &request.parts, "what is restored must be said in JSON").await,
        );
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
    let mut creations = Creations::default();
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
        match account.admit(&key, amount, census, &catalog) {
            Ok(admitted) if admitted.creates() => creations.add(account, &key),
            Ok(_) => {}
            Err(exceeded) => {
                creations.settle();
                let needs = creates(index);
                return Entered::Refused(refused(worker, &request.parts, needs, &exceeded).await);
            }
        }
    }
    Entered::Counted(request, Counted::Created(creations))
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
