//! An index of ours and its twin, made and changed alike.

use serde_json::{Value, json};

use super::world::{World, Write};
use crate::{Api, Outrigger};

/// Both sides.
pub(super) struct Sides<'a> {
    pub(super) outrigger: &'a Outrigger,
    /// Calls through us.
    pub(super) through: Api,
    /// Calls that only Elasticsearch sees.
    pub(super) direct: Api,
}

/// See the head of this file.
pub(super) struct Pair<'a> {
    pub(super) sides: &'a Sides<'a>,
    pub(super) ours: String,
    pub(super) twin: String,
}

impl<'a> Pair<'a> {
    /// Makes both, empty. Their names are of one length, since errors name columns.
    pub(super) async fn make(sides: &'a Sides<'a>, label: &str, world: &World) -> Pair<'a> {
        let pair = Self { sides, ours: format!("ours-{label}"), twin: format!("twin-{label}") };
        for (api, index, kind) in pair.both("ivf", "hnsw") {
            api.put(&format!("/{index}"), world.creation(kind)).await.ok();
            let add = |alias: &str, more: Value| {
                let mut action = json!({"index": index, "alias": format!("{index}-{alias}")});
                action
                    .as_object_mut()
                    .expect("an object")
                    .extend(more.as_object().cloned().unwrap_or_default());
                json!({"add": action})
            };
            let actions = [
                add("alias", json!({})),
                add("some", json!({"filter": {"terms": {"a": ["red", "blue", "calm"]}}})),
                add("routed", json!({"routing": "one"})),
            ];
            api.post("/_aliases", json!({"actions": actions})).await.ok();
        }
        pair
    }

    fn both<T>(&self, ours: T, twin: T) -> [(&Api, &str, T); 2] {
        [(&self.sides.through, &self.ours, ours), (&self.sides.direct, &self.twin, twin)]
    }

    /// Changes both, and lets what was changed be seen.
    pub(super) async fn change(&self, changes: &[Write]) {
        for (api, index, ()) in self.both((), ()) {
            for change in changes {
                change.send(api, index).await;
            }
            api.call("POST", &format!("/{index}/_refresh"), None).await.ok();
        }
    }

    /// Waits until ours is learnt.
    pub(super) async fn learnt(&self) {
        self.sides.outrigger.learnt(&self.ours).await;
    }

    /// Removes both.
    pub(super) async fn drop(self) {
        for (api, index, ()) in self.both((), ()) {
            api.delete(&format!("/{index}")).await.ok();
        }
    }
}

impl Write {
    async fn send(&self, api: &Api, index: &str) {
        match self {
            Write::Bulk(lines) if lines.is_empty() => {}
            Write::Bulk(lines) => {
                let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
                let path = format!("/{index}/_bulk");
                let answer = api.try_call(reqwest::Method::POST, &path, Some(body)).await;
                let answer = answer.expect("a response").ok();
                assert_eq!(answer["errors"], false, "{answer}");
            }
            Write::Put(id, document) => {
                api.put(&format!("/{index}/_doc/{id}"), document.clone()).await.ok();
            }
            Write::Update(id, part) => {
                api.post(&format!("/{index}/_update/{id}"), json!({"doc": part})).await.ok();
            }
            Write::Delete(id) => {
                api.delete(&format!("/{index}/_doc/{id}")).await.ok();
            }
        }
    }
}
