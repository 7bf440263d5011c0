//! What a tenant bound to `acme-*` gets through, and all the ways out that must be shut.

mod documented;
mod random;

use super::*;
use crate::Capabilities;

/// `acme-1` and `acme-2` beside `secret`; `acme-in` points at both of the former, `acme-out` outside.
fn catalog() -> Catalog {
    let index = |name: &str| {
        format!(
            r#""{name}":{{"state":"open","settings":{{"index":{{"uuid":"u-{name}","number_of_shards":"1","version":{{"created":"9039001"}}}}}},"mappings":{{}}}}"#
        )
    };
    let indices: Vec<String> = ["acme-1", "acme-2", "secret"].map(index).into();
    let state = format!(r#"{{"version":1,"metadata":{{"indices":{{{}}}}}}}"#, indices.join(","));
    let aliases = r#"{"acme-1":{"aliases":{"acme-in":{}}},"acme-2":{"aliases":{"acme-in":{},"acme-out":{}}},
        "secret":{"aliases":{"acme-out":{"filter":{"term":{"a":1}}}}}}"#;
    Catalog::parse(&state, aliases, &Capabilities::of("9.2.0".parse().unwrap()).unwrap()).unwrap()
}

fn bound<T>(patterns: &str, run: impl FnOnce(Bounds<'_>) -> T) -> T {
    let patterns = patterns.parse().unwrap();
    let handed_out = |id: &str| id == "mine";
    run(Bounds { tenant: "acme", patterns: &patterns, catalog: &catalog(), handed_out: &handed_out })
}

/// Head and body, as the request path judges them.
fn judge(patterns: &str, method: &str, target: &str, body: &str) -> Result<Admitted, Refusal> {
    bound(patterns, |bounds| {
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let admitted = bounds.head(method, path, query)?;
        bounds.body(admitted.body, admitted.names.as_deref(), body.as_bytes())?;
        Ok(admitted)
    })
}

#[track_caller]
fn inside(method: &str, target: &str, body: &str) {
    let verdict = judge("acme-n*,acme-1,acme-2,acme-in,acme-o*", method, target, body);
    assert!(verdict.is_ok(), "{method} {target} {body}: {verdict:?}");
}

#[track_caller]
fn outside(method: &str, target: &str, body: &str) {
    let verdict = judge("acme-*", method, target, body);
    assert!(verdict.is_err(), "{method} {target} {body}");
}

#[test]
fn names_inside_pass() {
    for target in [
        "/acme-1/_search",
        "/acme-1,acme-2/_search",
        "/acme-1%2Cacme-2/_search",
        "/acme-n*/_search?expand_wildcards=all",
        "/acme-n*,-acme-nx/_search",
        "/acme-in/_search",
        "/%3Cacme-n-%7Bnow%2Fd%7D%3E/_search",
        "/%3Cacme-n-%7Bnow%2Fd%7Byyyy.MM%7D%7D-%7Bnow%7D%3E/_search",
        "/acme-1/_search/",
    ] {
        inside("POST", target, "{}");
    }
}

#[test]
fn names_outside_are_refused() {
    for names in [
        "secret",
        "_all",
        "*",
        "%2A",
        "acme-1,secret",
        "acme-1,%73ecret",
        "acme-1%2Csecret",
        "-acme-1",
        "acme-*,-secret",
        "sec*",
        "*-1",
        "a*",
        "acme*",
        "c:acme-1",
        "*:acme-1",
        "acme-1,*:*",
        "acme-out",
        "acme-*",
        "acme-o*",
        "%3Csecret-%7Bnow%2Fd%7D%3E",
        "%3C%7Bnow%7B%27secret%27%7D%7D%3E",
        "%3Cacme%7Bnow%7D%3E",
        "%3Cacme-%5C%7Bnow%7D%3E",
        "acme-1::failures",
        "%2A%2C-acme-1",
        "_search",
        "%5Fall",
        ".ds-acme-1",
        ".acme-1",
        "",
        "%20acme-1",
        "acme-1,",
        ",acme-1",
        "acme-1%2F..%2Fsecret",
        "%2e%2e",
        "..",
        "acme-1%00",
        "+acme-1",
        "%252Csecret",
        "ACME-1",
    ] {
        outside("POST", &format!("/{names}/_search"), "{}");
    }
    for path in [
        "/acme-1//_search",
        "//acme-1/_search",
        "/acme-1/%5Fsearch",
        "/acme-1/_search%2F",
        "/acme-1/./_search",
    ] {
        outside("POST", path, "{}");
    }
}

#[test]
fn parameters_that_name_something_are_refused() {
    for query in [
        "index=secret",
        "source=%7B%7D&source_content_type=application/json",
        "pipeline=p",
        "name=secret",
        "scroll_id=x",
        "%69ndex=secret",
        "pretty;index=secret",
        "unheard_of=1",
        "x=%",
    ] {
        outside("POST", &format!("/acme-1/_search?{query}"), "{}");
        outside("POST", &format!("/_bulk?{query}"), "{\"delete\":{\"_index\":\"acme-1\",\"_id\":\"1\"}}\n");
    }
    inside("POST", "/acme-1/_search?q=a:b&pretty&filter_path=hits&size=3&preference=x", "");
    inside("PUT", "/acme-1/_doc/1?pipeline=_none&refresh=true&routing=a", "anything");
}

#[test]
fn endpoints_that_stand_nowhere_are_refused() {
    for (method, target) in [
        ("GET", "/_cat/indices"),
        ("GET", "/_cluster/state"),
        ("GET", "/_tasks"),
        ("POST", "/_query"),
        ("GET", "/_search"),
        ("GET", "/_nodes"),
        ("PUT", "/_snapshot/r/s"),
        ("POST", "/_security/api_key"),
        ("POST", "/acme-1/_unheard_of"),
        ("GET", "/_unheard_of"),
        ("DELETE", "/acme-1/_search"),
        ("GET", "/acme-1/_search/template"),
        ("POST", "/acme-1/_rank_eval"),
        ("GET", "/_ivf/_tenants/other"),
        ("PUT", "/_ivf/_tenants/acme"),
        ("POST", "/_ivf/_tenants/acme/_requests/1/_approve"),
        ("POST", "/_ivf/_tenants/other/_requests"),
        ("GET", "/_ivf"),
        ("GET", "/_ivf/secret/_stats"),
        ("PATCH", "/acme-1"),
        ("GET", "*"),
    ] {
        outside(method, target, "");
    }
    for (method, target) in [
        ("GET", "/"),
        ("HEAD", "/"),
        ("OPTIONS", "/_cat/indices"),
        ("GET", "/_cat/indices/acme-1?format=json"),
        ("GET", "/_ivf/_tenants/acme"),
        ("POST", "/_ivf/_tenants/acme/_requests"),
        ("GET", "/_ivf/_whoami"),
        ("POST", "/_ivf/_tenants/acme/_requests"),
        ("GET", "/_ivf/_tenants/acme/_usage"),
        ("GET", "/_nodes/http"),
        ("GET", "/_cluster/health/acme-1"),
        ("GET", "/acme-1/_doc/a%2Fb"),
        ("GET", "/acme-1/_doc/_secret"),
        ("DELETE", "/acme-1"),
    ] {
        inside(method, target, "");
    }
}

#[test]
fn lookups_are_found_wherever_they_stand() {
    let lookup = |index: &str| format!(r#"{{"index":{index},"id":"1","path":"p"}}"#);
    let shapes = |index: &str| {
        let terms = lookup(index);
        [
            format!(r#"{{"query":{{"terms":{{"f":{terms}}}}}}}"#),
            format!(r#"{{"query":{{"terms":{{"term":{terms}}}}}}}"#),
            format!(
                r#"{{"query":{{"bool":{{"filter":[{{"bool":{{"must_not":{{"terms":{{"index":{terms}}}}}}}}}]}}}}}}"#
            ),
            format!(r#"{{"knn":{{"field":"v","filter":[{{"terms":{{"f":{terms}}}}}]}}}}"#),
            format!(r#"{{"aggs":{{"a":{{"filters":{{"filters":{{"x":{{"terms":{{"f":{terms}}}}}}}}}}}}}}}"#),
            format!(r#"{{"post_filter":{{"terms":{{"f":{terms}}}}}}}"#),
            format!(r#"{{"rescore":{{"query":{{"rescore_query":{{"terms":{{"f":{terms}}}}}}}}}}}"#),
            format!(r#"{{"query":{{"more_like_this":{{"like":[{{"_index":{index},"_id":"1"}}]}}}}}}"#),
            format!(r#"{{"query":{{"more_like_this":{{"unlike":{{"_index":{index},"_id":"1"}}}}}}}}"#),
            format!(r#"{{"query":{{"percolate":{{"field":"q","index":{index},"id":"1"}}}}}}"#),
            format!(
                r#"{{"query":{{"geo_shape":{{"g":{{"indexed_shape":{{"index":{index},"id":"1","path":"g"}}}}}}}}}}"#
            ),
            format!(r#"{{"query":{{"pinned":{{"docs":[{{"_index":{index},"_id":"1"}}]}}}}}}"#),
            format!(r#"{{"query":{{"term":{{"_index":{index}}}}}}}"#),
            format!(
                r#"{{"runtime_mappings":{{"r":{{"type":"lookup","target_index":{index},"input_field":"a"}}}}}}"#
            ),
            format!(r#"{{"indices_boost":[{{{index}:2}}]}}"#),
            format!(r#"{{"indices_boost":{{{index}:2}}}}"#),
            format!(r#"{{"docs":[{{"_index":{index},"_id":"1"}}]}}"#),
            format!(r#"{{"requests":[{{"ratings":[{{"_index":{index},"_id":"1"}}]}}]}}"#),
        ]
    };
    for body in shapes(r#""acme-1""#) {
        inside("POST", "/acme-1/_search", &body);
    }
    for index in
        [r#""secret""#, r#""\u0073ecret""#, r#""*""#, r#""acme-1,secret""#, r#""c:acme-1""#, r#""acme-out""#]
    {
        for body in shapes(index) {
            outside("POST", "/acme-1/_search", &body);
            outside("POST", "/acme-1/_count", &body);
            outside("POST", "/acme-1/_msearch", &format!("{{}}\n{body}\n"));
        }
    }
}

#[test]
fn bodies_that_say_more_than_they_show_are_refused() {
    for body in [
        r#"{"query":{"terms":{"f":{"ind\u0065x":"secret","id":"1","path":"p"}}}}"#,
        r#"{"query":{"terms":{"f":{"index":"acme-1","index":"secret","id":"1","path":"p"}}}}"#,
        r#"{"query":{"terms":{"f":{"index":"secret","index":"acme-1","id":"1","path":"p"}}}}"#,
        r#"{"query":{"terms":{"f":{"index":["secret"],"id":"1","path":"p"}}}}"#,
        r#"{"query":{"terms":{"f":{"index":1,"id":"1","path":"p"}}}}"#,
        r#"{"query":{"wrapper":{"query":"eyJtYXRjaF9hbGwiOnt9fQ=="}}}"#,
        r#"{"query":{"geo_shape":{"g":{"indexed_shape":{"id":"1"}}}}}"#,
        r#"{"pit":{"id":"another"}}"#,
        r#"{"pit":{"id":"mine"},"pit":{"id":"another"}}"#,
        "{} {}",
        "{}x",
        "[]",
        "{",
        "{/**/}",
        "{'query':{}}",
        "---\nquery: {}",
        "\u{feff}{}",
        "null",
        " ",
    ] {
        outside("POST", "/acme-1/_search", body);
    }
    outside("POST", "/acme-1/_search", &format!("{}{}", "{\"a\":".repeat(300), "1"));
    let wide: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(bound("acme-*", |bounds| bounds.body(Body::Query, None, &wide)).is_err());
    for body in [
        r#"{"query":{"term":{"index":"red"}}}"#,
        r#"{"query":{"terms":{"index":["red","blue"]}}}"#,
        r#"{"query":{"match":{"index":{"query":"red"}}}}"#,
        r#"{"query":{"prefix":{"index":"r","boost":2}}}"#,
        r#"{"pit":{"id":"mine"}}"#,
    ] {
        inside("POST", "/acme-1/_search", body);
    }
    inside("POST", "/_search", r#"{"pit":{"id":"mine"}}"#);
    outside("POST", "/_search", r#"{"query":{"match_all":{}}}"#);
    outside("POST", "/_search", r#"{"a":{"pit":{"id":"mine"}}}"#);
    outside("POST", "/_search", r#"{"pit":{}}"#);
}

#[test]
fn analyzers_that_read_what_is_no_tenants_are_refused() {
    for option in ["synonyms_set", "synonyms_path", "mappings_path", "user_dictionary", "rule_files"] {
        let filter = format!(r#"{{"type":"x","{option}":"theirs"}}"#);
        let settings = format!(r#"{{"analysis":{{"filter":{{"f":{filter}}}}}}}"#);
        outside("PUT", "/acme-new", &format!(r#"{{"settings":{settings}}}"#));
        outside("PUT", "/acme-1/_settings", &settings);
        outside("PUT", "/acme-1/_settings", &format!(r#"{{"index.analysis.filter.f.{option}":"theirs"}}"#));
        let template = format!(r#"{{"template":{{"settings":{settings}}}}}"#);
        outside("PUT", "/_component_template/acme-t", &template);
        for path in ["/_analyze", "/acme-1/_analyze"] {
            outside(
                "POST",
                path,
                &format!(r#"{{"text":"a","tokenizer":"keyword","filter":["x",{filter}]}}"#),
            );
        }
        let aggregation = format!(
            r#"{{"categorize_text":{{"field":"t","categorization_analyzer":{{"char_filter":[{filter}]}}}}}}"#
        );
        outside("POST", "/acme-1/_search", &format!(r#"{{"aggs":{{"a":{aggregation}}}}}"#));
    }
    inside("POST", "/acme-1/_analyze", r#"{"text":["a"],"tokenizer":"keyword","filter":[{"type":"stop"}]}"#);
    let named =
        r#"{"index":{"routing_path":["a"],"analysis":{"tokenizer":{"file_path":{"type":"keyword"}}}}}"#;
    inside("PUT", "/acme-1/_settings", named);
    inside("PUT", "/acme-1/_settings", r#"{"index.analysis.tokenizer.file_path.type":"keyword"}"#);
    outside("POST", "/acme-1/_analyze", "---\ntext: a");
}

#[test]
fn queries_that_others_made_are_refused() {
    for body in [
        r#"{"suggest":{"s":{"phrase":{"field":"t","collate":{"query":{"source":"{{q}}"}}}}}}"#,
        r#"{"query":{"rule":{"organic":{"match_all":{}},"ruleset_ids":["theirs"],"match_criteria":{}}}}"#,
        r#"{"retriever":{"rule":{"ruleset_id":"theirs","retriever":{}}}}"#,
    ] {
        outside("POST", "/acme-1/_search", body);
    }
    inside("POST", "/acme-1/_search", r#"{"query":{"match":{"collate":{"query":"a"}}}}"#);
}

#[test]
fn a_refusal_does_not_tell_what_lies_outside() {
    let refusal = bound("acme-*", |bounds| bounds.head("POST", "/acme-out/_search", None)).unwrap_err();
    assert!(refusal.to_string().contains("acme-out") && !refusal.to_string().contains("secret"), "{refusal}");
}

#[test]
fn lines_name_their_own_targets() {
    let doc = "{\"index\":\"secret\"}";
    inside(
        "POST",
        "/acme-1/_bulk",
        &format!("{{\"index\":{{}}}}\n{doc}\n\n{{\"delete\":{{\"_id\":\"1\"}}}}\n"),
    );
    inside(
        "POST",
        "/_bulk",
        &format!("{{\"create\":{{\"_index\":\"acme-1\",\"pipeline\":\"_none\"}}}}\r\n{doc}\r\n"),
    );
    for body in [
        "{\"index\":{\"_index\":\"secret\"}}\n{}\n",
        "{\"index\":{\"_index\":\"acme-1\",\"_index\":\"secret\"}}\n{}\n",
        "{\"index\":{\"_ind\\u0065x\":\"secret\"}}\n{}\n",
        "{\"index\":{\"pipeline\":\"p\"}}\n{}\n",
        "{\"delete\":{\"_id\":\"1\"}}\n{\"delete\":{\"_index\":\"secret\",\"_id\":\"1\"}}\n",
        "{\"index\":{}}\n{}\n{\"update\":{\"_index\":\"secret\",\"_id\":\"1\"}}\n{}\n",
        "{\"index\":{}}\n\n{\"index\":{\"_index\":\"secret\"}}\n{}\n",
        "{\"index\":{}} {\"index\":{\"_index\":\"secret\"}}\n{}\n",
        "{\"index\":{}}\n{}",
        "{\"index\":{}}\n",
        "{\"other\":{}}\n{}\n",
        "{\"index\":{\"_index\":\"acme-out\"}}\n{}\n",
        "{\"index\":{\"_index\":\"<secret-{now}>\"}}\n{}\n",
    ] {
        outside("POST", "/acme-1/_bulk", body);
    }
    inside("POST", "/acme-1/_msearch", "{}\n{}\n{\"index\":\"acme-2\"}\n{}\n\n{}\n");
    inside(
        "POST",
        "/_msearch",
        "{\"index\":[\"acme-2\"],\"preference\":\"x\"}\n{}\n{}\n{\"pit\":{\"id\":\"mine\"}}\n",
    );
    for body in [
        "{\"index\":\"secret\"}\n{}\n",
        "{\"indices\":[\"acme-1\",\"secret\"]}\n{}\n",
        "{\"index\":[]}\n{}\n",
        "{\"index\":[ ]}\n{}\n",
        "{\"index\":\"\"}\n{}\n",
        "{\"index\":null}\n{}\n",
        "{\"index\":\"acme-1\",\"index\":\"secret\"}\n{}\n",
        "{\"unheard\":1}\n{}\n",
        "\n{}\n{}\n",
        "{}\n{}",
        "{}\n{\"pit\":{\"id\":\"another\"}}\n",
    ] {
        outside("POST", "/acme-1/_msearch", body);
    }
    for body in ["{}\n{}\n", "\n{}\n"] {
        outside("POST", "/_msearch", body);
    }
}

#[test]
fn definitions_stay_inside() {
    inside(
        "PUT",
        "/acme-1",
        r#"{"settings":{"index":{"number_of_shards":1}},"aliases":{"acme-n":{}},"mappings":{"properties":{"index":{"type":"keyword","index":"false"},"t":{"type":"text","index":false}}}}"#,
    );
    for body in [
        r#"{"aliases":{"secret":{}}}"#,
        r#"{"aliases":{"acme-n":{"filter":{"terms":{"f":{"index":"secret","id":"1","path":"p"}}}}}}"#,
        r#"{"settings":{"index.default_pipeline":"p"}}"#,
        r#"{"settings":{"index":{"final_pipeline":"p"}}}"#,
        r#"{"settings":{"lifecycle.name":"p"}}"#,
        r#"{"mappings":{"runtime":{"r":{"type":"lookup","target_index":"secret"}}}}"#,
        r#"{"mappings":{"properties":{"q":{"type":"percolator"}}}}"#,
        r#"{"default_pipeline":"p"}"#,
    ] {
        outside("PUT", "/acme-1", body);
        outside("POST", "/acme-in/_rollover/acme-n2", body);
        outside("PUT", "/acme-1/_clone/acme-n2", body);
        outside(
            "PUT",
            "/_index_template/acme-t",
            &format!(r#"{{"index_patterns":["acme-n*"],"template":{body}}}"#),
        );
        outside("PUT", "/_component_template/acme-t", &format!(r#"{{"template":{body}}}"#));
    }
    inside(
        "PUT",
        "/_index_template/acme-n",
        r#"{"index_patterns":["acme-n*"],"composed_of":[],"priority":5,"template":{"settings":{"number_of_shards":1}}}"#,
    );
    outside("PUT", "/_index_template/acme-n", r#"{"index_patterns":["acme-n*","*"]}"#);
    outside("PUT", "/_index_template/acme-n", r#"{"index_patterns":["acme-n*"],"composed_of":["secret"]}"#);
    outside("PUT", "/_index_template/other", r#"{"index_patterns":["acme-n*"]}"#);
    outside("PUT", "/_template/acme-n", r#"{"index_patterns":"*"}"#);
    outside("PUT", "/acme-1/_clone/secret", "");
    outside("PUT", "/secret/_clone/acme-n", "");
    outside("PUT", "/_create_from/secret/acme-n", "");
    outside("POST", "/acme-in/_rollover/secret", "");
    inside(
        "POST",
        "/_aliases",
        r#"{"actions":[{"add":{"index":"acme-1","alias":"acme-n","filter":{"term":{"index":"x"}}}},{"remove":{"indices":["acme-1"],"aliases":["acme-in"]}}]}"#,
    );
    for action in [
        r#"{"add":{"index":"secret","alias":"acme-n"}}"#,
        r#"{"add":{"indices":["acme-1","secret"],"alias":"acme-n"}}"#,
        r#"{"add":{"index":"acme-1","alias":"other"}}"#,
        r#"{"add":{"index":"acme-1","aliases":["acme-n","other"]}}"#,
        r#"{"remove_index":{"index":"secret"}}"#,
        r#"{"add":{"index":"acme-1","alias":"acme-n"},"remove_index":{"index":"secret"}}"#,
        r#"{"add":{"index":"acme-1","alias":"acme-n","filter":{"terms":{"f":{"index":"secret","id":"1","path":"p"}}}}}"#,
        r#"{"unheard":{"index":"acme-1"}}"#,
    ] {
        outside("POST", "/_aliases", &format!(r#"{{"actions":[{action}]}}"#));
    }
    outside("PUT", "/acme-1/_alias/acme-n", r#"{"index":"secret"}"#);
    outside("PUT", "/acme-1/_alias/acme-n", r#"{"alias":"other"}"#);
    inside(
        "POST",
        "/_reindex",
        r#"{"source":{"index":["acme-1"],"query":{"match_all":{}}},"dest":{"index":"acme-2"}}"#,
    );
    for body in [
        r#"{"source":{"index":"secret"},"dest":{"index":"acme-1"}}"#,
        r#"{"source":{"index":"acme-1"},"dest":{"index":"secret"}}"#,
        r#"{"source":{"index":[]},"dest":{"index":"acme-1"}}"#,
        r#"{"source":{},"dest":{"index":"acme-1"}}"#,
        r#"{"source":{"index":"acme-1"},"dest":{"index":"acme-2","pipeline":"p"}}"#,
        r#"{"source":{"index":"acme-1"},"dest":{"index":"acme-2"},"script":{"source":"ctx._index='secret'"}}"#,
        r#"{"source":{"remote":{"host":"http://h:9200"},"index":"acme-1"},"dest":{"index":"acme-2"}}"#,
        r#"{"source":{"index":"acme-1","query":{"terms":{"f":{"index":"secret","id":"1","path":"p"}}}},"dest":{"index":"acme-2"}}"#,
    ] {
        outside("POST", "/_reindex", body);
    }
}

#[test]
fn a_rollover_needs_room_for_the_next_name() {
    assert!(judge("acme-*", "POST", "/acme-in/_rollover", "").is_ok());
    let narrow = judge("acme-1,acme-2,acme-in", "POST", "/acme-in/_rollover", "");
    assert_eq!(narrow, Err(Refusal::Target("acme-*".into())));
}

#[test]
fn only_what_was_handed_out_goes_on() {
    inside("POST", "/_search/scroll", r#"{"scroll":"1m","scroll_id":"mine"}"#);
    inside("DELETE", "/_search/scroll", r#"{"scroll_id":["mine"]}"#);
    inside("GET", "/_async_search/mine", "");
    inside("DELETE", "/_pit", r#"{"id":"mine"}"#);
    for (method, target, body) in [
        ("POST", "/_search/scroll", r#"{"scroll_id":"another"}"#),
        ("POST", "/_search/scroll", r#"{"scroll_id":"mine","scroll_id":"another"}"#),
        ("POST", "/_search/scroll?scroll_id=another", ""),
        ("GET", "/_search/scroll/another", ""),
        ("DELETE", "/_search/scroll/_all", ""),
        ("DELETE", "/_search/scroll", r#"{"scroll_id":"_all"}"#),
        ("DELETE", "/_search/scroll", r#"{"scroll_id":["mine","another"]}"#),
        ("DELETE", "/_search/scroll", "another"),
        ("DELETE", "/_pit", r#"{"id":"another"}"#),
        ("GET", "/_async_search/another", ""),
        ("DELETE", "/_async_search/another", ""),
    ] {
        outside(method, target, body);
    }
    let hands_out = |method, target| judge("acme-1", method, target, "").unwrap().hands_out;
    assert_eq!(hands_out("POST", "/acme-1/_search?scroll=1m"), Some("_scroll_id"));
    assert_eq!(hands_out("POST", "/acme-1/_search"), None);
    assert_eq!(hands_out("POST", "/acme-1/_pit?keep_alive=1m"), Some("id"));
    assert_eq!(hands_out("POST", "/acme-1/_async_search"), Some("id"));
}
