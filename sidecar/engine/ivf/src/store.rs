//! Slots: every vector that was published, with its document and order, in append-only chunks that
//! all views share. A slot never changes; it only dies.
//!
//! A document with several vectors has as many slots in a row. The first one stands for it; the others
//! are marked as *followers*, by bits that chunks without any do not have.
//!
//! A change to a chunk that a view also holds copies that chunk first, so a publish costs what it
//! touches: the last chunk for new rows, and a few words per chunk in which something died. Chunks
//! of a snapshot keep their vectors in its files.

mod rows;
mod saved;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use knn_types::{DocKey, EngineError, SeqNo};

use crate::cold::Reads;
use crate::docs::Docs;
use crate::form::Form;
use crate::keys;
use crate::keyset::Key;
use crate::mapped::Damage;
use rows::Rows;
pub(crate) use saved::GROUP_CHUNKS;

/// Position of an entry in an index.
pub(crate) type Slot = u32;

/// Bytes of vectors per chunk, about: what a publish of one document may have to copy.
const CHUNK_BYTES: usize = 512 * 1024;

/// The slots of one index. Cloning shares all chunks.
#[derive(Clone)]
pub(crate) struct Store {
    form: Form,
    /// Words per row.
    words: usize,
    /// Slots per chunk are `1 << shift`.
    shift: u32,
    chunks: Vec<Arc<Chunk>>,
    slots: usize,
    live: usize,
    /// Documents that live.
    docs: usize,
    /// Some document has several slots, or had.
    grouped: bool,
    /// Stores with the same lineage have the same slots, as far as both reach.
    lineage: u64,
    /// What is wrong with mapped rows, if anything is.
    damage: Arc<Damage>,
    /// How fast rows are read.
    reads: Arc<Reads>,
}

#[derive(Clone)]
struct Chunk {
    rows: Arc<Rows>,
    docs: Arc<Docs>,
    /// One bit per slot.
    dead: Box<[u64]>,
    /// One bit per slot: it belongs to the document of the slot before it. Empty where none does.
    followers: Box<[u64]>,
}

impl Store {
    pub(crate) fn new(form: Form) -> Self {
        static LINEAGES: AtomicU64 = AtomicU64::new(1);
        let lineage = LINEAGES.fetch_add(1, Ordering::Relaxed);
        let words = form.words();
        let (shift, damage, reads) = (chunk_slots(words).ilog2(), Arc::default(), Arc::default());
        let (chunks, slots, live, docs, grouped) = (Vec::new(), 0, 0, 0, false);
        Self { form, words, shift, chunks, slots, live, docs, grouped, lineage, damage, reads }
    }

    /// How vectors are stored and compared.
    #[inline]
    pub(crate) fn form(&self) -> &Form {
        &self.form
    }

    /// Values of an expanded vector.
    pub(crate) fn dims(&self) -> usize {
        self.form.dims()
    }

    /// Words of a row.
    pub(crate) fn words(&self) -> usize {
        self.words
    }

    /// Slots given out so far, dead ones included.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// Slots that are not dead.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Documents that live: as many as slots, but for those that have several.
    pub(crate) fn docs(&self) -> usize {
        self.docs
    }

    /// Whether some document has several slots, or had.
    #[inline]
    pub(crate) fn is_grouped(&self) -> bool {
        self.grouped
    }

    /// Whether a slot is not the first one of its document.
    #[inline]
    pub(crate) fn is_follower(&self, slot: Slot) -> bool {
        if !self.grouped {
            return false;
        }
        let (chunk, at) = self.place(slot);
        let followers = &self.chunks[chunk].followers;
        !followers.is_empty() && bit(followers, at)
    }

    /// The first slot of the document that a slot belongs to.
    pub(crate) fn head(&self, slot: Slot) -> Slot {
        if !self.grouped {
            return slot;
        }
        let (mut chunk, mut at) = self.place(slot);
        loop {
            match last_unset(&self.chunks[chunk].followers, at) {
                Some(head) => return ((chunk << self.shift) + head) as Slot,
                // The first chunk begins with a document.
                None => (chunk, at) = (chunk - 1, self.mask()),
            }
        }
    }

