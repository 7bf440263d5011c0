//! Input that Elasticsearch refuses, or takes in its own way: status, type and reason must be its own.

use serde_json::{Value, json};

use super::draw::Draw;
use super::request::{Body, Request};
use super::shapes::search;
use crate::Elasticsearch;

/// Something wrong with the members of a knn object.
type WrongKnn = (&'static str, &'static [(&'static str, &'static str)]);

/// Members that replace those of a right knn object, as JSON; `-` takes the member away.
pub(super) const WRONG_KNN: &[WrongKnn] = &[
    ("few dims", &[("query_vector", "[1.0, 2.0]")]),
    ("many dims", &[("query_vector", "[1,2,3,4,5,6,7,8,9,10,11,12,13]")]),
    ("no dims", &[("query_vector", "[]")]),
    ("a number for a vector", &[("query_vector", "0.5")]),
    ("an object for a vector", &[("query_vector", "{\"a\":1}")]),
    ("null for a vector", &[("query_vector", "null")]),
    ("null in a vector", &[("query_vector", "[null,1,2]")]),
    ("a word in a vector", &[("query_vector", "[\"a\",1,2]")]),
    ("a list in a vector", &[("query_vector", "[[1,2,3]]")]),
    ("true in a vector", &[("query_vector", "[true,1,2]")]),
    ("hex that is none", &[("query_vector", "\"zz\"")]),
    ("odd hex", &[("query_vector", "\"abc\"")]),
    ("no vector", &[("query_vector", "-")]),
    ("a builder too", &[("query_vector_builder", "{\"text_embedding\":{\"model_text\":\"a\"}}")]),
    ("an unknown builder", &[("query_vector", "-"), ("query_vector_builder", "{\"nope\":{}}")]),
    ("k 0", &[("k", "0")]),
    ("k -1", &[("k", "-1")]),
    ("k a word", &[("k", "\"many\"")]),
    ("k null", &[("k", "null")]),
    ("k true", &[("k", "true")]),
    ("k a list", &[("k", "[1]")]),
    ("k 0.5", &[("k", "0.5")]),
    ("k huge", &[("k", "99999999999")]),
    ("k over candidates", &[("k", "20"), ("num_candidates", "10")]),
    ("k over the limit", &[("k", "10001"), ("num_candidates", "10001")]),
    ("candidates over the limit", &[("num_candidates", "10001")]),
    ("candidates 0", &[("num_candidates", "0")]),
    ("candidates null", &[("num_candidates", "null")]),
    ("an unknown field", &[("field", "\"nope\"")]),
    ("a text field", &[("field", "\"t\"")]),
    ("an object field", &[("field", "\"deep\"")]),
    ("an empty field", &[("field", "\"\"")]),
    ("a number as field", &[("field", "1")]),
    ("no field", &[("field", "-")]),
    ("field null", &[("field", "null")]),
    ("an unknown key", &[("foo", "1")]),
    ("a key nearly known", &[("query_vectr", "[1]")]),
    ("filter a word", &[("filter", "\"x\"")]),
    ("filter null", &[("filter", "null")]),
    ("filter of an unknown query", &[("filter", "{\"nope\":{}}")]),
    ("filter on a vector", &[("filter", "{\"term\":{\"v\":1}}")]),
    ("filter with a bad range", &[("filter", "{\"range\":{\"n\":{\"gte\":\"x\"}}}")]),
    ("filter of two queries in one", &[("filter", "{\"term\":{\"a\":1},\"match_all\":{}}")]),
    ("an empty filter object", &[("filter", "{}")]),
    ("similarity a word", &[("similarity", "\"x\"")]),
    ("similarity null", &[("similarity", "null")]),
    ("similarity in quotes", &[("similarity", "\"0.25\"")]),
    ("boost negative", &[("boost", "-1")]),
    ("boost null", &[("boost", "null")]),
    ("boost huge", &[("boost", "1e30")]),
    ("inner_hits without nested", &[("inner_hits", "{}")]),
    ("name a number", &[("_name", "1")]),
    ("name null", &[("_name", "null")]),
    ("oversample under 1", &[("rescore_vector", "{\"oversample\":0.5}")]),
    ("oversample 0", &[("rescore_vector", "{\"oversample\":0}")]),
    ("oversample absent", &[("rescore_vector", "{}")]),
    ("visits over all", &[("visit_percentage", "200")]),
    ("visits none", &[("visit_percentage", "0")]),
    ("an infinite value", &[("query_vector", "[1e39,1,2]")]),
    ("a decimal", &[("query_vector", "[1.5,1,2]")]),
    ("over a byte", &[("query_vector", "[200,1,2]")]),
];

