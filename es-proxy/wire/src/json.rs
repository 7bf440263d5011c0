//! Reading JSON without writing it again: objects whose values stay the client's bytes, and edits
//! that leave every other byte alone.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// An object's entries in order, each value as the raw text of the input.
#[derive(Debug)]
pub struct Object<'a> {
    /// Key (unescaped) and value (as written), in the order of the input.
    pub entries: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Reads one object. Fails if the text is anything else, has trailing tokens, or repeats a key:
    /// Elasticsearch refuses repeated keys, so whoever meets them must let it.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The value of `key`, as written.
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut entries: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some(Key(key)) = map.next_key()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom("duplicate key"));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(Object { entries })
    }
}

/// A key, borrowed where it holds no escapes (`Cow` alone would always copy).
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyText)
    }
}

struct KeyText;

impl<'de> Visitor<'de> for KeyText {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(key)))
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(key.to_owned())))
    }
}

/// Edits of a text, collected first and applied at once. Positions always mean the original text.
#[derive(Debug)]
pub struct Splice<'a> {
    text: &'a str,
    /// Byte range of the original and what takes its place; sorted and disjoint only in `finish`.
    edits: Vec<(usize, usize, String)>,
}

impl<'a> Splice<'a> {
    /// No edits yet.
    pub fn new(text: &'a str) -> Self {
        Self { text, edits: Vec::new() }
    }

    /// Puts `with` where `slice` stands. `slice` must be a part of the text given to [`Splice::new`]
    /// itself, not a copy of it; panics otherwise.
    pub fn replace(&mut self, slice: &str, with: impl Into<String>) {
        let start = self.position_of(slice);
        self.replace_range(start, start + slice.len(), with);
    }

    /// Puts `what` before `slice`, under the same condition.
    pub fn insert_before(&mut self, slice: &str, what: impl Into<String>) {
        let start = self.position_of(slice);
        self.replace_range(start, start, what);
    }

    /// Puts `what` after `slice`, under the same condition.
    pub fn insert_after(&mut self, slice: &str, what: impl Into<String>) {
        let end = self.position_of(slice) + slice.len();
        self.replace_range(end, end, what);
    }

    /// Removes everything from the start of `from` up to the start of `to`, both parts of the text.
    pub fn cut(&mut self, from: &str, to: &str) {
        self.replace_range(self.position_of(from), self.position_of(to), "");
    }

    /// Removes everything from the end of `after` to the end of `through`, both parts of the text.
    pub fn cut_after(&mut self, after: &str, through: &str) {
        let start = self.position_of(after) + after.len();
        self.replace_range(start, self.position_of(through) + through.len(), "");
    }

    /// Puts `with` in place of the bytes `start..end`. Ranges must lie on character boundaries and
    /// must not overlap; insertions at one place keep the order in which they were asked for.
    pub fn replace_range(&mut self, start: usize, end: usize, with: impl Into<String>) {
        assert!(start <= end && self.text.is_char_boundary(start) && self.text.is_char_boundary(end));
        self.edits.push((start, end, with.into()));
    }

    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// The edited text.
    pub fn finish(mut self) -> String {
        self.edits.sort_by_key(|&(start, end, _)| (start, end));
        let added: usize = self.edits.iter().map(|(_, _, with)| with.len()).sum();
        let mut out = String::with_capacity(self.text.len() + added);
        let mut done = 0;
        for (start, end, with) in &self.edits {
            assert!(done <= *start, "edits overlap");
            out.push_str(&self.text[done..*start]);
            out.push_str(with);
            done = *end;
        }
        out.push_str(&self.text[done..]);
        out
    }

    fn position_of(&self, slice: &str) -> usize {
        let base = self.text.as_ptr() as usize;
        let start = (slice.as_ptr() as usize).checked_sub(base).expect("slice is a part of the text");
        assert!(start + slice.len() <= self.text.len(), "slice is a part of the text");
        start
    }
}

/// Appends `text` as a JSON string the way Elasticsearch's generator writes it: short escapes,
/// `\u00XX` in upper case for other controls, two such escapes for what UTF-16 writes as a pair, everything else
/// as it is.
pub fn push_json_string(out: &mut String, text: &str) {
    out.push('"');
    let mut clean = 0;
    for (at, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0..=0x1f => "",
            // The first byte of four.
            0xf0.. => {
                out.push_str(&text[clean..at]);
                for unit in text[at..at + 4].encode_utf16() {
                    out.push_str(&format!("\\u{unit:04X}"));
                }
                clean = at + 4;
                continue;
            }
            _ => continue,
        };
        out.push_str(&text[clean..at]);
        if short.is_empty() {
            out.push_str(&format!("\\u{byte:04X}"));
        } else {
            out.push_str(short);
        }
        clean = at + 1;
    }
    out.push_str(&text[clean..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn object_keeps_order_and_raw_values() {
        let object = Object::parse(r#" {"b": 2.50 , "a\u0062":[1, 2]} "#).unwrap();
        let entries: Vec<_> = object.entries.iter().map(|(k, v)| (k.as_ref(), v.get())).collect();
        assert_eq!(entries, [("b", "2.50"), ("ab", "[1, 2]")]);
        assert_eq!(object.get("b").unwrap().get(), "2.50");
        assert!(object.get("c").is_none());
    }

    #[test]
    fn object_refuses_what_elasticsearch_refuses() {
        for text in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, "[]", "{} {}", "", "{\"a\":1,}", "nul"] {
            assert!(Object::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn splice_replaces_by_identity_not_by_content() {
        let text = String::from("xx xx");
        let mut splice = Splice::new(&text);
        splice.replace(&text[3..5], "yyy");
        splice.insert_before(&text[3..5], "<");
        splice.insert_after(&text[3..5], ">");
        assert_eq!(splice.finish(), "xx <yyy>");
    }

    #[test]
    fn strings_are_escaped_as_jackson_does() {
        let mut out = String::new();
        push_json_string(&mut out, "a\"\\\n\u{1}\u{1f}é\u{7f}/😀\u{ffff}");
        assert_eq!(out, "\"a\\\"\\\\\\n\\u0001\\u001Fé\u{7f}/\\uD83D\\uDE00\u{ffff}\"");
    }

    proptest! {
        #[test]
        fn splice_edits_equal_edits_by_hand(text in "[a-zé]{0,40}", cuts in prop::collection::vec((0usize..41, "[0-9]{0,3}"), 0..6)) {
            let places: Vec<usize> = text.char_indices().map(|(i, _)| i).chain([text.len()]).collect();
            let mut cuts: Vec<(usize, String)> = cuts.into_iter().map(|(at, with)| (places[at % places.len()], with)).collect();
            cuts.sort_by_key(|(at, _)| *at);
            cuts.dedup_by_key(|(at, _)| *at);
            let mut splice = Splice::new(&text);
            let mut expected = text.clone();
            for (at, with) in cuts.iter().rev() {
                splice.replace_range(*at, *at, with.clone());
                expected.insert_str(*at, with);
            }
            prop_assert_eq!(splice.finish(), expected);
        }

        #[test]
        fn strings_come_back(text in any::<String>()) {
            let mut out = String::new();
            push_json_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }
}
