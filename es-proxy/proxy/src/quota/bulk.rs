//! A bulk under quotas or limits: its items are let through one by one as the body streams, and those that were
//! refused stand in the response where they would have stood.

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use es_wire::{
    BulkGate, BulkItem, Catalog, GateError, IndexInfo, ItemRefusal, ItemSplicer, Operation, RefusedItem,
    VectorCount, VectorPaths,
};
use http::HeaderValue;
use http_body::{Body, Frame, SizeHint};

use crate::body::{BodyFailure, RequestBody, ResponseBody};
use crate::door::limits::items::ItemLimits;
use crate::intercept::write::inflate::Inflate;
use crate::proxy::Proxy;
use crate::quota::account::{Account, Admitted, Census, Creations};
use crate::quota::amount::Amount;

/// So much of a body is judged in one go: well below 500 µs of work.
const STEP: usize = 64 << 10;
/// The same of a compressed body.
const COMPRESSED_STEP: usize = 16 << 10;
/// Names that one bulk may use and that are looked up once.
const MAX_NAMES: usize = 1_024;

/// Judges items, and holds what was let in until the request has ended.
pub(crate) struct Judge {
    shared: Arc<Proxy>,
    catalog: Arc<Catalog>,
    /// Whether it matters how much is stored.
    quotas_hold: bool,
    limits: Option<ItemLimits>,
    names: HashMap<Box<str>, Rc<Known>>,
    /// By tenant and index.
    held: HashMap<(Box<str>, Box<str>), Held>,
    creations: Creations,
}

/// What was let in into one index.
struct Held {
    account: Arc<Account>,
    admitted: Admitted,
}

/// What is known of a name.
struct Known {
    /// Whose it is; `None`: nothing is counted.
    account: Option<Arc<Account>>,
    census: Census,
    index: Box<str>,
    exists: bool,
    paths: VectorPaths,
}

impl Judge {
    /// Under quotas, of which `catalog` was counted, and limits.
    pub(crate) fn new(shared: &Arc<Proxy>, catalog: Arc<Catalog>, limits: Option<ItemLimits>) -> Self {
        let (names, held, creations) = Default::default();
        Self { shared: Arc::clone(shared), catalog, quotas_hold: true, limits, names, held, creations }
    }

    /// Under limits alone.
    pub(crate) fn of_limits(shared: &Arc<Proxy>, limits: Option<ItemLimits>) -> Self {
        let mut judge = Self::new(shared, shared.cluster.catalog(), limits);
        judge.quotas_hold = false;
        judge
    }

    /// Lets an item in, or says why not. Who is refused for one reason has used nothing up for another.
    pub(crate) fn judge(&mut self, item: &BulkItem<'_>) -> Result<(), ItemRefusal> {
        let known = self.known(item.index);
        let count = match item.operation {
            Operation::Delete => VectorCount::default(),
            operation => known.paths.count(operation, item.source),
        };
        if let Some(limits) = &self.limits {
            limits.check(count.vectors)?;
        }
        if item.operation != Operation::Delete {
            self.reserve(&known, item, count)?;
        }
        if let Some(limits) = &self.limits {
            limits.charge(count.vectors);
        }
        Ok(())
    }

    /// Counts what an item adds to what its index's tenant stores, where there is room.
    fn reserve(&mut self, known: &Known, item: &BulkItem<'_>, count: VectorCount) -> Result<(), ItemRefusal> {
        let Some(account) = &known.account else { return Ok(()) };
        if !account.is_known() {
            return Err(unknown_usage(&account.tenant));
        }
        let creates = u64::from(!known.exists && account.limits_creation());
        let amount = Amount {
            indices: creates,
            shards: creates,
            vectors: count.vectors,
            vector_bytes: count.bytes,
            document_bytes: item.source.len() as u64,
        };
        let admitted =
            account.admit(&known.index, amount, known.census, &self.catalog).map_err(|exceeded| {
                self.shared.ledger.refused(&exceeded.tenant, exceeded.resource);
                ItemRefusal { status: 403, error: exceeded.error().to_string() }
            })?;
        if admitted.creates() {
            self.creations.add(Arc::clone(account), &known.index);
        }
        let key = (account.tenant.clone(), admitted.key().into());
        match self.held.get_mut(&key) {
            Some(held) => held.admitted.add(&admitted),
            None => drop(self.held.insert(key, Held { account: Arc::clone(account), admitted })),
        }
        Ok(())
    }

    fn known(&mut self, name: &str) -> Rc<Known> {
        if let Some(known) = self.names.get(name) {
            return Rc::clone(known);
        }
        let known = Rc::new(self.look_up(name));
        if self.names.len() < MAX_NAMES {
            self.names.insert(name.into(), Rc::clone(&known));
        }
        known
    }

    fn look_up(&self, name: &str) -> Known {
        let name = super::request::plain_name(name);
        let info = self.catalog.written(&name);
        let index = info.as_ref().map_or(&*name, |info| &*info.name);
        let ledger = &self.shared.ledger;
        let account = self.quotas_hold.then(|| ledger.owner(index)).flatten();
        let census =
            account.as_ref().map_or_else(Census::default, |account| ledger.count(account, &self.catalog));
        Known {
            census,
            index: index.into(),
            exists: info.is_some(),
            paths: info.as_deref().map(vector_paths).unwrap_or_default(),
            account,
        }
    }

    /// The request has ended.
    pub(crate) fn end(&mut self, came_about: bool) {
        for Held { account, admitted } in std::mem::take(&mut self.held).into_values() {
            account.end(&admitted, came_about);
        }
    }
}

