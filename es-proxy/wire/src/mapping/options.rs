//! The options of `ivf`: read from a mapping, kept as one short string, shown again.

use knn_types::IvfOptions;
use serde_json::Value;

use super::MappingError;
use crate::json::Object;

/// The key of a field's `meta` under which our options are kept. Elasticsearch allows 20 characters.
pub const META_KEY: &str = "outrigger.ivf";

/// What is stored where no option is given.
const NO_OPTIONS: &str = "default";

/// The first word of what is stored for a field that Elasticsearch indexes by a type of its own.
const ADOPTED: &str = "adopted";

/// What is stored for a field that was ours: other nodes of ours must not take it for lost.
const RELEASED: &str = "released";

/// What the value of [`META_KEY`] says of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Key {
    /// Its index type is `ivf`.
    Ivf(IvfOptions),
    /// It names another index type, and keeps it: we index it beside.
    Adopted(IvfOptions),
    /// It was ours, and shall not be any more.
    Released,
}

const MAX_LISTS: u64 = 65_536;
const RECALL: std::ops::RangeInclusive<f64> = 0.5..=0.999;

/// Reads `{"type":"ivf",…}` of the field called `name`.
pub(super) fn read(name: &str, index_options: &Object<'_>) -> Result<IvfOptions, MappingError> {
    let mut options = IvfOptions::default();
    let mut unsupported = String::new();
    for (key, raw) in &index_options.entries {
        let value: Value = serde_json::from_str(raw.get()).unwrap_or(Value::Null);
        match &**key {
            "type" => {}
            "nlist" => options.nlist = Some(count(name, key, &value)?),
            "nprobe" => options.nprobe = Some(count(name, key, &value)?),
            "recall" => options.recall = Some(recall(name, &value)?),
            _ => unsupported.push_str(&format!(" [{key} : {}]", java_text(&value))),
        }
    }
    if !unsupported.is_empty() {
        return Err(MappingError {
            kind: "mapper_parsing_exception",
            reason: format!("Mapping definition for [{name}] has unsupported parameters: {unsupported}"),
        });
    }
    if options.nprobe.is_some() && options.recall.is_some() {
        return Err(bad_value(format!("[nprobe] and [recall] cannot both be set for field [{name}]")));
    }
    Ok(options)
}

impl Key {
    /// Our options, where the field is ours.
    pub(crate) fn options(self) -> Option<IvfOptions> {
        match self {
            Key::Ivf(options) | Key::Adopted(options) => Some(options),
            Key::Released => None,
        }
    }

    /// The value of [`META_KEY`]; at most 50 characters, as Elasticsearch allows.
    pub(crate) fn text(self) -> String {
        let Some(options) = self.options() else { return RELEASED.to_owned() };
        let words: Vec<String> = [
            matches!(self, Key::Adopted(_)).then(|| ADOPTED.to_owned()),
            options.nlist.map(|nlist| format!("nlist={nlist}")),
            options.nprobe.map(|nprobe| format!("nprobe={nprobe}")),
            options.recall.map(|recall| format!("recall={recall}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if words.is_empty() { NO_OPTIONS.to_owned() } else { words.join(" ") }
    }

    /// Reads what [`Key::text`] wrote. `None` for anything else: somebody else's, or from the future.
    pub(crate) fn read(text: &str) -> Option<Self> {
        match text {
            NO_OPTIONS => return Some(Key::Ivf(IvfOptions::default())),
            ADOPTED => return Some(Key::Adopted(IvfOptions::default())),
            RELEASED => return Some(Key::Released),
            _ => {}
        }
        let beside = text.strip_prefix(ADOPTED).and_then(|rest| rest.strip_prefix(' '));
        let mut options = IvfOptions::default();
        for word in beside.unwrap_or(text).split(' ') {
            let (key, value) = word.split_once('=')?;
            match key {
                "nlist" => options.nlist = Some(value.parse().ok()?),
                "nprobe" => options.nprobe = Some(value.parse().ok()?),
                "recall" => options.recall = Some(value.parse().ok()?),
                _ => return None,
            }
        }
        Some(if beside.is_some() { Key::Adopted(options) } else { Key::Ivf(options) })
    }
}

/// The options as the client may have written them in `index_options`.
pub(crate) fn shown_options(options: &IvfOptions) -> String {
    let mut out = String::from("{\"type\":\"ivf\"");
    if let Some(nlist) = options.nlist {
        out.push_str(&format!(",\"nlist\":{nlist}"));
    }
    if let Some(nprobe) = options.nprobe {
        out.push_str(&format!(",\"nprobe\":{nprobe}"));
    }
    if let Some(recall) = options.recall {
        out.push_str(&format!(",\"recall\":{recall}"));
    }
    out.push('}');
    out
}

fn count(name: &str, key: &str, value: &Value) -> Result<u32, MappingError> {
    match value.as_u64() {
        Some(count @ 1..=MAX_LISTS) => Ok(count as u32),
        _ => Err(bad_value(format!(
            "[{key}] must be an integer between 1 and {MAX_LISTS} for field [{name}], got [{}]",
            java_text(value)
        ))),
    }
}

fn recall(name: &str, value: &Value) -> Result<f32, MappingError> {
    match value.as_f64() {
        Some(recall) if RECALL.contains(&recall) => Ok(recall as f32),
        _ => Err(bad_value(format!(
            "[recall] must be a number between {} and {} for field [{name}], got [{}]",
            RECALL.start(),
            RECALL.end(),
            java_text(value)
        ))),
    }
}

pub(super) fn bad_value(reason: String) -> MappingError {
    MappingError { kind: "illegal_argument_exception", reason }
}

/// A value as Java prints it in a message: strings bare, maps as `{a=1}`.
fn java_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            format!("[{}]", list.iter().map(java_text).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}={}", java_text(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        other => other.to_string(),
    }
}
