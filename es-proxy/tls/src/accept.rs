//! One handshake of one client, within its time and its place.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::facts::CertificateNames;
use crate::server::ServerTls;

/// A client's connection after its handshake.
pub type ServerStream = tokio_rustls::server::TlsStream<TcpStream>;

/// The first byte of every TLS connection: a record that holds a handshake.
const HANDSHAKE_RECORD: u8 = 0x16;

/// What came of it.
#[derive(Debug)]
pub enum Handshake {
    /// The client is in.
    Done {
        /// The connection.
        stream: Box<ServerStream>,
        /// Whom the certificate names that it showed, which was verified.
        names: Option<CertificateNames>,
    },
    /// It speaks HTTP without TLS; nothing was read yet.
    PlainHttp(TcpStream),
    /// It did not end in time.
    TimedOut,
    /// It left without a word, as health checks of load balancers do.
    Closed,
    /// It speaks no TLS that we know, or its certificate is missing or wrong.
    Failed(io::Error),
}

impl Handshake {
    /// The word for metrics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Done { .. } => "ok",
            Self::PlainHttp(_) => "plain_http",
            Self::TimedOut => "timeout",
            Self::Closed => "closed",
            Self::Failed(_) => "failed",
        }
    }
}

/// Shakes hands with a client that has just connected.
pub async fn accept(tls: &ServerTls, stream: TcpStream, limit: Duration) -> Handshake {
    match timeout(limit, begin(tls, stream)).await {
        Ok(outcome) => outcome,
        Err(_) => Handshake::TimedOut,
    }
}

async fn begin(tls: &ServerTls, stream: TcpStream) -> Handshake {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(0) => return Handshake::Closed,
        Ok(_) if first[0] == HANDSHAKE_RECORD => {}
        Ok(_) if first[0].is_ascii_uppercase() => return Handshake::PlainHttp(stream),
        // rustls knows which alert is due.
        Ok(_) => {}
        Err(error) => return Handshake::Failed(error),
    }
    let Ok(_place) = tls.places.acquire().await else { return Handshake::Closed };
    match TlsAcceptor::from(tls.config()).accept(stream).await {
        Ok(stream) => {
            let shown = stream.get_ref().1.peer_certificates();
            let names = shown.and_then(|chain| chain.first()).and_then(CertificateNames::of);
            Handshake::Done { stream: Box::new(stream), names }
        }
        Err(error) => Handshake::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    };
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::{ClientAuth, ServerSettings, TlsMetrics, Versions, provider};

    /// A listener's TLS that wants certificates, and a client that has one.
    fn both() -> (Arc<ServerTls>, TlsConnector) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |name: &str| {
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::OrganizationName, "Example");
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &authority).unwrap(), key)
        };
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (certificate, key) = issue("sidecar");
        std::fs::write(at("ca"), authority.pem()).unwrap();
        std::fs::write(at("crt"), certificate.pem()).unwrap();
        std::fs::write(at("key"), key.serialize_pem()).unwrap();
        let settings = ServerSettings {
            name: "server",
            certificate: at("crt"),
            key: at("key"),
            versions: Versions::default(),
            client_auth: ClientAuth::Optional,
            client_ca: Some(at("ca")),
        };
        let tls = ServerTls::open(settings, &TlsMetrics::default()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let (certificate, key) = issue("feed");
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        (tls, TlsConnector::from(Arc::new(config)))
    }

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_client_is_known_by_its_certificate() {
        let (tls, connector) = both();
        let (client, server) = connected().await;
        let name = ServerName::try_from("localhost").unwrap();
        let (theirs, ours) =
            tokio::join!(connector.connect(name, client), accept(&tls, server, Duration::from_secs(10)));
        theirs.unwrap();
        let Handshake::Done { names, .. } = ours else { panic!("{ours:?}") };
        assert_eq!(names.unwrap().shown(), "CN=feed,O=Example");
    }

    #[tokio::test]
    async fn what_is_no_handshake_is_told_apart() {
        let (tls, _) = both();
        for (sent, outcome) in
            [(&b"GET / HTTP/1.1\r\n"[..], "plain_http"), (b"", "closed"), (b"\0\0\0\0\0\0", "failed")]
        {
            let (mut client, server) = connected().await;
            client.write_all(sent).await.unwrap();
            client.shutdown().await.unwrap();
            let handshake = accept(&tls, server, Duration::from_secs(10)).await;
            assert_eq!(handshake.outcome(), outcome, "{handshake:?}");
        }
        let (_client, server) = connected().await;
        assert_eq!(accept(&tls, server, Duration::from_millis(20)).await.outcome(), "timeout");
    }
}
