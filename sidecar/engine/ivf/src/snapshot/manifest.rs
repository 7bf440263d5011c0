//! The manifest: what a snapshot holds. JSON, and after it a line with the checksum of the JSON.

use std::sync::Arc;

use knn_types::{Element, Epoch, FieldSpec, IndexKey, IvfOptions, Metric};
use serde::{Deserialize, Serialize};

use crate::effort::Point;

/// Raised whenever an older program could not read the files.
pub(crate) const VERSION: u32 = 2;

/// The oldest version that this program still reads.
pub(crate) const OLDEST_VERSION: u32 = 1;

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) version: u32,
    pub(crate) index_uuid: Arc<str>,
    pub(crate) shard: u32,
    pub(crate) history_uuid: Arc<str>,
    pub(crate) field: Arc<str>,
    /// `None` is `float`, as before there were others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) element: Option<String>,
    pub(crate) dims: usize,
    pub(crate) metric: String,
    pub(crate) cursor: i64,
    pub(crate) max_seq_no: i64,
    pub(crate) primary_term: u64,
    pub(crate) slots: usize,
    pub(crate) files: Vec<FileEntry>,
    pub(crate) trained: Option<TrainedEntry>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileEntry {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// Of all its bytes; of files of vectors, only of the checksums at their end.
    pub(crate) crc32: u32,
}

/// What training and calibration found, centroids and lists apart.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainedEntry {
    pub(crate) seed: u64,
    #[serde(default)]
    pub(crate) spill: bool,
    pub(crate) vectors: usize,
    pub(crate) residual: f32,
    pub(crate) added: usize,
    pub(crate) added_residuals: f64,
    #[serde(default)]
    pub(crate) seen_slots: u32,
    #[serde(default)]
    pub(crate) changed_lists: usize,
    pub(crate) curve: Vec<Point>,
}

impl Manifest {
    pub(crate) fn key(&self) -> IndexKey {
        IndexKey {
            index_uuid: Arc::clone(&self.index_uuid),
            shard: self.shard,
            history_uuid: Arc::clone(&self.history_uuid),
            field: Arc::clone(&self.field),
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch { cursor: self.cursor, max_seq_no: self.max_seq_no, primary_term: self.primary_term }
    }

    /// The field, its options apart.
    pub(crate) fn spec(&self) -> Option<FieldSpec> {
        let metrics = [Metric::L2, Metric::Cosine, Metric::Dot, Metric::MaxInnerProduct];
        let metric = metrics.into_iter().find(|metric| metric.name() == self.metric)?;
        let element = self.element.as_deref().map_or(Some(Element::Float), Element::named)?;
        Some(FieldSpec { element, dims: self.dims, metric, options: IvfOptions::default() })
    }

    /// Whether the snapshot is of this field as it is now.
    pub(crate) fn is_of(&self, spec: &FieldSpec) -> bool {
        let element = self.element.as_deref().unwrap_or(Element::Float.name());
        element == spec.element.name() && self.dims == spec.dims && self.metric == spec.metric.name()
    }

    pub(crate) fn file(&self, name: &str) -> Option<&FileEntry> {
        self.files.iter().find(|file| file.name == name)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("plain data");
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(format!("\ncrc32 {checksum:08x}\n").as_bytes());
        bytes
    }

    /// The manifest in a file, or what is wrong with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Manifest, String> {
        const LINE: usize = "\ncrc32 01234567\n".len();
        let (json, line) = bytes.split_at_checked(bytes.len().saturating_sub(LINE)).ok_or("too short")?;
        if line != format!("\ncrc32 {:08x}\n", crc32fast::hash(json)).as_bytes() {
            return Err("checksum of the manifest does not match".into());
        }
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            return Err(format!("version {version}, this program reads {OLDEST_VERSION} to {VERSION}"));
        }
        serde_json::from_slice(json).map_err(|error| error.to_string())
    }
}
