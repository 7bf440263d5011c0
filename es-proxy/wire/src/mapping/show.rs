//! From Elasticsearch's mapping to what the client wrote.

use super::options::{Key, META_KEY, shown_options};
use crate::json::Splice;
use crate::pretty::pretty;
use crate::scan::{MAX_DEPTH, Malformed, Member, elements_of_answer, members_of_answer, unquote};

/// Shows `ivf` wherever `response` holds a field that carries our options, at any depth. `None`:
/// nothing to change. An answer laid out for people stays laid out.
pub fn show_ivf(response: &str) -> Option<String> {
    if !response.contains(META_KEY) {
        return None;
    }
    let mut splice = Splice::new(response);
    visit(response.trim_ascii(), 0, &mut splice).ok()?;
    if splice.is_empty() {
        return None;
    }
    let shown = splice.finish();
    Some(if response.starts_with("{\n") { pretty(&shown) } else { shown })
}

fn visit(value: &str, depth: usize, splice: &mut Splice<'_>) -> Result<(), Malformed> {
    // Most of a mapping does not concern us; do not take it apart. No field lies so deep, only what people note.
    if depth > MAX_DEPTH || !value.contains(META_KEY) {
        return Ok(());
    }
    match value.as_bytes().first() {
        Some(b'{') => {
            let members = members_of_answer(value)?;
            if show_field(&members, splice)? {
                return Ok(());
            }
            members.iter().try_for_each(|member| visit(member.value, depth + 1, splice))
        }
        Some(b'[') => {
            elements_of_answer(value)?.into_iter().try_for_each(|element| visit(element, depth + 1, splice))
        }
        _ => Ok(()),
    }
}

/// Rewrites the object if it is a field of ours.
fn show_field(field: &[Member<'_>], splice: &mut Splice<'_>) -> Result<bool, Malformed> {
    let is_vector = |at: &usize| field[*at].value == "\"dense_vector\"";
    let Some(type_at) = position(field, "type").filter(is_vector) else { return Ok(false) };
    let Some(meta_at) = position(field, "meta") else { return Ok(false) };
    let Ok(meta) = members_of_answer(field[meta_at].value) else { return Ok(false) };
    let Some(key_at) = position(&meta, META_KEY) else { return Ok(false) };
    // `_field_caps` lists the values of all indices and shows no options: there is only the key to hide.
    if !meta[key_at].value.starts_with('[') {
        // Whatever somebody else wrote there hides no other field.
        let key = unquote(meta[key_at].value).ok().and_then(|text| Key::read(&text));
        let Some(key) = key else { return Ok(false) };
        // Any other field's index type is the one that the client gave it.
        if let Key::Ivf(options) = key {
            let shown = shown_options(&options);
            match position(field, "index_options") {
                Some(at) => splice.replace(field[at].value, shown),
                None => splice.insert_after(field[type_at].value, format!(",\"index_options\":{shown}")),
            }
        }
    }
    if meta.len() > 1 {
        remove(&meta, key_at, splice);
    } else {
        remove(field, meta_at, splice);
    }
    Ok(true)
}

fn position(members: &[Member<'_>], key: &str) -> Option<usize> {
    members.iter().position(|member| unquote(member.key).is_ok_and(|name| name == key))
}

/// Removes one of at least two members, with one comma.
fn remove(members: &[Member<'_>], at: usize, splice: &mut Splice<'_>) {
    if at + 1 < members.len() {
        splice.cut(members[at].key, members[at + 1].key);
    } else {
        splice.cut_after(members[at - 1].value, members[at].value);
    }
}
