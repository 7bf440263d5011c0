//! What is said of a tenant, in the configuration file or through `/_ivf/_tenants`: which requests are its
//! own, how much it may ask for at a time, how much it may store, and where it may go.

use std::collections::BTreeMap;
use std::sync::Arc;

use es_wire::IndexPatterns;
use serde::{Deserialize, Serialize};

use crate::units::{Bytes, Time};

/// The tenant of requests that no rule matches.
pub const DEFAULT_TENANT: &str = "default";
/// The tenant of requests whose tenant header names nobody.
pub const OTHER_TENANT: &str = "other";

/// Longest name of a tenant: it is a header's value, a metric's label and a document's id.
const MAX_NAME: usize = 128;
/// Names and patterns of one kind that a tenant may be known by.
const MAX_NAMES: usize = 1_000;
/// The least a rate may be: one in about eleven days.
const MIN_RATE: f64 = 1e-6;
const MAX_RATE: f64 = 1e12;

/// Requests of different kinds have limits of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", try_from = "String")]
pub enum Class {
    /// Searches, counts, scrolls. A search with a knn is one of these first.
    Search,
    /// Searches by vector, whoever answers them.
    Knn,
    /// Searches by vector that are exact scans in Elasticsearch.
    PassedKnn,
    /// `_bulk` and the document APIs.
    Bulk,
    /// What changes or looks into indices, mappings, templates, the cluster.
    Admin,
    /// Everything else.
    Other,
}

impl Class {
    /// All of them, in their order.
    pub const ALL: [Self; 6] =
        [Self::Search, Self::Knn, Self::PassedKnn, Self::Bulk, Self::Admin, Self::Other];

    /// The word in configuration, metrics and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Knn => "knn",
            Self::PassedKnn => "passed_knn",
            Self::Bulk => "bulk",
            Self::Admin => "admin",
            Self::Other => "other",
        }
    }
}

impl TryFrom<String> for Class {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|class| class.name() == word);
        let all = Self::ALL.map(Self::name).join(", ");
        known.ok_or_else(|| format!("[{word}] is none of the classes {all}"))
    }
}

/// One tenant, as it is written down. Lists are slices, for there may be ten thousand tenants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantSpec {
    /// Names of users, `*` for any characters. Users, roles, realms, API keys and metadata count only as far
    /// as Elasticsearch has verified them.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub users: Box<[String]>,
    /// Roles, one of which the caller must have.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub roles: Box<[String]>,
    /// Realms that verified the caller.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub realms: Box<[String]>,
    /// Ids or names of API keys.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub api_keys: Box<[String]>,
    /// Keys of the caller's metadata and the text they must hold.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Names in the certificate that the client showed: its subject (`CN=feed,O=example`), the common name (`feed`)
    /// or an alternative name (`DNS:feed.example`, `URI:spiffe://example/feed`, `email:…`, `IP Address:…`).
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub certificates: Box<[String]>,
    /// Values of the tenant header, from peers that may send it.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub headers: Box<[String]>,
    /// Patterns of the indices named in the path, all of which must be the tenant's.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub indices: Box<[String]>,
    /// Index patterns that the tenant must stay within; none: it may go wherever Elasticsearch lets it.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub bound_to: Box<[String]>,
    /// Its share where requests wait for each other; 1 where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Limits of each class; a class that is absent is not limited.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<Class, Arc<ClassLimits>>,
    /// How much it may store.
    #[serde(skip_serializing_if = "Quotas::is_empty")]
    pub quotas: Quotas,
}

/// How much of one class may be asked for at a time. What is absent is not limited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClassLimits {
    /// Requests per second, in the mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<f64>,
    /// Requests that may come at once after a rest; where nothing is said, those of one second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Bytes of bodies per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<Bytes>,
    /// Vectors per second: asked for (knn), compared (passed_knn) or written (bulk).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vectors_per_second: Option<f64>,
    /// Work per second. Search: 1 for each search; bulk: 1 for each document; knn: 1 and a hundredth of
    /// `k` and `num_candidates` for each index searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_per_second: Option<f64>,
    /// Requests at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How long a request may wait for its turn before it is refused; 0 where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<Time>,
    /// Requests that may wait; 100 where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u32>,
}

