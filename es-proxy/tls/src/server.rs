//! Our side towards clients: one certificate, perhaps theirs too.
//!
//! Sessions are resumed by tickets whose key changes every few hours and with every reload. Where clients show
//! certificates nothing is resumed: a resumed session would keep the trust of the day when it began.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio::sync::Semaphore;

use crate::reload::{Loaded, Reload, Reloading, TlsMetrics};
use crate::{ClientAuth, TlsError, Versions, facts, pem, provider};

/// Handshakes in progress at once. More clients wait for a place within their time; who has not said a word yet
/// takes none.
const MAX_HANDSHAKES: usize = 1024;

/// Files and choices of one listener.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// The listener, for log and metrics.
    pub name: &'static str,
    /// PEM: our certificate first, then those that lead to the authority.
    pub certificate: PathBuf,
    /// PEM: its key, not encrypted.
    pub key: PathBuf,
    /// What clients may speak.
    pub versions: Versions,
    /// Whether they show certificates.
    pub client_auth: ClientAuth,
    /// PEM: who signs those.
    pub client_ca: Option<PathBuf>,
}

/// TLS of one listener.
#[derive(Debug)]
pub struct ServerTls {
    reloading: Reloading<Arc<ServerConfig>>,
    pub(crate) places: Semaphore,
}

impl ServerTls {
    /// Reads the files, which must be good.
    pub fn open(settings: ServerSettings, metrics: &TlsMetrics) -> Result<Arc<Self>, TlsError> {
        let mut files = vec![settings.certificate.clone(), settings.key.clone()];
        files.extend(settings.client_ca.clone());
        let reloading = Reloading::open(settings.name, files, metrics, move || load(&settings))?;
        Ok(Arc::new(Self { reloading, places: Semaphore::new(MAX_HANDSHAKES) }))
    }

    /// What new connections use.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.reloading.current())
    }
}

impl Reload for ServerTls {
    fn reload_if_changed(&self) {
        self.reloading.reload_if_changed();
    }

    fn report(&self) {
        self.reloading.report();
    }
}

fn load(settings: &ServerSettings) -> Result<Loaded<Arc<ServerConfig>>, TlsError> {
    let chain = pem::certificates(&settings.certificate)?;
    let key = pem::key(&settings.key)?;
    let mut expiries = vec![(settings.name, facts::first_expiry(&chain))];
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&settings.versions.supported())
        .map_err(|error| TlsError::Settings(format!("these versions of TLS cannot be served: {error}")))?;
    let builder = match (settings.client_auth, &settings.client_ca) {
        (ClientAuth::None, _) => builder.with_no_client_auth(),
        (_, None) => {
            return Err(TlsError::Settings("client certificates need the authority that signs them".into()));
        }
        (wanted, Some(file)) => {
            let (authorities, certificates) = pem::authorities(file)?;
            expiries.push(("client_ca", facts::first_expiry(&certificates)));
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider());
            let verifier =
                if wanted == ClientAuth::Optional { verifier.allow_unauthenticated() } else { verifier };
            let verifier = verifier.build().map_err(|error| pem::unusable(file, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        let (certificate, key) = (settings.certificate.display(), settings.key.display());
        TlsError::Settings(match error {
            rustls::Error::InconsistentKeys(_) => format!("{key} is not the key of {certificate}"),
            error => format!("{certificate} and {key} cannot be used: {error}"),
        })
    })?;
    // Who offers protocols and none of these is refused; `curl --http1.0` offers its own alone.
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    if settings.client_auth == ClientAuth::None {
        config.ticketer = rustls::crypto::ring::Ticketer::new()
            .map_err(|error| TlsError::Settings(format!("no key for session tickets: {error}")))?;
    } else {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Loaded { value: Arc::new(config), expiries })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A self-signed pair of files.
    fn pair(folder: &std::path::Path, name: &str) -> (PathBuf, PathBuf) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([format!("{name}.example")]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (at, key_at) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        std::fs::write(&at, certificate.pem()).unwrap();
        std::fs::write(&key_at, key.serialize_pem()).unwrap();
        (at, key_at)
    }

    fn settings(certificate: PathBuf, key: PathBuf) -> ServerSettings {
        let (versions, client_auth) = (Versions::default(), ClientAuth::None);
        ServerSettings { name: "server", certificate, key, versions, client_auth, client_ca: None }
    }

    #[test]
    fn a_pair_that_does_not_fit_is_refused_at_first_and_passed_over_later() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = pair(folder.path(), "a");
        let (other, other_key) = pair(folder.path(), "b");
        let metrics = TlsMetrics::default();
        let error = ServerTls::open(settings(certificate.clone(), other_key.clone()), &metrics).unwrap_err();
        assert!(error.to_string().contains("b.key is not the key of"), "{error}");

        let tls = ServerTls::open(settings(certificate.clone(), key.clone()), &metrics).unwrap();
        let before = tls.config();
        std::fs::rename(&other, &certificate).unwrap();
        tls.reload_if_changed();
        assert!(Arc::ptr_eq(&before, &tls.config()), "the key is still the former one");
        std::fs::rename(&other_key, &key).unwrap();
        tls.reload_if_changed();
        assert!(!Arc::ptr_eq(&before, &tls.config()), "now both are there");
        assert_eq!((metrics.reloads("server", "failed"), metrics.reloads("server", "ok")), (1, 1));
    }

    #[test]
    fn sessions_are_resumed_only_where_clients_show_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = pair(folder.path(), "a");
        let open = load(&settings(certificate.clone(), key.clone())).unwrap().value;
        assert!(open.ticketer.enabled());
        let mut strict = settings(certificate.clone(), key);
        strict.client_auth = ClientAuth::Required;
        assert!(load(&strict).err().unwrap().to_string().contains("authority"));
        strict.client_ca = Some(certificate);
        let strict = load(&strict).unwrap().value;
        assert!(!strict.ticketer.enabled() && strict.send_tls13_tickets == 0);
        assert!(!strict.session_storage.can_cache());
    }
}
