//! The data directory: made if it is not there, locked against a second process.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use anyhow::{Context, bail};

/// Holds the lock for the life of the process.
#[derive(Debug)]
pub(crate) struct DataDir {
    _lock: Option<File>,
}

/// Makes and locks `path`. A directory that exists and can't be written to is not an error: indexes
/// found there are used, and what is learnt stays in memory; snapshots fail with a metric.
pub(crate) fn open(path: &Path) -> anyhow::Result<DataDir> {
    std::fs::create_dir_all(path).with_context(|| format!("data_dir {} cannot be made", path.display()))?;
    let lock = match File::options().create(true).truncate(false).write(true).open(path.join("lock")) {
        Ok(file) => file,
        Err(error) if is_unwritable(&error) => {
            tracing::error!(data_dir = %path.display(), %error, "data_dir cannot be written to; indexes stay in memory");
            return Ok(DataDir { _lock: None });
        }
        Err(error) => return Err(error).with_context(|| format!("data_dir {}", path.display())),
    };
    match lock.try_lock() {
        Ok(()) => Ok(DataDir { _lock: Some(lock) }),
        Err(TryLockError::WouldBlock) => {
            bail!("data_dir {} is in use by another outrigger; give each its own", path.display())
        }
        Err(TryLockError::Error(error)) => {
            tracing::warn!(data_dir = %path.display(), %error, "data_dir cannot be locked");
            Ok(DataDir { _lock: Some(lock) })
        }
    }
}

fn is_unwritable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::StorageFull
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let held = open(&dir.path().join("new")).unwrap();
        let message = open(&dir.path().join("new")).unwrap_err().to_string();
        assert!(message.contains("in use"), "{message}");
        drop(held);
        open(&dir.path().join("new")).unwrap();
    }

    #[test]
    fn a_file_in_its_place_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        open(&file).unwrap_err();
    }
}
