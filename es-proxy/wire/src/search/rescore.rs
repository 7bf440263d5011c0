//! Options of a knn that tell Elasticsearch how hard to look. Whatever they say, the hits are the nearest here: of an
//! exact answer they change nothing.

use super::NotOurs;
use super::accept::LIMIT;
use crate::Capabilities;
use crate::scan::{Scanner, unquote};

/// What a `rescore_vector` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rescore {
    /// Estimates are followed by exact scores.
    On,
    /// Estimates are shown as they are.
    Off,
}

/// Reads `rescore_vector`, which stands next: `{"oversample": 0 or at least 1}`.
pub(super) fn rescore(scanner: &mut Scanner<'_>, caps: &Capabilities) -> Result<Rescore, NotOurs> {
    let version = (caps.version.major, caps.version.minor);
    if version < (8, 18) {
        return Err(NotOurs("unknown_key"));
    }
    let may_be_off = version != (8, 18) && version != (9, 0);
    scanner.take(b'{')?;
    let mut first = true;
    let key = scanner.next_key(&mut first)?.ok_or(NotOurs("value"))?;
    if unquote(key)? != "oversample" {
        return Err(NotOurs("unknown_key"));
    }
    let oversample = scanner.float().map_err(|_| NotOurs("value"))?;
    if scanner.next_key(&mut first)?.is_some() {
        return Err(NotOurs("unknown_key"));
    }
    match oversample {
        // Elasticsearch cuts what it looks at to its limit.
        _ if (1.0..=LIMIT as f32).contains(&oversample) => Ok(Rescore::On),
        0.0 if may_be_off => Ok(Rescore::Off),
        _ => Err(NotOurs("value")),
    }
}

/// Reads `visit_percentage`, which stands next.
pub(super) fn visit_percentage(scanner: &mut Scanner<'_>, caps: &Capabilities) -> Result<(), NotOurs> {
    if (caps.version.major, caps.version.minor) < (9, 2) {
        return Err(NotOurs("unknown_key"));
    }
    match scanner.float() {
        Ok(share) if (0.0..=100.0).contains(&share) => Ok(()),
        _ => Err(NotOurs("value")),
    }
}
