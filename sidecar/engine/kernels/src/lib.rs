//! Distance kernels: plain float32 comparisons, one row against a query or a block of rows against
//! a block of centroids, and fast-scan over packed nibble codes.
//!
//! Each operation exists as portable Rust in [`scalar`] and, on x86-64, as AVX2 and AVX-512 twins
//! that are tested against it. The [`Level`] in use is chosen once per process; see [`level`].
//! Nothing here allocates, and only the `x86` modules contain `unsafe`.

mod float;
mod level;
pub mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use float::{dot, l2_squared, prefetch_row};
pub use level::{LEVEL_VARIABLE, Level, level};
