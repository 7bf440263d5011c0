//! A place in the bytes of one line, and how to get over values without looking into them.
//!
//! What is skipped is not checked: only documents that Elasticsearch took count in the end, so a value
//! that is no JSON never does. But where its reading could differ from ours (a comment, which its parser
//! allows) the line is odd.

use memchr::memchr2;

use crate::scan::Malformed;

/// Not what Elasticsearch would take, or not read here as it would read it.
pub(super) type Odd = Malformed;

#[derive(Debug)]
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next byte that is not blank; it stays.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// Takes the next byte that is not blank.
    #[inline]
    pub(super) fn next(&mut self) -> Result<u8, Odd> {
        let byte = self.peek().ok_or(Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    /// Takes `wanted` if it is next.
    #[inline]
    pub(super) fn take(&mut self, wanted: u8) -> Result<(), Odd> {
        if self.next()? == wanted { Ok(()) } else { Err(Malformed) }
    }

    /// Takes `wanted` if it is next; whether it was.
    #[inline]
    pub(super) fn took(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// Succeeds where nothing but blanks is left.
    pub(super) fn end(&mut self) -> Result<(), Odd> {
        if self.peek().is_none() { Ok(()) } else { Err(Malformed) }
    }

    pub(super) fn literal(&mut self, word: &[u8]) -> Result<(), Odd> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(Malformed);
        }
        self.at += word.len();
        Ok(())
    }

    /// A string as written between its quotes, and whether it has escapes.
    #[inline]
    pub(super) fn string(&mut self) -> Result<(&'a [u8], bool), Odd> {
        self.take(b'"')?;
        let start = self.at;
        let mut escapes = false;
        loop {
            let step = memchr2(b'"', b'\\', &self.bytes[self.at..]).ok_or(Malformed)?;
            self.at += step + 1;
            if self.bytes[self.at - 1] == b'"' {
                return Ok((&self.bytes[start..self.at - 1], escapes));
            }
            escapes = true;
            // What is escaped.
            if self.at == self.bytes.len() {
                return Err(Malformed);
            }
            self.at += 1;
        }
    }

    /// A string or another scalar as its text, the way Jackson's `getText` gives it.
    pub(super) fn text(&mut self) -> Result<String, Odd> {
        let text = match self.peek().ok_or(Malformed)? {
            b'"' => {
                let start = self.at;
                let (raw, escapes) = self.string()?;
                if escapes {
                    return serde_json::from_slice(&self.bytes[start..self.at]).map_err(|_| Malformed);
                }
                raw
            }
            b'{' | b'[' => return Err(Malformed),
            _ => self.scalar()?,
        };
        String::from_utf8(text.to_vec()).map_err(|_| Malformed)
    }

    /// Gets over one value.
    #[inline]
    pub(super) fn skip(&mut self) -> Result<(), Odd> {
        match self.peek().ok_or(Malformed)? {
            b'"' => self.string().map(drop),
            b'{' | b'[' => self.skip_container(),
            _ => self.scalar().map(drop),
        }
    }

    /// A number or a word.
    pub(super) fn scalar(&mut self) -> Result<&'a [u8], Odd> {
        let start = self.at;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'0'..=b'9' | b'a'..=b'z' | b'.' | b'-' | b'+' | b'E' => self.at += 1,
                b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n' => break,
                _ => return Err(Malformed),
            }
        }
        if self.at == start { Err(Malformed) } else { Ok(&self.bytes[start..self.at]) }
    }

    fn skip_container(&mut self) -> Result<(), Odd> {
        let mut depth = 0usize;
        loop {
            self.at = special(self.bytes, self.at).ok_or(Malformed)?;
            match self.bytes[self.at] {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => return Err(Malformed),
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

#[inline]
fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'{' | b'}' | b'[' | b']' | b'/')
}

/// The next byte from `at` on that has a meaning outside strings besides parting values.
#[inline]
fn special(bytes: &[u8], mut at: usize) -> Option<usize> {
    // Long arrays of numbers have none: 32 bytes at a time, which the compiler turns into vector
    // instructions since nothing in the block decides.
    while let Some(block) = bytes.get(at..at + 32) {
        if block.iter().fold(false, |any, byte| any | is_special(*byte)) {
            break;
        }
        at += 32;
    }
    bytes[at..].iter().position(|byte| is_special(*byte)).map(|step| at + step)
}

/// The members of the object that is next. Keys with escapes could be spelt in many ways: odd.
pub(super) fn members<'a>(
    cursor: &mut Cursor<'a>,
    mut member: impl FnMut(&[u8], &mut Cursor<'a>) -> Result<(), Odd>,
) -> Result<(), Odd> {
    cursor.take(b'{')?;
    if cursor.took(b'}') {
        return Ok(());
    }
    loop {
        let (key, escapes) = cursor.string()?;
        if escapes {
            return Err(Malformed);
        }
        cursor.take(b':')?;
        member(key, cursor)?;
        match cursor.next()? {
            b',' => {}
            b'}' => return Ok(()),
            _ => return Err(Malformed),
        }
    }
}
