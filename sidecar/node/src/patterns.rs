//! Names of indices with `*` for any characters, as Elasticsearch's index patterns.

use std::fmt;
use std::str::FromStr;

use es_wire::matches_wildcard;

/// None, one or several patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexPatterns(Vec<String>);

impl IndexPatterns {
    /// Whether some pattern covers a name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| matches_wildcard(pattern, name))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

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

impl fmt::Display for IndexPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_of_several_patterns_is_enough() {
        let patterns: IndexPatterns = "orders, logs-*, *-live".parse().unwrap();
        for name in ["orders", "logs-", "logs-1", "x-live"] {
            assert!(patterns.contains(name), "{name}");
        }
        for name in ["order", "orders1", "log", "live"] {
            assert!(!patterns.contains(name), "{name}");
        }
        assert!(!IndexPatterns::default().contains(""));
        assert!("a,,b".parse::<IndexPatterns>().is_err());
    }
}
