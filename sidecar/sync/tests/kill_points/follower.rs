//! A history of one shard with a follower that lives, dies and comes back; and what must hold of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use es_wire::{Acknowledged, DocFilter, Wrote};
use knn_types::{DocKey, Query, SeqNo};
use prometheus_client::registry::Registry;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use shard_sync::{FieldState, Filtered, Scope, Sync, SyncConfig};
use tokio::runtime::{Builder, Runtime};

use crate::crash::Crash;
use crate::fake_engine::FakeEngine;
use crate::faulty_engine::{self, FaultyEngine, Published, Record};
use crate::played_shard::{Doc, FIELDS, INDEX, Operation, PlayedShard, Shown};
use crate::server::{self, Server};

/// Longest that a follower may take to agree.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a filter is asked for after each refresh, a millisecond apart.
const TRIES: usize = 15;

/// What goes wrong, and when.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Request(u64, server::Wrong),
    Call(u64, faulty_engine::Wrong),
}

/// What a history without faults consists of.
pub(crate) struct Seen {
    requests: u64,
    calls: u64,
}

const REQUEST_FAULTS: [server::Wrong; 6] = [
    server::Wrong::Lost,
    server::Wrong::Unanswered,
    server::Wrong::Cut,
    server::Wrong::Refused,
    server::Wrong::DiesBefore,
    server::Wrong::DiesAfter,
];
const CALL_FAULTS: [faulty_engine::Wrong; 4] = [
    faulty_engine::Wrong::Fails,
    faulty_engine::Wrong::FailsAfter,
    faulty_engine::Wrong::DiesBefore,
    faulty_engine::Wrong::DiesAfter,
];

impl Fault {
    /// Every fault at every point.
    pub(crate) fn all(seen: &Seen) -> Vec<Self> {
        let requests = (0..seen.requests).flat_map(|n| REQUEST_FAULTS.map(|wrong| Fault::Request(n, wrong)));
        let calls = (0..seen.calls).flat_map(|n| CALL_FAULTS.map(|wrong| Fault::Call(n, wrong)));
        requests.chain(calls).collect()
    }

    /// The one that a failure printed.
    pub(crate) fn named(kind: &str, number: u64, wrong: &str) -> Self {
        let requests = REQUEST_FAULTS.map(|wrong| Fault::Request(number, wrong));
        let calls = CALL_FAULTS.map(|wrong| Fault::Call(number, wrong));
        let named = format!("{kind} {number} {wrong}");
        let all = requests.into_iter().chain(calls);
        all.into_iter().find(|fault| fault.to_string() == named).expect("a fault of this name")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Request(number, wrong) => write!(f, "request {number} {wrong:?}"),
            Fault::Call(number, wrong) => write!(f, "call {number} {wrong:?}"),
        }
    }
}

/// A follower with a runtime of its own: when that ends, everything it was about to do ends with it.
struct Follower {
    sync: Arc<Sync>,
    engine: Arc<FaultyEngine>,
    runtime: Runtime,
}

struct Play {
    what: String,
    server: Server,
    crash: Arc<Crash>,
    record: Arc<Record>,
    fault: Option<Fault>,
    follower: Follower,
    /// How often the filter was known.
    filtered: u32,
}

/// Plays a history; panics where something does not hold.
pub(crate) fn play(seed: u64, fault: Option<Fault>) -> Seen {
    let what =
        fault.map_or(format!("{seed} without fault"), |fault| format!("KILL_POINT=\"{seed} {fault}\""));
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut play = Play::begin(seed, what, fault).await;
        play.go(seed).await;
        play.end().await
    })
}

