//! Vectors in a file, mapped read-only: the only place of this crate with `unsafe`.
//!
//! Mapped files belong to a snapshot. They are written once, under a name that nobody else knows,
//! made durable and never opened for writing again; removing a snapshot unlinks them, and the
//! mapping keeps what it maps.
//!
//! ```text
//! pages of values, the last one filled up with zeros    a CRC-32 for each page
//! ```
//!
//! The checksums are compared when a page is used first, so that opening reads none of the values.
//! A page that fails is noted as [`Damage`]; whoever used its values must ask there before believing
//! the outcome.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use memmap2::{Advice, Mmap};
use parking_lot::Mutex;

/// Bytes that one checksum covers: what the system reads from a disk at a time.
pub(crate) const PAGE: usize = 4_096;
/// Bytes that are asked for at once where all will be read.
const READ_AHEAD: usize = 1 << 20;

/// What turned out to be wrong with the mapped files of an index.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    found: AtomicBool,
    first: Mutex<String>,
}

impl Damage {
    fn note(&self, what: String) {
        let mut first = self.first.lock();
        if !self.found.load(Ordering::Relaxed) {
            tracing::error!(damage = %what, "stored vectors are damaged");
            *first = what;
            self.found.store(true, Ordering::Release);
        }
    }

    /// Whether values that were handed out may be wrong.
    #[inline]
    pub(crate) fn found(&self) -> bool {
        self.found.load(Ordering::Acquire)
    }

    /// The first thing that was found.
    pub(crate) fn what(&self) -> String {
        self.first.lock().clone()
    }
}

/// A file of vectors as rows of 32-bit words, little-endian; see [`crate::form`].
#[derive(Debug)]
pub(crate) struct MappedWords {
    map: Option<Mmap>,
    /// Values, without what fills up the last page.
    len: usize,
    name: String,
    all_checked: AtomicBool,
    /// One bit per page, set after damage was noted: who sees the bit sees the damage.
    checked: Box<[AtomicU64]>,
    damage: Arc<Damage>,
}

impl MappedWords {
    /// Maps a file of `len` values with checksums, which must themselves have the checksum `crc32`.
    pub(crate) fn open(path: &Path, len: usize, crc32: u32, damage: &Arc<Damage>) -> io::Result<Self> {
        let pages = pages_of(len);
        let map = map(path, file_bytes(len))?;
        let sums = map.as_ref().map_or(&[][..], |map| &map[pages * PAGE..]);
        if crc32fast::hash(sums) != crc32 {
            return Err(invalid("checksum of the checksums does not match"));
        }
        let checked = (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Self {
            map,
            len,
            name: path.display().to_string(),
            all_checked: AtomicBool::new(pages == 0),
            checked,
            damage: Arc::clone(damage),
        })
    }

