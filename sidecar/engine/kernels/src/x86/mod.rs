//! x86-64 twins. The functions here are safe to call: they assert what they rely on and are only
//! reached at a [`crate::Level`] that the CPU was found to support.
#![allow(unsafe_code)]

pub(crate) mod avx2;
pub(crate) mod avx512;
pub(crate) mod elements;

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// Prefetches the first cache line of a value.
#[inline]
pub(crate) fn prefetch_line<T>(value: &T) {
    // SAFETY: a prefetch never faults, whatever the address; this one is of a value.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) };
}

/// Prefetches a row, at most a page of it; the hardware follows the rest.
#[inline]
pub(crate) fn prefetch(row: &[f32]) {
    for line in 0..row.len().div_ceil(16).min(64) {
        // SAFETY: a prefetch never faults, whatever the address; this one lies inside the row.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().add(line * 16).cast()) };
    }
}
