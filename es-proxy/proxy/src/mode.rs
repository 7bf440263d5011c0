//! The switch: whole node, one index or one request, live.

use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

use dashmap::DashMap;
use http::HeaderMap;

use crate::upstream::MODE;

/// What is done with searches that could be answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Answer them.
    Serve,
    /// Elasticsearch answers them; ours is computed in the background and compared.
    Shadow,
    /// Elasticsearch answers everything.
    Pass,
}

impl Mode {
    /// The word used in configuration, the admin port and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Shadow => "shadow",
            Self::Pass => "pass",
        }
    }

    /// The more careful of two modes.
    pub(crate) fn or_more_careful(self, other: Self) -> Self {
        if self as u8 >= other as u8 { self } else { other }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "serve" => Ok(Self::Serve),
            "shadow" => Ok(Self::Shadow),
            "pass" => Ok(Self::Pass),
            other => Err(format!("[{other}] is none of serve, shadow, pass")),
        }
    }
}

/// Whether a request asks that Elasticsearch answer it.
pub(crate) fn says_pass(headers: &HeaderMap) -> bool {
    headers.get(MODE).is_some_and(|mode| mode.as_bytes() == b"pass")
}

/// The modes in force.
#[derive(Debug)]
pub struct Modes {
    node: AtomicU8,
    indices: DashMap<String, Mode>,
}

/// Indices that may have a mode of their own; a switch for more is refused.
const MAX_INDICES: usize = 10_000;

impl Modes {
    /// All indices in `node` mode.
    pub fn new(node: Mode) -> Self {
        Self { node: AtomicU8::new(node as u8), indices: DashMap::new() }
    }

    /// The node's mode.
    pub fn node(&self) -> Mode {
        match self.node.load(Ordering::Relaxed) {
            0 => Mode::Serve,
            1 => Mode::Shadow,
            _ => Mode::Pass,
        }
    }

    /// Switches the node.
    pub fn set_node(&self, mode: Mode) {
        self.node.store(mode as u8, Ordering::Relaxed);
        tracing::warn!(mode = mode.name(), "node switched");
    }

    /// Switches one index (by its concrete name); [`Mode::Serve`] forgets it. Returns false when
    /// too many indices have modes of their own.
    pub fn set_index(&self, index: &str, mode: Mode) -> bool {
        if mode == Mode::Serve {
            self.indices.remove(index);
        } else if self.indices.len() >= MAX_INDICES && !self.indices.contains_key(index) {
            return false;
        } else {
            self.indices.insert(index.to_owned(), mode);
        }
        tracing::warn!(index, mode = mode.name(), "index switched");
        true
    }

    /// Indices with a mode of their own.
    pub fn indices(&self) -> Vec<(String, Mode)> {
        let mut all: Vec<_> =
            self.indices.iter().map(|entry| (entry.key().clone(), *entry.value())).collect();
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// What is done with a search of `index`: the most careful of node and index.
    pub(crate) fn of(&self, index: &str) -> Mode {
        let own = if self.indices.is_empty() { None } else { self.indices.get(index).map(|mode| *mode) };
        self.node().or_more_careful(own.unwrap_or(Mode::Serve))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_careful_mode_wins() {
        let modes = Modes::new(Mode::Serve);
        assert_eq!(modes.of("a"), Mode::Serve);
        assert!(modes.set_index("a", Mode::Shadow));
        assert_eq!((modes.of("a"), modes.of("b")), (Mode::Shadow, Mode::Serve));
        modes.set_node(Mode::Pass);
        assert_eq!(modes.of("a"), Mode::Pass);
        modes.set_node(Mode::Serve);
        assert!(modes.set_index("a", Mode::Serve));
        assert_eq!(modes.of("a"), Mode::Serve);
        assert!(modes.indices().is_empty());
    }
}
