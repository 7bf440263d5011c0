//! Requests with their responses as real nodes gave them, in chunks of every size.

use std::sync::Arc;

use knn_types::{DocKey, SeqNo};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::catalog::Catalog;
use crate::version::Capabilities;
use crate::written::Wrote;

fn catalog() -> Arc<Catalog> {
    let field = |dims: usize, similarity: &str| json!({"type": "dense_vector", "dims": dims, "index": true, "similarity": similarity, "meta": {"outrigger.ivf": "default"}});
    let index = |shards: u32, settings: Value, properties: Value| {
        let mut all =
            json!({"number_of_shards": shards.to_string(), "uuid": "u", "version": {"created": "9039001"}});
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        json!({"settings_version": 1, "routing_num_shards": 640, "state": "open", "settings": {"index": all},
            "mappings": {"_doc": {"properties": properties}}})
    };
    let v = json!({"v": field(2, "l2_norm")});
    let state = json!({"version": 1, "metadata": {"indices": {
        "i": index(5, json!({}), v.clone()),
        "two": index(1, json!({}), json!({"v": field(2, "cosine"), "o": {"properties": {"w": field(2, "l2_norm")}}})),
        "bytes": index(1, json!({}), json!({"v": {"type": "dense_vector", "element_type": "byte", "dims": 2, "index": true, "similarity": "cosine", "meta": {"outrigger.ivf": "default"}}})),
        "piped": index(1, json!({"default_pipeline": "p"}), v.clone()),
        "sorted": index(1, json!({"mode": "logsdb"}), v.clone()),
        "plain": index(1, json!({}), json!({})),
        ".ds-logs-2026.11.21-000001": index(1, json!({}), v),
    }}});
    let aliases = json!({
        "i": {"aliases": {"al": {}, "several": {"is_write_index": true}, "routed": {"index_routing": "k"}, "filtered": {"filter": {"match_all": {}}}}},
        "two": {"aliases": {"several": {}}},
        "logs": {"aliases": {"logs-alias": {}}},
    });
    let caps = Capabilities::of("9.2.0".parse().unwrap()).unwrap();
    Arc::new(Catalog::parse(&state.to_string(), &aliases.to_string(), &caps).unwrap())
}

/// Runs a request and its response through, in chunks.
fn settle(mut scanner: WriteScanner, request: &str, response: &str, chunk: usize) -> Settled {
    request.as_bytes().chunks(chunk).for_each(|part| scanner.feed(part));
    let Some(mut reader) = AckReader::new(scanner, false) else { return Settled::default() };
    response.as_bytes().chunks(chunk).for_each(|part| reader.feed(part));
    reader.finish()
}

fn bulk_scanner(index: Option<&str>) -> WriteScanner {
    let addressed = Addressed { index: index.map(str::to_owned), ..Addressed::default() };
    WriteScanner::bulk(catalog(), vec!["off".into()], addressed, Limits::default())
}

fn bulk(index: Option<&str>, request: &str, items: &[Value]) -> Settled {
    let response = json!({"errors": false, "took": 1, "items": items}).to_string();
    let whole = settle(bulk_scanner(index), request, &response, usize::MAX);
    for chunk in [1, 3, 17, 64] {
        let parts = settle(bulk_scanner(index), request, &response, chunk);
        assert_eq!(format!("{whole:?}"), format!("{parts:?}"), "in chunks of {chunk}");
    }
    whole
}

fn item(action: &str, index: &str, id: &str, result: &str, seq_no: u64) -> Value {
    json!({action: {"_index": index, "_id": id, "_version": 1, "result": result, "_shards": {"total": 1, "successful": 1, "failed": 0},
        "_seq_no": seq_no, "_primary_term": 1, "status": 200}})
}

fn vectors(settled: &Settled) -> Vec<(&str, u64, &Wrote)> {
    settled.acknowledged.iter().map(|write| (&*write.doc.id, write.order.seq_no, &write.wrote)).collect()
}

fn document(vector: &[f32]) -> Wrote {
    Wrote::Document(vec![("v".into(), Some(vector.to_vec()))])
}

fn left(settled: &Settled) -> Vec<(Left, u64)> {
    settled.left.iter().map(|(why, count)| (*why, *count)).collect()
}

