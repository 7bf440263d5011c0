//! A shard of one index, played: as much of Elasticsearch as following it needs, and deterministic.
//! Operations have numbers, a refresh shows what was processed, a fail-over may lose what was above the
//! global checkpoint, a rewritten history begins anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::{Value, json};

/// Name and uuid of the index.
pub(crate) const INDEX: &str = "played";
/// Its vector fields, of two dimensions each.
pub(crate) const FIELDS: [&str; 2] = ["v", "w"];

/// A document as the newest operation on it left it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Doc {
    pub(crate) seq_no: u64,
    pub(crate) term: u64,
    pub(crate) vectors: [Option<Vec<f32>>; 2],
}

/// What a refresh shows.
pub(crate) type Shown = BTreeMap<String, Doc>;

#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) seq_no: u64,
    pub(crate) term: u64,
    /// `None`: a deletion.
    pub(crate) vectors: Option<[Option<Vec<f32>>; 2]>,
    /// On its way: it has its number, and is not carried out yet.
    pending: bool,
    /// Its client knows of it, so it is on every copy.
    acknowledged: bool,
}

pub(crate) struct PlayedShard {
    version: i64,
    open: bool,
    history: u64,
    term: u64,
    node: u64,
    refreshes: u64,
    operations: Vec<Operation>,
    next_seq_no: u64,
    shown: Arc<Shown>,
    pits: HashMap<String, Arc<Shown>>,
    opened: u64,
    /// All that was ever shown, in order.
    pub(crate) log: Vec<Arc<Shown>>,
}

impl PlayedShard {
    pub(crate) fn new() -> Self {
        let shown = Arc::new(Shown::new());
        Self {
            version: 1,
            open: true,
            history: 1,
            term: 1,
            node: 1,
            refreshes: 1,
            operations: Vec::new(),
            next_seq_no: 0,
            shown: Arc::clone(&shown),
            pits: HashMap::new(),
            opened: 0,
            log: vec![shown],
        }
    }

