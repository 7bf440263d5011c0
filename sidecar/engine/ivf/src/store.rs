//! Slots: every vector that was published, with its document and order, in append-only chunks that
//! all views share. A slot never changes; it only dies.
//!
//! A change to a chunk that a view also holds copies that chunk first, so a publish costs what it
//! touches: the last chunk for new rows, and a few words per chunk in which something died.

use std::sync::Arc;

use knn_types::{DocKey, SeqNo};

use crate::keys;

/// Position of an entry in an index.
pub(crate) type Slot = u32;

/// Bytes of vectors per chunk, about: what a publish of one document may have to copy.
const CHUNK_BYTES: usize = 512 * 1024;

/// The slots of one index. Cloning shares all chunks.
#[derive(Clone)]
pub(crate) struct Store {
    dims: usize,
    /// Slots per chunk are `1 << shift`.
    shift: u32,
    chunks: Vec<Arc<Chunk>>,
    slots: usize,
    live: usize,
}

#[derive(Clone)]
struct Chunk {
    rows: Arc<Vec<f32>>,
    docs: Arc<Docs>,
    /// One bit per slot.
    dead: Box<[u64]>,
}

/// Documents of the slots of one chunk.
#[derive(Clone, Default)]
struct Docs {
    /// Encoded keys end to end.
    keys: Vec<u8>,
    /// Where each key ends.
    ends: Vec<u32>,
    orders: Vec<SeqNo>,
}

impl Store {
    pub(crate) fn new(dims: usize) -> Self {
        let per_chunk = (CHUNK_BYTES / (dims * size_of::<f32>())).clamp(64, 4_096);
        Self { dims, shift: per_chunk.ilog2(), chunks: Vec::new(), slots: 0, live: 0 }
    }

    pub(crate) fn dims(&self) -> usize {
        self.dims
    }

    /// Slots given out so far, dead ones included.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    pub(crate) fn live(&self) -> usize {
        self.live
    }

    pub(crate) fn push(&mut self, key: &[u8], order: SeqNo, vector: &[f32]) -> Slot {
        assert_eq!(vector.len(), self.dims);
        let slot = Slot::try_from(self.slots).expect("fewer than 2^32 slots");
        if self.slots & self.mask() == 0 {
            self.chunks.push(Arc::new(Chunk::empty(1 << self.shift)));
        }
        let capacity = (1usize << self.shift) * self.dims;
        let chunk = Arc::make_mut(self.chunks.last_mut().expect("just pushed"));
        let rows = Arc::make_mut(&mut chunk.rows);
        rows.reserve_exact(capacity - rows.len());
        rows.extend_from_slice(vector);
        let docs = Arc::make_mut(&mut chunk.docs);
        docs.keys.extend_from_slice(key);
        docs.ends.push(u32::try_from(docs.keys.len()).expect("a chunk's keys fit"));
        docs.orders.push(order);
        self.slots += 1;
        self.live += 1;
        slot
    }

    /// Marks a slot dead. Twice is an error of the caller.
    pub(crate) fn kill(&mut self, slot: Slot) {
        let (chunk, at) = self.place(slot);
        let dead = &mut Arc::make_mut(&mut self.chunks[chunk]).dead;
        debug_assert!(dead[at / 64] >> (at % 64) & 1 == 0, "slot {slot} dies twice");
        dead[at / 64] |= 1 << (at % 64);
        self.live -= 1;
    }

    #[inline]
    pub(crate) fn is_dead(&self, slot: Slot) -> bool {
        let (chunk, at) = self.place(slot);
        self.chunks[chunk].dead[at / 64] >> (at % 64) & 1 == 1
    }

    #[inline]
    pub(crate) fn row(&self, slot: Slot) -> &[f32] {
        let (chunk, at) = self.place(slot);
        &self.chunks[chunk].rows[at * self.dims..(at + 1) * self.dims]
    }

    pub(crate) fn order(&self, slot: Slot) -> SeqNo {
        let (chunk, at) = self.place(slot);
        self.chunks[chunk].docs.orders[at]
    }

    pub(crate) fn key(&self, slot: Slot) -> &[u8] {
        let (chunk, at) = self.place(slot);
        self.chunks[chunk].docs.key(at)
    }

    pub(crate) fn doc(&self, slot: Slot) -> DocKey {
        keys::decode(self.key(slot)).expect("the store holds encoded keys only")
    }

    /// All slots that are not dead, ascending.
    pub(crate) fn live_slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.chunks.iter().enumerate().flat_map(move |(number, chunk)| {
            let first = (number << self.shift) as Slot;
            (0..chunk.docs.ends.len())
                .filter(|at| chunk.dead[at / 64] >> (at % 64) & 1 == 0)
                .map(move |at| first + at as Slot)
        })
    }

    /// Chunk by chunk: first slot, rows end to end, and the dead ones as bits.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = (Slot, &[f32], &[u64])> + '_ {
        let chunks = self.chunks.iter().enumerate();
        chunks
            .map(move |(number, chunk)| ((number << self.shift) as Slot, chunk.rows.as_slice(), &*chunk.dead))
    }

    /// Slots of `before` that lived then and are dead now. `before` is an earlier state of this one.
    pub(crate) fn died_since(&self, before: &Store) -> Vec<Slot> {
        let mut died = Vec::new();
        for (number, (now, then)) in self.chunks.iter().zip(&before.chunks).enumerate() {
            if Arc::ptr_eq(now, then) {
                continue;
            }
            for at in 0..then.docs.ends.len() {
                let bit = |chunk: &Chunk| chunk.dead[at / 64] >> (at % 64) & 1 == 1;
                if bit(now) && !bit(then) {
                    died.push(((number << self.shift) + at) as Slot);
                }
            }
        }
        died
    }

    /// Bytes of memory held, about.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let chunks = self.chunks.iter().map(|chunk| {
            chunk.rows.capacity() * size_of::<f32>()
                + chunk.docs.keys.capacity()
                + chunk.docs.ends.capacity() * size_of::<u32>()
                + chunk.docs.orders.capacity() * size_of::<SeqNo>()
                + chunk.dead.len() * size_of::<u64>()
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

impl Chunk {
    fn empty(slots: usize) -> Self {
        Self { rows: Arc::default(), docs: Arc::default(), dead: vec![0; slots.div_ceil(64)].into() }
    }
}

impl Docs {
    fn key(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        &self.keys[start..self.ends[at] as usize]
    }
}
