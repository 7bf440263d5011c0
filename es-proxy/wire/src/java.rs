//! Floats as Java prints them: `Float.toString` of JDK 19 and later.

/// `value` as Java's `Float.toString` writes it: shortest digits that read back to the same float,
/// always with a fraction, plain between 1e-3 and 1e7, else with a capital E.
pub fn float(value: f32) -> String {
    let mut out = String::new();
    push_float(&mut out, value);
    out
}

/// Appends [`float`] to `out`.
pub fn push_float(out: &mut String, value: f32) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let magnitude = value.abs();
    let is_plain = magnitude == 0.0 || (1e-3..1e7).contains(&magnitude);
    let shortest = if is_plain { format!("{value:?}") } else { format!("{value:E}") };
    let nearest = with_digits(value, fraction_digits(&shortest).max(1), is_plain);
    // Beside a power of two the nearest number of that length may belong to the neighbour.
    out.push_str(if nearest.parse() == Ok(value) { &nearest } else { &shortest });
}

/// The number with so many digits after the point that is nearest to `value`.
///
/// Of two shortest numbers equally near Java takes the one with an even last digit, which is how Rust
/// rounds to a given length, but not how it chooses a shortest form. And where one digit would do, Java
/// still gives the nearest number of two: 1.4E-45, not 1.0E-45.
fn with_digits(value: f32, digits: usize, is_plain: bool) -> String {
    if is_plain { format!("{value:.digits$}") } else { format!("{value:.digits$E}") }
}

fn fraction_digits(number: &str) -> usize {
    let mantissa = number.split('E').next().unwrap_or(number);
    mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_java_outputs() {
        let known = [
            (1.0, "1.0"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (0.8, "0.8"),
            (0.33333334, "0.33333334"),
            (5.205351e-5, "5.205351E-5"),
            (1e10, "1.0E10"),
            (1e7, "1.0E7"),
            (9_999_999.0, "9999999.0"),
            (0.001, "0.001"),
            (0.000_999_999_9, "9.999999E-4"),
            (359_427.13, "359427.12"),
            (2_988_077.3, "2988077.2"),
            (32_009.313, "32009.312"),
            (f32::MAX, "3.4028235E38"),
            (f32::MIN_POSITIVE, "1.1754944E-38"),
            (1e-45, "1.4E-45"),
            (3e-45, "2.8E-45"),
            (f32::NAN, "NaN"),
            (f32::NEG_INFINITY, "-Infinity"),
        ];
        for (value, printed) in known {
            assert_eq!(float(value), printed);
        }
    }

    proptest! {
        #[test]
        fn reads_back_to_the_same_float(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            let printed = float(value);
            prop_assert_eq!(printed.parse::<f32>().unwrap().to_bits(), bits);
            let mantissa = printed.split('E').next().unwrap();
            prop_assert!(mantissa.contains('.') && !mantissa.ends_with('.'), "{}", printed);
        }
    }
}
