//! TLS on all sides: certificates, whom to trust, reloading. Knows no HTTP.
//!
//! | side | file | what |
//! |---|---|---|
//! | clients, admin port | [`server`] | our certificate; client certificates optional or required |
//! | | [`accept`] | one handshake, within its time and its place; plain HTTP is recognised |
//! | Elasticsearch | [`upstream`] | by certificate authority, by fingerprint, or not at all |
//! | | [`trust`] | the decision about one certificate |
//! | all | [`reload`] | files are read again when they change; what is broken is not taken |
//! | | [`pem`], [`facts`] | files to certificates and keys; who a certificate is for, and until when |
//! | | [`words`] | what settings are called |
//!
//! The cryptography is *ring*: a C compiler is all that it needs to build on every platform of ours. AWS-LC
//! signs faster with RSA, which matters to servers that live on handshakes; our clients keep their connections.

#![forbid(unsafe_code)]

mod accept;
mod facts;
mod pem;
mod reload;
mod server;
mod trust;
mod upstream;
mod words;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

pub use accept::{Handshake, ServerStream, accept};
pub use facts::CertificateNames;
pub use reload::{Reload, TlsMetrics, watch};
pub use server::{ServerSettings, ServerTls};
pub use upstream::{UpstreamSettings, UpstreamTls};
pub use words::{ClientAuth, Fingerprint, Verify, Versions};

/// One provider for all configurations; none is installed for the process, so that nothing is taken by
/// accident from a library.
static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// Why files cannot be used. Names the file, never shows what is in it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It is not there, or may not be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It holds nothing of the kind, or something broken.
    #[error("{path}: {problem}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The files do not go together, or the settings.
    #[error("{0}")]
    Settings(String),
}
