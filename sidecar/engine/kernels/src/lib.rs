//! Distance kernels: float32, byte and bit rows against one query, int8 centroids against one query or many rows, fast-scan over packed nibble codes, and the Hadamard step of
//! the rotation.
//!
//! Each operation exists as portable Rust in [`scalar`] and as twins that are tested against it: AVX2
//! and AVX-512 on x86-64, NEON on AArch64. The [`Level`] in use is chosen once per process; see
//! [`level`]. Nothing here allocates in a loop, and only the modules `x86` and `aarch64` contain `unsafe`.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod byte_rows;
mod bytes;
mod elements;
mod fastscan;
mod float;
mod hadamard;
mod level;
mod line;
pub mod scalar;
#[cfg(test)]
mod testing;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use byte_rows::{Bounds, ByteRows};
pub use bytes::{BytePanels, ByteQuery};
pub use elements::{dot_i8, hamming, l2_squared_i8};
pub use fastscan::{BLOCK, BlockShape, Candidates, Lut, Run, scan};
pub use float::{dot, l2_squared, prefetch, prefetch_row};
pub use hadamard::hadamard;
pub use level::{LEVEL_VARIABLE, Level, level};
pub use line::Line;
