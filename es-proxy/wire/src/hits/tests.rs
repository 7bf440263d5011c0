//! Answers, compared with what 9.2.0 and 8.15.3 gave for the same searches.

use super::*;
use crate::{Capabilities, Params, parse_search};

fn search(version: &str, query: &str, beside: &str) -> KnnSearch {
    let body =
        format!(r#"{{"knn":{{"field":"v","query_vector":[1,0,0],"k":4,"num_candidates":10}}{beside}}}"#);
    let caps = Capabilities::of(version.parse().unwrap()).unwrap();
    parse_search(body.as_bytes(), &Params::parse(query).unwrap(), &caps).unwrap()
}

fn hit<'a>(id: &'a str, score: f32, seq_no: u64, routing: Option<&'a str>) -> ScoredHit<'a> {
    ScoredHit { index: "x1", index_uuid: "u1", id, routing, score, seq_no, primary_term: 1 }
}

fn outcome<'a>(page: &'a [ScoredHit<'a>]) -> Outcome<'a> {
    Outcome { took_ms: 5, shards: 1, total: 4, max_score: Some(1.0), page }
}

fn rendered(version: &str, query: &str, beside: &str, page: &[ScoredHit<'_>]) -> String {
    render(&search(version, query, beside), &outcome(page))
}

const HEAD: &str =
    r#"{"took":5,"timed_out":false,"_shards":{"total":1,"successful":1,"skipped":0,"failed":0},"hits":{"#;

#[test]
fn bare_hits() {
    let page = [hit("1", 1.0, 0, None), hit("4", 0.1, 3, Some("r"))];
    assert_eq!(
        rendered("9.2.0", "", r#","_source":false"#, &page),
        format!(
            r#"{HEAD}"total":{{"value":4,"relation":"eq"}},"max_score":1.0,"hits":[{{"_index":"x1","_id":"1","_score":1.0}},{{"_index":"x1","_id":"4","_score":0.1,"_routing":"r"}}]}}}}"#
        )
    );
    assert!(
        rendered("9.2.0", "seq_no_primary_term=true", "", &page[1..]).contains(
            r#"{"_index":"x1","_id":"4","_seq_no":3,"_primary_term":1,"_score":0.1,"_routing":"r"}"#
        )
    );
}

#[test]
fn totals_and_the_best_score() {
    let none = |query: &str, beside: &str| rendered("9.2.0", query, beside, &[]).replace(HEAD, "");
    assert_eq!(
        none("", r#","size":0"#),
        r#""total":{"value":4,"relation":"eq"},"max_score":null,"hits":[]}}"#
    );
    assert_eq!(none("from=7", ""), r#""total":{"value":4,"relation":"eq"},"max_score":1.0,"hits":[]}}"#);
    assert_eq!(none("", r#","track_total_hits":false"#), r#""max_score":1.0,"hits":[]}}"#);
    assert!(none("", r#","track_total_hits":1"#).starts_with(r#""total":{"value":1,"relation":"gte"}"#));
    assert!(none("", r#","track_total_hits":4"#).starts_with(r#""total":{"value":4,"relation":"eq"}"#));
    assert!(none("rest_total_hits_as_int", "").starts_with(r#""total":4,"#));
    assert!(none("rest_total_hits_as_int", r#","track_total_hits":false"#).starts_with(r#""total":-1,"#));
    let nothing = Outcome { total: 0, max_score: None, ..outcome(&[]) };
    assert!(
        render(&search("9.2.0", "", ""), &nothing)
            .ends_with(r#""total":{"value":0,"relation":"eq"},"max_score":null,"hits":[]}}"#)
    );
}

#[test]
fn filtered_and_laid_out() {
    assert_eq!(rendered("9.2.0", "filter_path=hits.hits", r#","size":0"#, &[]), r#"{"hits":{"hits":[]}}"#);
    assert_eq!(rendered("9.2.0", "filter_path=nope&pretty", "", &[]), "{ }\n");
    let without_source = "filter_path=-hits.hits._source";
    assert!(
        rendered("9.2.0", without_source, r#","size":0"#, &[]).ends_with(r#""max_score":null,"hits":[]}}"#)
    );
    assert!(rendered("8.15.3", without_source, r#","size":0"#, &[]).ends_with(r#""max_score":null}}"#));
    let page = [hit("3", 0.2, 2, None)];
    assert_eq!(
        rendered("9.2.0", "pretty&filter_path=hits.hits", "", &page),
        "{\n  \"hits\" : {\n    \"hits\" : [\n      {\n        \"_index\" : \"x1\",\n        \"_id\" : \"3\",\n        \"_score\" : 0.2\n      }\n    ]\n  }\n}\n"
    );
}

/// 8.15.3's answer to a fetch, in another order than our hits.
const FETCHED: &str = r#"{"took":1,"timed_out":false,"_shards":{"total":2,"successful":2,"skipped":0,"failed":0},"hits":{"max_score":1.0,"hits":[{"_index":"x1","_id":"4","_seq_no":3,"_primary_term":1,"_score":1.0,"_ignored":["a"],"_routing":"r","_source":{"v":[4,0,0],"a":"bad"}},{"_index":"x1","_id":"1","_seq_no":0,"_primary_term":1,"_score":1.0,"_source":{ "v":[1,0,0], "a":2.50 ,"x":"\u00e9\/"}}]}}"#;

/// Renders with the hits of one response.
fn render_from(search: &KnnSearch, page: &[ScoredHit<'_>], response: &str) -> Result<String, FetchMismatch> {
    let mut fetched = FetchedHits::default();
    fetched.add_response(response)?;
    render_fetched(search, &outcome(page), &fetched)
}

#[test]
fn fetched_hits_keep_elasticsearchs_bytes() {
    let page = [hit("1", 0.75, 0, None), hit("4", 0.1, 3, Some("r"))];
    let got = render_from(&search("8.15.3", "", ""), &page, FETCHED).unwrap();
    let expected = r#"{"took":5,"timed_out":false,"_shards":{"total":1,"successful":1,"skipped":0,"failed":0},"hits":{"total":{"value":4,"relation":"eq"},"max_score":1.0,"hits":[{"_index":"x1","_id":"1","_score":0.75,"_source":{ "v":[1,0,0], "a":2.50 ,"x":"\u00e9\/"}},{"_index":"x1","_id":"4","_score":0.1,"_ignored":["a"],"_routing":"r","_source":{"v":[4,0,0],"a":"bad"}}]}}"#;
    assert_eq!(got, expected);
    let got = render_from(&search("8.15.3", "seq_no_primary_term=true", ""), &page[..1], FETCHED).unwrap();
    assert!(got.contains(r#""_id":"1","_seq_no":0,"_primary_term":1,"_score":0.75,"#), "{got}");
    // The same from a laid-out response.
    let pretty_search = search("8.15.3", "pretty", "");
    let got = render_from(&pretty_search, &page, &pretty(FETCHED)).unwrap();
    assert_eq!(got, pretty(expected));
}

#[test]
fn mismatches_are_told_apart() {
    let search = search("9.2.0", "", "");
    let told = |hit: ScoredHit<'_>, fetched: &str| render_from(&search, &[hit], fetched).unwrap_err();
    assert_eq!(told(hit("2", 1.0, 0, None), FETCHED), FetchMismatch::Missing);
    assert_eq!(
        told(hit("4", 1.0, 3, None), FETCHED),
        FetchMismatch::Missing,
        "routing is part of the identity"
    );
    assert_eq!(told(hit("1", 1.0, 7, None), FETCHED), FetchMismatch::Changed);
    assert_eq!(
        told(ScoredHit { primary_term: 2, ..hit("1", 1.0, 0, None) }, FETCHED),
        FetchMismatch::Changed
    );
    assert_eq!(told(ScoredHit { index: "x2", ..hit("1", 1.0, 0, None) }, FETCHED), FetchMismatch::Missing);
    let sound = hit("1", 1.0, 0, None);
    for (from, to) in [
        ("\"failed\":0", "\"failed\":1"),
        ("\"timed_out\":false", "\"timed_out\":true"),
        ("\"_shards\"", "\"_other\""),
        ("\"_seq_no\":0", "\"_seq_no\":null"),
        ("]}}", "]}"),
    ] {
        assert_eq!(told(sound, &FETCHED.replace(from, to)), FetchMismatch::Unreadable, "{from}");
    }
    let filtered_away = r#"{"timed_out":false,"_shards":{"total":1,"successful":1,"skipped":0,"failed":0}}"#;
    assert_eq!(told(sound, filtered_away), FetchMismatch::Missing);
    assert_eq!(told(sound, r#"{"error":{},"status":404}"#), FetchMismatch::Unreadable);
}

#[test]
fn a_hit_that_was_kept_is_shown_as_when_it_was_fetched() {
    let page = [hit("1", 0.75, 0, None), hit("4", 0.1, 3, Some("r"))];
    let mut fetched = FetchedHits::default();
    fetched.add_response(FETCHED).unwrap();
    let kept: Vec<String> = page.iter().map(|hit| fetched.raw(hit).unwrap().to_owned()).collect();
    let mut again = FetchedHits::default();
    kept.iter().for_each(|raw| again.add_hit(raw).unwrap());
    let search = search("8.15.3", "", "");
    let one_shard = r#""_shards":{"total":1,"successful":1,"#;
    let want = render_fetched(&search, &outcome(&page), &fetched).unwrap();
    let want = want.replace(r#""_shards":{"total":2,"successful":2,"#, one_shard);
    assert_eq!(render_fetched(&search, &outcome(&page), &again).unwrap(), want);
    let changed = ScoredHit { seq_no: 9, ..page[0] };
    assert_eq!(again.raw(&changed), Err(FetchMismatch::Changed), "a version is never shown for another");
}
