//! Walking a search body by its known structure, and what is read of each knn on the way.

use std::ops::Range;

use super::{FoundKnn, KnnSite, Place};
use crate::scan::{Scanner, elements, unquote};
use crate::search::accept::integer;
use crate::search::effort::{Asked, Form};
use crate::search::rescore::{self, Rescore};
use crate::search::{NotOurs, url, vector};
use crate::{Capabilities, Params};

/// More than anybody writes by hand; each costs a search.
const MAX_SITES: usize = 16;
/// Queries inside queries.
const MAX_DEPTH: usize = 20;
/// Members of one object that is walked. Each key is compared with those before it.
const MAX_KEYS: usize = 64;

/// A site whose effort is not decided yet: `size` may stand after it.
struct Found {
    form: Form,
    field: String,
    vector: Vec<f32>,
    k: Option<usize>,
    num_candidates: Option<usize>,
    filters: Vec<Box<str>>,
    rescores: bool,
    estimates: Option<Range<usize>>,
    place: Place,
    nested: Option<String>,
}

struct Walk<'a> {
    scanner: Scanner<'a>,
    caps: &'a Capabilities,
    found: Vec<Found>,
    size: Option<usize>,
    /// Filters of the retrievers around the one that is read.
    around: Vec<Box<str>>,
    /// The body makes fields of its own, which may stand before those of the mapping.
    makes_fields: bool,
    profile: bool,
    /// The path of the `nested` query that is walked.
    nested: Option<String>,
    /// Some hit need not match what is walked: it is one of several clauses.
    optional: bool,
    /// Clauses of the body that bring hits by themselves.
    sources: usize,
    /// Some knn has `inner_hits`; see [`Walk::inner_hits`].
    inner_hits: bool,
}

/// See [`super::find_knn`].
pub(super) fn read(body: &[u8], params: &Params, caps: &Capabilities) -> Result<FoundKnn, NotOurs> {
    let text = std::str::from_utf8(body).map_err(|_| NotOurs("malformed"))?;
    let url_size = read_url(params)?;
    let mut walk = Walk {
        scanner: Scanner::new(text),
        caps,
        found: Vec::new(),
        size: None,
        around: Vec::new(),
        makes_fields: false,
        profile: false,
        nested: None,
        optional: false,
        sources: 0,
        inner_hits: false,
    };
    walk.body()?;
    if walk.inner_hits && walk.sources + usize::from(params.0.iter().any(|(name, _)| name == "q")) > 1 {
        return Err(NotOurs("inner_hits"));
    }
    if walk.makes_fields && walk.found.iter().any(|found| !found.filters.is_empty()) {
        return Err(NotOurs("runtime_mappings"));
    }
    let body_size = walk.size;
    let sites: Result<Vec<KnnSite>, NotOurs> =
        walk.found.into_iter().map(|found| found.decided(body_size, url_size, caps)).collect();
    let sites = sites?;
    if sites.is_empty() { Err(NotOurs("no_knn")) } else { Ok(FoundKnn { sites, profile: walk.profile }) }
}

/// `size` of the URL. What restricts the shards, and what is unknown, is not ours; all else is in
/// Elasticsearch's hands like the body.
fn read_url(params: &Params) -> Result<Option<usize>, NotOurs> {
    const ODD: NotOurs = NotOurs("parameter");
    if params.has_duplicates() {
        return Err(ODD);
    }
    let mut size = None;
    for (name, value) in &params.0 {
        match name.as_str() {
            "size" => size = Some(url::number(value, 0)?),
            "preference" if value.is_empty() || value.starts_with('_') => return Err(ODD),
            "pretty"
            | "human"
            | "format"
            | "error_trace"
            | "filter_path"
            | "rest_total_hits_as_int"
            | "typed_keys"
            | "from"
            | "sort"
            | "q"
            | "df"
            | "analyzer"
            | "analyze_wildcard"
            | "default_operator"
            | "lenient"
            | "track_total_hits"
            | "track_scores"
            | "version"
            | "seq_no_primary_term"
            | "explain"
            | "stored_fields"
            | "docvalue_fields"
            | "_source"
            | "_source_includes"
            | "_source_excludes"
            | "_source_exclude_vectors"
            | "preference"
            | "routing"
            | "expand_wildcards"
            | "allow_no_indices"
            | "ignore_unavailable"
            | "allow_partial_search_results"
            | "ccs_minimize_roundtrips"
            | "request_cache"
            | "max_concurrent_shard_requests"
            | "pre_filter_shard_size"
            | "batched_reduce_size"
            | "timeout"
            | "terminate_after"
            | "stats"
            | "scroll"
            | "search_type"
            | "include_named_queries_score" => {}
            _ => return Err(ODD),
        }
    }
    Ok(size)
}

