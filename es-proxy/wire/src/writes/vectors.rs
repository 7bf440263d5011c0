//! How many vectors a document has, without reading them.

use crate::scan::Malformed;
use crate::writes::action::Operation;
use crate::writes::cursor::{Cursor, Odd, members};

/// Arrays within arrays that are followed.
const MAX_DEPTH: usize = 32;

#[derive(Clone, Debug)]
struct Node {
    key: Box<[u8]>,
    /// Bytes of a vector, where vectors stand here.
    bytes: Option<u64>,
    below: Vec<Node>,
}

/// Vectors, and what they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VectorCount {
    /// How many.
    pub vectors: u64,
    /// Their elements, in bytes.
    pub bytes: u64,
}

/// Where documents of an index have vectors.
#[derive(Clone, Debug, Default)]
pub struct VectorPaths {
    root: Vec<Node>,
    /// One of each.
    all: VectorCount,
}

impl VectorPaths {
    /// Adds a field by its full path, and the bytes of one vector of it.
    pub fn add(&mut self, path: &str, bytes: u64) {
        self.all.vectors += 1;
        self.all.bytes += bytes;
        let mut level = &mut self.root;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            let at = level.iter().position(|node| *node.key == *part.as_bytes()).unwrap_or_else(|| {
                level.push(Node { key: part.as_bytes().into(), bytes: None, below: Vec::new() });
                level.len() - 1
            });
            if parts.peek().is_none() {
                level[at].bytes = Some(bytes);
            }
            level = &mut level[at].below;
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// What a source adds at most. One that is not understood counts as a vector of each field: it will be
    /// refused by Elasticsearch, or be counted in truth later.
    pub fn count(&self, operation: Operation, source: &[u8]) -> VectorCount {
        if self.is_empty() || operation == Operation::Delete {
            return VectorCount::default();
        }
        let mut cursor = Cursor::new(source);
        let mut count = VectorCount::default();
        let read = match operation {
            Operation::Update => self.envelope(&mut cursor, &mut count),
            _ => object(&self.root, &mut cursor, &mut count),
        };
        if read.is_ok() { count } else { self.all }
    }

    /// Of an update either its part of a document or the document for where there is none becomes true.
    fn envelope(&self, cursor: &mut Cursor<'_>, count: &mut VectorCount) -> Result<(), Odd> {
        members(cursor, |key, cursor| match key {
            b"doc" | b"upsert" => {
                let mut one = VectorCount::default();
                object(&self.root, cursor, &mut one)?;
                count.vectors = count.vectors.max(one.vectors);
                count.bytes = count.bytes.max(one.bytes);
                Ok(())
            }
            _ => cursor.skip(),
        })
    }
}

fn object(level: &[Node], cursor: &mut Cursor<'_>, count: &mut VectorCount) -> Result<(), Odd> {
    members(cursor, |key, cursor| match descend(level, key) {
        Some(node) => value(node, cursor, count, 0),
        None => cursor.skip(),
    })
}

fn value(node: &Node, cursor: &mut Cursor<'_>, count: &mut VectorCount, depth: usize) -> Result<(), Odd> {
    match (cursor.peek().ok_or(Malformed)?, node.bytes) {
        (b'[' | b'"', Some(bytes)) => {
            count.vectors += 1;
            count.bytes += bytes;
            cursor.skip()
        }
        (b'{', None) => object(&node.below, cursor, count),
        (b'[', None) if depth < MAX_DEPTH => {
            cursor.take(b'[')?;
            if cursor.took(b']') {
                return Ok(());
            }
            loop {
                value(node, cursor, count, depth + 1)?;
                match cursor.next()? {
                    b',' => {}
                    b']' => return Ok(()),
                    _ => return Err(Malformed),
                }
            }
        }
        (b'[', None) => Err(Malformed),
        _ => cursor.skip(),
    }
}

/// The node that a key leads to; a key may name several steps, parted by dots.
fn descend<'t>(mut level: &'t [Node], key: &[u8]) -> Option<&'t Node> {
    let mut found = None;
    for part in key.split(|byte| *byte == b'.') {
        let node = level.iter().find(|node| *node.key == *part)?;
        level = &node.below;
        found = Some(node);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_counted_where_they_stand() {
        let mut paths = VectorPaths::default();
        paths.add("v", 8);
        paths.add("o.w", 100);
        paths.add("chunks.v", 1000);
        let of = |vectors, bytes| VectorCount { vectors, bytes };
        let all = of(3, 1108);
        for (source, count) in [
            (r#"{"v":[1,2],"t":"v"}"#, of(1, 8)),
            (r#"{"v":null,"o":{"w":"00ff"}}"#, of(1, 100)),
            (r#"{"o.w":[1],"o":{"x":{"w":[1]}}}"#, of(1, 100)),
            (r#"{"chunks":[{"v":[1]},{"t":1},{"v":[2]}]}"#, of(2, 2000)),
            (r#"{"chunks":{"v":[1]},"v":[]}"#, of(2, 1008)),
            (r#"{"t":{"v":[1]},"chunks":[]}"#, of(0, 0)),
            ("{}", of(0, 0)),
            (r#"{"v":[1,2]"#, all),
            (r#"{"\u0076":[1,2]}"#, all),
            ("", all),
        ] {
            assert_eq!(paths.count(Operation::Index, source.as_bytes()), count, "{source}");
        }
        let update = br#"{"doc":{"v":[1]},"upsert":{"v":[1],"o":{"w":[2]}},"script":{"v":[1]}}"#;
        assert_eq!(paths.count(Operation::Update, update), of(2, 108));
        assert_eq!(paths.count(Operation::Delete, b""), of(0, 0));
        let deep = format!("{{\"chunks\":{}", "[".repeat(1 << 20));
        assert_eq!(paths.count(Operation::Index, deep.as_bytes()), all);
        assert_eq!(VectorPaths::default().count(Operation::Index, b"{\"v\":[1]}"), of(0, 0));
    }
}
