//! Where a body that comes in chunks ends (RFC 9112 §7.1).
//!
//! As strict as hyper, which reads the same bytes after us: each line ends in CR LF, sizes are plain hexadecimal
//! numbers. Limits on extensions and trailers are hyper's to keep.

/// What stands at the next byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The first digit of a size.
    Size,
    /// A further one, or what may follow the last.
    MoreSize,
    /// Blanks after a size.
    Blanks,
    Extension,
    /// The line feed after a size.
    SizeFeed,
    Data,
    DataReturn,
    DataFeed,
    /// The first byte of a trailer, or the end of all.
    TrailerOrEnd,
    Trailer,
    TrailerFeed,
    LastFeed,
}

/// See the head of this file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    at: At,
    /// Of the chunk, what is left of it.
    size: u64,
}

/// What was found in the bytes that came next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All of them belong to the body, and more must come.
    More,
    /// So many of them belong to it.
    End(usize),
    /// These are no chunks.
    Malformed,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { at: At::Size, size: 0 }
    }

    /// Reads on. Not to be asked again after the end.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Found {
        let mut next = 0;
        while let Some(&byte) = bytes.get(next) {
            if self.at == At::Data {
                let count = (bytes.len() - next).min(usize::try_from(self.size).unwrap_or(usize::MAX));
                next += count;
                self.size -= count as u64;
                if self.size == 0 {
                    self.at = At::DataReturn;
                }
                continue;
            }
            next += 1;
            if self.at == At::LastFeed && byte == b'\n' {
                return Found::End(next);
            }
            match self.after(byte) {
                Some(at) => self.at = at,
                None => return Found::Malformed,
            }
        }
        Found::More
    }

    /// What stands after this byte, which is none of a chunk's data.
    fn after(&mut self, byte: u8) -> Option<At> {
        match (self.at, byte) {
            (At::Size | At::MoreSize, byte) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16)?;
                self.size = self.size.checked_mul(16)?.checked_add(u64::from(digit))?;
                Some(At::MoreSize)
            }
            (At::MoreSize | At::Blanks, b' ' | b'\t') => Some(At::Blanks),
            (At::MoreSize | At::Blanks, b';') => Some(At::Extension),
            (At::MoreSize | At::Blanks | At::Extension, b'\r') => Some(At::SizeFeed),
            (At::Extension, byte) if byte != b'\n' => Some(At::Extension),
            (At::SizeFeed, b'\n') => Some(if self.size == 0 { At::TrailerOrEnd } else { At::Data }),
            (At::DataReturn, b'\r') => Some(At::DataFeed),
            (At::DataFeed, b'\n') => Some(At::Size),
            (At::TrailerOrEnd, b'\r') => Some(At::LastFeed),
            (At::Trailer, b'\r') => Some(At::TrailerFeed),
            (At::TrailerOrEnd | At::Trailer, _) => Some(At::Trailer),
            (At::TrailerFeed, b'\n') => Some(At::TrailerOrEnd),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bytes: &[u8], step: usize) -> Found {
        let mut chunks = Chunks::new();
        for (number, part) in bytes.chunks(step).enumerate() {
            match chunks.read(part) {
                Found::More => {}
                Found::End(at) => return Found::End(number * step + at),
                Found::Malformed => return Found::Malformed,
            }
        }
        Found::More
    }

    #[test]
    fn the_end_is_found_however_the_bytes_come() {
        for (body, expected) in [
            (&b"0\r\n\r\nGET"[..], Found::End(5)),
            (b"2\r\nab\r\n3;x=\"y\"\r\ncde\r\n0\r\n\r\n0\r\n\r\n", Found::End(26)),
            (b"9 \t;x\r\n0\r\n\r\n\r\n\r\n\r\n00\r\n\r\n", Found::End(24)),
            (b"1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\nGET", Found::End(23)),
            (b"ffffffffffffffff\r\nabc", Found::More),
            (b"2\r\nab\r\n0\r\n", Found::More),
            (b"10000000000000000\r\n", Found::Malformed),
            (b"\r\n", Found::Malformed),
            (b" 2\r\n", Found::Malformed),
            (b"2\nab", Found::Malformed),
            (b"2;a\nab", Found::Malformed),
            (b"2 2\r\n", Found::Malformed),
            (b"2\rab", Found::Malformed),
            (b"2\r\nabX", Found::Malformed),
            (b"2\r\nab\n0", Found::Malformed),
            (b"0\r\n\rX", Found::Malformed),
        ] {
            for step in [1, 2, 3, 7, 1000] {
                assert_eq!(
                    found(body, step),
                    expected,
                    "{} in steps of {step}",
                    String::from_utf8_lossy(body)
                );
            }
        }
    }
}
