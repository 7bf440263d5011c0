//! Which indices a write under a name may reach.

use std::sync::Arc;

use serde_json::Value;

use super::{Catalog, IndexInfo};

/// What a name means for a write.
#[derive(Clone, Debug)]
pub(crate) enum WriteTarget {
    /// One of these, each known; none where the name is new or means nothing of ours.
    Indices(Vec<Arc<IndexInfo>>),
    /// Only Elasticsearch can tell, or the write is changed on its way.
    Unclear,
}

/// An alias, for a write: its filter does not matter, its routing does.
#[derive(Clone, Debug, Default)]
pub(super) struct WriteAlias {
    pub(super) indices: Vec<Arc<str>>,
    /// Writes through it get a routing that the request does not show.
    pub(super) routes: bool,
}

impl WriteAlias {
    /// Takes in what the alias is for one of its indices.
    pub(super) fn add(&mut self, index: &str, definition: &Value) {
        self.indices.push(index.into());
        self.routes |= ["routing", "index_routing"].iter().any(|key| definition.get(*key).is_some());
    }
}

impl Catalog {
    /// The indices that a write to `name` may reach: the index itself, those of an alias, the backing
    /// indices of a data stream.
    pub(crate) fn write_target(&self, name: &str) -> WriteTarget {
        // `<logs-{now/d}>` is reckoned by Elasticsearch; the others are refused there.
        if name.contains([',', '*', ':', '<', '>']) || name.starts_with(['_', '-', '+']) {
            return WriteTarget::Unclear;
        }
        if let Some(index) = self.indices.get(name) {
            return WriteTarget::Indices(vec![Arc::clone(index)]);
        }
        match self.write_aliases.get(name) {
            Some(alias) if alias.routes => WriteTarget::Unclear,
            Some(alias) => {
                let of_name = |name: &Arc<str>| self.indices_under(name);
                WriteTarget::Indices(alias.indices.iter().flat_map(of_name).collect())
            }
            None => WriteTarget::Indices(self.indices_under(name)),
        }
    }

    /// The index that a name means for a write: itself, or one of those behind the alias or data stream of that
    /// name. `None` where there is no such name in this picture, so that a write would create it.
    pub fn written(&self, name: &str) -> Option<Arc<IndexInfo>> {
        if let Some(index) = self.indices.get(name) {
            return Some(Arc::clone(index));
        }
        if let Some(alias) = self.write_aliases.get(name) {
            return alias.indices.iter().find_map(|name| self.indices.get(name)).cloned();
        }
        let prefix = format!(".ds-{name}-");
        self.indices.values().find(|index| index.name.starts_with(&prefix)).cloned()
    }

    /// The index of that name, or those of ours behind the data stream of that name.
    fn indices_under(&self, name: &str) -> Vec<Arc<IndexInfo>> {
        if let Some(index) = self.indices.get(name) {
            return vec![Arc::clone(index)];
        }
        let prefix = format!(".ds-{name}-");
        self.adopted().filter(|index| index.name.starts_with(&prefix)).cloned().collect()
    }
}
