//! Addresses in YAML as Elasticsearch writes it: block style, keys on lines of their own, lists at the
//! depth of their key.

use super::{Edits, MAX_DEPTH, NewAddress, NodeListing, Place, UnknownListing};

/// An object that the lines at `indent` belong to.
struct Block {
    indent: usize,
    place: Place,
    /// The value of the last key.
    last: Place,
}

pub(super) fn find(
    listing: NodeListing,
    answer: &str,
    edits: &mut Edits,
    new: NewAddress<'_>,
) -> Result<(), UnknownListing> {
    let whole = Place::Whole(listing);
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside_string = false;
    let mut start = 0;
    for line in answer.split_inclusive('\n') {
        let at = start;
        start += line.len();
        let line = line.trim_end_matches(['\n', '\r']);
        // A long string goes on in the lines below.
        if inside_string {
            inside_string = !ends_string(line);
            continue;
        }
        let content = line.trim_start_matches(' ');
        if content.is_empty() || line.starts_with("---") || line.starts_with("...") {
            continue;
        }
        let mut indent = line.len() - content.len();
        blocks.truncate(blocks.partition_point(|block| block.indent <= indent));
        let mut content = content;
        // An element of a list: its object's first key may stand on the same line.
        while let Some(rest) = content.strip_prefix("- ") {
            let list = blocks.last().map_or(&whole, |block| &block.last);
            let place = list.element();
            indent += 2;
            blocks.push(Block { indent, place, last: Place::Elsewhere });
            content = rest;
        }
        let Some((key, value)) = key_and_value(content) else {
            inside_string = opens_string(content);
            continue;
        };
        if blocks.last().is_none_or(|block| block.indent < indent) {
            let place = blocks.last().map_or(&whole, |block| &block.last).clone();
            blocks.push(Block { indent, place, last: Place::Elsewhere });
        }
        if blocks.len() > MAX_DEPTH {
            return Err(UnknownListing);
        }
        let block = blocks.last_mut().ok_or(UnknownListing)?;
        block.last = block.place.member(key);
        inside_string = opens_string(value);
        if let Place::Address(_) = block.last {
            if inside_string {
                return Err(UnknownListing);
            }
            let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            if let Some(address) = block.last.new_address(bare, new) {
                let from = at + (bare.as_ptr() as usize - line.as_ptr() as usize);
                edits.push(from..from + bare.len(), address.into_bytes());
            }
        }
    }
    if inside_string { Err(UnknownListing) } else { Ok(()) }
}

/// `key: value`, with an empty value where an object or a list follows below.
fn key_and_value(content: &str) -> Option<(&str, &str)> {
    let (key, rest) = match content.strip_prefix('"') {
        Some(quoted) => {
            let end = string_end(quoted)?;
            (&quoted[..end], &quoted[end + 1..])
        }
        None => {
            let end = content.find(": ").or_else(|| content.ends_with(':').then(|| content.len() - 1))?;
            (&content[..end], &content[end..])
        }
    };
    let value = rest.strip_prefix(':')?;
    (value.is_empty() || value.starts_with(' ')).then(|| (key, value.trim_start_matches(' ')))
}

/// Whether a quoted string begins here that the line does not end.
fn opens_string(value: &str) -> bool {
    value.strip_prefix('"').is_some_and(|quoted| string_end(quoted).is_none())
}

/// Whether a line inside a string has its closing quote.
fn ends_string(line: &str) -> bool {
    string_end(line).is_some()
}

/// Where the closing quote stands.
fn string_end(quoted: &str) -> Option<usize> {
    let mut escaped = false;
    quoted.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}
