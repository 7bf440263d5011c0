//! Snapshots: the published state of an index on disk.
//!
//! ```text
//! <data_dir>/<index>/snapshot-<n>/
//!     manifest.json   what is here: version, key, position, curve; sizes and checksums of all files
//!     rows-<g>.bin    float32 vectors of a group of chunks and a checksum for each page of them;
//!                     mapped, not read, when opened
//!     docs-<g>.bin    their documents and orders
//!     state.bin       dead slots, remembered deletions
//!     centroids.bin   centroids, where lists are trained; checked as a whole when opened, then mapped
//!     lists-<g>.bin   entries of a group of lists
//! ```
//!
//! A snapshot is written as `writing-<n>`, made durable, renamed, and only then is the one before
//! it removed. Files whose content is still the same are linked by the next snapshot: full groups of
//! vectors and documents, and groups of lists that nothing was added to. A damaged snapshot is renamed
//! `snapshot-<n>.damaged-<m>` and the index starts empty. The directory of an index that is removed is
//! called `%removed%<index>` until all of it is gone.

mod disk;
mod faults;
mod format;
mod manifest;
mod read;
mod v1;
mod write;

pub(crate) use disk::{Disk, directory_name, is_being_removed, is_directory_name, stored_key};
pub(crate) use faults::Faults;
pub use read::Summary;
pub(crate) use read::{Restored, restore, summary, verify};
pub(crate) use write::{CENTROIDS_START, Mapped, Saved, State, save};

#[cfg(test)]
mod kill_points;
#[cfg(test)]
mod tests;
