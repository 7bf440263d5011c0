//! Requests that are more than passed: one file per kind.

pub(crate) mod adopt;
pub(crate) mod fetch;
pub(crate) mod first_time;
pub(crate) mod insight;
pub(crate) mod mapping;
pub(crate) mod msearch;
pub(crate) mod nodes;
pub(crate) mod nprobe;
pub(crate) mod own;
pub(crate) mod own_request;
pub(crate) mod pass_search;
pub(crate) mod plan;
pub(crate) mod privilege;
pub(crate) mod profile;
pub(crate) mod refresh;
pub(crate) mod search;
pub(crate) mod show;
pub(crate) mod splice;
pub(crate) mod tenants;
pub(crate) mod whoami;
pub(crate) mod write;