/// How much may be stored in a tenant's indices. What is absent is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quotas {
    /// Indices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub indices: Option<u64>,
    /// Primary shards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<u64>,
    /// Vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vectors: Option<u64>,
    /// Bytes of vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector_bytes: Option<Bytes>,
    /// Bytes of documents as Elasticsearch stores them, on primaries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document_bytes: Option<Bytes>,
}

impl Quotas {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Limits by class of callers that nobody vouches for, each by its address.
pub type AddressLimits = BTreeMap<Class, Arc<ClassLimits>>;

impl TenantSpec {
    /// Whether a tenant can be called so.
    pub fn check_name(name: &str) -> Result<(), String> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_fine = name.len() <= MAX_NAME
            && name.starts_with(is_plain)
            && name.chars().all(|c| is_plain(c) || matches!(c, '-' | '_' | '.'));
        if is_fine {
            return Ok(());
        }
        Err(format!(
            "[{name}] is no name of a tenant: at most {MAX_NAME} of a-z, 0-9, -, _ and ., beginning with a letter or digit"
        ))
    }

    /// What is wrong with the specification of a tenant of that name, if anything.
    pub fn check(&self, name: &str) -> Result<(), String> {
        Self::check_name(name)?;
        let kinds = [
            ("users", &self.users),
            ("roles", &self.roles),
            ("realms", &self.realms),
            ("api_keys", &self.api_keys),
            ("certificates", &self.certificates),
            ("headers", &self.headers),
            ("indices", &self.indices),
            ("bound_to", &self.bound_to),
        ];
        for (kind, names) in kinds {
            if names.len() > MAX_NAMES {
                return Err(format!("[{kind}] names more than {MAX_NAMES}"));
            }
            // A subject has commas.
            let has_comma = |name: &str| name.contains(',') && kind != "certificates";
            if names.iter().any(|name| name.trim().is_empty() || has_comma(name)) {
                return Err(format!("[{kind}] holds a name that is empty or has a comma"));
            }
        }
        if matches!(name, DEFAULT_TENANT | OTHER_TENANT) && self.has_rules() {
            return Err(format!("tenant [{name}] is for requests that no rule matches: it has no rules"));
        }
        if self.indices.iter().any(|pattern| pattern.starts_with('-')) {
            return Err("[indices] cannot exclude with -".to_owned());
        }
        self.bound_to()?;
        if self.weight.is_some_and(|weight| !(1..=1_000).contains(&weight)) {
            return Err("[weight] must be from 1 to 1000".to_owned());
        }
        check_limits(&self.limits)
    }

    /// Whether its quotas mean anything: they are of indices.
    pub(crate) fn check_quotas(&self) -> Result<(), String> {
        if !self.quotas.is_empty() && self.bound_to.is_empty() && self.indices.is_empty() {
            let reason =
                "[quotas] are counted over the tenant's indices: name them in [bound_to] or [indices]";
            return Err(reason.to_owned());
        }
        Ok(())
    }

    /// Where the tenant must stay, if it is bound at all.
    pub fn bound_to(&self) -> Result<Option<IndexPatterns>, String> {
        if self.bound_to.is_empty() {
            return Ok(None);
        }
        let patterns = self.bound_to.join(",").parse().map_err(|error| format!("[bound_to]: {error}"));
        patterns.map(Some)
    }

    fn has_rules(&self) -> bool {
        self.has_identity_rules()
            || !self.certificates.is_empty()
            || !self.headers.is_empty()
            || !self.indices.is_empty()
    }

    /// Whether a rule asks who the caller is.
    pub(crate) fn has_identity_rules(&self) -> bool {
        let named = [&self.users, &self.roles, &self.realms, &self.api_keys];
        named.iter().any(|names| !names.is_empty()) || !self.metadata.is_empty()
    }
}

/// What is wrong with limits, if anything.
pub(crate) fn check_limits(limits: &BTreeMap<Class, Arc<ClassLimits>>) -> Result<(), String> {
    limits.iter().try_for_each(|(class, limits)| {
        limits.check().map_err(|error| format!("limits.{}: {error}", class.name()))
    })
}

