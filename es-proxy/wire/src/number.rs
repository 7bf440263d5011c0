//! Numbers out of JSON text, as float32 with the rounding of Elasticsearch: once, from the decimal digits.

use crate::scan::Malformed;

/// So many decimal digits always fit a `u64`.
const MAX_EXACT_DIGITS: usize = 19;

/// An integer with more digits may not be a Java long.
const MAX_INTEGER_DIGITS: usize = 18;

/// The digits of a number while they fit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Decimal {
    negative: bool,
    is_integer: bool,
    /// All digits as one integer; wraps beyond 19 digits.
    mantissa: u64,
    /// How many digits were read.
    digits: usize,
    exponent: i32,
}

/// A number as float32, as Jackson's `getFloatValue` gives it. Too large for a float is malformed, so is
/// an integer too long to be a Java long.
#[inline]
pub(crate) fn float(text: &[u8], at: &mut usize) -> Result<f32, Malformed> {
    let start = *at;
    let decimal = Decimal::read(text, at)?;
    match decimal.to_float(2) {
        Some(exact) => Ok(exact),
        None => decimal.slow_float(&text[start..*at]),
    }
}

/// The same where the number takes a way through float64 and back to text before it is read, as the
/// numbers of an update do. Malformed where that might make a difference.
#[inline]
pub(crate) fn float_by_way_of_double(text: &[u8], at: &mut usize) -> Result<f32, Malformed> {
    // Rounding to float64 moves a value by half a unit in the last place, printing it by another half.
    Decimal::read(text, at)?.to_float(4).ok_or(Malformed)
}

impl Decimal {
    /// Checks the grammar of a number and collects its digits on the way.
    #[inline]
    pub(crate) fn read(text: &[u8], at: &mut usize) -> Result<Self, Malformed> {
        let negative = text.get(*at) == Some(&b'-');
        *at += usize::from(negative);
        let mut decimal = Self { negative, is_integer: true, ..Self::default() };
        match text.get(*at) {
            Some(b'0') => {
                *at += 1;
                decimal.digits = 1;
                if matches!(text.get(*at), Some(b'0'..=b'9')) {
                    return Err(Malformed);
                }
            }
            Some(b'1'..=b'9') => decimal.read_digits(text, at)?,
            _ => return Err(Malformed),
        }
        if text.get(*at) == Some(&b'.') {
            *at += 1;
            let whole = decimal.digits;
            decimal.read_digits(text, at)?;
            decimal.exponent = -((decimal.digits - whole) as i32);
            decimal.is_integer = false;
        }
        if matches!(text.get(*at), Some(b'e' | b'E')) {
            *at += 1;
            decimal.exponent = decimal.exponent.saturating_add(read_exponent(text, at)?);
            decimal.is_integer = false;
        }
        Ok(decimal)
    }

    #[inline]
    fn read_digits(&mut self, text: &[u8], at: &mut usize) -> Result<(), Malformed> {
        let start = *at;
        let mut mantissa = self.mantissa;
        while let Some(eight) = text.get(*at..*at + 8).and_then(eight_digits) {
            mantissa = mantissa.wrapping_mul(100_000_000).wrapping_add(eight);
            *at += 8;
        }
        while let Some(digit) = text.get(*at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10)
        {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
            *at += 1;
        }
        self.mantissa = mantissa;
        self.digits += *at - start;
        if *at == start { Err(Malformed) } else { Ok(()) }
    }

    /// The nearest float32, where float64 arithmetic proves it; `None` means: use the slow way.
    ///
    /// Powers of ten up to 10^22 are exact in float64. So at most the mantissa and then the product or
    /// quotient are rounded, and the result is off by less than two units in its last place. Rounding
    /// it to float32 can go wrong only that close to the middle between two floats, which has exactly
    /// one pattern of low bits. `margin`, two or more, says how many units to stay away from it.
    #[inline]
    fn to_float(self, margin: u64) -> Option<f32> {
        const POWERS: [f64; 23] = [
            1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
            1e18, 1e19, 1e20, 1e21, 1e22,
        ];
        if self.digits > MAX_EXACT_DIGITS || self.is_integer && self.digits > MAX_INTEGER_DIGITS {
            return None;
        }
        if self.mantissa == 0 {
            // A Java int has no negative zero.
            return Some(if self.negative && !self.is_integer { -0.0 } else { 0.0 });
        }
        let power = *POWERS.get(self.exponent.unsigned_abs() as usize)?;
        let mantissa = self.mantissa as f64;
        let double = if self.exponent < 0 { mantissa / power } else { mantissa * power };
        let from_middle = (double.to_bits() & 0x1fff_ffff).abs_diff(0x1000_0000);
        let normal = (f64::from(f32::MIN_POSITIVE)..1e38).contains(&double);
        if from_middle <= margin || !normal {
            return None;
        }
        Some(if self.negative { -double } else { double } as f32)
    }

