//! The Elasticsearch of a history: one node, or a cluster whose nodes can be lost one at a time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::{Cluster, Elasticsearch};

/// See the head of this file.
pub(super) enum Nodes {
    /// One node.
    One(Elasticsearch),
    /// Several.
    Many(Arc<Cluster>),
}

/// What ends a pause.
pub(super) type Resume = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Nodes {
    pub(super) async fn start(label: &str, count: usize) -> Self {
        if count == 1 {
            return Self::One(Elasticsearch::start(label).await);
        }
        let cluster = Cluster::start(label, count).await;
        cluster.healthy(0, count, "green").await;
        Self::Many(Arc::new(cluster))
    }

    /// `http://host:port` of each.
    pub(super) fn urls(&self) -> Vec<String> {
        match self {
            Self::One(node) => vec![node.url().to_owned()],
            Self::Many(cluster) => cluster.upstream().split(',').map(str::to_owned).collect(),
        }
    }

    /// Freezes a node until what is returned was awaited.
    pub(super) async fn pause(&self, node: usize) -> Resume {
        match self {
            Self::One(node) => {
                let resume = node.pause();
                Box::pin(async move { resume() })
            }
            Self::Many(cluster) => {
                cluster.pause(node).await;
                let cluster = Arc::clone(cluster);
                Box::pin(async move { cluster.resume(node).await })
            }
        }
    }

    /// Ends a node and starts it again.
    pub(super) async fn restart(&self, node: usize, hard: bool) {
        match self {
            Self::One(node) => node.restart(hard).await,
            Self::Many(cluster) => {
                self.lose(node, hard).await;
                cluster.restart(node).await;
            }
        }
    }

    /// Ends a node of a cluster.
    pub(super) async fn lose(&self, node: usize, hard: bool) {
        let Self::Many(cluster) = self else { return };
        if hard { cluster.kill(node).await } else { cluster.stop(node).await }
    }

    /// All nodes are there, and all shards have all their copies.
    pub(super) async fn whole(&self) {
        if let Self::Many(cluster) = self {
            cluster.healthy(0, cluster.size(), "green").await;
        }
    }
}
