//! Secrets: from files or the environment, never from flags, never printed. A file that others may read is
//! warned of.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, bail};
use serde::Deserialize;
use shard_sync::Auth;

/// A text that stays out of logs, errors and `Debug`.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// The text itself, for the one place that needs it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// From an environment variable; an empty one counts as absent.
    pub(crate) fn from_environment(name: &str) -> Option<Self> {
        std::env::var(name).ok().filter(|text| !text.is_empty()).map(Self)
    }

    /// From a file, without the white space around it.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("secret file {}", path.display()))?;
        let secret = text.trim().to_owned();
        if secret.is_empty() {
            bail!("secret file {} is empty", path.display());
        }
        Ok(Self(secret))
    }

    /// As credentials of our own calls.
    pub(crate) fn as_auth(&self) -> anyhow::Result<Auth> {
        if let Some(key) = self.0.strip_prefix("ApiKey ") {
            return Ok(Auth::ApiKey(key.trim().into()));
        }
        if let Some(token) = self.0.strip_prefix("Bearer ") {
            return Ok(Auth::Bearer(token.trim().into()));
        }
        match self.0.split_once(':') {
            Some((user, password)) if !user.is_empty() => {
                Ok(Auth::Basic { user: user.into(), password: password.into() })
            }
            _ => bail!("upstream_auth must be user:password, \"ApiKey …\" or \"Bearer …\""),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// By way of any value: an error about the type of a value shows the value.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => Ok(Self(text)),
            _ => Err(serde::de::Error::custom("a secret must be a text in quotes")),
        }
    }
}

/// A warning where everybody on the machine may read a file with a secret.
pub(crate) fn exposed(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    let warning = || {
        let path = path.display();
        format!(
            "{path} holds a secret and is open to everybody on this machine (mode {:04o}): chmod o= {path}",
            mode & 0o7777
        )
    };
    (mode & 0o007 != 0).then(warning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_open_to_everybody_are_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, " hunter2\n").unwrap();
        for (mode, warned) in [(0o644, true), (0o604, true), (0o640, false), (0o400, false)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let warning = exposed(&file);
            assert_eq!(warning.is_some(), warned, "{mode:o}");
            assert!(
                warning.is_none_or(|text| text.contains("token") && text.contains(&format!("{mode:04o}")))
            );
        }
        let secret = Secret::read(&file).unwrap();
        assert_eq!((secret.expose(), format!("{secret:?}").as_str()), ("hunter2", "***"));
    }
}
