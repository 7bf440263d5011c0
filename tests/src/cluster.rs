//! A cluster of a real Elasticsearch, from `scripts/es`, whose nodes a test may lose and bring back.

use serde_json::Value;

use crate::elasticsearch::{Elasticsearch, es};
use crate::{Api, eventually};
use std::time::Duration;

/// See the head of this file.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    urls: Vec<String>,
}

impl Cluster {
    /// Starts `size` empty nodes that have found each other. `label` tells the clusters of several tests apart.
    pub async fn start(label: &str, size: usize) -> Self {
        Self::start_with(label, size, &[]).await
    }

    /// The same with settings (`key=value`) for every node.
    pub async fn start_with(label: &str, size: usize, settings: &[&str]) -> Self {
        Self::start_versions(label, &[&Elasticsearch::version()], size, settings).await
    }

    /// The same with several versions, which the nodes have in turn.
    pub async fn start_versions(label: &str, versions: &[&str], size: usize, settings: &[&str]) -> Self {
        let process = std::process::id().to_string();
        let name = format!("test-{label}-{process}");
        let (versions, size) = (versions.join(","), size.to_string());
        let mut arguments =
            vec!["start", &versions, "--nodes", &size, "--name", &name, "--fresh", "--heap", "512m"];
        arguments.extend(["--exit-with", &process]);
        for setting in settings {
            arguments.extend(["--setting", setting]);
        }
        let printed = es(&arguments).await;
        let line: Value = serde_json::from_str(printed.trim()).expect("scripts/es prints JSON");
        let nodes = line["nodes"].as_array().expect("nodes");
        let urls = nodes.iter().map(|node| node["url"].as_str().expect("a url").to_owned()).collect();
        Self { name, urls }
    }

    /// URLs of all nodes, as `--upstream` takes them.
    pub fn upstream(&self) -> String {
        self.urls.join(",")
    }

    /// Number of nodes that were started.
    pub fn size(&self) -> usize {
        self.urls.len()
    }

    /// Calls on node `node`, counted from 0.
    pub fn api(&self, node: usize) -> Api {
        Api::new(&self.urls[node])
    }

    /// Name of node `node` inside Elasticsearch (`node.name`).
    pub fn node_name(&self, node: usize) -> String {
        format!("{}-{}", self.name, node + 1)
    }

    /// Ends a node as a crash does.
    pub async fn kill(&self, node: usize) {
        es(&["stop", &self.node_name(node), "--kill"]).await;
    }

    /// Ends a node as an operator does.
    pub async fn stop(&self, node: usize) {
        es(&["stop", &self.node_name(node)]).await;
    }

    /// Starts a node that was ended, or ends it first, with its data and ports. Returns when it answers,
    /// which may be before it found the others.
    pub async fn restart(&self, node: usize) {
        es(&["restart", &self.node_name(node)]).await;
    }

    /// Ends a node and starts another version of it on the same data and ports.
    pub async fn upgrade(&self, node: usize, version: &str) {
        es(&["restart", &self.node_name(node), "--version", version]).await;
    }

    /// Freezes a node: its connections stay open and nothing answers.
    pub async fn pause(&self, node: usize) {
        es(&["pause", &self.node_name(node)]).await;
    }

    /// Lets a frozen node go on.
    pub async fn resume(&self, node: usize) {
        es(&["resume", &self.node_name(node)]).await;
    }

    /// Waits until node `node` sees so many nodes and the wanted health.
    pub async fn healthy(&self, node: usize, nodes: usize, status: &str) {
        let path = format!(
            "/_cluster/health?wait_for_nodes={nodes}&wait_for_status={status}&wait_for_no_relocating_shards=true\
             &timeout=5s&master_timeout=5s"
        );
        let api = self.api(node);
        eventually(&format!("{nodes} nodes, {status}"), Duration::from_secs(120), || async {
            (api.try_get(&path).await?.status == 200).then_some(())
        })
        .await;
    }

    /// The node (counted from 0) that holds the started primary of a shard, as `through` sees it.
    pub async fn primary_of(&self, through: usize, index: &str, shard: u32) -> usize {
        let path = format!("/_cat/shards/{index}?format=json&h=shard,prirep,state,node");
        let api = self.api(through);
        let number = shard.to_string();
        eventually(&format!("[{index}][{shard}] has a primary"), Duration::from_secs(60), || async {
            let copies = api.try_get(&path).await?.body;
            let primary = copies.as_array()?.iter().find(|copy| {
                copy["shard"].as_str() == Some(number.as_str())
                    && copy["prirep"] == "p"
                    && copy["state"] == "STARTED"
            })?;
            let name = primary["node"].as_str()?.to_owned();
            (0..self.size()).find(|node| self.node_name(*node) == name)
        })
        .await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        crate::elasticsearch::forget(&self.name);
    }
}
