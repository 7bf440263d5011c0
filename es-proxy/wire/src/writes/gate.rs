//! A bulk whose items are let through one by one while it streams. What goes through keeps its bytes; what is
//! refused is remembered by its position, so that [`crate::ItemSplicer`] can put it into the response.
//!
//! Lines that are not understood here end the request: an item that we read in another way than Elasticsearch
//! would get past whoever judges.

use std::borrow::Cow;
use std::collections::HashMap;

use memchr::memchr;
use serde::Deserialize;

use crate::json::push_json_string;
use crate::writes::action::Operation;

/// The longest line that is taken. It is held until its end is there.
const MAX_LINE: usize = 32 << 20;
/// All that may be remembered of refused items.
const MAX_REFUSED: usize = 16 << 20;

/// One item of a bulk, read far enough to be judged.
#[derive(Clone, Copy, Debug)]
pub struct BulkItem<'a> {
    /// What is done.
    pub operation: Operation,
    /// Its index, or that of the URL.
    pub index: &'a str,
    /// The document or the change; empty for a deletion.
    pub source: &'a [u8],
}

/// Why an item does not get through.
#[derive(Clone, Debug)]
pub struct ItemRefusal {
    /// The item's `status`.
    pub status: u16,
    /// The item's `error`, as JSON.
    pub error: String,
}

/// A refused item: its position in the request, and what the response says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedItem {
    /// Counted from 0.
    pub position: usize,
    /// Where it was to go.
    pub index: Box<str>,
    /// Its status.
    pub status: u16,
    /// An element of `items`.
    pub json: String,
    /// How much of it says which document it is.
    head: usize,
}

impl RefusedItem {
    #[cfg(test)]
    pub(super) fn plain(position: usize, json: String) -> Self {
        Self { position, index: "i".into(), status: 403, head: json.len(), json }
    }

    /// Another reason for the refusal.
    pub fn refuse_for(&mut self, refusal: &ItemRefusal) {
        self.json.truncate(self.head);
        self.status = refusal.status;
        push_refusal(&mut self.json, refusal);
    }
}

/// Why the request as a whole cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// Not what `_bulk` takes, or written so that only Elasticsearch can read it.
    #[error("Malformed action/metadata line [{0}]")]
    Malformed(usize),
    /// A line is longer than what is held.
    #[error("line [{0}] is too long")]
    LineTooLong(usize),
    /// More items were refused than what is remembered.
    #[error("too many items were refused: send fewer at once")]
    TooManyRefused,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, default, rename = "_index")]
    index: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "_id")]
    id: Option<Scalar<'a>>,
}

/// Elasticsearch takes numbers for ids, too.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Other(serde_json::Value),
}

/// An action whose source comes next.
struct Pending {
    /// Its line, with its end.
    line: Vec<u8>,
    action: Action,
}

struct Action {
    word: &'static str,
    operation: Operation,
    index: String,
    id: Option<String>,
}

/// See the head of this file.
pub struct BulkGate {
    /// The index in the URL.
    index: Option<String>,
    /// The beginning of a line.
    carry: Vec<u8>,
    pending: Option<Pending>,
    lines: usize,
    items: usize,
    refused: Vec<RefusedItem>,
    refused_bytes: usize,
}

impl BulkGate {
    /// `index` is the one in the URL.
    pub fn new(index: Option<String>) -> Self {
        Self {
            index,
            carry: Vec::new(),
            pending: None,
            lines: 0,
            items: 0,
            refused: Vec::new(),
            refused_bytes: 0,
        }
    }

