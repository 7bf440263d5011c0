//! What a list of nodes says of each: read from our own request for `_nodes/http`.

use super::UnknownListing;
use crate::scan::{Member, members, unquote};

/// One node of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedNode {
    /// Its id inside the cluster.
    pub id: String,
    /// `node.name`.
    pub name: String,
    /// The address that it uses towards other nodes.
    pub ip: String,
    /// `http.publish_address`: `ip:port` or `host/ip:port`; empty where it has no HTTP.
    pub http: String,
}

impl ListedNode {
    /// The nodes of a `_nodes/http` answer in JSON.
    pub fn all_of(answer: &str) -> Result<Vec<Self>, UnknownListing> {
        let whole = members(answer.trim_ascii())?;
        let Some(nodes) = value(&whole, "nodes") else { return Ok(Vec::new()) };
        members(nodes)?.iter().map(Self::read).collect()
    }

    fn read(node: &Member<'_>) -> Result<Self, UnknownListing> {
        let parts = members(node.value)?;
        let http = value(&parts, "http").map_or_else(|| Ok(Vec::new()), members)?;
        let text = |of: &[Member<'_>], name: &str| match value(of, name) {
            Some(text) => unquote(text).map(|text| text.into_owned()),
            None => Ok(String::new()),
        };
        Ok(Self {
            id: unquote(node.key)?.into_owned(),
            name: text(&parts, "name")?,
            ip: text(&parts, "ip")?,
            http: text(&http, "publish_address")?,
        })
    }
}

fn value<'a>(of: &[Member<'a>], name: &str) -> Option<&'a str> {
    let quoted = |key: &str| key.strip_prefix('"').and_then(|key| key.strip_suffix('"')) == Some(name);
    of.iter().find(|member| quoted(member.key)).map(|member| member.value)
}
