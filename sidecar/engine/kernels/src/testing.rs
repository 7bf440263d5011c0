//! Repeatable test values, and how many of them.

/// Values in -1..1, different for each seed.
pub(crate) fn values(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Whether a test of so many steps is worth its time: Miri is some thousand times slower.
pub(crate) fn affordable(steps: usize) -> bool {
    !cfg!(miri) || steps <= 160
}
