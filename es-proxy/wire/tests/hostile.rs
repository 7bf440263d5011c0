//! Search bodies that nobody means well with: whatever is mutilated is refused or read as `serde_json` reads
//! it, and size and depth cost no more than their length.

use es_wire::{Capabilities, FoundKnn, NotOurs, Params, find_knn, parse_search, read_msearch, with_ids};
use proptest::prelude::*;
use serde_json::{Value, json};

fn caps() -> Capabilities {
    Capabilities::of("9.2.0".parse().unwrap()).unwrap()
}

fn find(body: &str) -> Result<FoundKnn, NotOurs> {
    find_knn(body.as_bytes(), &Params::default(), &caps())
}

const KNN: &str =
    r#"{"field":"v","query_vector":[0.5,-1e2],"k":3,"num_candidates":7,"boost":1.5,"similarity":0.1}"#;

/// Bodies that are spliced.
fn spliced() -> Vec<String> {
    let filtered = KNN.replace("\"k\"", r#""filter":{"term":{"a":"x"}},"k""#);
    let several = KNN.replace("\"k\"", r#""filter":[{"term":{"a":"x"}},{"range":{"n":{"gte":1}}}],"k""#);
    vec![
        format!(r#"{{"knn":[{KNN},{filtered}],"query":{{"match":{{"t":"a b"}}}},"size":4}}"#),
        format!(
            r#"{{"query":{{"bool":{{"must":[{{"knn":{several}}}],"should":{{"dis_max":{{"queries":[{{"knn":{KNN}}}]}}}}}}}},"aggs":{{"a":{{"terms":{{"field":"a"}}}}}}}}"#
        ),
        format!(
            r#"{{"query":{{"function_score":{{"query":{{"constant_score":{{"filter":{{"knn":{KNN}}}}}}},"weight":2}}}},"sort":["_score"]}}"#
        ),
        format!(
            r#"{{"retriever":{{"rescorer":{{"retriever":{{"knn":{KNN}}},"rescore":{{"query":{{"rescore_query":{{"match_all":{{}}}}}}}}}}}},"profile":true}}"#
        ),
    ]
}

/// Numbers as float32, so that both readings can be compared.
fn values(vector: &Value) -> Vec<f32> {
    vector.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

/// All knn objects, in the order of the text: `serde_json` keeps it here only inside arrays, so they are compared as sets.
fn knn_of(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match (key.as_str(), value) {
                    ("knn", Value::Array(several)) => found.extend(several.iter().cloned()),
                    ("knn", one) => found.push(one.clone()),
                    (_, value) => knn_of(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| knn_of(value, found)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn mutilated_bodies_are_refused_or_mean_what_serde_json_reads(
        which in 0usize..4,
        at in any::<prop::sample::Index>(),
        with in "[\\[\\]{}\",:0-9eE.\\-a-z\\\\ ]{0,4}",
        cut in 0usize..6,
    ) {
        let valid = &spliced()[which];
        let at = at.index(valid.len());
        let end = (at + cut).min(valid.len());
        let mutated = format!("{}{with}{}", &valid[..at], &valid[end..]);
        // Nothing panics, whatever comes out.
        let _ = parse_search(mutated.as_bytes(), &Params::default(), &caps());
        if let Ok(found) = find(&mutated) {
            let theirs: Value = serde_json::from_str(&mutated).unwrap();
            let mut knn = Vec::new();
            knn_of(&theirs, &mut knn);
            prop_assert_eq!(found.sites.len(), knn.len());
            for site in &found.sites {
                let same = |knn: &&Value| {
                    knn["field"] == json!(site.field) && values(&knn["query_vector"]) == site.vector
                };
                prop_assert!(knn.iter().any(|knn| same(&knn)), "{}: {:?}", mutated, site);
            }
            let ids = vec![vec!["i\"d"]; found.sites.len()];
            let whole = with_ids(&found.sites, &ids).of(mutated.as_bytes());
            let ours: Value = serde_json::from_slice(&whole).unwrap();
            let mut restricted = Vec::new();
            knn_of(&ours, &mut restricted);
            let named = json!({"ids": {"values": ["i\"d"]}});
            for knn in &restricted {
                let filter = &knn["filter"];
                let holds = *filter == named || filter.as_array().is_some_and(|several| several.contains(&named));
                prop_assert!(holds, "{}", ours);
            }
        }
    }

    #[test]
    fn mutilated_lines_never_panic(at in any::<prop::sample::Index>(), with in "[\\[\\]{}\",:\\n0-9a-z]{0,4}", cut in 0usize..6) {
        let valid = format!("{{\"index\":[\"a\",\"b\"]}}\n{{\"knn\":{KNN}}}\n{{}}\n{{\"size\":1}}\n");
        let at = at.index(valid.len());
        let end = (at + cut).min(valid.len());
        let mutated = format!("{}{with}{}", &valid[..at], &valid[end..]);
        if let Ok(items) = read_msearch(mutated.as_bytes(), 1_000) {
            prop_assert_eq!(items.len() * 2, mutated.lines().count());
        }
    }
}

/// Each of these would take minutes if anything were done more than a few times for each byte.
#[test]
fn size_and_depth_cost_no_more_than_their_length() {
    let many_knn = format!(r#"{{"knn":[{}]}}"#, vec![KNN; 10_000].join(","));
    assert_eq!(find(&many_knn), Err(NotOurs("many_knn")));
    for depth in [1_000, 100_000] {
        let nested =
            format!("{}{{\"knn\":{KNN}}}{}", r#"{"bool":{"must":"#.repeat(depth), "}}".repeat(depth));
        assert!(find(&format!("{{\"query\":{nested}}}")).is_err());
        let brackets = format!(r#"{{"knn":{KNN},"sort":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(
            find(&brackets).is_err()
                && parse_search(brackets.as_bytes(), &Params::default(), &caps()).is_err()
        );
    }
    let keys: Vec<String> = (0..1_000_000).map(|n| format!("\"k{n}\":1")).collect();
    let keys = keys.join(",");
    for body in [
        format!(r#"{{"query":{{"bool":{{{keys},"must":{{"knn":{KNN}}}}}}}}}"#),
        format!(r#"{{"query":{{{keys}}},"knn":{KNN}}}"#),
        format!(r#"{{{keys},"knn":{KNN}}}"#),
    ] {
        assert!(find(&body).is_err());
        assert!(parse_search(body.as_bytes(), &Params::default(), &caps()).is_err());
    }
    // A large part that is Elasticsearch's is only skipped.
    let large = format!(r#"{{"knn":{KNN},"aggs":{{{keys}}}}}"#);
    assert_eq!(find(&large).map(|found| found.sites.len()), Ok(1));
    let deep_source = format!("{}{{{keys}}}{}", r#"{"a":"#.repeat(150), "}".repeat(150));
    let source = format!(r#"{{"knn":{KNN},"_source":{deep_source}}}"#);
    assert!(parse_search(source.as_bytes(), &Params::default(), &caps()).is_err());
}
