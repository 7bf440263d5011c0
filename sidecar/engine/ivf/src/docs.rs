//! The documents of one chunk: their keys and orders, plain while the chunk fills, packed once it is
//! full and will not change any more.

use std::ops::Range;

use knn_types::SeqNo;

use crate::ints::PackedInts;
use crate::keyset::{Key, KeySet};

/// Documents of the slots of one chunk.
#[derive(Clone)]
pub(crate) enum Docs {
    Open(OpenDocs),
    Sealed(SealedDocs),
}

/// Documents that are still added to.
#[derive(Clone, Default)]
pub(crate) struct OpenDocs {
    keys: OpenKeys,
    orders: Vec<SeqNo>,
}

/// Encoded keys end to end.
#[derive(Clone, Default)]
pub(crate) struct OpenKeys {
    bytes: Vec<u8>,
    /// Where each key ends.
    ends: Vec<u32>,
}

/// Documents that do not change any more.
#[derive(Clone)]
pub(crate) struct SealedDocs {
    pub(crate) count: usize,
    pub(crate) keys: KeySet,
    pub(crate) seq_nos: PackedInts,
    pub(crate) terms: PackedInts,
}

impl Default for Docs {
    fn default() -> Self {
        Docs::Open(OpenDocs::default())
    }
}

impl Docs {
    pub(crate) fn len(&self) -> usize {
        match self {
            Docs::Open(open) => open.orders.len(),
            Docs::Sealed(sealed) => sealed.count,
        }
    }

    #[inline]
    pub(crate) fn key(&self, at: usize) -> Key<'_> {
        match self {
            Docs::Open(open) => Key::Stored(open.keys.get(at)),
            Docs::Sealed(sealed) => sealed.keys.get(at),
        }
    }

    #[inline]
    pub(crate) fn order(&self, at: usize) -> SeqNo {
        match self {
            Docs::Open(open) => open.orders[at],
            Docs::Sealed(SealedDocs { seq_nos, terms, .. }) => {
                SeqNo { primary_term: terms.get(at), seq_no: seq_nos.get(at) }
            }
        }
    }

    /// Whether some document may have a `_seq_no` in the range; a look at all of them decides.
    pub(crate) fn may_lie_in(&self, range: &Range<u64>) -> bool {
        match self {
            Docs::Open(open) => open.orders.iter().any(|order| range.contains(&order.seq_no)),
            Docs::Sealed(sealed) => {
                let (least, most) = sealed.seq_nos.bounds();
                least < range.end && most >= range.start
            }
        }
    }

    /// Adds a document; the one that makes them `full` seals them.
    pub(crate) fn push(&mut self, key: &[u8], order: SeqNo, full: usize) {
        if let Docs::Sealed(sealed) = self {
            *self = Docs::Open(sealed.opened());
        }
        if let Docs::Open(open) = self {
            open.push(key, order);
            if open.orders.len() == full {
                *self = Docs::Sealed(open.sealed());
            }
        }
    }

    /// The packed form, as files have it.
    pub(crate) fn sealed(&self) -> SealedDocs {
        match self {
            Docs::Open(open) => open.sealed(),
            Docs::Sealed(sealed) => sealed.clone(),
        }
    }

    pub(crate) fn is_sound(&self) -> bool {
        match self {
            Docs::Open(_) => true,
            Docs::Sealed(sealed) => {
                sealed.seq_nos.is_sound(sealed.count)
                    && sealed.terms.is_sound(sealed.count)
                    && sealed.keys.is_sound(sealed.count)
            }
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let inside = match self {
            Docs::Open(open) => {
                open.keys.bytes.capacity()
                    + open.keys.ends.capacity() * size_of::<u32>()
                    + open.orders.capacity() * size_of::<SeqNo>()
            }
            Docs::Sealed(sealed) => {
                sealed.keys.memory_bytes() + sealed.seq_nos.memory_bytes() + sealed.terms.memory_bytes()
            }
        };
        size_of::<Self>() + inside
    }
}

impl OpenDocs {
    pub(crate) fn push(&mut self, key: &[u8], order: SeqNo) {
        self.keys.push(key);
        self.orders.push(order);
    }

    fn sealed(&self) -> SealedDocs {
        SealedDocs {
            count: self.orders.len(),
            keys: KeySet::pack(&self.keys),
            seq_nos: PackedInts::pack(self.orders.iter().map(|order| order.seq_no)),
            terms: PackedInts::pack(self.orders.iter().map(|order| order.primary_term)),
        }
    }
}

impl OpenKeys {
    pub(crate) fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(u32::try_from(self.bytes.len()).expect("a chunk's keys fit"));
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        &self.bytes[start..self.ends[at] as usize]
    }
}

impl SealedDocs {
    /// The plain form, to be added to.
    fn opened(&self) -> OpenDocs {
        let mut open = OpenDocs::default();
        for at in 0..self.count {
            let order = SeqNo { primary_term: self.terms.get(at), seq_no: self.seq_nos.get(at) };
            open.push(&self.keys.get(at), order);
        }
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_come_back_open_sealed_and_opened_again() {
        for terms in [&[1u64][..], &[1, 1, 1], &[1, 2], &[1, 1, 2, 2, 1], &[3, 1, 1, 1]] {
            let mut docs = Docs::default();
            let (key, order) = (
                |at: usize| format!("key {at}").into_bytes(),
                |at: usize, primary_term| SeqNo { primary_term, seq_no: 10 - at as u64 },
            );
            for (at, &term) in terms.iter().enumerate() {
                docs.push(&key(at), order(at, term), terms.len());
            }
            assert!(matches!(docs, Docs::Sealed(_)) && docs.is_sound());
            docs.push(b"one more", order(9, 7), terms.len() + 2);
            assert!(matches!(docs, Docs::Open(_)));
            for (at, &term) in terms.iter().enumerate() {
                assert_eq!(&*docs.key(at), key(at).as_slice());
                assert_eq!(docs.order(at), order(at, term), "{terms:?}");
            }
            assert_eq!((&*docs.key(terms.len()), docs.len()), (&b"one more"[..], terms.len() + 1));
        }
    }
}
