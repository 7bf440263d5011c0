//! Keeps our vector indexes equal to what Elasticsearch shows.
//!
//! Elasticsearch is the only truth; everything here is a derived view that can be thrown away and
//! learnt again. The parts, in the order in which a change passes through them:
//!
//! 1. [`upstream`] talks HTTP with our own credentials; [`node`] learns version and security.
//! 2. [`catalog_watch`] polls the cluster state and swaps the catalog; [`registry`] holds what we
//!    know of every adopted index, shard and field.
//! 3. [`feed`] polls refresh counters ([`poll`], [`checkpoints`]) and starts a [`pull`] for each
//!    shard that refreshed; [`audit`] finds deletes; then one epoch is published per shard and field.
//!    [`build`] is the first pull of a shard, in parts.
//! 4. Writes that passed by come ahead of all that: [`acknowledged`] gives them to the engine to hold,
//!    [`written`] remembers deletions; when a refresh shows them, [`confirm`] stages what is held.
//! 5. [`filters`] remembers which documents filters let through; pulls keep that up to date.
//! 6. [`barrier`] waits for what a refresh showed, [`sleep`] leaves idle indices idle,
//!    [`upkeep`] trains and writes snapshots, [`report`] and [`metrics`] tell how it goes.

#![forbid(unsafe_code)]

mod acknowledged;
mod aliases;
mod audit;
mod barrier;
mod build;
mod catalog_watch;
mod checkpoints;
mod config;
mod confirm;
mod context;
mod feed;
mod filters;
mod metrics;
mod node;
mod own_call;
mod pages;
mod pit;
mod poll;
mod pull;
mod registry;
mod report;
mod response;
mod restore;
mod shard;
mod sleep;
mod sync;
mod upkeep;
mod upstream;
mod written;

pub use barrier::Scope;
pub use config::{Auth, SyncConfig};
pub use filters::{Filtered, FilteredShard};
pub use node::{NodeInfo, Openness, Security};
pub use own_call::{CallError, Verb};
pub use poll::lists_for_urls;
pub use registry::FieldState;
pub use report::{
    AuditReport, CurveReport, FieldReport, IndexReport, ProgressReport, ShardReport, ShardState, UpkeepReport,
};
pub use sync::Sync;
