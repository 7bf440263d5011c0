//! The catalog against answers as real nodes gave them.

use std::time::Duration;

use super::*;
use crate::routing::Routing;
use crate::score::Similarity;
use crate::version::Mode;

fn caps() -> Capabilities {
    Capabilities::of("9.2.0".parse().unwrap()).unwrap()
}

/// Cut from a 9.2.0 node: keys of a mapping come in no particular order there.
const STATE: &str = r#"{"version":57,"metadata":{"indices":{
 "x1":{"state":"open","settings":{"index":{"routing":{"allocation":{"include":{"_tier_preference":"data_content"}}},"refresh_interval":"5s","number_of_shards":"2","provided_name":"x1","creation_date":"1795228757821","number_of_replicas":"0","uuid":"t7HGHl8jTEuu8XthDaETpg","max_result_window":"500","version":{"created":"9039001"}}},
  "mappings":{"_doc":{"properties":{"a":{"ignore_malformed":true,"type":"integer"},
   "v":{"dims":3,"similarity":"l2_norm","meta":{"outrigger.ivf":"nlist=16 nprobe=4"},"index":true,"type":"dense_vector","index_options":{"type":"flat"}},
   "o":{"properties":{"w":{"type":"dense_vector","dims":4,"index":true,"similarity":"cosine","meta":{"outrigger.ivf":"default","own":"1"}}}},
   "n":{"type":"nested","properties":{"v":{"type":"dense_vector","dims":4,"index":true,"similarity":"cosine","meta":{"outrigger.ivf":"default"}}}},
   "nodims":{"type":"dense_vector","index":true,"similarity":"cosine","meta":{"outrigger.ivf":"default"}},
   "foreign":{"type":"dense_vector","dims":4,"index":true,"similarity":"cosine"},
   "bytes":{"type":"dense_vector","element_type":"byte","dims":4,"index":true,"similarity":"cosine","meta":{"outrigger.ivf":"default"}},
   "odd":{"type":"dense_vector","element_type":"bit","dims":12,"index":true,"similarity":"l2_norm","meta":{"outrigger.ivf":"default"}},
   "bits":{"type":"dense_vector","element_type":"bit","dims":16,"index":true,"similarity":"l2_norm","meta":{"outrigger.ivf":"default"}},
   "future":{"type":"dense_vector","dims":4,"index":true,"similarity":"cosine","meta":{"outrigger.ivf":"magic=1"}},
   "off":{"type":"dense_vector","dims":4,"index":false,"meta":{"outrigger.ivf":"default"}}}}}},
 "x2":{"state":"close","settings":{"index.uuid":"u2","index.number_of_shards":"1","index.version.created":"8512000"},"mappings":{}},
 "x3":{"state":"open","settings":{"index":{"uuid":"u3","number_of_shards":"1","routing_partition_size":"1","version":{"created":"8512000"}}},"mappings":{"_doc":{}}}}}}"#;

const ALIASES: &str = r#"{"x1":{"aliases":{"al":{},"w":{"is_write_index":true},"both":{},"alf":{"filter":{"term":{"a":1}}},"rt":{"index_routing":"1","search_routing":"1"}}},"x2":{"aliases":{"shut":{}}},"x3":{"aliases":{"both":{}}}}"#;

fn catalog() -> Catalog {
    Catalog::parse(STATE, ALIASES, &caps()).unwrap()
}

#[test]
fn reads_settings_nested_and_flat() {
    let catalog = catalog();
    assert_eq!(catalog.version, 57);
    let x1 = catalog.index("x1").unwrap();
    assert_eq!((&*x1.uuid, x1.shards, x1.open, x1.created), ("t7HGHl8jTEuu8XthDaETpg", 2, true, 9_039_001));
    assert!(x1.explicit_refresh && x1.has_nested);
    assert_eq!(x1.max_result_window, 500);
    assert!(!x1.resized && catalog.index("x3").unwrap().resized);
    let x2 = catalog.by_uuid("u2").unwrap();
    assert_eq!((&*x2.name, x2.open, x2.created, x2.max_result_window), ("x2", false, 8_512_000, 10_000));
    assert!(!x2.explicit_refresh && !x2.has_nested && !x2.resized);
}

