//! The vector index of one shard and field: hold changes, publish them as one epoch, search.
//!
//! [`Engine`] is the way in; it implements [`knn_types::KnnEngine`]. No HTTP, no JSON of
//! Elasticsearch, no async: the caller brings the threads.

mod budget;
mod build;
mod calibrate;
mod census;
mod coarse;
mod coder;
mod cold;
mod config;
mod cost;
mod docs;
mod effort;
mod engine;
mod exact;
mod explain;
mod filter;
mod filtered;
mod form;
mod generation;
mod heads;
mod held;
mod index;
mod ints;
mod keys;
mod keyset;
mod kmeans;
mod lists;
mod local;
mod look;
mod maintain;
mod mapped;
mod nearest;
mod rotation;
mod search;
mod snapshot;
mod spill;
mod staged;
mod store;
mod subset;
pub mod tool;
mod topk;
mod truth;
mod view;
mod writer;

pub use budget::MemoryUse;
pub use config::{EngineConfig, Spill};
pub use effort::Point;
pub use engine::Engine;
pub use snapshot::Summary;
