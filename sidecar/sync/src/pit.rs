//! A point in time on the primary of one shard: everything asked of it sees one and the same refresh.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::context::Context;
use crate::response::{self, OpenedPit, Search};
use crate::upstream::{Format, UpstreamError, encoded};

/// How long Elasticsearch keeps a point in time after the newest request; pages come far faster.
const KEEP_ALIVE: &str = "2m";

const SEARCH: &str = "/_search?allow_partial_search_results=false";

pub(crate) struct Pit {
    ctx: Arc<Context>,
    /// Elasticsearch may hand out another id with each answer; the newest counts.
    id: Mutex<String>,
}

impl Pit {
    pub(crate) async fn open(
        ctx: &Arc<Context>,
        index: &str,
        shard: u32,
        node: &str,
    ) -> Result<Self, UpstreamError> {
        let preference = encoded(&format!("_shards:{shard}|_only_nodes:{node}"));
        let path = format!("/{}/_pit?keep_alive={KEEP_ALIVE}&preference={preference}", encoded(index));
        let bytes = ctx.upstream.post(&path, String::new(), Format::Json).await?;
        let opened: OpenedPit = response::json(&bytes)?;
        Ok(Self { ctx: Arc::clone(ctx), id: Mutex::new(opened.id) })
    }

    /// The answer to a search, unread: pages are large and are read on another thread. Pass the
    /// answer's id to [`Pit::checked`].
    pub(crate) async fn ask(&self, mut body: Value, format: Format) -> Result<Vec<u8>, UpstreamError> {
        body["pit"] = json!({"id": *self.id.lock(), "keep_alive": KEEP_ALIVE});
        self.ctx.upstream.post(SEARCH, body.to_string(), format).await
    }

    /// [`Pit::ask`] with a query that is text already, beside the rest of the body.
    pub(crate) async fn ask_about(
        &self,
        query: &str,
        mut rest: Value,
        format: Format,
    ) -> Result<Vec<u8>, UpstreamError> {
        rest["pit"] = json!({"id": *self.id.lock(), "keep_alive": KEEP_ALIVE});
        let rest = rest.to_string();
        let body = format!(r#"{{"query":{query},{}"#, &rest[1..]);
        self.ctx.upstream.post(SEARCH, body, format).await
    }

    /// A small answer, read at once.
    pub(crate) async fn search(&self, body: Value) -> Result<Search, UpstreamError> {
        let bytes = self.ask(body, Format::Json).await?;
        let mut search: Search = response::json(&bytes)?;
        self.note(&mut search)?;
        Ok(search)
    }

    /// Refuses an answer that does not speak for the whole shard, and remembers the newest id.
    pub(crate) fn note<H>(&self, search: &mut Search<H>) -> Result<(), UpstreamError> {
        if search.timed_out || search.shards.total != 1 || search.shards.successful != 1 {
            return Err(UpstreamError::Unreadable("the answer does not cover the shard".to_owned()));
        }
        if let Some(id) = search.pit_id.take() {
            *self.id.lock() = id;
        }
        Ok(())
    }

    /// Frees it. It would expire by itself, but an open one keeps old segments alive.
    pub(crate) async fn close(&self) {
        let body = json!({"id": *self.id.lock()}).to_string();
        if let Err(error) = self.ctx.upstream.delete("/_pit", body).await {
            tracing::debug!(%error, "closing a point in time failed; it expires by itself");
        }
    }
}
