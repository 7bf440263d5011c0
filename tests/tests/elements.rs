//! Fields of bytes and of bits: each search through us is compared with the same search on a twin index of
//! type `hnsw`, which Elasticsearch answers. The corpus is so small that its graph finds everything.

#![allow(missing_docs, reason = "a test")]

use outrigger_tests::{Api, Elasticsearch, Outrigger, Reply, assert_same};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::{Value, json};

const DOCUMENTS: usize = 200;

/// A field of one kind, in an index of ours and in its twin.
struct Case {
    element: &'static str,
    similarity: &'static str,
    shards: usize,
    /// Bytes of a vector; a bit field has eight dimensions to a byte.
    bytes: usize,
    hex: bool,
}

impl Case {
    fn ours(&self) -> String {
        format!("el-{}-{}", self.element, self.similarity)
    }

    fn twin(&self) -> String {
        format!("{}-twin", self.ours())
    }

    fn mapping(&self, options: Option<Value>) -> Value {
        let dims = if self.element == "bit" { self.bytes * 8 } else { self.bytes };
        let mut field = json!({
            "type": "dense_vector", "element_type": self.element, "dims": dims, "index": true,
            "similarity": self.similarity, "meta": {"unit": "none"},
        });
        if let Some(options) = options {
            field["index_options"] = options;
        }
        json!({
            "settings": {"number_of_shards": self.shards, "number_of_replicas": 0},
            "mappings": {"properties": {"o": {"properties": {"v": field}}}},
        })
    }

    /// A vector in one of the forms that Elasticsearch takes.
    fn draw(&self, random: &mut Xoshiro256PlusPlus) -> Value {
        let bytes: Vec<i8> = (0..self.bytes).map(|_| random.gen_range(-128..=127)).collect();
        match random.gen_range(0..3) {
            0 if self.hex => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
            1 => bytes.iter().map(|byte| f64::from(*byte)).collect::<Vec<_>>().into(),
            _ => json!(bytes),
        }
    }
}

async fn same(through: &Api, direct: &Api, case: &Case, body: &Value) -> Reply {
    let path = |index: &str| format!("/{index}/_search");
    let ours = through.post(&path(&case.ours()), body.clone()).await;
    let theirs = direct.post(&path(&case.twin()), body.clone()).await;
    assert_same(&ours, &theirs, &format!("{}: {body}", case.ours()));
    ours
}

