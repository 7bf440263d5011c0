//! Directories: where the snapshots of an index are, in which order they come, and every step that
//! changes the disk, each of which a test can make fail.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use knn_types::{EngineError, IndexKey};

use super::faults::Faults;
use super::manifest::Manifest;

/// Damaged snapshots that are kept for whoever wants to look.
const DAMAGED_KEPT: usize = 2;

/// The longest directory name made from a key; the rest of it becomes a checksum.
const NAME_LENGTH: usize = 160;

/// Before the name of an index's directory that is being removed; no key makes such a name.
const REMOVED: &str = "%removed%";

/// The directory of one index.
pub(crate) struct Disk {
    root: PathBuf,
    faults: Faults,
}

impl Disk {
    pub(crate) fn new(data_dir: &Path, key: &IndexKey, faults: Faults) -> Self {
        Self { root: data_dir.join(directory_name(key)), faults }
    }

    /// The directory of an index whose key is not known.
    pub(crate) fn of(root: &Path, faults: Faults) -> Self {
        Self { root: root.to_path_buf(), faults }
    }

    /// The same, for reading.
    pub(crate) fn at(root: &Path) -> Self {
        Self::of(root, Faults::default())
    }

    pub(crate) fn snapshot(&self, number: u64) -> PathBuf {
        self.root.join(format!("snapshot-{number}"))
    }

    pub(crate) fn writing(&self, number: u64) -> PathBuf {
        self.root.join(format!("writing-{number}"))
    }

    /// Numbers of the finished snapshots, newest first.
    pub(crate) fn snapshots(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> =
            self.names().iter().filter_map(|name| name.strip_prefix("snapshot-")?.parse().ok()).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers
    }

    /// Creates the directory that a snapshot is written in, empty.
    pub(crate) fn begin(&self, number: u64) -> Result<PathBuf, EngineError> {
        self.do_step(&self.root, |root| fs::create_dir_all(root))?;
        let writing = self.writing(number);
        self.remove_tree(&writing)?;
        self.do_step(&writing, |path| fs::create_dir(path))?;
        Ok(writing)
    }

    /// Creates a file.
    pub(crate) fn create(&self, path: &Path) -> Result<File, EngineError> {
        self.do_step(path, |path| File::create_new(path))
    }

    /// Gives a file of an earlier snapshot a second name.
    pub(crate) fn link(&self, from: &Path, to: &Path) -> Result<(), EngineError> {
        self.do_step(to, |to| fs::hard_link(from, to))
    }

    /// Runs something that changes `path`.
    pub(crate) fn do_step<T>(
        &self,
        path: &Path,
        step: impl FnOnce(&Path) -> io::Result<T>,
    ) -> Result<T, EngineError> {
        self.faults.step(path, step).map_err(|source| io_error(path, source))
    }

    fn remove_tree(&self, path: &Path) -> Result<(), EngineError> {
        self.faults.remove_tree(path).map_err(|source| io_error(path, source))
    }

    /// Makes a written snapshot the newest one.
    pub(crate) fn commit(&self, number: u64) -> Result<(), EngineError> {
        let (from, to) = (self.writing(number), self.snapshot(number));
        self.do_step(&from, sync_directory)?;
        self.do_step(&to, |to| fs::rename(&from, to))?;
        self.do_step(&self.root, sync_directory)
    }

    /// Removes snapshots older than `number`; what cannot be removed now is removed next time.
    pub(crate) fn remove_older(&self, number: u64) {
        for old in self.snapshots().into_iter().filter(|&old| old < number) {
            let path = self.snapshot(old);
            if let Err(error) = self.remove_tree(&path) {
                tracing::warn!(%error, "an old snapshot could not be removed");
            }
        }
    }

    /// Removes what a crash or an error left half written.
    pub(crate) fn remove_unfinished(&self) {
        for name in self.names().iter().filter(|name| name.starts_with("writing-")) {
            let path = self.root.join(name);
            if let Err(error) = self.remove_tree(&path) {
                tracing::warn!(%error, "an unfinished snapshot could not be removed");
            }
        }
    }

