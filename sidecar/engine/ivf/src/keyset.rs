//! The encoded keys of one full chunk, without what they have in common.
//!
//! Ids that Elasticsearch gives documents are made of a clock, a counter and a machine's address, so
//! most of their bytes are the same throughout a chunk. Keys of one length are stored by the columns
//! that differ; keys of different lengths without their common beginning.

use std::ops::Deref;

use crate::docs::OpenKeys;
use crate::ints::PackedInts;
use crate::keys;

/// Longest key that is put together without an allocation.
const INLINE: usize = 62;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) enum KeySet {
    /// Keys of one length: the columns `varying` from `bytes`, all others from `template`.
    Even { template: Box<[u8]>, varying: Box<[u16]>, bytes: Box<[u8]> },
    /// `prefix`, and the bytes up to the key's end.
    Ragged { prefix: Box<[u8]>, ends: PackedInts, bytes: Box<[u8]> },
}

/// An encoded key, borrowed where it is stored in one piece.
pub(crate) enum Key<'a> {
    Stored(&'a [u8]),
    Inline { len: u8, bytes: [u8; INLINE] },
    Long(Box<[u8]>),
}

impl Deref for Key<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Key::Stored(bytes) => bytes,
            Key::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Key::Long(bytes) => bytes,
        }
    }
}

impl Key<'_> {
    /// A key that starts as `template` and ends with `rest`, changed by `change`.
    #[inline]
    fn made(template: &[u8], rest: &[u8], change: impl FnOnce(&mut [u8])) -> Self {
        let len = template.len() + rest.len();
        if len <= INLINE {
            let mut bytes = [0; INLINE];
            bytes[..template.len()].copy_from_slice(template);
            bytes[template.len()..len].copy_from_slice(rest);
            change(&mut bytes[..len]);
            return Key::Inline { len: len as u8, bytes };
        }
        let mut bytes = [template, rest].concat();
        change(&mut bytes);
        Key::Long(bytes.into())
    }
}

impl KeySet {
    pub(crate) fn pack(open: &OpenKeys) -> Self {
        let keys = || (0..open.len()).map(|at| open.get(at));
        let template = keys().next().unwrap_or_default();
        if template.len() <= usize::from(u16::MAX) && keys().all(|key| key.len() == template.len()) {
            let varies = |&at: &u16| keys().any(|key| key[usize::from(at)] != template[usize::from(at)]);
            let varying: Box<[u16]> = (0..template.len() as u16).filter(varies).collect();
            let bytes = keys().flat_map(|key| varying.iter().map(|&at| key[usize::from(at)])).collect();
            return KeySet::Even { template: template.into(), varying, bytes };
        }
        let common = |key: &[u8]| key.iter().zip(template).take_while(|(a, b)| a == b).count();
        let prefix = keys().map(common).min().unwrap_or(0);
        let mut end = 0;
        let ends: Vec<u64> = keys()
            .map(|key| {
                end += (key.len() - prefix) as u64;
                end
            })
            .collect();
        KeySet::Ragged {
            prefix: template[..prefix].into(),
            ends: PackedInts::pack(ends.iter().copied()),
            bytes: keys().flat_map(|key| &key[prefix..]).copied().collect(),
        }
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> Key<'_> {
        match self {
            KeySet::Even { template, varying, bytes } => Key::made(template, &[], |key| {
                let row = &bytes[at * varying.len()..][..varying.len()];
                varying.iter().zip(row).for_each(|(&column, &byte)| key[usize::from(column)] = byte);
            }),
            KeySet::Ragged { prefix, ends, bytes } => {
                let start = if at == 0 { 0 } else { ends.get(at - 1) as usize };
                let rest = &bytes[start..ends.get(at) as usize];
                if prefix.is_empty() { Key::Stored(rest) } else { Key::made(prefix, rest, |_| {}) }
            }
        }
    }

    /// Whether there are `count` keys, each of which can be decoded.
    pub(crate) fn is_sound(&self, count: usize) -> bool {
        let fits = match self {
            KeySet::Even { template, varying, bytes } => {
                bytes.len() == count * varying.len()
                    && varying.iter().all(|&column| usize::from(column) < template.len())
            }
            KeySet::Ragged { ends, bytes, .. } => {
                ends.is_sound(count)
                    && (0..count).is_sorted_by_key(|at| ends.get(at))
                    && count.checked_sub(1).is_some_and(|last| ends.get(last) == bytes.len() as u64)
            }
        };
        fits && (0..count).all(|at| keys::is_sound(&self.get(at)))
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            KeySet::Even { template, varying, bytes } => {
                template.len() + size_of_val(&**varying) + bytes.len()
            }
            KeySet::Ragged { prefix, ends, bytes } => prefix.len() + ends.memory_bytes() + bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(keys: &[Vec<u8>]) -> KeySet {
        let mut open = OpenKeys::default();
        keys.iter().for_each(|key| open.push(key));
        let set = KeySet::pack(&open);
        assert!(set.is_sound(keys.len()));
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(&*set.get(at), key.as_slice());
        }
        set
    }

    proptest! {
        #[test]
        fn keys_come_back(
            prefix in "[a-z]{0,80}",
            tails in proptest::collection::vec("[a-c]{0,3}", 1..50),
        ) {
            let keys: Vec<Vec<u8>> = tails.iter().map(|tail| format!("{prefix}{tail}").into_bytes()).collect();
            check(&keys);
        }

        #[test]
        fn keys_of_one_length_come_back(
            keys in proptest::collection::vec("[ab]x[ab]{2}-[a-z]", 1..50),
        ) {
            let keys: Vec<Vec<u8>> = keys.into_iter().map(String::into_bytes).collect();
            prop_assert!(matches!(check(&keys), KeySet::Even { .. }), "one length");
        }
    }

    #[test]
    fn ids_that_count_take_little() {
        // The first byte of such an id is the low byte of a counter, one in the middle comes from a clock.
        let id = |n: u8| vec![0x80, n, 0x12, 0x34, 0x99, 1, 2, 3, 4, 5, 6, n / 50, 8, 9, 10, 11];
        let set = check(&(0..=255).map(id).collect::<Vec<_>>());
        assert!(set.memory_bytes() < 256 * 2 + 32, "{}", set.memory_bytes());
    }
}
