//! A strict scanner over JSON text: values come back as slices of the input, nothing is copied.
//!
//! It exists beside serde_json because two things need it: a query vector must be read in a few
//! microseconds with the rounding of Elasticsearch, and answers must be filtered and laid out anew
//! with every token's bytes kept.

use std::borrow::Cow;

/// Deeper nesting than any request of ours has; Elasticsearch itself stops at 1,000.
const MAX_DEPTH: usize = 200;

/// So many decimal digits always fit a `u64`.
const MAX_EXACT_DIGITS: usize = 19;

/// Not the JSON that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A place in a text.
#[derive(Clone, Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// One entry of an object, both parts as written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    /// With its quotes.
    pub(crate) key: &'a str,
    /// Without surrounding blanks.
    pub(crate) value: &'a str,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is not blank.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        self.skip_blanks();
        self.byte()
    }

    /// Takes `wanted` if it is next.
    pub(crate) fn take(&mut self, wanted: u8) -> Result<(), Malformed> {
        if self.peek() != Some(wanted) {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    /// Succeeds where nothing but blanks is left.
    pub(crate) fn end(&mut self) -> Result<(), Malformed> {
        if self.peek().is_none() { Ok(()) } else { Err(Malformed) }
    }

    /// The next key of an object whose `{` was taken, with its quotes and with the scanner after the
    /// colon; `None` once the `}` is taken. `first` starts as true.
    pub(crate) fn next_key(&mut self, first: &mut bool) -> Result<Option<&'a str>, Malformed> {
        if self.peek() == Some(b'}') && *first {
            self.at += 1;
            return Ok(None);
        }
        if !std::mem::take(first) {
            match self.peek() {
                Some(b'}') => {
                    self.at += 1;
                    return Ok(None);
                }
                Some(b',') => self.at += 1,
                _ => return Err(Malformed),
            }
        }
        self.skip_blanks();
        let key = self.string()?;
        self.take(b':')?;
        self.skip_blanks();
        Ok(Some(key))
    }

    /// Whether another element follows in an array whose `[` was taken; the scanner then stands before
    /// it, else after the `]`. `first` starts as true.
    pub(crate) fn next_element(&mut self, first: &mut bool) -> Result<bool, Malformed> {
        match self.peek() {
            Some(b']') => {
                self.at += 1;
                return Ok(false);
            }
            Some(b',') if !*first => {
                self.at += 1;
                if self.peek() == Some(b']') {
                    return Err(Malformed);
                }
            }
            Some(_) if *first => {}
            _ => return Err(Malformed),
        }
        *first = false;
        Ok(true)
    }

    /// The next value as written.
    pub(crate) fn value(&mut self) -> Result<&'a str, Malformed> {
        self.skip_blanks();
        let start = self.at;
        self.skip_value(0)?;
        Ok(&self.text[start..self.at])
    }

    /// A number as float32, rounded once from its decimal digits, as Jackson does. Too large for a
    /// float is malformed, so is an integer too long to be a Java long.
    pub(crate) fn float(&mut self) -> Result<f32, Malformed> {
        self.skip_blanks();
        let start = self.at;
        let number = self.number()?;
        if number.is_integer && number.digits > 18 {
            return Err(Malformed);
        }
        if let Some(exact) = number.to_float() {
            return Ok(exact);
        }
        let slow: f32 = self.text[start..self.at].parse().map_err(|_| Malformed)?;
        if slow.is_finite() { Ok(slow) } else { Err(Malformed) }
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn skip_blanks(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn skip_value(&mut self, depth: usize) -> Result<(), Malformed> {
        if depth > MAX_DEPTH {
            return Err(Malformed);
        }
        match self.byte().ok_or(Malformed)? {
            b'"' => self.string().map(drop),
            b'{' => {
                self.at += 1;
                let mut first = true;
                while self.next_key(&mut first)?.is_some() {
                    self.skip_value(depth + 1)?;
                }
                Ok(())
            }
            b'[' => {
                self.at += 1;
                let mut first = true;
                while self.next_element(&mut first)? {
                    self.skip_value(depth + 1)?;
                }
                Ok(())
            }
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => self.number().map(drop),
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), Malformed> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(Malformed);
        }
        self.at += word.len();
        Ok(())
    }

    /// A string with its quotes.
    fn string(&mut self) -> Result<&'a str, Malformed> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        if self.byte() != Some(b'"') {
            return Err(Malformed);
        }
        self.at += 1;
        loop {
            match self.byte().ok_or(Malformed)? {
                b'"' => {
                    self.at += 1;
                    return Ok(&self.text[start..self.at]);
                }
                b'\\' => {
                    let escape = *bytes.get(self.at + 1).ok_or(Malformed)?;
                    self.at += match escape {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                        b'u' => {
                            let digits = bytes.get(self.at + 2..self.at + 6).ok_or(Malformed)?;
                            if !digits.iter().all(u8::is_ascii_hexdigit) {
                                return Err(Malformed);
                            }
                            6
                        }
                        _ => return Err(Malformed),
                    };
                }
                0..=0x1f => return Err(Malformed),
                _ => self.at += 1,
            }
        }
    }

    /// Checks the grammar of a number and collects its digits on the way.
    #[inline]
    fn number(&mut self) -> Result<Decimal, Malformed> {
        let negative = self.byte() == Some(b'-');
        self.at += usize::from(negative);
        let mut decimal = Decimal { negative, is_integer: true, ..Decimal::default() };
        match self.byte() {
            Some(b'0') => {
                self.at += 1;
                decimal.digits = 1;
                if matches!(self.byte(), Some(b'0'..=b'9')) {
                    return Err(Malformed);
                }
            }
            Some(b'1'..=b'9') => self.digits(&mut decimal)?,
            _ => return Err(Malformed),
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            let whole = decimal.digits;
            self.digits(&mut decimal)?;
            decimal.exponent = -((decimal.digits - whole) as i32);
            decimal.is_integer = false;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            decimal.exponent = decimal.exponent.saturating_add(self.exponent()?);
            decimal.is_integer = false;
        }
        Ok(decimal)
    }

    fn digits(&mut self, decimal: &mut Decimal) -> Result<(), Malformed> {
        let rest = &self.text.as_bytes()[self.at..];
        let mut mantissa = decimal.mantissa;
        let mut count = 0;
        for byte in rest {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
            count += 1;
        }
        decimal.mantissa = mantissa;
        decimal.digits += count;
        self.at += count;
        if count == 0 { Err(Malformed) } else { Ok(()) }
    }

    fn exponent(&mut self) -> Result<i32, Malformed> {
        let negative = self.byte() == Some(b'-');
        if matches!(self.byte(), Some(b'-' | b'+')) {
            self.at += 1;
        }
        let start = self.at;
        let mut exponent = 0i32;
        while let Some(digit @ b'0'..=b'9') = self.byte() {
            exponent = exponent.saturating_mul(10).saturating_add(i32::from(digit - b'0'));
            self.at += 1;
        }
        if self.at == start {
            return Err(Malformed);
        }
        Ok(if negative { -exponent } else { exponent })
    }
}

