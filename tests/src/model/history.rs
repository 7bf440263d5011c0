//! A history being played: its steps against real processes, and the comparisons between them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};

use super::answer::{ALL, Answer, Key, NoAnswer, ask, order_of, truth};
use super::document::{FIELDS, query};
use super::indices::{ALIAS, INDICES};
use super::nodes::Nodes;
use super::requests::{Filled, Known, Request};
use super::shared::Shared;
use super::sidecar::{CALL_LIMIT, Sidecar};
use super::step::{Scope, Step, Via};
use super::watcher;
use crate::{Api, Reply};

/// An answer after a refresh past a sidecar, or after trouble, must be right within this time.
const PATIENCE: Duration = Duration::from_secs(20);
/// A refresh that took longer may have been released without being published.
const HELD: Duration = Duration::from_secs(25);
/// Steps that a failure prints.
const TOLD: usize = 25;

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Steps that were played.
    pub(super) steps: u64,
    /// Writes that were acknowledged.
    pub(super) acknowledged: u64,
    /// Writes without a clear answer.
    pub(super) lost: u64,
    /// Comparisons right after a refresh that was acknowledged through a sidecar: no second chance.
    pub(super) strict: u64,
    /// Comparisons that may come true in a while.
    pub(super) eventual: u64,
    /// Of both: answered by the sidecar itself.
    pub(super) own: u64,
    /// Faults.
    pub(super) faults: u64,
    /// Longest that a sidecar took to agree at rest.
    pub(super) slowest_agreement: Duration,
}

/// How soon a comparison must come true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Soon {
    /// With the first answer.
    AtOnce,
    /// Something may change what is shown behind our back: an answer may be late.
    InAWhile,
}

/// See the head of this file.
pub(super) struct History {
    pub(super) seed: u64,
    pub(super) scope: Scope,
    pub(super) nodes: Nodes,
    /// When the node that is lost comes back.
    pub(super) back_at: Option<u64>,
    pub(super) sidecars: Vec<Sidecar>,
    pub(super) shared: Arc<Shared>,
    pub(super) known: Known,
    pub(super) bursts: JoinSet<()>,
    pub(super) pauses: JoinSet<()>,
    /// Where the alias points, and who was told so.
    pub(super) alias: Option<(usize, Via)>,
    pub(super) counts: Counts,
    pub(super) number: u64,
    random: Xoshiro256PlusPlus,
    told: VecDeque<String>,
    watchers: Vec<JoinHandle<()>>,
}

impl History {
    /// Starts Elasticsearch and the sidecars, and makes the indices.
    pub(super) async fn begin(label: &str, seed: u64, scope: Scope) -> Self {
        let nodes = Nodes::start(label, scope.nodes).await;
        let urls = nodes.urls();
        let direct = urls.iter().map(|url| Api::with_timeout(url, CALL_LIMIT)).collect();
        let shared = Arc::new(Shared::new(direct, scope.sidecars));
        let mut sidecars = Vec::new();
        for number in 0..scope.sidecars {
            sidecars.push(Sidecar::start(number, &urls, seed, Arc::clone(&shared)).await);
        }
        let through = shared.sidecar(0).expect("it was just started");
        for index in &INDICES {
            through.put(&format!("/{}", index.name), index.body(scope.nodes - 1)).await.ok();
        }
        let watchers =
            (0..scope.sidecars).map(|n| tokio::spawn(watcher::watch(Arc::clone(&shared), n))).collect();
        Self {
            seed,
            scope,
            nodes,
            back_at: None,
            sidecars,
            shared,
            known: Known::new(),
            bursts: JoinSet::new(),
            pauses: JoinSet::new(),
            alias: None,
            counts: Counts::default(),
            number: 0,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            told: VecDeque::new(),
            watchers,
        }
    }

    /// Plays the step with this number. A failure tells all that is needed to understand it.
    pub(super) async fn play(&mut self, number: u64) -> Result<(), String> {
        self.number = number;
        let step = Step::draw(self.seed, number, self.scope);
        for sidecar in &mut self.sidecars {
            sidecar.step(number).await;
        }
        if self.back_at.is_some_and(|at| at <= number) {
            self.bring_back().await;
        }
        let began = Instant::now();
        let played = self.perform(&step).await;
        let mut outcome = played.as_ref().map_or_else(|_| "FAILED".to_owned(), Clone::clone);
        outcome.push_str(&format!(" ({} ms)", began.elapsed().as_millis()));
        if self.told.len() == TOLD {
            self.told.pop_front();
        }
        self.told.push_back(format!("step {number}: {step}\n      -> {outcome}"));
        self.counts.steps += 1;
        let mut failures: Vec<String> = played.err().into_iter().collect();
        failures.extend(self.shared.violations());
        for sidecar in &mut self.sidecars {
            failures.extend(sidecar.is_up().err());
        }
        if failures.is_empty() { Ok(()) } else { Err(self.tell(&failures).await) }
    }

