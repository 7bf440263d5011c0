//! Writes as they pass: bytes go in as they come, what they say about vectors is kept.

use std::sync::Arc;

use memchr::memchr;

use crate::catalog::Catalog;
use crate::routing;
use crate::writes::action::{self, Action, Operation};
use crate::writes::cursor::Cursor;
use crate::writes::document::{Fields, Numbers, Value};
use crate::writes::target::{Target, Targets};
use crate::writes::{Left, Limits};

/// What the URL of a write says.
#[derive(Clone, Debug, Default)]
pub struct Addressed {
    /// The index in the path.
    pub index: Option<String>,
    /// The document in the path.
    pub id: Option<String>,
    /// `routing`.
    pub routing: Option<String>,
    /// `pipeline`.
    pub pipeline: Option<String>,
}

/// One write that passed.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) operation: Operation,
    /// Hash of the id, where the client gave one.
    pub(super) id_hash: Option<i32>,
    pub(super) routing: Option<Box<str>>,
    pub(super) seen: Seen,
}

#[derive(Debug)]
pub(super) enum Seen {
    NotOurs,
    Left(Left),
    Deletion,
    Document(Arc<Fields>, Box<[Value]>),
}

/// Reads a request as it passes.
pub struct WriteScanner {
    targets: Targets,
    addressed: Addressed,
    limits: Limits,
    /// The document of a single-document request; `None` for a bulk.
    single: Option<Operation>,
    /// The beginning of a line (of the document) that came without its end.
    carry: Vec<u8>,
    /// The line that passes is too long to be kept.
    too_long: bool,
    /// The action whose source comes next.
    pending: Option<Pending>,
    items: Vec<Item>,
    /// Why nothing is read any more.
    stopped: Option<Left>,
    held: usize,
    scanned: u64,
}

/// An action and what its index means.
struct Pending {
    item: Item,
    fields: Option<Arc<Fields>>,
}

/// What a whole request said.
pub(super) struct Scanned {
    pub(super) catalog: Arc<Catalog>,
    pub(super) items: Vec<Item>,
    pub(super) stopped: Option<Left>,
}

impl WriteScanner {
    /// For `_bulk`. Indices named in `switched_off` are not followed.
    pub fn bulk(
        catalog: Arc<Catalog>,
        switched_off: Vec<String>,
        addressed: Addressed,
        limits: Limits,
    ) -> Self {
        Self {
            targets: Targets::new(catalog, switched_off),
            addressed,
            limits,
            single: None,
            carry: Vec::new(),
            too_long: false,
            pending: None,
            items: Vec::new(),
            stopped: None,
            held: 0,
            scanned: 0,
        }
    }

    /// For a request on one document.
    pub fn single(
        catalog: Arc<Catalog>,
        switched_off: Vec<String>,
        operation: Operation,
        addressed: Addressed,
        limits: Limits,
    ) -> Self {
        let mut scanner = Self::bulk(catalog, switched_off, addressed, limits);
        scanner.single = Some(operation);
        let action = Action { operation, index: None, id: None, routing: None, pipeline: None };
        scanner.begin(action);
        scanner
    }

    /// Reads the next bytes.
    pub fn feed(&mut self, mut chunk: &[u8]) {
        if self.stopped.is_some() {
            return;
        }
        self.scanned += chunk.len() as u64;
        if self.single.is_some() {
            return self.carry_on(chunk);
        }
        while let Some(end) = memchr(b'\n', chunk) {
            let (line, rest) = (&chunk[..end], &chunk[end + 1..]);
            chunk = rest;
            if self.too_long {
                self.too_long = false;
                self.long_line();
            } else if self.carry.is_empty() {
                self.line(line);
            } else {
                self.carry_on(line);
                let whole = std::mem::take(&mut self.carry);
                if std::mem::take(&mut self.too_long) {
                    self.long_line()
                } else {
                    self.line(&whole)
                }
                self.carry = whole;
                self.carry.clear();
            }
            if self.stopped.is_some() {
                return;
            }
        }
        self.carry_on(chunk);
    }

    /// Bytes of vectors and ids that are kept.
    pub fn held(&self) -> usize {
        self.held + self.carry.capacity()
    }

    /// Bytes read so far.
    pub fn scanned(&self) -> u64 {
        self.scanned
    }

    /// Vectors seen so far that are kept.
    pub fn vectors(&self) -> u64 {
        let of_item = |item: &Item| match &item.seen {
            Seen::Document(_, values) => {
                values.iter().filter(|value| matches!(value, Value::Numbers(_) | Value::Bytes(_))).count()
            }
            _ => 0,
        };
        self.items.iter().map(of_item).sum::<usize>() as u64
    }

    /// Stops: the rest of the request is left to the feed.
    pub fn stop(&mut self, why: Left) {
        self.stopped = self.stopped.or(Some(why));
        self.carry = Vec::new();
        self.pending = None;
    }

