//! Which indices a write under a name may reach.

use std::sync::Arc;

use super::{AliasDefinition, Catalog, IndexInfo, is_expression, is_true};

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
    /// The one of them that is said to take writes.
    write_index: Option<Arc<str>>,
    /// Writes through it get a routing that the request does not show.
    pub(super) routes: bool,
}

impl WriteAlias {
    /// Takes in what the alias is for one of its indices.
    pub(super) fn add(&mut self, index: &str, definition: &AliasDefinition) {
        let index: Arc<str> = index.into();
        if is_true(&definition.is_write_index) {
            self.write_index = Some(Arc::clone(&index));
        }
        self.indices.push(index);
        self.routes |= definition.routing.is_some() || definition.index_routing.is_some();
    }
}

impl Catalog {
    /// The indices that a write to `name` may reach: the index itself, those of an alias, the backing
    /// indices of a data stream.
    pub(crate) fn write_target(&self, name: &str) -> WriteTarget {
        // `<logs-{now/d}>` is reckoned by Elasticsearch; the others are refused there.
        if is_expression(name) {
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

    /// The index that a write to a name goes to: itself, the write index of an alias, the newest of a data stream; where
    /// an alias names none, one of its indices. `None` where there is no such name in this picture, so that a write
    /// would create it.
    pub fn written(&self, name: &str) -> Option<Arc<IndexInfo>> {
        match self.write_aliases.get(name) {
            Some(alias) => {
                let mut candidates = alias.write_index.iter().chain(&alias.indices);
                candidates.find_map(|name| self.index_or_newest(name))
            }
            None => self.index_or_newest(name),
        }
    }

    fn index_or_newest(&self, name: &str) -> Option<Arc<IndexInfo>> {
        if let Some(index) = self.indices.get(name) {
            return Some(Arc::clone(index));
        }
        let backing = self.indices.values().filter_map(|index| {
            let (stream, generation) = stream_and_generation(index.name.strip_prefix(BACKING)?)?;
            (stream == name).then_some((generation.parse::<u64>().ok(), index))
        });
        backing.max_by_key(|(generation, _)| *generation).map(|(_, index)| Arc::clone(index))
    }

    /// The index of that name, or those of ours behind the data stream of that name.
    fn indices_under(&self, name: &str) -> Vec<Arc<IndexInfo>> {
        if let Some(index) = self.indices.get(name) {
            return vec![Arc::clone(index)];
        }
        let prefix = format!("{BACKING}{name}-");
        self.adopted().filter(|index| index.name.starts_with(&prefix)).cloned().collect()
    }
}

/// How names of a data stream's backing indices begin, and of those that take what could not be written.
const BACKING: &str = ".ds-";
const FAILURES: &str = ".fs-";

/// The data stream of an index: `logs` of `.ds-logs-2026.11.21-000001`, and of `.fs-…`, where its failures go.
pub fn data_stream_of(index: &str) -> Option<&str> {
    let rest = index.strip_prefix(BACKING).or_else(|| index.strip_prefix(FAILURES))?;
    stream_and_generation(rest).map(|(stream, _)| stream)
}

/// `logs` and `000001` of `logs-2026.11.21-000001`.
fn stream_and_generation(rest: &str) -> Option<(&str, &str)> {
    let (rest, generation) = rest.rsplit_once('-')?;
    let (stream, date) = rest.rsplit_once('-')?;
    let is_backing = generation.len() >= 6 && generation.bytes().all(|byte| byte.is_ascii_digit());
    (is_backing && date.len() == 10).then_some((stream, generation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Capabilities;
    use serde_json::json;

    #[test]
    fn a_write_goes_to_the_write_index_and_the_newest_of_a_stream() {
        let settings =
            json!({"index": {"uuid": "u", "number_of_shards": "1", "version": {"created": "9039001"}}});
        let names = [
            "a-1",
            "a-2",
            "a-3",
            ".ds-logs-2026.11.21-000009",
            ".ds-logs-2026.11.22-000010",
            ".fs-logs-2026.11.23-000011",
            ".ds-logs-app-2026.11.22-000099",
        ];
        let indices: serde_json::Map<_, _> =
            names.iter().map(|name| ((*name).to_owned(), json!({"settings": settings}))).collect();
        let state = json!({"version": 1, "metadata": {"indices": indices}}).to_string();
        let aliases = json!({
            "a-1": {"aliases": {"w": {}, "one": {}, "none": {}}},
            "a-2": {"aliases": {"w": {"is_write_index": true}}},
            "a-3": {"aliases": {"w": {"is_write_index": false}}},
            "logs": {"aliases": {"all-logs": {}}},
        });
        let caps = Capabilities::of("9.2.0".parse().unwrap()).unwrap();
        let catalog = Catalog::parse(&state, &aliases.to_string(), &caps).unwrap();
        for (name, index) in [
            ("a-1", Some("a-1")),
            ("w", Some("a-2")),
            ("one", Some("a-1")),
            ("logs", Some(".ds-logs-2026.11.22-000010")),
            ("all-logs", Some(".ds-logs-2026.11.22-000010")),
            ("logs-app", Some(".ds-logs-app-2026.11.22-000099")),
            ("a", None),
        ] {
            assert_eq!(catalog.written(name).as_ref().map(|index| &*index.name), index, "{name}");
        }
    }

    #[test]
    fn backing_indices_belong_to_their_stream() {
        for own in [".ds-logs-app-2026.11.21-000001", ".fs-logs-app-2026.11.21-000002"] {
            assert_eq!(data_stream_of(own), Some("logs-app"));
        }
        for other in ["logs", ".ds-logs", ".ds-logs-000001", ".ds-logs-2026.11.21-1", ".ds-"] {
            assert_eq!(data_stream_of(other), None, "{other}");
        }
    }
}
