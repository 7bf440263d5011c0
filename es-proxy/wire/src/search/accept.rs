//! Deciding whether a search is ours, and reading it.

use super::effort::{Asked, Form, Reach};
use super::url::{self, UrlOptions};
use super::{Documents, KnnSearch, NotOurs, Output, TrackTotal, rescore, vector};
use crate::scan::{Malformed, Scanner, elements, members, repeats_a_key, unquote};
use crate::{Capabilities, Params};

/// Elasticsearch's limit of `num_candidates`, and its default of `index.max_result_window`.
pub(super) const LIMIT: usize = 10_000;
const DEFAULT_SIZE: usize = 10;
/// Above it a score could overflow; nobody means it.
const MAX_BOOST: f32 = 1e6;

impl From<Malformed> for NotOurs {
    fn from(_: Malformed) -> Self {
        NotOurs("malformed")
    }
}

/// What the body says.
#[derive(Default)]
struct Body<'a> {
    knn: Option<Knn<'a>>,
    size: Option<usize>,
    from: Option<usize>,
    source: Option<&'a str>,
    fields: Option<&'a str>,
    docvalue_fields: Option<&'a str>,
    version: Option<bool>,
    seq_no_primary_term: Option<bool>,
    track_total: Option<TrackTotal>,
}

/// What the knn says.
struct Knn<'a> {
    form: Form,
    field: String,
    vector: Vec<f32>,
    k: Option<usize>,
    num_candidates: Option<usize>,
    similarity: Option<f32>,
    boost: f32,
    filter: Option<&'a str>,
}

/// Reads a search body and its URL parameters, or says why it must be passed on.
pub fn parse_search(body: &[u8], params: &Params, caps: &Capabilities) -> Result<KnnSearch, NotOurs> {
    let text = std::str::from_utf8(body).map_err(|_| NotOurs("malformed"))?;
    let url = url::read(params, caps)?;
    let body = read_body(text, caps)?;
    let knn = body.knn.as_ref().ok_or(NotOurs("no_knn"))?;
    let asked =
        Asked { k: knn.k, num_candidates: knn.num_candidates, body_size: body.size, url_size: url.size };
    let (k, num_candidates) = knn.form.effort(asked, caps)?;
    let reach = knn.form.reach();
    let (from, size) = page(&body, &url)?;
    let track_total = total(&body, &url, reach)?;
    let version = url.version.or(body.version).unwrap_or(false);
    let (documents, output) = (documents(&body, &url), output(&url, caps));
    let Some(knn) = body.knn else { return Err(NotOurs("no_knn")) };
    Ok(KnnSearch {
        field: knn.field,
        vector: knn.vector,
        reach,
        k,
        num_candidates,
        similarity: knn.similarity,
        boost: knn.boost,
        filter: knn.filter.map(Into::into),
        from,
        size,
        track_total,
        version,
        seq_no_primary_term: url.seq_no_primary_term.or(body.seq_no_primary_term).unwrap_or(false),
        documents,
        output,
    })
}

/// Keys that make a search more than a bare knn, for the metric's sake told apart from the unknown.
fn label_of_foreign_key(key: &str) -> NotOurs {
    NotOurs(match key {
        "aggs" | "aggregations" => "aggregations",
        "sort" | "search_after" => "sort",
        "collapse" => "collapse",
        "rescore" => "rescore",
        "highlight" => "highlight",
        "pit" => "pit",
        "stored_fields" => "stored_fields",
        "min_score" | "post_filter" => "post_filter",
        "explain" | "profile" => "explain",
        _ => "unknown_key",
    })
}

fn read_body<'a>(text: &'a str, caps: &Capabilities) -> Result<Body<'a>, NotOurs> {
    let mut scanner = Scanner::new(text);
    if scanner.peek() != Some(b'{') {
        return Err(NotOurs("no_knn"));
    }
    scanner.take(b'{')?;
    let mut body = Body::default();
    let mut seen = Vec::with_capacity(8);
    let mut first = true;
    while let Some(raw_key) = scanner.next_key(&mut first)? {
        let key = unquote(raw_key)?;
        if seen.contains(&key) {
            return Err(NotOurs("duplicate_key"));
        }
        match &*key {
            "knn" => body.set(read_knn_section(&mut scanner, caps)?, "several_knn")?,
            "query" => body.set(read_query(&mut scanner, caps)?, "query")?,
            "retriever" => body.set(read_retriever(&mut scanner, caps)?, "retriever")?,
            "size" => body.size = Some(integer(scanner.value()?)?),
            "from" => body.from = Some(integer(scanner.value()?)?),
            "_source" => body.source = Some(source(scanner.value()?, caps)?),
            "fields" => body.fields = Some(field_list(scanner.value()?)?),
            "docvalue_fields" => body.docvalue_fields = Some(field_list(scanner.value()?)?),
            "version" => body.version = Some(boolean(scanner.value()?)?),
            "seq_no_primary_term" => body.seq_no_primary_term = Some(boolean(scanner.value()?)?),
            "track_total_hits" => body.track_total = Some(track_total(scanner.value()?)?),
            other => return Err(label_of_foreign_key(other)),
        }
        seen.push(key);
    }
    scanner.end()?;
    Ok(body)
}

