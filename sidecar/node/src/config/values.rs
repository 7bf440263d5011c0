//! Kinds of values that settings have: read by their `FromStr`, wherever they come from.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::Deserialize;

/// A value kept as written and read by its `FromStr`, in the file too.
#[derive(Clone, Debug)]
pub(crate) struct Word<T>(pub(super) T);

impl<T: FromStr<Err = String>> FromStr for Word<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Word)
    }
}

impl<'de, T: FromStr<Err = String>> Deserialize<'de> for Word<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The name of a header.
#[derive(Clone, Debug)]
pub(crate) struct HeaderName(pub(super) http::HeaderName);

impl FromStr for HeaderName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("[{text}] is no name of a header"))
    }
}

/// Networks, or single addresses, after commas.
#[derive(Clone, Debug)]
pub(crate) struct Networks(pub(super) Vec<IpNet>);

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |text: &str| {
            let net = text.parse::<IpNet>().ok().or_else(|| Some(text.parse::<IpAddr>().ok()?.into()));
            net.ok_or_else(|| format!("[{text}] is no network; write 10.0.0.0/8 or 192.168.1.7"))
        };
        text.split(',').map(str::trim).map(one).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(IpNet::to_string).collect();
        f.write_str(&all.join(","))
    }
}

/// What becomes of a `dense_vector` that names no `index_options`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unspecified {
    Ivf,
    Elasticsearch,
}

impl FromStr for Unspecified {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ivf" => Ok(Self::Ivf),
            "elasticsearch" => Ok(Self::Elasticsearch),
            other => Err(format!("[{other}] is none of ivf, elasticsearch")),
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Json,
    Text,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            other => Err(format!("[{other}] is none of json, text")),
        }
    }
}
