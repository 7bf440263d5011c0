//! The vectors of one chunk, in memory or in a file.

use std::ops::Range;
use std::sync::Arc;

use crate::mapped::MappedWords;

/// The vectors of a chunk.
pub(super) enum Rows {
    Held(Vec<u32>),
    /// So many words from `start` of a file.
    Mapped {
        file: Arc<MappedWords>,
        start: usize,
        len: usize,
    },
}

impl Rows {
    #[inline]
    pub(super) fn values(&self, range: Range<usize>) -> &[u32] {
        match self {
            Rows::Held(rows) => &rows[range],
            Rows::Mapped { file, start, .. } => file.values(start + range.start..start + range.end),
        }
    }

    #[inline]
    pub(super) fn unchecked(&self, range: Range<usize>) -> &[u32] {
        match self {
            Rows::Held(rows) => &rows[range],
            Rows::Mapped { file, start, .. } => file.unchecked(start + range.start..start + range.end),
        }
    }

    pub(super) fn all(&self) -> &[u32] {
        match self {
            Rows::Held(rows) => rows,
            Rows::Mapped { len, .. } => self.values(0..*len),
        }
    }

    pub(super) fn append(&mut self, row: &[u32], capacity: usize) {
        if let Rows::Mapped { .. } = self {
            *self = self.clone();
        }
        if let Rows::Held(rows) = self {
            rows.reserve_exact(capacity - rows.len());
            rows.extend_from_slice(row);
        }
    }

    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Rows::Held(rows) => rows.capacity() * size_of::<u32>(),
            Rows::Mapped { .. } => 0,
        }
    }
}

/// A copy is made to be changed: it is held in memory.
impl Clone for Rows {
    fn clone(&self) -> Self {
        Rows::Held(self.all().to_vec())
    }
}
