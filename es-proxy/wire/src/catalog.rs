//! Which indices exist and which of their fields are ours: one immutable picture of the cluster state.

mod fields;
mod filter_fields;
mod patterns;
mod targets;
mod write_rules;
mod write_target;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use knn_types::FieldSpec;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::mapping::{Key, shown_options};
use crate::score::{Scoring, Similarity};
use crate::version::{Capabilities, Mode};
use crate::wildcard::matches_wildcard;
use write_target::WriteAlias;

pub use filter_fields::{FieldKind, FilterFields};
pub use patterns::IndexPatterns;
pub use targets::{Target, TargetOptions};
pub use write_rules::WriteRules;
pub(crate) use write_target::WriteTarget;

/// The two requests whose answers [`Catalog::parse`] reads.
pub const CATALOG_PATHS: [&str; 2] = [
    "/_cluster/state/version,metadata?filter_path=version,metadata.indices.*.state,metadata.indices.*.settings,metadata.indices.*.mappings,metadata.indices.*.settings_version,metadata.indices.*.routing_num_shards",
    "/_alias",
];

/// Elasticsearch's default of `index.max_result_window`.
/// `index.version.created` from which floats under cosine are scaled when they are indexed (8.12).
const NORMALIZED_COSINE: u64 = 8_500_005;
const DEFAULT_RESULT_WINDOW: usize = 10_000;

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

/// A field that is ours: searchable, with known dims.
#[derive(Clone, Debug)]
pub struct VectorField {
    /// What the engine must know.
    pub spec: FieldSpec,
    /// How scores are computed.
    pub similarity: Similarity,
    /// The `nested` object that it stands below, if it does: documents have several vectors then.
    pub nested: Option<Arc<str>>,
    /// Our options as stored in the field's `meta`.
    pub stored: Box<str>,
    /// Its vectors can be read back. Elasticsearch before 8.17 returns them out of `_source` alone,
    /// which an index may be without, wholly or for this field.
    pub readable: bool,
    /// How it became ours.
    pub origin: Origin,
    /// Elasticsearch's own `index_options`, as printed; `None` where it prints none.
    pub index_options: Option<Box<str>>,
}

/// How a field became ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Its index type is `ivf`.
    Mapping,
    /// By `PUT /_ivf/{index}/{field}`.
    Adopted,
    /// By a pattern of our own configuration; the mapping knows nothing of it.
    Pattern,
}

impl Origin {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Mapping => "mapping",
            Origin::Adopted => "api",
            Origin::Pattern => "pattern",
        }
    }
}

/// A vector field that is not ours.
#[derive(Clone, Debug)]
pub struct ForeignField {
    /// What it would be.
    pub field: VectorField,
    /// Whether it is not ours because somebody said so.
    pub released: bool,
}

impl VectorField {
    /// How its vectors are judged and scored.
    pub fn scoring(&self) -> Scoring {
        Scoring { similarity: self.similarity, element: self.spec.element, dims: self.spec.dims }
    }

    /// Whether Elasticsearch keeps a graph (or lists) of its own for the field.
    pub fn mode(&self) -> Mode {
        let options = self.index_options.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
        match options.as_ref().and_then(|options| options.get("type")?.as_str()) {
            Some(kind) if kind.ends_with("flat") => Mode::Offload,
            _ => Mode::Mirror,
        }
    }

    /// Our options as `index_options` of a mapping has them.
    pub fn shown_options(&self) -> String {
        shown_options(&self.spec.options)
    }

    /// What is stored for the same options beside an index type of Elasticsearch's own.
    pub fn stored_beside(&self) -> String {
        Key::Adopted(self.spec.options).text()
    }

    /// Whether both are the same field, whoever indexes it with whatever options.
    pub fn is_same_field(&self, other: &Self) -> bool {
        let identity = |field: &Self| (field.spec.element, field.spec.dims, field.similarity);
        identity(self) == identity(other) && self.nested == other.nested
    }
}

/// What a name in a URL means.
#[derive(Clone, Debug)]
pub enum Resolved {
    /// Exactly one open index, seen whole.
    One(Arc<IndexInfo>),
    /// Something that only Elasticsearch can resolve, and why.
    NotOne(&'static str),
    /// No such name in this picture.
    Unknown,
}

/// The cluster state could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Not JSON, or not of the shape expected.
    #[error("cluster state cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// An index lacks what every index has.
    #[error("index [{index}] has no readable [{setting}]")]
    Setting {
        /// The index.
        index: String,
        /// The setting.
        setting: &'static str,
    },
}

#[derive(serde::Deserialize)]
struct StateResponse {
    version: i64,
    #[serde(default)]
    metadata: StateMetadata,
}

