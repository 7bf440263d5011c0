//! Writes as they pass: what a bulk or a single-document request says about vectors, and what of it the
//! response acknowledges. Pure and incremental: bytes go in as they come, in chunks of any size.
//!
//! 1. [`WriteScanner`] reads the request: [`action`] lines, and in the documents the vectors of our fields
//!    ([`target`] says which, [`document`] finds them); everything else is skipped, not understood.
//! 2. [`AckReader`] reads the response and pairs its items with what was seen: an
//!    [`Acknowledged`](crate::Acknowledged) for each write whose outcome both together prove.
//!
//! 3. Where quotas are in force, [`BulkGate`] lets the items of a bulk through one by one, and [`ItemSplicer`]
//!    puts those that it refused into the response. [`VectorPaths`] counts what an item would add.
//!
//! Whatever is odd is left to the feed, which finds every write: an odd document alone, and everything
//! after an odd line. But for 3. nothing is refused here; the bytes have gone on to Elasticsearch, which decides.

mod action;
mod cursor;
mod document;
mod gate;
mod items;
mod request;
mod response;
mod splicer;
mod target;
mod vectors;

pub use action::Operation;
pub use gate::{BulkGate, BulkItem, GateError, ItemRefusal, RefusedItem};
pub use request::{Addressed, WriteScanner};
pub use response::{AckReader, Settled};
pub use splicer::ItemSplicer;
pub use vectors::{VectorCount, VectorPaths};

/// Why a write is left to the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Left {
    /// A line of the bulk is not what we expect; all that follows is left too.
    Framing,
    /// The document holds something that we might read in another way than Elasticsearch.
    Document,
    /// An update of a document that was there, whose routing nobody knows, or one that does not tell all
    /// vectors of the document: a part of it, a script, an upsert.
    Update,
    /// An ingest pipeline may change the document.
    Pipeline,
    /// The index does not let a write be understood from outside: another mode, `copy_to` into a vector.
    Index,
    /// The name does not tell the index, or another index than expected took the document.
    Target,
    /// The document is longer than what is kept.
    TooLarge,
    /// The vectors of the request, or of all requests together, take more memory than they may.
    Memory,
    /// The response does not show what happened.
    Response,
    /// The body is encoded in a way that could not be followed.
    Encoding,
    /// The index is switched off.
    SwitchedOff,
}

impl Left {
    /// The word for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Framing => "framing",
            Self::Document => "document",
            Self::Update => "update",
            Self::Pipeline => "pipeline",
            Self::Index => "index",
            Self::Target => "target",
            Self::TooLarge => "too_large",
            Self::Memory => "memory",
            Self::Response => "response",
            Self::Encoding => "encoding",
            Self::SwitchedOff => "switched_off",
        }
    }
}

/// What one request may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest line (document) that is looked at. It is read in one go, so this also bounds the time.
    pub line_bytes: usize,
    /// Vectors and ids that one request may hold.
    pub request_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line_bytes: 512 << 10, request_bytes: 32 << 20 }
    }
}

#[cfg(test)]
mod tests;