    pub(crate) fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown)
    }

    /// One operation; some are carried out only later, so that numbers have gaps for a while.
    pub(crate) fn write(&mut self, random: &mut Xoshiro256PlusPlus) -> Operation {
        let vector = |random: &mut Xoshiro256PlusPlus| {
            (random.gen_range(0..6) > 0)
                .then(|| vec![random.gen_range(-9..9) as f32, random.gen_range(-9..9) as f32])
        };
        let deletes = random.gen_range(0..4) == 0;
        let operation = Operation {
            id: format!("d{}", random.gen_range(0..40)),
            seq_no: self.next_seq_no,
            term: self.term,
            vectors: (!deletes).then(|| [vector(random), vector(random)]),
            // Operations on one document are carried out one after the other.
            pending: false,
            acknowledged: false,
        };
        self.next_seq_no += 1;
        let is_waited_for =
            self.operations.iter().any(|earlier| earlier.pending && earlier.id == operation.id);
        let pending = !is_waited_for && random.gen_range(0..8) == 0;
        if is_waited_for {
            self.complete();
        }
        let operation = Operation { pending, ..operation };
        self.operations.push(operation.clone());
        operation
    }

    /// Tells the clients of what was carried out. Returns what went through the follower's own door.
    pub(crate) fn acknowledge(&mut self, random: &mut Xoshiro256PlusPlus) -> Vec<Operation> {
        let mut told = Vec::new();
        for operation in
            self.operations.iter_mut().filter(|operation| !operation.pending && !operation.acknowledged)
        {
            operation.acknowledged = true;
            if random.gen_range(0..3) > 0 {
                told.push(operation.clone());
            }
        }
        told
    }

    /// Everything on its way is carried out.
    pub(crate) fn complete(&mut self) {
        self.operations.iter_mut().for_each(|operation| operation.pending = false);
    }

    pub(crate) fn refresh(&mut self) {
        self.refreshes += 1;
        self.show();
    }

    fn show(&mut self) {
        let mut shown = Shown::new();
        for operation in self.operations.iter().filter(|operation| !operation.pending) {
            match &operation.vectors {
                Some(vectors) => {
                    let (seq_no, term) = (operation.seq_no, operation.term);
                    shown.insert(operation.id.clone(), Doc { seq_no, term, vectors: vectors.clone() });
                }
                None => drop(shown.remove(&operation.id)),
            }
        }
        self.shown = Arc::new(shown);
        self.log.push(self.shown());
    }

    /// Highest number below which nothing is on its way.
    fn checkpoint(&self) -> i64 {
        let first =
            self.operations.iter().filter(|operation| operation.pending).map(|operation| operation.seq_no);
        first.min().unwrap_or(self.next_seq_no) as i64 - 1
    }

    /// A replica becomes the primary. It has everything up to the global checkpoint and some of the rest.
    pub(crate) fn fail_over(&mut self, random: &mut Xoshiro256PlusPlus) {
        let checkpoint = self.checkpoint() - random.gen_range(0..4);
        let loses = random.gen_range(0..2) == 0;
        self.operations.retain(|operation| {
            operation.seq_no as i64 <= checkpoint
                || operation.acknowledged
                || !(operation.pending || loses && random.gen_range(0..2) == 0)
        });
        self.complete();
        self.next_seq_no = self.operations.iter().map(|operation| operation.seq_no + 1).max().unwrap_or(0);
        self.another_primary(random);
    }

    /// As after a restore in place: numbers go back and mean something else.
    pub(crate) fn rewrite(&mut self, random: &mut Xoshiro256PlusPlus) {
        self.history += 1;
        let keep = random.gen_range(0..=self.operations.len());
        self.operations.truncate(keep);
        self.complete();
        self.next_seq_no = self.operations.iter().map(|operation| operation.seq_no + 1).max().unwrap_or(0);
        self.another_primary(random);
    }

    fn another_primary(&mut self, random: &mut Xoshiro256PlusPlus) {
        self.term += 1;
        self.version += 1;
        self.node += u64::from(random.gen_range(0..2) == 0);
        self.refreshes = random.gen_range(1..4);
        self.pits.clear();
        self.show();
    }

    /// `_close`, or `_open`.
    pub(crate) fn set_open(&mut self, open: bool) {
        self.complete();
        self.open = open;
        self.version += 1;
        self.pits.clear();
        if open {
            self.term += 1;
            self.refreshes = 1;
            self.show();
        }
    }

    /// Status and body.
    pub(crate) fn answer(&mut self, method: &str, uri: &str, body: &str) -> (u16, Value) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let body: Value = serde_json::from_str(body).unwrap_or(Value::Null);
        match (method, path) {
            ("GET", "/") => (200, json!({"version": {"number": "8.15.3"}})),
            ("GET", "/_xpack") => (400, json!({"error": "no handler found"})),
            ("GET", "/_alias") => (200, json!({INDEX: {"aliases": {}}})),
            ("GET", path) if path.starts_with("/_cluster/state/") => {
                if query.contains("mappings") {
                    (200, self.state())
                } else if query.contains("primary_terms") {
                    let terms = json!({INDEX: {"primary_terms": {"0": self.term}}});
                    (200, json!({"metadata": {"indices": terms}}))
                } else {
                    (200, json!({"version": self.version}))
                }
            }
            ("GET", "/played/_stats/refresh") => (200, self.stats()),
            ("POST", "/played/_pit")
                if self.open && query.contains(&format!("_only_nodes%3An{}", self.node)) =>
            {
                self.opened += 1;
                let id = format!("pit-{}", self.opened);
                self.pits.insert(id.clone(), self.shown());
                (200, json!({"id": id}))
            }
            ("DELETE", "/_pit") => {
                let known = body["id"].as_str().is_some_and(|id| self.pits.remove(id).is_some());
                (if known { 200 } else { 404 }, json!({"succeeded": known}))
            }
            ("POST", "/_search") => match body["pit"]["id"].as_str().and_then(|id| self.pits.get(id)) {
                Some(shown) => (200, search(shown, &body)),
                None => (404, json!({"error": {"type": "search_context_missing_exception"}})),
            },
            ("POST", "/played/_pit") => {
                (404, json!({"error": {"type": "no_shard_available_action_exception"}}))
            }
            _ => panic!("nobody has taught this shard to answer {method} {uri} {body}"),
        }
    }

    fn state(&self) -> Value {
        let field = json!({
            "type": "dense_vector", "dims": 2, "similarity": "l2_norm", "index": true,
            "index_options": {"type": "flat"}, "meta": {"outrigger.ivf": "default"},
        });
        json!({"version": self.version, "metadata": {"indices": {INDEX: {
            "state": if self.open { "open" } else { "close" },
            "settings_version": 1,
            "routing_num_shards": 1024,
            "settings": {"index": {
                "uuid": INDEX, "number_of_shards": "1", "refresh_interval": "-1", "version": {"created": "8512000"},
            }},
            "mappings": {"_doc": {"properties": {FIELDS[0]: field, FIELDS[1]: field}}},
        }}}})
    }

    fn stats(&self) -> Value {
        if !self.open {
            return json!({});
        }
        json!({"indices": {INDEX: {"uuid": INDEX, "shards": {"0": [{
            "routing": {"state": "STARTED", "primary": true, "node": format!("n{}", self.node)},
            "refresh": {"external_total": self.refreshes},
            "seq_no": {"max_seq_no": self.next_seq_no as i64 - 1, "global_checkpoint": self.checkpoint()},
            "commit": {"user_data": {"history_uuid": format!("h{}", self.history)}},
        }]}}}})
    }
}

