//! Names of indices inside queries, wherever they stand: a `terms` lookup, an indexed shape, documents that
//! `more_like_this` or `percolate` take from elsewhere, boosts by index, runtime fields that look up.
//!
//! One pass over the whole body; the place does not matter, the keys do. A query on a field that happens to
//! be called `index` is told from a lookup by what stands beside it.

use super::contexts::{self, each};
use super::{Bounds, Refusal};
use crate::scan::{Malformed, Scanner, elements, members, unquote};

/// Deeper nesting than Elasticsearch's queries may have (`indices.query.bool.max_nested_depth` is 30).
const MAX_DEPTH: usize = 200;

/// Where indexed shapes are looked for if the query does not say.
const DEFAULT_SHAPES: &str = "shapes";

/// What a query said beside names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// It has a point in time, which was handed out to the tenant.
    pub(super) has_context: bool,
}

/// Which names count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Query,
    /// `index` is an option of fields.
    Mapping,
}

/// Judges the body of a search or of what takes queries.
pub(super) fn query(bounds: &Bounds<'_>, text: &str) -> Result<Found, Refusal> {
    walk(bounds, text, Kind::Query)
}

/// Judges mappings, in which runtime fields may look up and documents may be queries.
pub(super) fn mappings(bounds: &Bounds<'_>, text: &str) -> Result<(), Refusal> {
    walk(bounds, text, Kind::Mapping).map(drop)
}

fn walk(bounds: &Bounds<'_>, text: &str, kind: Kind) -> Result<Found, Refusal> {
    let mut walk = Walk { bounds, scanner: Scanner::new(text), kind, found: Found::default() };
    if walk.scanner.peek() != Some(b'{') {
        return Err(Refusal::Body("is no JSON object"));
    }
    walk.value("", 0)?;
    walk.scanner.end()?;
    Ok(walk.found)
}

struct Walk<'a, 'b> {
    bounds: &'a Bounds<'b>,
    scanner: Scanner<'a>,
    kind: Kind,
    found: Found,
}

impl Walk<'_, '_> {
    /// Any value; `key` is the one that it stands under.
    fn value(&mut self, key: &str, depth: usize) -> Result<(), Refusal> {
        if depth > MAX_DEPTH {
            return Err(Refusal::Body("is nested too deeply"));
        }
        match self.scanner.peek() {
            Some(b'{') => self.object(key, depth),
            Some(b'[') => {
                self.scanner.take(b'[')?;
                let mut first = true;
                while self.scanner.next_element(&mut first)? {
                    self.value(key, depth + 1)?;
                }
                Ok(())
            }
            _ => self.scanner.value().map(drop).map_err(Refusal::from),
        }
    }

