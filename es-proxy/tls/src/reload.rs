//! Files are read again when they change. What is broken is not taken: the last good state stays in
//! force, a warning and a metric say so.
//!
//! Files are polled, not watched: a Kubernetes secret changes by a symbolic link further up the path,
//! and network file systems tell nobody. Device, inode, time and size of what the path leads to now
//! are compared, which catches replacing, rewriting and swapped links alike. Certificate and key are two
//! files and never change at once; between the two the pair does not fit, is not taken, and the second
//! change has both read again.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::TlsError;

/// A certificate that ends sooner than this is warned of when it is read.
const ENDS_SOON: Duration = Duration::from_secs(14 * 86_400);

/// Something that is read from files.
pub trait Reload: fmt::Debug + Send + Sync {
    /// Reads the files again if they changed. Blocks.
    fn reload_if_changed(&self);

    /// Says in the log what is in force.
    fn report(&self);
}

/// Looks for changes for ever, so often; the first look is one interval away.
pub fn watch(sources: Vec<Arc<dyn Reload>>, every: Duration) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        sources.iter().for_each(|source| source.report());
        while !sources.is_empty() {
            tokio::time::sleep(every).await;
            let looked = sources.clone();
            let look = move || looked.iter().for_each(|source| source.reload_if_changed());
            if let Err(error) = tokio::task::spawn_blocking(look).await {
                tracing::error!(%error, "certificates could not be looked at");
            }
        }
    })
}

