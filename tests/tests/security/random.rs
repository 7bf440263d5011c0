//! Random principals send random requests, through us and to Elasticsearch alone, several at once, and every so
//! often all rights are others. Whatever they are: what comes back is the same. Replayable:
//!
//!     SECURITY_SEED=7 SECURITY_PHASES=1 cargo test -p outrigger-tests --test security random   # what a failure prints
//!     SECURITY_PHASES=200 …                                                                    # for long

mod requests;
mod rights;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use outrigger_tests::{Api, Elasticsearch, Outrigger, Vectors};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::json;

use crate::TTL;
use crate::principals::password;
use requests::{Request, Sent};
use rights::{Principal, Rights};

/// Requests between two changes of all rights.
const PER_PHASE: usize = 240;
const AT_ONCE: usize = 6;
/// After this time of a phase nothing may be left of the rights before: the sidecar's memory of callers and the
/// time of a question.
const FORGOTTEN: Duration = Duration::from_millis(1_000 + 1_500);
const DOCS: usize = 50;

/// A replayable source of choices.
struct Draw(Xoshiro256PlusPlus);

impl Draw {
    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of.choose(&mut self.0).expect("something to choose from").clone()
    }

    fn some<T: Clone>(&mut self, of: &[T], most: usize) -> Vec<T> {
        let count = self.between(1, most);
        of.choose_multiple(&mut self.0, count).cloned().collect()
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.0.gen_bool(probability)
    }

    fn between(&mut self, least: usize, most: usize) -> usize {
        self.0.gen_range(least..=most)
    }

    fn vector(&mut self, dims: usize) -> Vec<f32> {
        (0..dims).map(|_| self.0.gen_range(-1.0..1.0)).collect()
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[tokio::test]
async fn random_principals_see_what_elasticsearch_shows_them() {
    if !Elasticsearch::version_at_least(8, 12) {
        // It has neither vectors below nested objects nor knn queries, of which these requests are made.
        return;
    }
    let (first, phases) = (number("SECURITY_SEED", 1), number("SECURITY_PHASES", 4));
    let draw = |seed| Draw(Xoshiro256PlusPlus::seed_from_u64(seed));
    let elasticsearch =
        Elasticsearch::start_secured("security-random", &Rights::draw(&mut draw(first)).file).await;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("own-credentials");
    std::fs::write(&secret, "sidecar:sidecar-password").unwrap();
    let flags = ["--upstream-auth-file", secret.to_str().unwrap(), "--identity-ttl", TTL];
    let outrigger = Outrigger::start_with(elasticsearch.url(), &folder.path().join("data"), &flags).await;
    fill(&outrigger).await;
    let (mut ways, mut statuses) = (BTreeMap::new(), BTreeMap::new());
    for seed in first..first + phases {
        let mut draw = draw(seed);
        let rights = Rights::draw(&mut draw);
        elasticsearch.set_security(&rights.file).await;
        let began = Instant::now();
        let pool: Vec<Request> = (0..PER_PHASE / 3).map(|_| Request::draw(&mut draw)).collect();
        let mut steps = (0..PER_PHASE)
            .map(|_| (draw.pick(&rights.principals), draw.pick(&pool)))
            .collect::<Vec<_>>()
            .into_iter();
        loop {
            let batch: Vec<(Principal, Request)> = steps.by_ref().take(AT_ONCE).collect();
            if batch.is_empty() {
                break;
            }
            let asked = batch.into_iter().map(|(principal, request)| {
                let (through, direct) = (outrigger.api(), elasticsearch.anonymous());
                async move { compare(seed, began, &principal, &request, (through, direct)).await }
            });
            for sent in join_all(asked).await {
                for way in sent.ways {
                    *ways.entry(way.split(';').next().unwrap_or_default().to_owned()).or_insert(0) += 1;
                }
                *statuses.entry(sent.status).or_insert(0) += 1;
            }
        }
    }
    eprintln!("ways {ways:?}, statuses {statuses:?}");
    for way in ["answer", "fetch", "splice", "pass"] {
        assert!(ways.contains_key(way), "{ways:?}");
    }
    assert!([200, 401, 403].iter().all(|status| statuses.contains_key(status)), "{statuses:?}");
}

/// Asks both, again until the rights before this phase are forgotten; then they must agree.
async fn compare(
    seed: u64,
    began: Instant,
    principal: &Principal,
    request: &Request,
    (through, direct): (Api, Api),
) -> Sent {
    loop {
        let is_settled = began.elapsed() > FORGOTTEN;
        let ours = request.send(&principal.calling(&through)).await;
        let theirs = request.send(&principal.calling(&direct)).await;
        match (ours.difference(&theirs), is_settled) {
            (None, _) => return ours,
            (Some(difference), true) => panic!(
                "SECURITY_SEED={seed} SECURITY_PHASES=1: {principal:?}\n{request:?}\n{difference}\nours ({:?}): {}\ntheirs: {}",
                ours.ways, ours.body, theirs.body
            ),
            (Some(_), false) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Two indices, one of several shards, with aliases of all kinds.
async fn fill(outrigger: &Outrigger) {
    let admin = outrigger.api().as_user("elastic", password("elastic"));
    let vector = |dims: usize, similarity: &str| json!({"type": "dense_vector", "dims": dims, "index": true, "similarity": similarity, "index_options": {"type": "ivf"}});
    let mut vectors = (Vectors::new(11, 8), Vectors::new(12, 4));
    for (index, shards) in [("docs", 1), ("other", 3)] {
        let body = json!({
            "settings": {"number_of_shards": shards, "number_of_replicas": 0},
            "mappings": {"properties": {
                "v": vector(8, "l2_norm"),
                "tag": {"type": "keyword"}, "secret": {"type": "keyword"}, "n": {"type": "integer"}, "text": {"type": "text"},
                "parts": {"type": "nested", "properties": {"u": vector(4, "cosine"), "kind": {"type": "keyword"}}},
            }},
            "aliases": {format!("{index}-all"): {}, "both": {}, "red": {"filter": {"term": {"tag": "red"}}}, "road": {"routing": "a"}},
        });
        admin.put(&format!("/{index}"), body).await.ok();
        let document = |n: usize| {
            let part = |kind: &str, u: Vec<f32>| json!({"kind": kind, "u": u});
            let (u, w) = (vectors.1.draw(), vectors.1.draw());
            let tag = ["red", "blue", "green"][n % 3];
            let document = json!({
                "v": vectors.0.draw(), "tag": tag, "secret": format!("s{}", n % 7), "n": n,
                "text": format!("word w{} of {index}", n % 5), "parts": [part("a", u), part("b", w)],
            });
            (n.to_string(), document)
        };
        let documents: Vec<_> = (0..DOCS).map(document).collect();
        admin.bulk(index, "true", &documents).await.unwrap().ok();
        outrigger.learnt_by(&admin, index).await;
    }
}
