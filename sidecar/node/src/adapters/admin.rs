//! The admin port's view of the node.

use std::sync::Arc;

use es_proxy::{Mode, Modes};
use shard_sync::{Security, Sync};

use crate::gauges::Gauges;
use crate::live_recall::LiveRecall;

/// See the head of this file.
pub(crate) struct Admin {
    pub(crate) sync: Arc<Sync>,
    pub(crate) modes: Arc<Modes>,
    pub(crate) gauges: Gauges,
    pub(crate) live_recall: Arc<LiveRecall>,
    /// What was chosen to be unsafe.
    pub(crate) unsafe_by_choice: Option<&'static str>,
}

impl console::Node for Admin {
    fn not_ready(&self) -> Vec<String> {
        if self.sync.node().is_none() {
            return vec!["Elasticsearch has not answered yet".into()];
        }
        if self.sync.ready() {
            return Vec::new();
        }
        let mut missing: Vec<String> = self
            .sync
            .catalog()
            .adopted()
            .filter(|index| index.open)
            .filter(|index| !self.sync.stats(&index.name).is_some_and(|report| report.ready))
            .map(|index| format!("index [{}] is being learnt", index.name))
            .collect();
        if missing.is_empty() {
            missing.push("names and mappings have not been read yet".into());
        }
        missing.sort_unstable();
        missing
    }

    fn warnings(&self) -> Vec<String> {
        let open = self.sync.node().is_some_and(|node| node.security == Security::Absent);
        let open = open
            .then_some("Elasticsearch has no security: whoever reaches it may read and change everything");
        self.unsafe_by_choice.into_iter().chain(open).map(str::to_owned).collect()
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