#[test]
fn every_action_of_a_bulk() {
    let request = concat!(
        "{\"index\":{\"_id\":\"1\"}}\n{\"v\":[1,2]}\n",
        "{\"create\":{\"_id\":\"2\",\"version\":3,\"version_type\":\"external\"}}\r\n{\"v\":null}\r\n",
        "\n  \n",
        "{\"update\":{\"_id\":\"3\",\"retry_on_conflict\":3}}\n{\"doc\":{\"v\":[3,4]},\"detect_noop\":false}\n",
        "{\"delete\":{\"_id\":\"4\",\"if_seq_no\":1,\"if_primary_term\":1}}\n",
        "{\"index\":{}}\n{\"x\":1}\n",
    );
    let items = [
        item("index", "i", "1", "created", 0),
        item("create", "i", "2", "created", 1),
        item("update", "i", "3", "created", 2),
        item("delete", "i", "4", "deleted", 3),
        item("index", "i", "rUVM_aEBkFdM5UIVUteu", "created", 4),
    ];
    let settled = bulk(Some("i"), request, &items);
    let none = Wrote::Document(vec![("v".into(), None)]);
    assert_eq!(
        vectors(&settled),
        [
            ("1", 0, &document(&[1.0, 2.0])),
            ("2", 1, &none),
            ("3", 2, &document(&[3.0, 4.0])),
            ("4", 3, &Wrote::Deletion),
            ("rUVM_aEBkFdM5UIVUteu", 4, &none),
        ]
    );
    assert!(settled.left.is_empty());
    let first = &settled.acknowledged[0];
    assert_eq!((&*first.index.name, first.shard, first.no_pipeline), ("i", 4, true));
    assert_eq!(first.order, SeqNo { primary_term: 1, seq_no: 0 });
    assert_eq!(first.doc, DocKey::new("1"));
}

#[test]
fn routing_comes_from_the_line_or_the_url() {
    let addressed =
        Addressed { index: Some("i".into()), routing: Some("url".into()), ..Addressed::default() };
    let request = concat!(
        "{\"index\":{\"_id\":\"1\"}}\n{\"v\":[1,2]}\n",
        "{\"index\":{\"_id\":\"2\",\"routing\":\"own\"}}\n{\"v\":[1,2]}\n",
        "{\"index\":{\"_id\":\"3\",\"routing\":\"\"}}\n{\"v\":[1,2]}\n",
        "{\"index\":{\"_id\":\"4\",\"routing\":null}}\n{\"v\":[1,2]}\n",
        "{\"delete\":{\"_id\":5.0,\"routing\":5.0}}\n",
    );
    let items: Vec<_> = ["1", "2", "3", "4"].iter().map(|id| item("index", "i", id, "created", 0)).collect();
    let items = [items, vec![item("delete", "i", "5.0", "deleted", 9)]].concat();
    let response = json!({"items": items}).to_string();
    let scanner = WriteScanner::bulk(catalog(), vec![], addressed, Limits::default());
    let settled = settle(scanner, request, &response, 9);
    let routing: Vec<_> = settled.acknowledged.iter().map(|write| write.doc.routing.as_deref()).collect();
    assert_eq!(routing, [Some("url"), Some("own"), None, Some("url"), Some("5.0")]);
    let rule = catalog().index("i").unwrap().writes.routing.unwrap();
    assert_eq!(settled.acknowledged[1].shard, rule.shard("2", Some("own")));
    assert_eq!(settled.acknowledged[2].shard, rule.shard("3", None));
}

#[test]
fn the_name_in_the_request_leads_to_the_index_in_the_response() {
    let write =
        |name: &str| format!("{{\"index\":{{\"_index\":\"{name}\",\"_id\":\"1\"}}}}\n{{\"v\":[1,2]}}\n");
    let backing = ".ds-logs-2026.11.21-000001";
    for (name, concrete, expected) in [
        ("i", "i", Ok(1)),
        ("al", "i", Ok(1)),
        ("filtered", "i", Ok(1)),
        ("several", "i", Ok(1)),
        ("logs", backing, Ok(1)),
        ("logs-alias", backing, Ok(1)),
        ("plain", "plain", Ok(0)),
        ("new", "new", Ok(0)),
        // Rolled over since: the feed learns the new index.
        ("logs", ".ds-logs-2026.11.21-000002", Err(Left::Target)),
        ("routed", "i", Err(Left::Target)),
        ("<i-{now/d}>", "i", Err(Left::Target)),
        ("piped", "piped", Err(Left::Pipeline)),
        ("sorted", "sorted", Err(Left::Index)),
        // An index with a field that the name did not lead to.
        ("al", "two", Err(Left::Target)),
    ] {
        let settled = bulk(Some("plain"), &write(name), &[item("index", concrete, "1", "created", 0)]);
        let got = match left(&settled)[..] {
            [] => Ok(settled.acknowledged.len()),
            [(why, 1)] => Err(why),
            _ => panic!("{name}: {settled:?}"),
        };
        assert_eq!(got, expected, "{name}");
    }
}

