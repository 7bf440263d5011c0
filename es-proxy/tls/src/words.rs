//! What settings are called: small values with their one spelling.

use std::fmt;
use std::str::FromStr;

/// Which versions of TLS clients may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// TLS 1.2.
    pub v12: bool,
    /// TLS 1.3.
    pub v13: bool,
}

impl Default for Versions {
    fn default() -> Self {
        Self { v12: true, v13: true }
    }
}

impl Versions {
    pub(crate) fn supported(self) -> Vec<&'static rustls::SupportedProtocolVersion> {
        let each = [(self.v13, &rustls::version::TLS13), (self.v12, &rustls::version::TLS12)];
        each.into_iter().filter(|(wanted, _)| *wanted).map(|(_, version)| version).collect()
    }
}

impl FromStr for Versions {
    type Err = String;

    /// `1.2,1.3`, with `TLSv` in front or without, as in Elasticsearch's `supported_protocols`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut versions = Self { v12: false, v13: false };
        for word in text.split(',').map(str::trim) {
            match word.trim_start_matches("TLSv") {
                "1.2" => versions.v12 = true,
                "1.3" => versions.v13 = true,
                _ => return Err(format!("[{word}] is none of 1.2, 1.3")),
            }
        }
        Ok(versions)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.v12, self.v13) {
            (true, true) => "1.2,1.3",
            (true, false) => "1.2",
            _ => "1.3",
        })
    }
}

/// Whether clients show certificates; Elasticsearch's `xpack.security.http.ssl.client_authentication`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// They are asked; one that is shown must be good.
    Optional,
    /// Nobody comes in without.
    Required,
}

impl FromStr for ClientAuth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "optional" => Ok(Self::Optional),
            "required" => Ok(Self::Required),
            other => Err(format!("[{other}] is none of none, optional, required")),
        }
    }
}

impl fmt::Display for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Optional => "optional",
            Self::Required => "required",
        })
    }
}

/// How Elasticsearch's certificate is verified; its own `verification_mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Signed by a trusted authority, valid now, and for the name that we connect to.
    #[default]
    Full,
    /// The same for whatever name.
    Certificate,
    /// Not at all: whoever is between us and Elasticsearch reads and changes everything.
    None,
}

impl FromStr for Verify {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "full" => Ok(Self::Full),
            "certificate" => Ok(Self::Certificate),
            "none" => Ok(Self::None),
            other => Err(format!("[{other}] is none of full, certificate, none")),
        }
    }
}

impl fmt::Display for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Certificate => "certificate",
            Self::None => "none",
        })
    }
}

/// SHA-256 of a certificate's DER form, as Elasticsearch prints it at its first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate.
    pub fn of(certificate: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    /// 64 hexadecimal digits, with colons between pairs or without, in either case.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("[{text}] is no SHA-256 fingerprint: 64 hexadecimal digits, colons allowed");
        let digits: Vec<u8> = text
            .bytes()
            .filter(|byte| *byte != b':')
            .map(|byte| char::from(byte).to_digit(16).map(|digit| digit as u8))
            .collect::<Option<_>>()
            .ok_or_else(wrong)?;
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return Err(wrong());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_elasticsearch_writes_them_too() {
        for (text, printed) in
            [("1.2,1.3", "1.2,1.3"), ("TLSv1.3", "1.3"), ("1.2", "1.2"), ("1.3, 1.2", "1.2,1.3")]
        {
            assert_eq!(text.parse::<Versions>().unwrap().to_string(), printed);
        }
        for wrong in ["", "1.1", "TLSv1", "1.2,1.1"] {
            wrong.parse::<Versions>().unwrap_err();
        }
    }

    #[test]
    fn fingerprints_are_read_in_every_form_that_tools_print() {
        let plain = Fingerprint::of(b"abc");
        assert_eq!(plain.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let colons: Vec<String> = plain
            .to_string()
            .to_uppercase()
            .as_bytes()
            .chunks(2)
            .map(|pair| String::from_utf8_lossy(pair).into_owned())
            .collect();
        assert_eq!(colons.join(":").parse::<Fingerprint>().unwrap(), plain);
        for wrong in ["", "ba78", "zz7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"] {
            wrong.parse::<Fingerprint>().unwrap_err();
        }
    }
}