fn search(shown: &Shown, body: &Value) -> Value {
    let found: Vec<(usize, (&String, &Doc))> =
        shown.iter().enumerate().filter(|(_, (id, doc))| matches(id, doc, &body["query"])).collect();
    let after = body["search_after"][0].as_i64().unwrap_or(-1);
    let size = body["size"].as_u64().unwrap_or(10) as usize;
    let page = found.iter().filter(|(place, _)| *place as i64 > after).take(size);
    let hits: Vec<Value> = page.map(|(place, (id, doc))| hit(*place, id, doc, body)).collect();
    let mut answer = json!({
        "timed_out": false,
        "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
        "hits": {"hits": hits},
    });
    if body["track_total_hits"] == true {
        answer["hits"]["total"] = json!({"value": found.len(), "relation": "eq"});
    }
    if let Some(width) = body["aggs"]["by_seq_no"]["histogram"]["interval"].as_u64() {
        let mut buckets: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for (_, (_, doc)) in &found {
            let bucket = buckets.entry(doc.seq_no / width * width).or_default();
            bucket.0 += 1;
            bucket.1 += doc.seq_no;
        }
        let bucket = |(key, (count, sum)): (u64, (u64, u64))| json!({"key": key as f64, "doc_count": count, "sum": {"value": sum as f64}});
        answer["aggregations"]["by_seq_no"]["buckets"] = buckets.into_iter().map(bucket).collect();
    }
    answer
}

fn hit(place: usize, id: &str, doc: &Doc, body: &Value) -> Value {
    let mut hit = json!({"_seq_no": doc.seq_no, "_primary_term": doc.term, "sort": [place]});
    if body["stored_fields"] != "_none_" {
        hit["_id"] = json!(id);
    }
    let mut names = Vec::new();
    matched_names(id, doc, &body["query"], &mut names);
    if !names.is_empty() {
        hit["matched_queries"] = json!(names);
    }
    let wanted = body["_source"].as_array().cloned().unwrap_or_default();
    for (field, vector) in FIELDS.iter().zip(&doc.vectors) {
        if wanted.iter().any(|name| name == field) {
            hit["_source"][*field] = json!(vector);
        }
    }
    hit
}

/// Names of the clauses that match.
fn matched_names(id: &str, doc: &Doc, query: &Value, names: &mut Vec<Value>) {
    let of = &query["bool"];
    if !of["_name"].is_null() && matches(id, doc, query) {
        names.push(of["_name"].clone());
    }
    for clauses in [&of["filter"], &of["should"]] {
        clauses.as_array().into_iter().flatten().for_each(|clause| matched_names(id, doc, clause, names));
    }
}

fn matches(id: &str, doc: &Doc, query: &Value) -> bool {
    let Some((kind, of)) = query.as_object().and_then(|query| query.iter().next()) else {
        panic!("no query: {query}")
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    match kind.as_str() {
        "match_all" => true,
        "bool" => {
            let (filter, should) = (list(&of["filter"]), list(&of["should"]));
            let known = of.as_object().is_some_and(|of| {
                of.keys()
                    .all(|key| ["filter", "should", "minimum_should_match", "_name"].contains(&key.as_str()))
            });
            assert!(known, "nobody has taught this shard {of}");
            filter.iter().all(|clause| matches(id, doc, clause))
                && (should.is_empty() || should.iter().any(|clause| matches(id, doc, clause)))
        }
        "exists" => {
            let place = FIELDS.iter().position(|field| of["field"] == *field);
            place.is_some_and(|place| doc.vectors[place].is_some())
        }
        "ids" => list(&of["values"]).iter().any(|value| value == id),
        "terms" => list(&of["_seq_no"]).iter().any(|value| value.as_u64() == Some(doc.seq_no)),
        "range" => of["_seq_no"].as_object().is_some_and(|bounds| {
            bounds.iter().all(|(bound, limit)| {
                let (seq_no, limit) = (doc.seq_no as i64, limit.as_i64().unwrap_or(i64::MAX));
                match bound.as_str() {
                    "gt" => seq_no > limit,
                    "gte" => seq_no >= limit,
                    "lt" => seq_no < limit,
                    "lte" => seq_no <= limit,
                    other => panic!("nobody has taught this shard the bound {other}"),
                }
            })
        }),
        other => panic!("nobody has taught this shard the query {other}: {of}"),
    }
}
