//! Where ports meet: the request path asks, the feed and the engine answer.

mod admin;
mod cluster;
mod engine_source;
mod upstream_source;

pub(crate) use admin::Admin;
pub(crate) use cluster::ClusterOfSync;
pub(crate) use engine_source::EngineSource;
pub(crate) use upstream_source::UpstreamSource;
