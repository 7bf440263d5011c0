//! The admin port's view of the node.

use std::sync::Arc;

use es_proxy::{Mode, Modes};
use shard_sync::Sync;

use crate::bootstrap::Bootstrap;
use crate::gauges::Gauges;
use crate::live_recall::LiveRecall;

/// See the head of this file.
pub(crate) struct Admin {
    pub(crate) sync: Arc<Sync>,
    pub(crate) modes: Arc<Modes>,
    pub(crate) gauges: Gauges,
    pub(crate) live_recall: Arc<LiveRecall>,
    pub(crate) bootstrap: Arc<Bootstrap>,
}

impl Admin {
    fn unlearnt(&self) -> Vec<String> {
        let catalog = self.sync.catalog();
        let followed = catalog.adopted().filter(|index| index.can_be_followed());
        let mut unlearnt: Vec<String> = followed
            .filter(|index| !self.sync.stats(&index.name).is_some_and(|report| report.ready))
            .map(|index| format!("index [{}] is being learnt", index.name))
            .collect();
        unlearnt.sort_unstable();
        unlearnt
    }
}

impl console::Node for Admin {
    fn not_ready(&self) -> Vec<String> {
        if let Some(refused) = self.bootstrap.not_ready() {
            return vec![refused];
        }
        if self.sync.node().is_none() {
            return vec!["Elasticsearch has not answered yet".into()];
        }
        // One index that comes later, or cannot be learnt any more, must not take a node away from all others.
        if self.sync.ready() || self.sync.was_ready() {
            return Vec::new();
        }
        let mut missing = self.unlearnt();
        if missing.is_empty() {
            missing.push("names and mappings have not been read yet".into());
        }
        missing
    }

    fn learning(&self) -> Vec<String> {
        if self.sync.ready() { Vec::new() } else { self.unlearnt() }
    }

    fn warnings(&self) -> Vec<String> {
        self.bootstrap.warnings()
    }

    fn refresh_gauges(&self) {
        self.gauges.refresh(&self.sync, &self.live_recall);
    }

    fn modes(&self) -> (String, Vec<(String, String)>) {
        let indices = self.modes.indices().into_iter().map(|(name, mode)| (name, mode.name().to_owned()));
        (self.modes.node().name().to_owned(), indices.collect())
    }

    fn set_mode(&self, index: Option<&str>, mode: &str) -> Result<(), String> {
        let mode: Mode = mode.parse()?;
        match index {
            None => self.modes.set_node(mode),
            Some(index) => {
                if !self.modes.set_index(index, mode) {
                    return Err("too many indices have modes of their own".into());
                }
            }
        }
        Ok(())
    }
}