/// Under the filter of [`CATALOG_PATHS`] a cluster without indices has no metadata at all.
#[derive(Default, serde::Deserialize)]
struct StateMetadata {
    #[serde(default)]
    indices: HashMap<String, StateIndex>,
}

#[derive(serde::Deserialize)]
struct StateIndex {
    #[serde(default)]
    state: String,
    #[serde(default)]
    settings: Value,
    #[serde(default)]
    mappings: Value,
    #[serde(default)]
    settings_version: u64,
    #[serde(default)]
    routing_num_shards: u32,
}

#[derive(serde::Deserialize)]
struct AliasesOfIndex {
    #[serde(default)]
    aliases: HashMap<String, Box<RawValue>>,
}

/// The filter of an alias, to the letter: its numbers are compared with those of documents.
#[derive(serde::Deserialize)]
struct FilterOfAlias {
    filter: Option<Box<RawValue>>,
}

/// One picture of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Version of the cluster state; -1 when nothing is known.
    pub version: i64,
    indices: HashMap<Arc<str>, Arc<IndexInfo>>,
    aliases: HashMap<Arc<str>, Vec<AliasMember>>,
    write_aliases: HashMap<Arc<str>, WriteAlias>,
}

/// An index that an alias points at, and what the alias is for searches of it.
#[derive(Clone, Debug)]
struct AliasMember {
    index: Arc<str>,
    /// As Elasticsearch prints it.
    filter: Option<Arc<str>>,
    /// Any routing at all.
    routed: bool,
    search_routing: Option<Box<str>>,
    /// Patterns do not reach it.
    hidden: bool,
}

impl AliasMember {
    fn read(index: &str, definition: &Value, filter: Option<Box<RawValue>>) -> Self {
        let has = |key: &str| definition.get(key).is_some();
        let text = |key: &str| definition.get(key).and_then(Value::as_str);
        Self {
            index: index.into(),
            filter: filter.map(|filter| filter.get().into()),
            routed: has("routing") || has("index_routing") || has("search_routing"),
            search_routing: text("search_routing").or_else(|| text("routing")).map(Into::into),
            hidden: definition.get("is_hidden").is_some_and(|hidden| hidden == true || hidden == "true"),
        }
    }
}

impl Catalog {
    /// Reads the answers to [`CATALOG_PATHS`].
    pub fn parse(cluster_state: &str, aliases: &str, caps: &Capabilities) -> Result<Self, CatalogError> {
        Self::parse_adopting(cluster_state, aliases, caps, &IndexPatterns::default())
    }

    /// [`Catalog::parse`], where vector fields of the indices that `adopt` means are ours without saying so.
    pub fn parse_adopting(
        cluster_state: &str,
        aliases: &str,
        caps: &Capabilities,
        adopt: &IndexPatterns,
    ) -> Result<Self, CatalogError> {
        let state: StateResponse = serde_json::from_str(cluster_state)?;
        let mut catalog = Self { version: state.version, ..Self::default() };
        let mut shared = filter_fields::Shared::default();
        for (name, index) in state.metadata.indices {
            let mut info = read_index(name, &index, caps, adopt)?;
            if !info.fields.is_empty() {
                let mapping = index.mappings.get("_doc").unwrap_or(&index.mappings);
                info.filter_fields = shared.intern(FilterFields::read(mapping, &index.settings));
            }
            catalog.indices.insert(Arc::clone(&info.name), Arc::new(info));
        }
        catalog.read_aliases(serde_json::from_str(aliases)?)?;
        Ok(catalog)
    }

    fn read_aliases(&mut self, response: HashMap<String, AliasesOfIndex>) -> Result<(), CatalogError> {
        for (index, of_index) in response {
            for (alias, raw) in of_index.aliases {
                let alias: Arc<str> = alias.into();
                let definition: Value = serde_json::from_str(raw.get())?;
                let FilterOfAlias { filter } = serde_json::from_str(raw.get())?;
                self.write_aliases.entry(Arc::clone(&alias)).or_default().add(&index, &definition);
                self.aliases.entry(alias).or_default().push(AliasMember::read(&index, &definition, filter));
            }
        }
        Ok(())
    }

    /// Knows nothing.
    pub fn empty() -> Self {
        Self { version: -1, ..Self::default() }
    }

    /// The index with this concrete name.
    pub fn index(&self, name: &str) -> Option<&Arc<IndexInfo>> {
        self.indices.get(name)
    }

    /// The index with this uuid.
    pub fn by_uuid(&self, uuid: &str) -> Option<&Arc<IndexInfo>> {
        self.indices.values().find(|index| &*index.uuid == uuid)
    }

