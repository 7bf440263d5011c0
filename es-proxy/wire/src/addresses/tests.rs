//! Lists of nodes in every format: what is replaced, and that not one byte of all else is touched.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// What Elasticsearch 9.2 says of two nodes, shortened; the other places with addresses must stay.
fn nodes() -> Value {
    let node = |number: u32| {
        json!({
            "name": format!("n {number}: é"),
            "transport_address": format!("10.0.0.{number}:9300"),
            "ip": format!("10.0.0.{number}"),
            "total_indexing_buffer": 53687091u64 * 1000,
            "roles": ["data", "master"],
            "settings": {"http": {"publish_host": "10.0.0.9:1", "publish_address": "10.9.9.9:9"}, "node": {"attr": {}}},
            "transport": {"publish_address": format!("10.0.0.{number}:9300"), "profiles": {"p": {"publish_address": "10.0.0.1:9999"}}},
            "http": {"bound_address": [format!("10.0.0.{number}:9200")], "publish_address": format!("10.0.0.{number}:9200"), "max_content_length_in_bytes": 104857600, "load": 0.5, "none": null, "yes": true},
            "plugins": [{"name": "http", "publish_address": "10.0.0.1:1"}],
        })
    };
    json!({"_nodes": {"total": 2}, "cluster_name": "nodes", "nodes": {"Id-1_x": node(1), "http": node(2)}})
}

fn rows() -> Value {
    json!([{"http": "10.0.0.1:9200", "name": "a"}, {"http_address": "h/10.0.0.2:9200"}, {"http": null}, {"n": "10.0.0.1:9200"}])
}

/// Both sidecars, one with a name so long that every format needs another kind of string.
fn new(id: Option<&str>, address: &str) -> Option<String> {
    match (id, address) {
        (Some("Id-1_x") | None, "10.0.0.1:9200") => Some("10.0.0.1:9201".into()),
        (Some("http"), "10.0.0.2:9200") | (None, "h/10.0.0.2:9200") => {
            Some(format!("{}.example:443", "a".repeat(70)))
        }
        other => panic!("{other:?} is no address of a node"),
    }
}

fn expected(mut value: Value) -> Value {
    let long = format!("{}.example:443", "a".repeat(70));
    if value.is_array() {
        value[0]["http"] = json!("10.0.0.1:9201");
        value[1]["http_address"] = json!(long);
    } else {
        value["nodes"]["Id-1_x"]["http"]["publish_address"] = json!("10.0.0.1:9201");
        value["nodes"]["http"]["http"]["publish_address"] = json!(long);
    }
    value
}

fn changed(listing: NodeListing, format: AnswerFormat, answer: &[u8]) -> Vec<u8> {
    replace_addresses(listing, format, answer, &mut new).unwrap().expect("something changes")
}

fn both() -> [(NodeListing, Value); 2] {
    [(NodeListing::Nodes, nodes()), (NodeListing::Cat, rows())]
}

#[test]
fn json_changes_in_the_addresses_alone() {
    for (listing, value) in both() {
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap() + "\n"] {
            let shown = changed(listing, AnswerFormat::Json, text.as_bytes());
            let laid_out = |value: &Value| {
                if text.ends_with('\n') {
                    serde_json::to_string_pretty(value).unwrap() + "\n"
                } else {
                    value.to_string()
                }
            };
            assert_eq!(String::from_utf8(shown).unwrap(), laid_out(&expected(value.clone())));
        }
    }
}

#[test]
fn cbor_changes_in_the_addresses_alone() {
    for (listing, value) in both() {
        let encode = |value: &Value| cbor4ii::serde::to_vec(Vec::new(), value).unwrap();
        assert_eq!(changed(listing, AnswerFormat::Cbor, &encode(&value)), encode(&expected(value)));
    }
    // As Jackson writes it: objects and arrays without lengths.
    let text = |text: &str| [&[0x60 + text.len() as u8][..], text.as_bytes()].concat();
    let object = |entries: &[(&str, Vec<u8>)]| {
        let entries: Vec<u8> =
            entries.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
        [&[0xbf][..], &entries, &[0xff]].concat()
    };
    let answer = |address: &str| {
        let list = [&[0x9f][..], &text("10.0.0.1:9200"), &[0xff]].concat();
        let http = object(&[("bound_address", list), ("publish_address", text(address))]);
        object(&[("nodes", object(&[("Id-1_x", object(&[("http", http)]))]))])
    };
    let shown = changed(NodeListing::Nodes, AnswerFormat::Cbor, &answer("10.0.0.1:9200"));
    assert_eq!(shown, answer("10.0.0.1:9201"));
}

