//! Whether an expression of Elasticsearch's multi-target syntax stays inside the patterns of a tenant.
//!
//! Judged by its text, not by what exists now: an index that appears a moment later is then no way out, and
//! nothing is told about what exists outside. What the text cannot tell are aliases, which the catalog knows.

use super::{Bounds, Refusal};

impl Bounds<'_> {
    /// A list as it stands in a URL, decoded.
    pub(super) fn names(&self, list: &str) -> Result<(), Refusal> {
        // A name that begins with `-` excludes only after a pattern; in front it is a strange name.
        if list.starts_with('-') {
            return Err(Refusal::Target(list.to_owned()));
        }
        list.split(',').try_for_each(|expression| self.name(expression))
    }

    /// One expression. An exclusion must lie inside as well: Elasticsearch says whether what it names exists.
    fn name(&self, expression: &str) -> Result<(), Refusal> {
        let outside = || Refusal::Target(expression.to_owned());
        let included = expression.strip_prefix('-').unwrap_or(expression);
        let dated = match included.strip_prefix('<') {
            Some(inner) => Some(without_dates(inner).ok_or_else(outside)?),
            None => None,
        };
        let name = dated.as_deref().unwrap_or(included);
        // Remote clusters and selectors have a colon; the others begin what is no name of an index.
        if name.is_empty()
            || name.starts_with(['_', '-', '+'])
            || name.contains([':', '<', '>', '{', '}', '|', '\\', '"', '/', '?', '#'])
            || name.chars().any(|c| c.is_whitespace() || c.is_control())
            || !self.patterns.cover(name)
        {
            return Err(outside());
        }
        match self.catalog.alias_beyond(name, |index| self.patterns.contains(index)) {
            Some(alias) => Err(Refusal::Alias(alias.to_owned())),
            None => Ok(()),
        }
    }
}

/// The inside of a date-math name (`logs-{now/d{yyyy.MM|+01:00}}>`) with `*` for each date, whose format may
/// hold any text.
fn without_dates(dated: &str) -> Option<String> {
    let dated = dated.strip_suffix('>')?;
    let mut name = String::with_capacity(dated.len());
    let mut depth = 0usize;
    for character in dated.chars() {
        match character {
            // It escapes a brace in versions that differ about where.
            '\\' => return None,
            '{' => {
                if depth == 0 {
                    name.push('*');
                }
                depth += 1;
            }
            '}' => depth = depth.checked_sub(1)?,
            _ if depth == 0 => name.push(character),
            _ => {}
        }
    }
    (depth == 0).then_some(name)
}
