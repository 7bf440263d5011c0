//! What the history and its watchers share: who can be asked, which times are troubled, and what was
//! attempted to be written.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::indices::INDICES;
use crate::Api;

/// Vectors hold numbers exactly up to here.
const NUMBERS: u64 = 1 << 24;

/// See the head of this file.
pub(super) struct Shared {
    /// Calls past the sidecars, to each node.
    nodes: Vec<Api>,
    /// A node that is not there.
    lost: Mutex<Option<usize>>,
    /// Calls through them; `None` while one is down.
    pub(super) sidecars: Vec<Mutex<Option<Api>>>,
    /// Per index: grows by two whenever what was seen before says nothing about what comes; odd while that goes on.
    eras: Vec<AtomicU64>,
    attempts: Mutex<Vec<Attempts>>,
    next_number: AtomicU64,
    /// Some write may still be carried out although its caller has no answer any more.
    pub(super) uncertain: AtomicBool,
    /// Bursts on their way, by index.
    pub(super) bursts: Vec<AtomicUsize>,
    violations: Mutex<Vec<String>>,
    /// Rounds in which a watcher compared an answer of a sidecar.
    pub(super) watched: AtomicU64,
}

/// Attempts on one index, by document: the number of the newest.
#[derive(Default)]
struct Attempts {
    removals: HashMap<String, u64>,
    writes: HashMap<String, HashMap<Option<String>, u64>>,
}

impl Shared {
    pub(super) fn new(nodes: Vec<Api>, sidecars: usize) -> Self {
        Self {
            nodes,
            lost: Mutex::new(None),
            sidecars: (0..sidecars).map(|_| Mutex::new(None)).collect(),
            eras: INDICES.iter().map(|_| AtomicU64::new(0)).collect(),
            attempts: Mutex::new(INDICES.iter().map(|_| Attempts::default()).collect()),
            next_number: AtomicU64::new(1),
            uncertain: AtomicBool::new(false),
            bursts: INDICES.iter().map(|_| AtomicUsize::new(0)).collect(),
            violations: Mutex::default(),
            watched: AtomicU64::new(0),
        }
    }

    /// Calls past the sidecars, to a node that is there.
    pub(super) fn direct(&self) -> Api {
        let lost = *self.lost.lock().expect("no panic");
        self.nodes[usize::from(lost == Some(0))].clone()
    }

    /// Whether shards have several copies, which may be refreshed at different moments.
    pub(super) fn is_replicated(&self) -> bool {
        self.nodes.len() > 1
    }

    /// This node is about to go; `None`: all are there.
    pub(super) fn set_lost(&self, node: Option<usize>) {
        *self.lost.lock().expect("no panic") = node;
    }

    /// The node that is not there.
    pub(super) fn lost(&self) -> Option<usize> {
        *self.lost.lock().expect("no panic")
    }

    /// Calls through a sidecar, if it is up.
    pub(super) fn sidecar(&self, number: usize) -> Option<Api> {
        self.sidecars[number].lock().expect("no panic").clone()
    }

    /// The number of the next write.
    pub(super) fn number(&self) -> u64 {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        assert!(number < NUMBERS, "a history of more than {NUMBERS} writes");
        number
    }

    /// The era of an index; `None` while it changes.
    pub(super) fn era(&self, index: usize) -> Option<u64> {
        let era = self.eras[index].load(Ordering::SeqCst);
        era.is_multiple_of(2).then_some(era)
    }

    /// What was seen of an index ends to matter, until [`Shared::new_era`].
    pub(super) fn end_era(&self, index: usize) {
        self.eras[index].fetch_or(1, Ordering::SeqCst);
    }

    /// Another era begins.
    pub(super) fn new_era(&self, index: usize) {
        let era = self.eras[index].load(Ordering::SeqCst);
        self.eras[index].store((era | 1) + 1, Ordering::SeqCst);
    }

    /// A write is about to be sent that may give a document this number.
    pub(super) fn attempt_write(&self, index: usize, id: &str, routing: Option<&str>, number: u64) {
        let mut attempts = self.attempts.lock().expect("no panic");
        let of_document = attempts[index].writes.entry(id.to_owned()).or_default();
        of_document.insert(routing.map(str::to_owned), number);
    }

    /// A write is about to be sent that may take a document's number away.
    pub(super) fn attempt_removal(&self, index: usize, id: &str, number: u64) {
        self.attempts.lock().expect("no panic")[index].removals.insert(id.to_owned(), number);
    }

    /// Whether something later than the write `number` may have made it vanish.
    pub(super) fn may_be_gone(&self, index: usize, id: &str, routing: Option<&str>, number: u64) -> bool {
        let attempts = self.attempts.lock().expect("no panic");
        let of_index = &attempts[index];
        let removed = of_index.removals.get(id).is_some_and(|removal| *removal > number);
        // The same id under another routing replaces it where both mean the same shard.
        let replaced = of_index.writes.get(id).is_some_and(|writes| {
            writes.iter().any(|(other, write)| other.as_deref() != routing && *write > number)
        });
        removed || replaced
    }

    /// An invariant does not hold.
    pub(super) fn violated(&self, what: String) {
        self.violations.lock().expect("no panic").push(what);
    }

    /// What watchers found.
    pub(super) fn violations(&self) -> Vec<String> {
        self.violations.lock().expect("no panic").clone()
    }
}