/// Bodies that are wrong as a whole; `{knn}` stands for a right knn object.
pub(super) const WRONG_BODIES: &[&str] = &[
    r#"{"knn":null}"#,
    r#"{"knn":"x"}"#,
    r#"{"knn":1}"#,
    r#"{"knn":[]}"#,
    r#"{"knn":[1]}"#,
    r#"{"knn":[[{knn}]]}"#,
    r#"{"knn":[null]}"#,
    r#"{"knn":{}}"#,
    r#"{"knn":[{},{knn}]}"#,
    r#"{"knnx":{knn}}"#,
    r#"{"KNN":{knn}}"#,
    r#"{"knn":{knn},"nope":1}"#,
    r#"{"knn":{knn},"size":-1}"#,
    r#"{"knn":{knn},"from":-1}"#,
    r#"{"knn":{knn},"size":10001}"#,
    r#"{"knn":{knn},"size":9999,"from":2}"#,
    r#"{"knn":{knn},"size":"7"}"#,
    r#"{"knn":{knn},"size":3.7}"#,
    r#"{"knn":{knn},"size":null}"#,
    r#"{"knn":{knn},"size":true}"#,
    r#"{"knn":{knn},"from":"2"}"#,
    r#"{"knn":{knn},"_source":1}"#,
    r#"{"knn":{knn},"_source":null}"#,
    r#"{"knn":{knn},"_source":{"nope":1}}"#,
    r#"{"knn":{knn},"fields":"n"}"#,
    r#"{"knn":{knn},"fields":[1]}"#,
    r#"{"knn":{knn},"docvalue_fields":["t"]}"#,
    r#"{"knn":{knn},"docvalue_fields":["v"]}"#,
    r#"{"knn":{knn},"track_total_hits":"true"}"#,
    r#"{"knn":{knn},"track_total_hits":-2}"#,
    r#"{"knn":{knn},"track_total_hits":0}"#,
    r#"{"knn":{knn},"version":"yes"}"#,
    r#"{"knn":{knn},"version":"true"}"#,
    r#"{"knn":{knn},"explain":1}"#,
    r#"{"knn":{knn},"sort":[{"v":"asc"}]}"#,
    r#"{"knn":{knn},"sort":[{"nope":"asc"}]}"#,
    r#"{"knn":{knn},"sort":[{"n":"sideways"}]}"#,
    r#"{"knn":{knn},"search_after":[1]}"#,
    r#"{"knn":{knn},"aggs":{"v":{"terms":{"field":"v"}}}}"#,
    r#"{"knn":{knn},"aggs":{"v":{"nope":{}}}}"#,
    r#"{"knn":{knn},"aggs":{"t":{"terms":{"field":"t"}}}}"#,
    r#"{"knn":{knn},"query":{}}"#,
    r#"{"knn":{knn},"query":{"nope":{}}}"#,
    r#"{"knn":{knn},"query":null}"#,
    r#"{"knn":{knn},"query":{"term":{"v":1}}}"#,
    // An internal error, to Elasticsearch.
    r#"{"knn":{knn},"query":{"prefix":{"day":["red"]}}}"#,
    r#"{"knn":{knn},"collapse":{"field":"t"}}"#,
    r#"{"knn":{knn},"rescore":{"nope":1}}"#,
    r#"{"knn":{knn},"rescore":{"query":{"rescore_query":{"match_all":{}}}},"sort":["n"]}"#,
    r#"{"knn":{knn},"slice":{"id":0,"max":2}}"#,
    r#"{"knn":{knn},"min_score":"much"}"#,
    r#"{"knn":{knn},"timeout":"soon"}"#,
    r#"{"knn":{knn},"terminate_after":-1}"#,
    r#"{"knn":{knn},"highlight":{"fields":1}}"#,
    r#"{"knn":{knn},"pit":{"id":"nope"}}"#,
    r#"{"knn":{knn},"retriever":{"knn":{knn}}}"#,
    r#"{"knn":{knn},"indices_boost":[{"absent":2}]}"#,
    r#"{"knn":{knn},"rank":{"rrf":{}}}"#,
    r#"{"query":{"knn":{knn},"match_all":{}}}"#,
    r#"{"query":{"knn":[{knn}]}}"#,
    r#"{"query":{"knn":null}}"#,
    r#"{"query":{"bool":{"must":{"knn":{knn}},"nope":1}}}"#,
    r#"{"query":{"bool":{"must":[{"knn":{knn}},1]}}}"#,
    r#"{"query":{"dis_max":{"queries":{"knn":{knn}}}}}"#,
    r#"{"query":{"constant_score":{"query":{"knn":{knn}}}}}"#,
    r#"{"query":{"nested":{"path":"nope","query":{"knn":{knn}}}}}"#,
    r#"{"query":{"nested":{"path":"nope","ignore_unmapped":true,"query":{"knn":{knn}}}}}"#,
    r#"{"retriever":{"nope":{}}}"#,
    r#"{"retriever":{}}"#,
    r#"{"retriever":null}"#,
    r#"{"retriever":{"knn":{knn},"standard":{}}}"#,
    r#"{"retriever":{"knn":{knn}},"query":{"match_all":{}}}"#,
    r#"{"retriever":{"knn":{knn}},"sort":["n"]}"#,
    r#"{"retriever":{"knn":{knn}},"min_score":0.1}"#,
    r#"{"retriever":{"standard":{"query":{"knn":{knn}},"nope":1}}}"#,
    r#"{"retriever":{"rrf":{"retrievers":[{"knn":{knn}}]}}}"#,
    "[]",
    r#""x""#,
    "1",
    "{}",
];

