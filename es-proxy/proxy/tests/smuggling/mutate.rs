//! Random changes of the cases of [`corpus`](super::corpus): where nobody thought of a trick.

use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::smuggling::corpus::Case;

/// What parsers trip over.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b"\x0b",
    b"\xff",
    b":",
    b",",
    b";",
    b"#",
    b"%",
    b"0",
    b"0\r\n\r\n",
    b"1\r\nx\r\n",
    b"\r\n ",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding: identity\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive, Upgrade\r\n",
    b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"Expect: more\r\n",
    b"Content-Encoding: gzip\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1\r\n",
    b"GET /_smuggled HTTP/1.1\r\nHost: es\r\n\r\n",
    b"HEAD /_head HTTP/1.1\r\nHost: es\r\n\r\n",
];

/// One of the cases, changed in a few places.
pub fn mutated(cases: &[Case], random: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let mut raw = cases[random.gen_range(0..cases.len())].raw.clone();
    for _ in 0..random.gen_range(1..=4) {
        let at = random.gen_range(0..=raw.len());
        let end = (at + random.gen_range(1..=24)).min(raw.len());
        match random.gen_range(0..6) {
            0 if at < raw.len() => raw[at] ^= 1 << random.gen_range(0..8),
            1 => drop(raw.drain(at..end)),
            2 => {
                let twice = raw[at..end].to_vec();
                raw.splice(at..at, twice);
            }
            3 => {
                let other = &cases[random.gen_range(0..cases.len())].raw;
                let from = random.gen_range(0..other.len());
                let to = (from + random.gen_range(1..=64)).min(other.len());
                raw.splice(at..at, other[from..to].iter().copied());
            }
            4 if random.gen_bool(0.1) => raw.truncate(at),
            _ => {
                let piece = PIECES[random.gen_range(0..PIECES.len())];
                raw.splice(at..at, piece.iter().copied());
            }
        }
    }
    raw
}
