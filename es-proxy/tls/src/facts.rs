//! What people want to know of a certificate: whose it is, and until when.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// The name of a certificate's subject, as in RFC 4514: `CN=feed,OU=search,O=example`, the form that
/// Elasticsearch's PKI realm writes; `None` where it cannot be read or is empty.
pub(crate) fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = Certificate::from_der(certificate).ok()?;
    Some(parsed.tbs_certificate.subject.to_string()).filter(|name| !name.is_empty())
}

/// When the first of these certificates ends to be valid.
pub(crate) fn first_expiry<'a>(
    certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>,
) -> Option<SystemTime> {
    certificates.into_iter().filter_map(expiry).min().map(|seconds| SystemTime::UNIX_EPOCH + seconds)
}

fn expiry(certificate: &CertificateDer<'_>) -> Option<Duration> {
    let parsed = Certificate::from_der(certificate).ok()?;
    Some(parsed.tbs_certificate.validity.not_after.to_unix_duration())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subject_and_expiry_are_read() {
        let mut wanted = rcgen::CertificateParams::new(["es.example".to_owned()]).unwrap();
        wanted.distinguished_name = rcgen::DistinguishedName::new();
        wanted.distinguished_name.push(rcgen::DnType::OrganizationName, "Example, Inc.");
        wanted.distinguished_name.push(rcgen::DnType::CommonName, "feed");
        wanted.not_after = rcgen::date_time_ymd(2031, 5, 4);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = wanted.self_signed(&key).unwrap().der().clone();
        assert_eq!(subject(&certificate).unwrap(), "CN=feed,O=Example\\, Inc.");
        let ends = first_expiry([&certificate]).unwrap();
        assert_eq!(ends.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 1_935_619_200);
        assert!(subject(&CertificateDer::from(vec![1, 2, 3])).is_none());
    }
}
