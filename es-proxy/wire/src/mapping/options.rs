//! The options of `ivf`: read from a mapping, kept as one short string, shown again.

use knn_types::IvfOptions;

/// The key of a field's `meta` under which our options are kept.
pub const META_KEY: &str = "outrigger.ivf";

pub(crate) fn stored_options(options: &IvfOptions) -> String {
    let _ = options;
    String::new()
}

pub(crate) fn spec_options(stored: &str) -> Option<IvfOptions> {
    let _ = stored;
    None
}
