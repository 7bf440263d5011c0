//! Which searches are ours, and what we understand of them.

use proptest::prelude::*;

use super::*;
use crate::{Capabilities, Params};

fn read_as(version: &str, query: &str, body: &str) -> Result<KnnSearch, &'static str> {
    let caps = Capabilities::of(version.parse().unwrap()).unwrap();
    parse_search(body.as_bytes(), &Params::parse(query).unwrap(), &caps).map_err(|NotOurs(label)| label)
}

fn read(query: &str, body: &str) -> Result<KnnSearch, &'static str> {
    read_as("9.2.0", query, body)
}

/// A body with `knn` entries after field and vector, and top-level entries after that.
fn body(knn: &str, beside: &str) -> String {
    format!(r#"{{"knn":{{"field":"v","query_vector":[1,-0.5,2e-1]{knn}}}{beside}}}"#)
}

fn ours(query: &str, knn: &str, beside: &str) -> KnnSearch {
    read(query, &body(knn, beside)).unwrap()
}

#[test]
fn reads_the_section_and_its_defaults() {
    let search = ours("", "", "");
    assert_eq!((search.field.as_str(), search.vector.as_slice()), ("v", [1.0, -0.5, 0.2].as_slice()));
    assert_eq!((search.k, search.num_candidates, search.from, search.size), (10, 15, 0, 10));
    assert_eq!((search.boost, search.similarity, search.track_total), (1.0, None, TrackTotal::Exact));
    let search = ours("", r#","k":3,"num_candidates":50,"similarity":0.25,"boost":2,"filter":[ ]"#, "");
    assert_eq!((search.k, search.num_candidates, search.similarity, search.boost), (3, 50, Some(0.25), 2.0));
    assert_eq!(read("", r#"{"knn":[{"query_vector":[1],"field":"a.b"}]}"#).unwrap().field, "a.b");
}

#[test]
fn a_knn_query_or_retriever_may_be_all_there_is() {
    const KNN: &str = r#"{"field":"v","query_vector":[1,2],"k":3,"num_candidates":7}"#;
    let found = |version: &str, body: String| {
        read_as(version, "", &body).map(|search| (search.k, search.num_candidates, search.reach))
    };
    let query = || format!(r#"{{"query":{{"knn":{KNN}}}}}"#);
    let retriever = || format!(r#"{{"retriever":{{"knn":{KNN}}},"size":2}}"#);
    let standard = || format!(r#"{{"retriever":{{"standard":{{"query":{{"knn":{KNN}}}}}}}}}"#);
    assert_eq!(found("9.2.0", query()), Ok((3, 7, Reach::EachShard)));
    assert_eq!(found("9.2.0", retriever()), Ok((3, 7, Reach::Global)));
    assert_eq!(found("9.2.0", standard()), Ok((3, 7, Reach::EachShard)));
    assert_eq!(found("8.14.0", retriever()), Ok((3, 7, Reach::Global)));
    assert_eq!(found("8.14.0", query()), Err("k"));
    assert_eq!(found("8.13.0", retriever()), Err("version"));
    assert_eq!(found("8.10.4", query()), Err("version"));
    for body in [
        format!(r#"{{"query":{{"knn":{KNN}}},"knn":{KNN}}}"#),
        format!(r#"{{"query":{{"knn":{KNN},"match_all":{{}}}}}}"#),
        format!(r#"{{"retriever":{{"knn":{KNN}}},"query":{{"match_all":{{}}}}}}"#),
        format!(r#"{{"retriever":{{"standard":{{"query":{{"knn":{KNN}}},"min_score":1}}}}}}"#),
        format!(r#"{{"retriever":{{"rrf":{{"retrievers":[{{"knn":{KNN}}}]}}}}}}"#),
        r#"{"retriever":{"knn":{"field":"v","query_vector":[1],"k":1}}}"#.to_owned(),
        r#"{"retriever":{"knn":{"field":"v","query_vector":"01","k":1,"num_candidates":1}}}"#.to_owned(),
        r#"{"retriever":{"knn":{"field":"v","query_vector":[1],"k":1,"num_candidates":1,"boost":2}}}"#
            .to_owned(),
        r#"{"query":{}}"#.to_owned(),
    ] {
        assert!(read("", &body).is_err(), "{body}");
    }
}

#[test]
fn a_knn_query_can_have_more_hits_than_are_counted() {
    let body = r#"{"query":{"knn":{"field":"v","query_vector":[1],"k":9}}}"#;
    assert_eq!(read("", body).unwrap().track_total, TrackTotal::UpTo(10_000));
    assert_eq!(read("rest_total_hits_as_int=true", body).unwrap().track_total, TrackTotal::Exact);
    // Without `k` it is the size of the request, also of the URL.
    let body = r#"{"query":{"knn":{"field":"v","query_vector":[1]}},"size":4}"#;
    assert_eq!(read("size=6", body).unwrap().k, 6);
}

#[test]
fn a_filter_is_kept_as_the_client_wrote_it() {
    let filter = |knn: &str| ours("", knn, "").filter;
    assert_eq!(filter(""), None);
    assert_eq!(filter(r#","filter": []"#), None);
    assert_eq!(filter(r#","filter": {"term" :{"a":1}} "#).as_deref(), Some(r#"{"term" :{"a":1}}"#));
    assert_eq!(filter(r#","filter":[{"a":1}, {}]"#).as_deref(), Some(r#"[{"a":1}, {}]"#));
}

#[test]
fn k_defaults_to_the_size_of_the_body_alone() {
    let search = ours("size=1&from=2", "", r#","size":7,"from":1"#);
    assert_eq!((search.k, search.num_candidates, search.from, search.size), (7, 11, 2, 1));
    let candidates = |k: usize| ours("", &format!(r#","k":{k}"#), "").num_candidates;
    assert_eq!([1, 2, 3, 6667, 10_000].map(candidates), [2, 3, 5, 10_000, 10_000]);
}

#[test]
fn bytes_may_come_as_a_hex_string_where_the_version_takes_it() {
    let hex = r#"{"knn":{"field":"v","query_vector":"01fE","k":1,"num_candidates":1}}"#;
    assert_eq!(read_as("8.14.0", "", hex).unwrap().vector, [1.0, -2.0]);
    assert_eq!(read_as("8.13.4", "", hex), Err("vector"));
}

#[test]
fn old_versions_want_both_numbers() {
    let both = body(r#","k":1,"num_candidates":1"#, "");
    assert!(read_as("8.12.0", "", &both).is_ok());
    assert_eq!(read_as("8.12.0", "", &body(r#","k":1"#, "")), Err("k"));
    assert!(read_as("8.13.0", "", &body(r#","k":1"#, "")).is_ok());
}

#[test]
fn everything_else_is_elasticsearchs() {
    let cases = [
        (r#","k":0"#, "", "k"),
        (r#","k":11,"num_candidates":10"#, "", "k"),
        (r#","num_candidates":10001"#, "", "k"),
        ("", r#","size":0"#, "k"),
        (r#","k":"2""#, "", "value"),
        (r#","k":2.5"#, "", "value"),
        (r#","k":-1"#, "", "value"),
        (r#","k":1e1"#, "", "value"),
        (r#","k":null"#, "", "value"),
        (r#","k":99999999999"#, "", "value"),
        (r#","boost":-1"#, "", "value"),
        (r#","boost":1e39"#, "", "value"),
        (r#","similarity":"0.5""#, "", "value"),
        (r#","k":1,"k":1"#, "", "duplicate_key"),
        (r#","k":1,"\u006b":1"#, "", "duplicate_key"),
        (r#","filter":null"#, "", "filter_shape"),
        (r#","filter":"a""#, "", "filter_shape"),
        (r#","filter":{"term":{"a":1}"#, "", "malformed"),
        (r#","inner_hits":{}"#, "", "inner_hits"),
        (r#","_name":"n""#, "", "unknown_key"),
        (r#","rescore_vector":{"oversample":2,"more":1}"#, "", "unknown_key"),
        (r#","rescore_vector":{"oversample":0.5}"#, "", "value"),
        (r#","visit_percentage":101"#, "", "value"),
        ("", r#","query":{"match_all":{}}"#, "query"),
        ("", r#","aggs":{}"#, "aggregations"),
        ("", r#","sort":["_score"]"#, "sort"),
        ("", r#","stored_fields":"_none_""#, "stored_fields"),
        ("", r#","explain":true"#, "explain"),
        ("", r#","timeout":"1s""#, "unknown_key"),
        ("", r#","size":1,"size":1"#, "duplicate_key"),
        ("", r#","size":9999,"from":2"#, "window"),
        ("", r#","track_total_hits":-1"#, "value"),
        ("", r#","version":"true""#, "value"),
        ("", r#","_source":{"includes":"a","includes":"b"}"#, "duplicate_key"),
        ("", r#","_source":{"zz":"a"}"#, "source"),
        ("", r#","_source":[1]"#, "source"),
        ("", r#","_source":null"#, "source"),
        ("", r#","fields":"a""#, "value"),
        ("", r#","fields":[1]"#, "value"),
        ("", r#"} {"#, "malformed"),
        ("", ",", "malformed"),
    ];
    for (knn, beside, label) in cases {
        assert_eq!(read("", &body(knn, beside)), Err(label), "{knn} {beside}");
    }
    let bodies = [
        ("", "no_knn"),
        ("[]", "no_knn"),
        ("{}", "no_knn"),
        (r#"{"size":1}"#, "no_knn"),
        (r#"{"knn":[]}"#, "no_knn"),
        (r#"{"knn":[{"field":"v","query_vector":[1]},{"field":"v","query_vector":[1]}]}"#, "several_knn"),
        (r#"{"knn":"x"}"#, "malformed"),
        (r#"{"knn":{"field":"v"}}"#, "vector"),
        (r#"{"knn":{"query_vector":[1]}}"#, "value"),
        (r#"{"knn":{"field":"v","query_vector":[]}}"#, "vector"),
        (r#"{"knn":{"field":"v","query_vector":"0"}}"#, "vector"),
        (r#"{"knn":{"field":"v","query_vector":"0g"}}"#, "vector"),
        (r#"{"knn":{"field":"v","query_vector":""}}"#, "vector"),
        (r#"{"knn":{"field":"v","query_vector":1}}"#, "vector"),
        (r#"{"knn":{"field":"v","query_vector":["1"]}}"#, "vector"),
        (r#"{"knn":{"field":"v","query_vector":[null]}}"#, "vector"),
        (r#"{"knn":{"field":"v","query_vector":[1e39]}}"#, "vector"),
        (r#"{"knn":{"field":"v","query_vector":[NaN]}}"#, "vector"),
        (r#"{"knn":{"field":"v","query_vector":[1,]}}"#, "vector"),
        (r#"{"knn":{"field":"v","query_vector_builder":{}}}"#, "unknown_key"),
        (r#"{"retriever":{"knn":{}}}"#, "value"),
    ];
    for (body, label) in bodies {
        assert_eq!(read("", body), Err(label), "{body}");
    }
    let caps = Capabilities::of("9.2.0".parse().unwrap()).unwrap();
    assert_eq!(parse_search(b"\xff", &Params::default(), &caps), Err(NotOurs("malformed")));
}

#[test]
fn parameters_that_are_ours() {
    for query in [
        "pretty&human=true&error_trace=false&filter_path=took&typed_keys&rest_total_hits_as_int=true",
        "track_total_hits=5&_source=a,b&_source_includes=a&_source_excludes=b&_source_exclude_vectors=false",
        "size=1&from=2&version=true&seq_no_primary_term=false&docvalue_fields=a&preference=me",
        "allow_no_indices=true&ignore_unavailable=false&allow_partial_search_results=true&request_cache=false",
        "ccs_minimize_roundtrips=true&max_concurrent_shard_requests=5&batched_reduce_size=512&pre_filter_shard_size=1",
    ] {
        assert!(read(query, &body("", "")).is_ok(), "{query}");
    }
    for query in [
        "scroll=1m",
        "q=a",
        "explain=true",
        "search_type=dfs_query_then_fetch",
        "scroll=1m",
        "pretty=1",
        "version=",
        "error_trace=true",
        "error_trace",
        "preference=_local",
        "preference=",
        "size=-1",
        "size=",
        "size=%2B1",
        "size=1&size=1",
        "batched_reduce_size=1",
        "max_concurrent_shard_requests=0",
        "request_cache=",
        "track_total_hits=",
        "from=10000",
        "zz",
        "format=yaml",
        "rest_total_hits_as_int&track_total_hits=5",
    ] {
        assert!(read(query, &body("", "")).is_err(), "{query}");
    }
    assert_eq!(read_as("8.15.3", "_source_exclude_vectors=true", &body("", "")), Err("parameter"));
}

#[test]
fn documents_are_fetched_only_when_they_show() {
    for (query, beside, needed) in [
        ("", "", true),
        ("", r#","_source":false"#, false),
        ("_source=false", "", false),
        ("_source=false&_source_includes=a", "", false),
        ("_source=true", r#","_source":false"#, true),
        ("_source_includes=a", r#","_source":false"#, true),
        ("filter_path=hits.hits._id,hits.hits._score", "", false),
        ("filter_path=hits.hits._id,hits.hits._sou*.a", "", true),
        ("filter_path=-**._source", "", false),
        ("", r#","_source":false,"fields":["a"]"#, true),
        ("", r#","_source":false,"fields":[]"#, false),
        ("filter_path=took", r#","fields":["a"]"#, true),
        ("docvalue_fields=a", r#","_source":false"#, true),
        ("", r#","_source":false,"version":true"#, true),
        ("version=false", r#","_source":false,"version":true"#, false),
        ("", r#","_source":false,"seq_no_primary_term":true"#, false),
        ("size=0", "", false),
    ] {
        assert_eq!(ours(query, "", beside).needs_documents(), needed, "{query} {beside}");
    }
}

#[test]
fn ignored_values_show_without_source() {
    let bare = ours("", "", r#","_source":false"#);
    assert!(!bare.needs_documents_where(false));
    assert!(bare.needs_documents_where(true));
    assert!(!ours("filter_path=hits.hits._id", "", "").needs_documents_where(true));
    assert!(!ours("size=0", "", "").needs_documents_where(true));
    assert!(ours("", "", "").needs_documents_where(false));
}

#[test]
fn a_fetch_repeats_the_clients_wishes() {
    let search = ours(
        "pretty&_source_includes=a%2Cb&preference=m%26e&filter_path=hits.hits._source,-took&size=3",
        "",
        r#","_source": {"excludes": ["z"]},"fields":[{"field":"d","format":"x"}],"docvalue_fields":["n"],"version":true"#,
    );
    assert_eq!(
        search.fetch_body(&["1", "\"é"], 2, None),
        r#"{"query":{"ids":{"values":["1","\"é"]}},"size":2,"track_total_hits":false,"seq_no_primary_term":true,"version":true,"_source":{"excludes": ["z"]},"fields":[{"field":"d","format":"x"}],"docvalue_fields":["n"]}"#
    );
    let query = Params::parse(&search.fetch_query()).unwrap();
    assert_eq!(query.get("_source_includes"), Some("a,b"));
    assert_eq!(query.get("preference"), Some("m&e"));
    assert_eq!(query.get("pretty"), Some("true"));
    assert!(
        query.get("filter_path").unwrap().starts_with("hits.hits._source,timed_out,_shards,hits.hits._index")
    );
    assert!(!query.get("filter_path").unwrap().contains("-took"));
    assert_eq!(query.0.len(), 4);
    assert_eq!(ours("filter_path=-took", "", "").fetch_query(), "filter_path=%2Doutrigger");
    assert_eq!(ours("", "", "").fetch_query(), "");
}

#[test]
fn what_was_compared_must_be_seen() {
    let search = ours("", "", r#","_source":false"#);
    for (nested, filter) in [
        (None, r#"{"exists":{"field":"v"}}"#),
        (Some("p\""), r#"{"nested":{"path":"p\"","query":{"exists":{"field":"v"}}}}"#),
    ] {
        let body = search.fetch_body(&["1"], 1, Some(Seen { nested }));
        let expected = format!(
            r#"{{"query":{{"bool":{{"must":{{"ids":{{"values":["1"]}}}},"filter":{filter}}}}},"size":1,"track_total_hits":false,"seq_no_primary_term":true,"_source":false}}"#
        );
        assert_eq!(body, expected);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let caps = Capabilities::of("9.2.0".parse().unwrap()).unwrap();
        prop_assert!(parse_search(&bytes, &Params::default(), &caps).is_err());
    }

    #[test]
    fn mutated_bodies_never_panic_nor_break_limits(at in any::<prop::sample::Index>(), with in "[\\[\\]{}\",:0-9eE.\\-a-z\\\\]{0,3}", cut in 0usize..4) {
        let valid = body(r#","k":5,"num_candidates":50,"similarity":0.5,"boost":1.5,"filter":[]"#, r#","size":5,"from":1,"_source":{"includes":["a"]},"fields":["b"],"track_total_hits":3"#);
        let at = at.index(valid.len());
        let end = (at + cut).min(valid.len());
        let mutated = format!("{}{with}{}", &valid[..at], &valid[end..]);
        if let Ok(search) = read("", &mutated) {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&mutated).is_ok());
            prop_assert!((1..=10_000).contains(&search.k) && (search.k..=10_000).contains(&search.num_candidates));
            prop_assert!(search.from + search.size <= 10_000);
            prop_assert!(search.vector.iter().all(|value| value.is_finite()) && search.boost.is_finite());
            let fetch = search.fetch_body(&["1"], 1, Some(Seen { nested: None }));
            prop_assert!(serde_json::from_str::<serde_json::Value>(&fetch).is_ok());
        }
    }
}

#[test]
fn searches_with_one_wish_show_the_same_of_a_document() {
    let wish = |query: &str, beside: &str| ours(query, "", beside).document_wish();
    assert_eq!(wish("", r#","_source":["a"],"size":3"#), wish("", r#","_source":["a"],"from":2"#));
    let different = [
        wish("", ""),
        wish("", r#","_source":["a"]"#),
        wish("_source=a", ""),
        wish("pretty", ""),
        wish("filter_path=hits.hits._source.a", ""),
        wish("", r#","version":true"#),
    ];
    for (at, one) in different.iter().enumerate() {
        assert!(one.is_some() && !different[..at].contains(one), "{one:?}");
    }
    assert_eq!(wish("", r#","fields":["a"]"#), None, "the mapping of the day formats fields");
    assert_eq!(wish("docvalue_fields=a", ""), None);
}
