//! Deciding whether a search is ours, and reading it.

use super::{KnnSearch, NotOurs};
use crate::{Capabilities, Params};

/// Reads a search body and its URL parameters, or says why it must be passed on.
pub fn parse_search(body: &[u8], params: &Params, caps: &Capabilities) -> Result<KnnSearch, NotOurs> {
    let _ = (body, params, caps);
    Err(NotOurs("unsupported"))
}
