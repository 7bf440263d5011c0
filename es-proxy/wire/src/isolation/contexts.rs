//! Requests that go on with an earlier one: scrolls, points in time, async searches. Their ids hold names,
//! but nothing in them is signed: whoever has one id can make up others. So only ids that the tenant was
//! handed out here are good.

use super::{Bounds, Refusal};
use crate::scan::{Scanner, elements, members, unquote};

/// Whether the tenant may go on with it.
pub(super) fn check(bounds: &Bounds<'_>, id: &str) -> Result<(), Refusal> {
    if (bounds.handed_out)(id) { Ok(()) } else { Err(Refusal::Context) }
}

/// The body of a request for scrolls or points in time.
pub(super) fn body(bounds: &Bounds<'_>, text: &str) -> Result<(), Refusal> {
    for member in members(text)? {
        match &*unquote(member.key)? {
            "scroll_id" | "id" => each(member.value, |id| check(bounds, id))?,
            "scroll" => {}
            _ => return Err(Refusal::Body("has a part that nobody knows")),
        }
    }
    Ok(())
}

/// Calls `judge` with a scalar as its text, or with each of an array of them. Elasticsearch's parser takes a
/// number where it wants a name.
pub(super) fn each(raw: &str, mut judge: impl FnMut(&str) -> Result<(), Refusal>) -> Result<(), Refusal> {
    let mut one = |raw: &str| match raw.as_bytes().first() {
        Some(b'"') => judge(&unquote(raw)?),
        Some(b'{' | b'[' | b'n') | None => Err(Refusal::Body("names something by what is no string")),
        Some(_) => judge(raw),
    };
    if !raw.starts_with('[') {
        return one(raw);
    }
    let all = elements(raw)?;
    // Elasticsearch mostly takes an empty list for everything.
    if all.is_empty() { Err(Refusal::Everything) } else { all.into_iter().try_for_each(one) }
}

/// The id that a response hands out, from as much of the response as was read so far.
pub fn handed_out_in(beginning: &[u8], member: &str) -> Option<String> {
    // The last character may be cut.
    let text = beginning.utf8_chunks().next()?.valid();
    let mut scanner = Scanner::new(text);
    scanner.take(b'{').ok()?;
    let mut first = true;
    while let Some(raw) = scanner.next_key(&mut first).ok()? {
        let value = scanner.value().ok()?;
        if unquote(raw).ok()? == member {
            return Some(unquote(value).ok()?.into_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::handed_out_in;

    #[test]
    fn ids_are_found_as_soon_as_they_are_there() {
        for (beginning, id) in [
            (r#"{"_scroll_id":"abc==","took":1,"hits":{"#, Some("abc==")),
            ("{\n  \"took\" : 1,\n  \"_scroll_id\" : \"abc\"", Some("abc")),
            (r#"{"_scroll_id":"abc"#, None),
            (r#"{"hits":{"_scroll_id":"abc"}}"#, None),
            (r#"{"took":1,"#, None),
            ("---\n_scroll_id: abc", None),
        ] {
            assert_eq!(handed_out_in(beginning.as_bytes(), "_scroll_id").as_deref(), id, "{beginning}");
        }
        assert_eq!(handed_out_in(b"{\"id\":\"x\",\"a\":\"\xc3", "id").as_deref(), Some("x"));
    }
}
