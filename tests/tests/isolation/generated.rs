//! Attacks that nobody thought of: every documented endpoint, with names inside and outside in random spellings in
//! its path, its parameters and random bodies. Each is sent twice, about an index outside that is there and about
//! one that is not: both answers must be the same but for the name, so that nobody learns what exists.
//!
//!     ISOLATION_SEED=7 ISOLATION_ATTACKS=20000 cargo test -p outrigger-tests --test isolation generated

use outrigger_tests::{Api, Elasticsearch, Outrigger, api_description};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::json;

use crate::attempt::{Answer, Attempt, attempt, encoded};
use crate::outside::outside;
use crate::{CONFIG, MARKER, UNNAMED, fill};

/// The version whose description is used, whatever version answers.
const DESCRIBED: &str = "9.2.0";
/// One is there, the other is not.
const OUTSIDE: [&str; 2] = ["secret", "absent"];
const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "PUT", "DELETE"];
/// Attacks until what lies inside, which they may delete, is as in the beginning.
const PER_ROUND: usize = 25;

struct Endpoint {
    method: &'static str,
    path: String,
    parameters: Vec<String>,
    takes_lines: bool,
}

fn endpoints() -> Vec<Endpoint> {
    let mut all = Vec::new();
    for described in api_description(DESCRIBED).values() {
        let parameters: Vec<String> =
            described["params"].as_object().into_iter().flat_map(|all| all.keys().cloned()).collect();
        for path in described["url"]["paths"].as_array().into_iter().flatten() {
            for method in path["methods"].as_array().into_iter().flatten() {
                let known = METHODS.into_iter().find(|known| method == known);
                all.extend(known.map(|method| Endpoint {
                    method,
                    path: path["path"].as_str().expect("a path").to_owned(),
                    parameters: parameters.clone(),
                    takes_lines: described["body"]["serialize"] == "bulk",
                }));
            }
        }
    }
    all
}

/// Names of which `NAME` stands for the one outside.
const SPELLINGS: [&str; 26] = [
    "NAME",
    "NAME",
    "NAME",
    "NAME",
    "acme-1",
    "acme-1",
    "acme-2",
    "acme-in",
    "acme-*",
    "acme-1,NAME",
    "NAME,acme-1",
    "NAME*",
    "*NAME",
    "acme-*,-NAME",
    "*,-NAME",
    "-NAME",
    "<NAME>",
    "<NAME-{now/d}>",
    "<acme-{now{'NAME'}}>",
    "NAME::data",
    "c:NAME",
    "acme-out",
    "acme-1,<NAME>",
    " NAME",
    "acme-1/../NAME",
    "NAME,",
];

