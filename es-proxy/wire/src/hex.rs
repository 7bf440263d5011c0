//! Vectors of bytes as Elasticsearch also takes them: a string of hexadecimal digits.

/// The signed bytes of a string with two digits per byte, as numbers. `None` for anything else, the empty
/// string included: no vector has no dimensions.
pub fn bytes_of_hex(text: &str) -> Option<Vec<f32>> {
    if text.is_empty() || !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| {
            let byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
            Some(f32::from(byte as i8))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_digits_are_a_signed_byte() {
        assert_eq!(bytes_of_hex("01fE80"), Some(vec![1.0, -2.0, -128.0]));
        for text in ["", "0", "012", "zz", "0x", "é1"] {
            assert_eq!(bytes_of_hex(text), None, "{text}");
        }
    }
}
