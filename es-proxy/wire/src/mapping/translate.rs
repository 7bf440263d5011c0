//! From the client's mapping to Elasticsearch's: `ivf` becomes what the version can do, our options go
//! into `meta`. Everything else stays the client's bytes.

use knn_types::{Element, IvfOptions};
use serde_json::{Value, json};

use super::options::{self, Key, META_KEY, bad_value};
use super::{ExistingField, MappingContext, MappingError, Nesting, can_read_back};
use crate::json::{Object, Splice, push_json_string};
use crate::scan::elements;

/// Elasticsearch allows so many entries in `meta`.
pub(super) const MAX_META_ENTRIES: usize = 5;

/// Why a translation ended early.
enum Stop {
    /// Something that Elasticsearch will complain of itself: pass the client's bytes.
    NotOurs,
    /// The client asked for `ivf` wrongly.
    Wrong(MappingError),
}

impl From<serde_json::Error> for Stop {
    fn from(_: serde_json::Error) -> Self {
        Stop::NotOurs
    }
}

impl From<MappingError> for Stop {
    fn from(error: MappingError) -> Self {
        Stop::Wrong(error)
    }
}

/// The path of what stands nowhere yet; no field can have it.
const ANYWHERE: &str = "*.";

/// What `ivf` becomes where it is not answered here: Elasticsearch keeps its own graph. Old versions want both
/// numbers.
const GRAPH: &str = r#"{"type":"hnsw","m":16,"ef_construction":100}"#;

/// Translates the body of `PUT /{index}` and of a rollover (`{"mappings":{…}}`). `None`: nothing to change.
pub fn translate_create(body: &str, ctx: &MappingContext<'_>) -> Result<Option<String>, MappingError> {
    translate(body, ctx, |walk, body| {
        let body = Object::parse(body)?;
        // `_create_from` has the second.
        match body.get("mappings").or_else(|| body.get("mappings_override")) {
            Some(mappings) => walk.mapping(&Object::parse(mappings.get())?),
            None => Ok(()),
        }
    })
}

/// Translates the body of `PUT /{index}/_mapping`. `None`: nothing to change.
pub fn translate_update(body: &str, ctx: &MappingContext<'_>) -> Result<Option<String>, MappingError> {
    translate(body, ctx, |walk, body| walk.mapping(&Object::parse(body)?))
}

fn translate<'a>(
    body: &'a str,
    ctx: &'a MappingContext<'a>,
    start: impl FnOnce(&mut Walk<'a>, &'a str) -> Result<(), Stop>,
) -> Result<Option<String>, MappingError> {
    let mut walk = Walk { ctx, splice: Splice::new(body), source: Value::Null };
    match start(&mut walk, body) {
        Err(Stop::Wrong(error)) => Err(error),
        Err(Stop::NotOurs) => Ok(None),
        Ok(()) => Ok((!walk.splice.is_empty()).then(|| walk.splice.finish())),
    }
}

struct Walk<'a> {
    ctx: &'a MappingContext<'a>,
    splice: Splice<'a>,
    /// `_source` of the mapping, alone in an object.
    source: Value,
}

/// A `dense_vector` on the way.
struct Field<'f, 'a> {
    name: &'f str,
    path: &'f str,
    nesting: Nesting,
    definition: &'f Object<'a>,
}

impl<'a> Walk<'a> {
    /// A whole mapping; templates may still have it below the type that mappings once had.
    fn mapping(&mut self, mapping: &Object<'a>) -> Result<(), Stop> {
        if let (Some(typed), 1) = (mapping.get("_doc"), mapping.entries.len()) {
            return self.mapping(&Object::parse(typed.get())?);
        }
        if let Some(source) = mapping.get("_source") {
            self.source = json!({"_source": serde_json::from_str::<Value>(source.get())?});
        }
        self.dynamic_templates(mapping)?;
        self.properties_of(mapping, "", Nesting::None)
    }

