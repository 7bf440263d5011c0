//! What lies outside: nobody who is bound sees it, changes it, or has it meant by a name.

use outrigger_tests::{Api, Elasticsearch, Outrigger};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::Value;

use crate::attempt::{attempt, encoded};
use crate::by_body::{by_definition, by_encoding, by_lines, by_lookup};
use crate::by_target::{by_context, by_endpoint, by_name};
use crate::{MARKER, UNNAMED};

pub(crate) async fn nothing_gets_out(elasticsearch: &Elasticsearch, outrigger: &Outrigger) -> usize {
    let direct = elasticsearch.api();
    let before = outside(&direct).await;
    let mut attempts = by_name();
    attempts.extend(by_lookup());
    attempts.extend(by_lines());
    attempts.extend(by_definition());
    attempts.extend(by_endpoint());
    attempts.extend(by_encoding());
    attempts.extend(by_context(&direct).await);
    assert!(attempts.len() >= 400, "{}", attempts.len());
    for (number, attempt) in attempts.iter().enumerate() {
        let answer = attempt.send(outrigger.url(), Some("acme"), &format!("sent-{number}")).await;
        let what =
            format!("{} {} {}", attempt.method, attempt.target, String::from_utf8_lossy(&attempt.body));
        assert_eq!(answer.status, 403, "{what}: {}", answer.text());
        let error = &answer.json()["error"];
        if attempt.method != "HEAD" {
            assert_eq!(error["type"], "security_exception", "{what}");
            assert!(
                error["reason"].as_str().unwrap().starts_with("tenant [acme] is bound to [acme-*]: "),
                "{what}"
            );
        }
        assert!(
            !answer.text().contains(MARKER) && !answer.text().contains(UNNAMED),
            "{what}: {}",
            answer.text()
        );
    }
    assert_eq!(outside(&direct).await, before);
    eprintln!("{} attempts", attempts.len());
    attempts.len()
}

/// Everything outside, as Elasticsearch shows it.
pub(crate) async fn outside(direct: &Api) -> Vec<Value> {
    direct.call("POST", "/_refresh", None).await.ok();
    let search = "/secret,zz-unnamed/_search?seq_no_primary_term=true&sort=_index&filter_path=hits.hits";
    let mut seen = vec![direct.get(search).await.ok(), direct.get("/secret,zz-unnamed").await.ok()];
    for path in [
        "/_index_template",
        "/_component_template",
        "/_template",
        "/_ingest/pipeline",
        "/_snapshot",
        "/_cluster/settings",
    ] {
        seen.push(direct.get(path).await.body);
    }
    let indices =
        direct.get("/_cat/indices?format=json&h=index,status&expand_wildcards=all&s=index").await.body;
    let is_outside = |row: &&Value| !row["index"].as_str().unwrap_or_default().starts_with("acme-");
    seen.push(indices.as_array().unwrap().iter().filter(is_outside).cloned().collect());
    let aliases = direct.get("/_cat/aliases?format=json&h=alias,index&s=alias,index").await.body;
    let leads_out = |row: &&Value| {
        let starts = |key: &str| row[key].as_str().unwrap_or_default().starts_with("acme-");
        !starts("index") || !starts("alias")
    };
    seen.push(aliases.as_array().unwrap().iter().filter(leads_out).cloned().collect());
    seen
}

/// Whatever a name is: if it is let through, Elasticsearch resolves it to nothing outside.
pub(crate) async fn random_expressions(outrigger: &Outrigger) {
    let seed: u64 = std::env::var("ISOLATION_SEED").map_or(11, |seed| seed.parse().unwrap());
    eprintln!("ISOLATION_SEED={seed}");
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let pieces = [
        "acme-", "acme", "*", "-", "1", "2", "in", "secret", "zz", "a", ",", "<", ">", "{now/d}", ".",
        "_all", "::data", " ",
    ];
    let mut passed = 0;
    for _ in 0..1_500 {
        let mut expression = if random.gen_bool(0.6) { "acme-".to_owned() } else { String::new() };
        for _ in 0..random.gen_range(1..6) {
            expression.push_str(pieces.choose(&mut random).unwrap());
        }
        let target = format!("/_resolve/index/{}?expand_wildcards=all", encoded(&expression));
        let answer = attempt("GET", target, "").send(outrigger.url(), Some("acme"), "random").await;
        if answer.status == 403 {
            continue;
        }
        passed += 1;
        let found = answer.json();
        let names = |key: &str, name: &str| -> Vec<Value> {
            let all = found[key].as_array().cloned().unwrap_or_default();
            all.into_iter().map(|entry| entry[name].clone()).collect()
        };
        let mut all = names("indices", "name");
        all.extend(
            names("aliases", "indices")
                .into_iter()
                .flat_map(|list| list.as_array().cloned().unwrap_or_default()),
        );
        for name in all {
            assert!(name.as_str().unwrap().starts_with("acme-"), "{expression} means {name}");
        }
    }
    assert!(passed > 200, "{passed} were let through");
}