#[tokio::test]
async fn bytes_and_bits_are_found_and_scored_as_by_elasticsearch() {
    let elasticsearch = Elasticsearch::start("elements").await;
    let data = tempfile::tempdir().unwrap();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    let (through, direct) = (outrigger.api(), elasticsearch.api());
    let at_least = |minor| Elasticsearch::version_at_least(8, minor);
    let byte =
        |similarity, shards, bytes| Case { element: "byte", similarity, shards, bytes, hex: at_least(14) };
    let mut cases = vec![byte("cosine", 1, 24), byte("l2_norm", 2, 7), byte("dot_product", 3, 16)];
    if at_least(11) {
        cases.push(byte("max_inner_product", 1, 5));
    }
    if at_least(15) {
        cases.push(Case { element: "bit", similarity: "l2_norm", shards: 2, bytes: 12, hex: true });
    }
    for case in &cases {
        let seed = 5;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        // One in two names no options: unspecified means `ivf`.
        let options = (case.shards != 2).then(|| json!({"type": "ivf"}));
        let hnsw = json!({"type": "hnsw", "m": 16, "ef_construction": 200});
        through.put(&format!("/{}", case.ours()), case.mapping(options)).await.ok();
        direct.put(&format!("/{}", case.twin()), case.mapping(Some(hnsw))).await.ok();
        let shown = through.get(&format!("/{}/_mapping", case.ours())).await.ok();
        let field = &shown[case.ours()]["mappings"]["properties"]["o"]["properties"]["v"];
        assert_eq!(field["index_options"], json!({"type": "ivf"}), "{shown}");
        assert_eq!(field["meta"], json!({"unit": "none"}), "{shown}");

        for round in 0..3 {
            let docs: Vec<_> = (0..if round == 0 { DOCUMENTS } else { 30 })
                .map(|n| {
                    let vector = case.draw(&mut random);
                    let doc = match n % 10 {
                        7 => json!({"o": {"w": 1}}),
                        8 => json!({"o.v": vector}),
                        _ => json!({"o": {"v": vector}}),
                    };
                    ((n * (round + 1)).to_string(), doc)
                })
                .collect();
            for (api, index) in [(&through, case.ours()), (&direct, case.twin())] {
                let written = api.bulk(&index, "true", &docs).await.unwrap().ok();
                assert_eq!(written["errors"], false, "{written}");
            }
            outrigger.learnt(&case.ours()).await;
            for k in [1, 10, 40] {
                let query = case.draw(&mut random);
                let knn = json!({"field": "o.v", "query_vector": query, "k": k, "num_candidates": 400});
                let ours =
                    same(&through, &direct, case, &json!({"knn": knn, "size": k, "_source": false})).await;
                assert!(ours.way.starts_with("answer"), "{}: {}", case.ours(), ours.way);
            }
            thresholds(&through, &direct, case, &mut random).await;
        }
    }
    refusals(&through, &direct, &cases[0]).await;
    // What was learnt is there again after a restart.
    outrigger.terminate();
    let outrigger = Outrigger::start(elasticsearch.url(), data.path()).await;
    for case in &cases {
        outrigger.learnt(&case.ours()).await;
        let query = case.draw(&mut Xoshiro256PlusPlus::seed_from_u64(77));
        let knn = json!({"field": "o.v", "query_vector": query, "k": 20, "num_candidates": 400});
        same(&outrigger.api(), &direct, case, &json!({"knn": knn, "size": 20})).await;
    }
}

/// `similarity` cuts at the same hit, and `boost` multiplies.
async fn thresholds(through: &Api, direct: &Api, case: &Case, random: &mut Xoshiro256PlusPlus) {
    let similarity = match (case.element, case.similarity) {
        ("bit", _) => 44.0,
        (_, "cosine") => 0.1,
        (_, "l2_norm") => 210.0,
        _ => 3000.0,
    };
    let knn = json!({
        "field": "o.v", "query_vector": case.draw(random), "k": 100, "num_candidates": 400,
        "similarity": similarity, "boost": 2.5,
    });
    let ours = same(through, direct, case, &json!({"knn": knn, "size": 100, "_source": false})).await;
    let total = ours.body["hits"]["total"]["value"].as_u64().unwrap();
    assert!((1..100).contains(&total), "{}: the threshold must cut: {}", case.ours(), ours.text);
}

/// Elasticsearch's own words for vectors that are none.
async fn refusals(through: &Api, direct: &Api, case: &Case) {
    let vector = |first: Value| -> Value {
        let mut vector = vec![json!(1); case.bytes];
        vector[0] = first;
        vector.into()
    };
    for query in [
        vector(json!(1.5)),
        vector(json!(128)),
        json!([1, 2]),
        json!("0z"),
        json!("010"),
        json!(vec![0; case.bytes]),
    ] {
        let knn = json!({"field": "o.v", "query_vector": query, "k": 1, "num_candidates": 10});
        let body = json!({"knn": knn});
        let ours = through.post(&format!("/{}/_search", case.ours()), body.clone()).await;
        let theirs = direct.post(&format!("/{}/_search", case.twin()), body.clone()).await;
        assert_eq!(ours.status, theirs.status, "{body}");
        assert_ne!(ours.status, 200, "{body}");
        let reason = |reply: &Reply| reply.body["error"]["root_cause"][0]["reason"].clone();
        assert_eq!(reason(&ours), reason(&theirs), "{body}");
    }
}
