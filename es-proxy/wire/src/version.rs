//! What a version of Elasticsearch can do, as far as it matters here: one file per range of versions.

mod v8_10;
mod v8_13;
mod v8_19;
mod v9_2;

mod allowed;

use std::fmt;
use std::str::FromStr;

pub use allowed::AllowedVersions;

/// A version number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EsVersion {
    /// 9 of 9.2.1.
    pub major: u32,
    /// 2 of 9.2.1.
    pub minor: u32,
    /// 1 of 9.2.1.
    pub patch: u32,
}

/// Not a version number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version number")]
pub struct BadVersion;

impl FromStr for EsVersion {
    type Err = BadVersion;

    /// Reads `9.2.0`, also with a suffix (`9.2.0-SNAPSHOT`).
    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let number = text.split('-').next().unwrap_or(text);
        let mut parts = number.split('.').map(str::parse::<u32>);
        let mut next = || parts.next().and_then(Result::ok).ok_or(BadVersion);
        let version = Self { major: next()?, minor: next()?, patch: next()? };
        if parts.next().is_some() { Err(BadVersion) } else { Ok(version) }
    }
}

impl fmt::Display for EsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Whether Elasticsearch keeps a graph of its own for an `ivf` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No graph: a knn search that reaches Elasticsearch is an exact scan.
    Offload,
    /// A graph: Elasticsearch can answer at full speed itself.
    Mirror,
}

impl Mode {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Offload => "offload",
            Mode::Mirror => "mirror",
        }
    }
}

/// What the version does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The version asked about.
    pub version: EsVersion,
    /// What `ivf` becomes.
    pub mode: Mode,
    /// `index_options` that an `ivf` field of floats gets.
    pub index_options: &'static str,
    /// `index_options` that an `ivf` field of bytes or bits gets.
    pub byte_index_options: &'static str,
    /// `index_options` that an `ivf` field below a `nested` object gets.
    pub nested_index_options: &'static str,
    /// Top-level `knn` must name `k` and `num_candidates`.
    pub k_required: bool,
    /// A `dense_vector` that does not say `index` is searchable.
    pub index_by_default: bool,
    /// A mapping may leave out `dims`.
    pub dims_optional: bool,
    /// `index_options` and `meta` of a field can be sent again.
    pub index_options_updatable: bool,
    /// `retriever` in a search body.
    pub retrievers: bool,
    /// A vector of bytes may be a hex string, in queries and documents.
    pub hex_vectors: bool,
    /// `docvalue_fields` works on vectors.
    pub docvalue_vectors: bool,
    /// A search on an index that lacks the field finds nothing instead of failing.
    pub unmapped_field_is_empty: bool,
    /// `_source.exclude_vectors` in a search body.
    pub source_exclude_vectors: bool,
    /// `_source_exclude_vectors` in the URL.
    pub url_exclude_vectors: bool,
    /// The `k` nearest of all shards are chosen before a `boost` changes their scores: one of 0 would make all equal.
    pub boosts_after_merging: bool,
    /// `filter_path` with exclusions keeps arrays that are empty.
    pub filter_keeps_empty_arrays: bool,
}

impl Capabilities {
    /// What `version` does; `None` for versions that nobody has looked at: there nothing is intercepted.
    pub fn of(version: EsVersion) -> Option<Self> {
        match (version.major, version.minor) {
            (8, 10..=12) => Some(v8_10::capabilities(version)),
            (8, 13..=18) | (9, 0) => Some(v8_13::capabilities(version)),
            (8, 19) | (9, 1) => Some(v8_19::capabilities(version)),
            (9, 2) => Some(v9_2::capabilities(version)),
            _ => None,
        }
    }

    /// The same, and for versions that nobody has looked at but the operator allows, what the newest known
    /// version before them does.
    pub fn of_allowed(version: EsVersion, allowed: &AllowedVersions) -> Option<Self> {
        Self::of(version).or_else(|| match (version.major, version.minor) {
            _ if !allowed.contains(version) => None,
            (8, 20..) => Some(v8_19::capabilities(version)),
            (9, 3..) | (10.., _) => Some(v9_2::capabilities(version)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Capabilities> {
        Capabilities::of(text.parse().unwrap())
    }

    #[test]
    fn versions_are_read_strictly() {
        assert_eq!("9.2.0".parse(), Ok(EsVersion { major: 9, minor: 2, patch: 0 }));
        assert_eq!("8.15.3-SNAPSHOT".parse::<EsVersion>().unwrap().to_string(), "8.15.3");
        for text in ["", "9", "9.2", "9.2.x", "9.2.0.1", "a.b.c"] {
            assert_eq!(text.parse::<EsVersion>(), Err(BadVersion), "{text}");
        }
    }

    #[test]
    fn unknown_versions_are_not_intercepted() {
        for text in ["7.17.0", "8.9.2", "8.20.0", "9.3.0", "10.0.0"] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn ranges_differ_where_the_reference_says_so() {
        assert_eq!(of("8.12.2").unwrap().mode, Mode::Mirror);
        assert!(of("8.12.2").unwrap().k_required);
        assert!(!of("8.10.4").unwrap().index_by_default);
        assert!(of("8.11.0").unwrap().index_by_default);
        assert_eq!(of("8.13.0").unwrap().index_options, r#"{"type":"flat"}"#);
        assert_eq!(of("9.0.8").unwrap().index_options, r#"{"type":"flat"}"#);
        assert!(of("9.0.8").unwrap().docvalue_vectors);
        assert!(!of("8.16.6").unwrap().docvalue_vectors);
        assert!(of("8.17.0").unwrap().docvalue_vectors);
        for (text, graph) in [("8.12.0", true), ("8.15.3", false), ("9.1.0", false), ("9.2.0", true)] {
            assert_eq!(of(text).unwrap().nested_index_options.contains("hnsw"), graph, "{text}");
        }
        for text in ["8.19.8", "9.1.0", "9.2.2"] {
            assert!(of(text).unwrap().index_options.contains("\"oversample\":3.0"), "{text}");
        }
    }
}
