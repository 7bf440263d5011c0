//! Drawing: chance, choice, and knn objects that are exact on the twin.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::{Value, json};

use super::world::{Element, Field, WIDE, WORDS, World, numbers};
use crate::Elasticsearch;

/// A source of requests on one world.
pub(super) struct Draw<'a> {
    pub(super) random: Xoshiro256PlusPlus,
    pub(super) world: &'a World,
    /// Nothing odd: numbers as numbers, boosts above 0.
    pub(super) plain: bool,
}

impl<'a> Draw<'a> {
    /// The source of request `number` of a world: the same for the same three numbers.
    pub(super) fn new(seed: u64, number: u64, world: &'a World) -> Self {
        let mixed = seed
            .wrapping_add(number.wrapping_mul(0xd134_2543_de82_ef95))
            .wrapping_add(world.number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self { random: Xoshiro256PlusPlus::seed_from_u64(mixed), world, plain: false }
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.random.gen_bool(probability)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.random.gen_range(0..limit.max(1))
    }

    pub(super) fn between(&mut self, least: usize, most: usize) -> usize {
        self.random.gen_range(least..=most)
    }

    pub(super) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of.choose(&mut self.random).expect("something to choose from").clone()
    }

    pub(super) fn word(&mut self) -> &'static str {
        self.pick(&WORDS)
    }

    pub(super) fn id(&mut self) -> String {
        format!("d{}", self.between(1, 200))
    }

    pub(super) fn field(&mut self) -> &'a Field {
        self.world.fields.choose(&mut self.random).expect("a world has fields")
    }

    /// A query vector in one of the forms that the parser takes.
    pub(super) fn vector(&mut self, field: &Field) -> Value {
        let vector = field.vector(&mut self.random);
        if field.element != Element::Float && Elasticsearch::version_at_least(8, 14) && self.chance(0.2) {
            let hex = vector.iter().map(|x| format!("{:02x}", *x as i8)).collect::<String>();
            return json!(if self.chance(0.5) { hex } else { hex.to_uppercase() });
        }
        if self.chance(0.02) && !self.plain {
            return json!(vector.iter().map(f64::to_string).collect::<Vec<_>>());
        }
        numbers(field, &vector)
    }

    /// Members that all forms of knn have.
    fn knn(&mut self) -> Value {
        let field = self.field();
        let vector = self.vector(field);
        let mut knn = json!({"field": field.name, "query_vector": vector});
        let k = if self.chance(0.1) { self.between(40, 400) } else { self.between(1, 40) };
        knn["k"] = self.number(k);
        knn["num_candidates"] = self.number(WIDE);
        if self.chance(0.12) {
            knn["similarity"] = self.threshold(field);
        }
        if self.chance(0.08) && Elasticsearch::version_at_least(8, 19) {
            // What passes is estimated and then compared exactly, so much that nothing is missed.
            knn["rescore_vector"] = json!({"oversample": self.pick(&[3.0, 4.5, 10.0])});
        }
        if self.chance(0.05) && Elasticsearch::version_at_least(9, 2) {
            knn["visit_percentage"] = json!(self.pick(&[1.0, 50.0, 100.0]));
        }
        knn
    }

    /// Whole numbers may be given in other forms too.
    fn number(&mut self, number: usize) -> Value {
        match self.below(60) {
            _ if self.plain => json!(number),
            0 => json!(number.to_string()),
            1 => json!(number as f64 + 0.5),
            _ => json!(number),
        }
    }

    /// A threshold that some documents of a world pass.
    fn threshold(&mut self, field: &Field) -> Value {
        let threshold = match (field.element, field.similarity) {
            (Element::Bit, _) => self.random.gen_range(4.0..60.0_f64).round(),
            (Element::Byte, _) => self.random.gen_range(50.0..400.0),
            (_, "cosine" | "dot_product") => self.random.gen_range(-0.5..0.9),
            (_, "l2_norm") => self.random.gen_range(0.3..3.0),
            _ => self.random.gen_range(-1.0..2.0),
        };
        json!((threshold * 1e3_f64).round() / 1e3)
    }

    /// An object of the top-level `knn`.
    pub(super) fn knn_section(&mut self) -> Value {
        let mut knn = self.knn();
        self.boost(&mut knn);
        if self.chance(0.1) && Elasticsearch::version_at_least(8, 15) {
            knn["_name"] = json!(self.pick(&["near", "nearest"]));
        }
        knn
    }

    /// A knn query. It has no `k` before 8.15.
    pub(super) fn knn_query(&mut self) -> Value {
        let mut knn = self.knn();
        if !Elasticsearch::version_at_least(8, 15) {
            let members = knn.as_object_mut().expect("an object");
            members.remove("k");
        }
        self.boost(&mut knn);
        if self.chance(0.1) {
            knn["_name"] = json!("near");
        }
        json!({"knn": knn})
    }

    /// A knn retriever: no boost, and a string is no hex there.
    pub(super) fn knn_retriever(&mut self) -> Value {
        let mut knn = self.knn();
        while knn["query_vector"].is_string() {
            knn = self.knn();
        }
        json!({"knn": knn})
    }

    fn boost(&mut self, knn: &mut Value) {
        if self.chance(0.2) {
            knn["boost"] = match self.below(6) {
                _ if self.plain => json!(1.5),
                0 => json!(0),
                1 => json!("2.5"),
                _ => json!(self.between(1, 30) as f64 / 10.0),
            };
        }
    }
}
