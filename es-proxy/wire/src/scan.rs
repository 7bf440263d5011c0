//! A strict scanner over JSON text: values come back as slices of the input, nothing is copied.
//!
//! It exists beside serde_json because two things need it: a query vector must be read in a few
//! microseconds with the rounding of Elasticsearch, and answers must be filtered and laid out anew
//! with every token's bytes kept.

use std::borrow::Cow;

use crate::number::{self, Decimal};

/// Deeper nesting than any request of ours has; Elasticsearch itself stops at 1,000.
pub(crate) const MAX_DEPTH: usize = 200;

/// Not the JSON that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A place in a text.
#[derive(Clone, Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    is_answer: bool,
}

/// One entry of an object, both parts as written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    /// With its quotes.
    pub(crate) key: &'a str,
    /// Without surrounding blanks.
    pub(crate) value: &'a str,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, is_answer: false }
    }

    /// Of an answer of Elasticsearch, in which one of many may nest what nobody reads as deep as it likes: that is not
    /// looked into, and is in nobody's way.
    pub(crate) fn of_answer(text: &'a str) -> Self {
        Self { text, at: 0, is_answer: true }
    }

    /// Bytes that were read so far.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// The next byte that is not blank.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        self.skip_blanks();
        self.byte()
    }

    /// Takes `wanted` if it is next.
    pub(crate) fn take(&mut self, wanted: u8) -> Result<(), Malformed> {
        if self.peek() != Some(wanted) {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    /// Succeeds where nothing but blanks is left.
    pub(crate) fn end(&mut self) -> Result<(), Malformed> {
        if self.peek().is_none() { Ok(()) } else { Err(Malformed) }
    }

    /// The next key of an object whose `{` was taken, with its quotes and with the scanner after the
    /// colon; `None` once the `}` is taken. `first` starts as true.
    pub(crate) fn next_key(&mut self, first: &mut bool) -> Result<Option<&'a str>, Malformed> {
        if self.peek() == Some(b'}') && *first {
            self.at += 1;
            return Ok(None);
        }
        if !std::mem::take(first) {
            match self.peek() {
                Some(b'}') => {
                    self.at += 1;
                    return Ok(None);
                }
                Some(b',') => self.at += 1,
                _ => return Err(Malformed),
            }
        }
        self.skip_blanks();
        let key = self.string()?;
        self.take(b':')?;
        self.skip_blanks();
        Ok(Some(key))
    }

    /// Whether another element follows in an array whose `[` was taken; the scanner then stands before
    /// it, else after the `]`. `first` starts as true.
    pub(crate) fn next_element(&mut self, first: &mut bool) -> Result<bool, Malformed> {
        match self.peek() {
            Some(b']') => {
                self.at += 1;
                return Ok(false);
            }
            Some(b',') if !*first => {
                self.at += 1;
                if self.peek() == Some(b']') {
                    return Err(Malformed);
                }
            }
            Some(_) if *first => {}
            _ => return Err(Malformed),
        }
        *first = false;
        Ok(true)
    }

    /// The next value as written.
    pub(crate) fn value(&mut self) -> Result<&'a str, Malformed> {
        self.skip_blanks();
        let start = self.at;
        self.skip_value(0)?;
        Ok(&self.text[start..self.at])
    }

    /// A number as float32, see [`number::float`].
    pub(crate) fn float(&mut self) -> Result<f32, Malformed> {
        self.skip_blanks();
        number::float(self.text.as_bytes(), &mut self.at)
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn skip_blanks(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn skip_value(&mut self, depth: usize) -> Result<(), Malformed> {
        if depth > MAX_DEPTH {
            return if self.is_answer { self.skip_unread() } else { Err(Malformed) };
        }
        match self.byte().ok_or(Malformed)? {
            b'"' => self.string().map(drop),
            b'{' => {
                self.at += 1;
                let mut first = true;
                while self.next_key(&mut first)?.is_some() {
                    self.skip_value(depth + 1)?;
                }
                Ok(())
            }
            b'[' => {
                self.at += 1;
                let mut first = true;
                while self.next_element(&mut first)? {
                    self.skip_value(depth + 1)?;
                }
                Ok(())
            }
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => Decimal::read(self.text.as_bytes(), &mut self.at).map(drop),
        }
    }

    /// Looks for the end of a value alone, without recursion.
    fn skip_unread(&mut self) -> Result<(), Malformed> {
        let mut open = 0_usize;
        loop {
            match self.byte().ok_or(Malformed)? {
                b'"' => self.string().map(drop)?,
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' if open > 0 => {
                    open -= 1;
                    self.at += 1;
                }
                b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' if open > 0 => self.at += 1,
                b't' => self.literal("true")?,
                b'f' => self.literal("false")?,
                b'n' => self.literal("null")?,
                _ => Decimal::read(self.text.as_bytes(), &mut self.at).map(drop)?,
            }
            if open == 0 {
                return Ok(());
            }
        }
    }

    /// Reads a value to its end, and tells whether some object in it repeats a key.
    fn repeats_a_key(&mut self, depth: usize) -> Result<bool, Malformed> {
        if depth > MAX_DEPTH {
            return Err(Malformed);
        }
        let mut found = false;
        let mut first = true;
        match self.peek() {
            Some(b'{') => {
                self.take(b'{')?;
                let mut keys = Vec::new();
                while let Some(key) = self.next_key(&mut first)? {
                    keys.push(unquote(key)?);
                    found |= self.repeats_a_key(depth + 1)?;
                }
                keys.sort_unstable();
                found |= keys.windows(2).any(|pair| pair[0] == pair[1]);
            }
            Some(b'[') => {
                self.take(b'[')?;
                while self.next_element(&mut first)? {
                    found |= self.repeats_a_key(depth + 1)?;
                }
            }
            _ => self.skip_value(depth)?,
        }
        Ok(found)
    }

    fn literal(&mut self, word: &str) -> Result<(), Malformed> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(Malformed);
        }
        self.at += word.len();
        Ok(())
    }

    /// A string with its quotes.
    fn string(&mut self) -> Result<&'a str, Malformed> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        if self.byte() != Some(b'"') {
            return Err(Malformed);
        }
        self.at += 1;
        loop {
            match self.byte().ok_or(Malformed)? {
                b'"' => {
                    self.at += 1;
                    return Ok(&self.text[start..self.at]);
                }
                b'\\' => {
                    let escape = *bytes.get(self.at + 1).ok_or(Malformed)?;
                    self.at += match escape {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                        b'u' => {
                            let digits = bytes.get(self.at + 2..self.at + 6).ok_or(Malformed)?;
                            if !digits.iter().all(u8::is_ascii_hexdigit) {
                                return Err(Malformed);
                            }
                            6
                        }
                        _ => return Err(Malformed),
                    };
                }
                0..=0x1f => return Err(Malformed),
                _ => self.at += 1,
            }
        }
    }
}

