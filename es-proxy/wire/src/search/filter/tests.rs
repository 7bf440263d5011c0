//! Which filters may be remembered, and under which text.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn fields() -> FilterFields {
    FilterFields::read(
        &json!({"properties": {
            "k": {"type": "keyword"}, "t": {"type": "text"}, "n": {"type": "long"}, "b": {"type": "boolean"},
            "d": {"type": "date"}, "i": {"type": "ip"}, "v": {"type": "dense_vector"}, "boost": {"type": "keyword"},
            "o": {"properties": {"k": {"type": "keyword"}}}, "quo\"te": {"type": "keyword"},
        }}),
        &json!({}),
    )
}

fn read(raw: &str) -> Result<String, &'static str> {
    let read = read_filter(raw, &fields());
    read.map(|filter| filter.query().to_owned()).map_err(|NotOurs(label)| label)
}

#[test]
fn the_list_is_accepted_in_all_its_spellings() {
    for raw in [
        r#"{"term":{"k":"a"}}"#,
        r#"{"term":{"k":1}}"#,
        r#"{"term":{"k":true}}"#,
        r#"{"term":{"o.k":{"value":"a","boost":1.0,"case_insensitive":true}}}"#,
        r#"{"term":{"n":-2.50}}"#,
        r#"{"term":{"n":"5"}}"#,
        r#"{"term":{"b":"true"}}"#,
        r#"{"term":{"d":1700000000000}}"#,
        r#"{"term":{"i":"10.0.0.0/8"}}"#,
        r#"{"term":{"t":"word"}}"#,
        r#"{"terms":{"k":["a","b"],"boost":2}}"#,
        r#"{"terms":{"boost":["a"]}}"#,
        r#"{"terms":{"n":[]}}"#,
        r#"{"range":{"n":{"gte":1,"lt":2.5e3}}}"#,
        r#"{"range":{"d":{"gte":"2020-01-01||/M","lte":"2021","format":"yyyy-MM-dd||yyyy","time_zone":"+01:00"}}}"#,
        r#"{"range":{"n":{"gt":null,"lte":3,"boost":1}}}"#,
        r#"{"range":{"k":{"gt":"now"}}}"#,
        r#"{"exists":{"field":"v"}}"#,
        r#"{"exists":{"field":"k","boost":1}}"#,
        r#"{"ids":{"values":["1","2"]}}"#,
        r#"{"ids":{"values":"1"}}"#,
        r#"{"match_all":{}}"#,
        r#"{"match_none":{"boost":1}}"#,
        r#"{"constant_score":{"filter":{"term":{"k":"a"}},"boost":3}}"#,
        r#"{"match":{"t":"two words"}}"#,
        r#"{"match":{"t":{"query":"two words","operator":"and","minimum_should_match":"75%","zero_terms_query":"all","lenient":true}}}"#,
        r#"{"match":{"n":7}}"#,
        r#"{"match_phrase":{"t":{"query":"two words","slop":2}}}"#,
        r#"{"bool":{}}"#,
        r#"{"bool":{"must":{"term":{"k":"a"}},"filter":[{"term":{"n":1}},{"bool":{"must_not":[{"exists":{"field":"d"}}]}}],"should":[],"minimum_should_match":1,"adjust_pure_negative":true,"boost":1}}"#,
    ] {
        assert_eq!(read(raw).as_deref(), Ok(raw));
    }
}