impl<'a> Body<'a> {
    /// Two kinds of knn beside each other are combined, or refused.
    fn set(&mut self, knn: Knn<'a>, otherwise: &'static str) -> Result<(), NotOurs> {
        if self.knn.replace(knn).is_some() { Err(NotOurs(otherwise)) } else { Ok(()) }
    }
}

/// A knn query as the whole query.
fn read_query<'a>(scanner: &mut Scanner<'a>, caps: &Capabilities) -> Result<Knn<'a>, NotOurs> {
    only_member(scanner, &["knn"], "query", |scanner, _| read_knn(scanner, Form::Query, caps))
}

/// A knn retriever, or a standard one that holds nothing but a knn query.
fn read_retriever<'a>(scanner: &mut Scanner<'a>, caps: &Capabilities) -> Result<Knn<'a>, NotOurs> {
    if !caps.retrievers {
        return Err(NotOurs("version"));
    }
    only_member(scanner, &["knn", "standard"], "retriever", |scanner, kind| match kind {
        "knn" => read_knn(scanner, Form::Retriever, caps),
        _ => only_member(scanner, &["query"], "retriever", |scanner, _| read_query(scanner, caps)),
    })
}

/// An object with exactly one member, whose key is one of `keys`; anything else is more than a bare knn.
fn only_member<'a>(
    scanner: &mut Scanner<'a>,
    keys: &[&str],
    otherwise: &'static str,
    read: impl FnOnce(&mut Scanner<'a>, &str) -> Result<Knn<'a>, NotOurs>,
) -> Result<Knn<'a>, NotOurs> {
    scanner.take(b'{')?;
    let mut first = true;
    let key = unquote(scanner.next_key(&mut first)?.ok_or(NotOurs(otherwise))?)?;
    if !keys.contains(&&*key) {
        return Err(NotOurs(otherwise));
    }
    let knn = read(scanner, &key)?;
    if scanner.next_key(&mut first)?.is_some() { Err(NotOurs(otherwise)) } else { Ok(knn) }
}

/// `knn` is an object, or an array with exactly one.
fn read_knn_section<'a>(scanner: &mut Scanner<'a>, caps: &Capabilities) -> Result<Knn<'a>, NotOurs> {
    match scanner.peek() {
        Some(b'{') => read_knn(scanner, Form::Section, caps),
        Some(b'[') => {
            scanner.take(b'[')?;
            let mut first = true;
            if !scanner.next_element(&mut first)? {
                return Err(NotOurs("no_knn"));
            }
            let knn = read_knn(scanner, Form::Section, caps)?;
            if scanner.next_element(&mut first)? {
                return Err(NotOurs("several_knn"));
            }
            Ok(knn)
        }
        _ => Err(NotOurs("malformed")),
    }
}

fn read_knn<'a>(scanner: &mut Scanner<'a>, form: Form, caps: &Capabilities) -> Result<Knn<'a>, NotOurs> {
    scanner.take(b'{')?;
    let (mut field, mut query, mut k, mut num_candidates) = (None, None, None, None);
    let (mut similarity, mut boost, mut filter) = (None, None, None);
    let mut seen = Vec::with_capacity(8);
    let mut first = true;
    while let Some(raw_key) = scanner.next_key(&mut first)? {
        let key = unquote(raw_key)?;
        if seen.contains(&key) {
            return Err(NotOurs("duplicate_key"));
        }
        match &*key {
            "field" => field = Some(unquote(scanner.value()?)?.into_owned()),
            // In the retriever a string is one decimal number.
            "query_vector" if form == Form::Retriever && scanner.peek() == Some(b'"') => {
                return Err(NotOurs("vector"));
            }
            "query_vector" => query = Some(vector::read(scanner, caps).map_err(|_| NotOurs("vector"))?),
            "k" => k = Some(integer(scanner.value()?)?),
            "num_candidates" => num_candidates = Some(integer(scanner.value()?)?),
            "similarity" => similarity = Some(scanner.float().map_err(|_| NotOurs("value"))?),
            "boost" if form != Form::Retriever => {
                boost = Some(scanner.float().map_err(|_| NotOurs("value"))?)
            }
            "filter" => filter = some_filter(scanner.value()?)?,
            "inner_hits" => return Err(NotOurs("inner_hits")),
            "rescore_vector" => drop(rescore::rescore(scanner, caps)?),
            "visit_percentage" => rescore::visit_percentage(scanner, caps)?,
            _ => return Err(NotOurs("unknown_key")),
        }
        seen.push(key);
    }
    let boost = boost.unwrap_or(1.0);
    // Under 0 all scores are equal, and hits come in Lucene's order.
    if boost.is_sign_negative() || boost == 0.0 || boost > MAX_BOOST {
        return Err(NotOurs("value"));
    }
    let field = field.filter(|name| !name.is_empty()).ok_or(NotOurs("value"))?;
    let vector = query.ok_or(NotOurs("vector"))?;
    Ok(Knn { form, field, vector, k, num_candidates, similarity, boost, filter })
}

