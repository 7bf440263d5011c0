//! What quotas are about: five resources, and amounts of them.

use serde::{Deserialize, Serialize};

use crate::door::tenant::Quotas;

/// What may be limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Indices.
    Indices,
    /// Primary shards.
    Shards,
    /// Vectors.
    Vectors,
    /// Their elements, in bytes.
    VectorBytes,
    /// Documents as Elasticsearch stores them on primaries, in bytes.
    DocumentBytes,
}

impl Resource {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 5] =
        [Self::Indices, Self::Shards, Self::Vectors, Self::VectorBytes, Self::DocumentBytes];

    /// The word in configuration, errors, metrics and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Indices => "indices",
            Self::Shards => "shards",
            Self::Vectors => "vectors",
            Self::VectorBytes => "vector_bytes",
            Self::DocumentBytes => "document_bytes",
        }
    }

    /// What a tenant may have of it.
    pub(crate) fn limit(self, quotas: &Quotas) -> Option<u64> {
        match self {
            Self::Indices => quotas.indices,
            Self::Shards => quotas.shards,
            Self::Vectors => quotas.vectors,
            Self::VectorBytes => quotas.vector_bytes.map(|bytes| bytes.0),
            Self::DocumentBytes => quotas.document_bytes.map(|bytes| bytes.0),
        }
    }
}

/// So much of each resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Amount {
    /// Indices.
    pub indices: u64,
    /// Primary shards.
    pub shards: u64,
    /// Vectors.
    pub vectors: u64,
    /// Their elements, in bytes.
    pub vector_bytes: u64,
    /// Documents, in bytes.
    pub document_bytes: u64,
}

impl Amount {
    /// One resource of it.
    pub fn of(&self, resource: Resource) -> u64 {
        match resource {
            Resource::Indices => self.indices,
            Resource::Shards => self.shards,
            Resource::Vectors => self.vectors,
            Resource::VectorBytes => self.vector_bytes,
            Resource::DocumentBytes => self.document_bytes,
        }
    }

    /// The bytes of documents alone.
    pub(crate) fn document_bytes_only(self) -> Self {
        Self { document_bytes: self.document_bytes, ..Self::default() }
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    /// What is left without `other`.
    pub fn minus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_sub)
    }

    /// No more than `other` of anything.
    pub(crate) fn at_most(self, other: Self) -> Self {
        self.zip(other, u64::min)
    }

    fn zip(self, other: Self, both: fn(u64, u64) -> u64) -> Self {
        Self {
            indices: both(self.indices, other.indices),
            shards: both(self.shards, other.shards),
            vectors: both(self.vectors, other.vectors),
            vector_bytes: both(self.vector_bytes, other.vector_bytes),
            document_bytes: both(self.document_bytes, other.document_bytes),
        }
    }
}

/// A request would go beyond a quota.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quota exceeded: {} usage {usage} + {requested} > limit {limit}", resource.name())]
pub struct Exceeded {
    /// Whose quota.
    pub tenant: Box<str>,
    /// Of what.
    pub resource: Resource,
    /// What is there, and what was let in since that was measured.
    pub usage: u64,
    /// What the request would add.
    pub requested: u64,
    /// What there may be.
    pub limit: u64,
}

impl Exceeded {
    /// `type` and the rest of Elasticsearch's error object.
    pub(crate) fn error(&self) -> serde_json::Value {
        serde_json::json!({
            "type": KIND,
            "reason": self.to_string(),
            "tenant": &*self.tenant,
            "resource": self.resource.name(),
            "usage": self.usage,
            "requested": self.requested,
            "limit": self.limit,
        })
    }

    /// The body of a response.
    pub(crate) fn body(&self) -> String {
        let mut error = self.error();
        let root_cause = serde_json::json!([error.clone()]);
        if let Some(object) = error.as_object_mut() {
            object.shift_insert(0, "root_cause".to_owned(), root_cause);
        }
        serde_json::json!({"error": error, "status": 403}).to_string()
    }
}

/// The `type` of errors.
pub(crate) const KIND: &str = "quota_exceeded_exception";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_says_what_whose_and_how_much() {
        let exceeded =
            Exceeded { tenant: "acme".into(), resource: Resource::Indices, usage: 5, requested: 1, limit: 5 };
        assert_eq!(exceeded.to_string(), "quota exceeded: indices usage 5 + 1 > limit 5");
        let inner = r#""type":"quota_exceeded_exception","reason":"quota exceeded: indices usage 5 + 1 > limit 5","tenant":"acme","resource":"indices","usage":5,"requested":1,"limit":5}"#;
        let body = format!(r#"{{"error":{{"root_cause":[{{{inner}],{inner},"status":403}}"#);
        assert_eq!(exceeded.body(), body);
    }

    #[test]
    fn amounts_neither_wrap_nor_become_negative() {
        let one = Amount { vectors: 1, ..Amount::default() };
        let most = Amount { vectors: u64::MAX, ..Amount::default() };
        assert_eq!(most.plus(one), most);
        assert_eq!(Amount::default().minus(one), Amount::default());
        assert_eq!(most.minus(one).plus(one), most);
    }
}
