//! Our side towards Elasticsearch: whom we trust, and who we are.
//!
//! One configuration serves the request path and our own calls. It asks for what is in force at each handshake,
//! so it never has to be replaced. Sessions are not resumed: each connection is verified anew, and connections
//! live long.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::reload::{Loaded, Reload, Reloading, TlsMetrics};
use crate::trust::{Judge, Trusted};
use crate::{Fingerprint, TlsError, Verify, facts, pem, provider};

/// Files and choices.
#[derive(Clone, Debug, Default)]
pub struct UpstreamSettings {
    /// How much is verified.
    pub verify: Verify,
    /// PEM: whom to trust; without it and without a fingerprint those that the system trusts.
    pub ca: Option<PathBuf>,
    /// The one certificate to trust, or the one authority.
    pub fingerprint: Option<Fingerprint>,
    /// PEM: our own certificate and its key, where Elasticsearch asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// TLS towards Elasticsearch.
#[derive(Debug)]
pub struct UpstreamTls {
    config: Arc<ClientConfig>,
    material: Arc<Reloading<Material>>,
    verify: Verify,
    presents: bool,
}

/// What is read from files.
pub(crate) struct Material {
    pub(crate) trusted: Trusted,
    identity: Option<Arc<CertifiedKey>>,
}

impl UpstreamTls {
    /// Reads the files, which must be good.
    pub fn open(settings: UpstreamSettings, metrics: &TlsMetrics) -> Result<Arc<Self>, TlsError> {
        if settings.ca.is_some() && settings.fingerprint.is_some() {
            return Err(TlsError::Settings(
                "a CA file and a fingerprint are two answers to one question".into(),
            ));
        }
        if settings.verify == Verify::None && (settings.ca.is_some() || settings.fingerprint.is_some()) {
            return Err(TlsError::Settings(
                "with verification off a CA file or fingerprint has no effect".into(),
            ));
        }
        let (verify, presents) = (settings.verify, settings.identity.is_some());
        let mut files: Vec<PathBuf> = settings.ca.iter().cloned().collect();
        files.extend(
            settings.identity.iter().flat_map(|(certificate, key)| [certificate.clone(), key.clone()]),
        );
        let material = Arc::new(Reloading::open("upstream", files, metrics, move || load(&settings))?);
        let judge = Judge { material: Arc::clone(&material), check_name: verify == Verify::Full };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Settings(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(judge))
            .with_client_cert_resolver(Arc::new(Identity(Arc::clone(&material))));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Arc::new(Self { config: Arc::new(config), material, verify, presents }))
    }

    /// For HTTP clients that make their own connections.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Whether certificates are verified at all.
    pub fn verifies(&self) -> bool {
        self.verify != Verify::None
    }

    /// Whether we show a certificate of our own where Elasticsearch asks for one.
    pub fn presents_certificate(&self) -> bool {
        self.presents
    }

    /// Shakes hands with the node at the other end, which must be `host`.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, "no name that a certificate could hold")
        })?;
        TlsConnector::from(self.config()).connect(name, stream).await
    }
}

impl Reload for UpstreamTls {
    fn reload_if_changed(&self) {
        self.material.reload_if_changed();
    }

    fn report(&self) {
        self.material.report();
        if !self.verifies() {
            tracing::warn!("Elasticsearch's certificate is not verified (upstream_verify = none)");
        }
    }
}

fn load(settings: &UpstreamSettings) -> Result<Loaded<Material>, TlsError> {
    let mut expiries = Vec::new();
    let trusted = match (settings.verify, &settings.ca, settings.fingerprint) {
        (Verify::None, ..) => Trusted::Anybody,
        (_, _, Some(fingerprint)) => Trusted::Fingerprint(fingerprint),
        (_, Some(file), None) => {
            let (authorities, certificates) = pem::authorities(file)?;
            expiries.push(("upstream_ca", facts::first_expiry(&certificates)));
            Trusted::Authorities(authorities)
        }
        (_, None, None) => Trusted::Authorities(system_authorities()?),
    };
    let identity = match &settings.identity {
        None => None,
        Some((certificate, key)) => {
            let chain = pem::certificates(certificate)?;
            expiries.push(("upstream_client", facts::first_expiry(&chain)));
            let identity = CertifiedKey::from_der(chain, pem::key(key)?, &provider()).map_err(|error| {
                TlsError::Settings(format!("{} and {}: {error}", certificate.display(), key.display()))
            })?;
            Some(Arc::new(identity))
        }
    };
    Ok(Loaded { value: Material { trusted, identity }, expiries })
}

fn system_authorities() -> Result<RootCertStore, TlsError> {
    let mut authorities = RootCertStore::empty();
    let (taken, _) = authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if taken == 0 {
        let text = "this system has no certificate authorities; name one (upstream_ca), or a fingerprint";
        return Err(TlsError::Settings(text.into()));
    }
    Ok(authorities)
}

/// Shows the certificate that is in force now.
#[derive(Debug)]
struct Identity(Arc<Reloading<Material>>);

impl ResolvesClientCert for Identity {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.current().identity.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.current().identity.is_some()
    }
}
