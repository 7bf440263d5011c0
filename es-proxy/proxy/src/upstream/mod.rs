//! The only way from the request path to Elasticsearch: kept-alive connections and the rules for
//! what may cross them.

mod headers;
mod pool;
mod socket;

pub(crate) use headers::{MODE, NPROBE, TIMEOUT, strip_connection, strip_hop_by_hop, strip_ours};
pub(crate) use pool::{Pool, UpstreamBody, UpstreamError};
