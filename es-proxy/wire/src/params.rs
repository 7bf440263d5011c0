//! The query part of a URL, decoded as Elasticsearch decodes it.

use percent_encoding::percent_decode_str;

/// The parameters of a URL in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(pub Vec<(String, String)>);

impl Params {
    /// Decodes a query string (without the `?`): separators `&` and `;`, `+` as a blank, a name
    /// without `=` has an empty value. `None` if an escape is malformed or not UTF-8 (Elasticsearch
    /// answers such requests with an error of its own), or where a raw byte is above ASCII.
    pub fn parse(query: &str) -> Option<Self> {
        let mut pairs = Vec::new();
        for part in query.split(['&', ';']).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((decode(name)?, decode(value)?));
        }
        Some(Self(pairs))
    }

    /// The parameters of a URL that may have none; see [`Params::parse`].
    pub fn of(query: Option<&str>) -> Option<Self> {
        query.map_or_else(|| Some(Self::default()), Self::parse)
    }

    /// The last value given for `name`, as in Elasticsearch.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A switch such as `pretty`, `human`, `rest_total_hits_as_int`: present with an empty value means
    /// on. `None` for a value that Elasticsearch refuses.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.get(name) {
            None | Some("false") => Some(false),
            Some("" | "true") => Some(true),
            Some(_) => None,
        }
    }

    /// A switch such as `version`, `explain`, for which an empty value means that it was not given.
    /// `Err` for a value that Elasticsearch refuses.
    pub fn tristate(&self, name: &str) -> Result<Option<bool>, BadFlag> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(BadFlag),
        }
    }

    /// Whether a name stands more than once.
    pub fn has_duplicates(&self) -> bool {
        let mut seen = std::collections::HashSet::new();
        self.0.iter().any(|(name, _)| !seen.insert(name.as_str()))
    }
}

/// The value is neither `true` nor `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither true nor false")]
pub struct BadFlag;

fn decode(text: &str) -> Option<String> {
    if !text.is_ascii() || !escapes_are_whole(text) {
        return None;
    }
    let blanks = text.replace('+', " ");
    percent_decode_str(&blanks).decode_utf8().ok().map(|decoded| decoded.into_owned())
}

/// Whether each `%` is followed by two hexadecimal digits.
pub(crate) fn escapes_are_whole(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().filter(|&(_, &byte)| byte == b'%').all(|(at, _)| {
        bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_in_order() {
        let params = Params::parse("a=1&b=x+y%2Cz;pretty&a=2&=e&c==").unwrap();
        let pairs: Vec<_> = params.0.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("a", "1"), ("b", "x y,z"), ("pretty", ""), ("a", "2"), ("", "e"), ("c", "=")]);
        assert_eq!(params.get("a"), Some("2"));
        assert!(params.has_duplicates());
        assert_eq!(params.flag("pretty"), Some(true));
        assert_eq!(params.flag("human"), Some(false));
        assert_eq!(params.flag("a"), None);
        assert_eq!(params.tristate("pretty"), Ok(None));
        assert_eq!(params.tristate("a"), Err(BadFlag));
    }

    #[test]
    fn malformed_escapes_are_not_ours() {
        for query in ["a=%", "a=%2", "%zz=1", "a=%ff", "a=é"] {
            assert_eq!(Params::parse(query), None, "{query}");
        }
    }
}
