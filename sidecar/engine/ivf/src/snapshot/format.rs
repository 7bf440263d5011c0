//! Bytes to and from files: little-endian numbers, counted runs, and a checksum over everything.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use bytemuck::{Pod, Zeroable};

use crate::ints::PackedInts;

// Files are little-endian and are written and mapped as they are in memory.
const _: () = assert!(cfg!(target_endian = "little"), "snapshots need a little-endian machine");

/// Writes a file and computes its length and checksum.
pub(crate) struct Writer {
    file: BufWriter<File>,
    hasher: crc32fast::Hasher,
    bytes: u64,
}

impl Writer {
    pub(crate) fn new(file: File) -> Self {
        Self { file: BufWriter::with_capacity(1 << 20, file), hasher: crc32fast::Hasher::new(), bytes: 0 }
    }

    pub(crate) fn values<T: Pod>(&mut self, values: &[T]) -> io::Result<()> {
        let bytes = bytemuck::cast_slice(values);
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    pub(crate) fn number(&mut self, number: usize) -> io::Result<()> {
        self.values(&[number as u64])
    }

    /// A count, then the values.
    pub(crate) fn run<T: Pod>(&mut self, values: &[T]) -> io::Result<()> {
        self.number(values.len())?;
        self.values(values)
    }

    /// Leaves what was written so far out of the checksum: it has checksums of its own.
    pub(crate) fn restart_checksum(&mut self) {
        self.hasher.reset();
    }

    pub(crate) fn ints(&mut self, ints: &PackedInts) -> io::Result<()> {
        self.values(&[ints.base, u64::from(ints.width)])?;
        self.run(&ints.words)
    }

    /// Makes the file durable; returns length and checksum.
    pub(crate) fn finish(self) -> io::Result<(u64, u32)> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok((self.bytes, self.hasher.finalize()))
    }
}

/// Reads what [`Writer`] wrote. Every read may find that there is not enough left.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    pub(crate) fn values<T: Pod>(&mut self, count: usize) -> Option<Vec<T>> {
        let bytes = count.checked_mul(size_of::<T>())?;
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        let mut values = vec![T::zeroed(); count];
        bytemuck::cast_slice_mut(&mut values).copy_from_slice(taken);
        Some(values)
    }

    pub(crate) fn number(&mut self) -> Option<usize> {
        let number = *self.values::<u64>(1)?.first()?;
        usize::try_from(number).ok()
    }

    pub(crate) fn run<T: Pod>(&mut self) -> Option<Vec<T>> {
        let count = self.number()?;
        self.values(count)
    }

    pub(crate) fn ints(&mut self) -> Option<PackedInts> {
        let (base, width) = (*self.values::<u64>(1)?.first()?, self.number()?);
        Some(PackedInts { base, width: u32::try_from(width).ok()?, words: self.run()?.into() })
    }

    /// Whether everything was read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }
}

/// How the keys of a chunk are stored: see [`crate::keyset::KeySet`].
pub(crate) const EVEN_KEYS: usize = 0;
pub(crate) const RAGGED_KEYS: usize = 1;

/// A [`knn_types::SeqNo`] in a file.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Order {
    pub(crate) primary_term: u64,
    pub(crate) seq_no: u64,
}

impl From<knn_types::SeqNo> for Order {
    fn from(order: knn_types::SeqNo) -> Self {
        Self { primary_term: order.primary_term, seq_no: order.seq_no }
    }
}

impl From<Order> for knn_types::SeqNo {
    fn from(order: Order) -> Self {
        Self { primary_term: order.primary_term, seq_no: order.seq_no }
    }
}
