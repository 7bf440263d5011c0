//! One index: what its settings and mapping say that matters to us, or why it is left to Elasticsearch.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{FilterFields, ForeignField, IndexPatterns, VectorField, WriteRules, fields};
use crate::score::Similarity;
use crate::version::Capabilities;

/// `index.version.created` from which floats under cosine are scaled when they are indexed (8.12).
const NORMALIZED_COSINE: u64 = 8_500_005;
/// Elasticsearch's default of `index.max_result_window`.
const DEFAULT_RESULT_WINDOW: u64 = 10_000;
/// Shards that an index may have.
const MAX_SHARDS: u64 = 1_024;

/// An index of the cluster.
#[derive(Clone, Debug)]
pub struct IndexInfo {
    /// Concrete name.
    pub name: Arc<str>,
    /// `settings.index.uuid`.
    pub uuid: Arc<str>,
    /// Number of primary shards.
    pub shards: u32,
    /// Not closed.
    pub open: bool,
    /// `index.hidden`: patterns do not reach it.
    pub hidden: bool,
    /// `index.blocks.read` is set: every search is refused.
    pub read_blocked: bool,
    /// Why it is left to Elasticsearch alone, though it is open: nobody can follow it.
    pub left: Option<Unfollowed>,
    /// `index.refresh_interval` is set: the index never goes search-idle.
    pub explicit_refresh: bool,
    /// `index.search.idle.after`, where it is set and can be read.
    pub search_idle_after: Option<Duration>,
    /// `index.max_result_window`.
    pub max_result_window: usize,
    /// `index.version.created`, e.g. 8512000.
    pub created: u64,
    /// May have been made by shrinking another one: then two documents of a shard may have one `_seq_no`.
    pub resized: bool,
    /// Some field is `nested`.
    pub has_nested: bool,
    /// Documents may carry `_ignored`, which Elasticsearch prints in every hit, asked for or not: some
    /// field has `ignore_above` or `ignore_malformed`, or a setting of the index does the like.
    pub may_ignore: bool,
    /// The fields that are ours, by full path.
    pub fields: BTreeMap<Arc<str>, VectorField>,
    /// The vector fields that could be ours.
    pub foreign: BTreeMap<Arc<str>, ForeignField>,
    /// The fields on which filters may rest; none where no field is ours.
    pub filter_fields: Arc<FilterFields>,
    /// What decides whether a write can be understood as it passes.
    pub writes: WriteRules,
}

/// Why an open index is not followed. It is one index's trouble: all others go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfollowed {
    /// `index.blocks.metadata`: Elasticsearch tells nobody how far it is.
    MetadataBlock,
    /// A setting that is not read as Elasticsearch reads it, which takes digits of all scripts.
    Setting(&'static str),
}

impl Unfollowed {
    /// The word in reasons.
    pub fn name(self) -> &'static str {
        match self {
            Unfollowed::MetadataBlock => "metadata_block",
            Unfollowed::Setting(_) => "setting",
        }
    }
}

impl fmt::Display for Unfollowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfollowed::MetadataBlock => f.write_str("index.blocks.metadata is set"),
            Unfollowed::Setting(key) => write!(f, "index.{key} cannot be read"),
        }
    }
}

impl IndexInfo {
    /// Open, and not left to Elasticsearch.
    pub fn can_be_followed(&self) -> bool {
        self.open && self.left.is_none()
    }

    /// Elasticsearch tells nobody about it, and refuses whoever asks about it with others.
    pub fn hides_metadata(&self) -> bool {
        self.left == Some(Unfollowed::MetadataBlock)
    }
}

/// An index as the cluster state tells it.
#[derive(Deserialize)]
pub(super) struct StateIndex {
    #[serde(default)]
    pub(super) state: String,
    #[serde(default)]
    pub(super) settings: Value,
    #[serde(default)]
    pub(super) mappings: Value,
    #[serde(default)]
    pub(super) settings_version: u64,
    #[serde(default)]
    pub(super) routing_num_shards: u32,
}

/// What an index is, but for its filter fields.
pub(super) fn read(
    name: String,
    index: &StateIndex,
    caps: &Capabilities,
    adopt: &IndexPatterns,
) -> IndexInfo {
    let blocked = setting(&index.settings, "blocks.metadata") == Some("true");
    let mut left = blocked.then_some(Unfollowed::MetadataBlock);
    let uuid = setting(&index.settings, "uuid").unwrap_or_else(|| {
        left.get_or_insert(Unfollowed::Setting("uuid"));
        ""
    });
    let mut number = |key, absent: Option<u64>, unreadable| {
        match setting(&index.settings, key) {
            None => absent,
            Some(number) => number.parse().ok(),
        }
        .unwrap_or_else(|| {
            // A block counts more: whoever asks about the index must know of it.
            left.get_or_insert(Unfollowed::Setting(key));
            unreadable
        })
    };
    // For quotas it has as many as Elasticsearch allows.
    let shards = number("number_of_shards", None, MAX_SHARDS) as u32;
    let created = number("version.created", None, 0);
    let max_result_window = number("max_result_window", Some(DEFAULT_RESULT_WINDOW), 1) as usize;
    let mut found = fields::read(&index.mappings, caps, adopt.contains(&name));
    if created < NORMALIZED_COSINE {
        let foreign = found.foreign.values_mut().map(|foreign| &mut foreign.field);
        let fields = found.ours.values_mut().chain(foreign);
        fields.filter(|field| field.similarity == Similarity::Cosine).for_each(|field| {
            field.similarity = Similarity::TrueCosine;
        });
    }
    IndexInfo {
        uuid: uuid.into(),
        shards,
        open: index.state != "close",
        hidden: setting(&index.settings, "hidden") == Some("true"),
        read_blocked: setting(&index.settings, "blocks.read") == Some("true"),
        left,
        explicit_refresh: setting(&index.settings, "refresh_interval").is_some(),
        search_idle_after: setting(&index.settings, "search.idle.after").and_then(time_value),
        max_result_window,
        created,
        // Elasticsearch forgets the source of a resized index, but writes down this one for it alone.
        resized: setting(&index.settings, "routing_partition_size").is_some(),
        has_nested: found.has_nested,
        may_ignore: found.may_ignore || settings_may_ignore(&index.settings),
        writes: WriteRules::read(index, shards, &found.ours),
        fields: found.ours,
        foreign: found.foreign,
        filter_fields: Arc::default(),
        name: name.into(),
    }
}

/// Settings by which values are dropped and noted in `_ignored`.
fn settings_may_ignore(settings: &Value) -> bool {
    let keys = [
        "mapping.ignore_above",
        "mapping.ignore_malformed",
        "mapping.total_fields.ignore_dynamic_beyond_limit",
    ];
    let is_set = |key: &str| setting(settings, key).is_some_and(|value| value != "false");
    // The modes `logsdb` and `time_series` bring such settings along.
    keys.into_iter().any(is_set) || setting(settings, "mode").is_some_and(|mode| mode != "standard")
}

/// A time as settings hold it: `30s`, `500ms`, `-1` (of which nothing is made).
fn time_value(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "nanos" => Duration::from_nanos(number),
        "micros" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3_600)?),
        "d" => Duration::from_secs(number.checked_mul(86_400)?),
        _ => return None,
    })
}

/// `index.{key}`, whether the settings are nested or flat.
pub(super) fn setting<'v>(settings: &'v Value, key: &str) -> Option<&'v str> {
    if let Some(flat) = settings.get(format!("index.{key}")) {
        return flat.as_str();
    }
    key.split('.').try_fold(settings.get("index")?, |value, part| value.get(part))?.as_str()
}
