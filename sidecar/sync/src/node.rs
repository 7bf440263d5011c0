//! Whom we talk to: version, what that version can do, and whether security is there.

use es_wire::{AllowedVersions, Capabilities, EsVersion};
use serde::Deserialize;

use crate::response;
use crate::upstream::{Upstream, UpstreamError};

/// Whether Elasticsearch checks who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Certainly not: the feature is absent or declared off.
    Absent,
    /// Yes, or nobody could tell.
    Present,
}

/// Whether whoever reaches Elasticsearch may do what he likes there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Openness {
    /// It has not answered yet.
    #[default]
    Unknown,
    /// It asks who calls, or does not say that it does not.
    Guarded,
    /// It has no security.
    Open,
}

impl Openness {
    /// What a contact told.
    pub(crate) fn of(contact: &Result<NodeInfo, UpstreamError>) -> Self {
        match contact {
            Ok(info) if info.security == Security::Absent => Self::Open,
            Ok(_) => Self::Guarded,
            // It does not know us; that is an answer, too.
            Err(UpstreamError::Status { status, .. }) if matches!(status.as_u16(), 401 | 403) => {
                Self::Guarded
            }
            Err(_) => Self::Unknown,
        }
    }
}

/// What the first contact told, read again whenever the connection was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Version of the node that answered.
    pub version: EsVersion,
    /// What that version does; `None` for a version that nobody has looked at: nothing is adopted.
    pub caps: Option<Capabilities>,
    /// Whether callers must be checked.
    pub security: Security,
}

#[derive(Deserialize)]
struct Root {
    version: VersionNumber,
}

#[derive(Deserialize)]
struct VersionNumber {
    number: String,
}

#[derive(Deserialize)]
struct Nodes {
    nodes: std::collections::HashMap<String, NodeVersion>,
}

#[derive(Deserialize)]
struct NodeVersion {
    version: String,
}

#[derive(Deserialize)]
struct Xpack {
    features: Option<Features>,
}

#[derive(Deserialize)]
struct Features {
    security: Option<Feature>,
}

#[derive(Deserialize)]
struct Feature {
    enabled: Option<bool>,
}

/// Asks all of it.
pub(crate) async fn contact(
    upstream: &Upstream,
    allowed: &AllowedVersions,
) -> Result<NodeInfo, UpstreamError> {
    let number = version_number(upstream).await?;
    let version: EsVersion =
        number.parse().map_err(|_| UpstreamError::Unreadable(format!("version [{number}]")))?;
    let security = security(upstream).await?;
    Ok(NodeInfo { version, caps: Capabilities::of_allowed(version, allowed), security })
}

async fn version_number(upstream: &Upstream) -> Result<String, UpstreamError> {
    match upstream.get("/").await {
        Ok(bytes) => {
            if let Ok(root) = response::json::<Root>(&bytes) {
                return Ok(root.version.number);
            }
        }
        // A node may stand behind something that does not serve its root.
        Err(UpstreamError::Status { status, .. }) if matches!(status.as_u16(), 400 | 403 | 404 | 405) => {}
        Err(error) => return Err(error),
    }
    let bytes = upstream.get("/_nodes/_local?filter_path=nodes.*.version").await?;
    let nodes: Nodes = response::json(&bytes)?;
    let node = nodes.nodes.into_values().next();
    node.map(|node| node.version).ok_or_else(|| UpstreamError::Unreadable("no node in _nodes/_local".into()))
}

/// Only a plain "off" and a plain "no such endpoint" count as absent. A server without x-pack takes
/// `_xpack` for the name of an index, and says so in one of these ways.
const NO_SUCH_ENDPOINT: [&str; 3] = [
    "no handler found",
    "Invalid index name [_xpack]",
    "request [/_xpack] contains unrecognized parameter: [categories]",
];

async fn security(upstream: &Upstream) -> Result<Security, UpstreamError> {
    match upstream.get("/_xpack?categories=features").await {
        Ok(bytes) => {
            let security =
                response::json::<Xpack>(&bytes).ok().and_then(|x| x.features).and_then(|f| f.security);
            let declared_off = security.is_some_and(|feature| feature.enabled == Some(false));
            Ok(if declared_off { Security::Absent } else { Security::Present })
        }
        Err(UpstreamError::Status { status, body })
            if status.as_u16() == 400 && NO_SUCH_ENDPOINT.iter().any(|text| body.contains(text)) =>
        {
            Ok(Security::Absent)
        }
        Err(UpstreamError::Status { .. }) => Ok(Security::Present),
        Err(error) => Err(error),
    }
}