    /// The slots of the document that begins with `head`.
    pub(crate) fn slots_from(&self, head: Slot) -> impl Iterator<Item = Slot> + use<'_> {
        let rest = head + 1..self.slots as Slot;
        std::iter::once(head).chain(rest.take_while(|&slot| self.is_follower(slot)))
    }

    pub(crate) fn lineage(&self) -> u64 {
        self.lineage
    }

    /// Where mapped rows note that they are damaged. Whoever read rows asks there before believing
    /// what came of them.
    pub(crate) fn damage(&self) -> &Arc<Damage> {
        &self.damage
    }

    /// An error if rows that were read may be wrong.
    pub(crate) fn sound(&self) -> Result<(), EngineError> {
        if self.damage.found() { Err(EngineError::Damaged(self.damage.what())) } else { Ok(()) }
    }

    /// Adds a document with its vector, or the first one of several.
    pub(crate) fn push(&mut self, key: &[u8], order: SeqNo, row: &[u32]) -> Slot {
        self.docs += 1;
        self.append(key, order, row)
    }

    /// Adds another vector of the document that was pushed last.
    pub(crate) fn push_follower(&mut self, key: &[u8], order: SeqNo, row: &[u32]) -> Slot {
        let slot = self.append(key, order, row);
        let (at, words) = (slot as usize & self.mask(), chunk_words(self.words));
        let chunk = Arc::make_mut(self.chunks.last_mut().expect("just pushed to"));
        if chunk.followers.is_empty() {
            chunk.followers = vec![0; words].into();
        }
        chunk.followers[at / 64] |= 1 << (at % 64);
        self.grouped = true;
        slot
    }

    /// Adds a copy of the slot of another store, as what it is there.
    pub(crate) fn push_copy(&mut self, from: &Store, slot: Slot) -> Slot {
        let (key, order, row) = (from.key(slot), from.order(slot), from.row(slot));
        if from.is_follower(slot) {
            self.push_follower(&key, order, row)
        } else {
            self.push(&key, order, row)
        }
    }

    fn append(&mut self, key: &[u8], order: SeqNo, row: &[u32]) -> Slot {
        assert_eq!(row.len(), self.words);
        // The last number is the name of padding.
        assert!(self.slots < Slot::MAX as usize, "fewer than 2^32 - 1 slots");
        let slot = self.slots as Slot;
        if self.slots & self.mask() == 0 {
            self.chunks.push(Arc::new(Chunk::empty(self.words)));
        }
        let capacity = (1usize << self.shift) * self.words;
        let chunk = Arc::make_mut(self.chunks.last_mut().expect("just pushed"));
        Arc::make_mut(&mut chunk.rows).append(row, capacity);
        Arc::make_mut(&mut chunk.docs).push(key, order, 1 << self.shift);
        self.slots += 1;
        self.live += 1;
        slot
    }

    /// Marks a slot dead. Twice is an error of the caller.
    pub(crate) fn kill(&mut self, slot: Slot) {
        let (chunk, at) = self.place(slot);
        let dead = &mut Arc::make_mut(&mut self.chunks[chunk]).dead;
        debug_assert!(!bit(dead, at), "slot {slot} dies twice");
        dead[at / 64] |= 1 << (at % 64);
        self.live -= 1;
        self.docs -= usize::from(!self.is_follower(slot));
    }

    /// Marks all slots of the document that begins with `head` dead.
    pub(crate) fn kill_document(&mut self, head: Slot) {
        self.kill(head);
        let mut slot = head + 1;
        while (slot as usize) < self.slots && self.is_follower(slot) {
            self.kill(slot);
            slot += 1;
        }
    }

    #[inline]
    pub(crate) fn is_dead(&self, slot: Slot) -> bool {
        let (chunk, at) = self.place(slot);
        bit(&self.chunks[chunk].dead, at)
    }

    #[inline]
    pub(crate) fn row(&self, slot: Slot) -> &[u32] {
        let (chunk, at) = self.place(slot);
        self.chunks[chunk].rows.values(at * self.words..(at + 1) * self.words)
    }

    /// Rows of slots, expanded, end to end.
    pub(crate) fn gather(&self, slots: &[Slot]) -> Vec<f32> {
        let mut rows = Vec::with_capacity(slots.len() * self.dims());
        slots.iter().for_each(|&slot| self.form.expand(self.row(slot), &mut rows));
        rows
    }

    /// Asks the processor for a row that will be compared soon.
    #[inline]
    pub(crate) fn prefetch(&self, slot: Slot) {
        let (chunk, at) = self.place(slot);
        let row = self.chunks[chunk].rows.unchecked(at * self.words..(at + 1) * self.words);
        ivf_kernels::prefetch_row(bytemuck::cast_slice(row));
    }

    /// Lets the system read a row that will be compared, if a file has it.
    pub(crate) fn will_need(&self, slot: Slot) {
        let (chunk, at) = self.place(slot);
        if let Rows::Mapped { file, start, .. } = &*self.chunks[chunk].rows {
            file.will_need(start + at * self.words..start + (at + 1) * self.words);
        }
    }

    /// How fast rows are read.
    pub(crate) fn reads(&self) -> &Reads {
        &self.reads
    }

    pub(crate) fn order(&self, slot: Slot) -> SeqNo {
        let (chunk, at) = self.place(slot);
        self.chunks[chunk].docs.order(at)
    }

    pub(crate) fn key(&self, slot: Slot) -> Key<'_> {
        let (chunk, at) = self.place(slot);
        self.chunks[chunk].docs.key(at)
    }

    pub(crate) fn doc(&self, slot: Slot) -> DocKey {
        keys::decode(&self.key(slot)).expect("the store holds encoded keys only")
    }

    /// All slots that are not dead, ascending.
    pub(crate) fn live_slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.chunks.iter().enumerate().flat_map(move |(number, chunk)| {
            let first = (number << self.shift) as Slot;
            (0..chunk.docs.len()).filter(|&at| !bit(&chunk.dead, at)).map(move |at| first + at as Slot)
        })
    }

    /// First slots of living documents, ascending, with their orders, as far as these lie in a range of
    /// `_seq_no`.
    pub(crate) fn live_between<'a>(
        &'a self,
        range: &'a Range<u64>,
    ) -> impl Iterator<Item = (Slot, SeqNo)> + 'a {
        let near = self.chunks.iter().enumerate().filter(|(_, chunk)| chunk.docs.may_lie_in(range));
        near.flat_map(move |(number, chunk)| {
            let first = (number << self.shift) as Slot;
            (0..chunk.docs.len())
                .filter(|&at| !bit(&chunk.dead, at))
                .filter(|&at| chunk.followers.is_empty() || !bit(&chunk.followers, at))
                .map(move |at| (first + at as Slot, chunk.docs.order(at)))
                .filter(|(_, order)| range.contains(&order.seq_no))
        })
    }

    /// Chunk by chunk: first slot, rows end to end, and the dead ones as bits.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = (Slot, &[u32], &[u64])> + '_ {
        let chunks = self.chunks.iter().enumerate();
        chunks.map(move |(number, chunk)| ((number << self.shift) as Slot, chunk.rows.all(), &*chunk.dead))
    }

    /// Bytes of vectors that are in memory and not in a file.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.rows.held_bytes() as u64).sum()
    }

    /// Slots of `before` that lived then and are dead now. `before` is an earlier state of this one.
    pub(crate) fn died_since(&self, before: &Store) -> Vec<Slot> {
        let mut died = Vec::new();
        for (number, (now, then)) in self.chunks.iter().zip(&before.chunks).enumerate() {
            if !Arc::ptr_eq(now, then) {
                let dying = (0..then.docs.len()).filter(|&at| bit(&now.dead, at) && !bit(&then.dead, at));
                died.extend(dying.map(|at| ((number << self.shift) + at) as Slot));
            }
        }
        died
    }

    /// Bytes of memory held, about; mapped rows are not.
    pub(crate) fn memory_bytes(&self) -> u64 {
        /// Counters of the three shared parts of a chunk, and its place in the list of chunks.
        const SHARED: usize = 3 * 16 + 8;
        let fixed = SHARED + size_of::<Chunk>() + size_of::<Rows>();
        let chunks = self.chunks.iter().map(|chunk| {
            let bits = size_of_val(&*chunk.dead) + size_of_val(&*chunk.followers);
            fixed + chunk.rows.held_bytes() + chunk.docs.memory_bytes() + bits
        });
        chunks.sum::<usize>() as u64
    }

    #[inline]
    fn mask(&self) -> usize {
        (1 << self.shift) - 1
    }

    #[inline]
    fn place(&self, slot: Slot) -> (usize, usize) {
        (slot as usize >> self.shift, slot as usize & self.mask())
    }
}

