//! The documents of the hidden index, and the requests that read and write them.

use std::time::{SystemTime, UNIX_EPOCH};

use es_proxy::{Amount, Expected, StoreError, TenantSpec, Version};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use shard_sync::{CallError, Sync, Verb};

/// Where all of it is kept.
pub(crate) const INDEX: &str = ".outrigger-tenants";
/// What that index is like.
const DEFINITION: &str = include_str!("../../../../mappings/indices/outrigger-tenants.json");
/// Documents of one page.
const PAGE: usize = 1_000;

/// A document as `_doc` and `_search` return it.
#[derive(Debug, Deserialize)]
pub(crate) struct Document<T> {
    #[serde(rename = "_id")]
    pub(crate) id: String,
    #[serde(rename = "_seq_no")]
    seq_no: i64,
    #[serde(rename = "_primary_term")]
    primary_term: u64,
    #[serde(rename = "_source")]
    pub(crate) source: T,
    #[serde(default)]
    sort: Value,
}

impl<T> Document<T> {
    pub(crate) fn version(&self) -> Version {
        Version { seq_no: self.seq_no, primary_term: self.primary_term }
    }
}

/// What is kept of a tenant.
#[derive(Debug, Deserialize)]
pub(crate) struct TenantDocument {
    pub(crate) tenant: String,
    pub(crate) spec: TenantSpec,
}

/// What is kept of usage.
#[derive(Debug, Deserialize)]
pub(crate) struct UsageDocument {
    pub(crate) at: u64,
    pub(crate) usage: Amount,
}

#[derive(Deserialize)]
struct Found<T> {
    hits: Hits<T>,
}

#[derive(Deserialize)]
struct Hits<T> {
    hits: Vec<Document<T>>,
}

/// Reading and writing documents, under our own credentials.
pub(crate) struct Documents<'s>(pub(crate) &'s Sync);

impl Documents<'_> {
    /// The document of that id as it is now.
    pub(crate) async fn get<T: DeserializeOwned>(&self, id: &str) -> Result<Option<Document<T>>, StoreError> {
        match self.0.call(Verb::Get, &format!("/{INDEX}/_doc/{id}"), None).await {
            Ok(bytes) => read(&bytes).map(Some),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Writes a document, and makes it visible. Makes the index first where it is not there.
    pub(crate) async fn put(
        &self,
        id: &str,
        source: &Value,
        expected: Expected,
    ) -> Result<Version, StoreError> {
        #[derive(Deserialize)]
        struct Written {
            #[serde(rename = "_seq_no")]
            seq_no: i64,
            #[serde(rename = "_primary_term")]
            primary_term: u64,
        }
        self.make_index().await?;
        let path = format!("/{INDEX}/_doc/{id}?refresh=true{}", condition(expected));
        let written = self.0.call(Verb::Put, &path, Some(source.to_string())).await;
        let Written { seq_no, primary_term } = read(&written.map_err(|error| conflict_or(&error))?)?;
        Ok(Version { seq_no, primary_term })
    }

    /// Removes a document; false where there is none.
    pub(crate) async fn delete(&self, id: &str, expected: Expected) -> Result<bool, StoreError> {
        let path = format!("/{INDEX}/_doc/{id}?refresh=true{}", condition(expected));
        match self.0.call(Verb::Delete, &path, None).await {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(404) => Ok(false),
            Err(error) => Err(conflict_or(&error)),
        }
    }

    /// All documents that a query finds, in the order of `sort`, up to `limit`.
    pub(crate) async fn search<T: DeserializeOwned>(
        &self,
        query: Value,
        sort: Value,
        limit: usize,
    ) -> Result<Vec<Document<T>>, StoreError> {
        let mut all: Vec<Document<T>> = Vec::new();
        while all.len() < limit {
            let size = PAGE.min(limit - all.len());
            let mut body = json!({
                "size": size, "query": query, "sort": sort, "seq_no_primary_term": true, "track_total_hits": false,
            });
            if let Some(last) = all.last() {
                body["search_after"] = last.sort.clone();
            }
            let path = format!("/{INDEX}/_search?ignore_unavailable=true");
            let bytes = self.0.call(Verb::Post, &path, Some(body.to_string())).await;
            let found: Found<T> = read(&bytes.map_err(|error| unavailable(&error))?)?;
            let is_last = found.hits.hits.len() < size;
            all.extend(found.hits.hits);
            if is_last {
                break;
            }
        }
        Ok(all)
    }

    /// Makes the index unless it is there. Elasticsearch is asked, not the catalog: into an index that has gone since that
    /// was read a write would go all the same, and have Elasticsearch guess a mapping.
    pub(crate) async fn make_index(&self) -> Result<(), StoreError> {
        let mapping = format!("/{INDEX}/_mapping?filter_path=*.mappings._meta.managed_by");
        match self.0.call(Verb::Get, &mapping, None).await {
            Ok(bytes) if is_ours(&bytes) => return Ok(()),
            Ok(_) => {
                let problem = "has a mapping that Outrigger did not make: delete the index, it is made again when a tenant is stored";
                return Err(StoreError::Unavailable(format!("[{INDEX}] {problem}")));
            }
            Err(error) if error.status() == Some(404) => {}
            Err(error) => return Err(unavailable(&error)),
        }
        match self.0.call(Verb::Put, &format!("/{INDEX}"), Some(DEFINITION.to_owned())).await {
            Ok(_) => {
                self.0.invalidate().await;
                Ok(())
            }
            Err(CallError::Status { status: 400, body }) if body.contains("resource_already_exists") => {
                Ok(())
            }
            Err(error) => Err(unavailable(&error)),
        }
    }
}

fn is_ours(mapping: &[u8]) -> bool {
    let answer: Value = serde_json::from_slice(mapping).unwrap_or_default();
    let index = answer.as_object().and_then(|indices| indices.values().next());
    index.is_some_and(|index| index["mappings"]["_meta"]["managed_by"] == "outrigger")
}

fn condition(expected: Expected) -> String {
    match expected {
        Expected::Any => String::new(),
        Expected::Absent => "&op_type=create".to_owned(),
        Expected::At(Version { seq_no, primary_term }) => {
            format!("&if_seq_no={seq_no}&if_primary_term={primary_term}")
        }
    }
}

pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes)
        .map_err(|error| StoreError::Unavailable(format!("Elasticsearch's answer cannot be read: {error}")))
}

pub(crate) fn unavailable(error: &CallError) -> StoreError {
    StoreError::Unavailable(format!("[{INDEX}]: {error}"))
}

fn conflict_or(error: &CallError) -> StoreError {
    if error.status() == Some(409) { StoreError::Conflict } else { unavailable(error) }
}

/// Milliseconds since 1970.
pub(crate) fn now_in_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_defined_as_json_with_a_strict_mapping() {
        let definition: Value = serde_json::from_str(DEFINITION).unwrap();
        assert_eq!(definition["mappings"]["dynamic"], "strict");
        assert_eq!(definition["settings"]["index"]["hidden"], true);
        let told = json!({INDEX: {"mappings": definition["mappings"]}});
        assert!(is_ours(told.to_string().as_bytes()) && !is_ours(b"{}"));
    }

    #[test]
    fn what_a_change_is_based_on_stands_in_the_url() {
        assert_eq!(condition(Expected::Any), "");
        assert_eq!(condition(Expected::Absent), "&op_type=create");
        let at = Version { seq_no: 7, primary_term: 2 };
        assert_eq!(condition(Expected::At(at)), "&if_seq_no=7&if_primary_term=2");
    }
}
