//! Templates: mappings one level deeper (`{"template":{"mappings":{…}}}`), or at the root in legacy ones.

use super::{MappingContext, MappingError, translate_create};
use crate::json::{Object, Splice};

/// Translates the body (none where a simulation has none) of `PUT /_index_template/{name}`, `/_component_template/{name}` or the legacy
/// `/_template/{name}`. `None`: nothing to change.
pub fn translate_template(body: &str, ctx: &MappingContext<'_>) -> Result<Option<String>, MappingError> {
    let inner = Object::parse(body).ok().and_then(|object| object.get("template"));
    let Some(inner) = inner else { return translate_create(body, ctx) };
    Ok(translate_create(inner.get(), ctx)?.map(|translated| {
        let mut splice = Splice::new(body);
        splice.replace(inner.get(), translated);
        splice.finish()
    }))
}
