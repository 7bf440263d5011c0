//! What each kind of step does, and which comparison follows from its outcome.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use reqwest::Method;
use serde_json::{Value, json};

use super::answer::ALL;
use super::document::Doc;
use super::history::{History, Soon, alias_body};
use super::indices::{INDICES, PAIRS};
use super::requests::{self, Filled, Request, fill};
use super::shared::Shared;
use super::step::{Act, Condition, Fault, Job, Refresh, Step, Style, Via, Write};
use super::watcher::pair;
use crate::{Api, Elasticsearch, Reply};

const PLAIN: Style =
    Style { index_in_lines: false, crlf: false, blank_lines: false, gzip: false, hidden: false };

/// Documents of a burst.
const BURST_IDS: u32 = 20;

/// What a step came to, in words; an error is a failure of the history.
type Outcome = Result<String, String>;

impl History {
    pub(super) async fn perform(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Bulk { via, index, writes, style, refresh } => {
                self.bulk(*via, *index, writes, *style, *refresh).await
            }
            Step::Single { via, index, write, refresh } => self.single(*via, *index, write, *refresh).await,
            Step::Pair { via, number, delete, refresh } => self.pair(*via, *number, *delete, *refresh).await,
            Step::ByQuery { via, index, job, remainder } => {
                self.by_query(*via, *index, *job, *remainder).await
            }
            Step::Refresh { via, index } => self.refresh(*via, *index).await,
            // Nothing but the history refreshes the pairs, so that Elasticsearch itself never tears them.
            Step::Interval { index: PAIRS, .. } => Ok("left alone".to_owned()),
            Step::Interval { via, index, interval } => {
                let body = json!({"index": {"refresh_interval": interval}});
                self.plain(*via, Method::PUT, &format!("/{}/_settings", INDICES[*index].name), Some(body))
                    .await
            }
            Step::MoveAlias { via, index } => {
                let outcome = self.plain(*via, Method::POST, "/_aliases", Some(alias_body(*index))).await?;
                self.alias = outcome.starts_with("200").then_some((*index, *via));
                Ok(outcome)
            }
            Step::Recreate { via, index } => self.recreate(*via, *index).await,
            Step::CloseAndOpen { via, index } => self.close_and_open(*via, *index).await,
            Step::ForceMerge { via, index } => {
                let path = format!("/{}/_forcemerge?max_num_segments=1", INDICES[*index].name);
                self.plain(*via, Method::POST, &path, None).await
            }
            Step::Flush { via, index } => {
                self.plain(*via, Method::POST, &format!("/{}/_flush", INDICES[*index].name), None).await
            }
            Step::Burst { via, index, bulks } => Ok(self.burst(*via, *index, *bulks)),
            Step::Fault(fault) => {
                self.counts.faults += 1;
                self.fault(*fault).await
            }
            Step::Agree => self.agree().await,
        }
    }

    async fn plain(&mut self, via: Via, method: Method, path: &str, body: Option<Value>) -> Outcome {
        let headers = if body.is_some() { vec![("content-type", "application/json")] } else { Vec::new() };
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let reply = self.send(via, Request { method, path: path.to_owned(), headers, body }).await;
        Ok(outcome(reply.as_ref()))
    }

    /// Only an index that is refreshed from time to time ends such a wait.
    fn possible(index: usize, refresh: Refresh) -> Refresh {
        if refresh == Refresh::WaitFor && index != 1 { Refresh::True } else { refresh }
    }

    async fn bulk(
        &mut self,
        via: Via,
        index: usize,
        writes: &[Write],
        style: Style,
        refresh: Refresh,
    ) -> Outcome {
        let filled: Vec<Filled> =
            writes.iter().map(|write| fill(&self.shared, &self.known, index, write)).collect();
        self.send_bulk(via, index, &filled, style, refresh).await
    }

    async fn send_bulk(
        &mut self,
        via: Via,
        index: usize,
        filled: &[Filled],
        style: Style,
        refresh: Refresh,
    ) -> Outcome {
        let refresh = Self::possible(index, refresh);
        let (soon, began) = (self.soon(index), Instant::now());
        let reply = self.send(via, requests::bulk(index, filled, style, refresh)).await;
        let told = outcome(reply.as_ref());
        let Some(reply) = reply.filter(|reply| reply.status == 200) else { return Ok(told) };
        let items = reply.body["items"].as_array().cloned().unwrap_or_default();
        let items: Vec<Value> =
            items.iter().filter_map(|item| item.as_object()?.values().next().cloned()).collect();
        let keys = self.acknowledged(index, filled, &items);
        if let Via::Sidecar(sidecar) = via
            && refresh != Refresh::No
        {
            self.compare_acknowledged(sidecar, index, (soon, began.elapsed()), Some(&keys)).await?;
        }
        let statuses: Vec<String> = items.iter().map(|item| item["status"].to_string()).collect();
        Ok(format!("{told} [{}]", statuses.join(" ")))
    }

    async fn single(&mut self, via: Via, index: usize, write: &Write, refresh: Refresh) -> Outcome {
        let refresh = Self::possible(index, refresh);
        let filled = fill(&self.shared, &self.known, index, write);
        let (soon, began) = (self.soon(index), Instant::now());
        let reply = self.send(via, requests::single(index, &filled, refresh)).await;
        let told = outcome(reply.as_ref());
        let Some(reply) = reply.filter(|reply| reply.status < 300) else { return Ok(told) };
        let keys = self.acknowledged(index, &[filled], std::slice::from_ref(&reply.body));
        if let Via::Sidecar(sidecar) = via
            && refresh != Refresh::No
        {
            self.compare_acknowledged(sidecar, index, (soon, began.elapsed()), Some(&keys)).await?;
        }
        Ok(format!("{told} {}", reply.body["result"]))
    }

    async fn pair(&mut self, via: Via, number: u32, delete: bool, refresh: bool) -> Outcome {
        let write_number = self.shared.number();
        let ids = pair(number);
        let mut lines = String::new();
        for id in &ids {
            self.shared.attempt_write(PAIRS, id, None, write_number);
            if delete {
                self.shared.attempt_removal(PAIRS, id, write_number);
                lines.push_str(&format!("{}\n", json!({"delete": {"_id": id}})));
            } else {
                let doc = Doc::bare().json(write_number);
                lines.push_str(&format!("{}\n{doc}\n", json!({"index": {"_id": id}})));
            }
        }
        let path = format!("/{}/_bulk?refresh={refresh}", INDICES[PAIRS].name);
        let headers = vec![("content-type", "application/x-ndjson")];
        let (soon, began) = (self.soon(PAIRS), Instant::now());
        let request = Request { method: Method::POST, path, headers, body: lines.into_bytes() };
        let reply = self.send(via, request).await;
        // Whatever becomes visible next must not come between the two.
        self.settle().await;
        if let (Via::Sidecar(sidecar), true, Some(200)) =
            (via, refresh, reply.as_ref().map(|reply| reply.status))
        {
            let keys = ids.map(|id| (id, None));
            self.compare_acknowledged(sidecar, PAIRS, (soon, began.elapsed()), Some(&keys)).await?;
        }
        Ok(outcome(reply.as_ref()))
    }

    /// The documents that a job chooses, and then what it does to each under the version that it read.
    async fn by_query(&mut self, via: Via, index: usize, job: Job, remainder: u64) -> Outcome {
        let mut body = json!({"size": ALL, "seq_no_primary_term": true, "query": {"match_all": {}}});
        if !Elasticsearch::version().starts_with("8.") {
            body["_source"] = json!({"exclude_vectors": false});
        }
        let found = self.shared.direct().post(&format!("/{}/_search", INDICES[index].name), body).await;
        let hits = found.body["hits"]["hits"].as_array().cloned().unwrap_or_default();
        let mut lines = String::new();
        let mut writes = Vec::new();
        for hit in hits.iter().filter(|hit| hit["_source"]["n"].as_u64().is_some_and(|n| n % 6 == remainder))
        {
            let Some(id) = hit["_id"].as_str() else { continue };
            let routing = hit["_routing"].as_str();
            let number = self.shared.number();
            let mut action = json!({"_id": id});
            if let Some(routing) = routing {
                action["routing"] = json!(routing);
            }
            let mut source = hit["_source"].clone();
            if let Job::CopyTo(_) = job {
                // Pairs stay whole, and a copy is a write of its own.
                if id.starts_with('p') {
                    continue;
                }
                source["n"] = json!(number);
                if source["ver"].is_array() {
                    source["ver"] = json!([number, 1]);
                }
            } else {
                action["if_seq_no"] = hit["_seq_no"].clone();
                action["if_primary_term"] = hit["_primary_term"].clone();
            }
            let target = if let Job::CopyTo(target) = job { target } else { index };
            if job == Job::Delete || !source["ver"].is_array() {
                self.shared.attempt_removal(target, id, number);
            }
            self.shared.attempt_write(target, id, routing, number);
            lines.push_str(&match job {
                Job::Delete => format!("{}\n", json!({"delete": action})),
                Job::Touch => format!("{}\n{source}\n", json!({"index": action})),
                Job::CopyTo(_) => format!("{}\n{source}\n", json!({"create": action})),
            });
            writes.push(id.to_owned());
        }
        if writes.is_empty() {
            return Ok("nothing matched".to_owned());
        }
        let target = if let Job::CopyTo(target) = job { target } else { index };
        let request = Request {
            method: Method::POST,
            path: format!("/{}/_bulk", INDICES[target].name),
            headers: vec![("content-type", "application/x-ndjson")],
            body: lines.into_bytes(),
        };
        let reply = self.send(via, request).await;
        self.settle().await;
        Ok(format!("{} documents: {}", writes.len(), outcome(reply.as_ref())))
    }

    async fn refresh(&mut self, via: Via, index: Option<usize>) -> Outcome {
        self.settle().await;
        let path = index.map_or("/_refresh".to_owned(), |index| format!("/{}/_refresh", INDICES[index].name));
        let soon: Vec<Soon> = (0..INDICES.len()).map(|index| self.soon(index)).collect();
        let began = Instant::now();
        let request = Request { method: Method::POST, path, headers: Vec::new(), body: Vec::new() };
        let reply = self.send(via, request).await;
        let took = began.elapsed();
        let of_all = |reply: &Reply| reply.status == 200 && reply.body["_shards"]["failed"] == 0;
        if let Via::Sidecar(sidecar) = via
            && reply.as_ref().is_some_and(of_all)
        {
            for index in index.map_or(0..INDICES.len(), |index| index..index + 1) {
                self.compare_acknowledged(sidecar, index, (soon[index], took), None).await?;
            }
        }
        Ok(outcome(reply.as_ref()))
    }

    async fn recreate(&mut self, via: Via, index: usize) -> Outcome {
        while self.bursts.join_next().await.is_some() {}
        self.settle().await;
        self.shared.end_era(index);
        let name = INDICES[index].name;
        let deleted = self.plain(via, Method::DELETE, &format!("/{name}"), None).await?;
        // Only a sidecar knows the type `ivf`; one that is up and connected makes the index sooner or later.
        let body = INDICES[index].body(self.scope.nodes - 1);
        let limit = Instant::now() + Duration::from_secs(60);
        let mut number = 0;
        while self.shared.direct().call("HEAD", &format!("/{name}"), None).await.status == 404 {
            if Instant::now() > limit {
                return Err(format!("{name} could not be made again"));
            }
            number = (number + 1) % self.sidecars.len();
            if number == 0 {
                for sidecar in &mut self.sidecars {
                    sidecar.step(u64::MAX).await;
                }
            }
            if let Some(api) = self.shared.sidecar(number) {
                api.try_call(Method::PUT, &format!("/{name}"), Some(body.to_string())).await;
            }
        }
        self.known.retain(|(of, ..), _| *of != index);
        if self.alias.is_some_and(|(of, _)| of == index) {
            self.alias = None;
        }
        self.shared.new_era(index);
        Ok(format!("deleted: {deleted}"))
    }

    async fn close_and_open(&mut self, via: Via, index: usize) -> Outcome {
        self.settle().await;
        self.shared.end_era(index);
        let name = INDICES[index].name;
        let closed = self.plain(via, Method::POST, &format!("/{name}/_close"), None).await?;
        let opened = self.plain(via, Method::POST, &format!("/{name}/_open"), None).await?;
        // Whatever was lost on the way: it is open in the end.
        self.shared.direct().call("POST", &format!("/{name}/_open"), None).await.ok();
        self.wait_for_shards(name).await;
        self.shared.new_era(index);
        Ok(format!("closed: {closed}, opened: {opened}"))
    }

    async fn wait_for_shards(&self, name: &str) {
        let path = format!("/_cluster/health/{name}?wait_for_status=yellow&timeout=30s");
        crate::eventually("the shards are started", Duration::from_secs(60), || async {
            let health = self.shared.direct().try_get(&path).await?;
            (health.status == 200).then_some(())
        })
        .await;
    }

    /// A second client.
    fn burst(&mut self, via: Via, index: usize, bulks: u32) -> String {
        let Some(api) = self.api(via) else { return "the sidecar is down".to_owned() };
        self.shared.bursts[index].fetch_add(1, Ordering::SeqCst);
        let (shared, seed) = (Arc::clone(&self.shared), self.seed ^ self.number);
        self.bursts.spawn(async move {
            write_burst(&shared, &api, index, bulks, seed).await;
            shared.bursts[index].fetch_sub(1, Ordering::SeqCst);
        });
        "begun".to_owned()
    }

    async fn fault(&mut self, fault: Fault) -> Outcome {
        let number = self.number;
        match fault {
            Fault::Kill { sidecar, steps } => self.sidecars[sidecar].kill(number + u64::from(steps)),
            Fault::Terminate { sidecar } => self.sidecars[sidecar].terminate().await,
            Fault::Pause { sidecar, time } => self.sidecars[sidecar].pause(time),
            Fault::FullDisk { sidecar, steps } => self.sidecars[sidecar].fill_disk(number + u64::from(steps)),
            Fault::Network { sidecar, faults, time } => self.sidecars[sidecar].trouble_network(faults, time),
            Fault::PauseNode { node, time } => {
                while self.pauses.join_next().await.is_some() {}
                if self.shared.lost() != Some(node) {
                    let resume = self.nodes.pause(node).await;
                    self.pauses.spawn(async move {
                        tokio::time::sleep(time).await;
                        resume.await;
                    });
                }
            }
            Fault::LoseNode { node, hard, steps } => {
                self.lose_node(node, hard, number + u64::from(steps)).await
            }
            Fault::RestartNode { node, hard } => self.restart_node(node, hard).await?,
        }
        Ok("begun".to_owned())
    }

    /// While a second client writes through each sidecar.
    async fn restart_node(&mut self, node: usize, hard: bool) -> Result<(), String> {
        self.bring_back().await;
        self.begin_trouble().await;
        self.nodes.restart(node, hard).await;
        self.nodes.whole().await;
        self.end_trouble().await;
        Ok(())
    }

    /// A node of a cluster goes, under writes; another copy of its shards takes over.
    async fn lose_node(&mut self, node: usize, hard: bool, back_at: u64) {
        if !self.shared.is_replicated() {
            return;
        }
        self.bring_back().await;
        self.begin_trouble().await;
        self.shared.set_lost(Some(node));
        self.nodes.lose(node, hard).await;
        self.back_at = Some(back_at);
        self.end_trouble().await;
    }

    /// The node that is lost comes back.
    pub(super) async fn bring_back(&mut self) {
        self.back_at = None;
        let Some(node) = self.shared.lost() else { return };
        self.begin_trouble().await;
        self.nodes.restart(node, true).await;
        self.nodes.whole().await;
        self.shared.set_lost(None);
        self.end_trouble().await;
    }

    async fn begin_trouble(&mut self) {
        while self.pauses.join_next().await.is_some() {}
        (0..INDICES.len()).for_each(|index| self.shared.end_era(index));
        for sidecar in 0..self.sidecars.len() {
            self.burst(Via::Sidecar(sidecar), sidecar % 2, 20);
        }
        self.shared.uncertain.store(true, Ordering::SeqCst);
    }

    async fn end_trouble(&mut self) {
        self.wait_for_shards("m-*").await;
        while self.bursts.join_next().await.is_some() {}
        self.settle().await;
        // What was visible and not yet on disk, or not on every copy, may be lost with its number.
        self.known.clear();
        (0..INDICES.len()).for_each(|index| self.shared.new_era(index));
    }
}