/// A clause or an array of them; `"filter": []` is no filter.
pub(super) fn some_filter(raw: &str) -> Result<Option<&str>, NotOurs> {
    match raw.as_bytes()[0] {
        b'{' => Ok(Some(raw)),
        b'[' => Ok(if elements(raw)?.is_empty() { None } else { Some(raw) }),
        _ => Err(NotOurs("filter_shape")),
    }
}

fn page(body: &Body<'_>, url: &UrlOptions) -> Result<(usize, usize), NotOurs> {
    let from = url.from.or(body.from).unwrap_or(0);
    let size = url.size.or(body.size).unwrap_or(DEFAULT_SIZE);
    if from + size > LIMIT { Err(NotOurs("window")) } else { Ok((from, size)) }
}

fn total(body: &Body<'_>, url: &UrlOptions, reach: Reach) -> Result<TrackTotal, NotOurs> {
    let track = url.track_total.or(body.track_total);
    match track {
        // Elasticsearch refuses an inexact count as one number.
        Some(TrackTotal::UpTo(_)) if url.total_as_int => Err(NotOurs("value")),
        // Its default counts to 10,000; only a knn query, with `k` of each shard, can have more.
        None if reach == Reach::EachShard && !url.total_as_int => Ok(TrackTotal::UpTo(LIMIT)),
        _ => Ok(track.unwrap_or(TrackTotal::Exact)),
    }
}

fn documents(body: &Body<'_>, url: &UrlOptions) -> Documents {
    let wants_source = url.wants_source.unwrap_or(body.source != Some("false"));
    let listed = |raw: Option<&str>| raw.is_some_and(|raw| elements(raw).is_ok_and(|list| !list.is_empty()));
    Documents {
        source: body.source.map(str::to_owned),
        fields: body.fields.map(str::to_owned),
        docvalue_fields: body.docvalue_fields.map(str::to_owned),
        url: url.for_fetch.clone(),
        wants_source: wants_source && url.filter_path().may_keep(&["hits", "hits", "_source"]),
        wants_fields: url.docvalue_fields || listed(body.fields) || listed(body.docvalue_fields),
    }
}

fn output(url: &UrlOptions, caps: &Capabilities) -> Output {
    Output {
        pretty: url.pretty,
        filter_path_text: url.filter_path_text.clone(),
        filter_path: url.filter_path(),
        total_as_int: url.total_as_int,
        keep_empty_arrays: caps.filter_keeps_empty_arrays,
    }
}

pub(super) fn integer(raw: &str) -> Result<usize, NotOurs> {
    url::number(raw, 0).map_err(|_| NotOurs("value"))
}

fn boolean(raw: &str) -> Result<bool, NotOurs> {
    raw.parse().map_err(|_| NotOurs("value"))
}

fn track_total(raw: &str) -> Result<TrackTotal, NotOurs> {
    match raw {
        "true" => Ok(TrackTotal::Exact),
        "false" => Ok(TrackTotal::Off),
        _ => url::number(raw, 1).map(TrackTotal::UpTo).map_err(|_| NotOurs("value")),
    }
}

/// `_source`: a switch, a name, names, or an object of includes and excludes.
fn source<'a>(raw: &'a str, caps: &Capabilities) -> Result<&'a str, NotOurs> {
    let understood = match raw.as_bytes()[0] {
        b't' | b'f' | b'"' => true,
        b'[' => all_strings(raw)?,
        b'{' => source_object(raw, caps)?,
        _ => false,
    };
    if understood { Ok(raw) } else { Err(NotOurs("source")) }
}

fn source_object(raw: &str, caps: &Capabilities) -> Result<bool, NotOurs> {
    if repeats_a_key(raw)? {
        return Err(NotOurs("duplicate_key"));
    }
    for member in members(raw)? {
        let understood = match &*unquote(member.key)? {
            "includes" | "include" | "excludes" | "exclude" => {
                member.value.starts_with('"') || (member.value.starts_with('[') && all_strings(member.value)?)
            }
            "exclude_vectors" => caps.source_exclude_vectors && matches!(member.value, "true" | "false"),
            _ => false,
        };
        if !understood {
            return Ok(false);
        }
    }
    Ok(true)
}

fn all_strings(raw: &str) -> Result<bool, NotOurs> {
    Ok(elements(raw)?.iter().all(|element| element.starts_with('"')))
}

/// A list of names and of objects with name and format; Elasticsearch judges what is in them when it
/// fetches the documents.
fn field_list(raw: &str) -> Result<&str, NotOurs> {
    if !raw.starts_with('[') || repeats_a_key(raw)? {
        return Err(NotOurs("value"));
    }
    if elements(raw)?.iter().all(|element| element.starts_with(['"', '{'])) {
        Ok(raw)
    } else {
        Err(NotOurs("value"))
    }
}
