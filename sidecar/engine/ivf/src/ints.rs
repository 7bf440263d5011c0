//! Numbers that lie near each other, in as few bits as their range needs.
//!
//! The sequence numbers of a chunk are mostly consecutive, its primary terms mostly one: eight bits
//! and none at all instead of sixty-four.

/// So many numbers; never changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct PackedInts {
    /// The smallest one.
    pub(crate) base: u64,
    /// Bits of each difference from `base`, 0..=64.
    pub(crate) width: u32,
    /// Differences end to end, low bits first.
    pub(crate) words: Box<[u64]>,
}

impl PackedInts {
    pub(crate) fn pack(values: impl Iterator<Item = u64> + Clone) -> Self {
        let base = values.clone().min().unwrap_or(0);
        let highest = values.clone().max().unwrap_or(0);
        let width = u64::BITS - (highest - base).leading_zeros();
        let mut words = vec![0u64; words_for(values.clone().count(), width)].into_boxed_slice();
        if width > 0 {
            for (at, value) in values.enumerate() {
                let bit = at * width as usize;
                let (word, shift) = (bit / 64, bit % 64);
                words[word] |= (value - base) << shift;
                if shift + width as usize > 64 {
                    words[word + 1] |= (value - base) >> (64 - shift);
                }
            }
        }
        Self { base, width, words }
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> u64 {
        if self.width == 0 {
            return self.base;
        }
        let bit = at * self.width as usize;
        let (word, shift) = (bit / 64, bit % 64);
        let mut difference = self.words[word] >> shift;
        if shift + self.width as usize > 64 {
            difference |= self.words[word + 1] << (64 - shift);
        }
        // Never wraps for what `pack` made.
        self.base.wrapping_add(difference & (u64::MAX >> (64 - self.width)))
    }

    /// Bounds that no number lies outside of; the lower one is reached.
    pub(crate) fn bounds(&self) -> (u64, u64) {
        let span = if self.width == 0 { 0 } else { u64::MAX >> (64 - self.width) };
        (self.base, self.base.saturating_add(span))
    }

    /// Whether `count` numbers can be read.
    pub(crate) fn is_sound(&self, count: usize) -> bool {
        self.width <= u64::BITS && self.words.len() == words_for(count, self.width)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.words)
    }
}

fn words_for(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(
            base in prop_oneof![Just(0u64), any::<u64>()],
            width in 0u32..=64,
            seeds in proptest::collection::vec(any::<u64>(), 0..300),
        ) {
            let mask = if width == 0 { 0 } else { u64::MAX >> (64 - width) };
            let values: Vec<u64> = seeds.iter().map(|seed| base.saturating_add(seed & mask)).collect();
            let packed = PackedInts::pack(values.iter().copied());
            prop_assert!(packed.is_sound(values.len()));
            prop_assert!(packed.width <= width);
            for (at, &value) in values.iter().enumerate() {
                prop_assert_eq!(packed.get(at), value);
                prop_assert!((packed.bounds().0..=packed.bounds().1).contains(&value));
            }
        }
    }

    #[test]
    fn consecutive_numbers_take_a_byte_each_and_equal_ones_nothing() {
        assert_eq!(PackedInts::pack(1_000_000..1_000_256).memory_bytes(), 256);
        assert_eq!(PackedInts::pack(std::iter::repeat_n(7, 256)).memory_bytes(), 0);
    }
}
