//! Writes that were acknowledged through the proxy: their vectors do not travel a second time, and what
//! they say is believed only as far as Elasticsearch shows it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use es_wire::{Acknowledged, Similarity, Wrote};
use knn_types::{DocKey, SeqNo};
use serde_json::{Value, json};
use shard_sync::Scope;

use crate::fake_engine::FakeEngine;
use crate::harness::{Follower, Node, PATIENCE, Random, delete_line, eventually, index_line, ivf};

/// What the proxy would hand over for a bulk of actions and its answer.
pub(crate) fn acknowledged(
    follower: &Follower,
    index: &str,
    lines: &[String],
    answer: &Value,
) -> Vec<Acknowledged> {
    let info = follower.sync.catalog().index(index).expect("the index is in the catalog").clone();
    let items = answer["items"].as_array().unwrap();
    assert_eq!(items.len(), lines.len());
    let mut all = Vec::new();
    for (line, item) in lines.iter().zip(items) {
        let (action, document) = line.split_once('\n').unwrap_or((line, "{}"));
        let action: Value = serde_json::from_str(action).unwrap();
        let document: Value = serde_json::from_str(document).unwrap();
        let (kind, result) = item.as_object().unwrap().iter().next().unwrap();
        let number = |key: &str| result[key].as_u64().unwrap();
        let routing = action[kind]["routing"].as_str();
        let id = result["_id"].as_str().unwrap();
        let vector = |(name, field): (&std::sync::Arc<str>, &es_wire::VectorField)| {
            let numbers = document[&**name].as_array()?;
            let mut vector: Vec<f32> = numbers.iter().map(|x| x.as_f64().unwrap() as f32).collect();
            field.similarity.prepare(field.spec.element, &mut vector).unwrap();
            Some(vector)
        };
        all.push(Acknowledged {
            shard: info.writes.routing.expect("a known routing").shard(id, routing),
            doc: DocKey { id: id.into(), routing: routing.map(Into::into) },
            order: SeqNo { primary_term: number("_primary_term"), seq_no: number("_seq_no") },
            wrote: match kind.as_str() {
                "delete" => Wrote::Deletion,
                _ => Wrote::Document(info.fields.iter().map(|of| (of.0.clone(), vector(of))).collect()),
            },
            no_pipeline: true,
            index: info.clone(),
        });
    }
    all
}

/// Everything that a change of an index under test needs.
struct Scene<'a> {
    node: &'a Node,
    follower: Follower,
    index: &'static str,
}

impl<'a> Scene<'a> {
    /// An index with two vector fields, refreshed by hand.
    async fn set(node: &'a Node, index: &'static str, shards: u32) -> Self {
        let fields = json!({"v": ivf(8, Similarity::Cosine), "w": ivf(3, Similarity::L2Norm)});
        node.create(index, json!({"number_of_shards": shards, "refresh_interval": "-1"}), fields).await;
        let follower = Follower::start(node, FakeEngine::default());
        follower.ready().await;
        Self { node, follower, index }
    }

    async fn write(&self, lines: &[String]) -> Vec<Acknowledged> {
        let answer = self.node.bulk(self.index, lines, false).await;
        acknowledged(&self.follower, self.index, lines, &answer)
    }

    /// Refreshes, and compares all that is shown then.
    async fn compare(&self) -> usize {
        self.node.refresh(self.index).await;
        let in_w = self.follower.assert_equal(self.node, self.index, "w", Similarity::L2Norm).await;
        in_w.max(self.follower.assert_equal(self.node, self.index, "v", Similarity::Cosine).await)
    }

    fn metrics<const N: usize>(&self, names: [&str; N]) -> [u64; N] {
        names.map(|name| self.follower.metric(name))
    }

    fn held(&self) -> u64 {
        let report = self.follower.sync.stats(self.index).unwrap();
        report.fields.iter().flat_map(|field| &field.shards).map(|shard| shard.held).sum()
    }
}

fn documents(random: &mut Random, ids: impl Iterator<Item = usize>) -> Vec<String> {
    let line = |i: usize| {
        let (v, w) = (random.vector(8), random.vector(3));
        index_line(
            &format!("d{i}"),
            &if i.is_multiple_of(5) { json!({"v": v}) } else { json!({"v": v, "w": w}) },
        )
    };
    ids.map(line).collect()
}

const NUMBERS: [&str; 4] = ["documents", "confirmed", "audits", "deletions"];

