//! Where a knn may stand in a search.

use serde_json::{Value, json};

use super::Since;
use super::draw::Draw;
use super::request::Request;
use super::world::WIDE;

/// A row of the table: a kind of request, and how one is drawn.
pub(super) struct Shape {
    /// As the page calls it.
    pub(super) name: &'static str,
    pub(super) since: Since,
    /// How often it is drawn, against the others.
    pub(super) weight: usize,
    pub(super) draw: fn(&mut Draw<'_>) -> Request,
}

const fn shape(name: &'static str, since: Since, weight: usize, draw: fn(&mut Draw<'_>) -> Request) -> Shape {
    Shape { name, since, weight, draw }
}

/// See the head of this file.
pub(super) const SHAPES: &[Shape] = &[
    shape("`knn`", (8, 4), 4, |draw| search("knn", draw.knn_section())),
    shape("`knn`, an array of one", (8, 7), 1, |draw| search("knn", json!([draw.knn_section()]))),
    shape("`knn`, several", (8, 7), 2, several),
    shape("`knn`, the same field twice", (8, 7), 1, same_twice),
    shape("`knn`, defaults", (8, 13), 1, defaults),
    shape("`knn` with `filter`", (8, 4), 3, |draw| {
        let mut knn = draw.knn_section();
        knn["filter"] = draw.filter();
        search("knn", knn)
    }),
    shape("`knn` with few or no exact scores wanted", (8, 19), 1, |draw| {
        // Where it passes Elasticsearch shows its estimates: it must not.
        let (mut request, knn) = match draw.below(2) {
            0 => (search("knn", draw.knn_section()), "knn"),
            _ => (search("query", draw.knn_query()), "query"),
        };
        let oversample = draw.pick(&[0.0, 1.0, 1.5]);
        let object = request.object().expect("an object");
        let knn = if knn == "query" { &mut object[knn]["knn"] } else { &mut object[knn] };
        knn["rescore_vector"] = json!({"oversample": oversample});
        for key in ["k", "num_candidates"] {
            knn[key] = json!(if key == "k" { 12 } else { WIDE });
        }
        knn["query_vector"] = numbers_only(knn["query_vector"].take());
        knn.as_object_mut().expect("an object").remove("boost");
        request.alone = true;
        request
    }),
    shape("`knn` beside `query`", (8, 4), 3, |draw| {
        with(search("knn", draw.knn_section()), "query", draw.plain_query())
    }),
    shape("`knn`, several, beside `query`", (8, 7), 1, |draw| {
        with(search("knn", json!([draw.knn_section(), draw.knn_section()])), "query", draw.plain_query())
    }),
    shape("`knn` beside `query` with a knn", (8, 12), 1, |draw| {
        with(search("knn", draw.knn_section()), "query", draw.mixed_query())
    }),
    shape("knn query", (8, 12), 3, |draw| search("query", draw.knn_query())),
    shape("knn query with `filter`", (8, 12), 2, |draw| {
        let mut query = draw.knn_query();
        query["knn"]["filter"] = draw.filter();
        search("query", query)
    }),
    shape("knn query in `bool`", (8, 12), 3, |draw| search("query", draw.in_bool(2))),
    shape("knn query in `dis_max`", (8, 12), 1, |draw| {
        search(
            "query",
            json!({"dis_max": {"queries": [draw.knn_query(), draw.plain_query()], "tie_breaker": 0.3}}),
        )
    }),
    shape("knn query in `constant_score`", (8, 12), 1, |draw| {
        search("query", json!({"constant_score": {"filter": draw.knn_query()}}))
    }),
    shape("knn query in `function_score`", (8, 12), 1, |draw| {
        search(
            "query",
            json!({"function_score": {"query": draw.knn_query(), "functions": [{"filter": draw.plain_query(), "weight": 2.0}], "boost_mode": "multiply"}}),
        )
    }),
    shape("knn query in `boosting`", (8, 12), 1, |draw| {
        search(
            "query",
            json!({"boosting": {"positive": draw.knn_query(), "negative": draw.plain_query(), "negative_boost": 0.5}}),
        )
    }),
    shape("knn queries in queries", (8, 12), 3, |draw| search("query", draw.mixed_query())),
    shape("retriever `knn`", (8, 14), 2, |draw| search("retriever", draw.knn_retriever())),
    shape("retriever `knn` with `filter`", (8, 14), 1, |draw| {
        let mut retriever = draw.knn_retriever();
        retriever["knn"]["filter"] = draw.filter();
        search("retriever", retriever)
    }),
    shape("retriever `standard` with a knn query", (8, 14), 2, |draw| {
        search("retriever", json!({"standard": {"query": draw.mixed_query()}}))
    }),
    shape("retriever `standard` with `filter`", (8, 14), 1, |draw| {
        search("retriever", json!({"standard": {"query": draw.knn_query(), "filter": draw.plain_query()}}))
    }),
    shape("retriever `rescorer`", (9, 0), 1, |draw| {
        let rescore =
            json!({"window_size": 20, "query": {"rescore_query": draw.plain_query(), "query_weight": 0.8}});
        // Elasticsearch wants the window to be as wide as the page.
        let mut request =
            search("retriever", json!({"rescorer": {"retriever": draw.knn_retriever(), "rescore": rescore}}));
        request.size_is_fixed = true;
        request
    }),
    shape("no knn", (8, 0), 1, |draw| search("query", draw.plain_query())),
    shape("knn query in `post_filter`", (8, 12), 1, |draw| {
        with(search("knn", draw.knn_section()), "post_filter", draw.knn_query())
    }),
    shape("knn query in `rescore`", (8, 12), 1, |draw| {
        let rescore = json!({"window_size": 10, "query": {"rescore_query": draw.knn_query()}});
        with(search("query", draw.plain_query()), "rescore", rescore)
    }),
    shape("knn query in a filter aggregation", (8, 12), 1, |draw| {
        let aggs = json!({"near": {"filter": draw.knn_query(), "aggs": {"a": {"terms": {"field": "a"}}}}});
        with(search("query", draw.plain_query()), "aggs", aggs)
    }),
    shape("knn query in `wrapper`", (8, 12), 1, |draw| {
        let text = draw.knn_query().to_string();
        search("query", json!({"wrapper": {"query": base64(text.as_bytes())}}))
    }),
];

