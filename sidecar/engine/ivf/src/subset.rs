//! What a filter knows of one generation of lists, so that searches under it touch little else
//! than what it allows.
//!
//! A filter that allows a small share has the codes of its entries copied out of their lists, end to
//! end in the order of the lists: scanning them costs what they are, not what lies between them.
//! A filter that allows much would copy much, and nearly every block has an allowed entry: its
//! entries stay where they are and are marked by bits. Both count the allowed entries of each list.

use ivf_kernels::{BLOCK, Line};

use crate::coarse::ListNo;
use crate::filter::Filter;
use crate::lists::{List, Lists, PADDING, Part};
use crate::store::{Slot, Store};

/// Codes are copied where at most one slot in so many is allowed.
const COPIED_SHARE: usize = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct Subset {
    /// Of the codes and list numbers.
    pub(crate) generation: u64,
    /// The first slot that is not in here.
    pub(crate) up_to: Slot,
    /// Where the entries of each list start among all that are allowed, and the end.
    starts: Vec<u32>,
    pub(crate) entries: Entries,
}

/// See [`Subset`].
#[derive(Debug)]
pub(crate) enum Entries {
    /// Codes in whole blocks, and a slot for each entry, padding included.
    Copied { lines: Vec<Line>, slots: Vec<Slot> },
    /// One bit for each slot.
    Marked(Vec<u64>),
}

/// Whether codes of so many allowed slots are copied.
pub(crate) fn is_copied(allowed: usize, slots: usize) -> bool {
    allowed * COPIED_SHARE <= slots
}

impl Subset {
    /// Finds the entries of `filter` in `lists`. An entry that stands in two lists counts in both.
    pub(crate) fn new(filter: &Filter, store: &Store, lists: &Lists) -> Self {
        let up_to = filter.decided(store);
        let bits = filter.bits(up_to);
        let allowed: usize = bits.iter().map(|word| word.count_ones() as usize).sum();
        let generation = lists.generation.id;
        let mut starts = Vec::with_capacity(lists.nlist() + 1);
        if !is_copied(allowed, store.slots()) {
            let mut end = 0;
            for list in &lists.lists {
                starts.push(end);
                end += list.members().filter(|&slot| bit(&bits, slot)).count() as u32;
            }
            starts.push(end);
            return Self { generation, up_to, starts, entries: Entries::Marked(bits) };
        }
        let shape = lists.generation.coder.shape();
        let mut slots: Vec<Slot> = Vec::with_capacity(allowed.next_multiple_of(BLOCK));
        let mut lines = Vec::with_capacity(allowed.div_ceil(BLOCK) * shape.lines());
        for list in &lists.lists {
            starts.push(slots.len() as u32);
            for (part, at, slot) in entries(list) {
                if bit(&bits, slot) {
                    if slots.len().is_multiple_of(BLOCK) {
                        shape.push_block(&mut lines);
                    }
                    let from = &part.lines[at / BLOCK * shape.lines()..][..shape.lines()];
                    let last = lines.len() - shape.lines();
                    shape.copy(from, at % BLOCK, &mut lines[last..], slots.len() % BLOCK);
                    slots.push(slot);
                }
            }
        }
        starts.push(slots.len() as u32);
        slots.resize(slots.len().next_multiple_of(BLOCK), PADDING);
        Self { generation, up_to, starts, entries: Entries::Copied { lines, slots } }
    }

    /// Allowed entries in all lists.
    pub(crate) fn len(&self) -> usize {
        self.starts.last().map_or(0, |&end| end as usize)
    }

    /// Where the allowed entries of a list stand among all of them.
    pub(crate) fn range(&self, list: ListNo) -> std::ops::Range<usize> {
        self.starts[list as usize] as usize..self.starts[list as usize + 1] as usize
    }

    pub(crate) fn nlist(&self) -> usize {
        self.starts.len() - 1
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let entries = match &self.entries {
            Entries::Copied { lines, slots } => {
                lines.capacity() * size_of::<Line>() + slots.capacity() * size_of::<Slot>()
            }
            Entries::Marked(bits) => size_of_val(&bits[..]),
        };
        entries + size_of_val(&self.starts[..])
    }
}

/// Entries of a list: part, position in it, slot.
fn entries(list: &List) -> impl Iterator<Item = (&Part, usize, Slot)> {
    let parts = [&*list.frozen, &list.fresh].into_iter();
    parts.flat_map(|part| part.members().iter().enumerate().map(move |(at, &slot)| (part, at, slot)))
}

/// Whether the bit of a slot is set; slots beyond the last bit have none.
#[inline]
pub(crate) fn bit(bits: &[u64], slot: Slot) -> bool {
    bits.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
}