impl Drop for Judge {
    /// Nobody knows how it ended: it may have come about.
    fn drop(&mut self) {
        self.end(true);
    }
}

/// Where the documents of an index have vectors, and how large one is.
pub(crate) fn vector_paths(index: &IndexInfo) -> VectorPaths {
    let mut paths = VectorPaths::default();
    let foreign = index.foreign.iter().map(|(path, foreign)| (path, &foreign.field));
    for (path, field) in index.fields.iter().chain(foreign) {
        paths.add(path, super::vector_bytes(&field.spec));
    }
    paths
}

fn unknown_usage(tenant: &str) -> ItemRefusal {
    let reason = super::refusal::unknown_usage(tenant);
    let error = serde_json::json!({"type": "status_exception", "reason": reason}).to_string();
    ItemRefusal { status: 503, error }
}

struct Inner {
    gate: BulkGate,
    judge: Judge,
}

impl Inner {
    fn feed(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), GateError> {
        let Self { gate, judge } = self;
        gate.feed(plain, out, &mut |item| judge.judge(item))
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), GateError> {
        let Self { gate, judge } = self;
        gate.finish(out, &mut |item| judge.judge(item))
    }
}

/// Shared by the body on its way and by whoever waits for the response.
#[derive(Clone)]
pub(crate) struct Gate(Rc<RefCell<Inner>>);

impl Gate {
    pub(crate) fn new(index: Option<String>, judge: Judge) -> Self {
        Self(Rc::new(RefCell::new(Inner { gate: BulkGate::new(index), judge })))
    }

    /// The request has ended; what did not get through.
    pub(crate) fn end(&self, came_about: bool) -> Vec<RefusedItem> {
        let mut inner = self.0.borrow_mut();
        inner.judge.end(came_about);
        inner.gate.take_refused()
    }

    /// The indices that were let in with it.
    pub(crate) fn creations(&self) -> Creations {
        std::mem::take(&mut self.0.borrow_mut().judge.creations)
    }

    /// Whether there were items, and none got through.
    pub(crate) fn refused_all(&self) -> bool {
        let inner = self.0.borrow();
        inner.gate.refused() > 0 && inner.gate.refused() == inner.gate.items()
    }
}

/// A bulk's body, without what does not get through.
pub(crate) struct GatedBody {
    source: RequestBody,
    inflate: Inflate,
    gate: Gate,
    /// Read and not judged yet.
    raw: Bytes,
    source_ended: bool,
    ended: bool,
}

impl GatedBody {
    /// `None` for a content coding that we don't know.
    pub(crate) fn new(source: RequestBody, encoding: Option<&HeaderValue>, gate: Gate) -> Option<Self> {
        let inflate = Inflate::of(encoding)?;
        Some(Self { source, inflate, gate, raw: Bytes::new(), source_ended: false, ended: false })
    }

    /// Judges the next bytes; what gets through.
    fn step(&mut self) -> Result<Vec<u8>, BodyFailure> {
        let step = if self.inflate.is_needed() { COMPRESSED_STEP } else { STEP };
        let bytes = self.raw.split_to(step.min(self.raw.len()));
        let inner = &mut *self.gate.0.borrow_mut();
        let (mut out, mut judged) = (Vec::with_capacity(bytes.len()), Ok(()));
        let mut each = |plain: &[u8]| {
            if judged.is_ok() {
                judged = inner.feed(plain, &mut out);
            }
        };
        let mut inflated = self.inflate.feed(&bytes, &mut each);
        let is_last = self.source_ended && self.raw.is_empty();
        if is_last && inflated.is_ok() {
            inflated = self.inflate.finish(&mut each);
        }
        if is_last && judged.is_ok() {
            judged = inner.finish(&mut out);
        }
        self.ended = is_last;
        inflated.map_err(|_| BodyFailure::Client("the body cannot be inflated".to_owned()))?;
        judged.map_err(|error| BodyFailure::Client(error.to_string()))?;
        Ok(out)
    }
}

impl Body for GatedBody {
    type Data = Bytes;
    type Error = BodyFailure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.raw.is_empty() && !self.source_ended {
            match ready!(Pin::new(&mut self.source).poll_frame(cx)) {
                None => self.source_ended = true,
                Some(Err(failure)) => return Poll::Ready(Some(Err(failure))),
                Some(Ok(frame)) => self.raw = frame.into_data().unwrap_or_default(),
            }
        }
        match self.step() {
            Err(failure) => {
                self.ended = true;
                Poll::Ready(Some(Err(failure)))
            }
            Ok(out) if !out.is_empty() => Poll::Ready(Some(Ok(Frame::data(out.into())))),
            Ok(_) if self.ended => Poll::Ready(None),
            Ok(_) => {
                // Others have their turn.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// A bulk's response on its way, with the refused items in their places.
pub(crate) struct SplicedItems {
    body: ResponseBody,
    splicer: ItemSplicer,
    ended: bool,
}

impl SplicedItems {
    pub(crate) fn new(body: ResponseBody, refused: Vec<RefusedItem>) -> Self {
        Self { body, splicer: ItemSplicer::new(refused), ended: false }
    }
}

impl Body for SplicedItems {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            let mut out = Vec::new();
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    self.splicer.feed(&data, &mut out);
                }
                None => {
                    self.ended = true;
                    self.splicer.finish(&mut out);
                }
            }
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.into()))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
