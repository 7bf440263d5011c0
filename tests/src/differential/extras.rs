//! What may stand in a body beside the knn.

use serde_json::{Value, json};

use super::Since;
use super::draw::Draw;
use super::request::{Around, Request};

/// A row of the table: something beside the knn.
pub(super) struct Extra {
    /// As the page calls it.
    pub(super) name: &'static str,
    pub(super) since: Since,
    /// Whether it may stand beside a retriever.
    pub(super) beside_retriever: bool,
    /// Adds it; not called with a body that holds `key` already.
    pub(super) key: &'static str,
    pub(super) draw: fn(&mut Draw<'_>) -> Value,
}

const fn any(name: &'static str, key: &'static str, draw: fn(&mut Draw<'_>) -> Value) -> Extra {
    Extra { name, since: (8, 0), beside_retriever: true, key, draw }
}

const fn no_retriever(name: &'static str, key: &'static str, draw: fn(&mut Draw<'_>) -> Value) -> Extra {
    Extra { name, since: (8, 0), beside_retriever: false, key, draw }
}

/// See the head of this file.
pub(super) const EXTRAS: &[Extra] = &[
    any("`_source: false`", "_source", |_| json!(false)),
    any("`_source` filters", "_source", source),
    any("`fields`", "fields", |draw| {
        draw.pick(&[
            json!(["a", "n"]),
            json!(["*"]),
            json!([{"field": "day", "format": "epoch_millis"}, "t"]),
            json!(["nope"]),
        ])
    }),
    any("`docvalue_fields`", "docvalue_fields", |draw| {
        draw.pick(&[
            json!(["n"]),
            json!([{"field": "day", "format": "yyyy"}, "a"]),
            json!([{"field": "x", "format": "0.0"}]),
        ])
    }),
    any("`stored_fields`", "stored_fields", |draw| {
        draw.pick(&[json!("_none_"), json!([]), json!(["_routing"])])
    }),
    any("`version`", "version", |_| json!(true)),
    any("`seq_no_primary_term`", "seq_no_primary_term", |_| json!(true)),
    any("`track_total_hits`", "track_total_hits", |draw| {
        draw.pick(&[json!(true), json!(false), json!(3), json!(1_000)])
    }),
    any("`size`", "size", |draw| json!(draw.between(0, 60))),
    any("`from`", "from", |draw| json!(draw.between(0, 12))),
    any("`post_filter`", "post_filter", |draw| draw.plain_query()),
    any("`aggs`", "aggs", aggregations),
    any("`explain`", "explain", |_| json!(true)),
    any("`profile`", "profile", |_| json!(true)),
    any("`profile: false`", "profile", |_| json!(false)),
    any("`timeout`", "timeout", |_| json!("30s")),
    any("`indices_boost`", "indices_boost", |_| json!([{"{index}": 1.7}])),
    any(
        "`runtime_mappings`",
        "runtime_mappings",
        |_| json!({"n": {"type": "long"}, "made": {"type": "keyword"}}),
    ),
    any("`suggest`", "suggest", |draw| json!({"s": {"text": draw.word(), "term": {"field": "t"}}})),
    any("`stats`", "stats", |_| json!(["group"])),
    any("`track_scores`", "track_scores", |_| json!(true)),
    any("`ext`", "ext", |_| json!({})),
    no_retriever("`sort`", "sort", sort),
    no_retriever("`collapse`", "collapse", |draw| {
        draw.pick(&[
            json!({"field": "a"}),
            json!({"field": "a", "inner_hits": {"name": "others", "size": 2, "sort": [{"n": "asc"}], "_source": ["n"]}}),
        ])
    }),
    no_retriever(
        "`rescore`",
        "rescore",
        |draw| json!({"window_size": draw.between(1, 20), "query": {"rescore_query": {"match": {"t": draw.word()}}, "query_weight": 0.7, "rescore_query_weight": 1.2}}),
    ),
    no_retriever("`min_score`", "min_score", |draw| json!(draw.between(1, 12) as f64 / 10.0)),
    no_retriever("`terminate_after`", "terminate_after", |_| json!(100_000)),
];

fn source(draw: &mut Draw<'_>) -> Value {
    draw.pick(&[
        json!(true),
        json!("n"),
        json!(["n", "a"]),
        json!(["deep.*", "t"]),
        json!({"includes": ["n", "t*"]}),
        json!({"excludes": ["v", "w", "b", "bits", "deep"]}),
        json!({"include": ["*"], "exclude": ["tags"]}),
        json!([]),
    ])
}

fn sort(draw: &mut Draw<'_>) -> Value {
    draw.pick(&[
        json!([{"n": "desc"}]),
        json!("n"),
        json!(["_score", {"n": "asc"}]),
        json!([{"day": {"order": "asc", "format": "yyyy-MM-dd"}}, {"n": "desc"}]),
        json!([{"x": {"order": "desc", "missing": "_last"}}, {"n": "asc"}]),
        json!(["_score"]),
        json!([{"_score": "asc"}, "n"]),
        json!([{"_doc": "asc"}]),
        json!([{"nope": {"order": "asc", "unmapped_type": "long"}}, "n"]),
    ])
}

fn aggregations(draw: &mut Draw<'_>) -> Value {
    draw.pick(&[
        json!({"a": {"terms": {"field": "a"}}}),
        json!({"n": {"stats": {"field": "n"}}, "x": {"avg": {"field": "x"}}}),
        json!({"tags": {"terms": {"field": "tags"}, "aggs": {"least": {"min": {"field": "n"}}}}}),
        json!({"days": {"date_histogram": {"field": "day", "calendar_interval": "month"}}}),
        json!({"all": {"global": {}, "aggs": {"n": {"value_count": {"field": "n"}}}}}),
        json!({"top": {"top_hits": {"size": 2, "_source": ["n"], "sort": [{"n": "asc"}]}}}),
        json!({"best": {"terms": {"field": "a"}, "aggs": {"score": {"top_hits": {"size": 1, "_source": false}}}}}),
        json!({"red": {"filter": {"term": {"a": "red"}}}, "none": {"missing": {"field": "x"}}}),
        json!({"p": {"percentiles": {"field": "n", "percents": [50.0, 90.0]}}}),
        json!({"c": {"composite": {"size": 4, "sources": [{"a": {"terms": {"field": "a"}}}]}}}),
        json!({"kinds": {"cardinality": {"field": "a"}}}),
    ])
}

/// Adds an extra where it may stand; whether it could.
pub(super) fn add(extra: &Extra, draw: &mut Draw<'_>, request: &mut Request) -> bool {
    if (request.size_is_fixed && matches!(extra.key, "size" | "from")) || request.around == Around::Scroll {
        return false;
    }
    let value = (extra.draw)(draw);
    let Some(body) = request.object() else { return false };
    let occupied = body.get(extra.key).is_some();
    if occupied || (body.get("retriever").is_some() && !extra.beside_retriever) {
        return false;
    }
    body[extra.key] = value;
    request.made_of.push(extra.name);
    true
}