impl Play {
    async fn begin(seed: u64, what: String, fault: Option<Fault>) -> Self {
        let (crash, record) = (Arc::new(Crash::default()), Arc::new(Record::default()));
        let of_request = match fault {
            Some(Fault::Request(number, wrong)) => Some((number, wrong)),
            _ => None,
        };
        let server = Server::start(of_request, Arc::clone(&crash)).await;
        {
            let mut shard = server.shard.lock();
            let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0xd0c5);
            (0..25).for_each(|_| drop(shard.write(&mut random)));
            shard.refresh();
        }
        let follower = Follower::start(FakeEngine::default(), &server.url, fault, &record, &crash);
        Self { what, server, crash, record, fault, follower, filtered: 0 }
    }

    async fn go(&mut self, seed: u64) {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        self.agree().await;
        for _ in 0..7 {
            let (event, writes) = (random.gen_range(0..12), random.gen_range(1..8));
            for _ in 0..writes {
                self.server.shard.lock().write(&mut random);
            }
            let told = self.server.shard.lock().acknowledge(&mut random);
            let (early, twice) = (random.gen_range(0..3) > 0, random.gen_range(0..4) == 0);
            if early || twice {
                self.acknowledged(&told);
            }
            match event {
                0 | 1 => self.server.shard.lock().fail_over(&mut random),
                2 => self.server.shard.lock().rewrite(&mut random),
                3 => {
                    self.server.shard.lock().set_open(false);
                    self.looked_at_the_catalog().await;
                    self.server.shard.lock().set_open(true);
                }
                4 => self.restart(),
                5 => self.server.shard.lock().complete(),
                _ => {}
            }
            self.server.shard.lock().refresh();
            if !early || twice {
                self.acknowledged(&told);
            }
            self.agree().await;
        }
    }

    /// The follower's proxy saw these being acknowledged.
    fn acknowledged(&self, operations: &[Operation]) {
        let Some(index) = self.follower.sync.catalog().index(INDEX).cloned() else { return };
        let fields = |vectors: &[Option<Vec<f32>>; 2]| {
            FIELDS.iter().zip(vectors).map(|(field, vector)| (Arc::from(*field), vector.clone())).collect()
        };
        let acknowledged = |operation: &Operation| Acknowledged {
            index: Arc::clone(&index),
            shard: 0,
            doc: DocKey::new(operation.id.as_str()),
            order: SeqNo { primary_term: operation.term, seq_no: operation.seq_no },
            wrote: operation
                .vectors
                .as_ref()
                .map_or(Wrote::Deletion, |vectors| Wrote::Document(fields(vectors))),
            no_pipeline: true,
        };
        let _entered = self.follower.runtime.enter();
        self.follower.sync.acknowledged(operations.iter().map(acknowledged).collect());
    }

    /// What Elasticsearch shows is published: a barrier says so and is right, or the follower dies on the
    /// way, and its successor gets there.
    async fn agree(&mut self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            self.looked_at_the_catalog().await;
            let sync = Arc::clone(&self.follower.sync);
            // On the follower's own runtime, as the proxy's calls are beside it.
            let barrier = self
                .follower
                .runtime
                .spawn(async move { sync.published(Scope::Index(INDEX.into()), PATIENCE).await });
            let published = tokio::select! {
                published = barrier => published.unwrap_or(false),
                () = self.crash.wait() => false,
            };
            if self.crash.happened() {
                self.restart();
                continue;
            }
            // Nothing is refreshed meanwhile, so what is held now must be what is shown.
            if published && self.is_ready() {
                let shown = self.server.shard.lock().shown();
                let differs = difference(&self.held(), &expected(&shown));
                assert!(
                    differs.is_none(),
                    "{}: the barrier said it was published, and {differs:?}",
                    self.what
                );
                self.filter_agrees(&shown).await;
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{}: never published", self.what);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Where a filter is known it lets through what it lets through of that which is shown.
    async fn filter_agrees(&mut self, shown: &Shown) {
        let filter = DocFilter::new(r#"{"exists":{"field":"w"}}"#);
        for _ in 0..TRIES {
            let (sync, filter) = (Arc::clone(&self.follower.sync), filter.clone());
            let asked =
                self.follower.runtime.spawn(async move { sync.filtered(INDEX, FIELDS[0], &filter).await });
            let answer = tokio::select! {
                answer = asked => answer.ok(),
                () = self.crash.wait() => None,
            };
            match answer {
                Some(Filtered::Ready(shards)) => {
                    let query = Query { filter: Some(&*shards[0].filter), ..Query::new(&[0.0, 0.0], 1_000) };
                    let hits = shards[0].view.search(&query).expect("the fake engine does not fail").hits;
                    let found: BTreeSet<(DocKey, SeqNo)> =
                        hits.into_iter().map(|hit| (hit.doc, hit.order)).collect();
                    let matches = |doc: &&Doc| doc.vectors.iter().all(Option::is_some);
                    let key = |(id, doc): (&String, &Doc)| {
                        let order = SeqNo { primary_term: doc.term, seq_no: doc.seq_no };
                        (DocKey::new(id.as_str()), order)
                    };
                    let wanted: BTreeSet<(DocKey, SeqNo)> =
                        shown.iter().filter(|(_, doc)| matches(doc)).map(key).collect();
                    assert_eq!(found, wanted, "{}: what a filter lets through", self.what);
                    self.filtered += 1;
                    return;
                }
                // Something went wrong, as it should; it passes, and searches go another way.
                Some(Filtered::Refused) | None => return,
                Some(Filtered::Unknown) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }

    /// Until then a follower may not know that there is an index. It does not return when the follower dies.
    async fn looked_at_the_catalog(&self) {
        let sync = Arc::clone(&self.follower.sync);
        let looked = self.follower.runtime.spawn(async move { sync.invalidate().await });
        tokio::select! {
            _ = looked => {}
            () = self.crash.wait() => {}
        }
    }

    /// Searches are answered here; others are Elasticsearch's and right in any case.
    fn is_ready(&self) -> bool {
        let ready = |field: &&str| matches!(self.follower.sync.field(INDEX, field), FieldState::Ready(_));
        FIELDS.iter().all(ready)
    }

    fn held(&self) -> Held {
        let mut held = Held::new();
        for field in FIELDS {
            for (_, doc, order, vector) in self.follower.engine.inner.documents(INDEX, field) {
                held.insert((field.to_owned(), doc), (order, vector));
            }
        }
        held
    }

    /// Another process on the same disk.
    fn restart(&mut self) {
        self.crash.now();
        let engine = self.follower.engine.inner.restarted();
        self.crash.is_over();
        let next = Follower::start(engine, &self.server.url, self.fault, &self.record, &self.crash);
        let old = std::mem::replace(&mut self.follower, next);
        old.end();
    }

    async fn end(mut self) -> Seen {
        self.server.shard.lock().complete();
        self.server.shard.lock().refresh();
        self.agree().await;
        self.every_epoch_was_whole();
        assert!(self.fault.is_some() || self.filtered > 4, "{}: {} times", self.what, self.filtered);
        let seen = Seen {
            requests: self.server.requests.load(Ordering::SeqCst),
            calls: self.record.calls.load(Ordering::SeqCst),
        };
        self.follower.end();
        seen
    }

    /// Each published state is what some refresh showed, never an earlier one than the state before.
    fn every_epoch_was_whole(&self) {
        let shard = self.server.shard.lock();
        for field in FIELDS {
            let mut at = 0;
            for (_, state) in self.record.published.lock().iter().filter(|(of, _)| &**of == field) {
                let same = |shown: &Arc<Shown>| orders(shown, field) == *state;
                match shard.log[at..].iter().position(same) {
                    Some(further) => at += further,
                    None => panic!("{}: {field} {}", self.what, untrue(&shard, field, at, state)),
                }
            }
        }
    }
}

fn untrue(shard: &PlayedShard, field: &str, at: usize, state: &Published) -> String {
    let earlier = shard.log[..at].iter().rposition(|shown| orders(shown, field) == *state);
    match earlier {
        Some(earlier) => format!("went back from the state of refresh {at} to that of refresh {earlier}"),
        None => {
            let of = |at: usize| shard.log.get(at).map(|shown| beside(state, &orders(shown, field)));
            let (before, next) = (of(at), of(at + 1));
            format!(
                "published what no refresh showed; beside refresh {at}: {before:?}; beside the next: {next:?}"
            )
        }
    }
}

impl Follower {
    fn start(
        engine: FakeEngine,
        url: &str,
        fault: Option<Fault>,
        record: &Arc<Record>,
        crash: &Arc<Crash>,
    ) -> Self {
        let of_call = match fault {
            Some(Fault::Call(number, wrong)) => Some((number, wrong)),
            _ => None,
        };
        let engine = Arc::new(FaultyEngine::new(engine, of_call, record, crash));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let config = SyncConfig {
            upstream: vec![url.to_owned()],
            catalog_interval: Duration::from_millis(5),
            feed_interval: Duration::from_millis(2),
            feed_interval_idle: Duration::from_millis(5),
            snapshot_interval: Duration::from_millis(1),
            retry_max: Duration::from_millis(20),
            // Several pages of a few documents.
            page_bytes: 2_000,
            ..SyncConfig::default()
        };
        let sync = {
            let _entered = runtime.enter();
            Sync::start(
                config,
                Arc::clone(&engine) as Arc<dyn knn_types::KnnEngine>,
                &mut Registry::default(),
            )
        };
        Self { sync, engine, runtime }
    }

    fn end(self) {
        self.runtime.shutdown_background();
    }
}

/// Field and document, order and vector.
type Held = BTreeMap<(String, DocKey), (SeqNo, Vec<f32>)>;

fn expected(shown: &Shown) -> Held {
    let mut held = Held::new();
    for (id, doc) in shown {
        for (field, vector) in FIELDS.iter().zip(&doc.vectors) {
            if let Some(vector) = vector {
                let order = SeqNo { primary_term: doc.term, seq_no: doc.seq_no };
                held.insert(((*field).to_owned(), DocKey::new(id.as_str())), (order, vector.clone()));
            }
        }
    }
    held
}

/// What is only here, and only there.
fn beside(state: &Published, shown: &Published) -> String {
    let only = |a: &Published, b: &Published| -> Vec<String> {
        let differs = a.iter().filter(|(doc, order)| b.get(doc) != Some(order));
        differs.map(|(doc, order)| format!("{}@{}.{}", doc.id, order.primary_term, order.seq_no)).collect()
    };
    format!("more {:?}, less {:?}", only(state, shown), only(shown, state))
}

/// The first difference.
fn difference(held: &Held, expected: &Held) -> Option<String> {
    let missing = expected.iter().find(|(key, value)| held.get(key) != Some(value));
    let extra = held.iter().find(|(key, _)| !expected.contains_key(key));
    (missing.is_some() || extra.is_some()).then(|| format!("missing {missing:?}, extra {extra:?}"))
}

fn orders(shown: &Shown, field: &str) -> Published {
    let of_field = expected(shown).into_iter().filter(|((of, _), _)| of == field);
    of_field.map(|((_, doc), (order, _))| (doc, order)).collect()
}