#[test]
fn smile_changes_in_the_addresses_alone() {
    for (listing, value) in both() {
        let encode = |value: &Value| serde_smile::to_vec(value).unwrap();
        assert_eq!(changed(listing, AnswerFormat::Smile, &encode(&value)), encode(&expected(value)));
    }
}

#[test]
fn smile_follows_names_through_many_references() {
    let mut value = nodes();
    // The table of names begins anew after 1,024 of them, and references to high places take two bytes.
    let names: serde_json::Map<String, Value> = (0..1500).map(|n| (format!("key-{n}"), json!(-n))).collect();
    value["a"] = json!([names, names]);
    let nodes = value.as_object_mut().unwrap().shift_remove("nodes").unwrap();
    value["nodes"] = nodes;
    let encode = |value: &Value| serde_smile::to_vec(value).unwrap();
    assert_eq!(changed(NodeListing::Nodes, AnswerFormat::Smile, &encode(&value)), encode(&expected(value)));
}

const YAML: &str = r#"---
_nodes:
  total: 2
cluster_name: "nodes:"
nodes:
  Id-1_x:
    name: "n 1: \"http\":\
      \ http:\
      \   publish_address: \"x\""
    roles:
    - "data"
    - "master"
    settings:
      http:
        publish_address: "10.9.9.9:9"
    http:
      bound_address:
      - "10.0.0.1:9200"
      publish_address: "10.0.0.1:9200"
      max_content_length_in_bytes: 104857600
    plugins:
    - name: "http"
      http:
        publish_address: "10.0.0.1:9200"
    modules: []
  http:
    http:
      publish_address: "10.0.0.2:9200"
"#;

#[test]
fn yaml_changes_in_the_addresses_alone() {
    let shown = changed(NodeListing::Nodes, AnswerFormat::Yaml, YAML.as_bytes());
    let long = format!("{}.example:443", "a".repeat(70));
    let wanted = YAML.replacen(
        "      publish_address: \"10.0.0.1:9200\"",
        "      publish_address: \"10.0.0.1:9201\"",
        1,
    );
    assert_eq!(String::from_utf8(shown).unwrap(), wanted.replace("10.0.0.2:9200", &long));
    let rows =
        "---\n- http: \"10.0.0.1:9200\"\n  name: \"10.0.0.1:9200\"\n- name: \"b\"\n  http: 10.0.0.1:9200\n";
    let shown = changed(NodeListing::Cat, AnswerFormat::Yaml, rows.as_bytes());
    assert_eq!(
        String::from_utf8(shown).unwrap(),
        "---\n- http: \"10.0.0.1:9201\"\n  name: \"10.0.0.1:9200\"\n- name: \"b\"\n  http: 10.0.0.1:9201\n"
    );
}

#[test]
fn a_table_is_laid_out_anew() {
    let new = |_: Option<&str>, address: &str| match address {
        "10.0.0.1:9200" => Some("10.0.0.100:92010".to_owned()),
        "h/10.0.0.10:9200" => Some("b:1".to_owned()),
        _ => None,
    };
    for (table, wanted) in [
        ("10.0.0.1:9200\nh/10.0.0.10:9200\n", "10.0.0.100:92010\nb:1\n"),
        (
            "name  http             load\né-1   10.0.0.1:9200     0.5\n\u{1f980}-22 h/10.0.0.10:9200 12.5\nc                       1.0\n",
            "name  http             load\né-1   10.0.0.100:92010  0.5\n\u{1f980}-22 b:1              12.5\nc                       1.0\n",
        ),
        ("http             n\nh/10.0.0.10:9200 a\n                 b\n", "http n\nb:1  a\n     b\n"),
        ("a 10.0.0.1:9200 10.0.0.1:9200\n", "a 10.0.0.100:92010 10.0.0.100:92010\n"),
        ("a h/10.0.0.10:9200\nb 1.1.1.1:1\nc \n", "a b:1\nb 1.1.1.1:1\nc \n"),
    ] {
        let shown =
            replace_addresses(NodeListing::Cat, AnswerFormat::Text, table.as_bytes(), &mut new.clone());
        assert_eq!(String::from_utf8(shown.unwrap().unwrap()).unwrap(), wanted);
    }
    for unchanged in ["", "\n", "a 9200\n", "id   | id,nodeId | unique node id\n", "1.1.1.1:1\n"] {
        let shown =
            replace_addresses(NodeListing::Cat, AnswerFormat::Text, unchanged.as_bytes(), &mut new.clone());
        assert_eq!(shown, Ok(None), "{unchanged}");
    }
    let odd = "10.0.0.1:9200 a\nno-column-here\n";
    let shown = replace_addresses(NodeListing::Cat, AnswerFormat::Text, odd.as_bytes(), &mut new.clone());
    assert_eq!(shown, Err(UnknownListing));
}

