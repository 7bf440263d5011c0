//! Index patterns of the configuration.

use std::fmt;
use std::str::FromStr;

use crate::wildcard::matches_wildcard;

/// Patterns as in Elasticsearch's multi-target syntax: `vec-*,logs,-vec-old*`. A leading `-` excludes from what
/// stands before it. Names that begin with a dot must be named with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexPatterns(Vec<String>);

impl FromStr for IndexPatterns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let patterns: Vec<String> = text.split(',').map(|pattern| pattern.trim().to_owned()).collect();
        if patterns.iter().any(String::is_empty) {
            return Err(format!("[{text}] holds an empty pattern"));
        }
        Ok(Self(patterns))
    }
}

impl IndexPatterns {
    /// Whether an index is meant: the last pattern that covers its name decides.
    pub fn contains(&self, index: &str) -> bool {
        let covering = self.0.iter().rev().find_map(|pattern| {
            let (included, pattern) = match pattern.strip_prefix('-') {
                Some(excluded) => (false, excluded),
                None => (true, pattern.as_str()),
            };
            let alike = index.starts_with('.') == pattern.starts_with('.');
            (alike && matches_wildcard(pattern, index)).then_some(included)
        });
        covering == Some(true)
    }

    /// Whether everything that an expression (a name, or a name with `*`) can mean is meant by these patterns,
    /// whatever indices there are. May say no where it is so.
    pub fn cover(&self, expression: &str) -> bool {
        if !expression.contains('*') {
            return self.contains(expression);
        }
        // It reaches names with and without a dot.
        if expression.starts_with('*') {
            return false;
        }
        let mut covered = false;
        for pattern in &self.0 {
            match pattern.strip_prefix('-') {
                Some(excluded) => covered &= !can_meet(excluded, expression),
                // A star of the pattern takes a star of the expression for what it is: any characters.
                None => {
                    let alike = expression.starts_with('.') == pattern.starts_with('.');
                    covered |= alike && matches_wildcard(pattern, expression);
                }
            }
        }
        covered
    }

    /// Whether no index can be meant.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether some name fits both patterns.
fn can_meet(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    // `fits[j]`: what was read of `one` and the first `j` bytes of `other` have a name in common.
    let mut fits = vec![false; other.len() + 1];
    fits[0] = true;
    for (j, byte) in other.iter().enumerate() {
        fits[j + 1] = fits[j] && *byte == b'*';
    }
    for byte in one {
        let mut before = fits[0];
        fits[0] = before && *byte == b'*';
        for (j, other) in other.iter().enumerate() {
            let above = fits[j + 1];
            fits[j + 1] = match (byte, other) {
                (b'*', _) | (_, b'*') => above || fits[j] || before,
                _ => before && byte == other,
            };
            before = above;
        }
    }
    fits[other.len()]
}

impl fmt::Display for IndexPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_pattern_that_covers_a_name_decides() {
        let patterns: IndexPatterns = " vec-*, logs,*-live,-vec-old*,vec-old-1 ,.hidden-*".parse().unwrap();
        for (index, matches) in [
            ("vec-a", true),
            ("x-live", true),
            ("logs", true),
            ("logs-1", false),
            ("vec-old-2", false),
            ("vec-old-1", true),
            (".hidden-1", true),
            (".other", false),
            ("", false),
        ] {
            assert_eq!(patterns.contains(index), matches, "{index}");
        }
        let all: IndexPatterns = "*".parse().unwrap();
        assert!(all.contains("a") && !all.contains(".kibana"));
        let none = IndexPatterns::default();
        assert!(none.is_empty() && !none.contains(""));
        assert!("a,,b".parse::<IndexPatterns>().is_err());
        assert_eq!(patterns.to_string().parse(), Ok(patterns));
    }

    #[test]
    fn an_expression_is_covered_whatever_exists() {
        let patterns: IndexPatterns = "acme-*,shop,-acme-old*,.acme-*,acme-old-1*".parse().unwrap();
        for (expression, covered) in [
            ("acme-1", true),
            ("acme-n*", true),
            ("acme-*-x", false),
            ("acme-*", false),
            ("acme-o*", false),
            ("acme-old-1*", true),
            ("acme-old-*", false),
            ("shop", true),
            ("shop*", false),
            (".acme-*", true),
            ("acme*", false),
            ("*", false),
            ("*acme-1", false),
            ("a*", false),
        ] {
            assert_eq!(patterns.cover(expression), covered, "{expression}");
        }
    }

    proptest! {
        #[test]
        fn what_is_covered_is_contained(
            patterns in prop::collection::vec("-?[.ab*]{1,4}", 1..4),
            expression in "[.ab*]{1,5}",
            name in "[.ab]{0,6}",
        ) {
            let patterns = IndexPatterns(patterns);
            if patterns.cover(&expression) && matches_wildcard(&expression, &name) {
                prop_assert!(patterns.contains(&name), "{patterns} {expression} {name}");
            }
        }

        #[test]
        fn patterns_meet_where_a_name_fits_both(one in "[ab*]{0,4}", other in "[ab*]{0,4}", name in "[ab]{0,5}") {
            if matches_wildcard(&one, &name) && matches_wildcard(&other, &name) {
                prop_assert!(can_meet(&one, &other));
            }
        }
    }
}