    async fn tell(&self, failures: &[String]) -> String {
        let mut text = format!("seed {}, step {}:\n", self.seed, self.number);
        failures.iter().for_each(|failure| text.push_str(&format!("  {failure}\n")));
        text.push_str("the last steps:\n");
        self.told.iter().for_each(|step| text.push_str(&format!("  {step}\n")));
        for number in 0..self.sidecars.len() {
            for index in &INDICES {
                let Some(api) = self.shared.sidecar(number) else { continue };
                let stats = api.try_get(&format!("/_ivf/{}/_stats", index.name)).await;
                text.push_str(&format!(
                    "sidecar {number}: {}\n",
                    stats.map_or("silent".to_owned(), |stats| stats.text)
                ));
            }
        }
        text
    }

    /// Calls on a door; `None` while the sidecar is down.
    pub(super) fn api(&self, via: Via) -> Option<Api> {
        match via {
            Via::Direct => Some(self.shared.direct()),
            Via::Sidecar(number) => self.shared.sidecar(number),
        }
    }

    /// Sends a request. `None`: no response, and nobody knows what became of it.
    pub(super) async fn send(&mut self, via: Via, request: Request) -> Option<Reply> {
        let api = self.api(via)?;
        let reply = api.try_send(request.method, &request.path, &request.headers, request.body).await;
        if reply.as_ref().is_none_or(|reply| reply.status >= 500) {
            self.counts.lost += 1;
            self.shared.uncertain.store(true, Ordering::SeqCst);
        }
        reply
    }

    /// Remembers what was acknowledged; returns the documents.
    pub(super) fn acknowledged(&mut self, index: usize, writes: &[Filled], items: &[Value]) -> Vec<Key> {
        let mut keys = Vec::new();
        for (write, item) in writes.iter().zip(items) {
            let status = item["status"].as_u64().unwrap_or(200);
            let (Some(id), true) = (item["_id"].as_str(), status < 300) else { continue };
            let key = (id.to_owned(), write.routing.clone());
            if let Some(order) = order_of(item) {
                self.counts.acknowledged += 1;
                self.known.insert((index, key.0.clone(), key.1.clone()), order);
            }
            keys.push(key);
        }
        keys
    }

    /// Waits until no write is on its way any more, if some may be.
    pub(super) async fn settle(&self) {
        if !self.shared.uncertain.swap(false, Ordering::SeqCst) {
            return;
        }
        for sidecar in &self.sidecars {
            sidecar.drained().await;
        }
        let path = "/_tasks?actions=indices:data/write/*&filter_path=nodes.*.tasks.*.action";
        let limit = Instant::now() + Duration::from_secs(20);
        let mut quiet = 0;
        while quiet < 2 && Instant::now() < limit {
            let tasks = self.shared.direct().try_get(path).await;
            let none = tasks.is_some_and(|reply| reply.status == 200 && reply.body["nodes"].is_null());
            quiet = if none { quiet + 1 } else { 0 };
        }
    }

    /// What may be asked of answers after a refresh that is about to be sent.
    pub(super) fn soon(&self, index: usize) -> Soon {
        let uncertain = self.shared.uncertain.load(Ordering::SeqCst);
        let bursts = self.shared.bursts[index].load(Ordering::SeqCst);
        if uncertain || bursts > 0 { Soon::InAWhile } else { Soon::AtOnce }
    }

    /// After a refresh that was acknowledged through a sidecar and took `took`.
    pub(super) async fn compare_acknowledged(
        &mut self,
        sidecar: usize,
        index: usize,
        (soon, took): (Soon, Duration),
        about: Option<&[Key]>,
    ) -> Result<(), String> {
        let soon = if took > HELD { Soon::InAWhile } else { soon };
        let fields = [FIELDS.len() - 1, self.random.gen_range(0..FIELDS.len() - 1)];
        for field in &fields[..if about.is_some() { 1 } else { 2 }] {
            self.compare(sidecar, index, *field, soon, about).await?;
        }
        Ok(())
    }

