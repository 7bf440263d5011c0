// What applications do with the official Rust client: each feature through Outrigger and directly, the same outcome.
// Included once per major version; `elasticsearch` is the client. It has no retries of its own.

use elasticsearch::http::StatusCode;
use elasticsearch::http::headers::{HeaderMap, HeaderName, HeaderValue};
use elasticsearch::http::response::Response;
use elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use elasticsearch::indices::{IndicesCreateParts, IndicesDeleteParts, IndicesExistsParts, IndicesGetMappingParts};
use elasticsearch::cluster::ClusterHealthParts;
use elasticsearch::params::{Refresh, WaitForStatus};
use elasticsearch::{
    BulkOperation, BulkParts, ClearScrollParts, CountParts, CreateParts, DeleteParts, Elasticsearch, GetParts,
    IndexParts, MsearchParts, OpenPointInTimeParts, ScrollParts, SearchParts, UpdateParts,
};
use serde_json::{Value, json};

const DIMS: usize = 16;
const COUNT: usize = 200;
const FEATURES: [&str; 16] = [
    "connect", "create index", "documents", "bulk helper", "knn search", "knn with filter", "knn query", "retrievers", "msearch",
    "scroll", "point in time", "errors", "compression", "sniffing", "errors of limits", "quotas",
];

type Outcome = Result<Value, Box<dyn std::error::Error>>;

struct Side {
    url: String,
    kind: &'static str,
    index: String,
    plain: String,
    client: Elasticsearch,
    /// Where tenants have limits; directly there are none.
    limited: Option<Elasticsearch>,
}

impl Side {
    fn new(variable: &str, kind: &'static str, index: &str) -> Self {
        let at = |variable| std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is set"));
        let connect = |url: &str| Elasticsearch::new(Transport::single_node(url).expect("a URL"));
        let (url, limited) = (at(variable), (kind == "ivf").then(|| connect(&at("OUTRIGGER_LIMITED_URL"))));
        Self { client: connect(&url), url, kind, index: index.to_owned(), plain: format!("{index}-plain"), limited }
    }

    async fn search(&self, body: Value) -> Outcome {
        ok(self.client.search(SearchParts::Index(&[&self.index])).body(body).send().await?).await
    }

