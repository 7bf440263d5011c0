//! Reading a query vector.

use crate::Capabilities;
use crate::hex::bytes_of_hex;
use crate::scan::{Malformed, Scanner, unquote};

/// Elasticsearch maps no longer vectors; 32,768 bits are as many bytes.
const MAX_VALUES: usize = 4096;

/// Reads an array of numbers, or a hex string where the version takes one (for a field of floats too: each
/// byte is a value then). Everything else that Elasticsearch takes for a vector (a single number, numbers in
/// quotes) is left to it.
pub(super) fn read(scanner: &mut Scanner<'_>, caps: &Capabilities) -> Result<Vec<f32>, Malformed> {
    if caps.hex_vectors && scanner.peek() == Some(b'"') {
        let vector = bytes_of_hex(&unquote(scanner.value()?)?).ok_or(Malformed)?;
        return if vector.len() > MAX_VALUES { Err(Malformed) } else { Ok(vector) };
    }
    scanner.take(b'[')?;
    let mut vector = Vec::with_capacity(512);
    let mut first = true;
    while scanner.next_element(&mut first)? {
        if vector.len() == MAX_VALUES {
            return Err(Malformed);
        }
        vector.push(scanner.float()?);
    }
    if vector.is_empty() { Err(Malformed) } else { Ok(vector) }
}