    /// Maps a file of `len` values and nothing else, as version 1 wrote them; its bytes must have the
    /// checksum `crc32`.
    pub(crate) fn open_bare(path: &Path, len: usize, crc32: u32) -> io::Result<Self> {
        let map = map(path, (len * size_of::<u32>()) as u64)?;
        if crc32fast::hash(map.as_deref().unwrap_or_default()) != crc32 {
            return Err(invalid("checksum does not match"));
        }
        Ok(Self {
            map,
            len,
            name: path.display().to_string(),
            all_checked: AtomicBool::new(true),
            checked: Box::default(),
            damage: Arc::default(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Values of the file, those of damaged pages included: see the module.
    #[inline]
    pub(crate) fn values(&self, range: Range<usize>) -> &[u32] {
        if !self.all_checked.load(Ordering::Acquire) {
            self.check(range.start..range.end);
        }
        self.unchecked(range)
    }

    /// The same, before anybody reads them.
    #[inline]
    pub(crate) fn unchecked(&self, range: Range<usize>) -> &[u32] {
        let bytes = self.map.as_deref().unwrap_or_default();
        // A mapping starts at a page and was checked to hold whole values.
        bytemuck::cast_slice(&bytes[range.start * size_of::<u32>()..range.end * size_of::<u32>()])
    }

    /// Whether no page is left whose checksum nobody compared.
    pub(crate) fn is_checked(&self) -> bool {
        self.all_checked.load(Ordering::Acquire)
    }

    /// Compares the checksums of all pages that nobody used yet.
    pub(crate) fn check_all(&self) {
        self.check(0..self.len);
        self.all_checked.store(true, Ordering::Release);
    }

    /// Compares the checksums of the pages below some values, unless that was done before.
    fn check(&self, values: Range<usize>) {
        let Some(map) = &self.map else { return };
        if values.is_empty() {
            return;
        }
        let first = values.start * size_of::<u32>() / PAGE;
        let last = (values.end * size_of::<u32>() - 1) / PAGE;
        for page in first..=last {
            let (word, bit) = (&self.checked[page / 64], 1 << (page % 64));
            if word.load(Ordering::Acquire) & bit == 0 {
                if last - first > 4 && (page == first || (page * PAGE).is_multiple_of(READ_AHEAD)) {
                    advise(
                        map,
                        Advice::WillNeed,
                        page * PAGE..(page * PAGE + READ_AHEAD).min((last + 1) * PAGE),
                    );
                }
                self.check_page(map, page);
                word.fetch_or(bit, Ordering::Release);
            }
        }
    }

    #[cold]
    fn check_page(&self, map: &Mmap, page: usize) {
        let sums: &[u32] = bytemuck::cast_slice(&map[pages_of(self.len) * PAGE..]);
        if crc32fast::hash(&map[page * PAGE..][..PAGE]) != sums[page] {
            self.damage.note(format!("checksum of page {page} of {} does not match", self.name));
        }
    }

    /// Lets the system read values that will be wanted soon, without waiting for them.
    pub(crate) fn will_need(&self, values: Range<usize>) {
        if let Some(map) = &self.map {
            advise(map, Advice::WillNeed, values.start * size_of::<u32>()..values.end * size_of::<u32>());
        }
    }

    /// Tells the system that rows are read here and there, not in order.
    pub(crate) fn expect_random_reads(&self) {
        if let Some(map) = &self.map {
            advise(map, Advice::Random, 0..map.len());
        }
    }
}

/// Checksums of the pages that `rows`, put end to end, fill.
#[derive(Default)]
pub(crate) struct PageSums {
    sums: Vec<u32>,
    hasher: crc32fast::Hasher,
    held: usize,
}

impl PageSums {
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PAGE - self.held));
            self.hasher.update(now);
            self.held += now.len();
            bytes = later;
            if self.held == PAGE {
                self.sums.push(std::mem::take(&mut self.hasher).finalize());
                self.held = 0;
            }
        }
    }

    /// Bytes that are missing to a whole page.
    pub(crate) fn missing(&self) -> usize {
        (PAGE - self.held) % PAGE
    }

    /// The checksums of the whole pages.
    pub(crate) fn sums(&self) -> &[u32] {
        &self.sums
    }
}

/// Bytes of a file of `len` values with its checksums.
pub(crate) fn file_bytes(len: usize) -> u64 {
    (pages_of(len) * (PAGE + size_of::<u32>())) as u64
}

fn pages_of(len: usize) -> usize {
    (len * size_of::<u32>()).div_ceil(PAGE)
}

/// Maps a file that must have so many bytes.
fn map(path: &Path, bytes: u64) -> io::Result<Option<Mmap>> {
    let file = File::open(path)?;
    let found = file.metadata()?.len();
    if found != bytes {
        return Err(invalid(&format!("{found} bytes, not {bytes}")));
    }
    if bytes == 0 {
        return Ok(None);
    }
    // SAFETY: see the module: files of a finished snapshot are never written or truncated by
    // this program. Somebody who does so from outside the program can crash it, as with any
    // mapped file; there is no way to map that excludes it.
    Ok(Some(unsafe { Mmap::map(&file)? }))
}

fn advise(map: &Mmap, advice: Advice, bytes: Range<usize>) {
    if let Err(error) = map.advise_range(advice, bytes.start, bytes.len()) {
        tracing::debug!(%error, "the system takes no advice on a mapping");
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
