//! PEM files to certificates and keys, with errors that say what to do and show nothing of a key.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::TlsError;

/// All certificates of a file, in their order; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| unusable(path, format!("no PEM: {error}")))?;
    if found.is_empty() {
        return Err(unusable(path, "holds no certificate (PEM, BEGIN CERTIFICATE)".into()));
    }
    Ok(found)
}

/// The first private key of a file.
pub(crate) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path)?;
    if text.windows(17).any(|part| part == b"ENCRYPTED PRIVATE" || part == b"Proc-Type: 4,ENCR") {
        return Err(unusable(
            path,
            "the key is encrypted; decrypt it with `openssl pkey -in … -out …`".into(),
        ));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let problem = match error {
            pem::Error::NoItemsFound => "holds no private key (PEM, PKCS#8, PKCS#1 or SEC1)".to_owned(),
            // The other kinds quote lines of the file.
            _ => "holds no readable private key".to_owned(),
        };
        unusable(path, problem)
    })
}

/// The certificates of a file as authorities to trust.
pub(crate) fn authorities(path: &Path) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let certificates = certificates(path)?;
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store
            .add(certificate.clone())
            .map_err(|error| unusable(path, format!("cannot be trusted as an authority: {error}")))?;
    }
    Ok((store, certificates))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.into(), source })
}

pub(crate) fn unusable(path: &Path, problem: String) -> TlsError {
    TlsError::Unusable { path: path.into(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_files_are_named_and_keys_are_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file.pem");
        for (text, said) in [
            ("", "holds no private key"),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nc2VjcmV0\n-----END ENCRYPTED PRIVATE KEY-----\n",
                "encrypted",
            ),
            (
                "-----BEGIN PRIVATE KEY-----\nc2Vjc!!!mV0\n-----END PRIVATE KEY-----\n",
                "no readable private key",
            ),
            ("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n", "no readable private key"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = key(&file).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("file.pem"), "{error}");
            assert!(!error.contains("c2Vj"), "{error}");
        }
        assert!(certificates(&file).unwrap_err().to_string().contains("file.pem"));
        assert!(
            certificates(&folder.path().join("absent")).unwrap_err().to_string().contains("cannot be read")
        );
    }
}