    #[cold]
    fn slow_float(self, text: &[u8]) -> Result<f32, Malformed> {
        if self.is_integer && self.digits > MAX_INTEGER_DIGITS {
            return Err(Malformed);
        }
        let text = std::str::from_utf8(text).map_err(|_| Malformed)?;
        let value: f32 = text.parse().map_err(|_| Malformed)?;
        if value.is_finite() { Ok(value) } else { Err(Malformed) }
    }
}

/// The number that eight digits are; `None` unless all of them are digits.
#[inline]
fn eight_digits(text: &[u8]) -> Option<u64> {
    let bytes = u64::from_le_bytes(text.try_into().ok()?);
    let high = 0xf0f0_f0f0_f0f0_f0f0;
    // A digit is 0x30 to 0x39: its high half is 3, and still is after 6 is added.
    let digits = (bytes & high) | ((bytes.wrapping_add(0x0606_0606_0606_0606) & high) >> 4);
    if digits != 0x3333_3333_3333_3333 {
        return None;
    }
    // Neighbours are joined: eight digits, four pairs, two fours, one eight.
    let pairs = (bytes & 0x0f0f_0f0f_0f0f_0f0f).wrapping_mul(10 * 256 + 1) >> 8;
    let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul(100 * 65_536 + 1) >> 16;
    Some((fours & 0x0000_ffff_0000_ffff).wrapping_mul(10_000 * 4_294_967_296 + 1) >> 32)
}

fn read_exponent(text: &[u8], at: &mut usize) -> Result<i32, Malformed> {
    let negative = text.get(*at) == Some(&b'-');
    if matches!(text.get(*at), Some(b'-' | b'+')) {
        *at += 1;
    }
    let start = *at;
    let mut exponent = 0i32;
    while let Some(digit @ b'0'..=b'9') = text.get(*at) {
        exponent = exponent.saturating_mul(10).saturating_add(i32::from(digit - b'0'));
        *at += 1;
    }
    if *at == start {
        return Err(Malformed);
    }
    Ok(if negative { -exponent } else { exponent })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<f32, Malformed> {
        let mut at = 0;
        let value = float(text.as_bytes(), &mut at)?;
        assert_eq!(at, text.len(), "{text}");
        Ok(value)
    }

    #[test]
    fn floats_are_rounded_once() {
        assert_eq!(read("0.1"), Ok(0.1));
        assert_eq!(read("-2"), Ok(-2.0));
        assert_eq!(read("1e39"), Err(Malformed));
        assert_eq!(read("1234567890123456789"), Err(Malformed));
        assert_eq!(read("16777217.0000000001"), Ok(16777218.0), "rounding by way of a double gives ...216");
        assert_eq!(read("9007199791611905"), Ok(9_007_200_328_482_816.0), "as seen on 9.2.0");
        assert_eq!(read("1e-45"), Ok(1e-45));
        assert!(read("-0").unwrap().is_sign_positive());
        assert!(read("-0.0").unwrap().is_sign_negative());
    }

    #[test]
    fn updates_take_only_numbers_that_two_roundings_leave_alone() {
        let read = |text: &str| float_by_way_of_double(text.as_bytes(), &mut 0);
        assert_eq!(read("0.1"), Ok(0.1));
        assert_eq!(read("16777217.0000000001"), Err(Malformed));
        assert_eq!(read("16777217"), Err(Malformed), "in the very middle");
    }

    proptest! {
        #[test]
        fn floats_equal_the_standard_library(value in any::<f32>().prop_filter("finite", |v| v.is_finite()), digits in 0usize..25) {
            for text in [format!("{value:e}"), format!("{value:.digits$e}"), format!("{:.digits$e}", f64::from(value) * 1.000_000_03)] {
                let expected: f32 = text.parse().unwrap();
                if expected.is_finite() && (text.contains('.') || text.contains('e')) {
                    prop_assert_eq!(read(&text).unwrap().to_bits(), expected.to_bits(), "{}", text);
                }
            }
        }

        #[test]
        fn decimals_equal_the_standard_library(whole in 0u32..100_000, fraction in "[0-9]{1,20}", sign in "-?") {
            let text = format!("{sign}{whole}.{fraction}");
            prop_assert_eq!(read(&text).unwrap().to_bits(), text.parse::<f32>().unwrap().to_bits());
        }

        #[test]
        fn updates_equal_two_roundings(whole in 0u32..100_000, fraction in "[0-9]{1,18}") {
            let text = format!("{whole}.{fraction}");
            if let Ok(value) = float_by_way_of_double(text.as_bytes(), &mut 0) {
                let double: f64 = text.parse().unwrap();
                prop_assert_eq!(value.to_bits(), format!("{double}").parse::<f32>().unwrap().to_bits());
            }
        }

        #[test]
        fn the_grammar_is_that_of_json(text in "[0-9.eE+-]{0,12}") {
            let mut at = 0;
            let ours = Decimal::read(text.as_bytes(), &mut at).is_ok() && at == text.len();
            prop_assert_eq!(ours, serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok());
        }
    }
}
