//! Queries about one field.

use super::clause::{OPTION, Reader, SHAPE, VALUE};
use crate::catalog::FieldKind;
use crate::json::push_json_string;
use crate::scan::unquote;
use crate::search::NotOurs;

/// `{"term": {FIELD: VALUE}}`, or an object in place of the value.
pub(super) fn term(reader: &mut Reader<'_>) -> Result<(), NotOurs> {
    one_field(reader, |reader, kind| {
        short_or_long(reader, "value", kind, |reader, key| match key {
            "case_insensitive" if matches!(kind, FieldKind::Keyword | FieldKind::Text) => reader.boolean(),
            "boost" => reader.boost(),
            _ => Err(OPTION),
        })
    })
}

/// `{"terms": {FIELD: [VALUE, …], "boost": 1}}`. In place of the array may stand a look-up in another
/// document, which is not ours.
pub(super) fn terms(reader: &mut Reader<'_>) -> Result<(), NotOurs> {
    let mut fields = 0;
    reader.object(|reader, key| match reader.scanner.peek() {
        Some(b'[') => {
            fields += 1;
            let kind = reader.field(key)?;
            reader.array(|reader| value(reader, kind))
        }
        Some(b'{') => Err(NotOurs("filter_lookup")),
        _ if key == "boost" => reader.boost(),
        _ => Err(OPTION),
    })?;
    if fields == 1 { Ok(()) } else { Err(SHAPE) }
}

/// `{"range": {FIELD: {"gte": …}}}`; `from` and `to` come with a warning, where they are understood at all.
pub(super) fn range(reader: &mut Reader<'_>) -> Result<(), NotOurs> {
    one_field(reader, |reader, kind| {
        if !matches!(kind, FieldKind::Keyword | FieldKind::Number | FieldKind::Date | FieldKind::Ip) {
            return Err(NotOurs("filter_field"));
        }
        reader.object(|reader, key| match key {
            "gte" | "gt" | "lte" | "lt" => {
                if reader.scanner.peek() == Some(b'n') {
                    // Open on that side.
                    reader.out.push_str(reader.scanner.value()?);
                    return Ok(());
                }
                value(reader, kind)
            }
            "format" | "time_zone" if kind == FieldKind::Date => reader.word(),
            "boost" => reader.boost(),
            _ => Err(OPTION),
        })
    })
}

/// `{"exists": {"field": FIELD}}`.
pub(super) fn exists(reader: &mut Reader<'_>) -> Result<(), NotOurs> {
    let mut fields = 0;
    reader.object(|reader, key| match key {
        "field" => {
            fields += 1;
            if reader.scanner.peek() != Some(b'"') {
                return Err(VALUE);
            }
            let name = unquote(reader.scanner.value()?)?;
            reader.field(&name)?;
            push_json_string(&mut reader.out, &name);
            Ok(())
        }
        "boost" => reader.boost(),
        _ => Err(OPTION),
    })?;
    if fields == 1 { Ok(()) } else { Err(SHAPE) }
}

/// `{"ids": {"values": [ID, …]}}`.
pub(super) fn ids(reader: &mut Reader<'_>) -> Result<(), NotOurs> {
    let mut lists = 0;
    reader.object(|reader, key| match key {
        "values" => {
            lists += 1;
            match reader.scanner.peek() {
                Some(b'[') => reader.array(Reader::word),
                _ => reader.word(),
            }
        }
        "boost" => reader.boost(),
        _ => Err(OPTION),
    })?;
    if lists == 1 { Ok(()) } else { Err(SHAPE) }
}

/// `{"match": {FIELD: TEXT}}`, or an object in place of the text. Without `fuzziness`, which finds words by
/// what else is in the index, and without an `analyzer`, which may change while the index is open.
pub(super) fn matches(reader: &mut Reader<'_>) -> Result<(), NotOurs> {
    one_field(reader, |reader, kind| {
        short_or_long(reader, "query", kind, |reader, key| match key {
            "operator" | "zero_terms_query" => reader.word(),
            "minimum_should_match" => reader.minimum(),
            "lenient" | "auto_generate_synonyms_phrase_query" => reader.boolean(),
            "boost" => reader.boost(),
            _ => Err(OPTION),
        })
    })
}

/// `{"match_phrase": {FIELD: TEXT}}`, or an object in place of the text.
pub(super) fn match_phrase(reader: &mut Reader<'_>) -> Result<(), NotOurs> {
    one_field(reader, |reader, kind| {
        if !matches!(kind, FieldKind::Keyword | FieldKind::Text) {
            return Err(NotOurs("filter_field"));
        }
        short_or_long(reader, "query", kind, |reader, key| match key {
            "slop" => reader.integer(),
            "zero_terms_query" => reader.word(),
            "boost" => reader.boost(),
            _ => Err(OPTION),
        })
    })
}

/// An object with one key, the name of a field that has values to compare with.
fn one_field(
    reader: &mut Reader<'_>,
    mut inside: impl FnMut(&mut Reader<'_>, FieldKind) -> Result<(), NotOurs>,
) -> Result<(), NotOurs> {
    let mut fields = 0;
    reader.object(|reader, name| {
        fields += 1;
        match reader.field(name)? {
            FieldKind::Opaque => Err(NotOurs("filter_field")),
            kind => inside(reader, kind),
        }
    })?;
    if fields == 1 { Ok(()) } else { Err(SHAPE) }
}

/// A value by itself, or an object that holds it under `main` beside options.
fn short_or_long(
    reader: &mut Reader<'_>,
    main: &str,
    kind: FieldKind,
    mut option: impl FnMut(&mut Reader<'_>, &str) -> Result<(), NotOurs>,
) -> Result<(), NotOurs> {
    if reader.scanner.peek() != Some(b'{') {
        return value(reader, kind);
    }
    let mut values = 0;
    reader.object(|reader, key| {
        if key != main {
            return option(reader, key);
        }
        values += 1;
        value(reader, kind)
    })?;
    if values == 1 { Ok(()) } else { Err(SHAPE) }
}

/// A value to compare with. `now` in a date is a question about the clock.
fn value(reader: &mut Reader<'_>, kind: FieldKind) -> Result<(), NotOurs> {
    let next = reader.scanner.peek();
    let raw = reader.scanner.value()?;
    let fits = match next {
        Some(b'"') => {
            let text = unquote(raw)?;
            if kind == FieldKind::Date && text.to_ascii_lowercase().contains("now") {
                return Err(NotOurs("filter_now"));
            }
            push_json_string(&mut reader.out, &text);
            return Ok(());
        }
        Some(b't' | b'f') => matches!(kind, FieldKind::Keyword | FieldKind::Text | FieldKind::Boolean),
        Some(b'-' | b'0'..=b'9') => is_finite(raw) && !matches!(kind, FieldKind::Boolean | FieldKind::Ip),
        _ => false,
    };
    if !fits {
        return Err(VALUE);
    }
    reader.out.push_str(raw);
    Ok(())
}

/// Whether a number is one as a double, too; nobody means `1e999`.
pub(super) fn is_finite(raw: &str) -> bool {
    raw.parse::<f64>().is_ok_and(f64::is_finite)
}