#[test]
fn ours_are_searchable_vectors_with_known_dims() {
    let catalog = catalog();
    let fields = &catalog.index("x1").unwrap().fields;
    assert_eq!(fields.keys().map(|name| &**name).collect::<Vec<_>>(), ["bits", "bytes", "n.v", "o.w", "v"]);
    let v = &fields["v"];
    assert_eq!((v.spec.dims, v.similarity, &*v.stored), (3, Similarity::L2Norm, "nlist=16 nprobe=4"));
    assert_eq!((v.spec.options.nlist, v.spec.options.nprobe), (Some(16), Some(4)));
    assert_eq!((fields["n.v"].nested.as_deref(), &fields["o.w"].nested), (Some("n"), &None));
    let (bits, bytes) = (fields["bits"].spec, fields["bytes"].spec);
    assert_eq!((bits.element.name(), bits.dims, bits.values()), ("bit", 16, 2));
    assert_eq!((bytes.element.name(), bytes.dims, bytes.values()), ("byte", 4, 4));
    assert_eq!(catalog.adopted().map(|index| &*index.name).collect::<Vec<_>>(), ["x1"]);
}

#[test]
fn filters_rest_on_fields_of_adopted_indices() {
    let catalog = catalog();
    let fields = &catalog.index("x1").unwrap().filter_fields;
    assert_eq!(fields.get("a").map(|(kind, _)| kind), Some(FieldKind::Number));
    assert_eq!(fields.get("o.w").map(|(kind, _)| kind), Some(FieldKind::Opaque));
    assert_eq!(fields.get("n.v"), None);
    assert_eq!(*catalog.index("x3").unwrap().filter_fields, FilterFields::default());
}

#[test]
fn patterns_adopt_what_says_nothing_and_spare_what_was_released() {
    let state = STATE.replace(
        r#""future":"#,
        r#""free":{"type":"dense_vector","dims":4,"index":true,"similarity":"cosine","index_options":{"type":"int8_hnsw"},"meta":{"outrigger.ivf":"released"}},
   "beside":{"type":"dense_vector","dims":4,"index":true,"similarity":"cosine","index_options":{"type":"hnsw"},"meta":{"outrigger.ivf":"adopted nlist=3"}},
   "future":"#,
    );
    let read = |patterns: &str| {
        let catalog = Catalog::parse_adopting(&state, ALIASES, &caps(), &patterns.parse().unwrap()).unwrap();
        catalog.index("x1").unwrap().clone()
    };
    let x1 = read("other-*");
    let foreign: Vec<_> = x1.foreign.iter().map(|(path, field)| (&**path, field.released)).collect();
    assert_eq!(foreign, [("foreign", false), ("free", true)]);
    let beside = &x1.fields["beside"];
    assert_eq!(
        (beside.origin, beside.spec.options.nlist, beside.mode()),
        (Origin::Adopted, Some(3), Mode::Mirror)
    );
    assert_eq!((x1.fields["v"].origin, x1.fields["v"].mode()), (Origin::Mapping, Mode::Offload));
    let x1 = read("x*");
    assert_eq!(x1.fields["foreign"].origin, Origin::Pattern);
    assert!(!x1.fields.contains_key("free") && !x1.fields.contains_key("future"));
    // A picture in which a field lost its key, and what it takes to go on with it.
    let mut catalog = Catalog::parse(&state, ALIASES, &caps()).unwrap();
    let (path, field) = ("foreign".into(), x1.fields["foreign"].clone());
    catalog.keep("x1", &path, field);
    assert!(catalog.index("x1").unwrap().fields.contains_key("foreign"));
}

