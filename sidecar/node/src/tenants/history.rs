//! Usage by the hour, kept for ninety days. Every node of ours writes it under the same ids, and the first one to do so
//! wins; so it goes on whichever of them is away.

use std::fmt::Write;

use es_proxy::Amount;
use serde_json::{Value, json};
use shard_sync::Verb;

use crate::tenants::documents::{Documents, INDEX, now_in_millis, unavailable};

const HOUR: u64 = 3_600_000;
const KEPT: u64 = 90 * 24 * HOUR;
/// Points of one tenant in all that time.
pub(crate) const MAX_POINTS: usize = 90 * 24 + 1;
/// Documents of one request.
const BATCH: usize = 1_000;
/// Documents that are removed in one go; what is left goes in the next hour.
const MAX_REMOVED: usize = 20_000;

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The hour that was written last.
    written: Option<u64>,
}

impl History {
    /// Writes usage down once in an hour, and removes what is too old.
    pub(crate) async fn note(
        &mut self,
        documents: &Documents<'_>,
        usage: impl FnOnce() -> Vec<(String, Amount)>,
    ) {
        let hour = now_in_millis() / HOUR;
        if self.written == Some(hour) {
            return;
        }
        let usage = usage();
        if usage.is_empty() {
            return;
        }
        let done = async {
            documents.make_index().await?;
            for part in usage.chunks(BATCH) {
                let path = format!("/{INDEX}/_bulk?filter_path=errors");
                let sent = documents.0.call(Verb::Post, &path, Some(lines(hour, part))).await;
                sent.map_err(|error| unavailable(&error))?;
            }
            remove_old(documents, now_in_millis().saturating_sub(KEPT)).await
        };
        match done.await {
            Ok(()) => self.written = Some(hour),
            Err(error) => tracing::warn!(%error, "usage cannot be written down; tried again"),
        }
    }
}

/// A bulk that creates one document for each tenant; those that another node has written stay.
fn lines(hour: u64, usage: &[(String, Amount)]) -> String {
    let mut lines = String::new();
    for (tenant, usage) in usage {
        let action = json!({"create": {"_id": format!("usage:{tenant}:{hour}")}});
        let source = json!({"kind": "usage", "tenant": tenant, "at": hour * HOUR, "usage": usage});
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{action}\n{source}");
    }
    lines
}

async fn remove_old(documents: &Documents<'_>, before: u64) -> Result<(), es_proxy::StoreError> {
    let query = json!({"bool": {"filter": [{"term": {"kind": "usage"}}, {"range": {"at": {"lt": before}}}]}});
    let old =
        documents.search::<Value>(query, json!([{"at": "asc"}, {"tenant": "asc"}]), MAX_REMOVED).await?;
    for part in old.chunks(BATCH) {
        let deletions: String =
            part.iter().map(|document| format!("{}\n", json!({"delete": {"_id": document.id}}))).collect();
        let sent = documents
            .0
            .call(Verb::Post, &format!("/{INDEX}/_bulk?filter_path=errors"), Some(deletions))
            .await;
        sent.map_err(|error| unavailable(&error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_nodes_write_the_same_documents() {
        let usage = [("acme".to_owned(), Amount { vectors: 7, ..Amount::default() })];
        let written = lines(490_000, &usage);
        let lines: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0], json!({"create": {"_id": "usage:acme:490000"}}));
        assert_eq!(lines[1]["at"], 1_764_000_000_000u64);
        assert_eq!(lines[1]["usage"]["vectors"], 7);
    }
}
