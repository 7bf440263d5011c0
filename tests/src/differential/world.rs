//! A world: a mapping, its documents, and how they change. Drawn from a seed and a number alone.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::{Value, json};

use crate::Elasticsearch;

pub(super) const WORDS: [&str; 7] = ["red", "green", "blue", "fast", "slow", "calm", "wild"];

/// Candidates that every shard of every world has fewer documents than.
pub(super) const WIDE: usize = 1_000;

/// What the values of a vector are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Float,
    Byte,
    Bit,
}

/// A vector field.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) element: Element,
    /// Values of a vector; a bit field has eight dimensions to a value.
    pub(super) values: usize,
    pub(super) similarity: &'static str,
}

impl Field {
    /// A vector that the field takes, rounded so that it reads well.
    pub(super) fn vector(&self, random: &mut Xoshiro256PlusPlus) -> Vec<f64> {
        if self.element != Element::Float {
            return (0..self.values).map(|_| f64::from(random.gen_range(-100..=100_i8))).collect();
        }
        let drawn: Vec<f64> = (0..self.values).map(|_| random.gen_range(-1.0..1.0)).collect();
        let length = drawn.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-3);
        // Of unit length where the field wants it; with five digits the squared length is near enough to 1.
        let scale = if self.similarity == "dot_product" { 1.0 / length } else { 1.0 };
        drawn.iter().map(|x| (x * scale * 1e5).round() / 1e5).collect()
    }

    fn mapping(&self, kind: &str) -> Value {
        let (element, dims) = match self.element {
            Element::Float => ("float", self.values),
            Element::Byte => ("byte", self.values),
            Element::Bit => ("bit", self.values * 8),
        };
        let options = match kind {
            // So dense that no document is out of reach.
            "hnsw" => json!({"type": "hnsw", "m": 64, "ef_construction": 400}),
            kind => json!({"type": kind}),
        };
        let mut mapping = json!({"type": "dense_vector", "dims": dims, "index": true, "similarity": self.similarity, "index_options": options});
        if self.element != Element::Float {
            mapping["element_type"] = json!(element);
        }
        mapping
    }
}

/// A write, alike for both indices.
#[derive(Clone, Debug)]
pub(super) enum Write {
    /// Lines of a `_bulk`.
    Bulk(Vec<Value>),
    /// `PUT _doc/{id}`.
    Put(String, Value),
    /// `POST _update/{id}` with a part of a document.
    Update(String, Value),
    /// `DELETE _doc/{id}`.
    Delete(String),
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) number: u64,
    pub(super) shards: usize,
    pub(super) fields: Vec<Field>,
    /// What is there after the writes so far.
    pub(super) documents: BTreeMap<String, Value>,
    random: Xoshiro256PlusPlus,
    next_id: usize,
}