    fn object(&mut self, parent: &str, depth: usize) -> Result<(), Refusal> {
        self.scanner.take(b'{')?;
        let (mut first, mut index, mut others, mut string_query) = (true, None, false, false);
        while let Some(raw) = self.scanner.next_key(&mut first)? {
            let key = unquote(raw)?;
            let next = self.scanner.peek();
            let is_text = next == Some(b'"');
            let may_name = !matches!(next, Some(b'{' | b'n'));
            match &*key {
                "index" if self.kind == Kind::Query && may_name => {
                    let value = self.scanner.value()?;
                    // Twice the same key: both count.
                    if let Some(earlier) = index.replace(value) {
                        self.names(earlier)?;
                        others = true;
                    }
                    continue;
                }
                "_index" | "target_index" if may_name => {
                    let value = self.scanner.value()?;
                    self.names(value)?;
                }
                "indices_boost" => self.boosts()?,
                "collate" if self.kind == Kind::Query && parent == "phrase" => {
                    return Err(Refusal::Part("a query made by a template [collate]"));
                }
                "ruleset_id" | "ruleset_ids" if self.kind == Kind::Query => {
                    return Err(Refusal::Part("a set of rules, which all tenants share,"));
                }
                // Of an aggregation, which may read files like analyzers in settings.
                "categorization_analyzer" if next == Some(b'{') => {
                    super::definitions::analysis(self.scanner.value()?)?;
                }
                "pit" if depth == 0 && next == Some(b'{') => self.point_in_time()?,
                "type" if self.kind == Kind::Mapping && is_text => {
                    if &*unquote(self.scanner.value()?)? == "percolator" {
                        return Err(Refusal::Part("a field whose documents are queries [percolator]"));
                    }
                }
                _ => {
                    string_query |= key == "query" && is_text;
                    self.value(&key, depth + 1)?;
                }
            }
            others |= !matches!(&*key, "boost" | "_name" | "case_insensitive");
        }
        match index {
            // `{"term": {"index": …}}`, a field of that name.
            Some(values) if !others && is_leaf(parent) => {
                let is_nested = |value: &&str| value.starts_with(['{', '[']);
                if values.starts_with('[') && elements(values)?.iter().any(is_nested) {
                    return Err(Refusal::Body("has an object where values are listed"));
                }
            }
            Some(names) => self.names(names)?,
            None if parent == "indexed_shape" => self.bounds.names(DEFAULT_SHAPES)?,
            None => {}
        }
        if parent == "wrapper" && string_query {
            return Err(Refusal::Part("a query in base64 [wrapper]"));
        }
        Ok(())
    }

    fn names(&self, raw: &str) -> Result<(), Refusal> {
        each(raw, |names| self.bounds.names(names))
    }

    /// `[{"a": 1.5}, …]` or `{"a": 1.5, …}`.
    fn boosts(&mut self) -> Result<(), Refusal> {
        let raw = self.scanner.value()?;
        let objects = if raw.starts_with('[') { elements(raw)? } else { vec![raw] };
        for object in objects {
            for member in members(object)? {
                self.bounds.names(&unquote(member.key)?)?;
            }
        }
        Ok(())
    }

    fn point_in_time(&mut self) -> Result<(), Refusal> {
        let raw = self.scanner.value()?;
        for member in members(raw)? {
            if unquote(member.key)? == "id" {
                each(member.value, |id| contexts::check(self.bounds, id))?;
                self.found.has_context = true;
            }
        }
        Ok(())
    }
}

/// Queries whose object has one field as its key.
fn is_leaf(query: &str) -> bool {
    matches!(
        query,
        "term"
            | "terms"
            | "match"
            | "match_phrase"
            | "match_phrase_prefix"
            | "match_bool_prefix"
            | "prefix"
            | "wildcard"
            | "regexp"
            | "fuzzy"
    )
}

/// Every key of a JSON text with its path, dots joining (places in lists have no part in it), and whether a value
/// stands under it rather than more keys.
pub(super) fn keys(
    text: &str,
    judge: &mut impl FnMut(&str, bool) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut scanner = Scanner::new(text);
    below(&mut scanner, &mut String::new(), 0, judge)?;
    Ok(scanner.end()?)
}

fn below(
    scanner: &mut Scanner<'_>,
    path: &mut String,
    depth: usize,
    judge: &mut impl FnMut(&str, bool) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    if depth > MAX_DEPTH {
        return Err(Malformed.into());
    }
    let (mut first, length) = (true, path.len());
    match scanner.peek() {
        Some(b'{') => scanner.take(b'{')?,
        Some(b'[') => {
            scanner.take(b'[')?;
            while scanner.next_element(&mut first)? {
                below(scanner, path, depth + 1, judge)?;
            }
            return Ok(());
        }
        _ => return Ok(scanner.value().map(drop)?),
    }
    while let Some(raw) = scanner.next_key(&mut first)? {
        path.push_str(&unquote(raw)?);
        judge(path, scanner.peek() != Some(b'{'))?;
        path.push('.');
        below(scanner, path, depth + 1, judge)?;
        path.truncate(length);
    }
    Ok(())
}
