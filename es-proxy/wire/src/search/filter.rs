//! Filters whose verdict on a document depends on that document alone, so that what Elasticsearch said
//! of it once stays true until the document, the mapping or the settings change.
//!
//! [`read_filter`] takes a strict list of query types ([`clause`], [`leaf`]) on concrete mapped fields,
//! each understood to the last key. Everything else is not ours, above all what looks at the clock,
//! at other documents, at scripts or at what is computed when a search runs. Whether a value fits its
//! field need not be decided here: Elasticsearch is asked before anything is remembered.

mod clause;
mod leaf;

use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use super::NotOurs;
use crate::catalog::FilterFields;
use crate::scan::{Scanner, elements};
use clause::Reader;

/// Longer filters (lists of thousands of values) are seldom asked twice and cost more than they save.
const MAX_BYTES: usize = 16 << 10;

/// Such a filter: one query clause, in one spelling for all that mean the same to the letter. What may be
/// remembered under it belongs to one index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DocFilter {
    query: Arc<str>,
    /// Changes with the mapping of the fields that the clause looks at.
    print: u64,
}

impl DocFilter {
    /// The caller answers for it that the clause looks at nothing but the document.
    pub fn new(query: impl Into<Arc<str>>) -> Self {
        Self { query: query.into(), print: 0 }
    }

    /// The clause, as JSON.
    pub fn query(&self) -> &str {
        &self.query
    }
}

impl fmt::Display for DocFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.query)
    }
}

/// Reads the `filter` of a knn: one clause, or an array of which all must match.
///
/// # Errors
/// [`NotOurs`] with a label for metrics: what the filter is beyond the list.
pub fn read_filter(raw: &str, fields: &FilterFields) -> Result<DocFilter, NotOurs> {
    read_filters(&[raw], fields)
}

/// [`read_filter`] for several that must all match, such as the filter of a knn and that of an alias.
///
/// # Errors
/// As [`read_filter`].
pub fn read_filters(raws: &[&str], fields: &FilterFields) -> Result<DocFilter, NotOurs> {
    if raws.iter().map(|raw| raw.len()).sum::<usize>() > 4 * MAX_BYTES {
        return Err(NotOurs("filter_size"));
    }
    let mut reader = Reader::new(fields);
    let mut clauses = Vec::with_capacity(raws.len());
    for raw in raws {
        match raw.trim_start().as_bytes().first() {
            Some(b'[') => clauses.extend(elements(raw)?),
            _ => clauses.push(*raw),
        }
    }
    let texts: Result<Vec<String>, NotOurs> =
        clauses.into_iter().map(|clause| reader.read(Scanner::new(clause))).collect();
    let texts = texts?;
    let query = match &texts[..] {
        [] => return Err(NotOurs("filter_shape")),
        [one] => one.clone(),
        several => format!(r#"{{"bool":{{"filter":[{}]}}}}"#, several.join(",")),
    };
    if query.len() > MAX_BYTES {
        return Err(NotOurs("filter_size"));
    }
    let mut print = DefaultHasher::new();
    reader.prints().iter().for_each(|field| print.write_u32(*field));
    Ok(DocFilter { query: query.into(), print: print.finish() })
}

#[cfg(test)]
mod tests;