    /// What a decoded name in a URL means.
    pub fn resolve(&self, name: &str) -> Resolved {
        if name.contains([',', '*', ':', '<', '>']) || name.starts_with(['_', '-', '+']) {
            return Resolved::NotOne("expression");
        }
        // An alias stands for an index only where it points at one, whole and unfiltered.
        let concrete = match self.aliases.get(name).map(Vec::as_slice) {
            Some([member]) if member.routed => return Resolved::NotOne("routed_alias"),
            Some([member]) if member.filter.is_some() => return Resolved::NotOne("filtered_alias"),
            Some([member]) => &member.index,
            Some(_) => return Resolved::NotOne("several_indices"),
            None => name,
        };
        match self.indices.get(concrete) {
            Some(index) if !index.open => Resolved::NotOne("closed"),
            Some(index) if index.read_blocked => Resolved::NotOne("read_block"),
            Some(index) => Resolved::One(Arc::clone(index)),
            None => Resolved::Unknown,
        }
    }

    /// An alias that an expression (a name, or a name with `*`) can mean, with an index of its that is not
    /// `inside`.
    pub(crate) fn alias_beyond(
        &self,
        expression: &str,
        inside: impl Fn(&str) -> bool,
    ) -> Option<(&str, &str)> {
        let outside = |members: &[AliasMember]| members.iter().position(|member| !inside(&member.index));
        if !expression.contains('*') {
            let (alias, members) = self.aliases.get_key_value(expression)?;
            return Some((alias, &members[outside(members)?].index));
        }
        let mut meant = self.aliases.iter().filter(|(alias, _)| matches_wildcard(expression, alias));
        meant.find_map(|(alias, members)| Some((&**alias, &*members[outside(members)?].index)))
    }

    /// The indices that an alias points at; none where it is no alias.
    pub(crate) fn indices_of_alias(&self, alias: &str) -> impl Iterator<Item = &str> {
        self.aliases.get(alias).into_iter().flatten().map(|member| &*member.index)
    }

    /// Keeps a field as ours that this picture no longer says is, until its options are restored.
    pub fn keep(&mut self, index: &str, path: &Arc<str>, field: VectorField) {
        if let Some(index) = self.indices.get_mut(index) {
            let index = Arc::make_mut(index);
            index.foreign.remove(path);
            index.fields.insert(Arc::clone(path), field);
        }
    }

    /// Every index.
    pub fn indices(&self) -> impl Iterator<Item = &Arc<IndexInfo>> {
        self.indices.values()
    }

    /// Every index with at least one field of ours.
    pub fn adopted(&self) -> impl Iterator<Item = &Arc<IndexInfo>> {
        self.indices.values().filter(|index| !index.fields.is_empty())
    }
}

fn read_index(
    name: String,
    index: &StateIndex,
    caps: &Capabilities,
    adopt: &IndexPatterns,
) -> Result<IndexInfo, CatalogError> {
    let required = |key: &'static str| {
        setting(&index.settings, key)
            .ok_or_else(|| CatalogError::Setting { index: name.clone(), setting: key })
    };
    let unreadable = |key: &'static str| CatalogError::Setting { index: name.clone(), setting: key };
    let shards = required("number_of_shards")?.parse().map_err(|_| unreadable("number_of_shards"))?;
    let created = required("version.created")?.parse().map_err(|_| unreadable("version.created"))?;
    let uuid = required("uuid")?.into();
    let max_result_window = match setting(&index.settings, "max_result_window") {
        Some(window) => window.parse().map_err(|_| unreadable("max_result_window"))?,
        None => DEFAULT_RESULT_WINDOW,
    };
    let mut found = fields::read(&index.mappings, caps, adopt.contains(&name));
    if created < NORMALIZED_COSINE {
        let foreign = found.foreign.values_mut().map(|foreign| &mut foreign.field);
        let fields = found.ours.values_mut().chain(foreign);
        fields.filter(|field| field.similarity == Similarity::Cosine).for_each(|field| {
            field.similarity = Similarity::TrueCosine;
        });
    }
    Ok(IndexInfo {
        uuid,
        shards,
        open: index.state != "close",
        hidden: setting(&index.settings, "hidden") == Some("true"),
        read_blocked: setting(&index.settings, "blocks.read") == Some("true"),
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
    })
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
fn setting<'v>(settings: &'v Value, key: &str) -> Option<&'v str> {
    if let Some(flat) = settings.get(format!("index.{key}")) {
        return flat.as_str();
    }
    key.split('.').try_fold(settings.get("index")?, |value, part| value.get(part))?.as_str()
}

#[cfg(test)]
mod tests;