#[test]
fn vectors_are_what_lucene_stores() {
    let request = concat!(
        "{\"index\":{\"_index\":\"two\",\"_id\":\"1\"}}\n{\"o\":{\"w\":[3,4]},\"v\":[3,4]}\n",
        "{\"index\":{\"_index\":\"bytes\",\"_id\":\"2\"}}\n{\"v\":\"03fe\"}\n",
        "{\"index\":{\"_index\":\"bytes\",\"_id\":\"3\"}}\n{\"v\":[3.0,-2]}\n",
        "{\"index\":{\"_index\":\"i\",\"_id\":\"4\"}}\n{\"v\":\"0102\"}\n",
        "{\"index\":{\"_index\":\"i\",\"_id\":\"5\"}}\n{\"v\":[1]}\n",
        "{\"index\":{\"_index\":\"bytes\",\"_id\":\"6\"}}\n{\"v\":[1.5,1]}\n",
    );
    let names = ["two", "bytes", "bytes", "i", "i", "bytes"];
    let items: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(at, name)| item("index", name, &(at + 1).to_string(), "created", 0))
        .collect();
    let settled = bulk(None, request, &items);
    let both =
        Wrote::Document(vec![("o.w".into(), Some(vec![3.0, 4.0])), ("v".into(), Some(vec![0.6, 0.8]))]);
    let bytes = document(&[3.0, -2.0]);
    assert_eq!(vectors(&settled), [("1", 0, &both), ("2", 0, &bytes), ("3", 0, &bytes)]);
    assert_eq!(left(&settled), [(Left::Document, 3)], "what Elasticsearch would refuse is not ours to judge");
}

