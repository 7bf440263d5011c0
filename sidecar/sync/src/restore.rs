//! Options that somebody took away behind our back. Elasticsearch drops a field's `meta`, and with it our key,
//! when a mapping update names the field without it; through us that cannot happen. The field goes on being ours
//! here, somebody is told, and the key is put back under our own credentials.
//!
//! Not a loss: a field that was released (its key says so), an index that is gone or made anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use es_wire::{Catalog, KeyChange, Origin, VectorField, change_key};
use parking_lot::Mutex;
use reqwest::StatusCode;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::context::Context;
use crate::upstream::{UpstreamError, encoded};

/// Tries per loss; with the pauses between them about a minute.
const ATTEMPTS: u32 = 12;
/// Fields that are restored at the same time.
const AT_ONCE: usize = 4;

/// Uuid of the index, path of the field.
type Key = (Arc<str>, Arc<str>);

/// Fields that lost their key and have not got it back.
pub(crate) struct Losses {
    known: Mutex<HashMap<Key, VectorField>>,
    turns: Semaphore,
}

impl Default for Losses {
    fn default() -> Self {
        Self { known: Mutex::default(), turns: Semaphore::new(AT_ONCE) }
    }
}

/// A loss seen for the first time.
pub(crate) struct Lost {
    key: Key,
    index: Arc<str>,
    field: VectorField,
}

/// Keeps in `now` what lost its key since the catalog before, and says which losses are new.
pub(crate) fn carry_over(ctx: &Context, now: &mut Catalog) -> Vec<Lost> {
    let before = ctx.catalog.load();
    let mut known = ctx.losses.known.lock();
    let (mut still, mut new) = (HashMap::new(), Vec::new());
    for index in before.adopted() {
        for (path, field) in &index.fields {
            if !is_lost(now, index, path, field) {
                continue;
            }
            let key = (Arc::clone(&index.uuid), Arc::clone(path));
            if !known.contains_key(&key) {
                let (key, index) = (key.clone(), Arc::clone(&index.name));
                new.push(Lost { key, index, field: field.clone() });
            }
            now.keep(&index.name, path, field.clone());
            still.insert(key, field.clone());
        }
    }
    *known = still;
    new
}

fn is_lost(now: &Catalog, before: &es_wire::IndexInfo, path: &str, field: &VectorField) -> bool {
    let Some(index) = now.index(&before.name).filter(|index| index.uuid == before.uuid) else { return false };
    let Some(foreign) = index.foreign.get(path) else { return false };
    // What a pattern adopted never had a key.
    field.origin != Origin::Pattern && !foreign.released && foreign.field.is_same_field(field)
}

/// Tells of each loss, and begins to restore it.
pub(crate) fn begin(ctx: &Arc<Context>, lost: Vec<Lost>) {
    for loss in lost {
        ctx.metrics.options_lost.inc();
        tracing::warn!(
            index = %loss.index,
            field = %loss.key.1,
            options = %loss.field.stored,
            "a mapping update past us took the field's options away; they are restored, and its index goes on serving"
        );
        let ctx = Arc::clone(ctx);
        ctx.tasks.clone().spawn(async move { restore(&ctx, &loss).await });
    }
}

async fn restore(ctx: &Context, loss: &Lost) {
    let Ok(_turn) = ctx.losses.turns.acquire().await else { return };
    let mut last = None;
    for attempt in 0..ATTEMPTS {
        if !ctx.losses.known.lock().contains_key(&loss.key) {
            // Gone, released, or restored by another node.
            return;
        }
        match put_back(ctx, loss).await {
            Ok(()) => {
                ctx.metrics.options_restored.inc();
                tracing::info!(index = %loss.index, field = %loss.key.1, "the field's options are restored");
                ctx.invalidations.look_again();
                return;
            }
            Err(error) => {
                ctx.metrics.error("restore");
                last = Some(error);
            }
        }
        let pause = (Duration::from_millis(50) * 2u32.saturating_pow(attempt)).min(ctx.config.retry_max);
        tokio::select! {
            () = ctx.cancel.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
    if let Some(error) = last {
        tracing::error!(
            index = %loss.index, field = %loss.key.1, options = %loss.field.stored, %error,
            "the field's options could not be restored; its index serves until this process ends: adopt it again"
        );
    }
}

/// One update that repeats all that the field is. Where Elasticsearch cannot go back to the index type that the
/// field had, it keeps the one that it has now, and the field is adopted beside it.
async fn put_back(ctx: &Context, loss: &Lost) -> Result<(), UpstreamError> {
    let Some(caps) = ctx.node.load().as_ref().and_then(|node| node.caps) else {
        return Err(UpstreamError::Unreadable("the version is not known".to_owned()));
    };
    let name = encoded(&loss.index);
    let found = ctx.upstream.get(&format!("/{name}?filter_path=*.settings.index.uuid,*.mappings")).await?;
    let found = String::from_utf8(found).map_err(|error| UpstreamError::Unreadable(error.to_string()))?;
    if !found.contains(&*loss.key.0) {
        // Another index has the name by now.
        return Ok(());
    }
    let update = |stored: &str, index_options| {
        change_key(&found, &loss.key.1, KeyChange::Restore { stored, index_options }, &caps)
            .map_err(|error| UpstreamError::Unreadable(error.reason))
    };
    let path = format!("/{name}/_mapping");
    let Some(body) = update(&loss.field.stored, loss.field.index_options.as_deref())? else { return Ok(()) };
    match ctx.upstream.put(&path, body).await {
        Err(UpstreamError::Status { status: StatusCode::BAD_REQUEST, .. }) => {
            let Some(body) = update(&loss.field.stored_beside(), None)? else { return Ok(()) };
            ctx.upstream.put(&path, body).await.map(drop)
        }
        done => done.map(drop),
    }
}
