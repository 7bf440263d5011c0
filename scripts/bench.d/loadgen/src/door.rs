//! Where a server is and how it is spoken to: plain, or by TLS with one cipher suite, so that every server does the
//! same arithmetic.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// See the head of this file.
pub(crate) struct Door {
    /// HOST:PORT.
    pub(crate) server: String,
    pub(crate) tls: Option<TlsConnector>,
}

impl Door {
    /// `server`: HOST:PORT, or https://HOST:PORT with the authority that signed its certificate.
    pub(crate) fn new(server: &str, ca: Option<&Path>) -> anyhow::Result<Self> {
        match (server.strip_prefix("https://"), ca) {
            (None, None) => Ok(Self { server: server.to_owned(), tls: None }),
            (None, Some(_)) => anyhow::bail!("--ca is for servers with https://"),
            (Some(_), None) => anyhow::bail!("{server} needs --ca: who signed its certificate"),
            (Some(server), Some(ca)) => Ok(Self { server: server.to_owned(), tls: Some(connector(ca)?) }),
        }
    }

    /// The name that its certificate must have.
    pub(crate) fn host(&self) -> &str {
        let host = self.server.rsplit_once(':').map_or(self.server.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

fn connector(ca: &Path) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(ca).with_context(|| format!("cannot read {}", ca.display()))?
    {
        roots.add(certificate?)?;
    }
    ensure!(!roots.is_empty(), "{} holds no certificate", ca.display());
    let suites = vec![ring::cipher_suite::TLS13_AES_256_GCM_SHA384];
    let provider = CryptoProvider { cipher_suites: suites, ..ring::default_provider() };
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
