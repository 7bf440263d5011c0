//! HTTP addresses of nodes in the answers that list nodes, replaced in the answer's own format: no other
//! byte changes, and what is not understood wholly is not touched at all.
//!
//! Clients that look for nodes by themselves (*sniff*) take these addresses and call them from then on. They
//! stand at `nodes.{id}.http.publish_address` of `_nodes`, and in the column `http` of `_cat/nodes`.

mod binary;
mod cbor;
mod json;
mod listed;
mod smile;
mod table;
mod yaml;

#[cfg(test)]
mod tests;

use std::ops::Range;

pub use listed::ListedNode;

/// Objects inside each other in an answer that lists nodes; theirs have some ten.
const MAX_DEPTH: usize = 100;

/// Which list of nodes an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeListing {
    /// `_nodes`, in any of its forms.
    Nodes,
    /// `_cat/nodes`.
    Cat,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFormat {
    /// JSON, laid out in any way.
    Json,
    /// YAML as Elasticsearch writes it: block style.
    Yaml,
    /// CBOR.
    Cbor,
    /// SMILE.
    Smile,
    /// The table that `_cat` writes by default.
    Text,
}

impl AnswerFormat {
    /// The format of a media type, with or without parameters and Elasticsearch's own prefix.
    pub fn of(content_type: &str) -> Option<Self> {
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let subtype = match media_type.split_once('/')? {
            ("text", "plain") => return Some(Self::Text),
            ("application", subtype) => subtype,
            _ => return None,
        };
        match subtype.strip_prefix("vnd.elasticsearch+").unwrap_or(subtype) {
            "json" => Some(Self::Json),
            "yaml" => Some(Self::Yaml),
            "cbor" => Some(Self::Cbor),
            "smile" => Some(Self::Smile),
            _ => None,
        }
    }
}

/// The answer is not written as expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a list of nodes that is not written as expected")]
pub struct UnknownListing;

impl From<crate::scan::Malformed> for UnknownListing {
    fn from(_: crate::scan::Malformed) -> Self {
        Self
    }
}

/// Who says what an address becomes: given the node's id, where the answer tells it, and the address. `None`
/// leaves it as it is.
pub type NewAddress<'a> = &'a mut dyn FnMut(Option<&str>, &str) -> Option<String>;

/// The answer with other addresses; `None` where none changes.
pub fn replace_addresses(
    listing: NodeListing,
    format: AnswerFormat,
    answer: &[u8],
    new: NewAddress<'_>,
) -> Result<Option<Vec<u8>>, UnknownListing> {
    let mut edits = Edits::default();
    let text = || std::str::from_utf8(answer).map_err(|_| UnknownListing);
    match format {
        AnswerFormat::Json => json::find(listing, text()?, &mut edits, new)?,
        AnswerFormat::Yaml => yaml::find(listing, text()?, &mut edits, new)?,
        AnswerFormat::Cbor => cbor::find(listing, answer, &mut edits, new)?,
        AnswerFormat::Smile => smile::find(listing, answer, &mut edits, new)?,
        AnswerFormat::Text if listing == NodeListing::Cat => return table::replace(text()?, new),
        AnswerFormat::Text => return Err(UnknownListing),
    }
    Ok((!edits.0.is_empty()).then(|| edits.apply(answer)))
}

/// What takes the place of which bytes, in the order of the answer.
#[derive(Default)]
struct Edits(Vec<(Range<usize>, Vec<u8>)>);

impl Edits {
    fn push(&mut self, place: Range<usize>, with: Vec<u8>) {
        self.0.push((place, with));
    }

    fn apply(self, answer: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(answer.len() + 16 * self.0.len());
        let mut done = 0;
        for (place, with) in self.0 {
            out.extend_from_slice(&answer[done..place.start]);
            out.extend_from_slice(&with);
            done = place.end;
        }
        out.extend_from_slice(&answer[done..]);
        out
    }
}

/// A place in the structure of an answer, as far as it leads to addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The whole answer.
    Whole(NodeListing),
    /// `nodes`.
    Nodes,
    /// `nodes.{id}`.
    Node(String),
    /// `nodes.{id}.http`.
    Http(String),
    /// One row of `_cat/nodes`.
    Row,
    /// An address, and the id of its node.
    Address(Option<String>),
    Elsewhere,
}

impl Place {
    /// The value of `key` in an object that stands here.
    fn member(&self, key: &str) -> Self {
        match (self, key) {
            (Self::Whole(NodeListing::Nodes), "nodes") => Self::Nodes,
            (Self::Nodes, id) => Self::Node(id.to_owned()),
            (Self::Node(id), "http") => Self::Http(id.clone()),
            (Self::Http(id), "publish_address") => Self::Address(Some(id.clone())),
            // The key is the column's name as the client wrote it.
            (Self::Row, "http" | "http_address") => Self::Address(None),
            _ => Self::Elsewhere,
        }
    }

    /// An element of an array that stands here.
    fn element(&self) -> Self {
        if *self == Self::Whole(NodeListing::Cat) { Self::Row } else { Self::Elsewhere }
    }

    /// What the address that stands here becomes.
    fn new_address(&self, address: &str, new: NewAddress<'_>) -> Option<String> {
        match self {
            Self::Address(id) => new(id.as_deref(), address),
            _ => None,
        }
    }
}
