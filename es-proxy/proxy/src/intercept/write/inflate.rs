//! A copy of a compressed body, inflated as it passes and bounded: what grows without end is given up.

use std::io::{self, Write};

use flate2::write::{GzDecoder, ZlibDecoder};
use http::HeaderValue;

/// A compressed byte may become so many; text with vectors in it becomes three or four.
const MAX_GROWTH: usize = 64;

/// Bytes as they were before a content coding.
pub(crate) enum Inflate {
    Not,
    Gzip(GzDecoder<Vec<u8>>),
    Deflate(ZlibDecoder<Vec<u8>>),
}

/// The body cannot be followed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

impl From<io::Error> for Unreadable {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl Inflate {
    /// `None` for a coding that we don't know.
    pub(crate) fn of(encoding: Option<&HeaderValue>) -> Option<Self> {
        match encoding.map(HeaderValue::as_bytes) {
            None | Some(b"identity") => Some(Self::Not),
            Some(b"gzip") => Some(Self::Gzip(GzDecoder::new(Vec::new()))),
            Some(b"deflate") => Some(Self::Deflate(ZlibDecoder::new(Vec::new()))),
            Some(_) => None,
        }
    }

    pub(crate) fn is_needed(&self) -> bool {
        !matches!(self, Self::Not)
    }

    /// Gives `each` what `bytes` were, in parts of some ten kilobytes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), Unreadable> {
        let limit = (bytes.len() * MAX_GROWTH).max(64 << 10);
        let mut grown = 0;
        while !bytes.is_empty() {
            let (taken, plain) = match self {
                Self::Not => {
                    each(bytes);
                    return Ok(());
                }
                Self::Gzip(decoder) => (decoder.write(bytes)?, decoder.get_mut()),
                Self::Deflate(decoder) => (decoder.write(bytes)?, decoder.get_mut()),
            };
            each(plain);
            grown += plain.len();
            plain.clear();
            // Nothing is taken after the end of the stream.
            if grown > limit || taken == 0 {
                return Err(Unreadable);
            }
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// The end of the body: gives `each` what is still to come.
    pub(crate) fn finish(&mut self, mut each: impl FnMut(&[u8])) -> Result<(), Unreadable> {
        let plain = match self {
            Self::Not => return Ok(()),
            Self::Gzip(decoder) => {
                decoder.try_finish()?;
                decoder.get_mut()
            }
            Self::Deflate(decoder) => {
                decoder.try_finish()?;
                decoder.get_mut()
            }
        };
        each(plain);
        plain.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    fn inflated(encoding: &'static str, body: &[u8], chunk: usize) -> Result<Vec<u8>, Unreadable> {
        let mut inflate = Inflate::of(Some(&HeaderValue::from_static(encoding))).unwrap();
        let mut plain = Vec::new();
        for part in body.chunks(chunk) {
            inflate.feed(part, |bytes| plain.extend_from_slice(bytes))?;
        }
        inflate.finish(|bytes| plain.extend_from_slice(bytes))?;
        Ok(plain)
    }

    fn text() -> Vec<u8> {
        (0..5000u32).flat_map(|n| format!("{{\"v\":[0.{},{}]}}\n", n * 7919, n).into_bytes()).collect()
    }

    #[test]
    fn every_chunking_gives_the_same() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&text()).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(&text()).unwrap();
        let zlib = zlib.finish().unwrap();
        for chunk in [1, 7, 1000, 16 << 10] {
            assert_eq!(inflated("gzip", &gzip, chunk).unwrap(), text());
            assert_eq!(inflated("deflate", &zlib, chunk).unwrap(), text());
        }
        assert_eq!(inflated("identity", b"abc", 2).unwrap(), b"abc");
        assert!(Inflate::of(Some(&HeaderValue::from_static("zstd"))).is_none());
    }

    #[test]
    fn what_is_cut_broken_or_grows_without_end_is_given_up() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&text()).unwrap();
        let mut gzip = gzip.finish().unwrap();
        assert_eq!(inflated("gzip", &gzip[..gzip.len() - 9], 1000), Err(Unreadable));
        assert_eq!(inflated("gzip", b"not gzip at all, is it", 5), Err(Unreadable));
        gzip.extend_from_slice(b"more");
        assert_eq!(inflated("gzip", &gzip, 1000), Err(Unreadable));
        let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
        bomb.write_all(&vec![b' '; 100 << 20]).unwrap();
        assert_eq!(inflated("gzip", &bomb.finish().unwrap(), 16 << 10), Err(Unreadable));
    }
}