    async fn ask(&self, feature: &str) -> Outcome {
        let (client, index) = (&self.client, self.index.as_str());
        let (indices, here, plain_here, nowhere) = (client.indices(), [index], [self.plain.as_str()], ["absent"]);
        match feature {
            "connect" => {
                assert!(client.ping().send().await?.status_code().is_success());
                ok(client.info().send().await?).await
            }
            "create index" => {
                let made = indices.create(IndicesCreateParts::Index(index)).body(mapping(Some(self.kind)));
                ok(made.send().await?).await?;
                let plain = indices.create(IndicesCreateParts::Index(&self.plain)).body(mapping(None));
                ok(plain.send().await?).await?;
                let pattern = format!("{index}*");
                let all = [pattern.as_str()];
                let health = client.cluster().health(ClusterHealthParts::Index(&all)).wait_for_status(WaitForStatus::Yellow).send().await?;
                ok(health).await?;
                let shown = indices.get_mapping(IndicesGetMappingParts::Index(&here)).send().await?;
                let shown = ok(shown).await?;
                assert_eq!(shown[index]["mappings"]["properties"]["v"]["index_options"]["type"], self.kind);
                let exists = indices.exists(IndicesExistsParts::Index(&plain_here)).send().await?;
                Ok(json!(exists.status_code().as_u16()))
            }
            "documents" => {
                let made = client.index(IndexParts::IndexId(index, "a")).body(document(500)).refresh(Refresh::WaitFor);
                let made = ok(made.send().await?).await?;
                let changed = client.update(UpdateParts::IndexId(index, "a")).body(json!({"doc": {"n": 7}}));
                let changed = ok(changed.send().await?).await?;
                let got = ok(client.get(GetParts::IndexId(index, "a")).send().await?).await?;
                let gone = client.delete(DeleteParts::IndexId(index, "a")).refresh(Refresh::True);
                let gone = ok(gone.send().await?).await?;
                Ok(json!([made["result"], changed["_version"], got["_source"]["n"], gone["result"], gone["_version"]]))
            }
            "bulk helper" => {
                let operations: Vec<BulkOperation<Value>> =
                    (0..COUNT).map(|n| BulkOperation::index(document(n)).id(n.to_string()).into()).collect();
                let bulk = client.bulk(BulkParts::Index(index)).body(operations).refresh(Refresh::True);
                let done = ok(bulk.send().await?).await?;
                let count = ok(client.count(CountParts::Index(&here)).send().await?).await?;
                Ok(json!([done["errors"], count["count"]]))
            }
            "knn search" => Ok(found(&self.search(json!({"knn": knn(json!({})), "_source": false})).await?)),
            "knn with filter" => {
                let body = json!({"knn": knn(json!({"filter": {"term": {"tag": "third"}}}))});
                let first = found(&self.search(body.clone()).await?);
                // The second time it is answered from what was remembered of the filter.
                assert_eq!(found(&self.search(body.clone()).await?), first);
                assert_eq!(found(&self.search(body).await?), first);
                Ok(first)
            }
            "knn query" => {
                let clause = json!({"knn": {"field": "v", "query_vector": vector(1000), "num_candidates": 200}});
                let both = json!({"bool": {"should": clause, "filter": {"range": {"n": {"lt": 150}}}}});
                Ok(found(&self.search(json!({"query": both, "size": 5})).await?))
            }
            "retrievers" => {
                let near = json!({"knn": knn(json!({}))});
                Ok(found(&self.search(json!({"retriever": near, "_source": false})).await?))
            }
            "msearch" => {
                let lines: Vec<String> = [
                    json!({}), json!({"knn": knn(json!({})), "size": 2}),
                    json!({}), json!({"query": {"term": {"tag": "third"}}, "size": 1, "sort": ["n"]}),
                    json!({"index": "absent"}), json!({}),
                ].iter().map(Value::to_string).collect();
                let answer = ok(client.msearch(MsearchParts::Index(&here)).body(lines).send().await?).await?;
                let all = &answer["responses"];
                Ok(json!([found(&all[0]), found(&all[1]), all[2]["error"]["type"]]))
            }
            "scroll" => {
                let first = client.search(SearchParts::Index(&here)).scroll("1m");
                let body = json!({"size": 60, "sort": ["n"], "_source": false});
                let mut page = ok(first.body(body).send().await?).await?;
                let mut pages = Vec::new();
                while page["hits"]["hits"].as_array().is_some_and(|hits| !hits.is_empty()) {
                    pages.push(found(&page));
                    let next = json!({"scroll": "1m", "scroll_id": page["_scroll_id"]});
                    page = ok(client.scroll(ScrollParts::None).body(next).send().await?).await?;
                }
                let cleared = client.clear_scroll(ClearScrollParts::None).body(json!({"scroll_id": page["_scroll_id"]}));
                Ok(json!([pages, ok(cleared.send().await?).await?["succeeded"]]))
            }
            "point in time" => {
                let opened = client.open_point_in_time(OpenPointInTimeParts::Index(&here)).keep_alive("1m");
                let id = ok(opened.send().await?).await?["id"].clone();
                let (mut pages, mut after) = (Vec::new(), None);
                loop {
                    let mut body = json!({"pit": {"id": id, "keep_alive": "1m"}, "size": 70, "sort": [{"n": "asc"}], "_source": false});
                    if let Some(after) = after {
                        body["search_after"] = after;
                    }
                    let page = ok(client.search(SearchParts::None).body(body).send().await?).await?;
                    let Some(last) = page["hits"]["hits"].as_array().and_then(|hits| hits.last()) else { break };
                    after = Some(last["sort"].clone());
                    pages.push(found(&page));
                }
                let closed = client.close_point_in_time().body(json!({"id": id})).send().await?;
                Ok(json!([pages, ok(closed).await?["succeeded"]]))
            }
            "errors" => {
                let absent = client.search(SearchParts::Index(&nowhere)).body(json!({"knn": knn(json!({}))}));
                let short = client.search(SearchParts::Index(&here)).body(json!({"knn": knn(json!({"query_vector": [1]}))}));
                let twice = client.create(CreateParts::IndexId(index, "1")).body(document(1));
                let again = indices.create(IndicesCreateParts::Index(index)).body(mapping(None));
                let missing = client.get(GetParts::IndexId(index, "absent")).send().await?;
                Ok(json!([
                    failure(absent.send().await?).await, failure(short.send().await?).await,
                    failure(twice.send().await?).await, failure(again.send().await?).await,
                    missing.status_code().as_u16(), missing.json::<Value>().await?["found"],
                ]))
            }
            "compression" => {
                let pool = SingleNodeConnectionPool::new(self.url.parse()?);
                let client = Elasticsearch::new(TransportBuilder::new(pool).request_body_compression(true).build()?);
                let text = "a".repeat(5000);
                let body = json!({"text": text, "v": vector(3)});
                let made = client.index(IndexParts::IndexId(&self.plain, "z")).body(body).refresh(Refresh::True);
                ok(made.send().await?).await?;
                let search = client.search(SearchParts::Index(&plain_here)).body(json!({"knn": knn(json!({"k": 1}))}));
                let answer = ok(search.send().await?).await?;
                assert_eq!(answer["hits"]["hits"][0]["_source"]["text"], text);
                // A type of Elasticsearch's own may print an estimate of the score.
                Ok(answer["hits"]["hits"][0]["_id"].clone())
            }
            "sniffing" => {
                // By another name of the same address: who has sniffed uses the one that it was told.
                let named = self.url.replace("127.0.0.1", "localhost");
                let transport = Transport::sniffing_node_list(vec![&named], std::time::Duration::from_millis(1))?;
                let client = Elasticsearch::new(transport);
                let began = std::time::Instant::now();
                loop {
                    let response = client.search(SearchParts::Index(&here)).body(json!({"knn": knn(json!({}))})).send().await?;
                    let url = response.url().clone();
                    ok(response).await?;
                    if url.host_str() == Some("127.0.0.1") {
                        return Ok(json!(self.url.ends_with(&format!(":{}", url.port().unwrap_or_default()))));
                    }
                    assert!(began.elapsed().as_secs() < 30, "it did not sniff");
                }
            }
            // It has no retries of its own: what an application needs for them can be read.
            "errors of limits" => {
                let Some(limited) = &self.limited else { return Ok(json!("readable")) };
                let ask = || limited.search(SearchParts::Index(&here)).header(HeaderName::from_static("x-tenant-id"), HeaderValue::from_static("hasty")).size(1).send();
                let mut refused = None;
                // At once, since one after the other may be slow enough.
                let answers = tokio::join!(ask(), ask(), ask(), ask(), ask());
                for response in [answers.0?, answers.1?, answers.2?, answers.3?, answers.4?] {
                    if response.status_code() == StatusCode::TOO_MANY_REQUESTS {
                        refused = Some(response);
                    }
                }
                let refused = refused.expect("a search is refused");
                let seconds: u64 = refused.headers()["retry-after"].to_str()?.parse()?;
                let error = refused.exception().await?.expect("an exception");
                assert_eq!(error.error().ty(), Some("es_rejected_execution_exception"));
                assert!(error.error().reason().is_some_and(|reason| reason.contains("tenant [hasty]: requests_per_second=10")));
                // Who waits as long as it says is served.
                tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
                Ok(json!(if ask().await?.status_code().is_success() { "readable" } else { "refused again" }))
            }
            "quotas" => {
                let Some(limited) = &self.limited else { return Ok(json!("readable")) };
                let full = format!("full-{index}");
                let made = limited.indices().create(IndicesCreateParts::Index(&full)).send().await?;
                assert_eq!(failure(made).await, json!([403, "quota_exceeded_exception"]));
                let operations: Vec<BulkOperation<Value>> = (0..4usize)
                    .map(|n| BulkOperation::index(document(5000 + n)).id(n.to_string()).index(if n.is_multiple_of(2) { index } else { &full }).into())
                    .collect();
                let done = ok(limited.bulk(BulkParts::None).body(operations).send().await?).await?;
                let kinds: Vec<_> = (0..4usize).map(|n| done["items"][n]["index"]["error"]["type"].as_str()).collect();
                assert_eq!(kinds, [None, Some("quota_exceeded_exception"), None, Some("quota_exceeded_exception")], "{done}");
                Ok(json!("readable"))
            }
            other => panic!("no such feature: {other}"),
        }
    }
}

