//! Reading a query vector.

use crate::scan::{Malformed, Scanner};

/// Elasticsearch maps no longer vectors.
const MAX_DIMS: usize = 4096;

/// Reads an array of numbers. Everything else that Elasticsearch takes for a vector (a hex string, a
/// single number, numbers in quotes) is left to it.
pub(super) fn read(scanner: &mut Scanner<'_>) -> Result<Vec<f32>, Malformed> {
    scanner.take(b'[')?;
    let mut vector = Vec::with_capacity(512);
    let mut first = true;
    while scanner.next_element(&mut first)? {
        if vector.len() == MAX_DIMS {
            return Err(Malformed);
        }
        vector.push(scanner.float()?);
    }
    if vector.is_empty() { Err(Malformed) } else { Ok(vector) }
}
