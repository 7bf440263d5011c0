//! Inverted lists: the codes of the entries that belong to one centroid, in blocks of 32.
//!
//! A list has a frozen part, which only a maintenance replaces, and a fresh part, which takes what
//! is published. Publishing into a list copies its fresh part only.

use std::sync::Arc;

use ivf_kernels::{BLOCK, BlockShape, Line};

use crate::coarse::ListNo;
use crate::generation::Generation;
use crate::store::{Slot, Store};
use crate::topk::TopK;

/// The name of entries that only fill up a block; no scan reports them.
pub(crate) const PADDING: Slot = Slot::MAX;

/// Entries end to end, padded to whole blocks.
#[derive(Clone, Default)]
pub(crate) struct Part {
    pub(crate) lines: Vec<Line>,
    /// One per entry, padding included.
    pub(crate) slots: Vec<Slot>,
    pub(crate) len: usize,
}

/// The lists of one generation as one state of the index has them.
#[derive(Clone)]
pub(crate) struct Lists {
    pub(crate) generation: Arc<Generation>,
    pub(crate) lists: Vec<Arc<List>>,
    pub(crate) drift: Drift,
}

/// What was added since training, to tell whether the centroids still fit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drift {
    pub(crate) added: usize,
    /// Sum of squared lengths of residuals, each from the centroids of its time.
    pub(crate) residuals: f64,
    /// The first slot that training has not seen.
    pub(crate) since: Slot,
}

/// One inverted list.
#[derive(Clone, Default)]
pub(crate) struct List {
    pub(crate) frozen: Arc<Part>,
    pub(crate) fresh: Part,
}

/// One coded vector, ready to be put into its lists.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Squared length of the residual, the first one.
    pub(crate) residual: f32,
    /// One for each list that it stands in.
    pub(crate) codes: Box<[Code]>,
}

/// The code of a vector in one of its lists.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) list: ListNo,
    pub(crate) add: f32,
    pub(crate) mul: f32,
    pub(crate) nibbles: Box<[u8]>,
}

/// The lists that each slot stands in.
pub(crate) struct Homes {
    /// So many per slot; zeros for dead ones.
    pub(crate) copies: usize,
    pub(crate) lists: Vec<ListNo>,
}

impl Homes {
    pub(crate) fn of(&self, slot: Slot) -> &[ListNo] {
        &self.lists[slot as usize * self.copies..][..self.copies]
    }
}

impl Part {
    pub(crate) fn with_capacity(shape: BlockShape, entries: usize) -> Self {
        let blocks = entries.div_ceil(BLOCK);
        let (lines, slots) = (blocks * shape.lines(), blocks * BLOCK);
        Self { lines: Vec::with_capacity(lines), slots: Vec::with_capacity(slots), len: 0 }
    }

    pub(crate) fn push(&mut self, shape: BlockShape, slot: Slot, nibbles: &[u8], add: f32, mul: f32) {
        let at = self.len % BLOCK;
        shape.put(self.grow(shape, slot), at, nibbles, add, mul);
    }

    /// Adds an entry without a code; returns the block that it stands in.
    fn grow(&mut self, shape: BlockShape, slot: Slot) -> &mut [Line] {
        if self.len.is_multiple_of(BLOCK) {
            shape.push_block(&mut self.lines);
            self.slots.resize(self.slots.len() + BLOCK, PADDING);
        }
        self.slots[self.len] = slot;
        self.len += 1;
        let block = self.lines.len() - shape.lines();
        &mut self.lines[block..]
    }

    /// Copies entries to the end of `into`, each under the slot that `rename` gives it, or not at all.
    pub(crate) fn copy_into(
        &self,
        shape: BlockShape,
        range: std::ops::Range<usize>,
        rename: impl Fn(Slot) -> Option<Slot>,
        into: &mut Part,
    ) {
        for entry in range {
            if let Some(slot) = rename(self.slots[entry]) {
                let block = &self.lines[entry / BLOCK * shape.lines()..][..shape.lines()];
                let to = into.len % BLOCK;
                shape.copy(block, entry % BLOCK, into.grow(shape, slot), to);
            }
        }
    }

    /// Slots of the entries, without padding.
    pub(crate) fn members(&self) -> &[Slot] {
        &self.slots[..self.len]
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>() + self.slots.capacity() * size_of::<Slot>()
    }
}

impl List {
    /// A list of frozen entries alone.
    pub(crate) fn of(frozen: Part) -> Self {
        Self { frozen: Arc::new(frozen), fresh: Part::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.frozen.len + self.fresh.len
    }

    /// Slots of all entries, dead ones included.
    pub(crate) fn members(&self) -> impl Iterator<Item = Slot> + '_ {
        self.frozen.members().iter().chain(self.fresh.members()).copied()
    }

    /// Copies all entries to the end of `into`; see [`Part::copy_into`].
    pub(crate) fn copy_into(
        &self,
        shape: BlockShape,
        rename: impl Fn(Slot) -> Option<Slot>,
        into: &mut Part,
    ) {
        self.frozen.copy_into(shape, 0..self.frozen.len, &rename, into);
        self.fresh.copy_into(shape, 0..self.fresh.len, &rename, into);
    }
}

impl Lists {
    /// Puts a coded vector into its lists.
    pub(crate) fn push(&mut self, slot: Slot, entry: &Entry) {
        let shape = self.generation.coder.shape();
        for code in &entry.codes {
            let list = Arc::make_mut(&mut self.lists[code.list as usize]);
            list.fresh.push(shape, slot, &code.nibbles, code.add, code.mul);
        }
        self.drift.added += 1;
        self.drift.residuals += f64::from(entry.residual);
    }

    /// What collects the nearest of entries read from the lists.
    pub(crate) fn top(&self, store: &Store, k: usize) -> TopK {
        TopK::over(store, k, self.generation.spill)
    }

    /// Mean squared residual of what was added since training, in units of that at training.
    pub(crate) fn drift(&self) -> Option<f32> {
        let Drift { added, residuals, .. } = self.drift;
        let trained = f64::from(self.generation.trained.residual);
        (added > 0 && residuals > 0.0).then(|| (residuals / added as f64 / trained) as f32)
    }

    pub(crate) fn nlist(&self) -> usize {
        self.lists.len()
    }

    /// The lists that each of so many slots stands in.
    pub(crate) fn homes(&self, slots: usize) -> Homes {
        let copies = self.generation.copies();
        let mut homes = Homes { copies, lists: vec![0; slots * copies] };
        let mut known = vec![0u8; slots];
        for (number, list) in self.lists.iter().enumerate() {
            for slot in list.members() {
                let known = &mut known[slot as usize];
                homes.lists[slot as usize * copies + usize::from(*known)] = number as ListNo;
                *known += 1;
            }
        }
        homes
    }

    /// Vectors in fresh parts.
    pub(crate) fn fresh(&self) -> usize {
        self.lists.iter().map(|list| list.fresh.len).sum::<usize>() / self.generation.copies()
    }

    /// Sum of squares of list sizes against even lists.
    pub(crate) fn imbalance(&self) -> f32 {
        let total: f64 = self.lists.iter().map(|list| list.len() as f64).sum();
        let squares: f64 = self.lists.iter().map(|list| (list.len() as f64).powi(2)).sum();
        if total > 0.0 { (squares * self.lists.len() as f64 / (total * total)) as f32 } else { 1.0 }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let parts = self.lists.iter().map(|list| list.frozen.memory_bytes() + list.fresh.memory_bytes() + 96);
        parts.sum::<usize>() + self.generation.coarse.memory_bytes()
    }
}
