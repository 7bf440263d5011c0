//! One line of the log, and what of a request may stand in it.

use std::net::SocketAddr;
use std::time::SystemTime;

use es_wire::push_json_string;

use crate::door::Caller;

/// Longest text that is taken from a request.
const MAX_TEXT: usize = 1_024;

/// A line that is being made: keys in the order in which they are given.
pub(super) struct Line(String);

impl Line {
    pub(super) fn new(event: &str, node: &str, now: SystemTime) -> Self {
        let mut line = Self(String::with_capacity(512));
        line.0.push('{');
        line.text("type", "audit");
        line.text("timestamp", &humantime::format_rfc3339_millis(now).to_string());
        line.text("node.address", node);
        line.text("event.action", event);
        line
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        push_json_string(&mut self.0, value);
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.0.push_str(&value.to_string());
    }

    /// Where the connection comes from.
    pub(super) fn origin(&mut self, address: SocketAddr) {
        self.text("origin.type", "rest");
        self.text("origin.address", &address.to_string());
    }

    /// Who asks, and on whose account.
    pub(super) fn caller(&mut self, caller: &Caller) {
        self.text("tenant", caller.tenant.name());
        self.text("tenant.rule", caller.rule.name());
        self.text("authentication", caller.identity.name());
        let Some(claims) = caller.identity.claims() else { return };
        self.text("user.name", claims.username);
        if let Some(realm) = claims.realm {
            self.text("user.realm", realm);
        }
        if let Some((id, name)) = claims.api_key {
            self.text("apikey.id", id);
            if let Some(name) = name {
                self.text("apikey.name", name);
            }
        }
    }

    pub(super) fn finish(mut self) -> String {
        self.0.push_str("}\n");
        self.0
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        push_json_string(&mut self.0, key);
        self.0.push(':');
    }
}

/// A path as it may be shown: who knows the id of a scroll or an async search can read its results. The query
/// is left out, since it may hold a whole body.
pub(super) fn shown_path(path: &str) -> String {
    const BEFORE_IDS: [&str; 8] = [
        "/_search/scroll/",
        "/_async_search/status/",
        "/_async_search/",
        "/_eql/search/status/",
        "/_eql/search/",
        "/_sql/async/",
        "/_query/async/",
        "/_security/oauth2/",
    ];
    match BEFORE_IDS.iter().find(|prefix| path.starts_with(**prefix)) {
        Some(prefix) => format!("{prefix}***"),
        None => cut(path).to_owned(),
    }
}

/// The beginning of a long text.
pub(super) fn cut(text: &str) -> &str {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn lines_are_json_whatever_they_hold() {
        let mut line = Line::new("refused", "n", SystemTime::UNIX_EPOCH + Duration::from_millis(1_500));
        line.text("url.path", "/a\"\n\u{1}\u{2028}");
        line.number("http.status", 403);
        let text = line.finish();
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["timestamp"], "1970-01-01T00:00:01.500Z");
        assert_eq!((&value["url.path"], &value["http.status"]), (&"/a\"\n\u{1}\u{2028}".into(), &403.into()));
    }

    #[test]
    fn what_gives_access_is_not_shown() {
        for (path, shown) in [
            ("/_search/scroll/c2VjcmV0", "/_search/scroll/***"),
            ("/_async_search/status/c2VjcmV0", "/_async_search/status/***"),
            ("/_async_search/c2VjcmV0", "/_async_search/***"),
            ("/a/_doc/1", "/a/_doc/1"),
        ] {
            assert_eq!(shown_path(path), shown);
        }
        assert_eq!(shown_path(&"ä".repeat(5_000)).chars().count(), MAX_TEXT);
    }
}