/// The entries of the object that `text` is.
pub(crate) fn members(text: &str) -> Result<Vec<Member<'_>>, Malformed> {
    members_in(Scanner::new(text))
}

/// The same of what an answer holds, see [`Scanner::of_answer`].
pub(crate) fn members_of_answer(text: &str) -> Result<Vec<Member<'_>>, Malformed> {
    members_in(Scanner::of_answer(text))
}

fn members_in(mut scanner: Scanner<'_>) -> Result<Vec<Member<'_>>, Malformed> {
    scanner.take(b'{')?;
    let mut members = Vec::new();
    let mut first = true;
    while let Some(key) = scanner.next_key(&mut first)? {
        members.push(Member { key, value: scanner.value()? });
    }
    scanner.end()?;
    Ok(members)
}

/// The elements of the array that `text` is.
pub(crate) fn elements(text: &str) -> Result<Vec<&str>, Malformed> {
    elements_in(Scanner::new(text))
}

/// The same of what an answer holds, see [`Scanner::of_answer`].
pub(crate) fn elements_of_answer(text: &str) -> Result<Vec<&str>, Malformed> {
    elements_in(Scanner::of_answer(text))
}

fn elements_in(mut scanner: Scanner<'_>) -> Result<Vec<&str>, Malformed> {
    scanner.take(b'[')?;
    let mut elements = Vec::new();
    let mut first = true;
    while scanner.next_element(&mut first)? {
        elements.push(scanner.value()?);
    }
    scanner.end()?;
    Ok(elements)
}

/// The text of a string that was scanned with its quotes.
pub(crate) fn unquote(raw: &str) -> Result<Cow<'_, str>, Malformed> {
    let inner = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(Malformed)?;
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    // Only here can a lone surrogate turn up.
    serde_json::from_str(raw).map(Cow::Owned).map_err(|_| Malformed)
}

/// Whether some object inside `text` repeats a key: Elasticsearch refuses that at any depth.
pub(crate) fn repeats_a_key(text: &str) -> Result<bool, Malformed> {
    let mut scanner = Scanner::new(text);
    let repeats = scanner.repeats_a_key(0)?;
    scanner.end()?;
    Ok(repeats)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(text: &str) -> Result<&str, Malformed> {
        let mut scanner = Scanner::new(text);
        let value = scanner.value()?;
        scanner.end()?;
        Ok(value)
    }

    #[test]
    fn strict_where_jackson_is_strict() {
        for text in ["{\"a\":1}", "[1, -0.5e+3]", "\"\\u00e9\\n\"", "null", " 0 ", "{}", "[ ]"] {
            assert!(whole(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "{",
            "{\"a\":1,}",
            "{,}",
            "[1,]",
            "[,1]",
            "[1 2]",
            "01",
            "+1",
            ".5",
            "1.",
            "1e",
            "-",
            "NaN",
            "tru",
            "\"\\x\"",
            "\"\\u00g0\"",
            "\"a",
            "\"\n\"",
            "{a:1}",
            "{\"a\" 1}",
            "1 2",
            "// c\n1",
        ] {
            assert!(whole(text).is_err(), "{text}");
        }
        assert!(whole(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn an_answer_may_be_deeper_than_anything_is_read() {
        let nested = |inner: &str, times| format!("{}{inner}{}", "[".repeat(times), "]".repeat(times));
        for inner in [r#"{"a]":[-1.5e3, true],"b\"":null}"#, "1", "[]", r#""}""#] {
            for times in [198, 199, 200, 201, 202, 100_000] {
                let text = nested(inner, times);
                assert_eq!(elements_of_answer(&text), Ok(vec![&text[1..text.len() - 1]]), "{inner} {times}");
            }
        }
        for wrong in ["", "x", "[", "{\"a", "tru"] {
            assert!(elements_of_answer(&nested(wrong, 300)[..300 + wrong.len()]).is_err(), "{wrong}");
        }
        assert!(elements(&nested("1", 300)).is_err());
    }

    #[test]
    fn repeated_keys_are_found_at_any_depth() {
        assert_eq!(repeats_a_key(r#"{"a":[{"b":1,"\u0062":2}]}"#), Ok(true));
        assert_eq!(repeats_a_key(r#"{"a":[{"b":1},{"b":2}]}"#), Ok(false));
    }

    proptest! {
        #[test]
        fn accepts_what_serde_json_accepts(text in r#"[\[\]{}",:0-9eE.+\-a \\u]{0,24}"#) {
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(whole(&text).is_ok(), theirs);
        }
    }
}
