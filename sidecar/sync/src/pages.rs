//! Reading documents of one shard out of a point in time, page by page, and staging what they say.
//!
//! Pages come in `_shard_doc` order: a point in time never changes, so the order in which its
//! documents are read does not matter, and this order costs Elasticsearch the least. While a page is
//! staged, the next one is on its way.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use es_wire::Similarity;
use knn_types::{Change, ChangeKind, DocKey, Element, EngineError, SeqNo};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinError;

use crate::context::Context;
use crate::pit::Pit;
use crate::registry::IndexEntry;
use crate::response::{self, Hit, Search};
use crate::shard::{FieldIndex, Shard};
use crate::upstream::{Format, UpstreamError};

/// Vectors of a document below `nested`, until some were seen.
const NESTED_VECTORS: usize = 16;
/// Bytes of a hit besides its vectors, about.
const HIT_BYTES: usize = 150;
/// Time between two log lines of a first build.
const PROGRESS_EVERY: Duration = Duration::from_secs(3);

/// Why a pull ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("engine call ended badly: {0}")]
    Blocking(#[from] JoinError),
    /// Elasticsearch shows older versions than we hold: the shard went back in time.
    #[error("the shard shows an older state than the one held")]
    Rewound(Arc<FieldIndex>),
    #[error("the index is closed or gone")]
    Cancelled,
    #[error("the first build was cancelled")]
    BuildCancelled,
}

/// Fields that are read together.
pub(crate) type Fields = Arc<[Arc<FieldIndex>]>;

/// What reading brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Learnt {
    pub(crate) documents: u64,
    pub(crate) max_seq_no: i64,
}

/// One pull's access to its point in time.
pub(crate) struct Reader {
    pub(crate) ctx: Arc<Context>,
    pub(crate) entry: Arc<IndexEntry>,
    pub(crate) shard: Arc<Shard>,
    pub(crate) pit: Pit,
    /// Whether vectors come as CBOR doc values (8.17 and later) or out of the JSON source.
    docvalues: bool,
    /// Vectors that documents of the last page had below `nested`, in the mean.
    nested_vectors: AtomicUsize,
    logged: Mutex<Instant>,
    /// Filters are asked about everything above; see [`crate::filters`].
    pub(crate) judged_up_to: AtomicI64,
}

struct Page {
    hits: usize,
    after: Option<i64>,
    max_seq_no: i64,
    /// Per field.
    changes: Vec<Vec<Change>>,
}

impl Reader {
    pub(crate) fn new(
        ctx: &Arc<Context>,
        entry: &Arc<IndexEntry>,
        shard: &Arc<Shard>,
        pit: Pit,
    ) -> Arc<Self> {
        let docvalues =
            ctx.node.load().as_ref().and_then(|node| node.caps).is_some_and(|caps| caps.docvalue_vectors);
        Arc::new(Self {
            ctx: Arc::clone(ctx),
            entry: Arc::clone(entry),
            shard: Arc::clone(shard),
            pit,
            docvalues,
            nested_vectors: AtomicUsize::new(NESTED_VECTORS),
            logged: Mutex::new(Instant::now()),
            judged_up_to: AtomicI64::new(-1),
        })
    }

    /// Stages what `query` finds: the vector of each field, or its absence.
    pub(crate) async fn learn(self: &Arc<Self>, query: Value, fields: &Fields) -> Result<Learnt, PullError> {
        let format = if self.docvalues { Format::Cbor } else { Format::Json };
        let mut size = self.page_size(fields);
        let mut body = listing_body(query, size);
        let names = |of_source: bool| -> Vec<&str> {
            let chosen = fields.iter().filter(|field| self.is_in_source(field) == of_source);
            chosen.map(|field| &*field.key.field).collect()
        };
        let (of_source, docvalues) = (names(true), names(false));
        if !docvalues.is_empty() {
            body["docvalue_fields"] = json!(docvalues);
        }
        if !of_source.is_empty() {
            body["_source"] = json!(of_source);
        }
        let mut learnt = Learnt { documents: 0, max_seq_no: -1 };
        let mut bytes = self.pit.ask(body.clone(), format).await?;
        loop {
            let page = self.digest(bytes, format, fields).await?;
            learnt.documents += page.hits as u64;
            learnt.max_seq_no = learnt.max_seq_no.max(page.max_seq_no);
            self.progress(page.hits as u64);
            let staged = self.stage(fields, page.changes);
            let Some(after) = page.after.filter(|_| page.hits == size) else {
                staged.await?;
                return Ok(learnt);
            };
            body["search_after"] = json!([after]);
            size = self.page_size(fields);
            body["size"] = json!(size);
            let (next, staged) = tokio::join!(self.pit.ask(body.clone(), format), staged);
            staged?;
            bytes = next?;
        }
    }

