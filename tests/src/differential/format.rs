//! How a body travels: Elasticsearch reads and writes JSON, YAML, CBOR and SMILE, compressed or not.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::Value;

use super::request::{Body, Request};

/// See the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Format {
    Json,
    /// Indented, as people and Kibana send it.
    Indented,
    /// With the vendor's media type, as official clients send it.
    Compatible,
    Yaml,
    Cbor,
    Smile,
    /// Compressed both ways.
    Gzip,
    /// A GET whose body stands in the URL.
    InUrl,
    /// A GET with a body.
    GetWithBody,
}

impl Format {
    pub(super) const ALL: [(&'static str, Format); 9] = [
        ("JSON", Format::Json),
        ("JSON, indented", Format::Indented),
        ("`application/vnd.elasticsearch+json`", Format::Compatible),
        ("YAML", Format::Yaml),
        ("CBOR", Format::Cbor),
        ("SMILE", Format::Smile),
        ("gzip", Format::Gzip),
        ("GET with `?source=`", Format::InUrl),
        ("GET with a body", Format::GetWithBody),
    ];
}

type Encoded = (String, Vec<(&'static str, String)>, Vec<u8>);

/// Path, headers and bytes of a request. What only JSON can say travels as JSON.
pub(super) fn encoded(request: &Request, fill: &impl Fn(&str) -> String) -> Encoded {
    let path = fill(&request.path);
    let json = |kind: &str| vec![("content-type", kind.to_owned())];
    let body = match &request.body {
        Body::Json(body) => filled(body, fill),
        Body::Lines(lines) => {
            let text: String = lines.iter().map(|line| format!("{}\n", filled(line, fill))).collect();
            return compressed(request.format, path, json("application/x-ndjson"), text.into_bytes());
        }
        Body::Text(text) => {
            return compressed(request.format, path, json("application/json"), fill(text).into_bytes());
        }
    };
    let text = body.to_string();
    match request.format {
        Format::Json | Format::Gzip | Format::GetWithBody => {
            compressed(request.format, path, json("application/json"), text.into_bytes())
        }
        Format::Indented => {
            let text = serde_json::to_string_pretty(&body).expect("JSON");
            (path, json("application/json; charset=utf-8"), text.into_bytes())
        }
        Format::Compatible => {
            let kind = format!("application/vnd.elasticsearch+json;compatible-with={}", major());
            (path, vec![("content-type", kind.clone()), ("accept", kind)], text.into_bytes())
        }
        Format::Yaml => {
            let text = serde_yaml_ng::to_string(&body).expect("YAML");
            (path, json("application/yaml"), text.into_bytes())
        }
        Format::Cbor => {
            (path, json("application/cbor"), cbor4ii::serde::to_vec(Vec::new(), &body).expect("CBOR"))
        }
        Format::Smile => (path, json("application/smile"), serde_smile::to_vec(&body).expect("SMILE")),
        Format::InUrl => {
            let source = escaped(&text);
            (format!("{path}?source_content_type=application%2Fjson&source={source}"), Vec::new(), Vec::new())
        }
    }
}

fn compressed(
    format: Format,
    path: String,
    mut headers: Vec<(&'static str, String)>,
    bytes: Vec<u8>,
) -> Encoded {
    if format != Format::Gzip {
        return (path, headers, bytes);
    }
    headers.push(("content-encoding", "gzip".to_owned()));
    headers.push(("accept-encoding", "gzip".to_owned()));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&bytes).expect("memory takes it");
    (path, headers, gzip.finish().expect("memory takes it"))
}

/// The method that a format needs.
pub(super) fn method(format: Format) -> Method {
    if matches!(format, Format::InUrl | Format::GetWithBody) { Method::GET } else { Method::POST }
}

/// What a response says, whatever it is written in; `Null` where it says nothing that we can read.
pub(super) fn decoded(headers: &[(String, String)], bytes: &[u8]) -> Value {
    let of = |name: &str| headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str());
    let mut plain = Vec::new();
    let bytes = if of("content-encoding") == "gzip" {
        GzDecoder::new(bytes).read_to_end(&mut plain).expect("gzip as announced");
        &plain
    } else {
        bytes
    };
    let kind = of("content-type");
    let read = if kind.contains("yaml") {
        serde_yaml_ng::from_slice(bytes).ok()
    } else if kind.contains("cbor") {
        cbor4ii::serde::from_slice(bytes).ok()
    } else if kind.contains("smile") {
        serde_smile::from_slice(bytes).ok()
    } else {
        serde_json::from_slice(bytes).ok()
    };
    read.unwrap_or(Value::Null)
}

fn filled(body: &Value, fill: &impl Fn(&str) -> String) -> Value {
    match body {
        Value::String(text) => Value::String(fill(text)),
        Value::Array(values) => values.iter().map(|value| filled(value, fill)).collect(),
        Value::Object(members) => {
            members.iter().map(|(key, value)| (fill(key), filled(value, fill))).collect()
        }
        other => other.clone(),
    }
}

/// As a part of a URL.
pub(super) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn major() -> u32 {
    if crate::Elasticsearch::version_at_least(9, 0) { 9 } else { 8 }
}
