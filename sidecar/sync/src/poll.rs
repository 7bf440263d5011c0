//! One look at the refresh counters and checkpoints of the primaries of many indices.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use serde::Deserialize;

use crate::response;
use crate::upstream::{Upstream, UpstreamError, encoded};

/// What is read, and no more: the answer is the size of what it names.
const WANTED: &str = "indices.*.uuid,indices.*.shards.*.routing,indices.*.shards.*.refresh.external_total,\
                      indices.*.shards.*.seq_no,indices.*.shards.*.commit.user_data.history_uuid";

/// Elasticsearch refuses request lines above 4 KiB.
const NAMES_PER_REQUEST: usize = 3000;

/// The primary copy of a shard as a poll saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Primary {
    /// Id of the node that holds it.
    pub(crate) node: Arc<str>,
    /// `refresh.external_total`: refreshes that searches see, since this copy was started.
    pub(crate) refreshes: u64,
    /// Highest `_seq_no` given out.
    pub(crate) max_seq_no: i64,
    /// Everything up to here is on every copy.
    pub(crate) global_checkpoint: i64,
    /// Changes when the shard's past was rewritten.
    pub(crate) history_uuid: Arc<str>,
}

/// Started primaries by index uuid and shard number.
pub(crate) type Polled = HashMap<String, HashMap<u32, Primary>>;

#[derive(Deserialize)]
struct Stats {
    #[serde(default)]
    indices: HashMap<String, IndexStats>,
}

#[derive(Deserialize)]
struct IndexStats {
    uuid: String,
    #[serde(default)]
    shards: HashMap<String, Vec<CopyStats>>,
}

#[derive(Deserialize)]
struct CopyStats {
    routing: Routing,
    refresh: Option<Refresh>,
    seq_no: Option<SeqNos>,
    commit: Option<Commit>,
}

#[derive(Deserialize)]
struct Routing {
    state: String,
    primary: bool,
    node: Option<Arc<str>>,
}

#[derive(Deserialize)]
struct Refresh {
    external_total: u64,
}

#[derive(Deserialize)]
struct SeqNos {
    max_seq_no: i64,
    global_checkpoint: i64,
}

#[derive(Deserialize)]
struct Commit {
    user_data: UserData,
}

#[derive(Deserialize)]
struct UserData {
    history_uuid: Arc<str>,
}

/// Asks about all `names` at once (in as few requests as the length of a request line allows).
pub(crate) async fn poll(upstream: &Upstream, names: &[Arc<str>]) -> Result<Polled, UpstreamError> {
    let requests = paths(names).into_iter().map(|path| async move {
        let bytes = upstream.get(&path).await?;
        response::json::<Stats>(&bytes)
    });
    let answers = try_join_all(requests).await?;
    Ok(answers.into_iter().flat_map(|stats| stats.indices.into_values()).map(primaries).collect())
}

fn paths(names: &[Arc<str>]) -> Vec<String> {
    let path =
        |list| format!("/{list}/_stats/refresh?level=shards&ignore_unavailable=true&filter_path={WANTED}");
    lists_for_urls(names).into_iter().map(path).collect()
}

/// Names as path segments of as few requests as the length of a request line allows.
pub fn lists_for_urls<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Vec<String> {
    let mut lists: Vec<String> = Vec::new();
    for name in names.into_iter().map(|name| encoded(name.as_ref())) {
        match lists.last_mut() {
            Some(list) if list.len() + name.len() < NAMES_PER_REQUEST => {
                list.push(',');
                list.push_str(&name);
            }
            _ => lists.push(name),
        }
    }
    lists
}

fn primaries(index: IndexStats) -> (String, HashMap<u32, Primary>) {
    let shards = index.shards.into_iter().filter_map(|(number, copies)| {
        let primary = copies.into_iter().find_map(started_primary)?;
        Some((number.parse().ok()?, primary))
    });
    (index.uuid, shards.collect())
}

fn started_primary(copy: CopyStats) -> Option<Primary> {
    let started = matches!(copy.routing.state.as_str(), "STARTED" | "RELOCATING");
    if !copy.routing.primary || !started {
        return None;
    }
    let seq_no = copy.seq_no?;
    Some(Primary {
        node: copy.routing.node?,
        refreshes: copy.refresh?.external_total,
        max_seq_no: seq_no.max_seq_no,
        global_checkpoint: seq_no.global_checkpoint,
        history_uuid: copy.commit?.user_data.history_uuid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_lines_stay_below_the_limit() {
        let names: Vec<Arc<str>> =
            (0..500).map(|i| format!("an-index-with-a-long-name-{i:05}").into()).collect();
        let paths = paths(&names);
        assert!(paths.len() > 1);
        assert!(paths.iter().all(|path| path.len() < 4000), "a request line is too long");
        let asked: usize = paths.iter().map(|path| path.matches("an-index").count()).sum();
        assert_eq!(asked, 500);
    }

    #[test]
    fn replicas_and_unfinished_copies_are_not_followed() {
        let answer = r#"{"indices":{"a":{"uuid":"U","shards":{
            "0":[{"routing":{"state":"STARTED","primary":false,"node":"n2"},"refresh":{"external_total":9},
                  "seq_no":{"max_seq_no":5,"local_checkpoint":5,"global_checkpoint":5},
                  "commit":{"user_data":{"history_uuid":"h"}}},
                 {"routing":{"state":"STARTED","primary":true,"node":"n1"},"refresh":{"external_total":3},
                  "seq_no":{"max_seq_no":5,"local_checkpoint":5,"global_checkpoint":4},
                  "commit":{"user_data":{"history_uuid":"h"}}}],
            "1":[{"routing":{"state":"INITIALIZING","primary":true,"node":"n1"}}]}}}}"#;
        let stats: Stats = serde_json::from_str(answer).unwrap();
        let (uuid, shards) = primaries(stats.indices.into_values().next().unwrap());
        assert_eq!(uuid, "U");
        assert_eq!(shards.len(), 1);
        assert_eq!((&*shards[&0].node, shards[&0].refreshes, shards[&0].global_checkpoint), ("n1", 3, 4));
    }
}