    /// Ids and orders of what `query` finds.
    pub(crate) async fn list(self: &Arc<Self>, query: Value) -> Result<HashMap<DocKey, SeqNo>, PullError> {
        let size = self.entry.info.load().max_result_window.clamp(1, 10_000);
        let mut body = listing_body(query, size);
        let mut found = HashMap::new();
        loop {
            let bytes = self.pit.ask(body.clone(), Format::Json).await?;
            let reader = Arc::clone(self);
            let hits = self.entry.tasks.spawn_blocking(move || reader.hits(&bytes, Format::Json)).await??;
            let full = hits.len() == size;
            let after = hits.last().and_then(|hit| hit.sort.first().copied());
            found.extend(hits.into_iter().map(|hit| (key_of(&hit), order_of(&hit))));
            match after {
                Some(after) if full => body["search_after"] = json!([after]),
                _ => return Ok(found),
            }
        }
    }

    pub(crate) fn page_size(&self, fields: &Fields) -> usize {
        // A float takes 5 bytes in CBOR (9 out of the source) and about 12 in JSON, a small integer 2 and
        // about 4.
        let value_bytes = |field: &FieldIndex| match (field.spec.element, self.docvalues) {
            (Element::Float, true) if field.nested.is_some() => 9,
            (Element::Float, true) => 5,
            (Element::Float, false) => 12,
            (_, true) => 2,
            (_, false) => 4,
        };
        let vector_bytes = |field: &Arc<FieldIndex>| {
            let vectors =
                if field.nested.is_some() { self.nested_vectors.load(Ordering::Relaxed) } else { 1 };
            vectors * field.spec.values() * value_bytes(field)
        };
        let hit = HIT_BYTES + fields.iter().map(vector_bytes).sum::<usize>();
        let window = self.entry.info.load().max_result_window.min(10_000);
        (self.ctx.config.page_bytes / hit).clamp(1, window.max(1))
    }

    /// Whether a field is read out of the source. Doc values do not tell which vectors belong to a document;
    /// inner hits would, but only the first hundred.
    fn is_in_source(&self, field: &FieldIndex) -> bool {
        !self.docvalues || field.nested.is_some()
    }

    async fn digest(
        self: &Arc<Self>,
        bytes: Vec<u8>,
        format: Format,
        fields: &Fields,
    ) -> Result<Page, PullError> {
        let reader = Arc::clone(self);
        let fields = Arc::clone(fields);
        self.entry
            .tasks
            .spawn_blocking(move || {
                let hits = reader.hits(&bytes, format)?;
                let page = page_of(hits, &fields);
                if let Some(mean) = nested_vectors(&page, &fields) {
                    reader.nested_vectors.store(mean, Ordering::Relaxed);
                }
                Ok(page)
            })
            .await?
    }

    fn hits(&self, bytes: &[u8], format: Format) -> Result<Vec<Hit>, UpstreamError> {
        let mut search: Search = response::read(bytes, format)?;
        self.pit.note(&mut search)?;
        Ok(search.hits.hits)
    }

    pub(crate) async fn stage(&self, fields: &Fields, changes: Vec<Vec<Change>>) -> Result<(), PullError> {
        let shown = |change: &&Change| matches!(change.kind, ChangeKind::Upsert(_));
        self.owe(changes.iter().flatten().filter(shown).map(|change| change.order.seq_no));
        let fields = Arc::clone(fields);
        self.entry
            .tasks
            .spawn_blocking(move || {
                let filled = fields.iter().zip(changes).filter(|(_, changes)| !changes.is_empty());
                filled.into_iter().try_for_each(|(field, changes)| field.index.stage(changes))
            })
            .await??;
        Ok(())
    }

    fn progress(&self, documents: u64) {
        self.ctx.metrics.documents.inc_by(documents);
        let mut state = self.shard.state.lock();
        let Some(progress) = &mut state.progress else { return };
        progress.done += documents;
        let progress = *progress;
        drop(state);
        let mut logged = self.logged.lock();
        if logged.elapsed() < PROGRESS_EVERY {
            return;
        }
        *logged = Instant::now();
        let percent = 100.0 * progress.done as f64 / progress.total.max(1) as f64;
        tracing::info!(
            index = %self.entry.info.load().name,
            shard = self.shard.number,
            done = progress.done,
            total = progress.total,
            percent = format_args!("{percent:.1}"),
            eta_seconds = progress.eta().map_or(0, |eta| eta.as_secs()),
            "learning"
        );
    }
}