async fn write_burst(shared: &Shared, api: &Api, index: usize, bulks: u32, seed: u64) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let known = requests::Known::new();
    for _ in 0..bulks {
        let mut filled = Vec::new();
        for _ in 0..random.gen_range(1..8) {
            let act = if random.gen_range(0..4) == 0 {
                Act::Delete
            } else {
                Act::Index(Doc::draw(&mut random, false))
            };
            let write = Write {
                id: Some(1_000 + random.gen_range(0..BURST_IDS)),
                routing: None,
                condition: Condition::None,
                act,
            };
            filled.push(fill(shared, &known, index, &write));
        }
        // Between the two documents of a pair nobody may refresh.
        let refresh = if index != PAIRS && random.gen_range(0..3) == 0 { Refresh::True } else { Refresh::No };
        let request = requests::bulk(index, &filled, PLAIN, refresh);
        let reply = api.try_send(request.method, &request.path, &request.headers, request.body).await;
        if reply.is_none_or(|reply| reply.status >= 500) {
            shared.uncertain.store(true, Ordering::SeqCst);
        }
    }
}

fn outcome(reply: Option<&Reply>) -> String {
    match reply {
        None => "no response".to_owned(),
        Some(reply) if reply.status < 300 => reply.status.to_string(),
        Some(reply) => {
            let reason = reply.body["error"]["reason"].as_str().unwrap_or(&reply.text);
            format!("{} {}", reply.status, reason.chars().take(160).collect::<String>())
        }
    }
}
