//! The fake engine with one call, by its number, that goes wrong: it fails, or the process dies there.
//! It also notes every state that is published.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use knn_types::*;
use parking_lot::Mutex;

use crate::crash::Crash;
use crate::fake_engine::FakeEngine;

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// An error, and nothing happened.
    Fails,
    /// It happened, and an error all the same.
    FailsAfter,
    /// The process dies before it.
    DiesBefore,
    /// The process dies after it.
    DiesAfter,
}

/// Documents and orders, as published.
pub(crate) type Published = BTreeMap<DocKey, SeqNo>;

/// What outlives a process.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) calls: AtomicU64,
    /// By field, in the order in which it became visible.
    pub(crate) published: Mutex<Vec<(Arc<str>, Published)>>,
}

pub(crate) struct FaultyEngine {
    pub(crate) inner: FakeEngine,
    faults: Arc<Faults>,
}

struct Faults {
    fault: Option<(u64, Wrong)>,
    record: Arc<Record>,
    crash: Arc<Crash>,
}

impl Faults {
    /// Makes a call, unless something goes wrong.
    fn call<T>(&self, call: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
        if self.crash.happened() {
            return Err(broken());
        }
        let number = self.record.calls.fetch_add(1, Ordering::SeqCst);
        let wrong = self.fault.and_then(|(at, wrong)| (at == number).then_some(wrong));
        match wrong {
            None => call(),
            Some(Wrong::Fails) => Err(broken()),
            Some(Wrong::FailsAfter) => call().and(Err(broken())),
            Some(Wrong::DiesBefore) => {
                self.crash.now();
                Err(broken())
            }
            Some(Wrong::DiesAfter) => {
                let result = call();
                self.crash.now();
                result.and(Err(broken()))
            }
        }
    }
}

fn broken() -> EngineError {
    EngineError::Io { path: "the fake disk".into(), source: io::ErrorKind::StorageFull.into() }
}

impl FaultyEngine {
    pub(crate) fn new(
        inner: FakeEngine,
        fault: Option<(u64, Wrong)>,
        record: &Arc<Record>,
        crash: &Arc<Crash>,
    ) -> Self {
        let faults = Faults { fault, record: Arc::clone(record), crash: Arc::clone(crash) };
        Self { inner, faults: Arc::new(faults) }
    }
}

impl KnnEngine for FaultyEngine {
    fn open(&self, key: &IndexKey, spec: &FieldSpec) -> Result<Arc<dyn KnnIndex>, EngineError> {
        let inner = self.faults.call(|| self.inner.open(key, spec))?;
        Ok(Arc::new(FaultyIndex { field: Arc::clone(&key.field), inner, faults: Arc::clone(&self.faults) }))
    }

    fn remove(&self, key: &IndexKey) {
        let removed = self.faults.call(|| {
            self.inner.remove(key);
            Ok(())
        });
        // There is nobody to tell of an error, so an engine must see to it that what is removed stays away.
        if removed.is_err() && !self.faults.crash.happened() {
            self.inner.remove(key);
        }
    }

    fn sweep(&self, keep: &dyn Fn(&IndexKey) -> bool) {
        let _ = self.faults.call(|| {
            self.inner.sweep(keep);
            Ok(())
        });
    }
}

struct FaultyIndex {
    field: Arc<str>,
    inner: Arc<dyn KnnIndex>,
    faults: Arc<Faults>,
}

impl KnnIndex for FaultyIndex {
    fn stage(&self, changes: Vec<Change>) -> Result<(), EngineError> {
        self.faults.call(|| self.inner.stage(changes))
    }

    fn hold(&self, changes: Vec<Change>) -> Result<(), EngineError> {
        self.faults.call(|| self.inner.hold(changes))
    }

    fn confirm(&self, shown: &[SeqNo]) -> Result<Vec<usize>, EngineError> {
        self.faults.call(|| self.inner.confirm(shown))
    }

    fn publish(&self, epoch: Epoch) -> Result<(), EngineError> {
        self.faults.call(|| {
            self.inner.publish(epoch)?;
            // A part of a first build is kept, and shown to nobody.
            if epoch.max_seq_no >= 0 {
                // Nothing is staged now, so a census is what is published.
                let published = self.inner.docs_between(0, u64::MAX).into_iter().collect();
                self.faults.record.published.lock().push((Arc::clone(&self.field), published));
            }
            Ok(())
        })
    }

    fn rollback_above(&self, order: SeqNo) -> Result<(), EngineError> {
        self.faults.call(|| self.inner.rollback_above(order))
    }

    fn view(&self) -> Arc<dyn KnnView> {
        self.inner.view()
    }

    fn live(&self) -> u64 {
        self.inner.live()
    }

    fn order_of(&self, doc: &DocKey) -> Option<SeqNo> {
        self.inner.order_of(doc)
    }

    fn counts_by_seq_no(&self, width: u64) -> Vec<u64> {
        self.inner.counts_by_seq_no(width)
    }

    fn docs_between(&self, from: u64, to: u64) -> Vec<(DocKey, SeqNo)> {
        self.inner.docs_between(from, to)
    }

    fn maintain(&self) -> Result<bool, EngineError> {
        self.inner.maintain()
    }

    fn is_damaged(&self) -> bool {
        self.inner.is_damaged()
    }

    fn snapshot(&self) -> Result<bool, EngineError> {
        self.faults.call(|| self.inner.snapshot())
    }

    fn stats(&self) -> IndexStats {
        self.inner.stats()
    }
}
