//! The response to a write: which of the writes that were seen it acknowledges, and as what.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use knn_types::{DocKey, Element, SeqNo};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::catalog::{Catalog, IndexInfo};
use crate::routing;
use crate::writes::Left;
use crate::writes::action::Operation;
use crate::writes::document::{Fields, Value};
use crate::writes::items::Items;
use crate::writes::request::{Item, Seen, WriteScanner};
use crate::written::{Acknowledged, Wrote};

/// What became of the writes of one request.
#[derive(Debug, Default)]
pub struct Settled {
    /// To be staged.
    pub acknowledged: Vec<Acknowledged>,
    /// How many were left to the feed, by reason.
    pub left: BTreeMap<Left, u64>,
}

/// Reads a successful response as it passes.
pub struct AckReader {
    catalog: Arc<Catalog>,
    writes: std::vec::IntoIter<Item>,
    /// Why the request was not read to its end.
    stopped: Option<Left>,
    text: Items,
    /// The response is that of one document, not of a bulk.
    single: bool,
    /// Some part of the response may be hidden.
    filtered: bool,
    /// Writes and items do not match.
    mismatch: bool,
    settled: Settled,
}

/// An item of a bulk response, or the response to a single write.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    _index: Cow<'a, str>,
    #[serde(borrow, default)]
    _id: Cow<'a, str>,
    #[serde(borrow, default)]
    result: Cow<'a, str>,
    _seq_no: Option<u64>,
    _primary_term: Option<u64>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct BulkItem<'a> {
    #[serde(borrow)]
    index: Option<Answer<'a>>,
    #[serde(borrow)]
    create: Option<Answer<'a>>,
    #[serde(borrow)]
    update: Option<Answer<'a>>,
    #[serde(borrow)]
    delete: Option<Answer<'a>>,
}

/// What surrounds the items of a bulk response.
#[derive(Deserialize)]
struct Frame {
    items: Option<Vec<IgnoredAny>>,
    ingest_took: Option<IgnoredAny>,
}

impl AckReader {
    /// For the response to a request that was sent whole. `filtered`: the client asked for a part of the
    /// response only. `None` where nothing in the request can matter.
    pub fn new(request: WriteScanner, filtered: bool) -> Option<Self> {
        if !request.is_of_interest() {
            return None;
        }
        let single = request.is_single();
        let scanned = request.finish();
        Some(Self {
            catalog: scanned.catalog,
            writes: scanned.items.into_iter(),
            stopped: scanned.stopped,
            text: Items::default(),
            single,
            filtered,
            mismatch: false,
            settled: Settled::default(),
        })
    }

    /// Reads the next bytes.
    pub fn feed(&mut self, chunk: &[u8]) {
        let mut text = std::mem::take(&mut self.text);
        text.feed(chunk, |item| self.item(item));
        self.text = text;
    }

    /// Whether the response has been read to its end.
    pub fn ended(&self) -> bool {
        self.text.frame().is_some()
    }

    /// What is certain now. A response that was cut acknowledges nothing here.
    pub fn finish(mut self) -> Settled {
        let text = std::mem::take(&mut self.text);
        if !self.single {
            return self.finish_bulk(&text);
        }
        let answer = text.frame().and_then(|text| serde_json::from_slice(text).ok());
        if let Some(write) = self.writes.next() {
            self.settle(write, answer);
        }
        self.settled
    }

    fn finish_bulk(mut self, text: &Items) -> Settled {
        let frame: Option<Frame> = text.frame().and_then(|frame| serde_json::from_slice(frame).ok());
        let missing = self.writes.by_ref().filter(|item| !matches!(item.seen, Seen::NotOurs)).count();
        match frame.filter(|frame| frame.items.is_some() && missing == 0 && !self.mismatch) {
            Some(frame) => {
                // What is hidden proves nothing.
                let no_pipeline = frame.ingest_took.is_none() && !self.filtered;
                self.settled.acknowledged.iter_mut().for_each(|write| write.no_pipeline = no_pipeline);
            }
            None => {
                let taken_back = self.settled.acknowledged.len() + missing;
                self.settled.acknowledged.clear();
                self.leave(Left::Response, taken_back as u64);
            }
        }
        self.settled
    }

