//! `_msearch` as real nodes read and write it (8.10.4 to 9.2.0).

use super::*;

type Read = (Option<String>, Vec<(String, String)>);

fn header(line: &str) -> Result<Read, &'static str> {
    let item = MsearchItem { header: line, body: "{}" };
    item.header().map(|header| (header.names, header.params.0)).map_err(|NotOurs(reason)| reason)
}

fn url(query: &str) -> Result<MsearchUrl, NotOurs> {
    MsearchUrl::read(&Params::parse(query).unwrap(), &Capabilities::of("9.2.0".parse().unwrap()).unwrap())
}

#[test]
fn lines_come_in_pairs_and_end_in_a_newline() {
    let read = |text: &'static str| {
        read_msearch(text.as_bytes(), 1_000)
            .map(|items| items.iter().map(|item| (item.header, item.body)).collect::<Vec<_>>())
    };
    assert_eq!(read("{}\n{\"a\":1}\n\n{}\n").unwrap(), [("{}", "{\"a\":1}"), ("", "{}")]);
    assert_eq!(read("{}\r\n{}\r\n").unwrap(), [("{}\r", "{}\r")]);
    for text in ["", "\n", "{}\n{}", "\n{}\n{}\n", "{}\n{}\n{}\n", "{}\n{}\n\n", "\n{}\n"] {
        assert_eq!(read(text), Err(NotOurs("lines")), "{text:?}");
    }
}

#[test]
fn headers_say_what_the_url_of_a_search_could_say() {
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    for (line, names, params) in [
        ("", None, vec![]),
        ("{}", None, vec![]),
        (" { } ", None, vec![]),
        (r#"{"index":"a"}"#, Some("a"), vec![]),
        (r#"{"index":"a,b*"}"#, Some("a,b*"), vec![]),
        (r#"{"indices":["a","b"]}"#, Some("a,b"), vec![]),
        (r#"{"preference":"p","routing":"r"}"#, None, pairs(&[("preference", "p"), ("routing", "r")])),
        (
            r#"{"ignore_unavailable":"true","allow_no_indices":false,"expand_wildcards":"open"}"#,
            None,
            pairs(&[
                ("ignore_unavailable", "true"),
                ("allow_no_indices", "false"),
                ("expand_wildcards", "open"),
            ]),
        ),
        (
            r#"{"request_cache":true,"allow_partial_search_results":"false","ccs_minimize_roundtrips":true,"search_type":"dfs_query_then_fetch"}"#,
            None,
            vec![],
        ),
    ] {
        assert_eq!(header(line), Ok((names.map(str::to_owned), params)), "{line}");
    }
    for line in [
        " ",
        "x",
        "[]",
        r#"{"index":""}"#,
        r#"{"index":null}"#,
        r#"{"index":[]}"#,
        r#"{"index":["a",""]}"#,
        r#"{"index":["a,b"]}"#,
        r#"{"index":"a","indices":"b"}"#,
        r#"{"index":"a","index":"b"}"#,
        r#"{"ignore_throttled":true}"#,
        r#"{"expand_wildcards":["open"]}"#,
        r#"{"search_type":"scan"}"#,
        r#"{"request_cache":1}"#,
        r#"{"types":"x"}"#,
        r#"{"zzz":1}"#,
    ] {
        assert!(header(line).is_err(), "{line}");
    }
}

#[test]
fn the_url_speaks_where_the_header_is_silent() {
    let url = url("routing=u&rest_total_hits_as_int=true&max_concurrent_searches=3").unwrap();
    let of = |line: &str| {
        let item = MsearchItem { header: line, body: "{}" };
        url.params_of(&item.header().unwrap())
    };
    assert_eq!(of("{}").get("routing"), Some("u"));
    assert_eq!(of(r#"{"routing":"h"}"#).get("routing"), Some("h"));
    assert_eq!(of("{}").get("rest_total_hits_as_int"), Some("true"));
    assert_eq!(of("{}").get("max_concurrent_searches"), None);
    assert_eq!(url.upstream_query(), "routing=u&rest_total_hits_as_int=true&max_concurrent_searches=3");
}

#[test]
fn parameters_that_are_unknown_or_odd_are_elasticsearchs() {
    for query in [
        "zzz=1",
        "preference=x",
        "search_type=query_then_fetch",
        "max_concurrent_searches=0",
        "pretty=maybe",
        "format=yaml",
        "typed_keys=true&typed_keys=true",
    ] {
        assert_eq!(url(query), Err(NotOurs("parameter")), "{query}");
    }
}

#[test]
fn layout_and_filter_are_applied_to_the_whole() {
    let responses =
        [r#"{"took":1,"hits":{"hits":[{"_id":"1"}]},"status":200}"#, r#"{"error":{},"status":404}"#];
    let plain = url("").unwrap();
    assert_eq!(plain.upstream_query(), "");
    assert_eq!(
        plain.finish(7, &responses),
        format!(r#"{{"took":7,"responses":[{},{}]}}"#, responses[0], responses[1])
    );
    let filtered = url("filter_path=responses.hits.hits._id,responses.status").unwrap();
    assert_eq!(filtered.upstream_query(), "filter_path=%2Doutrigger");
    assert_eq!(
        filtered.finish(7, &responses),
        r#"{"responses":[{"hits":{"hits":[{"_id":"1"}]},"status":200},{"status":404}]}"#
    );
    let pretty = url("pretty").unwrap().finish(7, &responses);
    assert!(
        pretty.starts_with("{\n  \"took\" : 7,\n  \"responses\" : [\n    {\n      \"took\" : 1,"),
        "{pretty}"
    );
}

#[test]
fn responses_come_apart_with_their_status() {
    let answer = r#"{"took":3,"responses":[{"took":1,"hits":{"hits":[{"_source":{"status":5}}]},"status":200},{"error":{"status":1},"status":429}]}"#;
    let statuses: Vec<u16> =
        msearch_responses(answer).unwrap().into_iter().map(|(_, status)| status).collect();
    assert_eq!(statuses, [200, 429]);
    assert_eq!(as_msearch_response(r#"{"took":1}"#.to_owned()), r#"{"took":1,"status":200}"#);
    for answer in ["", "{}", r#"{"responses":[{"took":1}]}"#, r#"{"error":{},"status":400}"#] {
        assert_eq!(msearch_responses(answer), None, "{answer}");
    }
}
