//! Addresses in CBOR (RFC 8949). Lengths there count entries, not bytes, so a longer address moves nothing
//! but what comes after it.

use super::binary::Cursor;
use super::{Edits, MAX_DEPTH, NewAddress, NodeListing, Place, UnknownListing};

/// The end of what has no length of its own.
const BREAK: u8 = 0xff;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

pub(super) fn find(
    listing: NodeListing,
    answer: &[u8],
    edits: &mut Edits,
    new: NewAddress<'_>,
) -> Result<(), UnknownListing> {
    let mut walk = Walk { cursor: Cursor::new(answer), edits, new };
    walk.value(&Place::Whole(listing), 0)?;
    if walk.cursor.is_at_end() { Ok(()) } else { Err(UnknownListing) }
}

struct Walk<'a, 'b, 'c> {
    cursor: Cursor<'a>,
    edits: &'b mut Edits,
    new: NewAddress<'c>,
}

impl<'a> Walk<'a, '_, '_> {
    /// Major type, and its argument; `None` for a length that is told by a break.
    fn head(&mut self) -> Result<(u8, Option<u64>), UnknownListing> {
        let first = self.cursor.byte()?;
        let argument = match first & 0x1f {
            small @ 0..=23 => Some(u64::from(small)),
            size @ 24..=27 => {
                let bytes = self.cursor.take(1 << (size - 24))?;
                Some(bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
            }
            31 => None,
            _ => return Err(UnknownListing),
        };
        Ok((first >> 5, argument))
    }

    fn value(&mut self, place: &Place, depth: usize) -> Result<(), UnknownListing> {
        if depth > MAX_DEPTH {
            return Err(UnknownListing);
        }
        let start = self.cursor.at;
        match self.head()? {
            (TEXT, Some(length)) => {
                let text = self.text(length)?;
                if let Some(address) = place.new_address(text, self.new) {
                    self.edits.push(start..self.cursor.at, encoded(&address));
                }
            }
            (BYTES, Some(length)) => drop(self.cursor.take(size(length)?)?),
            (BYTES | TEXT, None) => {
                while !self.took_break()? {
                    let (BYTES | TEXT, Some(length)) = self.head()? else { return Err(UnknownListing) };
                    self.cursor.take(size(length)?)?;
                }
            }
            (ARRAY, count) => {
                let element = place.element();
                self.entries(count, |walk| walk.value(&element, depth + 1))?;
            }
            (MAP, count) => self.entries(count, |walk| {
                let (TEXT, Some(length)) = walk.head()? else { return Err(UnknownListing) };
                let key = walk.text(length)?;
                walk.value(&place.member(key), depth + 1)
            })?,
            (TAG, Some(_)) => self.value(place, depth + 1)?,
            // Numbers, `true`, `null`: all was in the head.
            (_, Some(_)) => {}
            (_, None) => return Err(UnknownListing),
        }
        Ok(())
    }

    fn entries(
        &mut self,
        count: Option<u64>,
        mut each: impl FnMut(&mut Self) -> Result<(), UnknownListing>,
    ) -> Result<(), UnknownListing> {
        match count {
            Some(count) => (0..count).try_for_each(|_| each(self)),
            None => {
                while !self.took_break()? {
                    each(self)?;
                }
                Ok(())
            }
        }
    }

    fn text(&mut self, length: u64) -> Result<&'a str, UnknownListing> {
        self.cursor.text(size(length)?)
    }

    fn took_break(&mut self) -> Result<bool, UnknownListing> {
        let is_break = self.cursor.peek()? == BREAK;
        self.cursor.at += usize::from(is_break);
        Ok(is_break)
    }
}

fn size(length: u64) -> Result<usize, UnknownListing> {
    length.try_into().map_err(|_| UnknownListing)
}

/// A string in its shortest form.
fn encoded(text: &str) -> Vec<u8> {
    let length = text.len();
    let mut out = match (u8::try_from(length), u16::try_from(length)) {
        (Ok(small @ 0..=23), _) => vec![TEXT << 5 | small],
        (Ok(byte), _) => vec![TEXT << 5 | 24, byte],
        (_, Ok(short)) => [vec![TEXT << 5 | 25], short.to_be_bytes().to_vec()].concat(),
        _ => [vec![TEXT << 5 | 27], (length as u64).to_be_bytes().to_vec()].concat(),
    };
    out.extend_from_slice(text.as_bytes());
    out
}
