//! What people want to know of a certificate: whose it is, and until when.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::asn1::{ObjectIdentifier, PrintableStringRef, Utf8StringRef};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

/// The attribute of a name that is called `CN`.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// Names of one certificate that are read; authorities sign a few.
const MAX_NAMES: usize = 100;

/// What a verified certificate calls its owner, in forms that cannot be mistaken for each other, whatever somebody had
/// signed: the subject as in RFC 4514 (`CN=feed,OU=search,O=example`, as Elasticsearch's PKI realm writes it), the
/// common name alone (`feed`) where it is one, and the alternative names as OpenSSL writes them (`DNS:feed.example`,
/// `URI:spiffe://example/feed`, `email:feed@example`, `IP Address:10.0.0.7`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateNames(Box<[Box<str>]>);

impl CertificateNames {
    /// `None` where the certificate cannot be read, or has no name at all.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = Certificate::from_der(certificate).ok()?.tbs_certificate;
        let subject = Some(parsed.subject.to_string()).filter(|name| !name.is_empty());
        // One that cannot be read names nobody.
        let others = parsed.get::<SubjectAltName>().ok().flatten();
        let others = others.iter().flat_map(|(_, names)| &names.0).filter_map(alternative);
        let names = subject.into_iter().chain(common_name(&parsed.subject)).chain(others);
        let names: Box<[Box<str>]> = names.take(MAX_NAMES).map(String::into_boxed_str).collect();
        (!names.is_empty()).then_some(Self(names))
    }

    /// The one for people: the subject, where it is not empty.
    pub fn shown(&self) -> &str {
        self.0.first().map_or("", |name| name)
    }

    /// All of them, in the order above.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }
}

/// The common name, where there is one and it looks like none of the other forms.
fn common_name(subject: &Name) -> Option<String> {
    let mut all = subject.0.iter().flat_map(|part| part.0.iter()).filter(|pair| pair.oid == COMMON_NAME);
    let (value, None) = (&all.next()?.value, all.next()) else { return None };
    let der = value.to_der().ok()?;
    let text = Utf8StringRef::from_der(&der).map(|text| text.as_str().to_owned());
    let text =
        text.or_else(|_| PrintableStringRef::from_der(&der).map(|text| text.as_str().to_owned())).ok()?;
    (!text.is_empty() && !text.contains(['=', ':'])).then_some(text)
}

fn alternative(name: &GeneralName) -> Option<String> {
    Some(match name {
        GeneralName::DnsName(name) => format!("DNS:{}", name.as_str().to_ascii_lowercase()),
        GeneralName::UniformResourceIdentifier(uri) => format!("URI:{}", uri.as_str()),
        GeneralName::Rfc822Name(name) => format!("email:{}", name.as_str()),
        GeneralName::IpAddress(address) => {
            let bytes = address.as_bytes();
            let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            let address = v4().or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()?;
            format!("IP Address:{address}")
        }
        _ => return None,
    })
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
        let names = CertificateNames::of(&certificate).unwrap();
        assert_eq!(names.shown(), "CN=feed,O=Example\\, Inc.");
        let all: Vec<_> = names.iter().collect();
        assert_eq!(all, ["CN=feed,O=Example\\, Inc.", "feed", "DNS:es.example"]);
        let ends = first_expiry([&certificate]).unwrap();
        assert_eq!(ends.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 1_935_619_200);
        assert!(CertificateNames::of(&CertificateDer::from(vec![1, 2, 3])).is_none());
    }

    fn named(common_names: &[&str], others: Vec<rcgen::SanType>) -> Option<CertificateNames> {
        let mut wanted = rcgen::CertificateParams::default();
        wanted.distinguished_name = rcgen::DistinguishedName::new();
        for (number, name) in common_names.iter().enumerate() {
            // The library keeps one of each type, so a second one needs to be made by hand.
            let kind = if number == 0 {
                rcgen::DnType::CommonName
            } else {
                rcgen::DnType::CustomDnType(vec![2, 5, 4, 3])
            };
            wanted.distinguished_name.push(kind, *name);
        }
        wanted.subject_alt_names = others;
        let key = rcgen::KeyPair::generate().unwrap();
        CertificateNames::of(wanted.self_signed(&key).unwrap().der())
    }

    #[test]
    fn no_name_can_be_taken_for_one_of_another_kind() {
        let of = |common_names: &[&str]| named(common_names, Vec::new()).unwrap().0;
        assert_eq!(&*of(&["feed"]), ["CN=feed".into(), "feed".into()]);
        // What somebody has signed as a common name is not a subject, nor another kind of name.
        for forged in ["CN=boss", "boss,O=acme", "DNS:boss.example", "URI:spiffe://boss", "O=acme,CN=boss"] {
            let names = of(&[forged]);
            let found = |name: &str| names.iter().any(|known| &**known == name);
            assert!(
                names[0].starts_with("CN=") && !found("CN=boss") && !found("CN=boss,O=acme"),
                "{names:?}"
            );
            assert!(!names.iter().any(|name| name.contains(':') && !name.starts_with("CN=")), "{names:?}");
        }
        assert_eq!(of(&["feed", "boss"]).len(), 1, "two common names are none");
    }

    #[test]
    fn alternative_names_say_what_they_are() {
        let others = vec![
            rcgen::SanType::DnsName("Feed.Example".try_into().unwrap()),
            rcgen::SanType::URI("spiffe://example/Feed".try_into().unwrap()),
            rcgen::SanType::Rfc822Name("Feed@example".try_into().unwrap()),
            rcgen::SanType::IpAddress("10.0.0.7".parse().unwrap()),
            rcgen::SanType::IpAddress("2001:db8::7".parse().unwrap()),
        ];
        let names = named(&[], others).unwrap();
        let expected = [
            "DNS:feed.example",
            "URI:spiffe://example/Feed",
            "email:Feed@example",
            "IP Address:10.0.0.7",
            "IP Address:2001:db8::7",
        ];
        assert_eq!(names.iter().collect::<Vec<_>>(), expected);
        assert!(named(&[], Vec::new()).is_none());
    }
}