/// A vector that depends on its number alone, with values that float32 keeps.
fn vector(number: usize) -> Vec<f32> {
    (0..DIMS).map(|at| (((number * 31 + at * 17 + number * at * 3 + number * number * (at + 1)) % 499) as f32 - 249.0) / 256.0).collect()
}

fn document(n: usize) -> Value {
    json!({"v": vector(n), "tag": if n.is_multiple_of(3) { "third" } else { "other" }, "n": n})
}

fn mapping(kind: Option<&str>) -> Value {
    let mut field = json!({"type": "dense_vector", "dims": DIMS, "similarity": "l2_norm"});
    if let Some(kind) = kind {
        field["index_options"] = json!({"type": kind});
    }
    let properties = json!({"v": field, "tag": {"type": "keyword"}, "n": {"type": "integer"}});
    json!({"settings": {"number_of_shards": 2, "number_of_replicas": 0}, "mappings": {"properties": properties}})
}

fn knn(more: Value) -> Value {
    let mut knn = json!({"field": "v", "query_vector": vector(1000), "k": 5, "num_candidates": 200});
    for (key, value) in more.as_object().into_iter().flatten() {
        knn[key] = value.clone();
    }
    knn
}

/// Ids and scores.
fn found(answer: &Value) -> Value {
    let hits = answer["hits"]["hits"].as_array().cloned().unwrap_or_default();
    let score = |hit: &Value| hit["_score"].as_f64().map(|score| format!("{score:.5}"));
    json!(hits.iter().map(|hit| json!([hit["_id"], score(hit)])).collect::<Vec<_>>())
}

