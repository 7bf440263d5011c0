//! Which indices exist and which of their fields are ours: one immutable picture of the cluster state.

mod fields;
mod filter_fields;
mod index;
mod patterns;
mod readable;
mod targets;
mod vector_field;
mod write_rules;
mod write_target;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::version::Capabilities;
use crate::wildcard::matches_wildcard;
use index::StateIndex;
use write_target::WriteAlias;

pub use filter_fields::{FieldKind, FilterFields};
pub use index::{IndexInfo, Unfollowed};
pub use patterns::IndexPatterns;
pub use readable::readable;
pub use targets::{Target, TargetOptions};
pub use vector_field::{ForeignField, Origin, VectorField};
pub use write_rules::WriteRules;
pub(crate) use write_target::WriteTarget;
pub use write_target::data_stream_of;

/// The two requests whose answers [`Catalog::parse`] reads.
pub const CATALOG_PATHS: [&str; 2] = [
    "/_cluster/state/version,metadata?filter_path=version,metadata.indices.*.state,metadata.indices.*.settings,metadata.indices.*.mappings,metadata.indices.*.settings_version,metadata.indices.*.routing_num_shards",
    "/_alias",
];

/// What stands deeper in mappings and the cluster state is not looked at. Elasticsearch's own limit for fields is less
/// than half of this, unless an index has another.
pub const MAX_STATE_DEPTH: usize = 100;
/// A query that does not exist, in the place of an alias' filter that is not known.
pub const UNREADABLE_FILTER: &str = r#"{"unreadable":{}}"#;

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
struct AliasesOfIndex {
    #[serde(default)]
    aliases: HashMap<String, Box<RawValue>>,
}

#[derive(serde::Deserialize)]
struct AliasDefinition {
    /// To the letter: its numbers are compared with those of documents.
    filter: Option<Box<RawValue>>,
    routing: Option<String>,
    index_routing: Option<String>,
    search_routing: Option<String>,
    #[serde(default)]
    is_hidden: Value,
    #[serde(default)]
    is_write_index: Value,
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
    fn read(index: &str, definition: AliasDefinition) -> Self {
        let AliasDefinition { filter, routing, index_routing, search_routing, is_hidden, .. } = definition;
        // Of a filter with half a character in it nobody knows what it means.
        let filter = filter.map(|filter| match filter.get() {
            text if text.contains("\\uFFFD") => UNREADABLE_FILTER.into(),
            text => text.into(),
        });
        Self {
            index: index.into(),
            filter,
            routed: routing.is_some() || index_routing.is_some() || search_routing.is_some(),
            search_routing: search_routing.or(routing).map(Into::into),
            hidden: is_true(&is_hidden),
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
        let state: StateResponse = serde_json::from_str(&readable(cluster_state, MAX_STATE_DEPTH))?;
        let mut catalog = Self { version: state.version, ..Self::default() };
        let mut shared = filter_fields::Shared::default();
        for (name, index) in state.metadata.indices {
            let mut info = index::read(name, &index, caps, adopt);
            if !info.fields.is_empty() {
                let mapping = index.mappings.get("_doc").unwrap_or(&index.mappings);
                info.filter_fields = shared.intern(FilterFields::read(mapping, &index.settings));
            }
            catalog.indices.insert(Arc::clone(&info.name), Arc::new(info));
        }
        // Their filters count to the letter: none is cut, and it is read no deeper than it is understood.
        catalog.read_aliases(serde_json::from_str(&readable(aliases, usize::MAX))?)?;
        Ok(catalog)
    }

    fn read_aliases(&mut self, response: HashMap<String, AliasesOfIndex>) -> Result<(), CatalogError> {
        for (index, of_index) in response {
            for (alias, raw) in of_index.aliases {
                let alias: Arc<str> = alias.into();
                let definition: AliasDefinition = serde_json::from_str(raw.get())?;
                self.write_aliases.entry(Arc::clone(&alias)).or_default().add(&index, &definition);
                self.aliases.entry(alias).or_default().push(AliasMember::read(&index, definition));
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
        if is_expression(name) {
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
            Some(index) => match index.left {
                Some(left) => Resolved::NotOne(left.name()),
                None => Resolved::One(Arc::clone(index)),
            },
            None => Resolved::Unknown,
        }
    }

    /// An alias that an expression (a name, or a name with `*`) can mean, with an index of its that is not
    /// `inside`.
    pub(crate) fn alias_beyond(&self, expression: &str, inside: impl Fn(&str) -> bool) -> Option<&str> {
        let leads_out = |members: &[AliasMember]| members.iter().any(|member| !inside(&member.index));
        if !expression.contains('*') {
            let (alias, members) = self.aliases.get_key_value(expression)?;
            return leads_out(members).then_some(alias);
        }
        let mut meant = self.aliases.iter().filter(|(alias, _)| matches_wildcard(expression, alias));
        meant.find_map(|(alias, members)| leads_out(members).then_some(&**alias))
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

/// Whether a flag is set, which may stand in quotes.
fn is_true(flag: &Value) -> bool {
    flag == true || flag == "true"
}

/// Whether a name in a URL is none of one index or alias, as far as we can tell.
fn is_expression(name: &str) -> bool {
    name.contains([',', '*', ':', '<', '>', char::REPLACEMENT_CHARACTER]) || name.starts_with(['_', '-', '+'])
}

#[cfg(test)]
mod tests;
