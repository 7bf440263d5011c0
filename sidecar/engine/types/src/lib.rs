//! The wall between the wire and the engine: the nouns both sides speak and the ports through
//! which they meet. No I/O, no JSON, no async.
//!
//! `es-proxy` and `shard-sync` know the engine only through [`ports`]; the engine knows
//! Elasticsearch only through [`nouns`]. The binary joins the two.

#![forbid(unsafe_code)]

mod explain;
mod filter;
mod nouns;
mod ports;

pub use explain::{Explanation, Fate, ListSeen};
pub use filter::{Allow, SlotFilter};
pub use nouns::{Change, ChangeKind, DocKey, Element, Epoch, FieldSpec, IndexKey, IvfOptions, Metric, SeqNo};
pub use ports::{
    BuildState, CurvePoint, EngineError, Found, Hit, IndexStats, KnnEngine, KnnIndex, KnnView, Query,
    SearchStats, Upkeep,
};
