//! `_msearch`: pairs of lines, a header and the body of a search, and the one answer that holds theirs.
//!
//! Only the structure is read strictly. A header or a body that we do not understand stays a pair of lines
//! that Elasticsearch gets as it is: if it refuses the pair, it refuses the whole request.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{KnnSearch, NotOurs, url};
use crate::filter_path::FilterPath;
use crate::json::{Object, push_json_string};
use crate::pretty::pretty;
use crate::scan::{elements, members, repeats_a_key, unquote};
use crate::{Capabilities, Params};

/// Excludes nothing that exists, but makes Elasticsearch write documents anew, as `pretty` and any other
/// filter would have.
const HARMLESS_FILTER: (&str, &str) = ("filter_path", "-outrigger");

const HEADER: NotOurs = NotOurs("header");

/// One search of an `_msearch`.
#[derive(Clone, Debug, PartialEq)]
pub struct MsearchItem<'a> {
    /// Its first line.
    pub header: &'a str,
    /// Its second line.
    pub body: &'a str,
}

/// What a header says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MsearchHeader {
    /// The targets, as in a URL; `None`: those of the request's URL.
    pub names: Option<String>,
    /// All else that matters, as parameters of a search of its own.
    pub params: Params,
}

/// A longer header is not read.
const MAX_HEADER: usize = 16 << 10;

/// The pairs of lines of a body, unless they are more than `most`.
pub fn read_msearch(body: &[u8], most: usize) -> Result<Vec<MsearchItem<'_>>, NotOurs> {
    const LINES: NotOurs = NotOurs("lines");
    let text = std::str::from_utf8(body).map_err(|_| NotOurs("malformed"))?;
    // A blank line in front is skipped by Elasticsearch, a header without a body at the end ignored.
    let lines = text.strip_suffix('\n').ok_or(LINES)?.split('\n');
    let lines: Vec<&str> = lines.take(most.saturating_mul(2).saturating_add(2)).collect();
    if lines.len() / 2 > most {
        return Err(NotOurs("many_searches"));
    }
    if !lines.len().is_multiple_of(2) || lines[0].is_empty() {
        return Err(LINES);
    }
    Ok(lines.chunks_exact(2).map(|pair| MsearchItem { header: pair[0], body: pair[1] }).collect())
}

impl MsearchItem<'_> {
    /// Reads the header; one that holds anything odd is Elasticsearch's to judge.
    pub fn header(&self) -> Result<MsearchHeader, NotOurs> {
        let mut header = MsearchHeader::default();
        if self.header.is_empty() {
            return Ok(header);
        }
        let is_odd = self.header.len() > MAX_HEADER || !self.header.trim_start().starts_with('{');
        if is_odd || repeats_a_key(self.header)? {
            return Err(HEADER);
        }
        for member in members(self.header)? {
            let key = unquote(member.key)?;
            match &*key {
                "index" | "indices" if header.names.is_none() => header.names = Some(names(member.value)?),
                "preference" | "routing" | "expand_wildcards" => {
                    header.params.0.push((key.into_owned(), text(member.value)?));
                }
                "ignore_unavailable" | "allow_no_indices" => {
                    header.params.0.push((key.into_owned(), switch(member.value)?.to_owned()));
                }
                "request_cache" | "allow_partial_search_results" | "ccs_minimize_roundtrips" => {
                    switch(member.value)?;
                }
                // Beside a knn section it is ignored; of a knn query alone it changes nothing.
                "search_type"
                    if matches!(member.value, r#""query_then_fetch""# | r#""dfs_query_then_fetch""#) => {}
                _ => return Err(HEADER),
            }
        }
        Ok(header)
    }
}

/// Names of targets: a string as in a URL, or an array.
fn names(raw: &str) -> Result<String, NotOurs> {
    let names = if raw.starts_with('[') {
        let names: Result<Vec<String>, NotOurs> = elements(raw)?.into_iter().map(text).collect();
        let names = names?;
        if names.iter().any(|name| name.is_empty() || name.contains(',')) {
            return Err(HEADER);
        }
        names.join(",")
    } else {
        text(raw)?
    };
    if names.is_empty() { Err(HEADER) } else { Ok(names) }
}

fn text(raw: &str) -> Result<String, NotOurs> {
    if raw.starts_with('"') { Ok(unquote(raw)?.into_owned()) } else { Err(HEADER) }
}

/// A boolean, also in quotes.
fn switch(raw: &str) -> Result<&'static str, NotOurs> {
    match raw {
        "true" | r#""true""# => Ok("true"),
        "false" | r#""false""# => Ok("false"),
        _ => Err(HEADER),
    }
}

/// What the URL of an `_msearch` says.
#[derive(Clone, Debug, PartialEq)]
pub struct MsearchUrl {
    /// Of each search, unless its header says otherwise.
    each: Params,
    /// For Elasticsearch; see [`MsearchUrl::upstream_query`].
    upstream: Params,
    pretty: bool,
    filter_path: FilterPath,
    keep_empty_arrays: bool,
}

