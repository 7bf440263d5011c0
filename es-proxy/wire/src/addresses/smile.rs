//! Addresses in SMILE, the binary JSON of Jackson. Keys that were written before come as references to a
//! table, which is kept here as a reader keeps it. Values may be shared in the same way; Elasticsearch does
//! not do that, and an answer that does is not ours.

use super::binary::Cursor;
use super::{Edits, MAX_DEPTH, NewAddress, NodeListing, Place, UnknownListing};

const HEADER: &[u8] = b":)\n";
const SHARES_NAMES: u8 = 1;
const SHARES_VALUES: u8 = 2;
/// The table of names begins anew when it is full, and holds no longer ones.
const MAX_NAMES: usize = 1024;
const MAX_SHARED_NAME: usize = 64;

const END_OF_ARRAY: u8 = 0xf9;
const END_OF_OBJECT: u8 = 0xfb;
const END_OF_STRING: u8 = 0xfc;
const END_OF_CONTENT: u8 = 0xff;

pub(super) fn find(
    listing: NodeListing,
    answer: &[u8],
    edits: &mut Edits,
    new: NewAddress<'_>,
) -> Result<(), UnknownListing> {
    let mut cursor = Cursor::new(answer);
    if cursor.take(HEADER.len())? != HEADER {
        return Err(UnknownListing);
    }
    let flags = cursor.byte()?;
    if flags & SHARES_VALUES != 0 || flags >> 4 != 0 {
        return Err(UnknownListing);
    }
    let mut walk = Walk { cursor, shares_names: flags & SHARES_NAMES != 0, names: Vec::new(), edits, new };
    walk.value(&Place::Whole(listing), 0)?;
    let ended = walk.cursor.is_at_end() || (walk.cursor.byte()? == END_OF_CONTENT && walk.cursor.is_at_end());
    if ended { Ok(()) } else { Err(UnknownListing) }
}

struct Walk<'a, 'b, 'c> {
    cursor: Cursor<'a>,
    shares_names: bool,
    names: Vec<&'a str>,
    edits: &'b mut Edits,
    new: NewAddress<'c>,
}

impl<'a> Walk<'a, '_, '_> {
    fn value(&mut self, place: &Place, depth: usize) -> Result<(), UnknownListing> {
        if depth > MAX_DEPTH {
            return Err(UnknownListing);
        }
        let start = self.cursor.at;
        match self.cursor.byte()? {
            // Empty string, null, false, true; numbers in one byte.
            0x20..=0x23 | 0xc0..=0xdf => {}
            // Integers of 32 and 64 bits; float, double.
            0x24 | 0x25 => drop(self.number()?),
            0x28 => drop(self.cursor.take(5)?),
            0x29 => drop(self.cursor.take(10)?),
            0x26 => self.seven_bits()?,
            0x2a => {
                self.number()?;
                self.seven_bits()?;
            }
            token @ 0x40..=0x7f => self.string(place, start, usize::from(token - 0x40) + 1)?,
            token @ 0x80..=0xbf => self.string(place, start, usize::from(token - 0x80) + 2)?,
            0xe0 | 0xe4 => {
                let text = self.cursor.text_until(END_OF_STRING)?;
                self.found(place, start, text);
            }
            0xe8 => self.seven_bits()?,
            0xfd => {
                let length = self.number()?;
                self.cursor.take(length)?;
            }
            0xf8 => {
                let element = place.element();
                while self.cursor.peek()? != END_OF_ARRAY {
                    self.value(&element, depth + 1)?;
                }
                self.cursor.at += 1;
            }
            0xfa => {
                while let Some(key) = self.key()? {
                    self.value(&place.member(key), depth + 1)?;
                }
            }
            _ => return Err(UnknownListing),
        }
        Ok(())
    }

    fn string(&mut self, place: &Place, start: usize, length: usize) -> Result<(), UnknownListing> {
        let text = self.cursor.text(length)?;
        self.found(place, start, text);
        Ok(())
    }

    fn found(&mut self, place: &Place, start: usize, text: &str) {
        if let Some(address) = place.new_address(text, self.new) {
            self.edits.push(start..self.cursor.at, encoded(&address));
        }
    }

    /// The next key of an object; `None` after its end.
    fn key(&mut self) -> Result<Option<&'a str>, UnknownListing> {
        let key = match self.cursor.byte()? {
            END_OF_OBJECT => return Ok(None),
            0x20 => return Ok(Some("")),
            token @ 0x30..=0x33 => {
                let low = self.cursor.byte()?;
                return self.shared(usize::from(token & 3) << 8 | usize::from(low)).map(Some);
            }
            token @ 0x40..=0x7f => return self.shared(usize::from(token - 0x40)).map(Some),
            0x34 => return self.cursor.text_until(END_OF_STRING).map(Some),
            token @ 0x80..=0xbf => self.cursor.text(usize::from(token - 0x80) + 1)?,
            token @ 0xc0..=0xf7 => self.cursor.text(usize::from(token - 0xc0) + 2)?,
            _ => return Err(UnknownListing),
        };
        if self.shares_names && key.len() <= MAX_SHARED_NAME {
            if self.names.len() == MAX_NAMES {
                self.names.clear();
            }
            self.names.push(key);
        }
        Ok(Some(key))
    }

    fn shared(&self, number: usize) -> Result<&'a str, UnknownListing> {
        self.names.get(number).copied().ok_or(UnknownListing)
    }

    /// A number in seven bits a byte, six in the last, which has the highest bit set.
    fn number(&mut self) -> Result<usize, UnknownListing> {
        let mut value: u64 = 0;
        for _ in 0..10 {
            let byte = self.cursor.byte()?;
            if byte & 0x80 != 0 {
                // What does not fit is no length; for a value only its end matters.
                return Ok(usize::try_from(value << 6 | u64::from(byte & 0x3f)).unwrap_or(usize::MAX));
            }
            value = value << 7 | u64::from(byte);
        }
        Err(UnknownListing)
    }

    /// Bytes written as seven bits each, after their number.
    fn seven_bits(&mut self) -> Result<(), UnknownListing> {
        let bits = self.number()?.checked_mul(8).ok_or(UnknownListing)?;
        self.cursor.take(bits.div_ceil(7)).map(drop)
    }
}

/// A string value.
fn encoded(text: &str) -> Vec<u8> {
    let length = text.len();
    let (token, end) = match (text.is_ascii(), length) {
        (_, 0) => (0x20, None),
        (true, 1..=64) => (0x40 + length as u8 - 1, None),
        (true, _) => (0xe0, Some(END_OF_STRING)),
        (false, 2..=65) => (0x80 + length as u8 - 2, None),
        (false, _) => (0xe4, Some(END_OF_STRING)),
    };
    let mut out = vec![token];
    out.extend_from_slice(text.as_bytes());
    out.extend(end);
    out
}