/// The digits of a number while they fit.
#[derive(Clone, Copy, Debug, Default)]
struct Decimal {
    negative: bool,
    is_integer: bool,
    /// All digits as one integer; wraps beyond 19 digits.
    mantissa: u64,
    /// How many digits were read.
    digits: usize,
    exponent: i32,
}

impl Decimal {
    /// The nearest float32, where float64 arithmetic proves it; `None` means: use the slow way.
    ///
    /// Powers of ten up to 10^22 are exact in float64. So at most the mantissa and then the product or
    /// quotient are rounded, and the result is off by less than two units in its last place. Rounding
    /// it to float32 can go wrong only that close to the middle between two floats, which has exactly
    /// one pattern of low bits.
    fn to_float(self) -> Option<f32> {
        const POWERS: [f64; 23] = [
            1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
            1e18, 1e19, 1e20, 1e21, 1e22,
        ];
        if self.digits > MAX_EXACT_DIGITS {
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
        if from_middle <= 2 || !normal {
            return None;
        }
        Some(if self.negative { -double } else { double } as f32)
    }
}

/// The entries of the object that `text` is.
pub(crate) fn members(text: &str) -> Result<Vec<Member<'_>>, Malformed> {
    let mut scanner = Scanner::new(text);
    scanner.take(b'{')?;
    let mut members = Vec::new();
    let mut first = true;
    while let Some(key) = scanner.next_key(&mut first)? {
        members.push(Member { key, value: scanner.value()? });
    }
    scanner.end()?;
    Ok(members)
}

/// The elements of the array that `text` is.
pub(crate) fn elements(text: &str) -> Result<Vec<&str>, Malformed> {
    let mut scanner = Scanner::new(text);
    scanner.take(b'[')?;
    let mut elements = Vec::new();
    let mut first = true;
    while scanner.next_element(&mut first)? {
        elements.push(scanner.value()?);
    }
    scanner.end()?;
    Ok(elements)
}