pub(crate) fn listing_body(query: Value, size: usize) -> Value {
    json!({
        "query": query,
        "size": size,
        "sort": ["_shard_doc"],
        "seq_no_primary_term": true,
        "track_total_hits": false,
        "_source": false,
    })
}

/// All clauses must match; nothing is scored.
pub(crate) fn all_of(clauses: Vec<Value>) -> Value {
    json!({"bool": {"filter": clauses}})
}

/// [`all_of`] with clauses that are text already.
pub(crate) fn all_of_text(clauses: &[&str]) -> String {
    format!(r#"{{"bool":{{"filter":[{}]}}}}"#, clauses.join(","))
}

/// At least one clause must match.
pub(crate) fn any_of(clauses: Vec<Value>) -> Value {
    json!({"bool": {"should": clauses, "minimum_should_match": 1}})
}

pub(crate) fn exists(field: &str) -> Value {
    json!({"exists": {"field": field}})
}

pub(crate) fn seq_nos(range: &Range<u64>) -> Value {
    json!({"range": {"_seq_no": {"gte": range.start, "lt": range.end}}})
}

pub(crate) fn seq_nos_above(seq_no: i64) -> Value {
    json!({"range": {"_seq_no": {"gt": seq_no}}})
}

fn key_of(hit: &Hit) -> DocKey {
    DocKey { id: hit.id.clone(), routing: hit.routing.clone() }
}

fn order_of(hit: &Hit) -> SeqNo {
    SeqNo { primary_term: hit.primary_term, seq_no: hit.seq_no }
}

fn page_of(hits: Vec<Hit>, fields: &Fields) -> Page {
    let mut page = Page {
        hits: hits.len(),
        after: hits.last().and_then(|hit| hit.sort.first().copied()),
        max_seq_no: hits.iter().map(|hit| hit.seq_no as i64).max().unwrap_or(-1),
        changes: fields.iter().map(|_| Vec::with_capacity(hits.len())).collect(),
    };
    for hit in &hits {
        for (field, changes) in fields.iter().zip(&mut page.changes) {
            let vectors = match field.nested {
                None => vector_of(hit, field),
                Some(_) => vectors_of(hit, field),
            };
            let kind = match vectors {
                Some(vector) => ChangeKind::Upsert(vector),
                None => ChangeKind::Delete,
            };
            changes.push(Change { doc: key_of(hit), order: order_of(hit), kind });
        }
    }
    page
}

/// Vectors below `nested` that documents have in the mean, those with the most where there are several such
/// fields; `None` where nothing tells.
fn nested_vectors(page: &Page, fields: &Fields) -> Option<usize> {
    let mean = |(field, changes): (&Arc<FieldIndex>, &Vec<Change>)| {
        let count = |change: &Change| match &change.kind {
            ChangeKind::Upsert(values) => values.len() / field.spec.values(),
            ChangeKind::Delete => 0,
        };
        changes.iter().map(count).sum::<usize>().div_ceil(changes.len())
    };
    let nested = fields.iter().zip(&page.changes);
    let nested = nested.filter(|(field, changes)| field.nested.is_some() && !changes.is_empty());
    nested.map(mean).max().map(|mean| mean.max(1))
}

/// The vectors of a document's nested objects, end to end; those without one count nothing.
fn vectors_of(hit: &Hit, field: &FieldIndex) -> Option<Vec<f32>> {
    let mut vectors = Vec::new();
    for vector in hit.source.as_ref()?.vectors(&field.key.field) {
        vectors.extend(fitting(vector.to_vec(), hit, field).into_iter().flatten());
    }
    Some(vectors).filter(|vectors| !vectors.is_empty())
}

/// The vector as Lucene stores it. Doc values of cosine fields come multiplied by the magnitude that
/// the client sent, as `_source` does, so both are scaled to unit length here.
fn vector_of(hit: &Hit, field: &FieldIndex) -> Option<Vec<f32>> {
    let tree = hit.fields.as_ref().or(hit.source.as_ref())?;
    fitting(tree.vector(&field.key.field)?.to_vec(), hit, field)
}

fn fitting(mut vector: Vec<f32>, hit: &Hit, field: &FieldIndex) -> Option<Vec<f32>> {
    let element = field.spec.element;
    let unfit = if vector.len() != field.spec.values() {
        Some(format!("{} values", vector.len()))
    } else if element != Element::Float
        || matches!(field.similarity, Similarity::Cosine | Similarity::TrueCosine)
    {
        field.similarity.prepare(element, &mut vector).err().map(|bad| bad.to_string())
    } else {
        None
    };
    match unfit {
        None => Some(vector),
        Some(reason) => {
            tracing::warn!(index = %field.key, id = %hit.id, reason, "a vector cannot be taken over");
            None
        }
    }
}
