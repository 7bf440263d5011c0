//! The lines of a head as they come in: where it ends, and whether a line feed stands alone.

/// What was found in the bytes that came next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All of them belong to the head, and more must come.
    More,
    /// So many of them belong to it; what follows is a body, or the next head.
    End(usize),
    /// Here stands a line feed without a return before it. Elasticsearch takes that for no end of a line (from
    /// 9.1 on), and whoever passed it to us need not either.
    Torn(usize),
}

/// See the head of this file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    /// The byte before.
    last: u8,
    /// Bytes since the last line began.
    length: usize,
    /// A line that is not empty was there.
    begun: bool,
}

impl Default for Lines {
    fn default() -> Self {
        Self { last: b'\r', length: 0, begun: false }
    }
}

impl Lines {
    /// Reads on. Not to be asked again after the end or a lone line feed.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Found {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let before = if end > start { bytes[end - 1] } else { self.last };
            let length = self.length + end - start;
            if before != b'\r' {
                return Found::Torn(end);
            }
            if length > 1 {
                self.begun = true;
            } else if self.begun {
                return Found::End(end + 1);
            }
            (start, self.length, self.last) = (end + 1, 0, b'\n');
        }
        if let Some(last) = bytes[start..].last() {
            self.last = *last;
            self.length += bytes.len() - start;
        }
        Found::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In steps, from the beginning of the bytes.
    fn found(bytes: &[u8], step: usize) -> Found {
        let mut lines = Lines::default();
        let found = |(number, part)| match lines.read(part) {
            Found::More => None,
            Found::End(at) => Some(Found::End(number * step + at)),
            Found::Torn(at) => Some(Found::Torn(number * step + at)),
        };
        bytes.chunks(step).enumerate().find_map(found).unwrap_or(Found::More)
    }

    #[test]
    fn a_lone_line_feed_is_found_in_a_head_and_nowhere_else() {
        for (head, expected) in [
            (&b"GET / HTTP/1.1\r\nA: b\r\n\r\nbody\nwith\nlines\n"[..], Found::End(24)),
            (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n\n", Found::End(22)),
            (b"GET / HTTP/1.1\nA: b\n\n", Found::Torn(14)),
            (b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", Found::Torn(20)),
            (b"GET / HTTP/1.1\r\n\nGET / HTTP/1.1\r\n\r\n", Found::Torn(16)),
            (b"\nGET / HTTP/1.1\r\nA: b\n\r\n", Found::Torn(21)),
            (b"\n", Found::More),
            (b"GET / HTTP/1.1\r\nA: b\r", Found::More),
        ] {
            for step in [1, 2, 3, 7, 1000] {
                assert_eq!(
                    found(head, step),
                    expected,
                    "{} in steps of {step}",
                    String::from_utf8_lossy(head)
                );
            }
        }
    }
}