/// A certificate's use and the end of its validity.
pub(crate) type Expiry = (&'static str, Option<SystemTime>);

/// What was read, and until when it is valid.
pub(crate) struct Loaded<T> {
    pub(crate) value: T,
    pub(crate) expiries: Vec<Expiry>,
}

type Load<T> = Box<dyn Fn() -> Result<Loaded<T>, TlsError> + Send + Sync>;

/// See the head of this file.
pub(crate) struct Reloading<T> {
    name: &'static str,
    files: Vec<PathBuf>,
    load: Load<T>,
    current: ArcSwap<T>,
    /// How the files were when they were read last, and what was found then.
    seen: Mutex<(Vec<Stamp>, Vec<Expiry>)>,
    metrics: TlsMetrics,
}

impl<T> Reloading<T> {
    /// Reads for the first time, where every failure counts.
    pub(crate) fn open(
        name: &'static str,
        files: Vec<PathBuf>,
        metrics: &TlsMetrics,
        load: impl Fn() -> Result<Loaded<T>, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let stamps = stamps(&files);
        let Loaded { value, expiries } = load()?;
        metrics.expire(&expiries);
        Ok(Self {
            name,
            files,
            load: Box::new(load),
            current: ArcSwap::from_pointee(value),
            seen: Mutex::new((stamps, expiries)),
            metrics: metrics.clone(),
        })
    }

    pub(crate) fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    pub(crate) fn reload_if_changed(&self) {
        // Taken before reading: what changes meanwhile is another change.
        let stamps = stamps(&self.files);
        let mut seen = self.seen.lock();
        if seen.0 == stamps {
            return;
        }
        seen.0 = stamps;
        match (self.load)() {
            Ok(Loaded { value, expiries }) => {
                self.current.store(Arc::new(value));
                self.metrics.expire(&expiries);
                self.metrics.reloaded(self.name, "ok");
                tracing::info!(what = self.name, "certificates were read again");
                seen.1 = expiries;
                drop(seen);
                self.report();
            }
            Err(error) => {
                self.metrics.reloaded(self.name, "failed");
                tracing::warn!(what = self.name, %error, "changed certificates cannot be used; the former ones stay in force");
            }
        }
    }

    pub(crate) fn report(&self) {
        let now = SystemTime::now();
        for (certificate, ends) in &self.seen.lock().1 {
            match ends.map(|ends| ends.duration_since(now)) {
                None => {}
                Some(Err(_)) => tracing::warn!(certificate, "the certificate has expired"),
                Some(Ok(left)) if left < ENDS_SOON => {
                    tracing::warn!(
                        certificate,
                        days_left = left.as_secs() / 86_400,
                        "the certificate expires soon"
                    );
                }
                Some(Ok(left)) => {
                    tracing::info!(
                        certificate,
                        days_left = left.as_secs() / 86_400,
                        "the certificate is valid"
                    );
                }
            }
        }
    }
}

impl<T> fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading")
            .field("name", &self.name)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// What tells one state of a file from the next; `None` while it cannot be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp(Option<(u64, u64, i64, i64, u64)>);

impl Stamp {
    fn of(path: &Path) -> Self {
        let found = std::fs::metadata(path).ok();
        Self(found.map(|file| (file.dev(), file.ino(), file.mtime(), file.mtime_nsec(), file.size())))
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    files.iter().map(|file| Stamp::of(file)).collect()
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabel {
    certificate: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    what: &'static str,
    outcome: &'static str,
}

/// When certificates end, and how reading them again went.
#[derive(Clone, Debug, Default)]
pub struct TlsMetrics {
    expiry: Family<CertificateLabel, Gauge>,
    reloads: Family<ReloadLabels, Counter>,
}

impl TlsMetrics {
    /// Registers them, all named `outrigger_tls_…`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "outrigger_tls_certificate_expiry_timestamp_seconds",
            "When the first certificate of a file ends to be valid, in seconds since 1970",
            self.expiry.clone(),
        );
        registry.register(
            "outrigger_tls_reloads",
            "Times that changed certificate files were read again, by outcome",
            self.reloads.clone(),
        );
    }

    fn expire(&self, expiries: &[Expiry]) {
        for (certificate, ends) in expiries {
            let Some(Ok(ends)) = ends.map(|ends| ends.duration_since(SystemTime::UNIX_EPOCH)) else {
                continue;
            };
            self.expiry.get_or_create(&CertificateLabel { certificate }).set(ends.as_secs() as i64);
        }
    }

    fn reloaded(&self, what: &'static str, outcome: &'static str) {
        self.reloads.get_or_create(&ReloadLabels { what, outcome }).inc();
    }

    #[cfg(test)]
    pub(crate) fn reloads(&self, what: &'static str, outcome: &'static str) -> u64 {
        self.reloads.get_or_create(&ReloadLabels { what, outcome }).get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a number from a file.
    fn number(file: &Path, metrics: &TlsMetrics) -> Reloading<u32> {
        let path = file.to_owned();
        Reloading::open("test", vec![path.clone()], metrics, move || {
            let text = std::fs::read_to_string(&path)
                .map_err(|source| TlsError::Unreadable { path: path.clone(), source })?;
            let value = text.trim().parse().map_err(|_| crate::pem::unusable(&path, "no number".into()))?;
            Ok(Loaded { value, expiries: Vec::new() })
        })
        .unwrap()
    }

    #[test]
    fn a_broken_file_leaves_the_last_good_state() {
        let folder = tempfile::tempdir().unwrap();
        let (file, metrics) = (folder.path().join("n"), TlsMetrics::default());
        std::fs::write(&file, "1").unwrap();
        let reloading = number(&file, &metrics);
        reloading.reload_if_changed();
        assert_eq!((*reloading.current(), metrics.reloads("test", "ok")), (1, 0), "nothing changed");
        std::fs::write(&file, "broken").unwrap();
        reloading.reload_if_changed();
        reloading.reload_if_changed();
        assert_eq!((*reloading.current(), metrics.reloads("test", "failed")), (1, 1), "said once");
        std::fs::remove_file(&file).unwrap();
        reloading.reload_if_changed();
        assert_eq!(*reloading.current(), 1);
        std::fs::write(&file, "22").unwrap();
        reloading.reload_if_changed();
        assert_eq!((*reloading.current(), metrics.reloads("test", "ok")), (22, 1));
    }

    #[test]
    fn a_link_that_is_swapped_further_up_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [("v1", "1"), ("v2", "2")] {
            std::fs::create_dir(at(name)).unwrap();
            std::fs::write(at(name).join("n"), text).unwrap();
        }
        // As a Kubernetes secret is mounted: n -> ..data/n, ..data -> v1.
        std::os::unix::fs::symlink("v1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/n", at("n")).unwrap();
        let reloading = number(&at("n"), &TlsMetrics::default());
        std::os::unix::fs::symlink("v2", at("..new")).unwrap();
        std::fs::rename(at("..new"), at("..data")).unwrap();
        reloading.reload_if_changed();
        assert_eq!(*reloading.current(), 2);
    }
}
