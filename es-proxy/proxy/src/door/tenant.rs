//! On whose account a request is served. Decided once, in this order; what speaks first decides:
//!
//! 1. what Elasticsearch has verified of the caller: API key, user, metadata, roles, realm;
//! 2. the certificate that the client showed, which was verified here;
//! 3. the tenant header, where the peer is one that may send it. A value that names no tenant is `other`;
//! 4. the indices named in the path, where all of them are one tenant's;
//! 5. else `default`.
//!
//! A name stands before a pattern, and a longer pattern before a shorter one ([`names`]).

mod metrics;
pub(crate) mod names;
mod registry;
mod rules;
mod spec;

use std::fmt;
use std::sync::Arc;

use es_wire::IndexPatterns;
use http::request::Parts;

pub(crate) use registry::Account;
pub use registry::{Problem, TenantConfig, Tenants};
pub(crate) use rules::Claims;
pub use spec::{AddressLimits, Class, ClassLimits, DEFAULT_TENANT, OTHER_TENANT, Quotas, TenantSpec};

use crate::door::Peer;
use crate::door::identity::Identity;
use crate::door::limits::Gates;
use crate::door::limits::fair::Flow;
use crate::proxy::Worker;

/// One tenant, as it is in force.
pub struct Tenant {
    name: Arc<str>,
    spec: Arc<TenantSpec>,
    source: Source,
    bound_to: Option<IndexPatterns>,
    gates: Gates,
    flow: Flow,
}

/// Where a tenant is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: `default` and `other` are always there.
    BuiltIn,
    /// In the configuration, which wins.
    File,
    /// In Elasticsearch.
    Stored,
}

impl Source {
    /// The word in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "built_in",
            Self::File => "file",
            Self::Stored => "stored",
        }
    }
}

impl Tenant {
    /// Its name in configuration, metrics and logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is written down of it.
    pub fn spec(&self) -> &TenantSpec {
        &self.spec
    }

    /// Where that is.
    pub fn source(&self) -> Source {
        self.source
    }

    /// The indices that it must stay within; `None` where it may go wherever Elasticsearch lets it.
    pub fn bound_to(&self) -> Option<&IndexPatterns> {
        self.bound_to.as_ref()
    }

    /// Its share where requests wait for each other.
    pub(crate) fn flow(&self) -> Flow {
        self.flow
    }

    /// Its limits.
    pub(crate) fn gates(&self) -> &Gates {
        &self.gates
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenant")
            .field("name", &self.name)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// What made a request a tenant's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Rule {
    ApiKey,
    User,
    Metadata,
    Role,
    Realm,
    Certificate,
    Header,
    /// A header that names no tenant.
    UnknownHeader,
    Index,
    /// No rule matched.
    Unmatched,
}

impl Rule {
    pub(crate) const ALL: [Self; 10] = [
        Self::ApiKey,
        Self::User,
        Self::Metadata,
        Self::Role,
        Self::Realm,
        Self::Certificate,
        Self::Header,
        Self::UnknownHeader,
        Self::Index,
        Self::Unmatched,
    ];

    /// The word in logs, metrics and answers.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ApiKey => "api_key",
            Self::User => "user",
            Self::Metadata => "metadata",
            Self::Role => "role",
            Self::Realm => "realm",
            Self::Certificate => "certificate",
            Self::Header => "header",
            Self::UnknownHeader => "unknown_header",
            Self::Index => "index",
            Self::Unmatched => "default",
        }
    }
}

/// The tenant that a request belongs to, and why.
pub(crate) fn of(worker: &Worker, peer: &Peer, identity: &Identity, parts: &Parts) -> Account {
    worker.shared.config.tenants.account(peer, identity.claims(), parts)
}