#[test]
fn what_is_not_understood_is_not_touched() {
    let shared_values = [&b":)\n\x03"[..], &[0xfa, 0xfb]].concat();
    for (format, answer) in [
        (AnswerFormat::Json, &b"{\"nodes\":{"[..]),
        (AnswerFormat::Json, b"\xff"),
        (AnswerFormat::Cbor, b"\xbf\x65nodes"),
        (AnswerFormat::Smile, b"{}"),
        (AnswerFormat::Smile, &shared_values),
        (AnswerFormat::Text, b"10.0.0.1:9200"),
        (AnswerFormat::Yaml, b"---\nname: \"never\\\n  closed"),
    ] {
        let shown = replace_addresses(NodeListing::Nodes, format, answer, &mut |_, _| Some("x".into()));
        assert_eq!(shown, Err(UnknownListing), "{format:?}");
    }
}

#[test]
fn formats_are_known_by_their_media_types() {
    for (text, format) in [
        ("application/json", Some(AnswerFormat::Json)),
        ("application/vnd.elasticsearch+json;compatible-with=8", Some(AnswerFormat::Json)),
        ("application/yaml", Some(AnswerFormat::Yaml)),
        ("application/vnd.elasticsearch+cbor;compatible-with=8", Some(AnswerFormat::Cbor)),
        ("application/smile", Some(AnswerFormat::Smile)),
        ("text/plain; charset=UTF-8", Some(AnswerFormat::Text)),
        ("text/html", None),
        ("", None),
    ] {
        assert_eq!(AnswerFormat::of(text), format, "{text}");
    }
}

#[test]
fn listed_nodes_are_read() {
    let listed = ListedNode::all_of(&nodes().to_string()).unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!((listed[0].id.as_str(), listed[0].name.as_str()), ("Id-1_x", "n 1: é"));
    assert_eq!((listed[1].ip.as_str(), listed[1].http.as_str()), ("10.0.0.2", "10.0.0.2:9200"));
    assert_eq!(ListedNode::all_of("{}"), Ok(Vec::new()));
    assert!(ListedNode::all_of("[").is_err());
}

proptest! {
    /// Whatever comes: no panic, and what is found lies where it is said to.
    #[test]
    fn damaged_answers_do_no_harm(
        which in 0usize..5,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let value = nodes();
        let (format, mut answer) = match which {
            0 => (AnswerFormat::Json, value.to_string().into_bytes()),
            1 => (AnswerFormat::Yaml, YAML.as_bytes().to_vec()),
            2 => (AnswerFormat::Cbor, cbor4ii::serde::to_vec(Vec::new(), &value).unwrap()),
            3 => (AnswerFormat::Smile, serde_smile::to_vec(&value).unwrap()),
            _ => (AnswerFormat::Text, b"n  10.0.0.1:9200 1\nmm 10.0.0.2:9200 2\n".to_vec()),
        };
        for (place, byte) in damage {
            let place = place.index(answer.len());
            answer[place] = byte;
        }
        answer.truncate(cut.index(answer.len()).max(answer.len() / 2));
        let listing = if which == 4 { NodeListing::Cat } else { NodeListing::Nodes };
        let same = replace_addresses(listing, format, &answer, &mut |_, _| None);
        prop_assert!(matches!(same, Ok(None) | Err(UnknownListing)));
        let _ = replace_addresses(listing, format, &answer, &mut |_, address| Some(format!("{address}0")));
    }
}
