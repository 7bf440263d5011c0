//! The second request of the *fetch* way: the documents of our hits, from Elasticsearch itself.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::KnnSearch;
use crate::json::push_json_string;

/// What [`crate::FetchedHits`] must see whatever the client's `filter_path` leaves out.
const NEEDED: &str = "timed_out,_shards,hits.hits._index,hits.hits._id,hits.hits._routing,\
                      hits.hits._seq_no,hits.hits._primary_term,hits.hits._score";

/// Excludes nothing that exists. Its presence alone makes Elasticsearch write `_source` anew instead of
/// copying it, as the client's filter would have.
const HARMLESS_FILTER: &str = "-outrigger";

/// That a caller may see the vectors that were compared: where roles hide a field, a search on it finds
/// nothing, and hits and scores would tell what it holds.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The `nested` object that the field stands below, if it does.
    pub nested: Option<&'a str>,
}

impl Seen<'_> {
    /// A query for documents that have the field, which none has for those who may not see it.
    fn push(self, out: &mut String, field: &str) {
        if let Some(path) = self.nested {
            out.push_str("{\"nested\":{\"path\":");
            push_json_string(out, path);
            out.push_str(",\"query\":");
        }
        out.push_str("{\"exists\":{\"field\":");
        push_json_string(out, field);
        out.push_str("}}");
        if self.nested.is_some() {
            out.push_str("}}");
        }
    }
}

fn push_ids(out: &mut String, ids: &[&str]) {
    out.push_str("{\"ids\":{\"values\":[");
    for (at, id) in ids.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push_json_string(out, id);
    }
    out.push_str("]}}");
}

impl KnnSearch {
    /// The body of a `_search` that returns the documents `ids`, with all that the client wants of
    /// them and what is needed to know that they are still the versions that we compared.
    /// At most `size` are returned: an id may stand in several indices, and on several shards. With `seen`
    /// only those whose vector the caller may see.
    pub fn fetch_body(&self, ids: &[&str], size: usize, seen: Option<Seen<'_>>) -> String {
        let mut out = String::with_capacity(192 + 24 * ids.len());
        out.push_str("{\"query\":");
        if seen.is_some() {
            out.push_str("{\"bool\":{\"must\":");
        }
        push_ids(&mut out, ids);
        if let Some(seen) = seen {
            out.push_str(",\"filter\":");
            seen.push(&mut out, &self.field);
            out.push_str("}}");
        }
        out.push_str(",\"size\":");
        out.push_str(&size.to_string());
        out.push_str(",\"track_total_hits\":false,\"seq_no_primary_term\":true");
        self.push_wishes(&mut out);
        out.push('}');
        out
    }

    /// What a hit shows beside its score: two searches with the same wish get the same bytes for the same
    /// version of a document of one index. `None` where that depends on more than the document (`fields`
    /// and `docvalue_fields` are formatted by the mapping of the day).
    pub fn document_wish(&self) -> Option<String> {
        if self.documents.wants_fields {
            return None;
        }
        let mut wish = self.fetch_query();
        // No URL holds a raw newline.
        wish.push('\n');
        self.push_wishes(&mut wish);
        Some(wish)
    }

    fn push_wishes(&self, out: &mut String) {
        if self.version {
            out.push_str(",\"version\":true");
        }
        let wishes = [
            ("_source", &self.documents.source),
            ("fields", &self.documents.fields),
            ("docvalue_fields", &self.documents.docvalue_fields),
        ];
        for (key, raw) in wishes {
            if let Some(raw) = raw {
                out.push_str(&format!(",\"{key}\":{raw}"));
            }
        }
    }

    /// The query part of that search's URL, without the `?`; may be empty. `pretty` and `filter_path`
    /// are in it because under them Elasticsearch writes documents anew (`2.50` becomes `2.5`).
    pub fn fetch_query(&self) -> String {
        let mut pairs: Vec<(&str, String)> =
            self.documents.url.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        if self.output.pretty {
            pairs.push(("pretty", "true".to_owned()));
        }
        if !self.output.filter_path.is_empty() {
            pairs.push(("filter_path", self.fetch_filter_path()));
        }
        let encoded: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
            .collect();
        encoded.join("&")
    }

    /// The client's inclusions and our needs. Its exclusions could take away what we need, so they are
    /// applied to the finished answer only.
    fn fetch_filter_path(&self) -> String {
        if !self.output.filter_path.includes_anything() {
            return HARMLESS_FILTER.to_owned();
        }
        let included = self.output.filter_path_text.split(',').map(str::trim);
        let included: Vec<&str> =
            included.filter(|path| !path.is_empty() && !path.starts_with('-')).collect();
        format!("{},{NEEDED}", included.join(","))
    }
}
