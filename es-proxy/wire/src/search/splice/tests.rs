//! Where knn is found, what is added, what passes.

use serde_json::{Value, json};

use super::*;

fn find(body: &str, version: &str) -> Result<Vec<KnnSite>, NotOurs> {
    find_with(body, "", version)
}

fn find_with(body: &str, url: &str, version: &str) -> Result<Vec<KnnSite>, NotOurs> {
    let caps = Capabilities::of(version.parse().unwrap()).unwrap();
    find_knn(body.as_bytes(), &Params::parse(url).unwrap(), &caps).map(|found| found.sites)
}

const KNN: &str = r#"{"field":"v","query_vector":[1,2],"k":3,"num_candidates":7}"#;

#[test]
fn every_place_is_found_in_its_order() {
    for (body, reaches) in [
        (format!(r#"{{"knn":{KNN},"query":{{"match_all":{{}}}}}}"#), vec![Reach::Global]),
        (format!(r#"{{"knn":[{KNN},{KNN}],"size":4}}"#), vec![Reach::Global; 2]),
        (
            format!(r#"{{"query":{{"knn":{KNN}}},"aggs":{{"a":{{"terms":{{"field":"t"}}}}}}}}"#),
            vec![Reach::EachShard],
        ),
        (
            format!(
                r#"{{"query":{{"bool":{{"must":[{{"knn":{KNN}}},{{"match":{{"t":"x"}}}}],"should":{{"dis_max":{{"queries":[{{"knn":{KNN}}}],"tie_breaker":0.5}}}}}}}},"knn":{KNN}}}"#
            ),
            vec![Reach::EachShard, Reach::EachShard, Reach::Global],
        ),
        (
            format!(
                r#"{{"retriever":{{"rrf":{{"retrievers":[{{"standard":{{"query":{{"constant_score":{{"filter":{{"knn":{KNN}}}}}}}}}}},{{"retriever":{{"knn":{KNN}}},"weight":2}}],"rank_constant":5}}}}}}"#
            ),
            vec![Reach::EachShard, Reach::Global],
        ),
    ] {
        let sites = find(&body, "9.2.0").unwrap_or_else(|reason| panic!("{body}: {reason:?}"));
        assert_eq!(sites.iter().map(|site| site.reach).collect::<Vec<_>>(), reaches, "{body}");
        assert!(
            sites.iter().all(|site| (site.k, site.num_candidates) == (3, 7) && site.vector == [1.0, 2.0])
        );
    }
}

#[test]
fn the_filter_is_all_that_is_added() {
    let body = format!(
        r#" {{ "query" : {{"bool":{{"should":[{{"knn": {KNN} }}]}}}}, "knn":{KNN}, "sort":["_score"]}}"#
    );
    let sites = find(&body, "9.2.0").unwrap();
    let ids = [vec!["a", "quo\"te"], vec!["b"]];
    let spliced: Value = serde_json::from_slice(&with_ids(&sites, &ids).of(body.as_bytes())).unwrap();
    let mut wanted: Value = serde_json::from_str(&body).unwrap();
    wanted["query"]["bool"]["should"][0]["knn"]["filter"] = json!({"ids": {"values": ["a", "quo\"te"]}});
    wanted["knn"]["filter"] = json!({"ids": {"values": ["b"]}});
    assert_eq!(spliced, wanted);
}

#[test]
fn our_filter_stands_beside_the_clients() {
    for (own, wanted) in [
        (r#" { "term":{"a":1} } "#, r#" [{ "term":{"a":1} },IDS] "#),
        (r#"[{"term":{"a":1}} , {"b":2} ]"#, r#"[{"term":{"a":1}} , {"b":2} ,IDS]"#),
        ("[ ]", "[ IDS]"),
    ] {
        let knn = |filter: &str| {
            format!(r#"{{"field":"v","filter":{filter},"query_vector":[1],"k":1,"num_candidates":2}}"#)
        };
        let search = |filter: &str| {
            format!(r#"{{"query":{{"bool":{{"must":{{"knn":{}}}}}}},"knn":{KNN}}}"#, knn(filter))
        };
        let body = search(own);
        let sites = find(&body, "9.2.0").unwrap();
        let filters: Vec<&str> = sites[0].filters.iter().map(|raw| &**raw).collect();
        assert_eq!(filters.first().copied(), Some(own.trim()).filter(|own| *own != "[ ]"), "{own}");
        let spliced = with_ids(&sites, &[vec!["x"], vec!["y"]]).of(body.as_bytes());
        let ids = |id: &str| format!(r#"{{"ids":{{"values":["{id}"]}}}}"#);
        let wanted = search(&wanted.replace("IDS", &ids("x")));
        let wanted = format!(r#"{},"filter":{}}}}}"#, &wanted[..wanted.len() - 2], ids("y"));
        assert_eq!(String::from_utf8(spliced).unwrap(), wanted);
    }
}

#[test]
fn filters_of_retrievers_reach_the_knn_retrievers_below() {
    let filters = |retriever: &str| {
        let sites =
            find(&format!(r#"{{"retriever":{retriever}}}"#), "9.2.0").map_err(|NotOurs(reason)| reason)?;
        Ok::<_, &str>(sites.into_iter().map(|site| site.filters.join(" ")).collect::<Vec<_>>())
    };
    let knn = KNN.replace("\"k\":3", r#""k":3,"filter":{"own":1}"#);
    assert_eq!(
        filters(&format!(
            r#"{{"rrf":{{"retrievers":[{{"knn":{knn}}},{{"linear":{{"filter":[{{"in":1}}],"retrievers":[{{"retriever":{{"knn":{KNN}}},"weight":2}}]}}}},{{"knn":{KNN}}}],"\u0066ilter":{{"out":1}}}}}}"#
        )),
        Ok(vec![
            r#"{"own":1} {"out":1}"#.to_owned(),
            r#"{"out":1} [{"in":1}]"#.to_owned(),
            r#"{"out":1}"#.to_owned()
        ])
    );
    // That of a standard retriever restricts what its query found.
    assert_eq!(
        filters(&format!(r#"{{"standard":{{"filter":{{"a":1}},"query":{{"knn":{KNN}}}}}}}"#)),
        Ok(vec![String::new()])
    );
    assert_eq!(
        filters(&format!(
            r#"{{"text_similarity_reranker":{{"filter":{{"a":1}},"retriever":{{"knn":{KNN}}}}}}}"#
        )),
        Err("filter")
    );
}

#[test]
fn what_is_not_known_passes() {
    for (body, reason) in [
        (r#"{"query":{"match_all":{}}}"#.to_owned(), "no_knn"),
        (format!(r#"{{"knn":{KNN},"aggs":{{"f":{{"filter":{{"knn":{KNN}}}}}}}}}"#), "knn_elsewhere"),
        (format!(r#"{{"query":{{"has_child":{{"type":"n","query":{{"knn":{KNN}}}}}}}}}"#), "knn_elsewhere"),
        (
            format!(r#"{{"knn":{KNN},"rescore":{{"query":{{"rescore_query":{{"\u006bnn":{KNN}}}}}}}}}"#),
            "knn_elsewhere",
        ),
        (r#"{"knn":{"field":"v","query_vector":[1],"filter":null}}"#.to_owned(), "filter_shape"),
        (
            r#"{"knn":{"field":"v","query_vector":[1],"filter":{}},"runtime_mappings":{"a":{"type":"long"}}}"#
                .to_owned(),
            "runtime_mappings",
        ),
        (
            r#"{"knn":{"field":"v","query_vector":[1],"new_option":{"oversample":2}}}"#.to_owned(),
            "unknown_key",
        ),
        (r#"{"knn":{"field":"v","query_vector_builder":{}}}"#.to_owned(), "unknown_key"),
        (format!(r#"{{"knn":{KNN},"knn":{KNN}}}"#), "duplicate_key"),
        (format!(r#"{{"knn":{KNN},"profile":"true"}}"#), "value"),
        (format!(r#"{{"knn":{KNN},"new_thing":1}}"#), "unknown_key"),
        (r#"{"retriever":{"knn":{"field":"v","query_vector":[1],"k":1}}}"#.to_owned(), "k"),
        (format!(r#"{{"knn":{KNN}"#), "malformed"),
    ] {
        assert_eq!(find(&body, "9.2.0"), Err(NotOurs(reason)), "{body}");
    }
    assert_eq!(find_with(&format!(r#"{{"knn":{KNN}}}"#), "lookup=a", "9.2.0"), Err(NotOurs("parameter")));
}

#[test]
fn the_defaults_of_the_knn_query_follow_the_version() {
    let effort = |version: &str, members: &str, url: &str| {
        let body = format!(r#"{{"query":{{"knn":{{"field":"v","query_vector":[1]{members}}}}},"size":8}}"#);
        find_with(&body, url, version)
            .map(|sites| (sites[0].k, sites[0].num_candidates))
            .map_err(|NotOurs(reason)| reason)
    };
    for (version, members, url, wanted) in [
        ("8.11.0", r#","num_candidates":5"#, "", Err("version")),
        ("8.12.0", "", "", Err("k")),
        ("8.12.0", r#","num_candidates":5"#, "", Ok((5, 5))),
        ("8.14.0", "", "", Ok((12, 12))),
        ("8.14.0", r#","k":2"#, "", Err("k")),
        ("8.15.0", "", "size=4", Ok((6, 6))),
        ("8.15.0", r#","k":3"#, "", Ok((3, 5))),
        ("8.15.0", r#","num_candidates":5"#, "", Ok((5, 5))),
        ("9.2.0", "", "", Ok((8, 12))),
        ("9.2.0", r#","num_candidates":5"#, "", Ok((5, 5))),
        ("9.2.0", "", "size=0", Err("k")),
        ("9.2.0", r#","k":3"#, "size=0", Ok((3, 5))),
    ] {
        assert_eq!(effort(version, members, url), wanted, "{version} {members} {url}");
    }
}

#[test]
fn what_is_said_of_rescoring_shows_no_estimates() {
    let body = |rescore: &str| {
        format!(
            r#"{{"knn":{{"field":"v","rescore_vector": {rescore} ,"query_vector":[1,2],"k":3,"num_candidates":7}}}}"#
        )
    };
    for (version, rescore, wanted) in [
        ("8.15.0", r#"{"oversample":2}"#, Err("unknown_key")),
        ("8.18.0", r#"{"oversample":2}"#, Ok(true)),
        ("8.18.0", r#"{"oversample":0}"#, Err("value")),
        ("9.0.0", r#"{"oversample":0}"#, Err("value")),
        ("8.19.0", r#"{"oversample":0}"#, Ok(true)),
        ("9.2.0", r#"{"oversample":0.5}"#, Err("value")),
        ("9.2.0", r#"{"oversample":-1}"#, Err("value")),
        ("9.2.0", r#"{"oversample":"2"}"#, Err("value")),
        ("9.2.0", r#"{"oversample":2,"oversample":3}"#, Err("unknown_key")),
        ("9.2.0", r#"{}"#, Err("value")),
        ("9.2.0", r#"{"other":2}"#, Err("unknown_key")),
    ] {
        let found = find(&body(rescore), version).map(|sites| sites[0].rescores);
        assert_eq!(found.map_err(|NotOurs(reason)| reason), wanted, "{version} {rescore}");
    }
    let off = body(r#"{"oversample":0.0}"#);
    let whole = with_ids(&find(&off, "9.2.0").unwrap(), &[vec!["a"]]).of(off.as_bytes());
    let whole: Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(whole["knn"]["rescore_vector"], json!({"oversample": 1.0}));
    assert_eq!(whole["knn"]["filter"], json!({"ids": {"values": ["a"]}}));
    assert_eq!(whole["knn"]["k"], 3);
    let on = body(r#"{"oversample":2}"#);
    let whole = with_ids(&find(&on, "9.2.0").unwrap(), &[vec!["a"]]).of(on.as_bytes());
    let whole: Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(whole["knn"]["rescore_vector"], json!({"oversample": 2}));
}

#[test]
fn where_nothing_was_found_an_id_is_named_that_no_document_has() {
    let body = format!(r#"{{"knn":{KNN}}}"#);
    let whole = with_ids::<&str>(&find(&body, "9.2.0").unwrap(), &[vec![]]).of(body.as_bytes());
    let whole: Value = serde_json::from_slice(&whole).unwrap();
    let ids = whole["knn"]["filter"]["ids"]["values"].as_array().unwrap();
    assert!(ids.len() == 1 && ids[0].as_str().unwrap().len() > 512);
}

#[test]
fn knn_in_a_nested_query_knows_its_path() {
    let nested = |inside: &str| {
        format!(
            r#"{{"query":{{"bool":{{"must":{{"nested":{{"query":{inside},"path":"p.q","score_mode":"max","inner_hits":{{"size":2}}}}}},"should":{{"knn":{KNN}}}}}}}}}"#
        )
    };
    let knn = format!(r#"{{"knn":{KNN}}}"#);
    let sites = find(&nested(&knn), "9.2.0").unwrap();
    let paths: Vec<_> = sites.iter().map(|site| site.nested.as_deref()).collect();
    assert_eq!(paths, [Some("p.q"), None]);
    let spliced = with_ids(&sites, &[vec!["1"], vec!["2"]]).of(nested(&knn).as_bytes());
    let spliced: Value = serde_json::from_slice(&spliced).unwrap();
    let inside = &spliced["query"]["bool"]["must"]["nested"]["query"]["knn"];
    assert_eq!(inside["filter"], json!({"ids": {"values": ["1"]}}));
    assert_eq!(
        find(&nested(&format!(r#"{{"nested":{{"path":"p","query":{knn}}}}}"#)), "9.2.0"),
        Err(NotOurs("nested"))
    );
    let without_path = format!(r#"{{"query":{{"nested":{{"query":{knn}}}}}}}"#);
    assert_eq!(find(&without_path, "9.2.0"), Err(NotOurs("nested")));
    let section = KNN.replace("}", r#","inner_hits":{"_source":false}}"#);
    assert_eq!(find(&format!(r#"{{"knn":{section}}}"#), "8.15.3").unwrap().len(), 1);
    assert_eq!(find(&format!(r#"{{"query":{{"knn":{section}}}}}"#), "8.15.3"), Err(NotOurs("inner_hits")));
    let hidden = KNN.replace("}", r#","inner_hits":{"sort":{"knn":1}}}"#);
    assert_eq!(find(&format!(r#"{{"knn":{hidden}}}"#), "8.15.3"), Err(NotOurs("knn_elsewhere")));
    // Hits that are there for another reason have inner hits, too.
    let with_inner = format!(r#"{{"nested":{{"path":"p","query":{knn},"inner_hits":{{}}}}}}"#);
    let plain = r#"{"match":{"t":"x"}}"#;
    for (body, ours) in [
        (format!(r#"{{"query":{with_inner}}}"#), true),
        (format!(r#"{{"query":{{"bool":{{"filter":[{with_inner},{plain}],"should":{knn}}}}}}}"#), true),
        (format!(r#"{{"query":{{"bool":{{"should":[{with_inner},{plain}]}}}}}}"#), false),
        (format!(r#"{{"query":{{"dis_max":{{"queries":[{with_inner},{plain}]}}}}}}"#), false),
        (format!(r#"{{"query":{with_inner},"knn":{KNN}}}"#), false),
        (format!(r#"{{"query":{plain},"knn":{section}}}"#), false),
        (format!(r#"{{"knn":[{section},{KNN}]}}"#), false),
    ] {
        let found = find(&body, "9.2.0");
        assert!(if ours { found.is_ok() } else { found == Err(NotOurs("inner_hits")) }, "{body}: {found:?}");
    }
    assert_eq!(find_with(&format!(r#"{{"knn":{section}}}"#), "q=x", "9.2.0"), Err(NotOurs("inner_hits")));
}