    fn leave(&mut self, why: Left, count: u64) {
        if count > 0 {
            *self.settled.left.entry(why).or_default() += count;
        }
    }

    fn item(&mut self, text: &[u8]) {
        let Some(write) = self.writes.next() else {
            match self.stopped {
                Some(why) => self.leave(why, 1),
                None => self.mismatch = true,
            }
            return;
        };
        if matches!(write.seen, Seen::NotOurs) {
            return;
        }
        let answer =
            serde_json::from_slice::<BulkItem<'_>>(text).ok().and_then(|item| match write.operation {
                Operation::Index => item.index.or(item.create),
                Operation::Update => item.update,
                Operation::Delete => item.delete,
            });
        self.settle(write, answer);
    }

    fn settle(&mut self, write: Item, answer: Option<Answer<'_>>) {
        let outcome = match answer {
            None => Err(Left::Response),
            // Nothing was written; a partly written request is told by the feed.
            Some(answer) if answer.error.is_some() => Ok(None),
            Some(answer) => match &*answer.result {
                "noop" | "not_found" => Ok(None),
                "created" | "updated" | "deleted" => acknowledged(&self.catalog, write, &answer),
                _ => Err(Left::Response),
            },
        };
        match outcome {
            Ok(written) => self.settled.acknowledged.extend(written),
            Err(why) => self.leave(why, 1),
        }
    }
}

/// What was written; `Ok(None)` where it does not concern us.
fn acknowledged(catalog: &Catalog, write: Item, answer: &Answer<'_>) -> Result<Option<Acknowledged>, Left> {
    let (Some(seq_no), Some(primary_term)) = (answer._seq_no, answer._primary_term) else {
        return Err(Left::Response);
    };
    let id_differs = write.id_hash.is_some_and(|hash| hash != routing::hash(&answer._id));
    if answer._index.is_empty() || answer._id.is_empty() || id_differs {
        return Err(Left::Response);
    }
    // An index that is younger than our picture: the feed learns it.
    let index = catalog.index(&answer._index).ok_or(Left::Target)?;
    if index.fields.is_empty() {
        return Ok(None);
    }
    let deleted = answer.result == "deleted";
    let wrote = match write.seen {
        Seen::NotOurs => return Ok(None),
        Seen::Left(why) => return Err(why),
        Seen::Deletion if deleted => Wrote::Deletion,
        Seen::Document(fields, mut values) if !deleted => {
            Wrote::Document(vectors(index, &fields, &mut values)?)
        }
        _ => return Err(Left::Response),
    };
    // An update keeps the routing that the document has, whatever that of the request is, so nobody here
    // can tell which document of a shard it is.
    if write.operation == Operation::Update && answer.result == "updated" {
        return Err(Left::Update);
    }
    let shard_rule = index.writes.routing.filter(|_| index.writes.are_plain()).ok_or(Left::Index)?;
    Ok(Some(Acknowledged {
        index: Arc::clone(index),
        shard: shard_rule.shard(&answer._id, write.routing.as_deref()),
        doc: DocKey { id: answer._id.as_ref().into(), routing: write.routing },
        order: SeqNo { primary_term, seq_no },
        wrote,
        no_pipeline: false,
    }))
}

type Vectors = Vec<(Arc<str>, Option<Vec<f32>>)>;

/// The vector of each field of the index, as Lucene stores it.
fn vectors(index: &IndexInfo, fields: &Fields, values: &mut [Value]) -> Result<Vectors, Left> {
    let vector_of = |(path, field): (&Arc<str>, &crate::catalog::VectorField)| {
        // A field that the name in the request did not lead to was not looked for.
        let at = fields.names.iter().position(|name| name == path).ok_or(Left::Target)?;
        let mut vector = match std::mem::take(&mut values[at]) {
            Value::Missing | Value::Null => return Ok((Arc::clone(path), None)),
            Value::Bytes(_) if field.spec.element == Element::Float => return Err(Left::Document),
            Value::Numbers(vector) | Value::Bytes(vector) => vector,
        };
        let fits = vector.len() == field.spec.values() && field.scoring().prepare(&mut vector).is_ok();
        if fits { Ok((Arc::clone(path), Some(vector))) } else { Err(Left::Document) }
    };
    index.fields.iter().map(vector_of).collect()
}
