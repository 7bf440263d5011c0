//! Calls of other parts of the node to Elasticsearch, under our own credentials: one pool, one set of addresses and
//! secrets for all.

use reqwest::Method;

use crate::upstream::{Format, Upstream, UpstreamError};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// GET.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
}

/// Why a call brought nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// No response, or none that can be read.
    #[error("{0}")]
    Unreachable(String),
    /// Another response than success.
    #[error("status {status}: {body}")]
    Status {
        /// Its status.
        status: u16,
        /// The beginning of its body.
        body: String,
    },
}

impl CallError {
    /// The status of the response, if one came.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Unreachable(_) => None,
            Self::Status { status, .. } => Some(*status),
        }
    }
}

pub(crate) async fn call(
    upstream: &Upstream,
    verb: Verb,
    path: &str,
    body: Option<String>,
) -> Result<Vec<u8>, CallError> {
    let method = match verb {
        Verb::Get => Method::GET,
        Verb::Post => Method::POST,
        Verb::Put => Method::PUT,
        Verb::Delete => Method::DELETE,
    };
    upstream.call(method, path, body, Format::Json).await.map_err(|error| match error {
        UpstreamError::Status { status, body } => CallError::Status { status: status.as_u16(), body },
        other => CallError::Unreachable(other.to_string()),
    })
}