/// Bodies in which `NAME` stands for a spelling.
const BODIES: [&str; 46] = [
    "",
    "{}",
    r#"{"query":{"match_all":{}}}"#,
    r#"{"query":{"terms":{"t":{"index":"NAME","id":"1","path":"t"}}}}"#,
    r#"{"query":{"bool":{"must_not":[{"terms":{"t":{"path":"t","id":"1","index":"NAME"}}}]}}}"#,
    r#"{"query":{"geo_shape":{"t":{"indexed_shape":{"index":"NAME","id":"1","path":"t"}}}}}"#,
    r#"{"query":{"percolate":{"field":"t","index":"NAME","id":"1"}}}"#,
    r#"{"query":{"more_like_this":{"fields":["t"],"like":{"_index":"NAME","_id":"1"},"min_term_freq":1,"min_doc_freq":1}}}"#,
    r#"{"query":{"term":{"_index":"NAME"}}}"#,
    r#"{"query":{"prefix":{"_index":"NAME"}}}"#,
    r#"{"aggs":{"a":{"terms":{"field":"_index"}}}}"#,
    r#"{"aggs":{"a":{"global":{},"aggs":{"b":{"top_hits":{}}}}}}"#,
    r#"{"aggs":{"a":{"filters":{"filters":{"x":{"terms":{"t":{"index":"NAME","id":"1","path":"t"}}}}}}}}"#,
    r#"{"suggest":{"s":{"text":"a","phrase":{"field":"t","collate":{"query":{"source":"{\"terms\":{\"t\":{\"index\":\"NAME\",\"id\":\"1\",\"path\":\"t\"}}}"}}}}}}"#,
    r#"{"indices_boost":[{"NAME":2}]}"#,
    r#"{"runtime_mappings":{"r":{"type":"lookup","target_index":"NAME","input_field":"t","target_field":"t","fetch_fields":["t"]}},"fields":["r"]}"#,
    r#"{"pit":{"id":"NAME"}}"#,
    r#"{"index_filter":{"terms":{"t":{"index":"NAME","id":"1","path":"t"}}},"fields":["*"],"field":"t"}"#,
    r#"{"knn":{"field":"t","query_vector":[1],"k":1,"num_candidates":1,"filter":{"terms":{"t":{"index":"NAME","id":"1","path":"t"}}}}}"#,
    r#"{"retriever":{"standard":{"query":{"terms":{"t":{"index":"NAME","id":"1","path":"t"}}}}}}"#,
    r#"{"docs":[{"_index":"NAME","_id":"1"}]}"#,
    r#"{"docs":[{"_index":["NAME"],"_id":"1"}],"ids":["1"]}"#,
    r#"{"ids":["1"],"parameters":{"_index":"NAME"}}"#,
    r#"{"source":{"index":"NAME"},"dest":{"index":"acme-2"}}"#,
    r#"{"source":{"index":"acme-1"},"dest":{"index":"NAME"}}"#,
    r#"{"source":{"index":["acme-1","NAME"],"query":{"match_all":{}}},"dest":{"index":"acme-2"}}"#,
    r#"{"actions":[{"add":{"index":"NAME","alias":"acme-x"}}]}"#,
    r#"{"actions":[{"add":{"index":"acme-1","alias":"NAME"}}]}"#,
    r#"{"actions":[{"remove":{"indices":["NAME"],"aliases":["*"]}},{"remove_index":{"index":"NAME"}}]}"#,
    r#"{"actions":[{"modify":{"data_stream":"acme-d","index":"NAME"}}]}"#,
    r#"{"aliases":{"NAME":{}}}"#,
    r#"{"aliases":{"acme-x":{"filter":{"terms":{"t":{"index":"NAME","id":"1","path":"t"}}}}}}"#,
    r#"{"index":"NAME","alias":"acme-x"}"#,
    r#"{"settings":{"index.default_pipeline":"NAME"}}"#,
    r#"{"settings":{"analysis":{"filter":{"f":{"type":"synonym","synonyms_set":"NAME"}}}}}"#,
    r#"{"mappings":{"properties":{"q":{"type":"percolator"}}}}"#,
    r#"{"properties":{"NAME":{"type":"keyword"}}}"#,
    r#"{"index_patterns":["NAME"],"template":{"aliases":{"NAME":{}}}}"#,
    r#"{"index_patterns":["acme-t*"],"composed_of":["NAME"]}"#,
    r#"{"indices":"NAME","include_global_state":false}"#,
    r#"{"scroll_id":"NAME"}"#,
    r#"{"id":"NAME","query":"FROM NAME","source":"NAME"}"#,
    r#"{"requests":[{"id":"a","request":{"query":{"match_all":{}}},"ratings":[{"_index":"NAME","_id":"1","rating":1}]}],"metric":{"precision":{}}}"#,
    r#"{"script":{"source":"ctx._index = 'NAME'"}}"#,
    r#"{"text":"NAME","tokenizer":"keyword","filter":[{"type":"synonym","synonyms_path":"NAME"}]}"#,
    r#"{"t":"NAME","index":"NAME","_index":"NAME"}"#,
];