    /// Stops, and lets go of what was seen: all of the request is left to the feed.
    pub fn abandon(&mut self, why: Left) {
        self.stop(why);
        self.items = Vec::new();
        self.held = 0;
    }

    /// Whether anything was seen whose fate matters.
    pub fn is_of_interest(&self) -> bool {
        let is_ours = |item: &Item| !matches!(item.seen, Seen::NotOurs);
        self.single.is_some() || self.stopped.is_some() || self.items.iter().any(is_ours)
    }

    pub(super) fn is_single(&self) -> bool {
        self.single.is_some()
    }

    /// The end of the request.
    pub(super) fn finish(mut self) -> Scanned {
        if self.single.is_some() {
            let whole = std::mem::take(&mut self.carry);
            if self.too_long { self.long_line() } else { self.source(&whole) }
        } else if !self.carry.is_empty() || self.too_long || self.pending.is_some() {
            // Elasticsearch wants a line feed at the end, and a source after an action.
            self.stop(Left::Framing);
        }
        Scanned { catalog: Arc::clone(self.targets.catalog()), items: self.items, stopped: self.stopped }
    }

    fn carry_on(&mut self, bytes: &[u8]) {
        if self.too_long || self.carry.len() + bytes.len() > self.limits.line_bytes {
            self.too_long = true;
            self.carry = Vec::new();
        } else {
            self.carry.extend_from_slice(bytes);
        }
    }

    fn line(&mut self, line: &[u8]) {
        if self.pending.is_some() {
            return self.source(line);
        }
        match action::read(line) {
            Ok(None) => {}
            Ok(Some(action)) => self.begin(action),
            Err(_) => self.stop(Left::Framing),
        }
    }

    /// A line was longer than we keep.
    fn long_line(&mut self) {
        match self.pending.take() {
            Some(mut pending) => {
                if pending.fields.is_some() {
                    pending.item.seen = Seen::Left(Left::TooLarge);
                }
                self.push(pending.item);
            }
            None => self.stop(Left::Framing),
        }
    }

    fn begin(&mut self, action: Action) {
        let Some(name) = action.index.as_deref().or(self.addressed.index.as_deref()) else {
            // The whole bulk is refused.
            return self.stop(Left::Framing);
        };
        let operation = action.operation;
        let (seen, fields) = match self.targets.of(name) {
            Target::NotOurs => (Seen::NotOurs, None),
            Target::Left(why) => (Seen::Left(why), None),
            Target::Look(_) if operation == Operation::Delete => (Seen::Deletion, None),
            Target::Look(_) if self.has_pipeline(&action) => (Seen::Left(Left::Pipeline), None),
            Target::Look(fields) => (Seen::NotOurs, Some(fields)),
        };
        let id = action.id.as_deref().or(self.addressed.id.as_deref());
        let routing = action.routing.as_deref().or(self.addressed.routing.as_deref());
        let item = Item {
            operation,
            id_hash: id.map(routing::hash),
            // An empty routing is none, also where it stands before one in the URL.
            routing: routing.filter(|routing| !routing.is_empty()).map(Box::from),
            seen,
        };
        if operation == Operation::Delete {
            self.push(item);
        } else {
            self.pending = Some(Pending { item, fields });
        }
    }

    fn has_pipeline(&self, action: &Action) -> bool {
        let named = action.pipeline.as_deref().or(self.addressed.pipeline.as_deref());
        named.is_some_and(|name| name != "_none")
    }

    fn source(&mut self, source: &[u8]) {
        let Some(mut pending) = self.pending.take() else { return };
        if let Some(fields) = pending.fields {
            pending.item.seen = match pending.item.operation {
                Operation::Update => match action::read_update(source, &fields) {
                    Ok(Some(found)) => Seen::Document(fields, found),
                    Ok(None) => Seen::Left(Left::Update),
                    Err(_) => Seen::Left(Left::Document),
                },
                _ => match read_document(source, &fields) {
                    Some(found) => Seen::Document(fields, found),
                    None => Seen::Left(Left::Document),
                },
            };
        }
        self.push(pending.item);
    }

    fn push(&mut self, item: Item) {
        let vectors = match &item.seen {
            Seen::Document(_, found) => found.iter().map(Value::bytes).sum(),
            _ => 0,
        };
        let size = size_of::<Item>() + item.routing.as_ref().map_or(0, |routing| routing.len()) + vectors;
        if self.held + size > self.limits.request_bytes {
            return self.stop(Left::Memory);
        }
        self.held += size;
        self.items.push(item);
    }
}

/// The vectors of a whole document; `None` where it is odd.
fn read_document(source: &[u8], fields: &Fields) -> Option<Box<[Value]>> {
    let mut cursor = Cursor::new(source);
    let found = fields.read(&mut cursor, Numbers::AsWritten).ok()?;
    cursor.end().ok()?;
    Some(found)
}

impl Value {
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Value::Missing | Value::Null => 0,
                Value::Numbers(values) | Value::Bytes(values) => values.capacity() * size_of::<f32>(),
            }
    }
}
