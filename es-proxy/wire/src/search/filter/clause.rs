//! Clauses and the clauses inside them.

use super::leaf;
use crate::catalog::{FieldKind, FilterFields};
use crate::json::push_json_string;
use crate::scan::{Scanner, unquote};
use crate::search::NotOurs;

/// Clauses inside clauses.
const MAX_DEPTH: usize = 16;
/// All of them together; Elasticsearch itself stops between 1,024 and some thousands.
const MAX_CLAUSES: usize = 256;

/// Reads clauses and writes them in their one spelling.
pub(super) struct Reader<'a> {
    pub(super) scanner: Scanner<'a>,
    pub(super) out: String,
    fields: &'a FilterFields,
    clauses: usize,
    prints: Vec<u32>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(fields: &'a FilterFields) -> Self {
        Self { scanner: Scanner::new(""), out: String::new(), fields, clauses: 0, prints: Vec::new() }
    }

    /// The one spelling of the clause that is all that `scanner` holds.
    pub(super) fn read(&mut self, scanner: Scanner<'a>) -> Result<String, NotOurs> {
        self.scanner = scanner;
        self.clause(0)?;
        self.scanner.end()?;
        Ok(std::mem::take(&mut self.out))
    }

    /// The prints of all fields that were looked at, in order of appearance.
    pub(super) fn prints(&self) -> &[u32] {
        &self.prints
    }

    fn clause(&mut self, depth: usize) -> Result<(), NotOurs> {
        self.clauses += 1;
        if depth > MAX_DEPTH || self.clauses > MAX_CLAUSES {
            return Err(NotOurs("filter_size"));
        }
        let mut queries = 0;
        self.object(|reader, name| {
            queries += 1;
            match name {
                "bool" => reader.bool(depth),
                "constant_score" => reader.constant_score(depth),
                "match_all" | "match_none" => reader.object(|reader, key| match key {
                    "boost" => reader.boost(),
                    _ => Err(OPTION),
                }),
                "term" => leaf::term(reader),
                "terms" => leaf::terms(reader),
                "range" => leaf::range(reader),
                "exists" => leaf::exists(reader),
                "ids" => leaf::ids(reader),
                "match" => leaf::matches(reader),
                "match_phrase" => leaf::match_phrase(reader),
                _ => Err(NotOurs("filter_query")),
            }
        })?;
        if queries == 1 { Ok(()) } else { Err(SHAPE) }
    }

    fn bool(&mut self, depth: usize) -> Result<(), NotOurs> {
        self.object(|reader, key| match key {
            "must" | "should" | "filter" | "must_not" => reader.one_or_more(depth + 1),
            "minimum_should_match" => reader.minimum(),
            "adjust_pure_negative" => reader.boolean(),
            "boost" => reader.boost(),
            _ => Err(OPTION),
        })
    }

    fn constant_score(&mut self, depth: usize) -> Result<(), NotOurs> {
        let mut has_filter = false;
        self.object(|reader, key| match key {
            "filter" => {
                has_filter = true;
                reader.clause(depth + 1)
            }
            "boost" => reader.boost(),
            _ => Err(OPTION),
        })?;
        if has_filter { Ok(()) } else { Err(SHAPE) }
    }

    /// A clause, or an array of them.
    fn one_or_more(&mut self, depth: usize) -> Result<(), NotOurs> {
        match self.scanner.peek() {
            Some(b'[') => self.array(|reader| reader.clause(depth)),
            _ => self.clause(depth),
        }
    }

    /// Each member of the object that is next. A key that stands twice is Elasticsearch's to refuse.
    pub(super) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<(), NotOurs>,
    ) -> Result<(), NotOurs> {
        self.scanner.take(b'{').map_err(|_| SHAPE)?;
        self.out.push('{');
        let mut seen = Vec::with_capacity(4);
        let mut first = true;
        while let Some(raw) = self.scanner.next_key(&mut first)? {
            let key = unquote(raw)?;
            if seen.contains(&key) {
                return Err(NotOurs("duplicate_key"));
            }
            if !seen.is_empty() {
                self.out.push(',');
            }
            push_json_string(&mut self.out, &key);
            self.out.push(':');
            member(self, &key)?;
            seen.push(key);
        }
        self.out.push('}');
        Ok(())
    }

    /// Each element of the array that is next.
    pub(super) fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), NotOurs>,
    ) -> Result<(), NotOurs> {
        self.scanner.take(b'[').map_err(|_| SHAPE)?;
        self.out.push('[');
        let (mut first, mut before) = (true, false);
        while self.scanner.next_element(&mut first)? {
            if std::mem::replace(&mut before, true) {
                self.out.push(',');
            }
            element(self)?;
        }
        self.out.push(']');
        Ok(())
    }

    /// What a field compares with; that the clause looks at it is noted.
    pub(super) fn field(&mut self, name: &str) -> Result<FieldKind, NotOurs> {
        let (kind, print) = self.fields.get(name).ok_or(NotOurs("filter_field"))?;
        self.prints.push(print);
        Ok(kind)
    }

    /// A factor of a score that nobody sees.
    pub(super) fn boost(&mut self) -> Result<(), NotOurs> {
        let raw = self.scanner.value()?;
        if !raw.as_bytes()[0].is_ascii_digit() || !leaf::is_finite(raw) {
            return Err(VALUE);
        }
        self.out.push_str(raw);
        Ok(())
    }

    pub(super) fn boolean(&mut self) -> Result<(), NotOurs> {
        let raw = self.scanner.value()?;
        if !matches!(raw, "true" | "false") {
            return Err(VALUE);
        }
        self.out.push_str(raw);
        Ok(())
    }

    /// A string that chooses among ways to read the values of the document or of the query.
    pub(super) fn word(&mut self) -> Result<(), NotOurs> {
        if self.scanner.peek() != Some(b'"') {
            return Err(VALUE);
        }
        let word = unquote(self.scanner.value()?)?;
        push_json_string(&mut self.out, &word);
        Ok(())
    }

    /// A number or an expression of one: `2`, `"75%"`, `"2<-25%"`.
    pub(super) fn minimum(&mut self) -> Result<(), NotOurs> {
        match self.scanner.peek() {
            Some(b'"') => self.word(),
            _ => self.integer(),
        }
    }

    pub(super) fn integer(&mut self) -> Result<(), NotOurs> {
        let raw = self.scanner.value()?;
        let digits = raw.strip_prefix('-').unwrap_or(raw);
        if digits.len() > 9 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(VALUE);
        }
        self.out.push_str(raw);
        Ok(())
    }
}

pub(super) const OPTION: NotOurs = NotOurs("filter_option");
pub(super) const SHAPE: NotOurs = NotOurs("filter_shape");
pub(super) const VALUE: NotOurs = NotOurs("filter_value");