pub(crate) async fn held_vectors_do_not_travel_again(node: &Node) {
    let scene = Scene::set(node, "t-held", 2).await;
    let mut random = Random(41);
    // Several versions of a document before one refresh: only the last one may show.
    for ids in [0..2_000, 0..300, 100..200] {
        let written = scene.write(&documents(&mut random, ids)).await;
        scene.follower.sync.acknowledged(written);
    }
    eventually("the versions are held", || scene.held() == 2 * 2_400).await;
    assert!(scene.follower.sync.published(Scope::All, PATIENCE).await);
    assert_eq!(
        scene.follower.engine.documents(&scene.follower.uuid("t-held"), "v").len(),
        0,
        "not refreshed"
    );
    assert_eq!(scene.compare().await, 2_000);
    assert_eq!(scene.metrics(NUMBERS), [0, 2_000, 0, 0]);
    assert_eq!(scene.follower.engine.upserts.load(Ordering::Relaxed), 0);

    // What was superseded is let go of when the cursor has passed it.
    for round in 0..4 {
        let written = scene.write(&documents(&mut random, 3_000..3_001 + round)).await;
        scene.follower.sync.acknowledged(written);
        scene.compare().await;
    }
    eventually("superseded versions are let go of", || scene.held() < 50).await;
    assert_eq!(scene.metrics(NUMBERS)[0], 0);
    scene.follower.sync.shutdown().await;
}

pub(crate) async fn what_passes_around_us_is_fetched(node: &Node) {
    let scene = Scene::set(node, "t-around", 1).await;
    let mut random = Random(42);
    let mut around = 0;
    for round in 0..6 {
        let lines = documents(&mut random, round * 500..round * 500 + 600);
        let written = scene.write(&lines).await;
        // Every other one, then all, then nearly none.
        let one_in = [2, 1, 100][round % 3];
        let through: Vec<_> = written.into_iter().step_by(one_in).collect();
        around += lines.len() - through.len();
        scene.follower.sync.acknowledged(through);
        scene.compare().await;
    }
    let [fetched, confirmed, ..] = scene.metrics(NUMBERS);
    assert!(fetched as usize >= around && confirmed > 1_000, "{fetched} fetched, {confirmed} confirmed");
    scene.follower.sync.shutdown().await;
}

pub(crate) async fn a_write_that_a_pipeline_may_have_changed_is_fetched(node: &Node) {
    let scene = Scene::set(node, "t-stale", 1).await;
    let mut random = Random(43);
    let mut written = scene.write(&documents(&mut random, 0..100)).await;
    // Without proof but with settings that stand still, what was read is believed.
    written.iter_mut().for_each(|write| write.no_pipeline = false);
    scene.follower.sync.acknowledged(written);
    scene.compare().await;
    assert_eq!(scene.metrics(NUMBERS)[..2], [0, 100]);

    // Settings changed after the request was read: a pipeline may have made another vector of it.
    let mut written = scene.write(&documents(&mut random, 100..200)).await;
    for write in &mut written {
        write.no_pipeline = false;
        let Wrote::Document(fields) = &mut write.wrote else { unreachable!() };
        fields.iter_mut().filter_map(|(_, vector)| vector.as_mut()).for_each(|vector| vector.reverse());
    }
    node.call("PUT", "/t-stale/_settings", Some(json!({"index.max_result_window": 9_000}).to_string())).await;
    scene.follower.sync.acknowledged(written);
    scene.compare().await;
    assert_eq!(scene.metrics(NUMBERS)[..2], [100, 100]);
    assert_eq!(scene.follower.metric("acknowledged_left_total{kind=\"stale\"}"), 100);
    scene.follower.sync.shutdown().await;
}

