//! 9.2: as 9.1, and vectors leave `_source` by default.

use super::{Capabilities, EsVersion, v8_19};

pub(super) fn capabilities(version: EsVersion) -> Capabilities {
    Capabilities { url_exclude_vectors: true, ..v8_19::capabilities(version) }
}