    /// Fields that documents will bring: where they will stand is not known, so none exists yet.
    fn dynamic_templates(&mut self, mapping: &Object<'a>) -> Result<(), Stop> {
        let Some(templates) = mapping.get("dynamic_templates") else { return Ok(()) };
        for template in elements(templates.get()).map_err(|_| Stop::NotOurs)? {
            for (name, template) in &Object::parse(template)?.entries {
                let Some(definition) = Object::parse(template.get())?.get("mapping") else { continue };
                let definition = Object::parse(definition.get())?;
                if text_of(&definition, "type").as_deref() == Some("dense_vector") {
                    let nesting = Nesting::None;
                    let field = Field { name, path: ANYWHERE, nesting, definition: &definition };
                    self.vector(&field)?;
                } else {
                    self.properties_of(&definition, ANYWHERE, below(Nesting::None, &definition))?;
                }
            }
        }
        Ok(())
    }

    fn properties_of(&mut self, parent: &Object<'a>, prefix: &str, nesting: Nesting) -> Result<(), Stop> {
        let Some(properties) = parent.get("properties") else { return Ok(()) };
        for (name, raw) in &Object::parse(properties.get())?.entries {
            let definition = Object::parse(raw.get())?;
            let path = format!("{prefix}{name}");
            match text_of(&definition, "type").as_deref() {
                Some("dense_vector") => {
                    self.vector(&Field { name, path: &path, nesting, definition: &definition })?;
                }
                None | Some("object" | "nested" | "passthrough") => {
                    self.properties_of(&definition, &format!("{path}."), below(nesting, &definition))?;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn vector(&mut self, field: &Field<'_, 'a>) -> Result<(), Stop> {
        let Some(index_options) = field.definition.get("index_options") else {
            return self.unspecified(field);
        };
        let index_options = Object::parse(index_options.get())?;
        let existing = (self.ctx.existing)(field.path);
        if text_of(&index_options, "type").as_deref() != Some("ivf") {
            return match existing {
                // Another type is what it has always been: it stays adopted.
                Some(ExistingField::Adopted { stored }) => self.write_meta(field, &stored),
                // A wish, not a loss: nobody shall restore what it was.
                Some(ExistingField::Ivf { .. }) if meta_has_room(field.definition)? => {
                    self.write_meta(field, &Key::Released.text())
                }
                _ => Ok(()),
            };
        }
        if is(field.definition, "index", "false") {
            let reason = "Field [index_options] can only be specified for a field of type [dense_vector] when it is indexed";
            return Err(bad_value(reason.to_owned()).into());
        }
        if !self.can_read_back(field) {
            let reason = format!(
                "[index_options] of field [{}] cannot be [ivf]: its vectors could not be read back, because [_source] does not keep them",
                field.path
            );
            return Err(bad_value(reason).into());
        }
        let stored = Key::Ivf(options::read(field.name, &index_options)?).text();
        // Elasticsearch's options stay what they are, whatever this version would get.
        let kept = match &existing {
            Some(ExistingField::Ivf { index_options, .. }) => index_options.as_deref(),
            _ => None,
        };
        self.write(field, &stored, kept)
    }

    /// A field that names no `index_options`.
    fn unspecified(&mut self, field: &Field<'_, 'a>) -> Result<(), Stop> {
        let definition = field.definition;
        let element = text_of(definition, "element_type").unwrap_or_else(|| "float".to_owned());
        let is_known = definition.get("element_type").is_none() || Element::named(&element).is_some();
        let is_indexed = match definition.get("index") {
            Some(index) => index.get() == "true",
            None => self.ctx.caps.index_by_default,
        };
        if !is_known || !is_indexed {
            return Ok(());
        }
        match (self.ctx.existing)(field.path) {
            // Elasticsearch may reset the options of its own type, but must not drop our key.
            Some(ExistingField::Adopted { stored }) => self.write_meta(field, &stored),
            // Sent without them, Elasticsearch would reset both index_options and meta.
            Some(ExistingField::Ivf { stored, index_options }) => {
                self.write(field, &stored, index_options.as_deref())
            }
            Some(ExistingField::Other) => Ok(()),
            Some(ExistingField::Differing) => Err(bad_value(format!(
                "[index_options] of field [{}] must be given: in some of the indices named it is of type [ivf], and not the same in all",
                field.name
            ))
            .into()),
            None if self.ctx.unspecified_is_ivf
                && field.nesting != Nesting::Deeper
                && meta_has_room(definition)?
                && self.can_read_back(field) =>
            {
                self.write(field, &Key::Ivf(IvfOptions::default()).text(), None)
            }
            None => Ok(()),
        }
    }

    fn can_read_back(&self, field: &Field<'_, 'a>) -> bool {
        can_read_back(&self.source, field.path, field.nesting, self.ctx.caps)
    }

    /// Puts Elasticsearch's `index_options` (`kept`, or what the version has for `ivf`) and our `meta` entry
    /// into the definition.
    fn write(&mut self, field: &Field<'_, 'a>, stored: &str, kept: Option<&str>) -> Result<(), Stop> {
        let definition = field.definition;
        let of_version = match text_of(definition, "element_type").as_deref() {
            _ if field.nesting == Nesting::Deeper => GRAPH,
            _ if field.nesting == Nesting::Once => self.ctx.caps.nested_index_options,
            Some("byte" | "bit") => self.ctx.caps.byte_index_options,
            _ => self.ctx.caps.index_options,
        };
        let theirs = kept.unwrap_or(of_version);
        match definition.get("index_options") {
            Some(ours) => self.splice.replace(ours.get(), theirs),
            None => {
                self.splice.insert_after(last(definition)?, format!(",\"index_options\":{theirs}"));
            }
        }
        self.write_meta(field, stored)
    }

    fn write_meta(&mut self, field: &Field<'_, 'a>, stored: &str) -> Result<(), Stop> {
        require_room(field)?;
        let definition = field.definition;
        let mut entry = format!("\"{META_KEY}\":");
        let mut value = String::new();
        push_json_string(&mut value, stored);
        entry.push_str(&value);
        let Some(meta) = definition.get("meta") else {
            self.splice.insert_after(last(definition)?, format!(",\"meta\":{{{entry}}}"));
            return Ok(());
        };
        let entries = Object::parse(meta.get())?.entries;
        if let Some((_, old)) = entries.iter().find(|(key, _)| key == META_KEY) {
            self.splice.replace(old.get(), value);
        } else if let Some((_, last)) = entries.last() {
            self.splice.insert_after(last.get(), format!(",{entry}"));
        } else {
            self.splice.replace(meta.get(), format!("{{{entry}}}"));
        }
        Ok(())
    }
}

/// How fields below an object stand to nested ones.
fn below(nesting: Nesting, object: &Object<'_>) -> Nesting {
    nesting.below(|key| object.get(key).map(|value| value.get().trim_matches('"')))
}

/// The last value of a definition. There is one: without `type` nobody asks.
fn last<'a>(definition: &Object<'a>) -> Result<&'a str, Stop> {
    definition.entries.last().map(|(_, value)| value.get()).ok_or(Stop::NotOurs)
}

/// An `ivf` field cannot do without its place in `meta`.
fn require_room(field: &Field<'_, '_>) -> Result<(), Stop> {
    if meta_has_room(field.definition)? {
        return Ok(());
    }
    let reason = format!(
        "[meta] of field [{}] can't have more than {} entries beside index type [ivf], which needs one",
        field.name,
        MAX_META_ENTRIES - 1
    );
    Err(MappingError { kind: "mapper_parsing_exception", reason }.into())
}

fn meta_has_room(definition: &Object<'_>) -> Result<bool, Stop> {
    let Some(meta) = definition.get("meta") else { return Ok(true) };
    let entries = Object::parse(meta.get())?.entries;
    let others = entries.iter().filter(|(key, _)| key != META_KEY).count();
    // Six are an error with or without us; Elasticsearch has a sentence for it.
    if others > MAX_META_ENTRIES { Err(Stop::NotOurs) } else { Ok(others < MAX_META_ENTRIES) }
}

fn is(object: &Object<'_>, key: &str, raw: &str) -> bool {
    object.get(key).is_some_and(|value| value.get() == raw)
}

fn text_of(object: &Object<'_>, key: &str) -> Option<String> {
    serde_json::from_str(object.get(key)?.get()).ok()
}
