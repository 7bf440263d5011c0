//! What the operator can set. Every queue and every retry of this crate has its limit here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use es_tls::UpstreamTls;
use es_wire::{AllowedVersions, IndexPatterns};

/// Settings of [`crate::Sync`].
#[derive(Clone, Debug)]
pub struct SyncConfig {
    /// Base URLs of nodes of one cluster, tried in order; `http://host:port` or `https://host:port`.
    pub upstream: Vec<String>,
    /// Credentials of our own calls. A client's request never runs under them.
    pub auth: Option<Auth>,
    /// Versions that nobody has looked at, and that are served all the same.
    pub allow_versions: AllowedVersions,
    /// TLS with those whose URL says so.
    pub tls: Option<Arc<UpstreamTls>>,
    /// How often the cluster state's version is asked for: the staleness of the catalog.
    pub catalog_interval: Duration,
    /// How often refresh counters are asked for while indices change.
    pub feed_interval: Duration,
    /// The same while nothing changes.
    pub feed_interval_idle: Duration,
    /// Indices whose vector fields are all ours, whatever their mappings say.
    pub adopt: IndexPatterns,
    /// Time between two snapshots of an index that changes.
    pub snapshot_interval: Duration,
    /// `index.search.idle.after`: indices without an explicit `refresh_interval` that nobody
    /// searched for so long are left asleep.
    pub search_idle_after: Duration,
    /// Shards pulled at the same time; first builds and later changes have this many places each.
    pub pull_concurrency: usize,
    /// Searches that one first build has on their way at the same time.
    pub build_streams: usize,
    /// Documents per second that all first builds together may read; `None`: as fast as it goes.
    pub build_rate: Option<u64>,
    /// Wanted size of a page of hits.
    pub page_bytes: usize,
    /// Limit of one request to Elasticsearch.
    pub request_timeout: Duration,
    /// Longest pause between two tries of something that failed.
    pub retry_max: Duration,
    /// Bytes of acknowledged writes that may wait for being held.
    pub acknowledged_bytes: usize,
    /// Bytes that remembered filters may take; 0: none is remembered.
    pub filter_memory: u64,
    /// Filters that nobody used for so long are forgotten.
    pub filter_idle: Duration,
    /// Indices with metrics of their own; the others share one label.
    pub metric_indices: usize,
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self {
            upstream: vec!["http://127.0.0.1:9200".to_owned()],
            auth: None,
            allow_versions: AllowedVersions::default(),
            tls: None,
            catalog_interval: Duration::from_millis(100),
            feed_interval: Duration::from_millis(20),
            feed_interval_idle: Duration::from_millis(60),
            adopt: IndexPatterns::default(),
            snapshot_interval: Duration::from_secs(30),
            search_idle_after: Duration::from_secs(30),
            pull_concurrency: 2,
            build_streams: 2,
            build_rate: None,
            page_bytes: 6 << 20,
            request_timeout: Duration::from_secs(60),
            retry_max: Duration::from_secs(5),
            acknowledged_bytes: 32 << 20,
            filter_memory: 64 << 20,
            filter_idle: Duration::from_secs(600),
            metric_indices: 100,
        }
    }
}

impl SyncConfig {
    /// A client for calls of our own, with the limits and the trust that are configured. Building it cannot
    /// fail for another reason than a wrong build of this program.
    pub fn client(&self) -> reqwest::Result<reqwest::Client> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(2))
            .timeout(self.request_timeout)
            .tcp_nodelay(true);
        match &self.tls {
            None => client.build(),
            Some(tls) => client.use_preconfigured_tls((*tls.config()).clone()).build(),
        }
    }
}

/// Credentials. `Debug` shows the kind and the user, never the secret.
#[derive(Clone)]
pub enum Auth {
    /// `Authorization: Basic`.
    Basic {
        /// Name of the user.
        user: String,
        /// Secret.
        password: String,
    },
    /// `Authorization: ApiKey`, the encoded form.
    ApiKey(String),
    /// `Authorization: Bearer`.
    Bearer(String),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Auth::Basic { user, .. } => write!(f, "Basic({user}:***)"),
            Auth::ApiKey(_) => f.write_str("ApiKey(***)"),
            Auth::Bearer(_) => f.write_str("Bearer(***)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_masks_secrets() {
        let basic = Auth::Basic { user: "feed".into(), password: "hunter2".into() };
        let shown = format!("{basic:?} {:?} {:?}", Auth::ApiKey("k3y".into()), Auth::Bearer("t0ken".into()));
        assert_eq!(shown, "Basic(feed:***) ApiKey(***) Bearer(***)");
    }
}
