//! TLS settings of all sides: which go together, and the parts that are made of them. Files are read here, so
//! that a wrong one is a wrong configuration.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use es_proxy::UpstreamAddress;
use es_tls::{
    ClientAuth, Reload, ServerSettings, ServerTls, TlsMetrics, UpstreamSettings, UpstreamTls, Verify,
};

use super::print::text;
use super::values::Word;
use super::{Layer, secret};

/// What is made of the settings.
pub(crate) struct Tls {
    /// With clients.
    pub(crate) server: Option<Arc<ServerTls>>,
    /// On the admin port.
    pub(crate) admin: Option<Arc<ServerTls>>,
    /// With Elasticsearch.
    pub(crate) upstream: Option<Arc<UpstreamTls>>,
    pub(crate) metrics: TlsMetrics,
    /// As they were set, for printing.
    server_settings: Option<ServerSettings>,
    upstream_settings: UpstreamSettings,
}

impl Tls {
    /// Reads the files. Things to warn of go to `warnings`.
    pub(super) fn open(
        layer: &Layer,
        upstream: &[UpstreamAddress],
        warnings: &mut Vec<String>,
    ) -> anyhow::Result<Self> {
        let metrics = TlsMetrics::default();
        let server_settings = server_settings(layer)?;
        let upstream_settings = upstream_settings(layer, upstream)?;
        let keys = server_settings.iter().map(|settings| &settings.key);
        let keys = keys.chain(upstream_settings.identity.iter().map(|(_, key)| key));
        warnings.extend(keys.filter_map(|key| secret::exposed(key)));

        let open = |settings: &ServerSettings| ServerTls::open(settings.clone(), &metrics);
        let server = server_settings.as_ref().map(open).transpose().context("TLS with clients")?;
        let admin = match (&server_settings, layer.admin_tls.unwrap_or(false)) {
            (_, false) => None,
            (None, true) => bail!("admin_tls needs tls_certificate and tls_key"),
            (Some(settings), true) => {
                let settings = ServerSettings {
                    name: "admin",
                    client_auth: ClientAuth::None,
                    client_ca: None,
                    ..settings.clone()
                };
                Some(open(&settings).context("TLS of the admin port")?)
            }
        };
        let upstream = if upstream.iter().any(|node| node.tls) {
            let opened = UpstreamTls::open(upstream_settings.clone(), &metrics);
            Some(opened.context("TLS with Elasticsearch (upstream_…)")?)
        } else {
            None
        };
        Ok(Self { server, admin, upstream, metrics, server_settings, upstream_settings })
    }

    /// Everything that is read from files, to be read again when those change.
    pub(crate) fn reloaded(&self) -> Vec<Arc<dyn Reload>> {
        let servers = self.server.iter().chain(&self.admin).map(|tls| Arc::clone(tls) as Arc<dyn Reload>);
        servers.chain(self.upstream.iter().map(|tls| Arc::clone(tls) as Arc<dyn Reload>)).collect()
    }

    /// Whether Elasticsearch may be anybody.
    pub(crate) fn is_unverified(&self) -> bool {
        self.upstream.as_ref().is_some_and(|tls| !tls.verifies())
    }

    /// Whether clients may show certificates.
    pub(super) fn asks_for_certificates(&self) -> bool {
        self.server_settings.as_ref().is_some_and(|settings| settings.client_auth != ClientAuth::None)
    }

    /// As keys of the file.
    pub(super) fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(server) = &self.server_settings {
            text(f, "tls_certificate", &server.certificate.display())?;
            text(f, "tls_key", &server.key.display())?;
            text(f, "tls_versions", &server.versions)?;
            text(f, "tls_client_auth", &server.client_auth)?;
            if let Some(file) = &server.client_ca {
                text(f, "tls_client_ca", &file.display())?;
            }
            writeln!(f, "admin_tls = {}", self.admin.is_some())?;
        }
        if self.upstream.is_none() {
            return Ok(());
        }
        let upstream = &self.upstream_settings;
        text(f, "upstream_verify", &upstream.verify)?;
        if let Some(file) = &upstream.ca {
            text(f, "upstream_ca", &file.display())?;
        }
        if let Some(fingerprint) = &upstream.fingerprint {
            text(f, "upstream_ca_fingerprint", fingerprint)?;
        }
        if let Some((certificate, key)) = &upstream.identity {
            text(f, "upstream_certificate", &certificate.display())?;
            text(f, "upstream_key", &key.display())?;
        }
        Ok(())
    }
}

