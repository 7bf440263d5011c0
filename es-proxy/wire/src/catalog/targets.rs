//! Which indices and shards a search means: names, lists, patterns and aliases, resolved as Elasticsearch
//! resolves them. Where that is not certain (hidden things in reach of a pattern, exclusions of names that
//! stand elsewhere in the list, remote clusters, dates, data streams), only Elasticsearch can tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{AliasMember, Catalog, IndexInfo};
use crate::search::NotOurs;
use crate::{Params, matches_wildcard};

/// Patterns are matched with every name of the cluster; with more names than this that takes too long.
const MAX_NAMES: usize = 2_000;

/// From so many shards on Elasticsearch asks each first whether it can match, and may skip it.
const MAX_SHARDS: usize = 128;

/// One index that a search means.
#[derive(Clone, Debug)]
pub struct Target {
    /// The index, open and not blocked.
    pub index: Arc<IndexInfo>,
    /// Its shards that are searched, ascending; `None`: all.
    pub shards: Option<Box<[u32]>>,
    /// The filter of the alias that leads to it, as Elasticsearch prints it.
    pub filter: Option<Arc<str>>,
}

impl Target {
    /// How many shards are searched.
    pub fn shard_count(&self) -> u32 {
        self.shards.as_ref().map_or(self.index.shards, |shards| shards.len() as u32)
    }
}

/// What a request says about its targets beside their names.
#[derive(Clone, Copy, Debug)]
pub struct TargetOptions<'a> {
    ignore_unavailable: bool,
    allow_no_indices: bool,
    expands_to_open: bool,
    routing: Option<&'a str>,
    patterns: bool,
}

impl Default for TargetOptions<'_> {
    fn default() -> Self {
        Self {
            ignore_unavailable: false,
            allow_no_indices: true,
            expands_to_open: true,
            routing: None,
            patterns: true,
        }
    }
}

impl<'a> TargetOptions<'a> {
    /// Reads the parameters that matter.
    pub fn of(params: &'a Params) -> Result<Self, NotOurs> {
        let flag = |name: &str, default: bool| match params.get(name) {
            None => Ok(default),
            Some(value) => value.parse().map_err(|_| NotOurs("parameter")),
        };
        // Elasticsearch refuses other words, also where no pattern stands.
        let words = params.get("expand_wildcards").unwrap_or("open");
        if !words.split(',').all(|word| matches!(word, "open" | "closed" | "hidden" | "none" | "all")) {
            return Err(NotOurs("parameter"));
        }
        Ok(Self {
            ignore_unavailable: flag("ignore_unavailable", false)?,
            allow_no_indices: flag("allow_no_indices", true)?,
            expands_to_open: words == "open",
            routing: params.get("routing"),
            patterns: true,
        })
    }

    /// Whether patterns may be expanded: not where they mean only what a caller is allowed to see.
    #[must_use]
    pub fn expanding_patterns(self, patterns: bool) -> Self {
        Self { patterns, ..self }
    }
}

/// An index that was reached.
struct Reached<'c> {
    index: &'c Arc<IndexInfo>,
    by_name: bool,
    filter: Option<&'c Arc<str>>,
}

type Chosen<'c> = BTreeMap<&'c str, Reached<'c>>;

const EXPRESSION: NotOurs = NotOurs("expression");
const UNKNOWN: NotOurs = NotOurs("unknown_index");

