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

/// What the value of [`META_KEY`] says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) options: IvfOptions,
    /// The field names another index type than `ivf`, and keeps it: we index it beside.
    pub(crate) adopted: bool,
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

impl Stored {
    /// Of a field whose index type is `ivf`.
    pub(super) fn ivf(options: IvfOptions) -> Self {
        Self { options, adopted: false }
    }

    /// The value of [`META_KEY`]; at most 50 characters, as Elasticsearch allows.
    pub(super) fn text(&self) -> String {
        let options = &self.options;
        let words: Vec<String> = [
            self.adopted.then(|| ADOPTED.to_owned()),
            options.nlist.map(|nlist| format!("nlist={nlist}")),
            options.nprobe.map(|nprobe| format!("nprobe={nprobe}")),
            options.recall.map(|recall| format!("recall={recall}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if words.is_empty() { NO_OPTIONS.to_owned() } else { words.join(" ") }
    }

    /// Reads what [`Stored::text`] wrote. `None` for anything else: somebody else's, or from the future.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut stored = Self::ivf(IvfOptions::default());
        if text == NO_OPTIONS {
            return Some(stored);
        }
        for (at, word) in text.split(' ').enumerate() {
            if at == 0 && word == ADOPTED {
                stored.adopted = true;
                continue;
            }
            let (key, value) = word.split_once('=')?;
            match key {
                "nlist" => stored.options.nlist = Some(value.parse().ok()?),
                "nprobe" => stored.options.nprobe = Some(value.parse().ok()?),
                "recall" => stored.options.recall = Some(value.parse().ok()?),
                _ => return None,
            }
        }
        Some(stored)
    }
}

/// The options as the client may have written them in `index_options`.
pub(super) fn shown_options(options: &IvfOptions) -> String {
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
