//! What one shard remembers of deletions that were acknowledged through the proxy: a search shows no
//! trace of a deletion, so it is asked for the documents that should be gone. What is forgotten here is
//! found by the audit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use knn_types::{Change, ChangeKind, DocKey, SeqNo};
use serde_json::json;

use crate::pages::{PullError, Reader, all_of};
use crate::shard::FieldIndex;

/// Deletions that a shard remembers.
const REMEMBERED: usize = 20_000;
/// Documents asked for at a time.
const IDS_AT_ONCE: usize = 1_000;
/// A shard that was written to through the proxy so lately may have a response on its way.
const LATELY: Duration = Duration::from_secs(2);

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Written {
    deletions: HashMap<DocKey, SeqNo>,
    last: Option<Instant>,
}

impl Written {
    /// Remembers deletions. Returns how many were taken and how many there was no room for.
    pub(crate) fn remember(
        &mut self,
        deletions: impl Iterator<Item = (DocKey, SeqNo)>,
        now: Instant,
    ) -> (u64, u64) {
        self.last = Some(now);
        let (mut kept, mut left) = (0, 0);
        for (doc, order) in deletions {
            if self.deletions.len() >= REMEMBERED && !self.deletions.contains_key(&doc) {
                left += 1;
                continue;
            }
            let known = self.deletions.entry(doc).or_insert(order);
            *known = order.max(*known);
            kept += 1;
        }
        (kept, left)
    }

    /// Whether the shard is being written to through the proxy.
    pub(crate) fn lately(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.duration_since(last) < LATELY)
    }

    /// Everything up to `cursor` is shown: what it deleted is gone.
    pub(crate) fn passed(&mut self, cursor: i64) {
        self.deletions.retain(|_, order| order.seq_no as i64 > cursor);
    }
}

impl Reader {
    /// Stages the remembered deletions that the point in time shows. Called when everything else that
    /// it shows is staged.
    ///
    /// A deletion concerns us where a field holds an older version. If the point in time does not show
    /// the document, that version is gone. If it does, the deletion is not refreshed yet and stays
    /// remembered, until the cursor says that it must have been.
    pub(crate) async fn apply_deletions(
        self: &Arc<Self>,
        fields: &[Arc<FieldIndex>],
    ) -> Result<(), PullError> {
        let remembered: Vec<(DocKey, SeqNo)> = {
            let written = self.shard.written.lock();
            written.deletions.iter().map(|(doc, order)| (doc.clone(), *order)).collect()
        };
        if remembered.is_empty() {
            return Ok(());
        }
        let of_fields = fields.to_vec();
        let holds_older = move |doc: &DocKey, order: SeqNo| {
            of_fields.iter().any(|field| field.index.order_of(doc).is_some_and(|held| held < order))
        };
        let concern_us = move || -> Vec<(DocKey, SeqNo)> {
            remembered.into_iter().filter(|(doc, order)| holds_older(doc, *order)).collect()
        };
        let candidates = self.entry.tasks.spawn_blocking(concern_us).await?;
        for candidates in candidates.chunks(IDS_AT_ONCE) {
            let ids: Vec<&str> = candidates.iter().map(|(doc, _)| &*doc.id).collect();
            // Documents of one id may differ by routing; the keys that come back have both.
            let shown = self.list(all_of(vec![json!({"ids": {"values": ids}})])).await?;
            let gone: Vec<Change> = candidates
                .iter()
                .filter(|(doc, _)| !shown.contains_key(doc))
                .map(|(doc, order)| Change { doc: doc.clone(), order: *order, kind: ChangeKind::Delete })
                .collect();
            self.ctx.metrics.deletions.inc_by(gone.len() as u64);
            self.stage(&fields.into(), fields.iter().map(|_| gone.clone()).collect()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seq_no: u64) -> SeqNo {
        SeqNo { primary_term: 1, seq_no }
    }

    #[test]
    fn deletions_are_bounded_and_go_when_the_cursor_passed_them() {
        let now = Instant::now();
        let mut written = Written::default();
        assert!(!written.lately(now));
        let of = |n: u64| (DocKey::new(n.to_string()), order(n));
        let many = REMEMBERED as u64 + 10;
        assert_eq!(written.remember((0..many).map(of), now), (REMEMBERED as u64, 10));
        assert_eq!(written.remember([(DocKey::new("3"), order(many))].into_iter(), now), (1, 0));
        assert_eq!(written.remember([(DocKey::new("3"), order(5))].into_iter(), now), (1, 0));
        assert!(written.lately(now) && !written.lately(now + LATELY));
        written.passed(many as i64 - 20);
        assert_eq!(written.deletions.len(), 10);
        assert_eq!(written.deletions[&DocKey::new("3")], order(many), "the newest deletion counts");
        written.passed(many as i64);
        assert!(written.deletions.is_empty());
    }
}