    /// All documents, and the few nearest, of one field through one sidecar, against Elasticsearch.
    pub(super) async fn compare(
        &mut self,
        sidecar: usize,
        index: usize,
        field: usize,
        soon: Soon,
        about: Option<&[Key]>,
    ) -> Result<(), String> {
        let query = query(&mut self.random, field);
        let few = [1, 3, 10][self.random.gen_range(0..3)];
        let aliased = self.alias == Some((index, Via::Sidecar(sidecar))) && self.random.gen_range(0..3) == 0;
        let name = INDICES[index].name;
        let target = if aliased { ALIAS } else { name };
        let limit = Instant::now() + PATIENCE;
        let mut last = "no answer".to_owned();
        while Instant::now() < limit {
            let Some(api) = self.shared.sidecar(sidecar) else { return Ok(()) };
            if !self.sidecars[sidecar].is_connected() {
                return Ok(());
            }
            let Ok(before) = truth(&self.shared, index, field, &query).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let ours = ask(&api, target, field, &query, ALL).await;
            let nearest = ask(&api, target, field, &query, few).await;
            let Ok(after) = truth(&self.shared, index, field, &query).await else { continue };
            // Elasticsearch itself showed something new in between: nothing can be said.
            if before != after {
                continue;
            }
            match judge(ours, nearest, &after, few, about) {
                Judgement::Right(own) => {
                    self.counts.own += u64::from(own);
                    match soon {
                        Soon::AtOnce => self.counts.strict += 1,
                        Soon::InAWhile => self.counts.eventual += 1,
                    }
                    return Ok(());
                }
                Judgement::Wrong(what) if soon == Soon::AtOnce => {
                    return Err(format!("sidecar {sidecar}, {target}, {}: {what}", FIELDS[field].0));
                }
                Judgement::Wrong(what) | Judgement::Nothing(what) => last = what,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(format!(
            "sidecar {sidecar}, {target}, {}: not right within {PATIENCE:?}: {last}",
            FIELDS[field].0
        ))
    }

    /// Everything comes to rest: troubles end, bursts and pauses are over, and all answers become right.
    pub(super) async fn agree(&mut self) -> Result<String, String> {
        while self.bursts.join_next().await.is_some() {}
        while self.pauses.join_next().await.is_some() {}
        self.bring_back().await;
        for sidecar in &mut self.sidecars {
            sidecar.step(u64::MAX).await;
        }
        for sidecar in &self.sidecars {
            sidecar.ready().await;
        }
        self.settle().await;
        self.shared.direct().call("POST", "/_refresh", None).await.ok();
        let began = Instant::now();
        for sidecar in 0..self.sidecars.len() {
            for index in 0..INDICES.len() {
                for field in 0..FIELDS.len() {
                    self.compare(sidecar, index, field, Soon::InAWhile, None).await?;
                }
            }
        }
        self.counts.slowest_agreement = self.counts.slowest_agreement.max(began.elapsed());
        Ok(format!("agreed in {:?}", began.elapsed()))
    }

    /// The last comparison.
    pub(super) async fn finish(&mut self) -> Result<(), String> {
        let agreed = self.agree().await;
        let mut failures: Vec<String> = agreed.err().into_iter().collect();
        failures.extend(self.shared.violations());
        if failures.is_empty() { Ok(()) } else { Err(self.tell(&failures).await) }
    }

    /// What was counted so far.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Rounds of the watchers.
    pub(super) fn watched(&self) -> u64 {
        self.shared.watched.load(Ordering::Relaxed)
    }

    /// Requests that faults hit.
    pub(super) fn hits(&self) -> u64 {
        self.sidecars.iter().map(Sidecar::hits).sum()
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.watchers.iter().for_each(JoinHandle::abort);
    }
}

enum Judgement {
    Right(bool),
    Wrong(String),
    /// It could not be asked.
    Nothing(String),
}

fn judge(
    ours: Result<Answer, NoAnswer>,
    nearest: Result<Answer, NoAnswer>,
    truth: &Answer,
    few: usize,
    about: Option<&[Key]>,
) -> Judgement {
    let (ours, nearest) = match (ours, nearest) {
        (Ok(ours), Ok(nearest)) => (ours, nearest),
        (Err(NoAnswer::Wrong(what)), _) | (_, Err(NoAnswer::Wrong(what))) => return Judgement::Wrong(what),
        (Err(NoAnswer::None(what)), _) | (_, Err(NoAnswer::None(what))) => return Judgement::Nothing(what),
    };
    let concerned = |key: &Key| about.is_none_or(|keys| keys.contains(key));
    if let Some(what) = ours.difference(truth, &concerned) {
        return Judgement::Wrong(what);
    }
    if about.is_none()
        && nearest.own
        && let Some(what) = nearest.difference_of_nearest(truth, few)
    {
        return Judgement::Wrong(what);
    }
    Judgement::Right(ours.own)
}

/// The body that points the alias at one index.
pub(super) fn alias_body(index: usize) -> Value {
    json!({"actions": [
        {"remove": {"index": "m-*", "alias": ALIAS, "must_exist": false}},
        {"add": {"index": INDICES[index].name, "alias": ALIAS}},
    ]})
}
