//! Writes of the model as HTTP requests.

use std::collections::HashMap;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use serde_json::{Value, json};

use super::indices::INDICES;
use super::shared::Shared;
use super::step::{Act, Condition, Refresh, Style, Write};

/// `_primary_term` and `_seq_no` of the newest acknowledged write, by index, id and routing.
pub(super) type Known = HashMap<(usize, String, Option<String>), (u64, u64)>;

/// A request that is ready to be sent.
#[derive(Debug)]
pub(super) struct Request {
    /// Method.
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    /// Headers.
    pub(super) headers: Vec<(&'static str, &'static str)>,
    /// Body.
    pub(super) body: Vec<u8>,
}

/// A write with its names and numbers filled in.
#[derive(Debug)]
pub(super) struct Filled {
    /// `None`: Elasticsearch makes one.
    pub(super) id: Option<String>,
    /// `routing`.
    pub(super) routing: Option<String>,
    action: &'static str,
    condition: Vec<(&'static str, Value)>,
    body: Option<Value>,
}

/// Some ids must be escaped in URLs, some in JSON.
pub(super) fn id_of(number: u32) -> String {
    match number {
        0 => "ü/0 +%".to_owned(),
        1 => "quote\"1\\".to_owned(),
        2 => "日本".to_owned(),
        n if n >= 1_000 => format!("b{n}"),
        n => format!("d{n}"),
    }
}

fn escaped(id: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    id.bytes().map(|b| if unreserved(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Fills in a write and notes what it may do.
pub(super) fn fill(shared: &Shared, known: &Known, index: usize, write: &Write) -> Filled {
    let number = shared.number();
    let id = write.id.map(id_of);
    let routing = write.routing.map(|routing| format!("r{routing}"));
    let newest = id.as_ref().and_then(|id| known.get(&(index, id.clone(), routing.clone())));
    let if_seq_no =
        |term: u64, seq_no: u64| vec![("if_seq_no", json!(seq_no)), ("if_primary_term", json!(term))];
    let condition = match (write.condition, newest) {
        (Condition::Current, Some((term, seq_no))) => if_seq_no(*term, *seq_no),
        (Condition::Stale, Some((term, seq_no))) => if_seq_no(*term, seq_no + 1_000_000),
        (Condition::External, _) => vec![("version", json!(number)), ("version_type", json!("external"))],
        _ => Vec::new(),
    };
    let (action, body, unnumbers) = match &write.act {
        Act::Index(doc) => ("index", Some(doc.json(number)), doc.unnumbers(false)),
        Act::Create(doc) => ("create", Some(doc.json(number)), doc.unnumbers(false)),
        Act::Update(part) => ("update", Some(json!({"doc": part.json(number)})), part.unnumbers(true)),
        Act::UpdateAsUpsert(part) => {
            ("update", Some(json!({"doc": part.json(number), "doc_as_upsert": true})), part.unnumbers(true))
        }
        Act::UpdateOrUpsert(part, doc) => {
            let body = json!({"doc": part.json(number), "upsert": doc.json(number)});
            ("update", Some(body), part.unnumbers(true))
        }
        Act::UpdateNothing { detect_noop } => {
            ("update", Some(json!({"doc": {}, "detect_noop": detect_noop})), false)
        }
        Act::Delete => ("delete", None, true),
    };
    if let Some(id) = &id {
        if unnumbers {
            shared.attempt_removal(index, id, number);
        }
        shared.attempt_write(index, id, routing.as_deref(), number);
    }
    Filled { id, routing, action, condition, body }
}

/// One of the document APIs.
pub(super) fn single(index: usize, write: &Filled, refresh: Refresh) -> Request {
    let name = INDICES[index].name;
    let id = write.id.as_deref().map(escaped);
    let (method, endpoint) = match (write.action, id) {
        ("create", Some(id)) => (Method::PUT, format!("_create/{id}")),
        ("update", Some(id)) => (Method::POST, format!("_update/{id}")),
        ("delete", Some(id)) => (Method::DELETE, format!("_doc/{id}")),
        (_, Some(id)) => (Method::PUT, format!("_doc/{id}")),
        (_, None) => (Method::POST, "_doc".to_owned()),
    };
    let mut parameters: Vec<String> = Vec::new();
    parameters.extend(refresh_parameter(refresh));
    parameters.extend(write.routing.as_ref().map(|routing| format!("routing={routing}")));
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    parameters.extend(write.condition.iter().map(|(key, value)| format!("{key}={}", text(value))));
    let headers = if write.body.is_some() { vec![("content-type", "application/json")] } else { Vec::new() };
    Request {
        method,
        path: with_parameters(&format!("/{name}/{endpoint}"), &parameters),
        headers,
        body: write.body.as_ref().map_or_else(Vec::new, |body| body.to_string().into_bytes()),
    }
}

/// `_bulk`.
pub(super) fn bulk(index: usize, writes: &[Filled], style: Style, refresh: Refresh) -> Request {
    let name = INDICES[index].name;
    let end = if style.crlf { "\r\n" } else { "\n" };
    let mut text = String::new();
    for write in writes {
        let mut action = json!({});
        if style.index_in_lines {
            action["_index"] = json!(name);
        }
        if let Some(id) = &write.id {
            action["_id"] = json!(id);
        }
        if let Some(routing) = &write.routing {
            action["routing"] = json!(routing);
        }
        for (key, value) in &write.condition {
            action[*key] = value.clone();
        }
        text.push_str(&json!({write.action: action}).to_string());
        text.push_str(end);
        if let Some(body) = &write.body {
            text.push_str(&body.to_string());
            text.push_str(end);
        }
        if style.blank_lines {
            text.push_str(end);
        }
    }
    let path = if style.index_in_lines { "/_bulk".to_owned() } else { format!("/{name}/_bulk") };
    let mut parameters: Vec<String> = refresh_parameter(refresh).into_iter().collect();
    if style.hidden {
        parameters.push("filter_path=errors".to_owned());
    }
    let mut headers = vec![("content-type", "application/x-ndjson")];
    let mut body = text.into_bytes();
    if style.gzip {
        headers.push(("content-encoding", "gzip"));
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let written = encoder.write_all(&body).and_then(|()| encoder.finish());
        body = written.expect("a Vec can be written to");
    }
    Request { method: Method::POST, path: with_parameters(&path, &parameters), headers, body }
}

fn refresh_parameter(refresh: Refresh) -> Option<String> {
    let text = match refresh {
        Refresh::No => return None,
        Refresh::True => "refresh=true",
        Refresh::Empty => "refresh",
        Refresh::WaitFor => "refresh=wait_for",
    };
    Some(text.to_owned())
}

fn with_parameters(path: &str, parameters: &[String]) -> String {
    if parameters.is_empty() { path.to_owned() } else { format!("{path}?{}", parameters.join("&")) }
}
