//! Elasticsearch's answers as types: one model for JSON and CBOR.
//!
//! Vectors come in two shapes: `fields` (doc values, CBOR, normalised for cosine) and `_source`
//! (the client's own JSON). [`Tree`] reads both without knowing which it is.

use std::collections::HashMap;
use std::fmt;

use serde::de::{self, DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::upstream::{Format, UpstreamError};

/// Reads JSON.
pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, UpstreamError> {
    serde_json::from_slice(bytes).map_err(|error| UpstreamError::Unreadable(error.to_string()))
}

/// Reads either format.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8], format: Format) -> Result<T, UpstreamError> {
    match format {
        Format::Json => json(bytes),
        Format::Cbor => {
            cbor4ii::serde::from_slice(bytes).map_err(|error| UpstreamError::Unreadable(error.to_string()))
        }
    }
}

/// Answer to opening a point in time.
#[derive(Deserialize)]
pub(crate) struct OpenedPit {
    pub(crate) id: String,
}

/// Answer to a search in a point in time.
#[derive(Deserialize)]
#[serde(bound(deserialize = "H: Deserialize<'de>"))]
pub(crate) struct Search<H = Hit> {
    pub(crate) pit_id: Option<String>,
    #[serde(default)]
    pub(crate) timed_out: bool,
    #[serde(rename = "_shards")]
    pub(crate) shards: ShardCounts,
    pub(crate) hits: Hits<H>,
    #[serde(default)]
    pub(crate) aggregations: Option<Aggregations>,
}

#[derive(Deserialize)]
pub(crate) struct ShardCounts {
    pub(crate) total: u32,
    pub(crate) successful: u32,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "H: Deserialize<'de>"))]
pub(crate) struct Hits<H> {
    pub(crate) total: Option<Total>,
    #[serde(default)]
    pub(crate) hits: Vec<H>,
}

/// A hit of which only the order is asked for.
#[derive(Deserialize)]
pub(crate) struct OrderHit {
    #[serde(rename = "_seq_no")]
    pub(crate) seq_no: u64,
    #[serde(rename = "_primary_term")]
    pub(crate) primary_term: u64,
    pub(crate) sort: (i64,),
}

#[derive(Deserialize)]
pub(crate) struct Total {
    pub(crate) value: u64,
}

#[derive(Deserialize)]
pub(crate) struct Hit {
    #[serde(rename = "_id")]
    pub(crate) id: Box<str>,
    #[serde(rename = "_routing")]
    pub(crate) routing: Option<Box<str>>,
    #[serde(rename = "_seq_no")]
    pub(crate) seq_no: u64,
    #[serde(rename = "_primary_term")]
    pub(crate) primary_term: u64,
    #[serde(rename = "_source")]
    pub(crate) source: Option<Tree>,
    pub(crate) fields: Option<Tree>,
    #[serde(default)]
    pub(crate) sort: Vec<i64>,
}

#[derive(Deserialize)]
pub(crate) struct Aggregations {
    pub(crate) by_seq_no: SeqNoHistogram,
}

#[derive(Deserialize)]
pub(crate) struct SeqNoHistogram {
    pub(crate) buckets: Vec<SeqNoBucket>,
}

#[derive(Deserialize)]
pub(crate) struct SeqNoBucket {
    pub(crate) key: f64,
    pub(crate) doc_count: u64,
    pub(crate) sum: Option<SumValue>,
}

#[derive(Deserialize)]
pub(crate) struct SumValue {
    pub(crate) value: f64,
}

/// Version and blocks of the cluster state.
#[derive(Deserialize)]
pub(crate) struct StateTicker {
    pub(crate) version: i64,
    #[serde(default)]
    pub(crate) blocks: Blocks,
}

#[derive(Default, Deserialize)]
pub(crate) struct Blocks {
    #[serde(default)]
    global: HashMap<String, de::IgnoredAny>,
}

impl StateTicker {
    /// Block 1 is "state not recovered": a node that has just started shows a cluster without
    /// indices, which must not be taken for their deletion.
    pub(crate) fn recovered(&self) -> bool {
        !self.blocks.global.contains_key("1")
    }
}

/// `primary_terms` of indices.
#[derive(Default, Deserialize)]
pub(crate) struct StateTerms {
    #[serde(default)]
    pub(crate) metadata: TermsMetadata,
}

#[derive(Default, Deserialize)]
pub(crate) struct TermsMetadata {
    #[serde(default)]
    pub(crate) indices: HashMap<String, IndexTerms>,
}

#[derive(Deserialize)]
pub(crate) struct IndexTerms {
    #[serde(default)]
    pub(crate) primary_terms: HashMap<String, u64>,
}

/// As much of a document as vectors need.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    Map(Vec<(String, Tree)>),
    Numbers(Vec<f32>),
    List(Vec<Tree>),
    Number(f32),
    Other,
}

impl Tree {
    /// The vector at a full path, whether the document nests objects (`{"o":{"v":[…]}}`) or dots
    /// its keys (`{"o.v":[…]}`), and whether doc values wrap it in one more list.
    pub(crate) fn vector(&self, path: &str) -> Option<&[f32]> {
        match self {
            Tree::Map(entries) => entries.iter().find_map(|(key, value)| {
                let rest = path.strip_prefix(key.as_str())?;
                if rest.is_empty() { value.numbers() } else { value.vector(rest.strip_prefix('.')?) }
            }),
            // Several objects at one path: at most one of them may hold the vector.
            Tree::List(items) => items.iter().find_map(|item| item.vector(path)),
            _ => None,
        }
    }

