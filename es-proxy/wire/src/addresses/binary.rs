//! Reading bytes one after the other, for the binary formats.

use super::UnknownListing;

/// A place in the bytes of an answer.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(super) fn peek(&self) -> Result<u8, UnknownListing> {
        self.bytes.get(self.at).copied().ok_or(UnknownListing)
    }

    pub(super) fn byte(&mut self) -> Result<u8, UnknownListing> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], UnknownListing> {
        let end = self.at.checked_add(count).ok_or(UnknownListing)?;
        let taken = self.bytes.get(self.at..end).ok_or(UnknownListing)?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn text(&mut self, count: usize) -> Result<&'a str, UnknownListing> {
        std::str::from_utf8(self.take(count)?).map_err(|_| UnknownListing)
    }

    /// Text up to `end`, which is taken too.
    pub(super) fn text_until(&mut self, end: u8) -> Result<&'a str, UnknownListing> {
        let rest = self.bytes.get(self.at..).ok_or(UnknownListing)?;
        let length = memchr::memchr(end, rest).ok_or(UnknownListing)?;
        let text = self.text(length)?;
        self.at += 1;
        Ok(text)
    }
}
