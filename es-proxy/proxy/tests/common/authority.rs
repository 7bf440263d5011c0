//! A certificate authority for tests, clients that trust it, and a node that speaks TLS.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Pair {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(&self.certificate).unwrap().map(Result::unwrap).collect()
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(&self.key).unwrap()
    }

    /// The certificate itself, without those that follow.
    pub fn leaf(&self) -> CertificateDer<'static> {
        self.chain().remove(0)
    }

    /// Puts other files in the place of these.
    pub fn become_as(&self, other: &Self) {
        std::fs::copy(&other.certificate, &self.certificate).unwrap();
        std::fs::copy(&other.key, &self.key).unwrap();
    }
}

/// How many there are.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// See the head of this file.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        // Two of one name are told apart by signatures alone, and errors say so.
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("test authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.crt"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// Its certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// For 127.0.0.1 and localhost, followed by the authority's, as Elasticsearch makes them.
    pub fn issue(&self, name: &str) -> Pair {
        self.issue_for(name, &["127.0.0.1", "localhost"], false)
    }

    /// One that was valid once.
    pub fn issue_expired(&self, name: &str) -> Pair {
        self.issue_for(name, &["127.0.0.1", "localhost"], true)
    }

    pub fn issue_for(&self, name: &str, hosts: &[&str], expired: bool) -> Pair {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        if expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let at = |kind: &str| self.folder.path().join(format!("{name}.{kind}"));
        std::fs::write(at("crt"), certificate.pem() + &self.issuer.pem()).unwrap();
        std::fs::write(at("key"), key.serialize_pem()).unwrap();
        Pair { certificate: at("crt"), key: at("key") }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der()).unwrap();
        Arc::new(roots)
    }

    /// A client that trusts it.
    pub fn client(&self) -> TlsConnector {
        self.client_with(rustls::DEFAULT_VERSIONS, None, &[])
    }

    pub fn client_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        shows: Option<&Pair>,
        protocols: &[&[u8]],
    ) -> TlsConnector {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots());
        let mut config = match shows {
            None => builder.with_no_client_auth(),
            Some(pair) => builder.with_client_auth_cert(pair.chain(), pair.key()).unwrap(),
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    /// A node with this certificate in front of `to`. `wants`: whose signature clients need.
    pub async fn node(pair: &Pair, to: SocketAddr, wants: Option<&Self>) -> SocketAddr {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match wants {
            None => builder.with_no_client_auth(),
            Some(authority) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(authority.roots(), provider).build().unwrap(),
            ),
        };
        let acceptor =
            TlsAcceptor::from(Arc::new(builder.with_single_cert(pair.chain(), pair.key()).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Who does not trust it leaves.
                    let Ok(mut secure) = acceptor.accept(stream).await else { return };
                    let mut plain = TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut secure, &mut plain).await;
                });
            }
        });
        address
    }
}

/// A connection to 127.0.0.1, checked under that name.
pub async fn connect(client: &TlsConnector, to: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    client.connect(ServerName::from(to.ip()), stream).await
}

/// One request on a connection of its own; the response, which must end as TLS ends.
pub async fn ask(client: &TlsConnector, to: SocketAddr) -> io::Result<String> {
    ask_for(client, to, "/_cat").await
}

pub async fn ask_for(client: &TlsConnector, to: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = connect(client, to).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: es\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// Server settings with this pair.
pub fn server(pair: &Pair) -> es_tls::ServerSettings {
    es_tls::ServerSettings {
        name: "server",
        certificate: pair.certificate.clone(),
        key: pair.key.clone(),
        versions: es_tls::Versions::default(),
        client_auth: es_tls::ClientAuth::None,
        client_ca: None,
    }
}

/// For paths in settings.
pub fn owned(path: &Path) -> Option<PathBuf> {
    Some(path.to_owned())
}