pub(super) fn search(key: &str, value: Value) -> Request {
    Request::search(json!({key: value}))
}

fn with(mut request: Request, key: &str, value: Value) -> Request {
    if let Some(body) = request.object() {
        body[key] = value;
    }
    request
}

fn several(draw: &mut Draw<'_>) -> Request {
    let count = draw.between(2, 4);
    search("knn", (0..count).map(|_| draw.knn_section()).collect())
}

fn same_twice(draw: &mut Draw<'_>) -> Request {
    let knn = draw.knn_section();
    let mut other = knn.clone();
    if draw.chance(0.5) {
        other["k"] = json!(draw.between(1, 20));
    }
    search("knn", json!([knn, other]))
}

/// `k` from `size`, candidates from `k`: only where so few candidates are all documents, for the twin
/// is exact only then.
fn defaults(draw: &mut Draw<'_>) -> Request {
    let mut knn = draw.knn_section();
    let documents = draw.world.documents.len();
    let size = draw.between(documents.max(10), 2 * documents.max(10));
    let members = knn.as_object_mut().expect("an object");
    members.remove("k");
    members.remove("num_candidates");
    let mut request = search("knn", knn);
    request.size_is_fixed = true;
    if documents > 10 || draw.chance(0.5) {
        request = with(request, "size", json!(size));
    }
    request
}

/// Without quotes around numbers, as we read it.
fn numbers_only(vector: Value) -> Value {
    match vector {
        Value::Array(values) => values
            .into_iter()
            .map(|value| {
                value.as_str().map_or(value.clone(), |text| json!(text.parse::<f64>().expect("a number")))
            })
            .collect(),
        hex => hex,
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let mut padded = [0; 3];
        padded[..three.len()].copy_from_slice(three);
        let all = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        for place in 0..4 {
            let letter = LETTERS[(all >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}