impl ClassLimits {
    fn check(&self) -> Result<(), String> {
        let rates = [
            ("requests_per_second", self.requests_per_second),
            ("vectors_per_second", self.vectors_per_second),
            ("cost_per_second", self.cost_per_second),
            ("bytes_per_second", self.bytes_per_second.map(|bytes| bytes.0 as f64)),
        ];
        for (name, rate) in rates {
            if rate.is_some_and(|rate| !(MIN_RATE..=MAX_RATE).contains(&rate)) {
                return Err(format!("[{name}] must be more than 0 (and less than {MAX_RATE:e})"));
            }
        }
        if self.burst == Some(0) || self.concurrency == Some(0) {
            return Err("[burst] and [concurrency] must be at least 1".to_owned());
        }
        if self.burst.is_some() && self.requests_per_second.is_none() {
            return Err("[burst] is of [requests_per_second], which is absent".to_owned());
        }
        if self.wait.is_some_and(|wait| wait.0.as_secs() > 60) {
            return Err("[wait] must not be longer than 60s".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_is_read_and_written_back() {
        let text = r#"{"users":["alice","svc-*"],"metadata":{"team":"a"},"certificates":["CN=feed,O=a"],"bound_to":["a-*","-a-old"],"weight":2,
            "limits":{"passed_knn":{"requests_per_second":0.5,"bytes_per_second":"10mb","wait":"100ms"}},
            "quotas":{"vectors":1000,"document_bytes":"1gb"}}"#;
        let spec: TenantSpec = serde_json::from_str(text).unwrap();
        spec.check("acme").unwrap();
        let written: serde_json::Value = serde_json::to_value(&spec).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(text).unwrap());
        let bound = spec.bound_to().unwrap().unwrap();
        assert!(bound.contains("a-1") && !bound.contains("a-old") && !bound.contains("b"));
    }

    #[test]
    fn quotas_need_indices() {
        let checked = |text: &str| serde_json::from_str::<TenantSpec>(text).unwrap().check_quotas();
        checked(r#"{"users":["u"]}"#).unwrap();
        checked(r#"{"indices":["a-*"],"quotas":{"vectors":1}}"#).unwrap();
        let refused = checked(r#"{"users":["u"],"quotas":{"vectors":1}}"#).unwrap_err();
        assert!(refused.contains("[bound_to]"), "{refused}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, text, named) in [
            ("Acme", "{}", "[Acme]"),
            ("", "{}", "[]"),
            ("default", r#"{"users":["a"]}"#, "no rules"),
            ("a", r#"{"users":[""]}"#, "[users]"),
            ("a", r#"{"roles":["a,b"]}"#, "[roles]"),
            ("a", r#"{"certificates":[""]}"#, "[certificates]"),
            ("default", r#"{"certificates":["feed"]}"#, "no rules"),
            ("a", r#"{"indices":["-a"]}"#, "[indices]"),
            ("a", r#"{"weight":0}"#, "[weight]"),
            ("a", r#"{"limits":{"knn":{"requests_per_second":0}}}"#, "limits.knn: [requests_per_second]"),
            ("a", r#"{"limits":{"knn":{"vectors_per_second":-1}}}"#, "[vectors_per_second]"),
            ("a", r#"{"limits":{"bulk":{"burst":3}}}"#, "[burst]"),
            ("a", r#"{"limits":{"bulk":{"concurrency":0}}}"#, "[concurrency]"),
            ("a", r#"{"limits":{"bulk":{"wait":"5m"}}}"#, "[wait]"),
        ] {
            let spec: TenantSpec = serde_json::from_str(text).unwrap();
            let message = spec.check(name).unwrap_err();
            assert!(message.contains(named), "{text}: {message}");
        }
        for unknown in [r#"{"user":["a"]}"#, r#"{"limits":{"scan":{}}}"#, r#"{"limits":{"knn":{"rps":1}}}"#] {
            serde_json::from_str::<TenantSpec>(unknown).unwrap_err();
        }
    }
}
