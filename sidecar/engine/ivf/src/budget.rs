//! The memory that all indexes of an engine may take together; one such budget for everything, another
//! for acknowledged changes that are held.
//!
//! What counts is what must stay: codes, documents, tables, vectors that are staged or not yet in a
//! file. Vectors in files are paged by the system and do not count. At the limit vectors go to files
//! first; where that is not enough, what would need more is refused with an error, never more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use knn_types::EngineError;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// `None`: as much as there is.
    limit: Option<u64>,
    used: AtomicU64,
    refusals: AtomicU64,
}

/// How much memory the indexes of an engine hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes held now.
    pub used: u64,
    /// Bytes that may be held; `None`: no limit.
    pub budget: Option<u64>,
    /// Times that something was refused for want of memory.
    pub refusals: u64,
}

/// What one index takes of a budget; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limit: Option<u64>) -> Arc<Self> {
        Arc::new(Self { limit, ..Self::default() })
    }

    pub(crate) fn memory_use(&self) -> MemoryUse {
        MemoryUse {
            used: self.used.load(Ordering::Relaxed),
            budget: self.limit,
            refusals: self.refusals.load(Ordering::Relaxed),
        }
    }

    /// A share that holds nothing yet.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), bytes: AtomicU64::new(0) }
    }

    /// Whether there is a limit at all.
    pub(crate) fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// Whether `more` bytes fit.
    pub(crate) fn fits(&self, more: u64) -> bool {
        self.limit.is_none_or(|limit| self.used.load(Ordering::Relaxed).saturating_add(more) <= limit)
    }

    /// Notes that something was refused, and says why.
    pub(crate) fn refuse(&self, wanted: u64) -> EngineError {
        self.note_refusals(1);
        self.error(wanted)
    }

    /// Notes that so many things were refused.
    pub(crate) fn note_refusals(&self, count: u64) {
        self.refusals.fetch_add(count, Ordering::Relaxed);
    }

    /// Why something is refused.
    pub(crate) fn error(&self, wanted: u64) -> EngineError {
        let MemoryUse { used, budget, .. } = self.memory_use();
        EngineError::Memory { used, wanted, budget: budget.unwrap_or(u64::MAX) }
    }
}

impl Share {
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(crate) fn shared(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// From now on the share is so many bytes.
    pub(crate) fn set(&self, bytes: u64) {
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        // Wraps around where the share shrinks, which comes to the same.
        self.budget.used.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_are_given_back() {
        let budget = Budget::new(Some(100));
        let (a, b) = (budget.share(), budget.share());
        a.set(70);
        b.set(50);
        a.set(30);
        assert_eq!(budget.memory_use(), MemoryUse { used: 80, budget: Some(100), refusals: 0 });
        assert!(budget.fits(20) && !budget.fits(21));
        assert!(matches!(budget.refuse(21), EngineError::Memory { used: 80, wanted: 21, budget: 100 }));
        drop(b);
        assert_eq!(budget.memory_use(), MemoryUse { used: 30, budget: Some(100), refusals: 1 });
        assert!(Budget::new(None).fits(u64::MAX));
    }
}
