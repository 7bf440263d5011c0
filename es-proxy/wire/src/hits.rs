//! Answers: what Elasticsearch would have printed for our hits.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::java::push_float;
use crate::json::{Object, push_json_string};
use crate::pretty::pretty;
use crate::scan::{elements, unquote};
use crate::search::{KnnSearch, TrackTotal};

/// One hit of the page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredHit<'a> {
    /// Concrete index.
    pub index: &'a str,
    /// Its uuid.
    pub index_uuid: &'a str,
    /// `_id`.
    pub id: &'a str,
    /// `_routing`, where the document has one.
    pub routing: Option<&'a str>,
    /// `_score`, boost included.
    pub score: f32,
    /// `_seq_no` of the version that was compared.
    pub seq_no: u64,
    /// `_primary_term` of that version.
    pub primary_term: u64,
}

/// The result of a search, before it is written.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// Milliseconds taken.
    pub took_ms: u64,
    /// Shards searched.
    pub shards: u32,
    /// Hits found before paging.
    pub total: usize,
    /// Score of the best hit found, before paging.
    pub max_score: Option<f32>,
    /// The hits of the page (`from`, `size` already applied).
    pub page: &'a [ScoredHit<'a>],
}

/// Why fetched documents cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchMismatch {
    /// A hit was not returned: deleted meanwhile, or the caller may not see it.
    #[error("a hit is missing")]
    Missing,
    /// A hit is another version than the one compared.
    #[error("a hit has changed")]
    Changed,
    /// A failed shard, a timeout, or not a search response.
    #[error("the fetched response cannot be used")]
    Unreadable,
}

/// The answer when only ids and scores are wanted.
pub fn render(search: &KnnSearch, outcome: &Outcome<'_>) -> String {
    let mut out = String::with_capacity(192 + 96 * outcome.page.len());
    open_answer(&mut out, search, outcome);
    for (at, hit) in outcome.page.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push_bare_hit(&mut out, search, hit);
    }
    close_answer(out, search)
}

/// The answer with documents: every hit of the page must be among `fetched`.
pub fn render_fetched(
    search: &KnnSearch,
    outcome: &Outcome<'_>,
    fetched: &FetchedHits<'_>,
) -> Result<String, FetchMismatch> {
    let mut out = String::with_capacity(fetched.length + 192);
    open_answer(&mut out, search, outcome);
    for (at, hit) in outcome.page.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push_fetched_hit(&mut out, search, hit, &fetched.of(hit)?.entries);
    }
    Ok(close_answer(out, search))
}

/// Everything before the first hit, where every shard was searched.
fn open_answer(out: &mut String, search: &KnnSearch, outcome: &Outcome<'_>) {
    let Outcome { took_ms, shards, .. } = outcome;
    out.push_str(&format!(
        "{{\"took\":{took_ms},\"timed_out\":false,\
         \"_shards\":{{\"total\":{shards},\"successful\":{shards},\"skipped\":0,\"failed\":0}},\"hits\":{{"
    ));
    push_total(out, search, outcome.total);
    out.push_str("\"max_score\":");
    match outcome.max_score.filter(|_| search.size > 0) {
        Some(score) => push_float(out, score),
        None => out.push_str("null"),
    }
    out.push_str(",\"hits\":[");
}

fn push_total(out: &mut String, search: &KnnSearch, total: usize) {
    let counted = match search.track_total {
        TrackTotal::Off => None,
        TrackTotal::Exact => Some((total, "eq")),
        TrackTotal::UpTo(limit) if total > limit => Some((limit, "gte")),
        TrackTotal::UpTo(_) => Some((total, "eq")),
    };
    match (search.output.total_as_int, counted) {
        (true, Some((value, _))) => out.push_str(&format!("\"total\":{value},")),
        (true, None) => out.push_str("\"total\":-1,"),
        (false, Some((value, relation))) => {
            out.push_str(&format!("\"total\":{{\"value\":{value},\"relation\":\"{relation}\"}},"));
        }
        (false, None) => {}
    }
}

fn close_answer(mut out: String, search: &KnnSearch) -> String {
    out.push_str("]}}");
    let output = &search.output;
    if !output.filter_path.is_empty() {
        out = output.filter_path.apply(&out, output.keep_empty_arrays);
    }
    if output.pretty { pretty(&out) } else { out }
}