impl Catalog {
    /// The indices that a search of `names` (as in a URL, decoded; empty for all) means, by name; never none.
    pub fn targets(&self, names: &str, options: &TargetOptions<'_>) -> Result<Vec<Target>, NotOurs> {
        if let (Some(index), None) = (self.indices.get(names), options.routing)
            && index.open
        {
            return Ok(vec![target(index, None, None)?]);
        }
        let mut alias_routing = None;
        let mut chosen = Chosen::new();
        if matches!(names, "" | "_all" | "*") {
            self.expand("*", options, &mut chosen)?;
        } else {
            let parts: Vec<&str> = names.split(',').collect();
            let mut expanded = false;
            for part in &parts {
                if part.is_empty()
                    || part.contains([':', '<', '>', '|', char::REPLACEMENT_CHARACTER])
                    || part.starts_with(['_', '+'])
                {
                    return Err(EXPRESSION);
                }
                match part.strip_prefix('-') {
                    // Before any pattern it is a strange name.
                    Some(excluded) if expanded => self.exclude(excluded, &mut chosen)?,
                    Some(_) => return Err(EXPRESSION),
                    None if part.contains('*') => {
                        expanded = true;
                        self.expand(part, options, &mut chosen)?;
                    }
                    None => alias_routing = self.named(part, parts.len() == 1, options, &mut chosen)?,
                }
            }
        }
        // An error, or an answer without shards.
        if chosen.is_empty() {
            return Err(UNKNOWN);
        }
        let routing = match (options.routing, alias_routing) {
            // Elasticsearch searches all shards where the two have nothing in common.
            (Some(_), Some(_)) => return Err(NotOurs("routing")),
            (asked, of_alias) => asked.or(of_alias),
        };
        let targets = chosen.into_values().map(|reached| target(reached.index, routing, reached.filter));
        let targets = targets.collect::<Result<Vec<_>, _>>()?;
        let shards: usize = targets.iter().map(|target| target.shard_count() as usize).sum();
        if shards > MAX_SHARDS { Err(NotOurs("many_shards")) } else { Ok(targets) }
    }

    /// An index or an alias by its name; the routing for searches of an alias that is all there is.
    fn named<'c>(
        &'c self,
        name: &str,
        alone: bool,
        options: &TargetOptions<'_>,
        chosen: &mut Chosen<'c>,
    ) -> Result<Option<&'c str>, NotOurs> {
        let Some(members) = self.aliases.get(name) else {
            match self.indices.get(name) {
                Some(index) if index.open => choose(chosen, index, None),
                Some(_) if options.ignore_unavailable => {}
                Some(_) => return Err(NotOurs("closed")),
                None if options.ignore_unavailable && !self.may_be_data_stream(name) => {}
                None => return Err(UNKNOWN),
            }
            return Ok(None);
        };
        for member in members {
            let index = self.member(member)?;
            if !index.open {
                return Err(NotOurs("closed"));
            }
            if member.filter.is_some() && !alone {
                // It holds for what no other name means.
                return Err(NotOurs("filtered_alias"));
            }
            choose(chosen, index, member.filter.as_ref());
        }
        match members.as_slice() {
            [AliasMember { search_routing: Some(routing), .. }] if alone => Ok(Some(routing)),
            members if members.iter().any(|member| member.search_routing.is_some()) => {
                Err(NotOurs("alias_routing"))
            }
            _ => Ok(None),
        }
    }

    /// Everything open and visible that a pattern covers.
    fn expand<'c>(
        &'c self,
        pattern: &str,
        options: &TargetOptions<'_>,
        chosen: &mut Chosen<'c>,
    ) -> Result<(), NotOurs> {
        if !options.patterns {
            return Err(NotOurs("security"));
        }
        if !options.expands_to_open || pattern.starts_with('.') {
            return Err(EXPRESSION);
        }
        if self.indices.len() + self.aliases.len() > MAX_NAMES {
            return Err(NotOurs("many_indices"));
        }
        let mut found = false;
        for index in self.indices.values() {
            if index.name.starts_with(".ds-") && !cannot_be_stream(&index.name, pattern) {
                return Err(NotOurs("data_stream"));
            }
            if !index.open || index.hidden || !matches_wildcard(pattern, &index.name) {
                continue;
            }
            if index.name.starts_with('.') {
                return Err(EXPRESSION);
            }
            found = true;
            chosen.entry(&index.name).or_insert(Reached { index, by_name: false, filter: None });
        }
        // All indices are all that any alias can mean.
        if pattern != "*" {
            for (_, members) in self.aliases.iter().filter(|(alias, _)| matches_wildcard(pattern, alias)) {
                for member in members.iter().filter(|member| !member.hidden) {
                    let index = self.member(member)?;
                    let restricted = member.search_routing.is_some() || member.filter.is_some();
                    if !index.open || index.hidden || restricted {
                        return Err(EXPRESSION);
                    }
                    found = true;
                    chosen.entry(&index.name).or_insert(Reached { index, by_name: false, filter: None });
                }
            }
        }
        if found || options.allow_no_indices { Ok(()) } else { Err(UNKNOWN) }
    }

    /// Takes out what an exclusion after a pattern means.
    fn exclude(&self, excluded: &str, chosen: &mut Chosen<'_>) -> Result<(), NotOurs> {
        let is_pattern = excluded.contains('*');
        let covers =
            |name: &str| if is_pattern { matches_wildcard(excluded, name) } else { excluded == name };
        // What an alias in this place takes out has changed with the versions.
        if self.aliases.keys().any(|alias| covers(alias)) || excluded.starts_with('.') {
            return Err(EXPRESSION);
        }
        if !is_pattern && !self.indices.contains_key(excluded) {
            return Err(UNKNOWN);
        }
        if chosen.iter().any(|(name, reached)| covers(name) && reached.by_name) {
            return Err(EXPRESSION);
        }
        chosen.retain(|name, _| !covers(name));
        Ok(())
    }

    /// The index that an alias points at.
    fn member(&self, member: &AliasMember) -> Result<&Arc<IndexInfo>, NotOurs> {
        // An alias of a data stream.
        self.indices.get(&member.index).ok_or(NotOurs("data_stream"))
    }

    fn may_be_data_stream(&self, name: &str) -> bool {
        let prefix = format!(".ds-{name}-");
        self.indices.keys().any(|index| index.starts_with(&prefix))
    }
}

