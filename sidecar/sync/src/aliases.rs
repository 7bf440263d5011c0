//! The aliases of all indices where Elasticsearch does not tell them at once: it refuses every question about the
//! metadata of several indices if one of them has `index.blocks.metadata`. Then the others are asked about by name,
//! and of the aliases of blocked ones only their names are known: nobody may be answered by them here.

use std::collections::HashMap;

use es_wire::UNREADABLE_FILTER;
use futures_util::future::try_join_all;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::poll::lists_for_urls;
use crate::response;
use crate::upstream::{Upstream, UpstreamError};

/// The cluster state is told in spite of blocks, but its aliases are no more than names.
const NAMES: &str = "/_cluster/state/metadata?filter_path=metadata.indices.*.aliases,\
                     metadata.indices.*.settings.index.blocks.metadata";

#[derive(Deserialize)]
struct State {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    indices: HashMap<String, Index>,
}

#[derive(Deserialize)]
struct Index {
    /// To the letter: they may hold what is no character.
    #[serde(default)]
    aliases: Vec<Box<RawValue>>,
    #[serde(default)]
    settings: Value,
}

impl Index {
    fn is_blocked(&self) -> bool {
        self.settings.pointer("/index/blocks/metadata").is_some_and(|value| value == "true")
    }
}

/// What `GET /_alias` would answer, but for aliases of data streams.
pub(crate) async fn around_blocks(upstream: &Upstream) -> Result<Vec<u8>, UpstreamError> {
    let state: State = response::json(&upstream.get(NAMES).await?)?;
    let (blocked, others): (Vec<_>, Vec<_>) =
        state.metadata.indices.into_iter().partition(|(_, index)| index.is_blocked());
    let with_aliases = others.iter().filter(|(_, index)| !index.aliases.is_empty()).map(|(name, _)| name);
    let answers = lists_for_urls(with_aliases).into_iter().map(|list| async move {
        upstream.get(&format!("/{list}/_alias?ignore_unavailable=true&expand_wildcards=all")).await
    });
    let answers = try_join_all(answers).await?;
    let mut parts = Vec::with_capacity(answers.len() + blocked.len());
    for answer in answers {
        let text = String::from_utf8(answer).map_err(|error| UpstreamError::Unreadable(error.to_string()))?;
        let inner = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        let inner = inner.ok_or_else(|| UpstreamError::Unreadable("aliases are no object".to_owned()))?;
        parts.push(inner.to_owned());
    }
    parts.retain(|part| !part.is_empty());
    // An alias of which only the name is known: for no search and no write like its index.
    let unknown =
        |alias: &RawValue| format!(r#"{alias}:{{"filter":{UNREADABLE_FILTER},"routing":"unknown"}}"#);
    parts.extend(blocked.into_iter().map(|(name, index)| {
        let aliases: Vec<_> = index.aliases.iter().map(|alias| unknown(alias)).collect();
        format!(r#"{}:{{"aliases":{{{}}}}}"#, Value::from(name), aliases.join(","))
    }));
    Ok(format!("{{{}}}", parts.join(",")).into_bytes())
}
