//! Whether Elasticsearch is who we think: the decision about one certificate.
//!
//! A fingerprint may be that of the node's own certificate: then it is this one or none, whatever name and dates
//! stand in it. Or it is that of the authority, as Elasticsearch prints it at its first start: then that
//! authority is found in the chain that the node shows, and the node's certificate must really be signed by it.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

use crate::reload::Reloading;
use crate::upstream::Material;
use crate::{Fingerprint, provider};

/// Whom we trust.
#[derive(Debug)]
pub(crate) enum Trusted {
    /// Who these signed.
    Authorities(RootCertStore),
    /// Whom this fingerprint is of, or who was signed by it.
    Fingerprint(Fingerprint),
    /// Everybody.
    Anybody,
}

impl Trusted {
    /// Whether the node with this certificate may be talked to. `check_name`: only under its own name.
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        check_name: bool,
        now: UnixTime,
    ) -> Result<(), Error> {
        match self {
            Self::Anybody => return Ok(()),
            Self::Authorities(authorities) => signed(certificate, authorities, chain, now)?,
            Self::Fingerprint(wanted) => {
                let shown = Fingerprint::of(certificate);
                if shown == *wanted {
                    return Ok(());
                }
                let authority = chain.iter().find(|each| Fingerprint::of(each) == *wanted);
                let Some(authority) = authority else { return Err(other(WrongFingerprint(shown))) };
                let mut authorities = RootCertStore::empty();
                authorities.add(authority.clone().into_owned())?;
                signed(certificate, &authorities, chain, now)?;
            }
        }
        if check_name {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        }
        Ok(())
    }
}

fn signed(
    certificate: &CertificateDer<'_>,
    authorities: &RootCertStore,
    chain: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    verify_server_cert_signed_by_trust_anchor(&parsed, authorities, chain, now, algorithms().all)
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

/// Neither the node's certificate nor any that it shows has the fingerprint.
#[derive(Debug)]
struct WrongFingerprint(Fingerprint);

impl fmt::Display for WrongFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "its certificate has the fingerprint {}, and none that signs it has the one that is trusted",
            self.0
        )
    }
}

impl std::error::Error for WrongFingerprint {}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(OtherError(Arc::new(error)))
}

/// Asks what is in force now, so that a reload holds for every connection from then on.
#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) material: Arc<Reloading<Material>>,
    pub(crate) check_name: bool,
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.material.current().trusted.judge(certificate, chain, name, self.check_name, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;

    fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn node(authority: &CertifiedIssuer<'static, KeyPair>) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["es.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        params.signed_by(&KeyPair::generate().unwrap(), authority).unwrap().der().clone()
    }

    const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));
    const LATER: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(2_300_000_000));

    fn judged(
        trusted: &Trusted,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &'static str,
        check_name: bool,
        now: UnixTime,
    ) -> Result<(), String> {
        let name = ServerName::try_from(name).unwrap();
        trusted.judge(certificate, chain, &name, check_name, now).map_err(|error| error.to_string())
    }

    #[test]
    fn an_authority_vouches_for_names_and_times() {
        let (ours, theirs) = (authority("ours"), authority("theirs"));
        let mut store = RootCertStore::empty();
        store.add(ours.der().clone()).unwrap();
        let trusted = Trusted::Authorities(store);
        let good = node(&ours);
        assert_eq!(judged(&trusted, &good, &[], "es.example", true, NOW), Ok(()));
        let error = judged(&trusted, &good, &[], "other.example", true, NOW).unwrap_err();
        assert!(error.contains("other.example"), "{error}");
        assert_eq!(judged(&trusted, &good, &[], "other.example", false, NOW), Ok(()));
        let error = judged(&trusted, &good, &[], "es.example", false, LATER).unwrap_err();
        assert!(error.contains("expired"), "{error}");
        let error =
            judged(&trusted, &node(&theirs), &[theirs.der().clone()], "es.example", true, NOW).unwrap_err();
        assert!(error.contains("UnknownIssuer"), "{error}");
    }

    #[test]
    fn a_fingerprint_is_of_the_node_or_of_who_signed_it() {
        let (ours, theirs) = (authority("ours"), authority("theirs"));
        let good = node(&ours);
        let pinned = Trusted::Fingerprint(Fingerprint::of(&good));
        assert_eq!(judged(&pinned, &good, &[], "whatever", true, LATER), Ok(()), "this one or none");
        assert!(
            judged(&pinned, &node(&ours), &[], "es.example", true, NOW).unwrap_err().contains("fingerprint")
        );

        let by_authority = Trusted::Fingerprint(Fingerprint::of(ours.der()));
        let chain = [ours.der().clone()];
        assert_eq!(judged(&by_authority, &good, &chain, "es.example", true, NOW), Ok(()));
        judged(&by_authority, &good, &chain, "other.example", true, NOW).unwrap_err();
        judged(&by_authority, &good, &chain, "es.example", true, LATER).unwrap_err();
        assert!(judged(&by_authority, &good, &[], "es.example", true, NOW).is_err(), "it is not shown");
        // Everybody can show somebody else's authority beside a certificate of his own.
        let error = judged(&by_authority, &node(&theirs), &chain, "es.example", true, NOW).unwrap_err();
        assert!(error.contains("UnknownIssuer"), "{error}");
    }
}
