//! Bodies of many lines. Each names its own target, or that of the path.

use super::contexts::each;
use super::{Bounds, Refusal, bodies};
use crate::scan::{members, unquote};
use crate::search::read_msearch;

const ACTION: Refusal = Refusal::Body("has an action that nobody knows");

/// `_bulk`: an action, then a document unless it deletes. Documents name nothing.
pub(super) fn bulk(bounds: &Bounds<'_>, text: &str) -> Result<(), Refusal> {
    // Without a newline at its end Elasticsearch takes the lines before and complains later.
    let text = text.strip_suffix('\n').ok_or(Refusal::Body("does not end with a newline"))?;
    let mut lines = text.split('\n');
    // Neighbouring lines mostly name the same index.
    let mut judged: Option<&str> = None;
    while let Some(line) = lines.next() {
        if line.bytes().all(|byte| byte.is_ascii_whitespace()) {
            continue;
        }
        let [action] = members(line)?[..] else { return Err(ACTION) };
        let has_document = match &*unquote(action.key)? {
            "index" | "create" | "update" => true,
            "delete" => false,
            _ => return Err(ACTION),
        };
        for member in members(action.value)? {
            match &*unquote(member.key)? {
                "_index" if member.value == "null" || judged == Some(member.value) => {}
                "_index" => {
                    each(member.value, |name| bounds.names(name))?;
                    judged = Some(member.value);
                }
                "pipeline" if !matches!(member.value, "null" | "\"_none\"") => {
                    return Err(Refusal::Part("a pipeline"));
                }
                _ => {}
            }
        }
        if has_document && lines.next().is_none() {
            return Err(Refusal::Body("ends before a document"));
        }
    }
    Ok(())
}

/// `_msearch`: a header, then a search. `names` are those of the path, for headers that name nothing.
pub(super) fn msearch(bounds: &Bounds<'_>, names: Option<&str>, text: &str) -> Result<(), Refusal> {
    let items = read_msearch(text.as_bytes(), usize::MAX)
        .map_err(|_| Refusal::Body("is not made of pairs of lines"))?;
    for item in items {
        let mut named = names.is_some();
        if !item.header.trim_ascii().is_empty() {
            for member in members(item.header)? {
                match &*unquote(member.key)? {
                    "index" | "indices" => {
                        each(member.value, |names| bounds.names(names))?;
                        named = true;
                    }
                    "allow_no_indices"
                    | "allow_partial_search_results"
                    | "ccs_minimize_roundtrips"
                    | "expand_wildcards"
                    | "ignore_throttled"
                    | "ignore_unavailable"
                    | "preference"
                    | "request_cache"
                    | "routing"
                    | "search_type" => {}
                    _ => return Err(Refusal::Body("has a header with a part that nobody knows")),
                }
            }
        }
        if !bodies::query(bounds, item.body)?.has_context && !named {
            return Err(Refusal::Everything);
        }
    }
    Ok(())
}
