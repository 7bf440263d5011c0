//! Which decisions are written.

use std::fmt;
use std::str::FromStr;

use crate::telemetry::Served;

/// A kind of line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// We refused it: who it is, a limit, a quota, isolation.
    Refused,
    /// We answered it, wholly or by telling Elasticsearch what to find; what was asked is not in
    /// Elasticsearch's own audit and slow logs.
    Answered,
    /// It went on to Elasticsearch as it was.
    Passed,
    /// Elasticsearch gave no response.
    Failed,
    /// What a tenant may do was changed.
    Changed,
}

const ALL: [Event; 5] = [Event::Refused, Event::Answered, Event::Passed, Event::Failed, Event::Changed];

impl Event {
    /// What a way and a status amount to.
    pub(super) fn of(served: Served, status: u16) -> Self {
        match (served.way, status) {
            ("pass", _) => Self::Passed,
            ("refuse", _) | (_, 401 | 403 | 413 | 429) => Self::Refused,
            ("fail", _) => Self::Failed,
            _ => Self::Answered,
        }
    }

    /// The word in configuration and log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Answered => "answered",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Changed => "changed",
        }
    }
}

/// A set of events, written with commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvents(Vec<Event>);

impl AuditEvents {
    /// Whether such lines are written.
    pub(super) fn has(&self, event: Event) -> bool {
        self.0.contains(&event)
    }
}

impl Default for AuditEvents {
    /// What Elasticsearch's own audit log cannot know.
    fn default() -> Self {
        Self(vec![Event::Refused, Event::Answered, Event::Changed])
    }
}

impl FromStr for AuditEvents {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let event = |word: &str| {
            let named = ALL.into_iter().find(|event| event.name() == word);
            named.ok_or_else(|| format!("[{word}] is none of refused, answered, passed, failed, changed"))
        };
        text.split(',').map(|word| event(word.trim())).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for AuditEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.iter().map(|event| event.name()).collect();
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_become_events() {
        for (way, status, event) in [
            ("answer", 200, Event::Answered),
            ("fetch", 200, Event::Answered),
            ("splice", 200, Event::Answered),
            ("own", 200, Event::Answered),
            ("own", 403, Event::Refused),
            ("refuse", 429, Event::Refused),
            ("pass", 403, Event::Passed),
            ("fail", 503, Event::Failed),
        ] {
            assert_eq!(Event::of(Served::new(way, "x"), status), event, "{way} {status}");
        }
    }

    #[test]
    fn lists_are_read_and_printed() {
        let events: AuditEvents = "passed, refused".parse().unwrap();
        assert!(events.has(Event::Passed) && !events.has(Event::Changed));
        assert_eq!(events.to_string(), "passed,refused");
        assert!("".parse::<AuditEvents>().is_err() && "all".parse::<AuditEvents>().is_err());
        assert_eq!(AuditEvents::default().to_string().parse(), Ok(AuditEvents::default()));
    }
}
