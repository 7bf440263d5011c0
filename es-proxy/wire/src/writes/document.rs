//! Finding the vectors of a document by their paths, at the speed at which memory is read.

use std::sync::Arc;

use crate::hex::bytes_of_hex;
use crate::number;
use crate::scan::Malformed;
use crate::writes::cursor::{Cursor, Odd};

/// The fields to look for, as a tree over the parts of their paths.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) names: Vec<Arc<str>>,
    /// Numbers that a vector of the field has, at most.
    values: Vec<usize>,
    root: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    key: Box<[u8]>,
    field: Option<usize>,
    below: Vec<Node>,
}

/// What a document says of a field.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Value {
    /// Nothing.
    #[default]
    Missing,
    /// That it has no vector.
    Null,
    Numbers(Vec<f32>),
    /// A string of hexadecimal digits, which only byte fields take.
    Bytes(Vec<f32>),
}

/// How numbers come to Elasticsearch's mapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    /// As the client wrote them.
    AsWritten,
    /// Read into doubles and written anew.
    ByWayOfDouble,
}

impl Fields {
    /// Adds a field; the same path twice is one field that takes the longer vectors.
    pub(super) fn add(&mut self, path: &Arc<str>, values: usize) {
        if let Some(known) = self.names.iter().position(|name| name == path) {
            self.values[known] = self.values[known].max(values);
            return;
        }
        let field = self.names.len();
        self.names.push(Arc::clone(path));
        self.values.push(values);
        let mut level = &mut self.root;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            let at = level.iter().position(|node| *node.key == *part.as_bytes()).unwrap_or_else(|| {
                level.push(Node { key: part.as_bytes().into(), field: None, below: Vec::new() });
                level.len() - 1
            });
            let node = &mut level[at];
            if parts.peek().is_none() {
                node.field = Some(field);
            }
            level = &mut node.below;
        }
    }

    /// Reads the object that is next, and what it says of each field.
    pub(super) fn read(&self, cursor: &mut Cursor<'_>, numbers: Numbers) -> Result<Box<[Value]>, Odd> {
        let mut found = vec![Value::Missing; self.names.len()].into_boxed_slice();
        Reader { fields: self, cursor, numbers, found: &mut found }.object(&self.root)?;
        Ok(found)
    }
}

struct Reader<'r, 'a> {
    fields: &'r Fields,
    cursor: &'r mut Cursor<'a>,
    numbers: Numbers,
    found: &'r mut [Value],
}

/// What a key leads to.
enum Leads<'r> {
    Elsewhere,
    ToField(usize),
    Below(&'r [Node]),
}

impl Reader<'_, '_> {
    fn object(&mut self, level: &[Node]) -> Result<(), Odd> {
        self.cursor.take(b'{')?;
        if self.cursor.took(b'}') {
            return Ok(());
        }
        loop {
            let (key, escapes) = self.cursor.string()?;
            if escapes {
                return Err(Malformed);
            }
            self.cursor.take(b':')?;
            match find(level, key)? {
                Leads::Elsewhere => self.cursor.skip()?,
                Leads::ToField(field) => self.field(field)?,
                Leads::Below(below) => self.below(below)?,
            }
            match self.cursor.next()? {
                b',' => {}
                b'}' => return Ok(()),
                _ => return Err(Malformed),
            }
        }
    }

    /// The value of an object field with fields of ours below it.
    fn below(&mut self, level: &[Node]) -> Result<(), Odd> {
        match self.cursor.peek() {
            Some(b'{') => self.object(level),
            Some(b'n') => self.cursor.literal(b"null"),
            // Objects in an array are one document: rare enough not to be looked into.
            _ => {
                self.cursor.take(b'[')?;
                self.cursor.take(b']')
            }
        }
    }

    fn field(&mut self, field: usize) -> Result<(), Odd> {
        // Two values for a field: Elasticsearch refuses what we would have to choose between.
        if self.found[field] != Value::Missing {
            return Err(Malformed);
        }
        self.found[field] = match self.cursor.peek() {
            Some(b'[') => Value::Numbers(self.vector(self.fields.values[field])?),
            Some(b'n') => {
                self.cursor.literal(b"null")?;
                Value::Null
            }
            Some(b'"') => {
                let (digits, _) = self.cursor.string()?;
                let digits = std::str::from_utf8(digits).map_err(|_| Malformed)?;
                Value::Bytes(bytes_of_hex(digits).ok_or(Malformed)?)
            }
            _ => return Err(Malformed),
        };
        Ok(())
    }

    fn vector(&mut self, values: usize) -> Result<Vec<f32>, Odd> {
        self.cursor.take(b'[')?;
        let mut vector = Vec::with_capacity(values);
        loop {
            self.cursor.peek();
            if vector.len() == values {
                return Err(Malformed);
            }
            let (bytes, at) = (self.cursor.bytes, &mut self.cursor.at);
            vector.push(match self.numbers {
                Numbers::AsWritten => number::float(bytes, at)?,
                Numbers::ByWayOfDouble => number::float_by_way_of_double(bytes, at)?,
            });
            match self.cursor.next()? {
                b',' => {}
                b']' => return Ok(vector),
                _ => return Err(Malformed),
            }
        }
    }
}

fn find<'r>(mut level: &'r [Node], key: &[u8]) -> Result<Leads<'r>, Odd> {
    if !key.contains(&b'.') {
        return Ok(level.iter().find(|node| *node.key == *key).map_or(Leads::Elsewhere, Leads::to));
    }
    // Elasticsearch forgives a dot at the end: `v.` is `v`.
    if key.split(|byte| *byte == b'.').any(<[u8]>::is_empty) {
        return Err(Malformed);
    }
    let mut parts = key.split(|byte| *byte == b'.').peekable();
    while let Some(part) = parts.next() {
        let Some(node) = level.iter().find(|node| *node.key == *part) else { return Ok(Leads::Elsewhere) };
        if parts.peek().is_none() {
            return Ok(Leads::to(node));
        }
        level = &node.below;
    }
    Ok(Leads::Elsewhere)
}

impl<'r> Leads<'r> {
    fn to(node: &'r Node) -> Self {
        node.field.map_or(Leads::Below(&node.below), Leads::ToField)
    }
}

#[cfg(test)]
mod tests;