    /// Renames a damaged snapshot, so that it is not tried again, and forgets older damaged ones.
    pub(crate) fn set_aside(&self, number: u64, reason: &str) {
        let from = self.snapshot(number);
        let mut damaged: Vec<(u64, String)> = self.names().into_iter().filter_map(damage_number).collect();
        damaged.sort_unstable();
        let next = damaged.last().map_or(0, |(last, _)| last + 1);
        let to = self.root.join(format!("snapshot-{number}.damaged-{next}"));
        tracing::warn!(snapshot = %from.display(), aside = %to.display(), reason, "damaged snapshot set aside");
        if let Err(error) = self.do_step(&to, |to| fs::rename(&from, to)) {
            tracing::warn!(%error, "a damaged snapshot could not be set aside");
        }
        for (_, name) in damaged.iter().rev().skip(DAMAGED_KEPT - 1) {
            if let Err(error) = self.remove_tree(&self.root.join(name)) {
                tracing::warn!(%error, "an old damaged snapshot could not be removed");
            }
        }
    }

    /// Removes everything that the index has. Its directory loses its name first: who opens the index
    /// later finds nothing, not a part or an older snapshot, even if the process dies on the way.
    pub(crate) fn remove(&self) -> Result<(), EngineError> {
        let (Some(name), Some(parent)) = (self.root.file_name(), self.root.parent()) else { return Ok(()) };
        if is_being_removed(&name.to_string_lossy()) {
            return self.remove_tree(&self.root);
        }
        let going = parent.join(format!("{REMOVED}{}", name.to_string_lossy()));
        self.remove_tree(&going)?;
        let renamed = self.do_step(&going, |going| match fs::rename(&self.root, going) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            renamed => renamed.map(|()| true),
        })?;
        if renamed {
            self.do_step(parent, sync_directory)?;
            if let Err(error) = self.remove_tree(&going) {
                tracing::warn!(%error, "files of a removed index are left; the next start removes them");
            }
        }
        Ok(())
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

fn damage_number(name: String) -> Option<(u64, String)> {
    let number = name.split_once(".damaged-")?.1.parse().ok()?;
    Some((number, name))
}

/// An error of the disk, with the path it happened at.
pub(crate) fn io_error(path: &Path, source: io::Error) -> EngineError {
    EngineError::Io { path: path.display().to_string(), source }
}

/// Makes the names in a directory durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A directory name for a key: readable, safe on every file system, different for every key.
pub(crate) fn directory_name(key: &IndexKey) -> String {
    let mut name = String::new();
    for part in [&*key.index_uuid, &key.shard.to_string(), &*key.history_uuid, &*key.field] {
        if !name.is_empty() {
            name.push('~');
        }
        for byte in part.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => name.push(byte.into()),
                _ => name.push_str(&format!("%{byte:02x}")),
            }
        }
    }
    if name.len() > NAME_LENGTH {
        // The manifest has the whole key, which is compared on opening.
        let checksums =
            (crc32fast::hash(name.as_bytes()), crc32fast::hash(&name.as_bytes()[NAME_LENGTH / 2..]));
        name.truncate(NAME_LENGTH);
        name.push_str(&format!("~{:08x}{:08x}", checksums.0, checksums.1));
    }
    name
}

/// Whether a directory is what [`Disk::remove`] left of an index.
pub(crate) fn is_being_removed(name: &str) -> bool {
    name.starts_with(REMOVED)
}

/// Whether [`directory_name`] may have made a name; others belong to somebody else.
pub(crate) fn is_directory_name(name: &str) -> bool {
    name.matches('~').count() >= 3
}

/// The key that the newest readable snapshot below a directory was written for.
pub(crate) fn stored_key(directory: &Path) -> Option<IndexKey> {
    let disk = Disk::at(directory);
    disk.snapshots().into_iter().find_map(|number| {
        let bytes = fs::read(disk.snapshot(number).join("manifest.json")).ok()?;
        Manifest::parse(&bytes).ok().map(|manifest| manifest.key())
    })
}