const LINES: [&str; 14] = [
    "{\"index\":{\"_index\":\"NAME\",\"_id\":\"9\"}}\n{}\n",
    "{\"index\":{\"_index\":\"acme-1\",\"_id\":\"8\"}}\n{\"_index\":\"NAME\"}\n{\"delete\":{\"_index\":\"NAME\",\"_id\":\"1\"}}\n",
    "{\"create\":{\"_id\":\"9\",\"_index\":\"NAME\",\"require_alias\":true}}\n{}\n",
    "{\"update\":{\"_index\":\"NAME\",\"_id\":\"1\"}}\n{\"doc\":{}}\n",
    "{\"delete\":{\"_index\":\"acme-2\",\"_id\":\"9\"}}\r\n{\"delete\":{\"_index\":\"NAME\",\"_id\":\"1\"}}\r\n",
    "{\"index\":{\"_index\":\"acme-1\",\"pipeline\":\"NAME\"}}\n{}\n",
    "{\"index\":\"NAME\"}\n{}\n",
    "{\"index\":[\"acme-1\",\"NAME\"],\"expand_wildcards\":\"all\",\"ignore_unavailable\":true}\n{}\n",
    "{\"index\":\"acme-1\"}\n{\"query\":{\"terms\":{\"t\":{\"index\":\"NAME\",\"id\":\"1\",\"path\":\"t\"}}}}\n",
    "{}\n{\"indices_boost\":{\"NAME\":2}}\n",
    "{\"index\":\"acme-1\"}\n{\"pit\":{\"id\":\"NAME\"}}\n",
    "{\"index\":\"acme-1\"}\n{}\n{\"index\":\"NAME\"}\n{}\n",
    "{}\n{}\n",
    "{\"index\":{}}\n{\"index\":{\"_index\":\"NAME\"}}\n",
];

/// What both of a pair have in common.
struct Attack {
    method: &'static str,
    target: String,
    body: String,
    takes_lines: bool,
}

impl Attack {
    fn draw(random: &mut Xoshiro256PlusPlus, endpoints: &[Endpoint]) -> Self {
        let (own, all) = (random.gen_bool(0.8), endpoints);
        let endpoint = loop {
            let endpoint = all.choose(random).expect("endpoints");
            if !own || is_for_tenants(&endpoint.path) {
                break endpoint;
            }
        };
        let target: Vec<String> = endpoint.path.split('/').map(|part| segment(part, random)).collect();
        let mut target = target.join("/");
        if random.gen_bool(0.15) {
            let own = endpoint.parameters.choose(random).cloned();
            let names = [
                "index",
                "indices",
                "target",
                "name",
                "alias",
                "source",
                "scroll_id",
                "pipeline",
                "routing",
                "preference",
            ];
            let name = own.filter(|_| random.gen_bool(0.5));
            let name = name.unwrap_or_else(|| (*names.choose(random).expect("names")).to_owned());
            let value = spelling(random);
            target.push_str(&format!("?{}={}", encoded(&name), encoded(value)));
        }
        let bodies: &[&str] = if endpoint.takes_lines { &LINES } else { &BODIES };
        let body = if endpoint.method == "HEAD" { "" } else { bodies.choose(random).expect("bodies") };
        let body = body.replace("NAME", &spelling(random).replace('"', "\\\""));
        Self { method: endpoint.method, target, body, takes_lines: endpoint.takes_lines }
    }

    fn about(&self, name: &str) -> Attempt {
        let attempt =
            attempt(self.method, self.target.replace("NAME", name), self.body.replace("NAME", name));
        let has_body = !attempt.body.is_empty();
        if self.takes_lines && has_body {
            attempt.with("content-type", "application/x-ndjson")
        } else {
            attempt
        }
    }
}

/// Endpoints of which most are let through where all names lie inside.
fn is_for_tenants(path: &str) -> bool {
    let first = path.split('/').nth(1).unwrap_or_default();
    let known = [
        "_aliases",
        "_alias",
        "_analyze",
        "_bulk",
        "_cat",
        "_create_from",
        "_data_stream",
        "_index_template",
        "_mget",
        "_msearch",
        "_mtermvectors",
        "_pit",
        "_reindex",
        "_resolve",
        "_search",
        "_template",
        "_component_template",
    ];
    first.starts_with('{') || known.contains(&first)
}

fn spelling(random: &mut Xoshiro256PlusPlus) -> &'static str {
    SPELLINGS.choose(random).expect("spellings")
}

/// A part of a path; where it is a placeholder, with a name for it.
fn segment(part: &str, random: &mut Xoshiro256PlusPlus) -> String {
    if !part.starts_with('{') {
        return part.to_owned();
    }
    if matches!(part, "{id}" | "{field}" | "{fields}" | "{metric}") && random.gen_bool(0.8) {
        return "1".to_owned();
    }
    let name = if random.gen_bool(0.6) { "acme-1" } else { spelling(random) };
    encoded(name)
}

