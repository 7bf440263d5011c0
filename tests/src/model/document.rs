//! Documents of the model. Each carries the number of the write that made it in a vector of its own, so
//! that a search tells from the score alone which write it shows.

use std::fmt;

use rand::Rng;
use serde_json::{Value, json};

/// Vector fields of the model's indices, with their similarity and dimensions.
pub(super) const FIELDS: [(&str, &str, usize); 4] =
    [("v", "cosine", 6), ("w", "l2_norm", 3), ("o.u", "dot_product", 4), (VERSION, "max_inner_product", 2)];

/// The field whose vector is `[number of the write, 1]`: the score of `[1, 0]` is that number and one.
pub(super) const VERSION: &str = "ver";

/// What a document says of one field.
#[derive(Clone, Debug, PartialEq)]
enum Given {
    Vector(Vec<f32>),
    Null,
    Absent,
}

/// A document, or a part of one.
#[derive(Clone, PartialEq)]
pub(super) struct Doc {
    fields: Vec<Given>,
    /// `{"o.u": …}` instead of `{"o": {"u": …}}`.
    dotted: bool,
}

impl Doc {
    /// A part leaves most fields out.
    pub(super) fn draw(random: &mut impl Rng, part: bool) -> Self {
        let fields = FIELDS
            .iter()
            .map(|(name, similarity, dims)| match random.gen_range(0..100) {
                0..6 => Given::Null,
                6..14 => Given::Absent,
                14..60 if part => Given::Absent,
                // The number is given when it is written.
                _ if *name == VERSION => Given::Vector(Vec::new()),
                _ => Given::Vector(vector(random, similarity, *dims)),
            })
            .collect();
        Self { fields, dotted: !part && random.gen_range(0..4) == 0 }
    }

    /// One whose only vector is the number of its write.
    pub(super) fn bare() -> Self {
        let given = |name| if name == VERSION { Given::Vector(Vec::new()) } else { Given::Absent };
        Self { fields: FIELDS.iter().map(|(name, ..)| given(*name)).collect(), dotted: false }
    }

    /// Whether whoever had a number before has none after this is written; a part leaves what it does not name.
    pub(super) fn unnumbers(&self, part: bool) -> bool {
        let of_version = FIELDS.iter().zip(&self.fields).find(|((name, ..), _)| *name == VERSION);
        match of_version.map(|(_, given)| given) {
            Some(Given::Null) => true,
            Some(Given::Absent) => !part,
            _ => false,
        }
    }

    /// As Elasticsearch is given it, by the write with this number.
    pub(super) fn json(&self, number: u64) -> Value {
        let mut doc = json!({"n": number});
        for ((name, ..), given) in FIELDS.iter().zip(&self.fields) {
            let value = match given {
                Given::Vector(_) if *name == VERSION => json!([number, 1]),
                Given::Vector(vector) => json!(vector),
                Given::Null => Value::Null,
                Given::Absent => continue,
            };
            match name.split_once('.') {
                Some((object, inner)) if !self.dotted => doc[object] = json!({inner: value}),
                _ => doc[*name] = value,
            }
        }
        doc
    }
}

/// Few values per dimension, so that equal vectors and equal scores happen.
fn vector(random: &mut impl Rng, similarity: &str, dims: usize) -> Vec<f32> {
    let coarse = random.gen_range(0..3) == 0;
    let mut vector: Vec<f32> = (0..dims)
        .map(|_| if coarse { random.gen_range(-2..=2) as f32 } else { random.gen_range(-1.0..1.0) })
        .collect();
    if vector.iter().all(|value| *value == 0.0) {
        vector[0] = 1.0;
    }
    if similarity == "dot_product" {
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|value| *value /= length);
    }
    vector
}

/// A vector to ask for.
pub(super) fn query(random: &mut impl Rng, field: usize) -> Vec<f32> {
    let (name, similarity, dims) = FIELDS[field];
    if name == VERSION { vec![1.0, 0.0] } else { vector(random, similarity, dims) }
}

impl fmt::Debug for Doc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for ((name, ..), given) in FIELDS.iter().zip(&self.fields) {
            match given {
                Given::Vector(_) => write!(f, " {name}")?,
                Given::Null => write!(f, " {name}:null")?,
                Given::Absent => {}
            }
        }
        write!(f, " }}")
    }
}