    /// All vectors at a full path, as arrays of objects have them, in their order.
    pub(crate) fn vectors(&self, path: &str) -> Vec<&[f32]> {
        let mut found = Vec::new();
        self.collect(path, &mut found);
        found
    }

    fn collect<'t>(&'t self, path: &str, found: &mut Vec<&'t [f32]>) {
        match self {
            Tree::Map(entries) => {
                for (key, value) in entries {
                    match path.strip_prefix(key.as_str()) {
                        Some("") => found.extend(value.numbers()),
                        Some(rest) if rest.starts_with('.') => value.collect(&rest[1..], found),
                        _ => {}
                    }
                }
            }
            Tree::List(items) => items.iter().for_each(|item| item.collect(path, found)),
            _ => {}
        }
    }

    fn numbers(&self) -> Option<&[f32]> {
        match self {
            Tree::Numbers(values) => Some(values),
            Tree::Number(value) => Some(std::slice::from_ref(value)),
            Tree::List(items) => match items.as_slice() {
                [Tree::Numbers(values)] => Some(values),
                _ => None,
            },
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut numbers = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(4096));
        while let Some(item) = seq.next_element()? {
            match item {
                Tree::Number(value) => numbers.push(value),
                other => {
                    let mut items: Vec<Tree> = numbers.into_iter().map(Tree::Number).collect();
                    items.push(other);
                    while let Some(item) = seq.next_element()? {
                        items.push(item);
                    }
                    return Ok(Tree::List(items));
                }
            }
        }
        Ok(Tree::Numbers(numbers))
    }

    fn visit_f32<E: de::Error>(self, value: f32) -> Result<Tree, E> {
        Ok(Tree::Number(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Number(value as f32))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value as f32))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value as f32))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    /// Byte vectors may stand in a document as hex strings.
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Tree, E> {
        Ok(es_wire::bytes_of_hex(text).map_or(Tree::Other, Tree::Numbers))
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_none<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(json: &str) -> Tree {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_vector_is_found_in_every_shape_a_document_may_have() {
        for document in [
            r#"{"x":"t","o":{"v":[1,2.5]}}"#,
            r#"{"o.v":[1,2.5]}"#,
            r#"{"o":{"w":1},"o.v":[1,2.5]}"#,
            r#"{"o":[{"w":[9]},{"v":[1,2.5]}]}"#,
            r#"{"o.v":[[1.0,2.5]]}"#,
        ] {
            assert_eq!(tree(document).vector("o.v"), Some(&[1.0f32, 2.5][..]), "{document}");
        }
    }

    #[test]
    fn arrays_of_objects_have_a_vector_each() {
        for (document, vectors) in [
            (r#"{"n":[{"v":[1,2]},{"t":"x"},{"v":null},{"v":[3,4]}]}"#, vec![[1.0f32, 2.0], [3.0, 4.0]]),
            (r#"{"n":{"v":[1,2]},"m":{"v":[9,9]}}"#, vec![[1.0, 2.0]]),
            (r#"{"n.v":[1,2]}"#, vec![[1.0, 2.0]]),
            (r#"{"n":[[{"v":[1,2]}],{"v":"0304"}]}"#, vec![[1.0, 2.0], [3.0, 4.0]]),
            (r#"{"n":[]}"#, vec![]),
        ] {
            assert_eq!(tree(document).vectors("n.v"), vectors, "{document}");
        }
    }

    #[test]
    fn bytes_may_be_written_in_hex() {
        assert_eq!(tree(r#"{"o":{"v":"01fe"}}"#).vector("o.v"), Some(&[1.0f32, -2.0][..]));
        assert_eq!(tree(r#"{"v":"text"}"#).vector("v"), None);
    }

    #[test]
    fn null_and_absent_are_no_vector() {
        for document in [r#"{}"#, r#"{"v":null}"#, r#"{"o":{"w":[1]}}"#, r#"{"vv":[1]}"#] {
            assert_eq!(tree(document).vector("v"), None, "{document}");
        }
    }

    /// As Elasticsearch writes it: containers without a length, floats of four bytes.
    #[test]
    fn cbor_gives_the_same_tree() {
        let json = r#"{"v":[[0.5,-0.25,3]],"t":"x","n":null}"#;
        let cbor =
            b"\xbf\x61v\x9f\x9f\xfa\x3f\x00\x00\x00\xfa\xbe\x80\x00\x00\x03\xff\xff\x61t\x61x\x61n\xf6\xff";
        assert_eq!(read::<Tree>(cbor, Format::Cbor).unwrap(), tree(json));
    }

    #[test]
    fn an_unrecovered_state_is_recognised() {
        let early =
            r#"{"version":1,"blocks":{"global":{"1":{"description":"state not recovered / initialized"}}}}"#;
        assert!(!json::<StateTicker>(early.as_bytes()).unwrap().recovered());
        assert!(json::<StateTicker>(br#"{"version":9}"#).unwrap().recovered());
    }
}
