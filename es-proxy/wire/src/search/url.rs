//! The URL parameters of a search.

use super::NotOurs;
use crate::filter_path::FilterPath;
use crate::search::TrackTotal;
use crate::{Capabilities, Params};

/// What the parameters say, where they say something.
#[derive(Debug, Default)]
pub(super) struct UrlOptions {
    pub(super) from: Option<usize>,
    pub(super) size: Option<usize>,
    pub(super) track_total: Option<TrackTotal>,
    pub(super) version: Option<bool>,
    pub(super) seq_no_primary_term: Option<bool>,
    /// `None`: the body decides.
    pub(super) wants_source: Option<bool>,
    pub(super) docvalue_fields: bool,
    pub(super) pretty: bool,
    pub(super) total_as_int: bool,
    pub(super) filter_path_text: String,
    /// What a fetch must repeat.
    pub(super) for_fetch: Vec<(String, String)>,
}

const ODD: NotOurs = NotOurs("parameter");

/// Reads the parameters. One that is unknown, repeated or odd is Elasticsearch's to judge.
pub(super) fn read(params: &Params, caps: &Capabilities) -> Result<UrlOptions, NotOurs> {
    if params.has_duplicates() {
        return Err(ODD);
    }
    let mut url = UrlOptions::default();
    let mut source_switch = None;
    for (name, value) in &params.0 {
        match name.as_str() {
            "pretty" => url.pretty = flag(value)?,
            "rest_total_hits_as_int" => url.total_as_int = flag(value)?,
            // Nothing in the answer to a bare knn search has another form for people or typed keys.
            "human" | "typed_keys" => drop(flag(value)?),
            "error_trace" if value == "false" => {}
            "filter_path" => url.filter_path_text.clone_from(value),
            "from" => url.from = Some(number(value, 0)?),
            "size" => url.size = Some(number(value, 0)?),
            "track_total_hits" => url.track_total = Some(track_total(value)?),
            "version" => url.version = Some(boolean(value)?),
            "seq_no_primary_term" => url.seq_no_primary_term = Some(boolean(value)?),
            "_source" => {
                source_switch = Some(value != "false");
                url.for_fetch.push((name.clone(), value.clone()));
            }
            "_source_includes" | "_source_excludes" => {
                url.wants_source = Some(true);
                url.for_fetch.push((name.clone(), value.clone()));
            }
            "_source_exclude_vectors" if caps.url_exclude_vectors => {
                boolean(value)?;
                url.wants_source = Some(true);
                url.for_fetch.push((name.clone(), value.clone()));
            }
            "docvalue_fields" => {
                url.docvalue_fields = !value.trim().is_empty();
                url.for_fetch.push((name.clone(), value.clone()));
            }
            "preference" if !value.is_empty() && !value.starts_with('_') => {
                url.for_fetch.push((name.clone(), value.clone()));
            }
            // Read with the names of the targets.
            "routing" | "expand_wildcards" => {}
            "allow_no_indices"
            | "ignore_unavailable"
            | "allow_partial_search_results"
            | "ccs_minimize_roundtrips"
            | "request_cache" => drop(boolean(value)?),
            "max_concurrent_shard_requests" | "pre_filter_shard_size" => drop(number(value, 1)?),
            // With fewer than there are shards the answer tells in how many steps they were merged.
            "batched_reduce_size" => drop(number(value, 512)?),
            _ => return Err(ODD),
        }
    }
    // `_source=false` wins over includes and excludes beside it.
    url.wants_source = match (source_switch, url.wants_source) {
        (Some(false), _) => Some(false),
        (switch, others) => others.or(switch),
    };
    Ok(url)
}

impl UrlOptions {
    pub(super) fn filter_path(&self) -> FilterPath {
        FilterPath::parse(&self.filter_path_text)
    }
}

/// Empty means on.
fn flag(value: &str) -> Result<bool, NotOurs> {
    if value.is_empty() { Ok(true) } else { boolean(value) }
}

fn boolean(value: &str) -> Result<bool, NotOurs> {
    value.parse().map_err(|_| ODD)
}

/// Plain digits, no sign, small enough that no sum overflows.
pub(super) fn number(value: &str, least: usize) -> Result<usize, NotOurs> {
    if value.len() > 9 || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ODD);
    }
    value.parse().ok().filter(|number| *number >= least).ok_or(ODD)
}

fn track_total(value: &str) -> Result<TrackTotal, NotOurs> {
    match value {
        "true" => Ok(TrackTotal::Exact),
        "false" => Ok(TrackTotal::Off),
        _ => number(value, 1).map(TrackTotal::UpTo),
    }
}
