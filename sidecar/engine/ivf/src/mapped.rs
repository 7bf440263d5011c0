//! Vectors in a file, mapped read-only: the only place of this crate with `unsafe`.
//!
//! Mapped files belong to a snapshot. They are written once, under a name that nobody else knows,
//! made durable and never opened for writing again; removing a snapshot unlinks them, and the
//! mapping keeps what it maps.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// A whole file of little-endian float32 values.
#[derive(Debug)]
pub(crate) struct MappedFloats {
    map: Option<Mmap>,
}

impl MappedFloats {
    /// Maps a file; its length must be a multiple of four.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        if len % 4 != 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a whole number of values"));
        }
        if len == 0 {
            return Ok(Self { map: None });
        }
        // SAFETY: see the module: files of a finished snapshot are never written or truncated by
        // this program. Somebody who does so from outside the program can crash it, as with any
        // mapped file; there is no way to map that excludes it.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { map: Some(map) })
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    /// The file's values.
    #[inline]
    pub(crate) fn values(&self) -> &[f32] {
        // A mapping starts at a page and was checked to hold whole values.
        bytemuck::cast_slice(self.bytes())
    }

    /// Tells the system that rows are read here and there, not in order.
    pub(crate) fn expect_random_reads(&self) {
        if let Some(map) = &self.map
            && let Err(error) = map.advise(memmap2::Advice::Random)
        {
            tracing::debug!(%error, "the system takes no advice on a mapping");
        }
    }
}
