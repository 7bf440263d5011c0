//! Requests that make indices, aliases and templates, or copy between indices. Their bodies are small and
//! known to the last key: a part that nobody knows is refused.

use std::borrow::Cow;

use super::contexts::each;
use super::{Bounds, Refusal, bodies};
use crate::scan::{Member, elements, members, unquote};

/// Parts of a setting's name that reach beyond the index: pipelines and policies act on any index, the others
/// say where an index was copied from.
const FAR_SETTINGS: [&str; 6] = ["default_pipeline", "final_pipeline", "lifecycle", "resize", "ccr", "store"];

const UNKNOWN: Refusal = Refusal::Body("has a part that nobody knows");

/// `PUT /{index}`, and what makes an index out of another one.
pub(super) fn index(bounds: &Bounds<'_>, text: &str) -> Result<(), Refusal> {
    members(text)?.into_iter().try_for_each(|member| part_of_index(bounds, &member))
}

fn part_of_index(bounds: &Bounds<'_>, member: &Member<'_>) -> Result<(), Refusal> {
    match &*unquote(member.key)? {
        "aliases" => {
            for alias in members(member.value)? {
                bounds.names(&unquote(alias.key)?)?;
                bodies::query(bounds, alias.value)?;
            }
            Ok(())
        }
        "mappings" | "mappings_override" => bodies::mappings(bounds, member.value),
        "settings" | "settings_override" => settings(member.value),
        // Of a rollover, of a shrink, of `_create_from`, of a template.
        "conditions" | "max_primary_shard_size" | "remove_index_blocks" | "lifecycle" => Ok(()),
        _ => Err(UNKNOWN),
    }
}

/// Where a rollover writes next, if the path does not say: the name counts on, so that all names of its kind
/// must lie inside.
pub(super) fn rollover(bounds: &Bounds<'_>, path: &[Cow<'_, str>]) -> Result<(), Refusal> {
    let [alias, _] = path else { return Ok(()) };
    bounds.catalog.indices_of_alias(alias).try_for_each(|index| {
        let stem = index.trim_end_matches(|c: char| c.is_ascii_digit());
        let next = format!("{stem}*");
        if bounds.patterns.cover(&next) { Ok(()) } else { Err(Refusal::Target(next)) }
    })
}

/// `PUT /{index}/_mapping`.
pub(super) fn mapping(bounds: &Bounds<'_>, text: &str) -> Result<(), Refusal> {
    bodies::mappings(bounds, text)
}

/// `PUT /{index}/_settings`, and the settings of other bodies.
pub(super) fn settings(text: &str) -> Result<(), Refusal> {
    bodies::keys(text, &mut |path, is_value| {
        let is_far = path.split('.').any(|part| FAR_SETTINGS.contains(&part));
        if is_far || (is_value && reads_shared(path)) {
            return Err(Refusal::Setting(path.to_owned()));
        }
        Ok(())
    })
}

/// `_analyze`, whose body may define an analyzer as settings do, and analyzers elsewhere.
pub(super) fn analysis(text: &str) -> Result<(), Refusal> {
    bodies::keys(text, &mut |path, is_value| {
        if is_value && reads_shared(path) { Err(Refusal::Setting(path.to_owned())) } else { Ok(()) }
    })
}

/// Whether an option of an analyzer reads what is no tenant's: a set of synonyms, which all share, or a file of
/// the node, lines of which stand in errors.
fn reads_shared(setting: &str) -> bool {
    let option = setting.rsplit('.').next().unwrap_or_default();
    let is_file = option.ends_with("_path") && option != "routing_path";
    is_file || matches!(option, "synonyms_set" | "user_dictionary" | "rule_files")
}

/// Index, component and legacy templates.
pub(super) fn template(bounds: &Bounds<'_>, text: &str) -> Result<(), Refusal> {
    for member in members(text)? {
        match &*unquote(member.key)? {
            "index_patterns" | "template" if !member.value.starts_with('{') => {
                each(member.value, |pattern| bounds.names(pattern))?;
            }
            "template" => index(bounds, member.value)?,
            "composed_of" | "ignore_missing_component_templates" => {
                for name in elements(member.value)? {
                    each(name, |name| bounds.names(name))?;
                }
            }
            "priority" | "order" | "version" | "_meta" | "data_stream" | "allow_auto_create"
            | "deprecated" => {}
            _ => part_of_index(bounds, &member)?,
        }
    }
    Ok(())
}

/// `POST /_aliases`.
pub(super) fn aliases(bounds: &Bounds<'_>, text: &str) -> Result<(), Refusal> {
    for member in members(text)? {
        if unquote(member.key)? != "actions" {
            return Err(UNKNOWN);
        }
        for action in elements(member.value)? {
            for operation in members(action)? {
                match &*unquote(operation.key)? {
                    "add" | "remove" | "remove_index" => alias(bounds, operation.value)?,
                    _ => return Err(UNKNOWN),
                }
            }
        }
    }
    Ok(())
}

/// What one alias is: its body may name other indices than the path.
pub(super) fn alias(bounds: &Bounds<'_>, text: &str) -> Result<(), Refusal> {
    for member in members(text)? {
        match &*unquote(member.key)? {
            "index" | "indices" | "alias" | "aliases" => each(member.value, |name| bounds.names(name))?,
            "filter" if member.value.starts_with('{') => drop(bodies::query(bounds, member.value)?),
            "routing" | "index_routing" | "indexRouting" | "index-routing" | "search_routing"
            | "searchRouting" | "search-routing" | "is_write_index" | "is_hidden" | "must_exist" => {}
            _ => return Err(UNKNOWN),
        }
    }
    Ok(())
}

/// `POST /_reindex`.
pub(super) fn reindex(bounds: &Bounds<'_>, text: &str) -> Result<(), Refusal> {
    let (mut source, mut dest) = (false, false);
    for member in members(text)? {
        match &*unquote(member.key)? {
            "source" => source |= end_of_reindex(bounds, member.value, "remote")?,
            "dest" => dest |= end_of_reindex(bounds, member.value, "pipeline")?,
            // It may send each document to another index.
            "script" => return Err(Refusal::Part("a script of _reindex")),
            "conflicts" | "max_docs" | "size" => {}
            _ => return Err(UNKNOWN),
        }
    }
    if source && dest { Ok(()) } else { Err(Refusal::Everything) }
}

/// Whether it names an index, all of which are inside.
fn end_of_reindex(bounds: &Bounds<'_>, text: &str, far: &'static str) -> Result<bool, Refusal> {
    let mut named = false;
    for member in members(text)? {
        let key = unquote(member.key)?;
        if key == far {
            return Err(Refusal::Part(if far == "remote" {
                "another cluster [remote]"
            } else {
                "a pipeline"
            }));
        }
        if key == "index" {
            named = true;
            each(member.value, |names| bounds.names(names))?;
        }
    }
    bodies::query(bounds, text)?;
    Ok(named)
}