#[test]
fn everything_else_is_not_ours() {
    for (raw, label) in [
        (r#"{"term":{"zz":"a"}}"#, "filter_field"),
        (r#"{"term":{"_id":"a"}}"#, "filter_field"),
        (r#"{"term":{"_index":"a"}}"#, "filter_field"),
        (r#"{"term":{"v":1}}"#, "filter_field"),
        (r#"{"term":{"k":"a","n":1}}"#, "filter_shape"),
        (r#"{"term":{}}"#, "filter_shape"),
        (r#"{"term":{"k":{}}}"#, "filter_shape"),
        (r#"{"term":{"k":{"value":"a","_name":"x"}}}"#, "filter_option"),
        (r#"{"term":{"n":{"value":1,"case_insensitive":true}}}"#, "filter_option"),
        (r#"{"term":{"k":{"value":"a","value":"a"}}}"#, "duplicate_key"),
        (r#"{"term":{"k":null}}"#, "filter_value"),
        (r#"{"term":{"k":["a"]}}"#, "filter_value"),
        (r#"{"term":{"n":true}}"#, "filter_value"),
        (r#"{"term":{"n":1e999}}"#, "filter_value"),
        (r#"{"match_all":{"boost":1e999}}"#, "filter_value"),
        (r#"{"term":{"i":1}}"#, "filter_value"),
        (r#"{"term":{"b":1}}"#, "filter_value"),
        (r#"{"term":"k"}"#, "filter_shape"),
        (r#"{"term":{"d":"now"}}"#, "filter_now"),
        (r#"{"term":{"d":"\u006eow/d"}}"#, "filter_now"),
        (r#"{"terms":{"d":["2020","now-1d"]}}"#, "filter_now"),
        (r#"{"match":{"d":{"query":"now"}}}"#, "filter_now"),
        (r#"{"range":{"d":{"gte":"now-1d"}}}"#, "filter_now"),
        (r#"{"terms":{"k":{"index":"x","id":"1","path":"p"}}}"#, "filter_lookup"),
        (r#"{"terms":{"k":["a"],"n":[1]}}"#, "filter_shape"),
        (r#"{"terms":{"k":"a"}}"#, "filter_option"),
        (r#"{"terms":{"k":[null]}}"#, "filter_value"),
        (r#"{"terms":{"boost":1}}"#, "filter_shape"),
        (r#"{"range":{"t":{"gte":"a"}}}"#, "filter_field"),
        (r#"{"range":{"b":{"gte":true}}}"#, "filter_field"),
        (r#"{"range":{"n":{"gte":1,"relation":"within"}}}"#, "filter_option"),
        (r#"{"range":{"n":{"gte":1,"format":"x"}}}"#, "filter_option"),
        (r#"{"range":{"n":{"from":1}}}"#, "filter_option"),
        (r#"{"range":{"n":5}}"#, "filter_shape"),
        (r#"{"exists":{"field":"k*"}}"#, "filter_field"),
        (r#"{"exists":{"field":"o"}}"#, "filter_field"),
        (r#"{"exists":{}}"#, "filter_shape"),
        (r#"{"exists":{"field":1}}"#, "filter_value"),
        (r#"{"ids":{}}"#, "filter_shape"),
        (r#"{"ids":{"values":[1]}}"#, "filter_value"),
        (r#"{"match":{"t":{"query":"x","fuzziness":"AUTO"}}}"#, "filter_option"),
        (r#"{"match":{"t":{"query":"x","analyzer":"simple"}}}"#, "filter_option"),
        (r#"{"match_phrase":{"n":1}}"#, "filter_field"),
        (r#"{"match_phrase_prefix":{"t":"x"}}"#, "filter_query"),
        (r#"{"constant_score":{}}"#, "filter_shape"),
        (r#"{"constant_score":{"filter":[{"match_all":{}}]}}"#, "filter_shape"),
        (r#"{"bool":{"must":[{"prefix":{"k":"a"}}]}}"#, "filter_query"),
        (r#"{"bool":{"mustNot":[]}}"#, "filter_option"),
        (r#"{"bool":{"_name":"x"}}"#, "filter_option"),
        (r#"{"bool":{"minimum_should_match":1.5}}"#, "filter_value"),
        (r#"{"bool":{"boost":-1}}"#, "filter_value"),
        (r#"{"match_all":{},"match_none":{}}"#, "filter_shape"),
        (r#"{}"#, "filter_shape"),
        (r#"[]"#, "filter_shape"),
        (r#"[[{"match_all":{}}]]"#, "filter_shape"),
        (r#""x""#, "filter_shape"),
        (r#"null"#, "filter_shape"),
        (r#"{"match_all":{}}} "#, "malformed"),
        (r#"{"match_all":{}"#, "malformed"),
        (r#"[{"match_all":{}},]"#, "malformed"),
        (r#"{"knn":{"field":"v","query_vector":[1]}}"#, "filter_query"),
        (r#"{"nested":{"path":"n","query":{"match_all":{}}}}"#, "filter_query"),
        (r#"{"query_string":{"query":"k:a"}}"#, "filter_query"),
        (r#"{"script":{"script":"true"}}"#, "filter_query"),
        (r#"{"wildcard":{"k":"a*"}}"#, "filter_query"),
        (r#"{"fuzzy":{"k":"a"}}"#, "filter_query"),
        (r#"{"more_like_this":{"like":"a"}}"#, "filter_query"),
        (r#"{"percolate":{}}"#, "filter_query"),
        (r#"{"has_child":{}}"#, "filter_query"),
        (r#"{"function_score":{"min_score":1}}"#, "filter_query"),
    ] {
        assert_eq!(read(raw), Err(label), "{raw}");
    }
}

#[test]
fn what_means_the_same_to_the_letter_has_one_text() {
    let same = |a: &str, b: &str| assert_eq!(read(a).unwrap(), read(b).unwrap());
    same(r#" { "term" : { "k" : "a" } } "#, r#"[{"\u0074erm":{"k":"\u0061"}}]"#);
    same(
        r#"[{"term":{"k":"a"}},{"term":{"n":1}}]"#,
        r#"{"bool":{"filter":[{"term":{"k":"a"}},{"term":{"n":1}}]}}"#,
    );
    assert_eq!(read(r#"{"term":{"quo\"te":"a\/\nb"}}"#).unwrap(), r#"{"term":{"quo\"te":"a/\nb"}}"#);
    assert_ne!(read(r#"{"term":{"n":1}}"#), read(r#"{"term":{"n":1.0}}"#));
    let of_alias =
        read_filters(&[r#"{"term":{"k":"a"}}"#, r#"[{"term":{"n":1}},{"match_all":{}}]"#], &fields());
    assert_eq!(
        of_alias.unwrap().query(),
        r#"{"bool":{"filter":[{"term":{"k":"a"}},{"term":{"n":1}},{"match_all":{}}]}}"#
    );
}

#[test]
fn another_mapping_of_its_field_is_another_filter() {
    let under = |definition: Value| {
        let fields = FilterFields::read(
            &json!({"properties": {"k": definition, "other": {"type": "ip"}}}),
            &json!({}),
        );
        (
            read_filter(r#"{"term":{"k":"a"}}"#, &fields).unwrap(),
            read_filter(r#"{"exists":{"field":"other"}}"#, &fields).unwrap(),
        )
    };
    let (term, exists) = under(json!({"type": "keyword"}));
    let (other_term, same_exists) = under(json!({"type": "text"}));
    assert_eq!((exists, term.query()), (same_exists, other_term.query()));
    assert_ne!(term, other_term);
}

#[test]
fn size_is_bounded() {
    let list = |count: usize| format!(r#"{{"terms":{{"n":[{}]}}}}"#, vec!["12345"; count].join(","));
    assert!(read(&list(2_000)).is_ok());
    assert_eq!(read(&list(3_000)), Err("filter_size"));
    assert_eq!(read(&list(65_536)), Err("filter_size"));
    let deep = |depth: usize| {
        format!(
            "{}{{\"match_all\":{{}}}}{}",
            r#"{"constant_score":{"filter":"#.repeat(depth),
            "}}".repeat(depth)
        )
    };
    assert!(read(&deep(16)).is_ok());
    assert_eq!(read(&deep(17)), Err("filter_size"));
    assert!(read(&deep(10_000)).is_err());
    let wide = |count: usize| format!("[{}]", vec![r#"{"match_all":{}}"#; count].join(","));
    assert!(read(&wide(256)).is_ok());
    assert_eq!(read(&wide(257)), Err("filter_size"));
}

/// A filter as a client might send it.
fn clause() -> impl Strategy<Value = Value> {
    let word = || "[a-zé\"\\\\\n ]{0,6}";
    let leaf = prop_oneof![
        word().prop_map(|word| json!({"term": {"k": word}})),
        any::<i32>().prop_map(|number| json!({"term": {"n": {"value": number}}})),
        prop::collection::vec(word(), 0..4).prop_map(|words| json!({"terms": {"o.k": words}})),
        (any::<i16>(), any::<f32>().prop_filter("finite", |f| f.is_finite()))
            .prop_map(|(low, high)| json!({"range": {"n": {"gte": low, "lt": high}}})),
        word().prop_map(|word| json!({"match": {"t": {"query": word, "operator": "or"}}})),
        word().prop_map(|word| json!({"match_phrase": {"t": word}})),
        prop::collection::vec(word(), 0..4).prop_map(|words| json!({"ids": {"values": words}})),
        Just(json!({"exists": {"field": "d"}})),
        Just(json!({"match_all": {}})),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|filter| json!({"constant_score": {"filter": filter}})),
            (prop::collection::vec(inner.clone(), 0..3), prop::collection::vec(inner.clone(), 0..3), inner)
                .prop_map(
                    |(must, should, not)| json!({"bool": {"must": must, "should": should, "must_not": not}})
                ),
        ]
    })
}

proptest! {
    #[test]
    fn the_text_means_what_the_client_wrote(filter in clause(), pretty in any::<bool>()) {
        let raw = if pretty { serde_json::to_string_pretty(&filter) } else { serde_json::to_string(&filter) }.unwrap();
        let text = read(&raw).unwrap();
        // Its numbers are those that stand there, which are not quite those that were drawn.
        let written: Value = serde_json::from_str(&raw).unwrap();
        prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), written);
        prop_assert_eq!(read(&text), Ok(text), "the text is its own spelling");
    }

    #[test]
    fn mutated_filters_are_refused_or_mean_what_serde_json_reads(filter in clause(), at in any::<prop::sample::Index>(), with in "[\\[\\]{}\",:0-9eE.\\-a-z\\\\]{0,3}", cut in 0usize..4) {
        let raw = filter.to_string();
        let bounds: Vec<usize> = raw.char_indices().map(|(at, _)| at).chain([raw.len()]).collect();
        let at = at.index(bounds.len());
        let end = (at + cut).min(bounds.len() - 1);
        let mutated = format!("{}{with}{}", &raw[..bounds[at]], &raw[bounds[end]..]);
        if let Ok(text) = read(&mutated) {
            let theirs: Value = serde_json::from_str(&mutated).unwrap();
            let theirs = match theirs {
                Value::Array(several) if several.len() == 1 => several.into_iter().next().unwrap(),
                Value::Array(several) => json!({"bool": {"filter": several}}),
                one => one,
            };
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), theirs);
        }
    }
}
