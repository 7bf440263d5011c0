//! The items of a bulk response, one by one, while the response arrives in chunks.
//!
//! Only brackets, quotes and backslashes are looked at. What surrounds the items is kept apart, as JSON of
//! its own with an empty `items`: small, read at the end.

use memchr::memchr2;

/// A longer item, or more around the items, is not what Elasticsearch sends.
const MAX_PART: usize = 1 << 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Around the items.
    #[default]
    Frame,
    /// In the array, not in an item.
    Between,
    Item,
}

/// What made a walk over bytes stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    ChunkEnded,
    /// An array of the response itself began.
    ArrayBegan,
    ItemEnded,
    ResponseEnded,
    Odd,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Items {
    place: Place,
    /// Everything but the items.
    frame: Vec<u8>,
    /// Where in it the items stood.
    begin: Option<usize>,
    /// The item that has begun.
    item: Vec<u8>,
    depth: usize,
    in_string: bool,
    after_backslash: bool,
    odd: bool,
    ended: bool,
}

impl Items {
    /// Reads the next bytes; `each` gets every item that they complete.
    pub(super) fn feed(&mut self, mut chunk: &[u8], mut each: impl FnMut(&[u8])) {
        while !chunk.is_empty() && !self.odd {
            if self.place == Place::Between {
                chunk = self.between(chunk);
                continue;
            }
            let (taken, event) = self.walk(chunk);
            let part = if self.place == Place::Item { &mut self.item } else { &mut self.frame };
            part.extend_from_slice(&chunk[..taken]);
            self.odd |= part.len() > MAX_PART;
            chunk = &chunk[taken..];
            match event {
                Event::ChunkEnded => {}
                Event::ArrayBegan if names_items(&self.frame) => {
                    self.place = Place::Between;
                    self.begin = Some(self.frame.len());
                }
                Event::ArrayBegan => {}
                Event::ItemEnded => {
                    each(&self.item);
                    self.item.clear();
                    self.place = Place::Between;
                }
                Event::ResponseEnded => self.ended = true,
                Event::Odd => self.odd = true,
            }
        }
    }

    /// What stands around the items, as far as it was read.
    pub(super) fn around(&self) -> &[u8] {
        &self.frame
    }

    /// Where in [`Items::around`] the items stand, once they began.
    pub(super) fn begin(&self) -> Option<usize> {
        self.begin
    }

    /// What stood around the items, once the whole response was read.
    pub(super) fn frame(&self) -> Option<&[u8]> {
        (self.ended && !self.odd).then_some(&*self.frame)
    }

    /// Goes to the next item or out of the array.
    fn between<'a>(&mut self, chunk: &'a [u8]) -> &'a [u8] {
        let Some(at) = chunk.iter().position(|byte| !b", \t\r\n".contains(byte)) else { return &[] };
        match chunk[at] {
            b'{' => self.place = Place::Item,
            b']' => self.place = Place::Frame,
            _ => self.odd = true,
        }
        &chunk[at..]
    }

    /// Passes over bytes up to and including the one that makes an event.
    fn walk(&mut self, bytes: &[u8]) -> (usize, Event) {
        let mut at = 0;
        while at < bytes.len() {
            if self.after_backslash {
                self.after_backslash = false;
                at += 1;
            } else if self.in_string {
                let Some(step) = memchr2(b'"', b'\\', &bytes[at..]) else { break };
                at += step + 1;
                self.after_backslash = bytes[at - 1] == b'\\';
                self.in_string = self.after_backslash;
            } else {
                let event = self.outside_strings(bytes[at]);
                at += 1;
                if event != Event::ChunkEnded {
                    return (at, event);
                }
            }
        }
        (bytes.len(), Event::ChunkEnded)
    }

    /// One byte; [`Event::ChunkEnded`] stands for nothing special.
    #[inline]
    fn outside_strings(&mut self, byte: u8) -> Event {
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => {
                self.depth += 1;
                if self.place == Place::Frame && self.depth == 2 && byte == b'[' {
                    return Event::ArrayBegan;
                }
            }
            b'}' | b']' => {
                let Some(depth) = self.depth.checked_sub(1) else { return Event::Odd };
                self.depth = depth;
                match (self.place, depth) {
                    (Place::Item, 2) => return Event::ItemEnded,
                    (Place::Frame, 0) => return Event::ResponseEnded,
                    _ => {}
                }
            }
            _ => {}
        }
        Event::ChunkEnded
    }
}

/// Whether a text ends with `"items":[`, blanks allowed.
fn names_items(frame: &[u8]) -> bool {
    let before = frame.strip_suffix(b"[").map(<[u8]>::trim_ascii_end);
    let key = before.and_then(|text| text.strip_suffix(b":")).map(<[u8]>::trim_ascii_end);
    key.is_some_and(|text| text.ends_with(b"\"items\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, chunk: usize) -> (Vec<String>, Option<String>) {
        let (mut items, mut found) = (Items::default(), Vec::new());
        for part in text.as_bytes().chunks(chunk) {
            items.feed(part, |item| found.push(String::from_utf8(item.to_vec()).unwrap()));
        }
        (found, items.frame().map(|frame| String::from_utf8(frame.to_vec()).unwrap()))
    }

    #[test]
    fn items_come_out_whole_whatever_the_chunks() {
        let text = r#"{"errors":true,"took":0,"x":["items",{"items":[1]}],"items":[{"index":{"_id":"a]}\"\\","n":[[{}]]}},
  {"delete":{}}],"ingest_took":3}
"#;
        for chunk in 1..=text.len() {
            let (items, frame) = read(text, chunk);
            assert_eq!(items, [r#"{"index":{"_id":"a]}\"\\","n":[[{}]]}}"#, r#"{"delete":{}}"#]);
            let frame = frame.unwrap();
            assert_eq!(
                frame.trim_end(),
                r#"{"errors":true,"took":0,"x":["items",{"items":[1]}],"items":[],"ingest_took":3}"#
            );
        }
    }

    #[test]
    fn pretty_responses_and_none() {
        let (items, frame) = read("{\n  \"items\" : [\n    {\n      \"index\" : { }\n    }\n  ]\n}\n", 7);
        assert_eq!(items.len(), 1);
        assert!(frame.is_some());
        assert_eq!(read(r#"{"items":[]}"#, 3), (vec![], Some(r#"{"items":[]}"#.to_owned())));
        assert_eq!(read(r#"{"errors":false}"#, 3).0, Vec::<String>::new());
    }

    #[test]
    fn what_is_cut_or_odd_has_no_frame() {
        for text in
            ["", r#"{"items":[{"index":{}}"#, r#"{"items":[1]}"#, r#"{"items":[{}]"#, "]", r#"{"items":[{}}"#]
        {
            assert_eq!(read(text, 4).1, None, "{text}");
        }
    }
}
