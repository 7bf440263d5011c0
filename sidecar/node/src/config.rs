//! The configuration: one struct whose fields are flags, environment variables and keys of the file
//! alike, so that no setting can be reached in one way only.
//!
//! | a setting is | in |
//! | --- | --- |
//! | declared, with its default in words | `layer` |
//! | parsed, if its kind of value is new | `values`, `secret` |
//! | checked and put where it belongs | `check`; those of TLS: `tls` |
//! | printed | `print`; those of TLS: `tls` |

mod check;
mod layer;
mod print;
mod secret;
#[cfg(test)]
mod tests;
mod tls;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;

use es_proxy::{AuditEvents, AuditTarget, Mode, ProxyConfig};
use es_wire::IndexPatterns;
use shard_sync::SyncConfig;

pub(crate) use self::layer::Layer;
pub(crate) use self::secret::Secret;
use self::tls::Tls;
pub(crate) use self::values::LogFormat;

use crate::tenants::Intervals;

/// What is in force.
pub(crate) struct Config {
    pub(crate) proxy: ProxyConfig,
    pub(crate) sync: SyncConfig,
    pub(crate) data_dir: PathBuf,
    pub(crate) memory_budget: Option<u64>,
    pub(crate) hold_memory: u64,
    /// Whether it may be open to everybody, where that was said.
    pub(crate) allow_insecure: Option<bool>,
    pub(crate) admin_listen: SocketAddr,
    pub(crate) admin_token: Option<Secret>,
    pub(crate) tls: Tls,
    /// What the operator should know; said in the log once that is open.
    pub(crate) warnings: Vec<String>,
    pub(crate) mode: Mode,
    pub(crate) strict: IndexPatterns,
    pub(crate) audit_log: Option<AuditTarget>,
    pub(crate) audit_events: AuditEvents,
    pub(crate) tenant_intervals: Intervals,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
}

impl Config {
    /// Reads file and secrets, and checks what can be checked without touching the network.
    pub(crate) fn load(flags: Layer) -> anyhow::Result<Self> {
        let file = match &flags.config {
            Some(path) => Layer::read(path)?,
            None => Layer::default(),
        };
        let environment =
            Layer { upstream_auth: Secret::from_environment("OUTRIGGER_UPSTREAM_AUTH"), ..Layer::default() };
        let secret_in_file = file.upstream_auth.is_some();
        let path = flags.config.clone();
        let mut config = Self::from_layer(flags.over(environment).over(file))?;
        if secret_in_file {
            config.warnings.extend(path.and_then(|path| secret::exposed(&path)));
        }
        Ok(config)
    }
}
