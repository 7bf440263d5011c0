//! Tables from what a 9.2.0 node did with such documents, and serde_json as the oracle.

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;

/// Fields `v`, `o.w` and `o.p.q`, three numbers each.
fn fields() -> Fields {
    let mut fields = Fields::default();
    for path in ["v", "o.w", "o.p.q"] {
        fields.add(&path.into(), 3);
    }
    fields
}

fn read_as(text: &str, numbers: Numbers) -> Option<Vec<Value>> {
    let mut cursor = Cursor::new(text.as_bytes());
    let found = fields().read(&mut cursor, numbers).ok()?;
    cursor.end().ok()?;
    Some(found.into_vec())
}

fn read(text: &str) -> Option<Vec<Value>> {
    read_as(text, Numbers::AsWritten)
}

fn numbers(values: &[f32]) -> Value {
    Value::Numbers(values.to_vec())
}

#[test]
fn vectors_are_found_by_their_paths() {
    let (none, null) = (Value::Missing, Value::Null);
    for (text, expected) in [
        ("{}", [none.clone(), none.clone(), none.clone()]),
        (r#"{"v":[1,2.5,-3e0]}"#, [numbers(&[1.0, 2.5, -3.0]), none.clone(), none.clone()]),
        (" { \"v\" : [ 1 , 2 ] , \"x\" : [ 3 ] } \r", [numbers(&[1.0, 2.0]), none.clone(), none.clone()]),
        (r#"{"v":null,"o":null}"#, [null.clone(), none.clone(), none.clone()]),
        (
            r#"{"o":{"w":[1],"p":{"q":[2],"v":[9]}},"w":[8]}"#,
            [none.clone(), numbers(&[1.0]), numbers(&[2.0])],
        ),
        (r#"{"o.w":[1],"o.p.q":[2]}"#, [none.clone(), numbers(&[1.0]), numbers(&[2.0])]),
        (r#"{"o":{"p.q":[2]},"o.w":null,"o.x.y":[1]}"#, [none.clone(), null.clone(), numbers(&[2.0])]),
        (r#"{"o":[],"o.p":{"q":[1]}}"#, [none.clone(), none.clone(), numbers(&[1.0])]),
        (r#"{"v":"01fe80"}"#, [Value::Bytes(vec![1.0, -2.0, -128.0]), none.clone(), none.clone()]),
        (
            r#"{"t":"\"v\":[1] \\","a":[{"v":[5]},"]","\\"],"b":true,"c":-1.5e3,"v":[1]}"#,
            [numbers(&[1.0]), none.clone(), none.clone()],
        ),
    ] {
        assert_eq!(read(text).as_deref(), Some(&expected[..]), "{text}");
    }
}

#[test]
fn odd_documents_are_left_alone() {
    for text in [
        "",
        "[]",
        "{",
        r#"{"v":[1,2],"v":[1,2]}"#,
        r#"{"o":{"w":[1]},"o.w":[1]}"#,
        r#"{"v":null,"v":[1]}"#,
        // Taken by Elasticsearch, read by nobody here.
        r#"{"v.":[1,2]}"#,
        r#"{"\u0076":[1,2]}"#,
        r#"{"o":[{"w":[1]}]}"#,
        r#"{"x":{"y":1 /* "v": */},"v":[1]}"#,
        "{\"x\":1 /* c */,\"v\":[1]}",
        "\u{feff}{\"v\":[1]}",
        // Refused by Elasticsearch.
        r#"{"v":[]}"#,
        r#"{"v":[1,2,3,4]}"#,
        r#"{"v":["1"]}"#,
        r#"{"v":[[1]]}"#,
        r#"{"v":[null]}"#,
        r#"{"v":1}"#,
        r#"{"v":{"a":1}}"#,
        r#"{"v":"0"}"#,
        r#"{"v":[1,]}"#,
        r#"{"v":[01]}"#,
        r#"{"v":[1e39]}"#,
        r#"{"o":5}"#,
        r#"{"o":"x"}"#,
        r#"{"v":nullx}"#,
        r#"{"v":[1]} {"v":[2]}"#,
        r#"{"v":[1]} x"#,
        r#"{"v":[1]"#,
        r#"{"x":"#,
        r#"{"x":"\"#,
        r#"{"x":[}"#,
        r#"{"x":]}"#,
        "{'v':[1]}",
        "{v:[1]}",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn numbers_of_updates_stay_away_from_where_two_roundings_differ() {
    let text = r#"{"v":[16777217.0000000001,1,0.1]}"#;
    assert_eq!(read(text), Some(vec![numbers(&[16777218.0, 1.0, 0.1]), Value::Missing, Value::Missing]));
    assert_eq!(read_as(text, Numbers::ByWayOfDouble), None);
    assert!(read_as(r#"{"v":[16777218,1,0.1]}"#, Numbers::ByWayOfDouble).is_some());
}

/// What serde_json's tree says of a path; `None` where that is not one plain value.
fn oracle(document: &Json, path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.split('.').collect();
    let mut found = Value::Missing;
    // Every way to part the path into keys.
    for cut in 0..1usize << (parts.len() - 1) {
        let mut keys = vec![parts[0].to_owned()];
        for (at, part) in parts[1..].iter().enumerate() {
            if cut >> at & 1 == 1 {
                keys.push((*part).to_owned());
            } else {
                let last = keys.last_mut().unwrap();
                last.push('.');
                last.push_str(part);
            }
        }
        let Some(value) = keys.iter().try_fold(document, |value, key| value.get(key)) else { continue };
        if found != Value::Missing {
            return None;
        }
        found = match value {
            Json::Null => Value::Null,
            Json::Array(values) => {
                let read =
                    |value: &Json| value.as_number().and_then(|number| number.to_string().parse().ok());
                Value::Numbers(values.iter().map(read).collect::<Option<_>>()?)
            }
            Json::String(digits) => Value::Bytes(bytes_of_hex(digits)?),
            _ => return None,
        };
    }
    Some(found)
}

fn json() -> impl Strategy<Value = Json> {
    let vector = prop_oneof![
        4 => prop::collection::vec(-1000i32..1000, 1..4)
            .prop_map(|values| Json::from(values.into_iter().map(|v| f64::from(v) / 8.0).collect::<Vec<_>>())),
        1 => Just(Json::Null),
        1 => "([0-9a-f]{2}){1,3}".prop_map(Json::from),
    ];
    let leaf = prop_oneof![
        6 => vector,
        1 => any::<i32>().prop_map(Json::from),
        1 => any::<bool>().prop_map(Json::from),
        2 => r#"[a-z"\\/\[\]{}:,\n é😀]{0,40}"#.prop_map(Json::from),
    ];
    let key = prop_oneof![
        6 => prop::sample::select(vec!["v", "o", "w", "p", "q", "o.w", "o.p", "p.q", "o.p.q", "x"]).prop_map(str::to_owned),
        1 => r#"[a-z."\\{}é]{0,5}"#,
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            4 => prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Either we read what serde_json reads, or the document is left to the feed.
    #[test]
    fn no_document_is_read_in_another_way(document in json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) };
        let text = text.unwrap();
        if let Some(found) = read(&text) {
            for (name, value) in fields().names.iter().zip(found) {
                // An object on the way that is an array or a number is nothing to serde_json's oracle.
                prop_assert_eq!(Some(value), oracle(&document, name), "{} in {}", name, text);
            }
        }
    }

    /// Documents without anything odd are read, every one.
    #[test]
    fn plain_documents_are_read(v in prop::collection::vec(-9i32..9, 1..4), other in r#"[a-z"\\é]{0,90}"#, long in prop::collection::vec(any::<f32>().prop_filter("finite", |v| v.is_finite()), 0..90)) {
        let text = serde_json::json!({"a": other, "l": long, "n": {"deep": [[{"x": other}]]}, "o": {"w": v, "t": other}, "z": null}).to_string();
        let expected = numbers(&v.iter().map(|v| *v as f32).collect::<Vec<_>>());
        prop_assert_eq!(read(&text), Some(vec![Value::Missing, expected, Value::Missing]));
    }

    #[test]
    fn any_bytes_are_read_or_left(bytes in prop::collection::vec(prop::sample::select(br#"{}[]":,.\/ vown0159-eulns"#.to_vec()), 0..60)) {
        let mut cursor = Cursor::new(&bytes);
        let _ = fields().read(&mut cursor, Numbers::AsWritten);
        prop_assert!(cursor.at <= bytes.len());
    }
}

#[test]
fn a_line_may_end_in_the_middle_of_an_escape() {
    let mut cursor = Cursor::new(br#"{"\"#);
    assert!(fields().read(&mut cursor, Numbers::AsWritten).is_err());
    assert_eq!(cursor.at, 3);
}
