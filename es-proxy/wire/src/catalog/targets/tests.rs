//! Targets as real nodes resolved them (8.10.4 to 9.2.0).

use super::*;
use crate::Capabilities;

/// `t1` has three shards, `t2` two, the others one.
fn catalog() -> Catalog {
    let index = |name: &str, shards: u32, state: &str, more: &str| {
        format!(
            r#""{name}":{{"state":"{state}","routing_num_shards":{num},"settings":{{"index":{{"uuid":"u-{name}","number_of_shards":"{shards}","version":{{"created":"8512000"}}{more}}}}},"mappings":{{}}}}"#,
            num = if shards == 3 { 768 } else { 1024 },
        )
    };
    let indices = [
        index("t1", 3, "open", ""),
        index("t2", 2, "open", ""),
        index("nov", 1, "open", ""),
        index("t3closed", 1, "close", ""),
        index("t4hidden", 1, "open", r#","hidden":"true""#),
        index("tsdb", 1, "open", r#","mode":"time_series""#),
        index("unread", 1, "open", r#","blocks":{"read":"true"}"#),
        index(".ds-logs-app-2026.01.01-000001", 1, "open", r#","hidden":"true""#),
    ];
    let state = format!(r#"{{"version":1,"metadata":{{"indices":{{{}}}}}}}"#, indices.join(","));
    let aliases = r#"{
        "t1":{"aliases":{"both":{},"rt":{"index_routing":"x","search_routing":"x"},"rs":{"search_routing":"x,y"},"ri":{"index_routing":"x"},"hid":{"is_hidden":true},"few":{"filter":{"term":{"a":1}}}}},
        "t2":{"aliases":{"both":{},"tt2":{}}},
        "t3closed":{"aliases":{"shut":{}}},
        "t4hidden":{"aliases":{"seen":{}}},
        "logs-app":{"aliases":{"all-logs":{}}}}"#;
    let caps = Capabilities::of("9.2.0".parse().unwrap()).unwrap();
    Catalog::parse(&state, aliases, &caps).unwrap()
}

/// Names with the number of shards searched.
fn of(target: &str) -> Result<Vec<String>, &'static str> {
    let (names, query) = target.split_once('?').unwrap_or((target, ""));
    let params = Params::parse(query).unwrap();
    let targets = TargetOptions::of(&params).and_then(|options| catalog().targets(names, &options));
    let told = |target: &Target| format!("{}/{}", target.index.name, target.shard_count());
    targets.map(|all| all.iter().map(told).collect()).map_err(|NotOurs(reason)| reason)
}

#[test]
fn names_lists_patterns_and_aliases_mean_what_they_mean_in_elasticsearch() {
    for (target, wanted) in [
        ("t1", "t1/3"),
        ("t2,t1", "t1/3 t2/2"),
        ("t1,t1", "t1/3"),
        ("both", "t1/3 t2/2"),
        ("both,t1", "t1/3 t2/2"),
        ("tt2", "t2/2"),
        ("tt*", "t2/2"),
        ("no*,t1", "nov/1 t1/3"),
        ("no*,t1,-nov", "t1/3"),
        ("t1,zz*", "t1/3"),
        ("t1,zz?ignore_unavailable=true", "t1/3"),
        ("t1,t3closed?ignore_unavailable=true", "t1/3"),
        ("hid", "t1/3"),
        ("t1,t2?expand_wildcards=none", "t1/3 t2/2"),
        ("t1?expand_wildcards=open,hidden", "t1/3"),
        ("ri", "t1/3"),
        ("rt", "t1/1"),
        ("t1?routing=x", "t1/1"),
        ("t4hidden", "t4hidden/1"),
        ("seen", "t4hidden/1"),
    ] {
        assert_eq!(of(target).map(|names| names.join(" ")).as_deref(), Ok(wanted), "{target}");
    }
    let few = catalog().targets("few", &TargetOptions::default()).unwrap();
    assert_eq!(few[0].filter.as_deref(), Some(r#"{"term":{"a":1}}"#));
    // `t4hidden` and `t3closed` stay out of every pattern.
    assert_eq!(of("t*,-tsdb").unwrap(), ["t1/3", "t2/2"]);
    let routed = catalog().targets("t1", &TargetOptions::of(&Params::parse("routing=x").unwrap()).unwrap());
    // Seen in `_search_shards?routing=x`.
    assert_eq!(routed.unwrap()[0].shards.as_deref(), Some(&[2][..]));
}

#[test]
fn what_is_an_error_or_unclear_is_elasticsearchs() {
    for (target, reason) in [
        ("zz", "unknown_index"),
        ("t1,zz", "unknown_index"),
        ("zz*", "unknown_index"),
        ("t1,zz*?allow_no_indices=false", "unknown_index"),
        ("T1", "unknown_index"),
        ("t1,", "expression"),
        (",t1", "expression"),
        ("t1,_all", "expression"),
        ("-t2,t1", "expression"),
        ("t1,-t*", "expression"),
        ("t*,-both", "expression"),
        ("t*,-zz", "unknown_index"),
        ("t1,*2,-t1", "expression"),
        ("t3closed", "closed"),
        ("shut", "closed"),
        ("se*", "expression"),
        ("unread", "read_block"),
        ("<t1>", "expression"),
        ("other:t1", "expression"),
        ("t1::data", "expression"),
        (".t*", "expression"),
        ("t*?expand_wildcards=all", "expression"),
        ("few,t2", "filtered_alias"),
        ("f*", "expression"),
        ("rt,t2", "alias_routing"),
        ("rt?routing=y", "routing"),
        ("r*", "expression"),
        ("t1?routing=", "routing"),
        ("tsdb?routing=x", "routing"),
        ("logs-app", "unknown_index"),
        ("logs-app,t1?ignore_unavailable=true", "unknown_index"),
        ("all-logs", "data_stream"),
        ("l*", "data_stream"),
        ("*", "data_stream"),
        ("", "data_stream"),
        ("t1?ignore_unavailable=maybe", "parameter"),
        ("t1?expand_wildcards=nope", "parameter"),
        ("t1?expand_wildcards=open,", "parameter"),
        ("t1?expand_wildcards=OPEN", "parameter"),
    ] {
        assert_eq!(of(target), Err(reason), "{target}");
    }
}