/// Slots per chunk for rows of so many words, a power of two.
fn chunk_slots(width: usize) -> usize {
    1 << (CHUNK_BYTES / (width * size_of::<u32>())).clamp(64, 4_096).ilog2()
}

/// Words of dead bits per chunk.
fn chunk_words(width: usize) -> usize {
    chunk_slots(width).div_ceil(64)
}

#[inline]
fn bit(words: &[u64], at: usize) -> bool {
    words[at / 64] >> (at % 64) & 1 == 1
}

/// The last position up to `at` whose bit is not set; no words are bits that are not set.
fn last_unset(words: &[u64], at: usize) -> Option<usize> {
    if words.is_empty() {
        return Some(at);
    }
    let upto = !words[at / 64] & (u64::MAX >> (63 - at % 64));
    let before = words[..at / 64].iter().enumerate().rev().map(|(number, word)| (number, !word));
    let mut words = std::iter::once((at / 64, upto)).chain(before);
    let (number, unset) = words.find(|&(_, unset)| unset != 0)?;
    Some(number * 64 + 63 - unset.leading_zeros() as usize)
}

impl Chunk {
    fn empty(width: usize) -> Self {
        let rows = Arc::new(Rows::Held(Vec::new()));
        let dead = vec![0; chunk_words(width)].into();
        Self { rows, docs: Arc::default(), dead, followers: Box::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_does_not_see_what_happens_later() {
        let order = |seq_no| SeqNo { primary_term: 1, seq_no };
        let mut store = Store::new(Form::floats(3));
        for n in 0..5_000u64 {
            store.push(&n.to_le_bytes(), order(n), &[n as u32; 3]);
        }
        let before = store.clone();
        store.kill(17);
        store.kill(4_999);
        store.push(b"late", order(9_999), &[1; 3]);
        assert_eq!((before.live(), before.slots()), (5_000, 5_000));
        assert!(!before.is_dead(17) && store.is_dead(17));
        assert_eq!(before.live_slots().count(), 5_000);
        assert_eq!(store.live_slots().count(), 4_999);
        assert_eq!(store.died_since(&before), [17, 4_999]);
        assert_eq!((store.row(5_000), &*store.key(5_000)), (&[1; 3][..], &b"late"[..]));
    }

    /// Documents of one to 400 slots, beyond the borders of words and chunks.
    #[test]
    fn slots_of_a_document_stay_together() {
        let order = |seq_no| SeqNo { primary_term: 1, seq_no };
        // Sixty-four slots to a chunk.
        let mut store = Store::new(Form::floats(4_096));
        let mut heads = Vec::new();
        for (n, vectors) in [1, 3, 64, 1, 130, 62, 1, 1, 400, 2].into_iter().enumerate() {
            let key = [n as u8];
            heads.push((store.push(&key, order(n as u64), &[0; 4_096]), vectors));
            for _ in 1..vectors {
                store.push_follower(&key, order(n as u64), &[0; 4_096]);
            }
        }
        assert!(store.chunks.len() > 8);
        for &(head, vectors) in &heads {
            assert!(store.slots_from(head).eq(head..head + vectors));
            assert!((head..head + vectors).all(|slot| store.head(slot) == head));
        }
        assert_eq!((store.docs(), store.live()), (10, 665));
        let before = store.clone();
        store.kill_document(heads[4].0);
        store.kill_document(heads[9].0);
        assert_eq!((store.docs(), store.live(), before.docs()), (8, 533, 10));
        assert_eq!(store.died_since(&before).len(), 132);
        assert_eq!(store.live_between(&(0..u64::MAX)).count(), 8);
        let mut copy = Store::new(Form::floats(4_096));
        for slot in store.live_slots() {
            copy.push_copy(&store, slot);
        }
        assert_eq!((copy.docs(), copy.live(), copy.slots()), (8, 533, 533));
    }
}