#[test]
fn an_index_that_refuses_reads_is_elasticsearchs_to_refuse() {
    let blocked = STATE.replace(r#""max_result_window":"500""#, r#""blocks":{"read":"true"}"#);
    let catalog = Catalog::parse(&blocked, ALIASES, &caps()).unwrap();
    assert!(matches!(catalog.resolve("x1"), Resolved::NotOne("read_block")));
    assert!(matches!(catalog.resolve("al"), Resolved::NotOne("read_block")));
}

#[test]
fn a_name_that_means_something_else_for_elasticsearch_is_no_field_of_ours() {
    let runtime = r#"{"_doc":{"runtime":{"v":{"type":"keyword"},"foreign":{"type":"long"}},"properties":{"#;
    let state = STATE.replace(r#"{"_doc":{"properties":{"#, runtime);
    let state = state.replace(r#""bytes":{"type"#, r#""b*":{"type"#);
    let catalog = Catalog::parse(&state, ALIASES, &caps()).unwrap();
    let x1 = catalog.index("x1").unwrap();
    assert_eq!(x1.fields.keys().map(|name| &**name).collect::<Vec<_>>(), ["bits", "n.v", "o.w"]);
    assert!(!x1.foreign.contains_key("foreign"));
}

/// Elasticsearch takes digits of all scripts, and keeps them as they came.
#[test]
fn an_index_that_cannot_be_followed_is_left_and_all_others_are_read() {
    let text = r#""max_result_window":"500""#;
    for (instead, left, reason) in [
        (r#""blocks":{"metadata":"true"}"#, Unfollowed::MetadataBlock, "metadata_block"),
        (
            r#""blocks":{"metadata":"true"},"max_result_window":"\u0661""#,
            Unfollowed::MetadataBlock,
            "metadata_block",
        ),
        (r#""max_result_window":"\u0661\u0660""#, Unfollowed::Setting("max_result_window"), "setting"),
        (r#""number_of_shards":"\u0662""#, Unfollowed::Setting("number_of_shards"), "setting"),
    ] {
        let state = STATE.replace(r#""number_of_shards":"2","#, "").replace(text, instead);
        let state = if instead.contains("shards") { state } else { STATE.replace(text, instead) };
        let catalog = Catalog::parse(&state, ALIASES, &caps()).unwrap();
        let x1 = catalog.index("x1").unwrap();
        assert_eq!((x1.left, x1.can_be_followed(), x1.fields.is_empty()), (Some(left), false, false));
        assert!(matches!(catalog.resolve("x1"), Resolved::NotOne(told) if told == reason), "{instead}");
        for names in ["x1", "al", "both", "x*"] {
            let refused = catalog.targets(names, &TargetOptions::default()).unwrap_err();
            assert_eq!(refused.0, reason, "{instead} {names}");
        }
        assert!(catalog.index("x3").unwrap().can_be_followed());
    }
}

#[test]
fn indices_whose_documents_may_carry_ignored_values_are_known() {
    let catalog = catalog();
    assert!(catalog.index("x1").unwrap().may_ignore, "field a has ignore_malformed");
    assert!(!catalog.index("x3").unwrap().may_ignore);
    for (settings, properties, expected) in [
        ("{}", r#"{"t":{"type":"text","fields":{"keyword":{"type":"keyword","ignore_above":256}}}}"#, true),
        ("{}", r#"{"o":{"properties":{"k":{"type":"keyword","ignore_above":9}}}}"#, true),
        ("{}", r#"{"n":{"type":"long","ignore_malformed":false}}"#, false),
        (r#"{"ignore_malformed":"true"}"#, "{}", true),
        (r#"{"ignore_malformed":"false"}"#, "{}", false),
    ] {
        let state = format!(
            r#"{{"version":1,"metadata":{{"indices":{{"i":{{"state":"open","settings":{{"index":{{"uuid":"u","number_of_shards":"1","version":{{"created":"1"}},"mapping":{settings}}}}},"mappings":{{"_doc":{{"properties":{properties}}}}}}}}}}}}}"#
        );
        let catalog = Catalog::parse(&state, "{}", &caps()).unwrap();
        assert_eq!(catalog.index("i").unwrap().may_ignore, expected, "{settings} {properties}");
    }
}

#[test]
fn vectors_that_source_lacks_cannot_be_read_before_doc_values_can() {
    for (source, readable) in [
        (r#"{}"#, true),
        (r#"{"enabled":false}"#, false),
        (r#"{"enabled":"false"}"#, false),
        (r#"{"mode":"synthetic"}"#, true),
        (r#"{"mode":"disabled"}"#, false),
        (r#"{"excludes":["o.w"]}"#, false),
        (r#"{"excludes":["o"]}"#, false),
        (r#"{"excludes":["*.w"]}"#, false),
        (r#"{"excludes":["w","o.w.*","p*"]}"#, true),
        (r#"{"includes":[]}"#, true),
        (r#"{"includes":["o.*"]}"#, true),
        (r#"{"includes":["title"]}"#, false),
        (r#"{"includes":["o"],"excludes":["o.*"]}"#, false),
    ] {
        let state = format!(
            r#"{{"version":1,"metadata":{{"indices":{{"i":{{"state":"open","settings":{{"index":{{"uuid":"u","number_of_shards":"1","search":{{"idle":{{"after":"5m"}}}},"version":{{"created":"1"}}}}}},"mappings":{{"_doc":{{"_source":{source},"properties":{{"o":{{"properties":{{"w":{{"type":"dense_vector","dims":4,"index":true,"similarity":"cosine","meta":{{"outrigger.ivf":"default"}}}}}}}}}}}}}}}}}}}}}}"#
        );
        for (version, expected) in [("8.15.3", readable), ("9.2.0", true)] {
            let caps = Capabilities::of(version.parse().unwrap()).unwrap();
            let catalog = Catalog::parse(&state, "{}", &caps).unwrap();
            let index = catalog.index("i").unwrap();
            assert_eq!(index.fields["o.w"].readable, expected, "{version}: {source}");
            assert_eq!(index.search_idle_after, Some(Duration::from_secs(300)));
        }
    }
}

#[test]
fn names_resolve_only_to_one_whole_open_index() {
    let catalog = catalog();
    for name in ["x1", "al", "w"] {
        assert!(matches!(catalog.resolve(name), Resolved::One(index) if &*index.name == "x1"), "{name}");
    }
    for (name, why) in [
        ("alf", "filtered_alias"),
        ("rt", "routed_alias"),
        ("both", "several_indices"),
        ("shut", "closed"),
        ("x2", "closed"),
        ("x1,x3", "expression"),
        ("x*", "expression"),
        ("_all", "expression"),
        ("<x-{now/d}>", "expression"),
        ("other:x1", "expression"),
    ] {
        assert!(matches!(catalog.resolve(name), Resolved::NotOne(reason) if reason == why), "{name}");
    }
    assert!(matches!(catalog.resolve("nope"), Resolved::Unknown));
}

#[test]
fn the_filter_of_an_alias_is_kept_to_the_letter() {
    let filter = r#"{"range":{"a":{"lt":1.9410820186749334e-6,"gt":12345678901234567890123}}}"#;
    let aliases = ALIASES.replace(r#"{"term":{"a":1}}"#, filter);
    let catalog = Catalog::parse(STATE, &aliases, &caps()).unwrap();
    let targets = catalog.targets("alf", &TargetOptions::default()).unwrap();
    assert_eq!(targets[0].filter.as_deref(), Some(filter));
}

#[test]
fn an_empty_cluster_and_a_broken_answer() {
    let catalog = Catalog::parse(r#"{"version":3}"#, "{}", &caps()).unwrap();
    assert_eq!((catalog.version, catalog.adopted().count()), (3, 0));
    assert_eq!(Catalog::empty().version, -1);
    assert!(matches!(Catalog::parse("{}", "{}", &caps()), Err(CatalogError::Json(_))));
    let no_indices = r#"{"version":1,"metadata":{"indices":{"a":7}}}"#;
    assert!(matches!(Catalog::parse(no_indices, "{}", &caps()), Err(CatalogError::Json(_))));
    let no_uuid = r#"{"version":1,"metadata":{"indices":{"a":{"settings":{"index":{"number_of_shards":"1","version":{"created":"1"}}}}}}}"#;
    let catalog = Catalog::parse(no_uuid, "{}", &caps()).unwrap();
    assert_eq!(catalog.index("a").unwrap().left, Some(Unfollowed::Setting("uuid")));
}

#[test]
fn what_writes_do_is_read_from_settings_and_mapping() {
    // Cut from a 9.2.0 node.
    let parse = |settings: &str, mapping: &str| {
        let state = format!(
            r#"{{"version":1,"metadata":{{"indices":{{"i":{{"settings_version":3,"routing_num_shards":640,"state":"open","settings":{{"index":{{"number_of_shards":"5","uuid":"u","version":{{"created":"9039001"}}{settings}}}}},"mappings":{{"_doc":{{{mapping}"properties":{{"t":{{"copy_to":["o.x","COPY"],"type":"text"}},"v":{{"dims":3,"type":"dense_vector","index":true,"meta":{{"outrigger.ivf":"default"}}}}}}}}}}}}}}}}}}"#
        );
        move |copy: &str| {
            let catalog = Catalog::parse(&state.replace("COPY", copy), "{}", &caps()).unwrap();
            catalog.index("i").unwrap().writes.clone()
        }
    };
    let plain = parse("", "")("o.y");
    let expected = WriteRules {
        settings_version: 3,
        routing: Routing::new(640, 5, 1),
        routing_required: false,
        has_pipeline: false,
        standard_mode: true,
        copies_into_vectors: false,
    };
    assert_eq!(plain, expected);
    assert!(plain.are_plain());
    assert!(parse("", "")("v").copies_into_vectors);
    let routed = parse(r#","routing_partition_size":"3""#, r#""_routing":{"required":true},"#)("o.y");
    assert_eq!(routed.routing, Routing::new(640, 5, 3));
    assert!(routed.routing_required && routed.are_plain());
    for (settings, plain) in [
        (r#","default_pipeline":"_none","final_pipeline":"_none""#, true),
        (r#","mode":"standard""#, true),
        (r#","default_pipeline":"p""#, false),
        (r#","final_pipeline":"p""#, false),
        (r#","mode":"logsdb""#, false),
        (r#","routing_partition_size":"x""#, false),
    ] {
        assert_eq!(parse(settings, "")("o.y").are_plain(), plain, "{settings}");
    }
}

#[test]
fn an_index_with_half_a_character_or_endless_depth_hides_no_other() {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(500), "}".repeat(500));
    let strange = format!(
        r#""strange":{{"state":"open","settings":{{"index":{{"uuid":"u","number_of_shards":"1","version":{{"created":"8512000"}},"routing":{deep}}}}},"mappings":{{"_doc":{{"_meta":{deep},"properties":{{"a\ud800":{{"type":"long"}},"\udc00":{{"type":"dense_vector","dims":3,"index":true,"similarity":"cosine","meta":{{"outrigger.ivf":"default"}}}}}}}}}}}},"x1""#
    );
    let state = STATE.replacen("\"x1\"", &strange, 1);
    let aliases = format!(
        r#"{{"strange":{{"aliases":{{"half\ud83d":{{}},"cut":{{"filter":{{"term":{{"a":"\ud800"}}}}}},"deep":{{"filter":{deep}}}}}}},{}"#,
        &ALIASES[1..]
    );
    let catalog = Catalog::parse(&state, &aliases, &caps()).unwrap();
    assert!(!catalog.index("x1").unwrap().fields.is_empty());
    assert!(catalog.index("strange").unwrap().fields.is_empty());
    let filter = |name: &str| catalog.targets(name, &TargetOptions::default()).unwrap()[0].filter.clone();
    assert_eq!(filter("cut").as_deref(), Some(UNREADABLE_FILTER));
    assert_eq!(filter("deep").as_deref(), Some(&*deep));
    assert!(matches!(catalog.resolve("half\u{fffd}"), Resolved::NotOne("expression")));
    assert!(matches!(catalog.resolve("al"), Resolved::One(_)));
}