/// The text of a string that was scanned with its quotes.
pub(crate) fn unquote(raw: &str) -> Result<Cow<'_, str>, Malformed> {
    let inner = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(Malformed)?;
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    // Only here can a lone surrogate turn up.
    serde_json::from_str(raw).map(Cow::Owned).map_err(|_| Malformed)
}

/// Whether some object inside `text` repeats a key: Elasticsearch refuses that at any depth.
pub(crate) fn repeats_a_key(text: &str) -> Result<bool, Malformed> {
    match text.as_bytes().first() {
        Some(b'{') => {
            let members = members(text)?;
            let mut keys = members.iter().map(|member| unquote(member.key)).collect::<Result<Vec<_>, _>>()?;
            keys.sort_unstable();
            if keys.windows(2).any(|pair| pair[0] == pair[1]) {
                return Ok(true);
            }
            members.iter().try_fold(false, |found, member| Ok(found || repeats_a_key(member.value)?))
        }
        Some(b'[') => {
            elements(text)?.into_iter().try_fold(false, |found, one| Ok(found || repeats_a_key(one)?))
        }
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(text: &str) -> Result<&str, Malformed> {
        let mut scanner = Scanner::new(text);
        let value = scanner.value()?;
        scanner.end()?;
        Ok(value)
    }

    #[test]
    fn strict_where_jackson_is_strict() {
        for text in ["{\"a\":1}", "[1, -0.5e+3]", "\"\\u00e9\\n\"", "null", " 0 ", "{}", "[ ]"] {
            assert!(whole(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "{",
            "{\"a\":1,}",
            "{,}",
            "[1,]",
            "[,1]",
            "[1 2]",
            "01",
            "+1",
            ".5",
            "1.",
            "1e",
            "-",
            "NaN",
            "tru",
            "\"\\x\"",
            "\"\\u00g0\"",
            "\"a",
            "\"\n\"",
            "{a:1}",
            "{\"a\" 1}",
            "1 2",
            "// c\n1",
        ] {
            assert!(whole(text).is_err(), "{text}");
        }
        assert!(whole(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn floats_are_rounded_once() {
        let read = |text: &str| Scanner::new(text).float();
        assert_eq!(read("0.1"), Ok(0.1));
        assert_eq!(read("-2"), Ok(-2.0));
        assert_eq!(read("1e39"), Err(Malformed));
        assert_eq!(read("1234567890123456789"), Err(Malformed));
        assert_eq!(read("16777217.0000000001"), Ok(16777218.0), "rounding by way of a double gives ...216");
        assert_eq!(read("1e-45"), Ok(1e-45));
        assert!(read("-0").unwrap().is_sign_positive());
        assert!(read("-0.0").unwrap().is_sign_negative());
    }

    #[test]
    fn repeated_keys_are_found_at_any_depth() {
        assert_eq!(repeats_a_key(r#"{"a":[{"b":1,"\u0062":2}]}"#), Ok(true));
        assert_eq!(repeats_a_key(r#"{"a":[{"b":1},{"b":2}]}"#), Ok(false));
    }

    proptest! {
        #[test]
        fn accepts_what_serde_json_accepts(text in r#"[\[\]{}",:0-9eE.+\-a \\u]{0,24}"#) {
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(whole(&text).is_ok(), theirs);
        }

        #[test]
        fn floats_equal_the_standard_library(value in any::<f32>().prop_filter("finite", |v| v.is_finite()), digits in 0usize..25) {
            for text in [format!("{value:e}"), format!("{value:.digits$e}"), format!("{:.digits$e}", f64::from(value) * 1.000_000_03)] {
                let expected: f32 = text.parse().unwrap();
                if expected.is_finite() && (text.contains('.') || text.contains('e')) {
                    prop_assert_eq!(Scanner::new(&text).float().unwrap().to_bits(), expected.to_bits(), "{}", text);
                }
            }
        }

        #[test]
        fn decimals_equal_the_standard_library(whole in 0u32..100_000, fraction in "[0-9]{1,20}", sign in "-?") {
            let text = format!("{sign}{whole}.{fraction}");
            prop_assert_eq!(Scanner::new(&text).float().unwrap().to_bits(), text.parse::<f32>().unwrap().to_bits());
        }
    }
}
