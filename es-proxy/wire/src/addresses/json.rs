//! Addresses in JSON.

use super::{Edits, NewAddress, NodeListing, Place, UnknownListing};
use crate::json::push_json_string;
use crate::scan::{elements, members, unquote};

pub(super) fn find(
    listing: NodeListing,
    answer: &str,
    edits: &mut Edits,
    new: NewAddress<'_>,
) -> Result<(), UnknownListing> {
    visit(answer, answer.trim_ascii(), &Place::Whole(listing), edits, new)
}

/// Looks into `value`, a part of `answer`, only where it leads to addresses.
fn visit(
    answer: &str,
    value: &str,
    place: &Place,
    edits: &mut Edits,
    new: NewAddress<'_>,
) -> Result<(), UnknownListing> {
    match value.as_bytes().first() {
        _ if *place == Place::Elsewhere => {}
        Some(b'{') => {
            for member in members(value)? {
                visit(answer, member.value, &place.member(&unquote(member.key)?), edits, new)?;
            }
        }
        Some(b'[') => {
            for element in elements(value)? {
                visit(answer, element, &place.element(), edits, new)?;
            }
        }
        Some(b'"') => {
            if let Some(address) = place.new_address(&unquote(value)?, new) {
                let start = value.as_ptr() as usize - answer.as_ptr() as usize;
                let mut text = String::new();
                push_json_string(&mut text, &address);
                edits.push(start..start + value.len(), text.into_bytes());
            }
        }
        _ => {}
    }
    Ok(())
}