impl Walk<'_> {
    fn body(&mut self) -> Result<(), NotOurs> {
        if self.scanner.peek() != Some(b'{') {
            return Err(NotOurs("no_knn"));
        }
        self.object(|walk, key| match key {
            "knn" => walk.one_or_more(|walk| {
                walk.sources += 1;
                walk.site(Form::Section)
            }),
            "query" => {
                walk.sources += 1;
                walk.query(0)
            }
            "retriever" => walk.retriever(0),
            "size" => {
                walk.size = Some(integer(walk.scanner.value()?)?);
                Ok(())
            }
            "runtime_mappings" => {
                walk.makes_fields = true;
                walk.other()
            }
            "from"
            | "_source"
            | "fields"
            | "docvalue_fields"
            | "stored_fields"
            | "script_fields"
            | "aggs"
            | "aggregations"
            | "sort"
            | "search_after"
            | "highlight"
            | "suggest"
            | "rescore"
            | "collapse"
            | "min_score"
            | "post_filter"
            | "explain"
            | "track_scores"
            | "track_total_hits"
            | "timeout"
            | "terminate_after"
            | "indices_boost"
            | "version"
            | "seq_no_primary_term"
            | "stats" => walk.other(),
            "profile" => {
                walk.profile = walk.scanner.value()?.parse().map_err(|_| NotOurs("value"))?;
                Ok(())
            }
            "pit" => Err(NotOurs("pit")),
            _ => Err(NotOurs("unknown_key")),
        })?;
        Ok(self.scanner.end()?)
    }

    /// Each member of the object that is next; a key that stands twice is Elasticsearch's to refuse.
    fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<(), NotOurs>,
    ) -> Result<(), NotOurs> {
        self.scanner.take(b'{')?;
        let mut seen = Vec::with_capacity(8);
        let mut first = true;
        while let Some(raw) = self.scanner.next_key(&mut first)? {
            let key = unquote(raw)?;
            if seen.contains(&key) {
                return Err(NotOurs("duplicate_key"));
            }
            if seen.len() == MAX_KEYS {
                return Err(NotOurs("many_keys"));
            }
            member(self, &key)?;
            seen.push(key);
        }
        Ok(())
    }

    /// An object, or an array of them.
    fn one_or_more(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), NotOurs>) -> Result<(), NotOurs> {
        if self.scanner.peek() != Some(b'[') {
            return each(self);
        }
        self.scanner.take(b'[')?;
        let mut first = true;
        while self.scanner.next_element(&mut first)? {
            each(self)?;
        }
        Ok(())
    }

    /// A value that is Elasticsearch's, as long as no knn hides in it.
    fn other(&mut self) -> Result<(), NotOurs> {
        let raw = self.scanner.value()?;
        // A key can be written with escapes; nobody does.
        if raw.contains(r#""knn""#) || raw.contains("\\u") || raw.contains(r#""semantic""#) {
            return Err(NotOurs("knn_elsewhere"));
        }
        Ok(())
    }

    fn query(&mut self, depth: usize) -> Result<(), NotOurs> {
        if depth > MAX_DEPTH {
            return Err(NotOurs("depth"));
        }
        self.object(|walk, name| match name {
            "knn" => walk.site(Form::Query),
            "bool" => walk.object(|walk, key| match key {
                "must" | "filter" => walk.one_or_more(|walk| walk.query(depth + 1)),
                "should" | "must_not" => {
                    walk.optionally(|walk| walk.one_or_more(|walk| walk.query(depth + 1)))
                }
                _ => walk.other(),
            }),
            "dis_max" => walk.optionally(|walk| walk.parts(&["queries"], depth)),
            "constant_score" => walk.parts(&["filter"], depth),
            "boosting" => walk.optionally(|walk| walk.parts(&["positive", "negative"], depth)),
            "function_score" | "script_score" => walk.parts(&["query"], depth),
            "nested" => walk.nested(depth),
            _ => walk.other(),
        })
    }

    /// Inner hits are those of every hit, found by its knn or not: where some are not, the knn's filter would
    /// take theirs away.
    fn inner_hits(&mut self) -> Result<(), NotOurs> {
        self.inner_hits = true;
        if self.optional { Err(NotOurs("inner_hits")) } else { Ok(()) }
    }

    /// Walks what hits need not match.
    fn optionally(&mut self, walk: impl FnOnce(&mut Self) -> Result<(), NotOurs>) -> Result<(), NotOurs> {
        let before = std::mem::replace(&mut self.optional, true);
        walk(self)?;
        self.optional = before;
        Ok(())
    }

    /// A compound query whose members `queries` hold queries.
    fn parts(&mut self, queries: &[&str], depth: usize) -> Result<(), NotOurs> {
        self.object(|walk, key| {
            if queries.contains(&key) { walk.one_or_more(|walk| walk.query(depth + 1)) } else { walk.other() }
        })
    }

    /// A `nested` query. Which documents a knn inside stands for is decided before anything else in it.
    fn nested(&mut self, depth: usize) -> Result<(), NotOurs> {
        let members = crate::scan::members(self.scanner.clone().value()?)?;
        let path = members.iter().find(|member| member.key == r#""path""#).ok_or(NotOurs("nested"))?;
        let path = unquote(path.value)?.into_owned();
        if self.nested.replace(path).is_some() {
            return Err(NotOurs("nested"));
        }
        if members.iter().any(|member| member.key == r#""inner_hits""#) {
            self.inner_hits()?;
        }
        self.parts(&["query"], depth)?;
        self.nested = None;
        Ok(())
    }

    fn retriever(&mut self, depth: usize) -> Result<(), NotOurs> {
        if depth > MAX_DEPTH {
            return Err(NotOurs("depth"));
        }
        self.object(|walk, name| match name {
            "knn" => walk.site(Form::Retriever),
            // Its filter restricts what its query found, not what a knn query in it looks for.
            "standard" => walk.object(|walk, key| match key {
                "query" => walk.query(depth + 1),
                _ => walk.other(),
            }),
            "rrf" | "linear" | "rescorer" => {
                let outside = walk.around.len();
                let filter = walk.filter_of_next()?;
                walk.around.extend(filter);
                walk.compound(depth)?;
                walk.around.truncate(outside);
                Ok(())
            }
            "text_similarity_reranker" => match walk.filter_of_next()? {
                Some(_) => Err(NotOurs("filter")),
                None => walk.compound(depth),
            },
            _ => walk.other(),
        })
    }

    /// A retriever around others.
    fn compound(&mut self, depth: usize) -> Result<(), NotOurs> {
        self.optionally(|walk| {
            walk.object(|walk, key| match key {
                "retriever" => walk.retriever(depth + 1),
                "retrievers" => walk.one_or_more(|walk| walk.weighted(depth + 1)),
                _ => walk.other(),
            })
        })
    }

    /// The filter of the retriever that is next: it is pushed down into those below it, wherever it stands.
    fn filter_of_next(&mut self) -> Result<Option<Box<str>>, NotOurs> {
        for member in crate::scan::members(self.scanner.clone().value()?)? {
            if unquote(member.key)? == "filter" {
                return Ok(Some(member.value.into()));
            }
        }
        Ok(None)
    }

    /// An element of `retrievers`: bare, or with a weight.
    fn weighted(&mut self, depth: usize) -> Result<(), NotOurs> {
        let start = self.scanner.clone();
        let has_weight =
            crate::scan::members(self.scanner.value()?)?.iter().any(|member| member.key == r#""retriever""#);
        self.scanner = start;
        if !has_weight {
            return self.retriever(depth);
        }
        self.object(|walk, key| match key {
            "retriever" => walk.retriever(depth),
            _ => walk.other(),
        })
    }

    fn site(&mut self, form: Form) -> Result<(), NotOurs> {
        if self.found.len() == MAX_SITES {
            return Err(NotOurs("many_knn"));
        }
        let caps = self.caps;
        let (mut field, mut query, mut k, mut num_candidates, mut filter) = (None, None, None, None, None);
        let (mut rescores, mut estimates) = (false, None);
        self.object(|walk, key| {
            let scanner = &mut walk.scanner;
            match key {
                "field" => field = Some(unquote(scanner.value()?)?.into_owned()),
                // In the retriever a string is one decimal number.
                "query_vector" if form == Form::Retriever && scanner.peek() == Some(b'"') => {
                    return Err(NotOurs("vector"));
                }
                "query_vector" => query = Some(vector::read(scanner, caps).map_err(|_| NotOurs("vector"))?),
                "k" => k = Some(integer(scanner.value()?)?),
                "num_candidates" => num_candidates = Some(integer(scanner.value()?)?),
                "similarity" => drop(scanner.float().map_err(|_| NotOurs("value"))?),
                "boost" => {
                    let boost = scanner.float().map_err(|_| NotOurs("value"))?;
                    if boost == 0.0 && form == Form::Section && !caps.boosts_after_merging {
                        return Err(NotOurs("boost_0"));
                    }
                }
                "_name" if scanner.peek() == Some(b'"') => drop(scanner.value()?),
                "filter" => {
                    let raw = scanner.value()?;
                    filter = Some((raw, scanner.offset()));
                }
                // Of fields that are not below `nested` Elasticsearch ignores it.
                "inner_hits" if form == Form::Section => {
                    walk.inner_hits()?;
                    return walk.other();
                }
                "inner_hits" => return Err(NotOurs("inner_hits")),
                "rescore_vector" => {
                    rescores = true;
                    scanner.peek();
                    let start = scanner.offset();
                    if rescore::rescore(scanner, caps)? == Rescore::Off {
                        estimates = Some(start..scanner.offset());
                    }
                }
                "visit_percentage" => rescore::visit_percentage(scanner, caps)?,
                _ => return Err(NotOurs("unknown_key")),
            }
            Ok(())
        })?;
        let field = field.filter(|name| !name.is_empty()).ok_or(NotOurs("value"))?;
        let vector = query.ok_or(NotOurs("vector"))?;
        let place = match filter {
            None => Place::Member(self.scanner.offset() - 1),
            Some((raw, end)) => Place::beside(raw, end)?,
        };
        let mut filters: Vec<Box<str>> = Vec::new();
        filters.extend(
            filter
                .filter(|_| !matches!(place, Place::Element { first: true, .. }))
                .map(|(raw, _)| raw.into()),
        );
        if form == Form::Retriever {
            filters.extend(self.around.iter().cloned());
        }
        self.found.push(Found {
            form,
            field,
            vector,
            k,
            num_candidates,
            filters,
            rescores,
            estimates,
            place,
            nested: self.nested.clone(),
        });
        Ok(())
    }
}

impl Place {
    /// Where another filter goes beside `raw`, which ends at `end`.
    fn beside(raw: &str, end: usize) -> Result<Self, NotOurs> {
        match raw.as_bytes()[0] {
            b'{' => Ok(Self::Beside { start: end - raw.len(), end }),
            b'[' => Ok(Self::Element { end: end - 1, first: elements(raw)?.is_empty() }),
            _ => Err(NotOurs("filter_shape")),
        }
    }
}

impl Found {
    fn decided(
        self,
        body_size: Option<usize>,
        url_size: Option<usize>,
        caps: &Capabilities,
    ) -> Result<KnnSite, NotOurs> {
        let asked = Asked { k: self.k, num_candidates: self.num_candidates, body_size, url_size };
        let (k, num_candidates) = self.form.effort(asked, caps)?;
        Ok(KnnSite {
            field: self.field,
            vector: self.vector,
            k,
            num_candidates,
            reach: self.form.reach(),
            filters: self.filters,
            rescores: self.rescores,
            estimates: self.estimates,
            nested: self.nested,
            place: self.place,
        })
    }
}