#[test]
fn updates_count_only_where_they_name_every_field() {
    let update_to = |result: &str, index: &str, source: &str| {
        let request = format!("{{\"update\":{{\"_index\":\"{index}\",\"_id\":\"1\"}}}}\n{source}\n");
        bulk(None, &request, &[item("update", index, "1", result, 7)])
    };
    let update = |index: &str, source: &str| update_to("created", index, source);
    // A document that was there keeps its own routing.
    let there = update_to("updated", "i", r#"{"doc":{"v":[1,2]},"doc_as_upsert":true}"#);
    assert_eq!(left(&there), [(Left::Update, 1)]);
    assert_eq!(
        vectors(&update("i", r#"{"doc":{"v":[1,2]},"doc_as_upsert":true}"#)),
        [("1", 7, &document(&[1.0, 2.0]))]
    );
    let nulls = Wrote::Document(vec![("o.w".into(), None), ("v".into(), None)]);
    assert_eq!(vectors(&update("two", r#"{"doc":{"v":null,"o":{"w":null}}}"#)), [("1", 7, &nulls)]);
    for source in [
        r#"{"doc":{"x":1}}"#,
        r#"{"doc":{"v":[1,2]},"upsert":{}}"#,
        r#"{"doc":{"v":[1,2]},"script":"s"}"#,
        r#"{"doc":{"v":[1,2]},"scripted_upsert":true}"#,
        r#"{"script":"s"}"#,
        "{}",
    ] {
        assert_eq!(left(&update("i", source)), [(Left::Update, 1)], "{source}");
    }
    assert_eq!(left(&update("two", r#"{"doc":{"v":[1,2]}}"#)), [(Left::Update, 1)]);
    assert_eq!(left(&update("two", r#"{"doc":{"v":[1,2],"o":null}}"#)), [(Left::Update, 1)]);
    assert_eq!(left(&update("i", r#"{"doc":{"v":[16777217,2]}}"#)), [(Left::Document, 1)]);
    assert_eq!(left(&update("i", r#"{"doc":{"v":[1,2]}} x"#)), [(Left::Document, 1)]);
}

#[test]
fn pipelines_leave_documents_to_the_feed() {
    let request = concat!(
        "{\"index\":{\"_id\":\"1\",\"pipeline\":\"_none\"}}\n{\"v\":[1,2]}\n",
        "{\"index\":{\"_id\":\"2\"}}\n{\"v\":[1,2]}\n",
        "{\"delete\":{\"_id\":\"3\"}}\n",
    );
    let items = [
        item("index", "i", "1", "created", 0),
        item("index", "i", "2", "created", 1),
        item("delete", "i", "3", "deleted", 2),
    ];
    let addressed = Addressed { index: Some("i".into()), pipeline: Some("p".into()), ..Addressed::default() };
    let response = json!({"took": 1, "ingest_took": 0, "items": items}).to_string();
    let scanner = WriteScanner::bulk(catalog(), vec![], addressed, Limits::default());
    let settled = settle(scanner, request, &response, 50);
    assert_eq!(vectors(&settled), [("1", 0, &document(&[1.0, 2.0])), ("3", 2, &Wrote::Deletion)]);
    assert_eq!(left(&settled), [(Left::Pipeline, 1)]);
    assert!(settled.acknowledged.iter().all(|write| !write.no_pipeline), "some pipeline ran");
}

#[test]
fn what_was_not_written_is_not_staged() {
    let request = "{\"index\":{\"_id\":\"1\"}}\n{\"v\":[1,2]}\n".repeat(3) + "{\"delete\":{\"_id\":\"1\"}}\n";
    let items = [
        json!({"index": {"_index": "i", "_id": "1", "status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "[1]: {\"v\":[1]}"}}}),
        json!({"index": {"_index": "i", "_id": "1", "_version": -3, "result": "noop", "status": 200}}),
        item("index", "i", "1", "updated", 5),
        item("delete", "i", "1", "not_found", 6),
    ];
    let settled = bulk(Some("i"), &request, &items);
    assert_eq!(vectors(&settled), [("1", 5, &document(&[1.0, 2.0]))]);
    assert!(settled.left.is_empty());
}

#[test]
fn odd_lines_leave_the_rest_to_the_feed() {
    let good = "{\"index\":{\"_id\":\"1\"}}\n{\"v\":[1,2]}\n";
    for odd in [
        "{\"index\":{\"_id\":\"1\",\"new_key\":1}}\n",
        "{\"upsert\":{\"_id\":\"1\"}}\n",
        "{\"index\":{\"_id\":\"1\"},\"x\":1}\n",
        "{\"index\":{\"_id\":\"1\"}} x\n",
        "{\"index\":{\"_\\u0069d\":\"1\"}}\n",
        "{\"index\":null}\n",
        "[]\n",
        "\u{feff}{\"index\":{\"_id\":\"1\"}}\n",
    ] {
        let request = format!("{good}{odd}{{\"v\":[1,2]}}\n{good}");
        let items: Vec<_> = (0..3).map(|n| item("index", "i", "1", "updated", n)).collect();
        let settled = bulk(Some("i"), &request, &items);
        assert_eq!(vectors(&settled), [("1", 0, &document(&[1.0, 2.0]))], "{odd}");
        assert_eq!(left(&settled), [(Left::Framing, 2)], "{odd}");
    }
}

#[test]
fn an_odd_document_is_left_alone_and_the_rest_goes_on() {
    let request = concat!(
        "{\"index\":{\"_id\":\"1\"}}\n{\"v\":[1,2] /* c */}\n",
        "{\"index\":{\"_id\":\"2\"}}\n{\"v\":[1,2]}\n",
    );
    let items = [item("index", "i", "1", "created", 0), item("index", "i", "2", "created", 1)];
    let settled = bulk(Some("i"), request, &items);
    assert_eq!(vectors(&settled), [("2", 1, &document(&[1.0, 2.0]))]);
    assert_eq!(left(&settled), [(Left::Document, 1)]);
}

#[test]
fn responses_that_do_not_tell_stage_nothing() {
    let request = "{\"index\":{\"_id\":\"1\"}}\n{\"v\":[1,2]}\n".repeat(2);
    let full = item("index", "i", "1", "created", 0);
    let of = |items: Value| json!({"errors": false, "items": items}).to_string();
    for (response, count) in [
        (json!({"errors": false}).to_string(), 2),
        (of(json!([full])), 2),
        (of(json!([full, full, full])), 2),
        (of(json!([full, full]))[..100].to_owned(), 2),
        (String::new(), 2),
        ("x".to_owned(), 2),
        (of(json!([{"index": {"status": 201}}, {"index": {"status": 201}}])), 2),
        (
            of(json!([{"index": {"_id": "1", "_seq_no": 1, "_primary_term": 1, "result": "created"}}, full])),
            1,
        ),
        // Another document than the one that was sent; another action.
        (of(json!([item("index", "i", "other", "created", 0), full])), 1),
        (of(json!([item("delete", "i", "1", "deleted", 0), full])), 1),
    ] {
        let settled = settle(bulk_scanner(Some("i")), &request, &response, 10);
        assert_eq!(left(&settled), [(Left::Response, count)], "{response}");
        assert_eq!(settled.acknowledged.len() as u64, 2 - count, "{response}");
    }
}

#[test]
fn a_request_without_its_end_is_not_followed_to_its_end() {
    let good = "{\"index\":{\"_id\":\"1\"}}\n{\"v\":[1,2]}\n";
    for request in [
        format!("{good}{{\"index\":{{\"_id\":\"2\"}}}}\n{{\"v\":[1,2]}}"),
        format!("{good}{{\"index\":{{\"_id\":\"2\"}}}}\n"),
    ] {
        let items = [item("index", "i", "1", "created", 0), item("index", "i", "2", "created", 1)];
        assert_eq!(left(&bulk(Some("i"), &request, &items)), [(Left::Framing, 1)]);
    }
}

#[test]
fn what_is_held_is_bounded() {
    let line = |bytes: usize| {
        format!("{{\"index\":{{\"_id\":\"1\"}}}}\n{{\"x\":\"{}\",\"v\":[1,2]}}\n", "x".repeat(bytes))
    };
    let limits = Limits { line_bytes: 1000, request_bytes: 1500 };
    let scanner = || {
        let addressed = Addressed { index: Some("i".into()), ..Addressed::default() };
        WriteScanner::bulk(catalog(), vec![], addressed, limits)
    };
    let items =
        |count: usize| json!({"items": vec![item("index", "i", "1", "updated", 0); count]}).to_string();
    // Each alone is looked at where it lies; only what is cut by a chunk's end must be kept.
    for chunk in [1, 100] {
        let settled = settle(scanner(), &(line(2000) + &line(10)), &items(2), chunk);
        assert_eq!((settled.acknowledged.len(), left(&settled)), (1, vec![(Left::TooLarge, 1)]));
    }
    let mut many = scanner();
    let request = line(10).repeat(100);
    request.as_bytes().chunks(64).for_each(|part| {
        many.feed(part);
        assert!(many.held() <= 1500 + 2000, "{}", many.held());
    });
    let settled = settle(scanner(), &request, &items(100), 64);
    let staged = settled.acknowledged.len() as u64;
    assert!(staged > 0 && staged < 50, "{staged}");
    assert_eq!(left(&settled), [(Left::Memory, 100 - staged)]);
    let mut long = scanner();
    long.feed(&vec![b' '; 5000]);
    assert!(long.held() < 2000);
    let mut stopped = scanner();
    stopped.feed(line(10).as_bytes());
    stopped.stop(Left::Encoding);
    let settled = settle(stopped, &line(10), &items(2), 64);
    assert_eq!((settled.acknowledged.len(), left(&settled)), (1, vec![(Left::Encoding, 1)]));
}

#[test]
fn nothing_of_interest_is_not_followed() {
    let mut scanner = bulk_scanner(Some("plain"));
    scanner.feed(b"{\"index\":{\"_id\":\"1\"}}\n{\"v\":[1,2]}\n{\"delete\":{\"_id\":\"1\"}}\n");
    assert!(AckReader::new(scanner, false).is_none());
}

fn single(operation: Operation, index: &str, id: Option<&str>, body: &str, response: &str) -> Settled {
    let settle_in = |chunk| {
        let addressed = Addressed {
            index: Some(index.to_owned()),
            id: id.map(str::to_owned),
            routing: Some("r".to_owned()),
            pipeline: None,
        };
        let scanner = WriteScanner::single(catalog(), vec![], operation, addressed, Limits::default());
        settle(scanner, body, response, chunk)
    };
    let whole = settle_in(usize::MAX);
    assert_eq!(format!("{whole:?}"), format!("{:?}", settle_in(5)));
    whole
}

#[test]
fn single_documents() {
    let response = |id: &str, result: &str| {
        json!({"_index": "i", "_id": id, "_version": 1, "result": result, "_shards": {"total": 2, "successful": 1, "failed": 0}, "_seq_no": 24, "_primary_term": 2}).to_string()
    };
    let written =
        single(Operation::Index, "i", Some("9"), "{\n \"v\": [1, 2]\n}\n", &response("9", "created"));
    assert_eq!(vectors(&written), [("9", 24, &document(&[1.0, 2.0]))]);
    let write = &written.acknowledged[0];
    assert_eq!((write.doc.routing.as_deref(), write.no_pipeline), (Some("r"), false));
    let automatic = single(Operation::Index, "i", None, "{\"v\":[1,2]}", &response("auto", "created"));
    assert_eq!(vectors(&automatic), [("auto", 24, &document(&[1.0, 2.0]))]);
    let upsert = "{\"doc\":{\"v\":[1,2]},\"doc_as_upsert\":true}";
    let made = single(Operation::Update, "i", Some("9"), upsert, &response("9", "created"));
    assert_eq!(vectors(&made), [("9", 24, &document(&[1.0, 2.0]))]);
    let deleted = single(Operation::Delete, "i", Some("9"), "", &(response("9", "deleted") + "\n"));
    assert_eq!(vectors(&deleted), [("9", 24, &Wrote::Deletion)]);
    for nothing in ["noop", "not_found"] {
        let settled = single(Operation::Delete, "i", Some("9"), "", &response("9", nothing));
        assert!(settled.acknowledged.is_empty() && settled.left.is_empty());
    }
    let cut = single(Operation::Index, "i", Some("9"), "{\"v\":[1,2]}", &response("9", "created")[..90]);
    assert_eq!(left(&cut), [(Left::Response, 1)]);
    let odd = single(Operation::Index, "i", Some("9"), "{\"v\":[1,2]} {}", &response("9", "created"));
    assert_eq!(left(&odd), [(Left::Document, 1)]);
    let piped = single(Operation::Index, "piped", Some("9"), "{\"v\":[1,2]}", &response("9", "created"));
    assert_eq!(left(&piped), [(Left::Pipeline, 1)]);
}

proptest! {
    /// Nothing that a client or a server sends makes trouble, and chunks make no difference.
    #[test]
    fn any_bytes_in_any_chunks(
        parts in prop::collection::vec(prop_oneof![
            4 => prop::sample::select(vec![
                "{\"index\":{\"_id\":\"1\"}}", "{\"v\":[1,2]}", "{\"delete\":{\"_id\":\"1\"}}", "\n", "\r\n", "{", "}", "\"", "\\", "{\"update\":{}}", "{\"doc\":{\"v\":null}}",
            ]).prop_map(|text| text.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..10),
        ], 0..12),
        answers in prop::collection::vec(prop_oneof![
            4 => prop::sample::select(vec!["{\"items\":[", "{\"index\":{\"_index\":\"i\",\"_id\":\"1\",\"result\":\"created\",\"_seq_no\":1,\"_primary_term\":1}}", ",", "]", "}", "\"", "\\"])
                .prop_map(|text| text.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..10),
        ], 0..12),
        chunk in 1usize..40,
    ) {
        let (request, response) = (parts.concat(), answers.concat());
        let run = |chunk: usize| {
            let mut scanner = bulk_scanner(Some("i"));
            request.chunks(chunk).for_each(|part| scanner.feed(part));
            AckReader::new(scanner, false).map(|mut reader| {
                response.chunks(chunk).for_each(|part| reader.feed(part));
                reader.finish()
            })
        };
        prop_assert_eq!(format!("{:?}", run(chunk)), format!("{:?}", run(usize::MAX)));
    }
}