/// Bodies that no JSON value can say.
pub(super) const WRONG_TEXTS: &[&str] = &[
    "",
    "   ",
    "{",
    r#"{"knn":{knn}"#,
    r#"{"knn":{knn}}{}"#,
    r#"{"knn":{knn}} x"#,
    r#"{"knn":{knn},}"#,
    r#"{"knn":{knn},"knn":{knn}}"#,
    r#"{"knn":{knn},"size":1,"size":2}"#,
    r#"{"knn":{knn},"\u0073ize":3}"#,
    r#"{"\u006bnn":{knn}}"#,
    r#"{"knn":{"field":"v","field":"w","query_vector":[1,2,3],"k":1,"num_candidates":5}}"#,
    r#"{"knn":{"field":"v","query_vector":[NaN,1,2],"k":1,"num_candidates":5}}"#,
    r#"{"knn":{"field":"v","query_vector":[Infinity,1,2],"k":1,"num_candidates":5}}"#,
    r#"{"knn":{"field":"v","query_vector":[01,1,2],"k":1,"num_candidates":5}}"#,
    r#"{"knn":{"field":"v","query_vector":[+1,1,2],"k":1,"num_candidates":5}}"#,
    r#"{"knn":{"field":"v","query_vector":[.5,1,2],"k":1,"num_candidates":5}}"#,
    r#"{"knn":{"field":"v","query_vector":[1.,1,2],"k":1,"num_candidates":5}}"#,
    r#"{"knn":{"field":"v","query_vector":[0x1,1,2],"k":1,"num_candidates":5}}"#,
    r#"{"knn":{"field":"v","query_vector":[1,2,3,],"k":1,"num_candidates":5}}"#,
    r#"{"knn":{"field":'v',"query_vector":[1,2,3],"k":1,"num_candidates":5}}"#,
    r#"{knn:{"field":"v","query_vector":[1,2,3],"k":1,"num_candidates":5}}"#,
    r#"{"knn":{"field":"v","query_vector":[1,2,3],"k":1e0,"num_candidates":5}}"#,
    r#"{"knn":{"field":"v","query_vector":[1,2,3],"k":1,"num_candidates":5,"similarity":NaN}}"#,
    "{/* a */\"knn\":{knn}}",
    "{\"knn\":{knn}} // a",
    "\u{feff}{\"knn\":{knn}}",
    "{\"knn\":{knn},\"stats\":[\"a\u{1}b\"]}",
    "{\"knn\":{knn},\"stats\":[\"\\ud800\"]}",
    "{\"knn\":{knn},\"stats\":[\"\\x\"]}",
    "{\"size\":1}\n{\"size\":2}",
];

/// A wrong member in one of the places where a knn may stand.
pub(super) fn wrong_knn(draw: &mut Draw<'_>) -> Request {
    let (_, members) = draw.pick(WRONG_KNN);
    let form = draw.below(if Elasticsearch::version_at_least(8, 14) { 4 } else { 3 });
    let mut knn = match form {
        0 | 1 => draw.knn_section(),
        2 => draw.knn_query()["knn"].take(),
        _ => draw.knn_retriever()["knn"].take(),
    };
    for (key, value) in members {
        let object = knn.as_object_mut().expect("an object");
        match *value {
            "-" => drop(object.remove(*key)),
            value => drop(object.insert((*key).to_owned(), serde_json::from_str(value).expect("JSON"))),
        }
    }
    // Zeros have as many values as the field.
    if draw.chance(0.1) {
        let field = draw.field();
        knn["field"] = json!(field.name);
        knn["query_vector"] = json!(vec![0; field.values]);
    }
    match form {
        0 => search("knn", knn),
        1 => search("knn", json!([draw.knn_section(), knn])),
        2 => search("query", json!({"bool": {"should": [{"knn": knn}, draw.plain_query()]}})),
        _ => search("retriever", json!({"knn": knn})),
    }
}

/// A body that is wrong as a whole.
pub(super) fn wrong_body(draw: &mut Draw<'_>) -> Request {
    let text = draw.pick(WRONG_BODIES).replace("{knn}", &draw.knn_section().to_string());
    let body: Value = serde_json::from_str(&text).expect("JSON");
    Request::search(body)
}

/// A body that no JSON value can say.
pub(super) fn wrong_text(draw: &mut Draw<'_>) -> Request {
    let text = draw.pick(WRONG_TEXTS).replace("{knn}", &draw.knn_section().to_string());
    Request::to("/{index}/_search", Body::Text(text))
}