fn server_settings(layer: &Layer) -> anyhow::Result<Option<ServerSettings>> {
    let Some((certificate, key)) =
        pair(&layer.tls_certificate, &layer.tls_key, "tls_certificate", "tls_key")?
    else {
        let others =
            [layer.tls_client_ca.is_some(), layer.tls_client_auth.is_some(), layer.tls_versions.is_some()];
        if others.contains(&true) {
            bail!("tls_client_ca, tls_client_auth and tls_versions need tls_certificate and tls_key");
        }
        return Ok(None);
    };
    let client_ca = layer.tls_client_ca.clone();
    let client_auth = match (&layer.tls_client_auth, &client_ca) {
        (Some(Word(ClientAuth::None)), Some(_)) => {
            bail!("tls_client_ca has no effect while tls_client_auth is none")
        }
        (None, Some(_)) => bail!("tls_client_ca needs tls_client_auth: optional or required"),
        (Some(Word(ClientAuth::Optional | ClientAuth::Required)), None) => {
            bail!("tls_client_auth needs tls_client_ca: who signs the clients' certificates")
        }
        (wanted, _) => wanted.as_ref().map_or(ClientAuth::None, |word| word.0),
    };
    let versions = layer.tls_versions.as_ref().map(|word| word.0).unwrap_or_default();
    Ok(Some(ServerSettings { name: "server", certificate, key, versions, client_auth, client_ca }))
}

fn upstream_settings(layer: &Layer, upstream: &[UpstreamAddress]) -> anyhow::Result<UpstreamSettings> {
    let settings = UpstreamSettings {
        verify: layer.upstream_verify.as_ref().map_or(Verify::Full, |word| word.0),
        ca: layer.upstream_ca.clone(),
        fingerprint: layer.upstream_ca_fingerprint.as_ref().map(|word| word.0),
        identity: pair(
            &layer.upstream_certificate,
            &layer.upstream_key,
            "upstream_certificate",
            "upstream_key",
        )?,
    };
    let set = [
        ("upstream_verify", layer.upstream_verify.is_some()),
        ("upstream_ca", settings.ca.is_some()),
        ("upstream_ca_fingerprint", settings.fingerprint.is_some()),
        ("upstream_certificate", settings.identity.is_some()),
    ];
    if let Some((name, _)) = set.iter().find(|(_, set)| *set)
        && !upstream.iter().any(|node| node.tls)
    {
        bail!("{name} has no effect: no upstream begins with https://");
    }
    if settings.ca.is_some() && settings.fingerprint.is_some() {
        bail!("upstream_ca and upstream_ca_fingerprint are two answers to one question; set one of them");
    }
    if settings.verify == Verify::None && (settings.ca.is_some() || settings.fingerprint.is_some()) {
        bail!("upstream_verify = none makes upstream_ca and upstream_ca_fingerprint useless");
    }
    Ok(settings)
}