impl MsearchUrl {
    /// Reads the parameters. One that is unknown, repeated or odd is Elasticsearch's to judge.
    pub fn read(params: &Params, caps: &Capabilities) -> Result<Self, NotOurs> {
        const ODD: NotOurs = NotOurs("parameter");
        if params.has_duplicates() {
            return Err(ODD);
        }
        let flag = |value: &str| if value.is_empty() { Ok(true) } else { value.parse().map_err(|_| ODD) };
        let mut this = Self {
            each: Params::default(),
            upstream: Params::default(),
            pretty: false,
            filter_path: FilterPath::default(),
            keep_empty_arrays: caps.filter_keeps_empty_arrays,
        };
        for (name, value) in &params.0 {
            let pair = || (name.clone(), value.clone());
            match name.as_str() {
                "pretty" => {
                    this.pretty = flag(value)?;
                    continue;
                }
                "filter_path" => {
                    this.filter_path = FilterPath::parse(value);
                    continue;
                }
                "rest_total_hits_as_int" => {
                    flag(value)?;
                    this.each.0.push(pair());
                }
                "typed_keys" | "human" => drop(flag(value)?),
                "error_trace" if value == "false" => {}
                "max_concurrent_searches" | "max_concurrent_shard_requests" | "pre_filter_shard_size" => {
                    url::number(value, 1)?;
                }
                "ccs_minimize_roundtrips" => drop(value.parse::<bool>().map_err(|_| ODD)?),
                "ignore_unavailable" | "allow_no_indices" | "expand_wildcards" | "routing" => {
                    this.each.0.push(pair());
                }
                _ => return Err(ODD),
            }
            this.upstream.0.push(pair());
        }
        if this.pretty || !this.filter_path.is_empty() {
            let (name, value) = HARMLESS_FILTER;
            for params in [&mut this.each, &mut this.upstream] {
                params.0.push((name.to_owned(), value.to_owned()));
            }
        }
        Ok(this)
    }

    /// The parameters of one search: those of its header, and of the URL where the header is silent.
    pub fn params_of(&self, header: &MsearchHeader) -> Params {
        let mut params = header.params.clone();
        params.0.extend(self.each.0.iter().filter(|(name, _)| header.params.get(name).is_none()).cloned());
        params
    }

    /// The query of a URL under which Elasticsearch writes each search as this one wants it, before layout
    /// and filter of the whole.
    pub fn upstream_query(&self) -> String {
        let encoded = self.upstream.0.iter();
        let pairs: Vec<String> = encoded
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
            .collect();
        pairs.join("&")
    }

    /// The whole answer; `responses` are those of the searches, in their order.
    pub fn finish<S: AsRef<str>>(&self, took_ms: u64, responses: &[S]) -> String {
        let length: usize = responses.iter().map(|response| response.as_ref().len() + 1).sum();
        let mut out = String::with_capacity(length + 48);
        out.push_str(&format!("{{\"took\":{took_ms},\"responses\":["));
        for (at, response) in responses.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            out.push_str(response.as_ref());
        }
        out.push_str("]}");
        if !self.filter_path.is_empty() {
            out = self.filter_path.apply(&out, self.keep_empty_arrays);
        }
        if self.pretty { pretty(&out) } else { out }
    }
}

impl KnnSearch {
    /// The header of a search in an `_msearch` for documents of these indices.
    pub fn fetch_header(&self, indices: &[&str]) -> String {
        let mut out = String::from("{\"index\":[");
        for (at, index) in indices.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            push_json_string(&mut out, index);
        }
        out.push(']');
        if let Some((_, preference)) = self.documents.url.iter().find(|(name, _)| name == "preference") {
            out.push_str(",\"preference\":");
            push_json_string(&mut out, preference);
        }
        out.push('}');
        out
    }
}

/// The answer to one search as it stands in that of an `_msearch`.
pub fn as_msearch_response(mut answer: String) -> String {
    if answer.pop() == Some('}') {
        answer.push_str(",\"status\":200}");
    }
    answer
}

/// The responses in the answer to an `_msearch`, each with its status; `None` where that is no such answer.
pub fn msearch_responses(answer: &str) -> Option<Vec<(&str, u16)>> {
    let whole = Object::parse(answer).ok()?;
    let responses = elements(whole.get("responses")?.get()).ok()?;
    responses.into_iter().map(|response| Some((response, status_of(response)?))).collect()
}

/// `status` is the last member of a response.
fn status_of(response: &str) -> Option<u16> {
    let (_, status) = response.rsplit_once("\"status\":")?;
    status.strip_suffix('}')?.trim().parse().ok()
}

/// A pair of lines.
pub fn push_msearch_lines(out: &mut Vec<u8>, header: &str, body: &[u8]) {
    out.extend_from_slice(header.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(body);
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