/// Whether a backing index belongs to a data stream that the pattern does not cover.
fn cannot_be_stream(index: &str, pattern: &str) -> bool {
    // `.ds-{name}-{yyyy.MM.dd}-{generation}`
    let mut parts = index.trim_start_matches(".ds-").rsplitn(3, '-');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(_), Some(name)) => !matches_wildcard(pattern, name),
        _ => false,
    }
}

fn choose<'c>(chosen: &mut Chosen<'c>, index: &'c Arc<IndexInfo>, filter: Option<&'c Arc<str>>) {
    chosen.insert(&index.name, Reached { index, by_name: true, filter });
}

fn target(
    index: &Arc<IndexInfo>,
    routing: Option<&str>,
    filter: Option<&Arc<str>>,
) -> Result<Target, NotOurs> {
    if index.read_blocked {
        return Err(NotOurs("read_block"));
    }
    if let Some(left) = index.left {
        return Err(NotOurs(left.name()));
    }
    let shards = match routing {
        None => None,
        Some(routing) => Some(shards_of(index, routing)?),
    };
    Ok(Target { index: Arc::clone(index), shards, filter: filter.cloned() })
}

/// The shards where documents of any of these routings are, ascending.
fn shards_of(index: &IndexInfo, routings: &str) -> Result<Box<[u32]>, NotOurs> {
    const ROUTING: NotOurs = NotOurs("routing");
    let rules = index.writes.routing.filter(|_| index.writes.standard_mode).ok_or(ROUTING)?;
    let mut shards = Vec::new();
    for routing in routings.split(',') {
        if routing.is_empty() || routing.trim() != routing {
            return Err(ROUTING);
        }
        shards.extend(rules.shards(routing));
    }
    shards.sort_unstable();
    shards.dedup();
    Ok(shards.into())
}

#[cfg(test)]
mod tests;
