//! AArch64 twins. Every AArch64 CPU has NEON, so that nothing needs to be detected; the functions
//! here are safe to call and assert what they rely on.
#![allow(unsafe_code)]

pub(crate) mod elements;
pub(crate) mod neon;

/// Prefetches a row, at most a page of it; the hardware follows the rest.
#[inline]
pub(crate) fn prefetch(row: &[f32]) {
    for line in row.chunks(16).take(64) {
        // SAFETY: a prefetch never faults and changes nothing that a program can see.
        unsafe {
            std::arch::asm!(
                "prfm pldl1keep, [{address}]",
                address = in(reg) line.as_ptr(),
                options(nostack, preserves_flags, readonly)
            );
        }
    }
}