    /// Reads the next bytes; what goes through is appended to `out`.
    pub fn feed(
        &mut self,
        mut chunk: &[u8],
        out: &mut Vec<u8>,
        judge: &mut dyn FnMut(&BulkItem<'_>) -> Result<(), ItemRefusal>,
    ) -> Result<(), GateError> {
        while let Some(end) = memchr(b'\n', chunk) {
            let (line, rest) = chunk.split_at(end + 1);
            chunk = rest;
            if self.carry.is_empty() {
                self.line(line, out, judge)?;
            } else {
                self.carry_on(line)?;
                let whole = std::mem::take(&mut self.carry);
                self.line(&whole, out, judge)?;
            }
        }
        self.carry_on(chunk)
    }

    /// The end of the request. A last line without its end goes on as it is: it is Elasticsearch's to refuse.
    pub fn finish(
        &mut self,
        out: &mut Vec<u8>,
        judge: &mut dyn FnMut(&BulkItem<'_>) -> Result<(), ItemRefusal>,
    ) -> Result<(), GateError> {
        let last = std::mem::take(&mut self.carry);
        if !last.is_empty() {
            self.line(&last, out, judge)?;
        }
        if let Some(pending) = self.pending.take() {
            out.extend_from_slice(&pending.line);
        }
        Ok(())
    }

    /// Items that were judged.
    pub fn items(&self) -> usize {
        self.items
    }

    /// How many did not get through so far.
    pub fn refused(&self) -> usize {
        self.refused.len()
    }

    /// Bytes that are remembered of the request.
    pub fn held(&self) -> usize {
        let pending = self.pending.as_ref().map_or(0, |pending| pending.line.len());
        self.refused_bytes + self.carry.len() + pending
    }

    /// What did not get through, in the order of the request.
    pub fn take_refused(&mut self) -> Vec<RefusedItem> {
        std::mem::take(&mut self.refused)
    }

    fn carry_on(&mut self, bytes: &[u8]) -> Result<(), GateError> {
        if self.carry.len() + bytes.len() > MAX_LINE {
            return Err(GateError::LineTooLong(self.lines + 1));
        }
        self.carry.extend_from_slice(bytes);
        Ok(())
    }

    fn line(
        &mut self,
        line: &[u8],
        out: &mut Vec<u8>,
        judge: &mut dyn FnMut(&BulkItem<'_>) -> Result<(), ItemRefusal>,
    ) -> Result<(), GateError> {
        self.lines += 1;
        if let Some(pending) = self.pending.take() {
            self.item(&pending.action, &pending.line, line, out, judge)
        } else if line.trim_ascii().is_empty() {
            out.extend_from_slice(line);
            Ok(())
        } else {
            let action = self.action(line).ok_or(GateError::Malformed(self.lines))?;
            if action.operation == Operation::Delete {
                self.item(&action, line, &[], out, judge)
            } else {
                self.pending = Some(Pending { line: line.to_vec(), action });
                Ok(())
            }
        }
    }

    fn action(&self, line: &[u8]) -> Option<Action> {
        let mut read: HashMap<Cow<'_, str>, Meta<'_>> = serde_json::from_slice(line).ok()?;
        let (word, meta) = match read.len() {
            1 => read.drain().next()?,
            _ => return None,
        };
        let (word, operation) = match &*word {
            "index" => ("index", Operation::Index),
            "create" => ("create", Operation::Index),
            "update" => ("update", Operation::Update),
            "delete" => ("delete", Operation::Delete),
            _ => return None,
        };
        let index = meta.index.map(Cow::into_owned).or_else(|| self.index.clone())?;
        let id = match meta.id {
            None => None,
            Some(Scalar::Text(id)) => Some(id.into_owned()),
            Some(Scalar::Other(id)) => Some(id.to_string()),
        };
        Some(Action { word, operation, index, id })
    }

    fn item(
        &mut self,
        action: &Action,
        line: &[u8],
        source: &[u8],
        out: &mut Vec<u8>,
        judge: &mut dyn FnMut(&BulkItem<'_>) -> Result<(), ItemRefusal>,
    ) -> Result<(), GateError> {
        let position = self.items;
        self.items += 1;
        let item = BulkItem { operation: action.operation, index: &action.index, source };
        let Err(refusal) = judge(&item) else {
            out.extend_from_slice(line);
            out.extend_from_slice(source);
            return Ok(());
        };
        let item = refused(action, position, &refusal);
        self.refused_bytes += item.json.len() + item.index.len() + size_of::<RefusedItem>();
        if self.refused_bytes > MAX_REFUSED {
            return Err(GateError::TooManyRefused);
        }
        self.refused.push(item);
        Ok(())
    }
}

/// The item of the response, with the keys in Elasticsearch's order.
fn refused(action: &Action, position: usize, refusal: &ItemRefusal) -> RefusedItem {
    let mut json = format!("{{\"{}\":{{\"_index\":", action.word);
    push_json_string(&mut json, &action.index);
    json.push_str(",\"_id\":");
    match &action.id {
        Some(id) => push_json_string(&mut json, id),
        None => json.push_str("null"),
    }
    let head = json.len();
    push_refusal(&mut json, refusal);
    RefusedItem { position, index: action.index.as_str().into(), status: refusal.status, json, head }
}

fn push_refusal(json: &mut String, refusal: &ItemRefusal) {
    json.push_str(&format!(",\"status\":{},\"error\":{}}}}}", refusal.status, refusal.error));
}

#[cfg(test)]
mod tests {
    use super::*;

    const BULK: &str = "{\"index\":{\"_id\":\"1\"}}\n{\"a\":1}\n\n{\"delete\":{\"_index\":\"x\",\"_id\":2}}\r\n\
                        {\"create\":{\"_index\":\"x\"}}\n{\"b\":\"no\"}\n{ \"update\" : {\"_id\":\"3\"} }\n{\"doc\":{}}\n";

    /// What goes through where sources that hold `no` are refused.
    fn through(
        index: Option<&str>,
        text: &str,
        chunk: usize,
    ) -> Result<(String, Vec<RefusedItem>), GateError> {
        let mut gate = BulkGate::new(index.map(str::to_owned));
        let mut judge = |item: &BulkItem<'_>| {
            let refused = item.source.windows(2).any(|pair| pair == b"no");
            let error = format!("{{\"type\":\"t\",\"reason\":\"{}\"}}", item.index);
            if refused { Err(ItemRefusal { status: 403, error }) } else { Ok(()) }
        };
        let mut out = Vec::new();
        for part in text.as_bytes().chunks(chunk) {
            gate.feed(part, &mut out, &mut judge)?;
        }
        gate.finish(&mut out, &mut judge)?;
        Ok((String::from_utf8(out).unwrap(), gate.take_refused()))
    }

    #[test]
    fn what_goes_through_keeps_its_bytes_whatever_the_chunks() {
        for chunk in [1, 2, 7, 1000] {
            let (out, mut refused) = through(Some("i"), BULK, chunk).unwrap();
            assert_eq!(out, BULK.replace("{\"create\":{\"_index\":\"x\"}}\n{\"b\":\"no\"}\n", ""));
            let json =
                r#"{"create":{"_index":"x","_id":null,"status":403,"error":{"type":"t","reason":"x"}}}"#;
            assert_eq!((refused.len(), refused[0].position, refused[0].json.as_str()), (1, 2, json));
            refused[0].refuse_for(&ItemRefusal { status: 401, error: "{}".into() });
            assert_eq!(refused[0].json, r#"{"create":{"_index":"x","_id":null,"status":401,"error":{}}}"#);
            let all = BULK.replace("no", "yes");
            assert_eq!(through(Some("i"), &all, chunk).unwrap(), (all, vec![]));
        }
    }

    #[test]
    fn what_cannot_be_judged_ends_the_request() {
        for (index, text, line) in [
            (None, "{\"index\":{}}\n{}\n", 1),
            (Some("i"), "{\"index\":{}}\n{}\nnonsense\n", 3),
            (Some("i"), "{\"index\":{},\"create\":{}}\n{}\n", 1),
            (Some("i"), "/* a comment */{\"index\":{\"_index\":\"j\"}}\n{}\n", 1),
            (Some("i"), "{\"upsert\":{}}\n{}\n", 1),
            (Some("i"), "{\"index\":{\"_index\":5}}\n{}\n", 1),
        ] {
            assert_eq!(through(index, text, 9).unwrap_err(), GateError::Malformed(line), "{text}");
        }
        // Keys are read as Elasticsearch reads them, however they are spelt.
        let escaped = "{\"\\u0069ndex\":{\"_ind\\u0065x\":\"x\"}}\n{\"no\":1}\n";
        assert_eq!(through(Some("i"), escaped, 5).unwrap().1[0].position, 0);
    }

    #[test]
    fn a_last_line_without_its_end_is_left_to_elasticsearch() {
        for text in ["{\"index\":{}}\n{\"a\":1}", "{\"index\":{}}\n", "{\"delete\":{\"_id\":\"1\"}}"] {
            assert_eq!(through(Some("i"), text, 3).unwrap(), (text.to_owned(), vec![]));
        }
        assert_eq!(through(Some("i"), "{\"index\":{}}\n{\"no\":1}", 3).unwrap().0, "");
    }

    #[test]
    fn what_is_held_has_a_limit() {
        let mut gate = BulkGate::new(Some("i".into()));
        let mut out = Vec::new();
        let mut fine = |_: &BulkItem<'_>| Ok(());
        gate.feed(b"{\"index\":{}}\n", &mut out, &mut fine).unwrap();
        let part = vec![b' '; 1 << 20];
        let error = (0..64).find_map(|_| gate.feed(&part, &mut out, &mut fine).err());
        assert_eq!(error, Some(GateError::LineTooLong(2)));

        let mut gate = BulkGate::new(Some("i".into()));
        let mut never = |_: &BulkItem<'_>| Err(ItemRefusal { status: 403, error: "x".repeat(1 << 20) });
        let error = (0..64).find_map(|_| gate.feed(b"{\"index\":{}}\n{}\n", &mut out, &mut never).err());
        assert_eq!(error, Some(GateError::TooManyRefused));
    }
}