pub(crate) async fn acknowledged_deletions_need_no_audit(node: &Node) {
    let scene = Scene::set(node, "t-deleted", 2).await;
    let mut random = Random(44);
    let mut lines = documents(&mut random, 0..1_500);
    let routed = |i: usize| json!({"index": {"_id": format!("r{i}"), "routing": "x"}}).to_string();
    lines.extend((0..20).map(|i| format!("{}\n{}", routed(i), json!({"v": random.vector(8)}))));
    let written = scene.write(&lines).await;
    scene.follower.sync.acknowledged(written);
    assert_eq!(scene.compare().await, 1_520);
    let deletion = |i: usize| json!({"delete": {"_id": format!("r{i}"), "routing": "x"}}).to_string();
    let mut gone: Vec<_> = (0..1_100).map(|i| delete_line(&format!("d{i}"))).collect();
    gone.extend((0..10).map(deletion));
    // One of them comes back before anybody refreshes.
    gone.push(index_line("d7", &json!({"v": random.vector(8)})));
    let written = scene.write(&gone).await;
    scene.follower.sync.acknowledged(written);
    assert!(scene.follower.sync.published(Scope::All, PATIENCE).await);
    let shown = || scene.follower.engine.documents(&scene.follower.uuid("t-deleted"), "v").len();
    assert_eq!(shown(), 1_520, "not refreshed, still there");
    assert_eq!(scene.compare().await, 411);
    assert_eq!(scene.metrics(NUMBERS)[2..], [0, 1_109]);

    // A deletion that no search shows yet: one that was never made.
    let info = scene.follower.sync.catalog().index("t-deleted").unwrap().clone();
    let never = |id: String| Acknowledged {
        shard: info.writes.routing.unwrap().shard(&id, None),
        doc: DocKey::new(id),
        order: SeqNo { primary_term: 1, seq_no: 1_000_000 },
        wrote: Wrote::Deletion,
        no_pipeline: true,
        index: info.clone(),
    };
    scene.follower.sync.acknowledged((1_200..1_210).map(|i| never(format!("d{i}"))).collect());
    scene.write(&documents(&mut random, 5_000..5_010)).await;
    assert_eq!(scene.compare().await, 421);
    assert_eq!(scene.metrics(NUMBERS)[2..], [0, 1_109]);
    scene.follower.sync.shutdown().await;
}

pub(crate) async fn an_earlier_primary_is_not_believed(node: &Node) {
    let scene = Scene::set(node, "t-term", 1).await;
    let mut random = Random(45);
    scene.write(&documents(&mut random, 0..10)).await;
    scene.compare().await;
    let held = scene.write(&documents(&mut random, 10..20)).await;
    node.call("POST", "/t-term/_close", None).await;
    node.call("POST", "/t-term/_open?wait_for_active_shards=1", None).await;
    scene.follower.ready().await;
    scene.compare().await;
    scene.follower.sync.acknowledged(held);
    // Opening raised the settings' version too, which those without a vector had to prove.
    let left = |kind| scene.follower.metric(&format!("acknowledged_left_total{{kind=\"{kind}\"}}"));
    eventually("the writes are left to the feed", || left("term") + left("stale") == 10).await;
    assert!(left("term") >= 8);
    assert_eq!(scene.held(), 0);
    let written = scene.write(&documents(&mut random, 20..30)).await;
    assert!(written.iter().all(|write| write.order.primary_term > 1));
    scene.follower.sync.acknowledged(written);
    assert_eq!(scene.compare().await, 30);
    assert_eq!(scene.metrics(NUMBERS)[1], 10);
    scene.follower.sync.shutdown().await;
}

/// Writers whose writes pass here, and others; random refreshes; everything is compared at the end.
pub(crate) async fn writers_through_and_around_us_race(node: &Node) {
    let settings = json!({"number_of_shards": 2, "refresh_interval": "100ms"});
    node.create("t-both", settings, json!({"v": ivf(8, Similarity::Cosine)})).await;
    let follower = Follower::start(node, FakeEngine::default());
    follower.ready().await;
    let writers = (0..3u64).map(|writer| {
        let follower = &follower;
        async move {
            let mut random = Random(writer + 400);
            for _ in 0..60 {
                let lines: BTreeMap<String, String> = (0..80)
                    .map(|_| {
                        let id = format!("s{}", random.below(500));
                        let line = match random.below(4) {
                            0 => delete_line(&id),
                            _ => index_line(&id, &json!({"v": random.vector(8)})),
                        };
                        (id, line)
                    })
                    .collect();
                let lines: Vec<String> = lines.into_values().collect();
                let answer = node.bulk("t-both", &lines, random.below(6) == 0).await;
                if writer > 0 {
                    follower.sync.acknowledged(acknowledged(follower, "t-both", &lines, &answer));
                }
            }
        }
    });
    futures_util::future::join_all(writers).await;
    node.refresh("t-both").await;
    assert!(follower.assert_equal(node, "t-both", "v", Similarity::Cosine).await > 200);
    assert!(follower.metric("confirmed") > 500, "{}", follower.metric("confirmed"));
    follower.sync.shutdown().await;
}