impl World {
    pub(super) fn new(seed: u64, number: u64) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let shards = random.gen_range(1..=3);
        let mut fields = vec![field("v", Element::Float, "cosine", &mut random)];
        let similarity = *float_similarities().choose(&mut random).expect("some");
        fields.push(field("w", Element::Float, similarity, &mut random));
        if random.gen_bool(0.5) {
            let similarity = *float_similarities().choose(&mut random).expect("some");
            fields.push(field("deep.vector", Element::Float, similarity, &mut random));
        }
        if Elasticsearch::version_at_least(8, 13) && random.gen_bool(0.5) {
            fields.push(field("b", Element::Byte, "l2_norm", &mut random));
        }
        if Elasticsearch::version_at_least(8, 15) && random.gen_bool(0.4) {
            fields.push(field("bits", Element::Bit, "l2_norm", &mut random));
        }
        Self { number, shards, fields, documents: BTreeMap::new(), random, next_id: 0 }
    }

    /// What creates the index: `kind` is `ivf` or `hnsw`.
    pub(super) fn creation(&self, kind: &str) -> Value {
        let mut properties = json!({
            "t": {"type": "text"},
            "a": {"type": "keyword"},
            "tags": {"type": "keyword"},
            "n": {"type": "integer"},
            "x": {"type": "double"},
            "day": {"type": "date"},
            "ok": {"type": "boolean"},
        });
        for field in &self.fields {
            match field.name.split_once('.') {
                Some((parent, child)) => {
                    properties[parent] = json!({"properties": {child: field.mapping(kind)}})
                }
                None => properties[field.name] = field.mapping(kind),
            }
        }
        // Refreshes and merges at the same moments, so that statistics of terms are the same too.
        json!({
            "settings": {"number_of_shards": self.shards, "number_of_replicas": 0, "refresh_interval": "-1"},
            "mappings": {"properties": properties},
        })
    }

    /// The changes before the next requests: at first the documents, later few writes of all kinds.
    pub(super) fn changes(&mut self) -> Vec<Write> {
        if self.next_id == 0 {
            // Few, where defaults are exact too; or many.
            let count = if self.number.is_multiple_of(3) {
                self.random.gen_range(0..10)
            } else {
                self.random.gen_range(60..300)
            };
            let lines = (0..count).flat_map(|_| self.indexing()).collect();
            self.next_id += 1;
            return vec![Write::Bulk(lines)];
        }
        let mut changes = Vec::new();
        for _ in 0..self.random.gen_range(1..4) {
            let change = self.change();
            changes.extend(change);
        }
        changes
    }

    fn change(&mut self) -> Option<Write> {
        match self.random.gen_range(0..6) {
            0 => {
                let id = self.new_id();
                Some(Write::Put(id.clone(), self.new_document(&id)))
            }
            1 => {
                let id = self.some_id()?;
                Some(Write::Put(id.clone(), self.new_document(&id)))
            }
            2 => {
                let id = self.some_id()?;
                let part = self.part(&id);
                Some(Write::Update(id, part))
            }
            3 => {
                let id = self.some_id()?;
                self.documents.remove(&id);
                Some(Write::Delete(id))
            }
            _ => {
                let mut lines = Vec::new();
                for _ in 0..self.random.gen_range(1..12) {
                    match (self.random.gen_range(0..4), self.some_id()) {
                        (0, Some(id)) => {
                            self.documents.remove(&id);
                            lines.push(json!({"delete": {"_id": id}}));
                        }
                        (1, Some(id)) => {
                            let part = self.part(&id);
                            lines.extend([json!({"update": {"_id": id}}), json!({"doc": part})]);
                        }
                        (2, Some(id)) => {
                            let document = self.new_document(&id);
                            lines.extend([json!({"index": {"_id": id}}), document]);
                        }
                        _ => lines.extend(self.indexing()),
                    }
                }
                Some(Write::Bulk(lines))
            }
        }
    }

    fn new_id(&mut self) -> String {
        self.next_id += 1;
        format!("d{}", self.next_id)
    }

    fn some_id(&mut self) -> Option<String> {
        let number = self.random.gen_range(0..self.documents.len().max(1));
        self.documents.keys().nth(number).cloned()
    }

    fn indexing(&mut self) -> [Value; 2] {
        let id = self.new_id();
        let document = self.new_document(&id);
        [json!({"index": {"_id": id}}), document]
    }

    /// Draws a document and keeps it.
    fn new_document(&mut self, id: &str) -> Value {
        let random = &mut self.random;
        let mut word = || *WORDS.choose(random).expect("words");
        let mut document =
            json!({"n": self.next_id, "a": word(), "t": format!("{} {} {}", word(), word(), word())});
        if random.gen_bool(0.7) {
            document["tags"] = json!(WORDS.choose_multiple(random, 2).collect::<Vec<_>>());
            document["x"] = json!(f64::from(random.gen_range(0..1_000)) / 8.0);
        }
        document["day"] =
            json!(format!("2024-{:02}-{:02}", random.gen_range(1..=12), random.gen_range(1..=28)));
        document["ok"] = json!(random.gen_bool(0.5));
        for field in &self.fields {
            if random.gen_bool(0.85) {
                // Sometimes one that many have, so that scores tie.
                let vector = if random.gen_bool(0.05) { common(field) } else { field.vector(random) };
                put(&mut document, field.name, json!(numbers(field, &vector)));
            }
        }
        self.documents.insert(id.to_owned(), document.clone());
        document
    }

    /// Draws a part of a document and merges it into the one that is kept.
    fn part(&mut self, id: &str) -> Value {
        let mut part = json!({"n": self.random.gen_range(1_000..2_000)});
        if self.random.gen_bool(0.5) {
            let field = self.fields.choose(&mut self.random).expect("fields");
            let vector = field.vector(&mut self.random);
            put(&mut part, field.name, json!(numbers(field, &vector)));
        }
        if let Some(document) = self.documents.get_mut(id) {
            merge(document, &part);
        }
        part
    }
}

fn field(
    name: &'static str,
    element: Element,
    similarity: &'static str,
    random: &mut Xoshiro256PlusPlus,
) -> Field {
    Field { name, element, values: random.gen_range(3..=9), similarity }
}

fn float_similarities() -> &'static [&'static str] {
    if Elasticsearch::version_at_least(8, 11) {
        &["cosine", "l2_norm", "dot_product", "max_inner_product"]
    } else {
        &["cosine", "l2_norm", "dot_product"]
    }
}

fn common(field: &Field) -> Vec<f64> {
    let mut vector = vec![0.0; field.values];
    vector[0] = 1.0;
    vector
}

/// Whole numbers where the field takes nothing else.
pub(super) fn numbers(field: &Field, vector: &[f64]) -> Value {
    match field.element {
        Element::Float => json!(vector),
        Element::Byte | Element::Bit => json!(vector.iter().map(|x| *x as i64).collect::<Vec<_>>()),
    }
}

fn put(document: &mut Value, path: &str, value: Value) {
    match path.split_once('.') {
        Some((parent, child)) => document[parent] = json!({child: value}),
        None => document[path] = value,
    }
}

fn merge(document: &mut Value, part: &Value) {
    match (document.as_object_mut(), part.as_object()) {
        (Some(whole), Some(part)) => {
            for (key, value) in part {
                merge(whole.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        _ => document.clone_from(part),
    }
}
