//! Plain data: what is indexed, where it belongs, and in which order it happened.

use std::fmt;
use std::sync::Arc;

/// How two vectors are compared. Raw values, not Elasticsearch scores: `es-wire` converts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Squared Euclidean distance; smaller is nearer.
    L2,
    /// Inner product of vectors that the caller has normalised to unit length; larger is nearer.
    Cosine,
    /// Inner product of vectors that Elasticsearch has checked to be of unit length; larger is nearer.
    Dot,
    /// Inner product of vectors of any length; larger is nearer.
    MaxInnerProduct,
}

impl Metric {
    /// Whether a smaller raw value means a nearer vector (only true for [`Metric::L2`]).
    pub fn smaller_is_nearer(self) -> bool {
        matches!(self, Metric::L2)
    }

    /// The name used in files, metrics and on the command line: `l2`, `cosine`, `dot`, `mip`.
    pub fn name(self) -> &'static str {
        match self {
            Metric::L2 => "l2",
            Metric::Cosine => "cosine",
            Metric::Dot => "dot",
            Metric::MaxInnerProduct => "mip",
        }
    }
}

/// What a vector consists of. At the ports every vector is a slice of numbers, as Elasticsearch's JSON has
/// them; the engine stores one byte or one bit where that is enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Element {
    /// float32 values, one per dimension.
    #[default]
    Float,
    /// Whole numbers in -128..=127, one per dimension. Never normalised: [`Metric::Cosine`] divides by the
    /// lengths, and [`Metric::Dot`] is the inner product of vectors of any length.
    Byte,
    /// Bits, eight to a number in -128..=127; [`FieldSpec::dims`] counts bits. Only under [`Metric::L2`],
    /// whose value is the number of bits that differ.
    Bit,
}

impl Element {
    /// The name used in mappings, files and on the command line: `float`, `byte`, `bit`.
    pub fn name(self) -> &'static str {
        match self {
            Element::Float => "float",
            Element::Byte => "byte",
            Element::Bit => "bit",
        }
    }

    /// The element type of a name.
    pub fn named(name: &str) -> Option<Element> {
        [Element::Float, Element::Byte, Element::Bit].into_iter().find(|element| element.name() == name)
    }
}

/// One history of one shard of one index, and one vector field in it. A restored, re-created or
/// force-allocated shard has another `history_uuid` and so another key: nothing is carried over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IndexKey {
    /// `settings.index.uuid`.
    pub index_uuid: Arc<str>,
    /// Shard number, from 0.
    pub shard: u32,
    /// `commit.user_data.history_uuid` of the copy that is followed.
    pub history_uuid: Arc<str>,
    /// Full path of the field, dots included.
    pub field: Arc<str>,
}

impl fmt::Display for IndexKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.index_uuid, self.shard, self.history_uuid, self.field)
    }
}

/// Elasticsearch's order of writes in a shard, compared by primary term first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqNo {
    /// `_primary_term`, from 1.
    pub primary_term: u64,
    /// `_seq_no`, from 0.
    pub seq_no: u64,
}

/// A document inside a shard: one `_id` may stand twice in a shard under different routing only if
/// Elasticsearch allowed it, so routing is part of the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocKey {
    /// `_id`, at most 512 bytes.
    pub id: Box<str>,
    /// `_routing` where the document has one.
    pub routing: Option<Box<str>>,
}

impl DocKey {
    /// A key without routing.
    pub fn new(id: impl Into<Box<str>>) -> Self {
        Self { id: id.into(), routing: None }
    }
}

/// What one operation did to the vector of one document.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The document.
    pub doc: DocKey,
    /// When it happened. A change older than what the index holds for the document is ignored.
    pub order: SeqNo,
    /// What happened.
    pub kind: ChangeKind,
}

/// See [`Change`].
#[derive(Clone, Debug, PartialEq)]
pub enum ChangeKind {
    /// The document now has this vector: [`FieldSpec::values`] numbers as [`Element`] says; floats are
    /// finite, and normalised for [`Metric::Cosine`]. Or several vectors, end to end, as a field below a
    /// `nested` object has them: a search finds the document by the nearest one.
    Upsert(Vec<f32>),
    /// The document is gone, or no longer has a vector in this field.
    Delete,
}

/// Options of an `ivf` field as the mapping gives them; absent means "the engine decides".
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct IvfOptions {
    /// Number of lists, 1..=65,536.
    pub nlist: Option<u32>,
    /// Lists visited per query, 1..=65,536. Excludes `recall`.
    pub nprobe: Option<u32>,
    /// Wanted recall@10, 0.5..=0.999; picks `nprobe` from the calibrated curve.
    pub recall: Option<f32>,
}

/// What the engine must know of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FieldSpec {
    /// What vectors consist of.
    pub element: Element,
    /// 1..=4,096; of bits, a multiple of 8 up to 32,768.
    pub dims: usize,
    /// How vectors are compared.
    pub metric: Metric,
    /// Options of the mapping.
    pub options: IvfOptions,
}

impl FieldSpec {
    /// Numbers that a vector has at the ports: one for each dimension, or for eight bits.
    pub fn values(&self) -> usize {
        if self.element == Element::Bit { self.dims / 8 } else { self.dims }
    }
}

/// A position in a shard's history: all changes that one refresh showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch {
    /// `_seq_no` up to which (inclusive) nothing is missing; -1 when nothing is known.
    pub cursor: i64,
    /// Highest `_seq_no` that was seen; changes in (cursor, max_seq_no] may have gaps. -1 when none.
    pub max_seq_no: i64,
    /// Highest primary term seen.
    pub primary_term: u64,
}

impl Epoch {
    /// The position before any change.
    pub const EMPTY: Epoch = Epoch { cursor: -1, max_seq_no: -1, primary_term: 0 };
}