/// A certificate and its key: both or none.
fn pair(
    certificate: &Option<PathBuf>,
    key: &Option<PathBuf>,
    certificate_name: &str,
    key_name: &str,
) -> anyhow::Result<Option<(PathBuf, PathBuf)>> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some((certificate.clone(), key.clone()))),
        (None, None) => Ok(None),
        (Some(_), None) => bail!("{certificate_name} needs {key_name}"),
        (None, Some(_)) => bail!("{key_name} needs {certificate_name}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;

    /// A self-signed pair named `a`, and the line of a file that names it.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(folder.path().join("a.crt"), certificate.pem()).unwrap();
        std::fs::write(folder.path().join("a.key"), key.serialize_pem()).unwrap();
        folder
    }

    fn load(folder: &Path, text: &str) -> anyhow::Result<Config> {
        let text = text.replace("AT", &folder.display().to_string());
        Config::from_layer(toml::from_str(&text)?)
    }

    const SERVER: &str = "tls_certificate = 'AT/a.crt'\ntls_key = 'AT/a.key'\n";
    const UPSTREAM: &str = "upstream = 'https://127.0.0.1:9200'\n";

    #[test]
    fn what_is_printed_says_the_same() {
        let folder = folder();
        let all = format!(
            "{SERVER}tls_versions = '1.3'\ntls_client_ca = 'AT/a.crt'\ntls_client_auth = 'optional'\nadmin_tls = true\n\
             {UPSTREAM}upstream_verify = 'certificate'\nupstream_ca = 'AT/a.crt'\nupstream_certificate = 'AT/a.crt'\n\
             upstream_key = 'AT/a.key'\n"
        );
        let config = load(folder.path(), &all).unwrap();
        let printed = config.to_string();
        assert_eq!(load(folder.path(), &printed).unwrap().to_string(), printed);
        for line in all.replace("AT", &folder.path().display().to_string()).replace('\'', "\"").lines() {
            assert!(printed.contains(line), "{line} is not in\n{printed}");
        }
        assert_eq!(config.tls.reloaded().len(), 3);
        assert!(!config.tls.is_unverified());
        let open = load(folder.path(), &format!("{UPSTREAM}upstream_verify = 'none'")).unwrap();
        assert!(open.tls.is_unverified());
    }

    #[test]
    fn settings_that_do_not_go_together_are_named() {
        let folder = folder();
        let print = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for (text, named) in [
            ("tls_certificate = 'AT/a.crt'".to_owned(), "tls_key"),
            ("tls_key = 'AT/a.key'".to_owned(), "tls_certificate"),
            ("tls_versions = '1.3'".to_owned(), "tls_certificate"),
            (format!("{SERVER}tls_versions = '1.1'"), "1.1"),
            (format!("{SERVER}tls_client_auth = 'required'"), "tls_client_ca"),
            (format!("{SERVER}tls_client_ca = 'AT/a.crt'"), "tls_client_auth"),
            ("tls_certificate = 'AT/a.key'\ntls_key = 'AT/a.key'".to_owned(), "holds no certificate"),
            ("tls_certificate = 'AT/a.crt'\ntls_key = 'AT/a.crt'".to_owned(), "holds no private key"),
            ("tls_certificate = 'AT/no'\ntls_key = 'AT/a.key'".to_owned(), "cannot be read"),
            ("admin_tls = true".to_owned(), "tls_certificate"),
            ("upstream_ca = 'AT/a.crt'".to_owned(), "https"),
            (format!("{UPSTREAM}upstream_ca_fingerprint = 'abc'"), "fingerprint"),
            (
                format!("{UPSTREAM}upstream_ca = 'AT/a.crt'\nupstream_ca_fingerprint = '{print}'"),
                "one of them",
            ),
            (format!("{UPSTREAM}upstream_ca = 'AT/a.crt'\nupstream_verify = 'none'"), "useless"),
            (format!("{UPSTREAM}upstream_key = 'AT/a.key'"), "upstream_certificate"),
        ] {
            let message = format!(
                "{:#}",
                load(folder.path(), &text).err().unwrap_or_else(|| panic!("{text} was taken"))
            );
            assert!(message.contains(named), "{text}: {message}");
        }
    }

    #[test]
    fn a_key_that_everybody_may_read_is_warned_of() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder();
        let key = folder.path().join("a.key");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(load(folder.path(), SERVER).unwrap().warnings.is_empty());
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let warnings = load(folder.path(), SERVER).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains("a.key"), "{warnings:?}");
    }
}
