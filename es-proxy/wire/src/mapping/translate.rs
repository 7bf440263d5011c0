//! From the client's mapping to Elasticsearch's.

use super::{MappingContext, MappingError};

/// Translates the body of `PUT /{index}` (`{"mappings":{…}}`). `None`: nothing to change.
pub fn translate_create(body: &str, ctx: &MappingContext<'_>) -> Result<Option<String>, MappingError> {
    let _ = (body, ctx);
    Ok(None)
}

/// Translates the body of `PUT /{index}/_mapping`. `None`: nothing to change.
pub fn translate_update(body: &str, ctx: &MappingContext<'_>) -> Result<Option<String>, MappingError> {
    let _ = (body, ctx);
    Ok(None)
}
