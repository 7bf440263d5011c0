//! The cluster as the feed knows it, for the request path.

use std::sync::Arc;
use std::time::Duration;

use es_proxy::{BoxFuture, BuildCommand, Cluster, NodeFacts};
use es_wire::{Acknowledged, Catalog, IndexInfo};
use shard_sync::{FieldState, Security, Sync};

/// See the head of this file.
pub(crate) struct ClusterOfSync {
    pub(crate) sync: Arc<Sync>,
    /// How long a publication is waited for.
    pub(crate) publish_timeout: Duration,
}

impl Cluster for ClusterOfSync {
    fn catalog(&self) -> Arc<Catalog> {
        self.sync.catalog()
    }

    fn node(&self) -> Option<Arc<NodeFacts>> {
        let node = self.sync.node()?;
        Some(Arc::new(NodeFacts {
            version: node.version,
            capabilities: node.caps,
            security_absent: node.security == Security::Absent,
        }))
    }

    fn published(&self, scope: es_proxy::Scope) -> BoxFuture<'_, bool> {
        let scope = match scope {
            es_proxy::Scope::All => shard_sync::Scope::All,
            es_proxy::Scope::Index(name) => shard_sync::Scope::Index(name),
        };
        Box::pin(self.sync.published(scope, self.publish_timeout))
    }

    fn invalidate(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.sync.invalidate())
    }

    fn acknowledged(&self, writes: Vec<Acknowledged>) {
        self.sync.acknowledged(writes);
    }

    fn may_show_ignored(&self, index: &IndexInfo) -> bool {
        self.sync.may_show_ignored(&index.uuid)
    }

    fn build(&self, index: &str, command: BuildCommand) -> bool {
        match command {
            BuildCommand::Cancel => self.sync.cancel_build(index),
            BuildCommand::Start => self.sync.start_build(index),
        }
    }

    fn field_state(&self, index: &IndexInfo, field: &str) -> &'static str {
        match self.sync.field(&index.uuid, field) {
            FieldState::Ready(_) => "ready",
            FieldState::Building => "building",
            FieldState::Broken => "broken",
            FieldState::Unreadable => "unreadable",
            FieldState::Unknown => "unknown",
        }
    }

    fn report(&self, index: &str) -> Option<String> {
        serde_json::to_string(&self.sync.stats(index)?).ok()
    }
}
