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

    /// Whether no index can be meant.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for IndexPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