fn push_bare_hit(out: &mut String, search: &KnnSearch, hit: &ScoredHit<'_>) {
    out.push_str("{\"_index\":");
    push_json_string(out, hit.index);
    out.push_str(",\"_id\":");
    push_json_string(out, hit.id);
    if search.seq_no_primary_term {
        out.push_str(&format!(",\"_seq_no\":{},\"_primary_term\":{}", hit.seq_no, hit.primary_term));
    }
    out.push_str(",\"_score\":");
    push_float(out, hit.score);
    if let Some(routing) = hit.routing {
        out.push_str(",\"_routing\":");
        push_json_string(out, routing);
    }
    out.push('}');
}

/// Elasticsearch's hit in its own order and bytes, with our score and without what was not asked for.
fn push_fetched_hit(out: &mut String, search: &KnnSearch, hit: &ScoredHit<'_>, document: &Object<'_>) {
    out.push('{');
    let mut first = true;
    for (key, value) in &document.entries {
        if matches!(&**key, "_seq_no" | "_primary_term") && !search.seq_no_primary_term {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        push_json_string(out, key);
        out.push(':');
        if key == "_score" {
            push_float(out, hit.score);
        } else {
            out.push_str(value.get());
        }
    }
    out.push('}');
}

/// Hits with their documents, as Elasticsearch printed them: from a response to
/// [`KnnSearch::fetch_body`], or kept from an earlier one.
#[derive(Default)]
pub struct FetchedHits<'a> {
    hits: HashMap<HitKey<'a>, FetchedHit<'a>>,
    length: usize,
}

/// Index, id and routing.
type HitKey<'a> = (Cow<'a, str>, Cow<'a, str>, Option<Cow<'a, str>>);

struct FetchedHit<'a> {
    raw: &'a str,
    entries: Object<'a>,
}

impl<'a> FetchedHits<'a> {
    /// Adds the hits of a whole response; refused unless every shard answered in time.
    pub fn add_response(&mut self, text: &'a str) -> Result<(), FetchMismatch> {
        self.read(text).ok_or(FetchMismatch::Unreadable)
    }

    /// Adds one hit, in the bytes that [`FetchedHits::raw`] gave.
    pub fn add_hit(&mut self, raw: &'a str) -> Result<(), FetchMismatch> {
        self.read_hit(raw).ok_or(FetchMismatch::Unreadable)
    }

    /// The bytes of a hit, if it is the version that was compared.
    pub fn raw<'s>(&'s self, hit: &ScoredHit<'s>) -> Result<&'s str, FetchMismatch> {
        self.of(hit).map(|fetched| fetched.raw)
    }

    fn read(&mut self, text: &'a str) -> Option<()> {
        let response = Object::parse(text).ok()?;
        let shards = response.get("_shards")?.get();
        let failed = Object::parse(shards).ok()?.get("failed")?.get() != "0";
        if failed || response.get("timed_out")?.get() != "false" {
            return None;
        }
        // Under a filter_path nothing is left of `hits` when no document was found.
        let hits = match response.get("hits").map(|hits| Object::parse(hits.get())) {
            Some(hits) => hits.ok()?.get("hits").map_or("[]", |list| list.get()),
            None => "[]",
        };
        for hit in elements(hits).ok()? {
            self.read_hit(hit)?;
        }
        Some(())
    }

    fn read_hit(&mut self, raw: &'a str) -> Option<()> {
        let entries = Object::parse(raw).ok()?;
        let index = unquote(entries.get("_index")?.get()).ok()?;
        let id = unquote(entries.get("_id")?.get()).ok()?;
        let routing = match entries.get("_routing") {
            Some(raw) => Some(unquote(raw.get()).ok()?),
            None => None,
        };
        self.length += raw.len();
        self.hits.insert((index, id, routing), FetchedHit { raw, entries });
        Some(())
    }

    fn of<'s>(&'s self, hit: &ScoredHit<'s>) -> Result<&'s FetchedHit<'s>, FetchMismatch> {
        let key = (Cow::Borrowed(hit.index), Cow::Borrowed(hit.id), hit.routing.map(Cow::Borrowed));
        let fetched = self.hits.get(&key).ok_or(FetchMismatch::Missing)?;
        let entries = &fetched.entries;
        let number = |name| -> Option<u64> { entries.get(name)?.get().parse().ok() };
        let version = number("_seq_no").zip(number("_primary_term")).ok_or(FetchMismatch::Unreadable)?;
        if version == (hit.seq_no, hit.primary_term) { Ok(fetched) } else { Err(FetchMismatch::Changed) }
    }
}

#[cfg(test)]
mod tests;
