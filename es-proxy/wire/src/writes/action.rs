//! The line of a bulk that says what is done to which document, and the envelope of an update.

use crate::scan::Malformed;
use crate::writes::cursor::{Cursor, Odd, members};
use crate::writes::document::{Fields, Numbers, Value};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `index` and `create`: the source is the document.
    Index,
    /// The source says how the document changes.
    Update,
    /// The document goes; there is no source.
    Delete,
}

/// An action line. `None` where the line does not say: the URL's value holds then.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Action {
    pub(super) operation: Operation,
    pub(super) index: Option<String>,
    pub(super) id: Option<String>,
    pub(super) routing: Option<String>,
    pub(super) pipeline: Option<String>,
}

/// Reads an action line; `Ok(None)` for a blank one. Odd is what Elasticsearch refuses, with the whole
/// bulk, and what a later version may add.
pub(super) fn read(line: &[u8]) -> Result<Option<Action>, Odd> {
    let mut cursor = Cursor::new(line);
    if cursor.peek().is_none() {
        return Ok(None);
    }
    cursor.take(b'{')?;
    let operation = match cursor.string()?.0 {
        b"index" | b"create" => Operation::Index,
        b"update" => Operation::Update,
        b"delete" => Operation::Delete,
        _ => return Err(Malformed),
    };
    cursor.take(b':')?;
    let mut action = Action { operation, index: None, id: None, routing: None, pipeline: None };
    members(&mut cursor, |key, cursor| {
        let slot = match key {
            b"_index" => &mut action.index,
            b"_id" => &mut action.id,
            b"routing" => &mut action.routing,
            b"pipeline" => &mut action.pipeline,
            // They decide whether the write succeeds, or what Elasticsearch returns of it.
            b"version"
            | b"version_type"
            | b"if_seq_no"
            | b"if_primary_term"
            | b"op_type"
            | b"retry_on_conflict"
            | b"require_alias"
            | b"require_data_stream"
            | b"dynamic_templates"
            | b"_source" => return cursor.skip(),
            _ => return Err(Malformed),
        };
        if cursor.peek() == Some(b'n') {
            return cursor.literal(b"null");
        }
        *slot = Some(cursor.text()?);
        Ok(())
    })?;
    cursor.take(b'}')?;
    cursor.end()?;
    Ok(Some(action))
}

/// What the source of an update leaves of the vectors; `Ok(None)` where the source does not tell all of
/// them. A part of a document tells a field only by naming it.
pub(super) fn read_update(source: &[u8], fields: &Fields) -> Result<Option<Box<[Value]>>, Odd> {
    let mut cursor = Cursor::new(source);
    let mut found = None;
    let mut hidden = false;
    members(&mut cursor, |key, cursor| match key {
        b"doc" => {
            found = Some(fields.read(cursor, Numbers::ByWayOfDouble)?);
            Ok(())
        }
        b"doc_as_upsert" | b"detect_noop" | b"_source" | b"if_seq_no" | b"if_primary_term" => cursor.skip(),
        // A script, another document where there was none, or what we don't know.
        _ => {
            hidden = true;
            cursor.skip()
        }
    })?;
    cursor.end()?;
    Ok(found.filter(|found| !hidden && !found.contains(&Value::Missing)))
}
