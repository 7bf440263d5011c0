//! Mappings there and back.

use knn_types::IvfOptions;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn caps(version: &str) -> Capabilities {
    Capabilities::of(version.parse().unwrap()).unwrap()
}

fn nothing_there(_: &str) -> Option<ExistingField> {
    None
}

fn create(body: &str) -> Result<Option<String>, MappingError> {
    let caps = caps("9.2.0");
    translate_create(
        body,
        &MappingContext { caps: &caps, unspecified_is_ivf: true, existing: &nothing_there },
    )
}

/// The body of an index whose field `v` is `definition`.
fn with_field(definition: &str) -> String {
    format!(r#"{{"mappings":{{"properties":{{"v":{definition}}}}}}}"#)
}

fn reason_of(definition: &str) -> String {
    create(&with_field(definition)).unwrap_err().reason
}

const GRAPH: &str = r#""index_options":{"type":"hnsw","m":16,"ef_construction":100}"#;

const THEIRS: &str = r#"{"type":"int8_flat","rescore_vector":{"oversample":3.0}}"#;

#[test]
fn explicit_ivf_keeps_every_other_byte() {
    let body = r#"{ "settings":{"x": 1.50},
 "mappings" : {"properties":{"o":{"properties":{"v" : {"type":"dense_vector" ,"index_options":{"nlist":1024, "type":"ivf","nprobe":24},"dims":3 } }},"t":{"type":"text"}}} }"#;
    let expected = body
        .replace(r#"{"nlist":1024, "type":"ivf","nprobe":24}"#, THEIRS)
        .replace(r#""dims":3 }"#, r#""dims":3,"meta":{"outrigger.ivf":"nlist=1024 nprobe=24"} }"#);
    assert_eq!(create(body).unwrap().unwrap(), expected);
}

#[test]
fn the_clients_meta_stays() {
    let translated =
        create(&with_field(r#"{"type":"dense_vector","meta":{"unit":"m"},"dims":3}"#)).unwrap().unwrap();
    let expected = with_field(&format!(
        r#"{{"type":"dense_vector","meta":{{"unit":"m","outrigger.ivf":"default"}},"dims":3,"index_options":{THEIRS}}}"#
    ));
    assert_eq!(translated, expected);
    let empty = create(&with_field(r#"{"type":"dense_vector","meta":{ }}"#)).unwrap().unwrap();
    assert!(empty.contains(r#""meta":{"outrigger.ivf":"default"},"index_options""#), "{empty}");
}

#[test]
fn versions_get_what_they_know() {
    let body = with_field(r#"{"type":"dense_vector","dims":3,"index_options":{"type":"ivf"}}"#);
    for (version, theirs) in
        [("8.12.0", r#""type":"hnsw""#), ("8.15.3", r#"{"type":"flat"}"#), ("9.1.0", THEIRS)]
    {
        let caps = caps(version);
        let ctx = MappingContext { caps: &caps, unspecified_is_ivf: true, existing: &nothing_there };
        let translated = translate_create(&body, &ctx).unwrap().unwrap();
        assert!(translated.contains(theirs), "{version}: {translated}");
    }
}

#[test]
fn bytes_and_bits_get_types_that_take_them() {
    for (version, theirs) in [
        ("8.12.0", r#""type":"hnsw""#),
        ("8.15.3", r#"{"type":"flat"}"#),
        ("9.1.0", r#"{"type":"flat"}"#),
        ("9.2.0", r#""type":"hnsw""#),
    ] {
        let caps = caps(version);
        let ctx = MappingContext { caps: &caps, unspecified_is_ivf: true, existing: &nothing_there };
        for definition in [
            r#"{"type":"dense_vector","dims":8,"element_type":"byte","index":true}"#,
            r#"{"type":"dense_vector","dims":8,"element_type":"bit","index_options":{"type":"ivf"}}"#,
        ] {
            let translated = translate_create(&with_field(definition), &ctx).unwrap().unwrap();
            assert!(translated.contains(theirs) && translated.contains(META_KEY), "{version}: {translated}");
        }
    }
}

#[test]
fn left_alone() {
    for definition in [
        r#"{"type":"dense_vector","dims":3,"index_options":{"type":"hnsw","m":8}}"#,
        r#"{"type":"dense_vector","dims":3,"index":false}"#,
        r#"{"type":"dense_vector","dims":3,"element_type":"half"}"#,
        r#"{"type":"dense_vector","dims":3,"element_type":"byte","index_options":{"type":"hnsw"}}"#,
        r#"{"type":"nested","include_in_root":true,"properties":{"w":{"type":"dense_vector","dims":3}}}"#,
        r#"{"type":"text","fields":{"w":{"type":"dense_vector","dims":3}}}"#,
        r#"{"type":"dense_vector","dims":3,"meta":{"a":"1","b":"1","c":"1","d":"1","e":"1"}}"#,
        r#"{"type":"dense_vector","dims":3,"dims":3}"#,
        r#"{"type":"dense_vector","dims":3,"index_options":null}"#,
        r#"{"type":"dense_vector","dims":3,"meta":"x"}"#,
    ] {
        assert_eq!(create(&with_field(definition)), Ok(None), "{definition}");
    }
    for body in ["", "[]", "{", "{}", r#"{"mappings":1}"#, r#"{"mappings":{"properties":[]}}"#] {
        assert_eq!(create(body), Ok(None), "{body}");
    }
    let caps = caps("9.2.0");
    let ctx = MappingContext { caps: &caps, unspecified_is_ivf: false, existing: &nothing_there };
    assert_eq!(translate_create(&with_field(r#"{"type":"dense_vector","dims":3}"#), &ctx), Ok(None));
}

#[test]
fn ivf_works_below_nested() {
    let explicit = r#"{"type":"dense_vector","index_options":{"type":"ivf"}}"#;
    for field in [explicit, r#"{"type":"dense_vector","dims":3}"#] {
        let body = with_field(&format!(r#"{{"type":"nested","properties":{{"w":{field}}}}}"#));
        for (version, theirs) in [
            ("8.12.0", GRAPH),
            ("8.13.0", r#"{"type":"flat"}"#),
            ("9.1.0", r#"{"type":"flat"}"#),
            ("9.2.0", GRAPH),
        ] {
            let caps = caps(version);
            let ctx = MappingContext { caps: &caps, unspecified_is_ivf: true, existing: &nothing_there };
            let translated = translate_create(&body, &ctx).unwrap().unwrap();
            assert!(translated.contains(theirs) && translated.contains(META_KEY), "{version}: {translated}");
        }
    }
    let deeper = format!(
        r#"{{"type":"nested","properties":{{"o":{{"type":"nested","properties":{{"w":{explicit}}}}}}}}}"#
    );
    assert!(create(&with_field(&deeper)).unwrap().unwrap().contains(GRAPH), "not indexed here");
}

#[test]
fn what_could_not_be_read_back_is_not_made() {
    let body = |options: &str| {
        format!(
            r#"{{"mappings":{{"_source":{{"excludes":["v"]}},"properties":{{"v":{{"type":"dense_vector","dims":3{options}}}}}}}}}"#
        )
    };
    for (version, can) in [("8.16.0", false), ("8.17.0", true)] {
        let caps = caps(version);
        let ctx = MappingContext { caps: &caps, unspecified_is_ivf: true, existing: &nothing_there };
        assert_eq!(translate_create(&body(""), &ctx).unwrap().is_some(), can, "{version}");
        let explicit = translate_create(&body(r#","index_options":{"type":"ivf"}"#), &ctx);
        assert_eq!(explicit.is_ok(), can, "{version}");
    }
}

#[test]
fn an_update_says_again_what_the_field_is() {
    let caps = caps("9.2.0");
    let existing = |path: &str| match path {
        "o.ours" => Some(ExistingField::Ivf { stored: "nlist=7".to_owned(), index_options: None }),
        "old" => {
            let index_options = Some(r#"{"type":"flat"}"#.to_owned());
            Some(ExistingField::Ivf { stored: "default".to_owned(), index_options })
        }
        "adopted" => Some(ExistingField::Adopted { stored: "adopted nprobe=3".to_owned() }),
        "theirs" => Some(ExistingField::Other),
        "mixed" => Some(ExistingField::Differing),
        _ => None,
    };
    let ctx = MappingContext { caps: &caps, unspecified_is_ivf: false, existing: &existing };
    let ours = r#"{"properties":{"o":{"properties":{"ours":{"type":"dense_vector","dims":3,"meta":{"unit":"m"}}}}}}"#;
    let translated = translate_update(ours, &ctx).unwrap().unwrap();
    assert!(translated.contains(r#""meta":{"unit":"m","outrigger.ivf":"nlist=7"}"#), "{translated}");
    assert!(translated.contains(THEIRS), "{translated}");

    let ctx = MappingContext { unspecified_is_ivf: true, ..ctx };
    let others = r#"{"properties":{"theirs":{"type":"dense_vector","dims":3}}}"#;
    assert_eq!(translate_update(others, &ctx), Ok(None));
    let update = |body: &str| translate_update(body, &ctx).unwrap();
    let field =
        |path: &str, rest: &str| format!(r#"{{"properties":{{"{path}":{{"type":"dense_vector"{rest}}}}}}}"#);
    let old = field("old", r#","index_options":{"type":"flat"},"meta":{"outrigger.ivf":"default"}"#);
    assert_eq!(update(&field("old", "")).unwrap(), old, "options stay what they are");
    let now_nlist = update(&field("old", r#","index_options":{"type":"ivf","nlist":9}"#)).unwrap();
    assert_eq!(now_nlist, old.replace("default", "nlist=9"));
    let meta = r#","meta":{"outrigger.ivf":"adopted nprobe=3"}"#;
    let hnsw = r#","index_options":{"type":"hnsw"}"#;
    assert_eq!(update(&field("adopted", "")).unwrap(), field("adopted", meta));
    assert_eq!(update(&field("adopted", hnsw)).unwrap(), field("adopted", &format!("{hnsw}{meta}")));
    let released = format!(r#"{hnsw},"meta":{{"outrigger.ivf":"released"}}"#);
    assert_eq!(update(&field("old", hnsw)).unwrap(), field("old", &released), "another type is not ours");
    assert!(update(&field("mixed", r#","index_options":{"type":"ivf"}"#)).is_some());
    let refused = translate_update(&field("mixed", ""), &ctx).unwrap_err();
    assert!(refused.reason.starts_with("[index_options] of field [mixed] must be given"), "{refused}");
    let full = r#"{"properties":{"o.ours":{"type":"dense_vector","meta":{"a":"1","b":"1","c":"1","d":"1","e":"1"}}}}"#;
    assert!(translate_update(full, &ctx).is_err());
}

#[test]
fn mistakes_get_elasticsearchs_sentences() {
    let ivf =
        |rest: &str| format!(r#"{{"type":"dense_vector","dims":3,"index_options":{{"type":"ivf"{rest}}}}}"#);
    assert_eq!(
        reason_of(&ivf(r#","zz":1,"y":{"a":[1,"b",2.5,null,true]}"#)),
        "Mapping definition for [v] has unsupported parameters:  [zz : 1] [y : {a=[1, b, 2.5, null, true]}]"
    );
    assert_eq!(
        reason_of(r#"{"type":"dense_vector","index":false,"index_options":{"type":"ivf"}}"#),
        "Field [index_options] can only be specified for a field of type [dense_vector] when it is indexed"
    );
    assert_eq!(
        reason_of(&ivf(r#","nlist":0"#)),
        "[nlist] must be an integer between 1 and 65536 for field [v], got [0]"
    );
    for wrong in [
        r#","nlist":"8""#,
        r#","nprobe":65537"#,
        r#","nprobe":1.5"#,
        r#","recall":1"#,
        r#","recall":0.4"#,
        r#","nprobe":1,"recall":0.9"#,
    ] {
        assert!(create(&with_field(&ivf(wrong))).is_err(), "{wrong}");
    }
    let full = r#"{"type":"dense_vector","index_options":{"type":"ivf"},"meta":{"a":"1","b":"1","c":"1","d":"1","e":"1"}}"#;
    assert!(reason_of(full).starts_with("[meta] of field [v]"));
}

#[test]
fn error_bodies_are_those_of_a_real_node() {
    let unsupported = MappingError { kind: "mapper_parsing_exception", reason: "R".to_owned() };
    assert_eq!(
        unsupported.body(),
        r#"{"error":{"root_cause":[{"type":"mapper_parsing_exception","reason":"R"}],"type":"mapper_parsing_exception","reason":"Failed to parse mapping: R","caused_by":{"type":"mapper_parsing_exception","reason":"R"}},"status":400}"#
    );
    let illegal = MappingError { kind: "illegal_argument_exception", reason: "R".to_owned() };
    assert_eq!(
        illegal.body(),
        r#"{"error":{"root_cause":[{"type":"mapper_parsing_exception","reason":"Failed to parse mapping: R"}],"type":"mapper_parsing_exception","reason":"Failed to parse mapping: R","caused_by":{"type":"illegal_argument_exception","reason":"R"}},"status":400}"#
    );
}

#[test]
fn shown_as_ivf_in_every_response_with_mappings() {
    // As 9.2.0 gave them: GET _mapping, GET _mapping/field/v, and the disorder of the cluster state.
    let cases = [
        (
            r#"{"x":{"mappings":{"properties":{"v":{"type":"dense_vector","dims":3,"index":true,"similarity":"l2_norm","index_options":{"type":"flat"},"meta":{"outrigger.ivf":"nlist=8 recall=0.95"}},"t":{"type":"text"}}}}}"#,
            r#"{"x":{"mappings":{"properties":{"v":{"type":"dense_vector","dims":3,"index":true,"similarity":"l2_norm","index_options":{"type":"ivf","nlist":8,"recall":0.95}},"t":{"type":"text"}}}}}"#,
        ),
        (
            r#"{"x":{"mappings":{"v":{"full_name":"v","mapping":{"v":{"type":"dense_vector","index_options":{"type":"flat"},"meta":{"a":"1","outrigger.ivf":"default"}}}}}}}"#,
            r#"{"x":{"mappings":{"v":{"full_name":"v","mapping":{"v":{"type":"dense_vector","index_options":{"type":"ivf"},"meta":{"a":"1"}}}}}}}"#,
        ),
        (
            r#"{"a":[{"meta":{"outrigger.ivf":"default"},"index":true,"type":"dense_vector"}],"b":{"type":"dense_vector","meta":{"outrigger.ivf":"default","z":"1"}}}"#,
            r#"{"a":[{"index":true,"type":"dense_vector","index_options":{"type":"ivf"}}],"b":{"type":"dense_vector","index_options":{"type":"ivf"},"meta":{"z":"1"}}}"#,
        ),
    ];
    for (theirs, ours) in cases {
        assert_eq!(show_ivf(theirs).unwrap(), ours);
        assert_eq!(show_ivf(&crate::pretty::pretty(theirs)).unwrap(), crate::pretty::pretty(ours));
        assert_eq!(show_ivf(ours), None);
    }
}

#[test]
fn an_adopted_field_shows_the_type_that_it_has() {
    let field =
        r#"{"v":{"type":"dense_vector","index_options":{"type":"hnsw"},"meta":{"outrigger.ivf":"adopted"}}}"#;
    let shown = r#"{"v":{"type":"dense_vector","index_options":{"type":"hnsw"}}}"#;
    assert_eq!(show_ivf(field).unwrap(), shown);
    assert_eq!(show_ivf(&field.replace("adopted", "released")).unwrap(), shown);
}

#[test]
fn every_place_of_a_mapping_is_translated() {
    let ivf = r#"{"type":"dense_vector","dims":3,"index_options":{"type":"ivf"}}"#;
    let unspecified = r#"{"type":"dense_vector","dims":3}"#;
    let places = [
        r#"{"properties":{"a":{"properties":{"b":{"type":"object","properties":{"v":FIELD}}}}}}"#,
        r#"{"properties":{"a.v":FIELD}}"#,
        r#"{"_doc":{"properties":{"v":FIELD}}}"#,
        r#"{"dynamic_templates":[{"t":{"match":"*","match_mapping_type":"object","mapping":{"type":"object","properties":{"v":FIELD}}}}]}"#,
        r#"{"dynamic_templates":[{"s":{"mapping":{"type":"keyword"}}},{"t":{"match":"*_v","mapping":FIELD}}],"properties":{}}"#,
    ];
    let caps = caps("9.2.0");
    let ctx = MappingContext { caps: &caps, unspecified_is_ivf: true, existing: &nothing_there };
    for place in places {
        for field in [ivf, unspecified] {
            let mapping = place.replace("FIELD", field);
            let translated = translate_update(&mapping, &ctx).unwrap().expect(place);
            assert!(translated.contains(THEIRS) && translated.contains(META_KEY), "{translated}");
            assert_eq!(show_ivf(&translated).unwrap(), place.replace("FIELD", ivf), "{translated}");
            for body in [r#"{"mappings":FIELD}"#, r#"{"settings":{},"mappings_override":FIELD}"#] {
                let body = |mapping: &str| body.replace("FIELD", mapping);
                assert_eq!(create(&body(&mapping)).unwrap(), Some(body(&translated)));
            }
            for body in [r#"{"index_patterns":["a"],"mappings":FIELD}"#, r#"{"template":{"mappings":FIELD}}"#]
            {
                let body = |mapping: &str| body.replace("FIELD", mapping);
                assert_eq!(translate_template(&body(&mapping), &ctx).unwrap(), Some(body(&translated)));
            }
        }
        let wrong = place.replace("FIELD", r#"{"type":"dense_vector","index_options":{"type":"ivf","x":1}}"#);
        assert!(translate_update(&wrong, &ctx).is_err(), "{wrong}");
    }
    for untouched in [
        r#"{"runtime":{"v":{"type":"dense_vector"}}}"#,
        r#"{"dynamic_templates":[{"t":{"runtime":{"type":"dense_vector"}}}]}"#,
        r#"{"dynamic_templates":{"t":{"mapping":{"type":"dense_vector"}}}}"#,
    ] {
        assert_eq!(translate_update(untouched, &ctx), Ok(None), "{untouched}");
    }
}

#[test]
fn field_caps_hide_the_key() {
    let response = format!(
        r#"{{"indices":["a"],"fields":{{"v":{{"dense_vector":{{"type":"dense_vector","searchable":true,"meta":{{"{META_KEY}":["default"],"own":["1"]}}}}}},"w":{{"dense_vector":{{"type":"dense_vector","meta":{{"{META_KEY}":["default"]}}}}}}}}}}"#
    );
    let shown = r#"{"indices":["a"],"fields":{"v":{"dense_vector":{"type":"dense_vector","searchable":true,"meta":{"own":["1"]}}},"w":{"dense_vector":{"type":"dense_vector"}}}}"#;
    assert_eq!(show_ivf(&response).unwrap(), shown);
}

#[test]
fn what_one_index_holds_hides_no_field_of_another() {
    let field = |options: &str, meta: &str| format!(r#"{{"type":"dense_vector"{options}{meta}}}"#);
    let shown = field(r#","index_options":{"type":"ivf"}"#, "");
    let stored = field("", r#","meta":{"outrigger.ivf":"default"}"#);
    let deep = format!(r#"{}"outrigger.ivf"{}"#, r#"{"a":["#.repeat(500), "]}".repeat(500));
    for strange in [
        format!(r#"{{"mappings":{{"_meta":{deep}}}}}"#),
        r#"{"mappings":{"_meta":{"\ud800":"\udc00","outrigger.ivf":1}}}"#.to_owned(),
        format!(
            r#"{{"mappings":{{"properties":{{"v":{}}}}}}}"#,
            field("", r#","meta":{"outrigger.ivf":"\ud800"}"#)
        ),
    ] {
        let all =
            |field: &str| format!(r#"{{"a":{strange},"b":{{"mappings":{{"properties":{{"v":{field}}}}}}}}}"#);
        assert_eq!(show_ivf(&all(&stored)).as_deref(), Some(&*all(&shown)), "{strange}");
    }
}

#[test]
fn other_uses_of_the_key_are_left_alone() {
    for text in [
        r#"{"type":"keyword","meta":{"outrigger.ivf":"default"}}"#,
        r#"{"type":"dense_vector","meta":{"outrigger.ivf":"from=the_future"}}"#,
        r#"{"outrigger.ivf":"#,
        "outrigger.ivf",
    ] {
        assert_eq!(show_ivf(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn clients_get_back_what_they_wrote(nlist in prop::option::of(1u32..=65_536), effort in prop::option::of(prop_oneof![(1u32..=65_536).prop_map(|n| json!({"nprobe": n})), (500u32..=999).prop_map(|r| json!({"recall": f64::from(r) / 1000.0}))]), meta in prop::collection::btree_map("[a-z]{1,8}", "[ -~]{0,20}", 0..5)) {
        let mut options = json!({"type": "ivf"});
        if let Some(nlist) = nlist {
            options["nlist"] = nlist.into();
        }
        for (key, value) in effort.iter().filter_map(Value::as_object).flatten() {
            options[key] = value.clone();
        }
        let mut field = json!({"type": "dense_vector", "dims": 3, "index_options": options});
        if !meta.is_empty() {
            field["meta"] = json!(meta);
        }
        let body = json!({"mappings": {"properties": {"a": {"properties": {"v": field}}}}});
        let translated = create(&body.to_string()).unwrap().unwrap();
        let stored: Value = serde_json::from_str(&translated).unwrap();
        let meta = stored["mappings"]["properties"]["a"]["properties"]["v"]["meta"].as_object().unwrap();
        prop_assert!(meta[META_KEY].as_str().unwrap().len() <= 50 && META_KEY.len() <= 20 && meta.len() <= 5);
        prop_assert_eq!(serde_json::from_str::<Value>(&show_ivf(&translated).unwrap()).unwrap(), body);
    }

    #[test]
    fn stored_options_come_back(nlist in prop::option::of(any::<u32>()), nprobe in prop::option::of(any::<u32>()), recall in prop::option::of(0.5f32..=0.999)) {
        let options = IvfOptions { nlist, nprobe, recall };
        for key in [Key::Ivf(options), Key::Adopted(options), Key::Released] {
            prop_assert_eq!(Key::read(&key.text()), Some(key));
        }
    }

    #[test]
    fn nothing_panics(text in r#"[{}\[\]":,a\\ ]{0,30}"#) {
        let _ = create(&text);
        let _ = create(&with_field(&text));
        let _ = show_ivf(&format!("{text}{META_KEY}{text}"));
    }
}