/// An answer without the name asked for, and without what chance and clocks decide.
fn told(answer: &Answer, name: &str) -> (u16, String) {
    let text = answer.text().replace(name, "NAME");
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            digit if digit.is_ascii_digit() => {
                if !out.ends_with('#') {
                    out.push('#');
                }
            }
            other => out.push(other),
        }
    }
    (answer.status, out)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[tokio::test]
async fn generated_attacks_learn_and_change_nothing() {
    let (seed, attacks) = (number("ISOLATION_SEED", 5), number("ISOLATION_ATTACKS", 400));
    eprintln!("ISOLATION_SEED={seed}");
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let elasticsearch = Elasticsearch::start("isolation-generated").await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("outrigger.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let direct = elasticsearch.api();
    fill(&direct).await;
    let flags = ["--config", config.to_str().unwrap()];
    let outrigger = Outrigger::start_with(elasticsearch.url(), &folder.path().join("data"), &flags).await;
    let endpoints = endpoints();
    let send = async |attack: &Attack, name: &str| {
        let answer = attack.about(name).send(outrigger.url(), Some("acme"), "x").await;
        let what = format!("ISOLATION_SEED={seed}: {} {} {}", attack.method, attack.target, attack.body);
        assert_ne!(answer.status, 0, "{what}: no answer");
        assert!(
            !answer.text().contains(MARKER) && !answer.text().contains(UNNAMED),
            "{what}: {}",
            answer.text()
        );
        told(&answer, name)
    };
    let (mut refused, mut passed) = (0, 0);
    for round in 0..attacks.div_ceil(PER_ROUND as u64) {
        let leads_out = random.gen_bool(0.3);
        restore_inside(&direct, leads_out).await;
        let before = outside(&direct).await;
        for _ in 0..PER_ROUND {
            let attack = Attack::draw(&mut random, &endpoints);
            let (first, second) = (send(&attack, OUTSIDE[0]).await, send(&attack, OUTSIDE[1]).await);
            if first.0 == 403 {
                refused += 1
            } else {
                passed += 1
            }
            if first == second {
                continue;
            }
            // The first of them may have changed what lies inside, or chance speaks.
            restore_inside(&direct, leads_out).await;
            let again = send(&attack, OUTSIDE[1]).await;
            restore_inside(&direct, leads_out).await;
            let control = send(&attack, OUTSIDE[1]).await;
            assert!(
                first == again || again != control,
                "ISOLATION_SEED={seed} round {round}: {} {} {}\nthere: {first:?}\nnot there: {again:?}",
                attack.method,
                attack.target,
                attack.body
            );
        }
        assert_eq!(outside(&direct).await, before, "ISOLATION_SEED={seed} round {round}");
    }
    eprintln!("{refused} refused, {passed} let through");
    assert!(refused > attacks / 4 && passed > attacks / 10, "{refused} refused, {passed} let through");
}

/// What lies inside, as in the beginning.
async fn restore_inside(direct: &Api, leads_out: bool) {
    direct.call("DELETE", "/_data_stream/acme-*", None).await;
    let inside = direct.get("/_cat/indices/acme-*?format=json&h=index&expand_wildcards=all").await.body;
    // An alias among them leads out.
    let names = inside.as_array().into_iter().flatten().filter_map(|index| index["index"].as_str());
    for index in names.filter(|name| name.starts_with("acme-")) {
        direct.call("DELETE", &format!("/{index}"), None).await.ok();
    }
    direct.call("DELETE", "/_index_template/acme-*", None).await;
    let mapping = json!({"settings": {"number_of_shards": 1, "number_of_replicas": 0},
        "mappings": {"properties": {"t": {"type": "keyword"}}}, "aliases": {"acme-in": {}}});
    for index in ["acme-1", "acme-2"] {
        direct.put(&format!("/{index}"), mapping.clone()).await.ok();
        direct.put(&format!("/{index}/_doc/1?refresh=true"), json!({"t": "red"})).await.ok();
    }
    // With it no pattern is allowed that covers it.
    if leads_out {
        let actions = json!({"actions": [{"add": {"indices": ["acme-1", "secret"], "alias": "acme-out"}}]});
        direct.post("/_aliases", actions).await.ok();
    } else {
        direct.call("DELETE", "/secret/_alias/acme-out", None).await;
    }
}
