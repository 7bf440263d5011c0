//! One cache line, aligned, so that no load of a code block straddles two.

use bytemuck::{Pod, Zeroable};

/// 64 bytes at a 64-byte boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Line(pub [u8; 64]);

impl Line {
    /// All zeros.
    pub const ZERO: Line = Line([0; 64]);
}