fn is_product(headers: &HeaderMap) -> bool {
    headers.get("x-elastic-product").is_some_and(|product| product == "Elasticsearch")
}

async fn ok(response: Response) -> Outcome {
    assert!(is_product(response.headers()), "no product header");
    Ok(response.error_for_status_code()?.json().await?)
}

/// How a call fails: what applications look at in the client's own error.
async fn failure(response: Response) -> Value {
    assert!(is_product(response.headers()), "no product header");
    let status: StatusCode = response.status_code();
    let kind = response.exception().await.ok().flatten();
    json!([status.as_u16(), kind.and_then(|kind| kind.error().ty().map(str::to_owned))])
}

async fn clean(sides: &[Side; 2]) {
    for side in sides {
        let names = [side.index.as_str(), side.plain.as_str()];
        let deleted = side.client.indices().delete(IndicesDeleteParts::Index(&names)).ignore_unavailable(true).send().await;
        assert!(deleted.is_ok_and(|response| response.status_code().is_success()), "old indices are deleted");
    }
}

/// The number of features that differ.
pub async fn run() -> usize {
    let sides = [Side::new("OUTRIGGER_URL", "ivf", "rs-ours"), Side::new("ELASTICSEARCH_URL", "hnsw", "rs-them")];
    clean(&sides).await;
    let mut failed = 0;
    for name in FEATURES {
        let (ours, theirs) = (sides[0].ask(name).await, sides[1].ask(name).await);
        let same = matches!((&ours, &theirs), (Ok(ours), Ok(theirs)) if ours == theirs);
        println!("{}ok {name}", if same { "" } else { "not " });
        if !same {
            failed += 1;
            eprintln!("through Outrigger: {ours:?}\ndirectly: {theirs:?}");
        }
    }
    clean(&sides).await;
    failed
}
