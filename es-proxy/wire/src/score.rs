//! From what the engine measures to what Elasticsearch prints as `_score`, in float32 as Lucene does.

use std::str::FromStr;

use knn_types::{Element, Metric};

/// `similarity` of a `dense_vector`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Similarity {
    /// `l2_norm`.
    L2Norm,
    /// `cosine`.
    Cosine,
    /// `cosine` in an index made before 8.12: Lucene divides by the lengths in each comparison, so that vectors
    /// that are nearly of unit length are not taken for such.
    TrueCosine,
    /// `dot_product`.
    DotProduct,
    /// `max_inner_product`.
    MaxInnerProduct,
}

/// A vector that Elasticsearch would refuse for this similarity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadVector {
    /// Byte and bit fields take whole numbers in -128..=127 only.
    #[error("a value is no whole number in -128..=127")]
    NotAByte,
    /// A value or the magnitude is infinite or not a number.
    #[error("a value or the magnitude is not finite")]
    NotFinite,
    /// Cosine of a vector of zeros.
    #[error("zero magnitude")]
    ZeroMagnitude,
    /// `dot_product` wants unit length.
    #[error("not of unit length")]
    NotUnit,
}

/// How far the squared length may be from 1 before Elasticsearch calls a vector not unit.
const UNIT_TOLERANCE: f32 = 1e-3;

impl Similarity {
    /// The name in the mapping.
    pub fn name(self) -> &'static str {
        match self {
            Similarity::L2Norm => "l2_norm",
            Similarity::Cosine | Similarity::TrueCosine => "cosine",
            Similarity::DotProduct => "dot_product",
            Similarity::MaxInnerProduct => "max_inner_product",
        }
    }

    /// What the engine must measure.
    pub fn metric(self) -> Metric {
        match self {
            Similarity::L2Norm => Metric::L2,
            Similarity::Cosine | Similarity::TrueCosine => Metric::Cosine,
            Similarity::DotProduct => Metric::Dot,
            Similarity::MaxInnerProduct => Metric::MaxInnerProduct,
        }
    }

    /// The un-boosted `_score` of the engine's raw value: squared distance for `l2_norm`, inner product
    /// otherwise.
    pub fn score(self, value: f32) -> f32 {
        match self {
            Similarity::L2Norm => 1.0 / (1.0 + value),
            Similarity::Cosine | Similarity::TrueCosine | Similarity::DotProduct => {
                ((1.0 + value) / 2.0).max(0.0)
            }
            Similarity::MaxInnerProduct => scale_inner_product(value),
        }
    }

    /// The least un-boosted score that passes the request's raw `similarity` (for `l2_norm` a
    /// distance, not its square).
    pub fn threshold(self, similarity: f32) -> f32 {
        match self {
            Similarity::L2Norm => 1.0 / (1.0 + similarity * similarity),
            Similarity::Cosine | Similarity::TrueCosine | Similarity::DotProduct => (1.0 + similarity) / 2.0,
            Similarity::MaxInnerProduct => scale_inner_product(similarity),
        }
    }

    /// [`Similarity::score`] for a field of any element type; `dims` counts bits where vectors consist of
    /// them. Bits have `l2_norm` only, and the engine's value is the number of bits that differ.
    pub fn score_of(self, element: Element, dims: usize, value: f32) -> f32 {
        match (element, self) {
            (Element::Bit, _) => (dims as f32 - value) / dims as f32,
            (Element::Byte, Similarity::DotProduct) => 0.5 + value / byte_dot_range(dims),
            _ => self.score(value),
        }
    }

    /// [`Similarity::threshold`] for a field of any element type.
    pub fn threshold_of(self, element: Element, dims: usize, similarity: f32) -> f32 {
        match (element, self) {
            (Element::Bit, _) => (dims as f32 - similarity) / dims as f32,
            (Element::Byte, Similarity::DotProduct) => 0.5 + similarity / byte_dot_range(dims),
            _ => self.threshold(similarity),
        }
    }

    /// Checks a vector as Elasticsearch does and makes it what Lucene compares: floats under cosine are
    /// scaled to unit length, except, from 8.12 on, where their squared length is within 1e-3 of 1 already; bytes
    /// stay.
    pub fn prepare(self, element: Element, vector: &mut [f32]) -> Result<(), BadVector> {
        if element == Element::Float { self.prepare_floats(vector) } else { self.check_bytes(vector) }
    }

    fn check_bytes(self, vector: &[f32]) -> Result<(), BadVector> {
        let is_byte = |value: &f32| value.fract() == 0.0 && (-128.0..=127.0).contains(value);
        if !vector.iter().all(is_byte) {
            return Err(BadVector::NotAByte);
        }
        match self {
            Similarity::Cosine | Similarity::TrueCosine if vector.iter().all(|value| *value == 0.0) => {
                Err(BadVector::ZeroMagnitude)
            }
            _ => Ok(()),
        }
    }

    fn prepare_floats(self, vector: &mut [f32]) -> Result<(), BadVector> {
        if vector.iter().any(|value| !value.is_finite()) {
            return Err(BadVector::NotFinite);
        }
        // Summed in order in float32, as the mapper does while it parses: last digits depend on it.
        let squared = vector.iter().fold(0.0f32, |sum, value| sum + value * value);
        if !squared.is_finite() {
            return Err(BadVector::NotFinite);
        }
        let not_unit = (squared - 1.0).abs() > UNIT_TOLERANCE;
        match self {
            Similarity::Cosine | Similarity::TrueCosine if squared == 0.0 => Err(BadVector::ZeroMagnitude),
            Similarity::Cosine | Similarity::TrueCosine if not_unit || self == Similarity::TrueCosine => {
                let length = f64::from(squared).sqrt() as f32;
                vector.iter_mut().for_each(|value| *value /= length);
                Ok(())
            }
            Similarity::DotProduct if not_unit => Err(BadVector::NotUnit),
            _ => Ok(()),
        }
    }
}

/// How a field's vectors are judged and scored: its similarity, for what its vectors consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scoring {
    /// `similarity` of the mapping.
    pub similarity: Similarity,
    /// `element_type` of the mapping.
    pub element: Element,
    /// `dims` of the mapping; counts bits where vectors consist of them.
    pub dims: usize,
}

impl Scoring {
    /// See [`Similarity::score_of`].
    pub fn score(self, value: f32) -> f32 {
        self.similarity.score_of(self.element, self.dims, value)
    }

    /// See [`Similarity::threshold_of`].
    pub fn threshold(self, similarity: f32) -> f32 {
        self.similarity.threshold_of(self.element, self.dims, similarity)
    }

    /// See [`Similarity::prepare`].
    pub fn prepare(self, vector: &mut [f32]) -> Result<(), BadVector> {
        self.similarity.prepare(self.element, vector)
    }
}

/// No such similarity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown similarity")]
pub struct UnknownSimilarity;

impl FromStr for Similarity {
    type Err = UnknownSimilarity;

    fn from_str(name: &str) -> Result<Self, UnknownSimilarity> {
        [Similarity::L2Norm, Similarity::Cosine, Similarity::DotProduct, Similarity::MaxInnerProduct]
            .into_iter()
            .find(|similarity| similarity.name() == name)
            .ok_or(UnknownSimilarity)
    }
}

/// What Lucene divides the inner product of byte vectors by: twice its largest size.
fn byte_dot_range(dims: usize) -> f32 {
    dims as f32 * 32_768.0
}

/// Lucene's way to keep scores of unbounded inner products positive and ordered.
fn scale_inner_product(value: f32) -> f32 {
    if value < 0.0 { 1.0 / (1.0 - value) } else { value + 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::java::float;

    #[test]
    fn scores_are_those_seen_on_real_nodes() {
        let seen = [
            (Similarity::L2Norm, 1.0, "0.5"),
            (Similarity::L2Norm, 0.0, "1.0"),
            (Similarity::MaxInnerProduct, 4.0, "5.0"),
            (Similarity::MaxInnerProduct, -2.0, "0.33333334"),
            (Similarity::DotProduct, -1.0008, "0.0"),
            (Similarity::Cosine, 0.6, "0.8"),
        ];
        for (similarity, value, printed) in seen {
            assert_eq!(float(similarity.score(value)), printed, "{similarity:?} {value}");
        }
    }

    #[test]
    fn scores_of_bytes_and_bits() {
        let printed =
            |similarity: Similarity, element, dims, value| float(similarity.score_of(element, dims, value));
        assert_eq!(printed(Similarity::DotProduct, Element::Byte, 3, 100.0), "0.5010173");
        assert_eq!(printed(Similarity::L2Norm, Element::Byte, 3, 1.0), "0.5");
        assert_eq!(printed(Similarity::Cosine, Element::Byte, 3, 0.6), "0.8");
        assert_eq!(printed(Similarity::MaxInnerProduct, Element::Byte, 3, -2.0), "0.33333334");
        assert_eq!(printed(Similarity::L2Norm, Element::Bit, 16, 4.0), "0.75");
        assert_eq!(printed(Similarity::L2Norm, Element::Float, 3, 1.0), "0.5");
        for (element, similarity, raw, value) in [
            (Element::Bit, Similarity::L2Norm, 3.0, 3.0),
            (Element::Byte, Similarity::L2Norm, 3.0, 9.0),
            (Element::Byte, Similarity::DotProduct, 50.0, 50.0),
            (Element::Byte, Similarity::Cosine, 0.3, 0.3),
        ] {
            let bound = similarity.threshold_of(element, 24, raw);
            assert_eq!(bound, similarity.score_of(element, 24, value), "{element:?} {similarity:?}");
        }
    }

    #[test]
    fn threshold_takes_the_raw_similarity() {
        assert_eq!(Similarity::L2Norm.threshold(2.0), 0.2);
        assert_eq!(Similarity::Cosine.threshold(0.5), 0.75);
        assert_eq!(Similarity::MaxInnerProduct.threshold(-1.0), 0.5);
    }

    #[test]
    fn cosine_is_scaled_only_when_it_is_not_unit_already() {
        let mut near_unit = [1.0002, 0.0];
        Similarity::Cosine.prepare(Element::Float, &mut near_unit).unwrap();
        assert_eq!(near_unit, [1.0002, 0.0]);
        Similarity::TrueCosine.prepare(Element::Float, &mut near_unit).unwrap();
        assert_eq!(near_unit, [1.0, 0.0]);

        let mut long = [3.0, 4.0];
        Similarity::Cosine.prepare(Element::Float, &mut long).unwrap();
        assert_eq!(long, [0.6, 0.8]);
    }

    #[test]
    fn vectors_that_elasticsearch_refuses() {
        assert_eq!(
            Similarity::Cosine.prepare(Element::Float, &mut [0.0, 0.0]),
            Err(BadVector::ZeroMagnitude)
        );
        assert_eq!(Similarity::L2Norm.prepare(Element::Float, &mut [0.0, 0.0]), Ok(()));
        assert_eq!(Similarity::DotProduct.prepare(Element::Float, &mut [1.0, 1.0]), Err(BadVector::NotUnit));
        assert_eq!(Similarity::DotProduct.prepare(Element::Float, &mut [1.0004, 0.0]), Ok(()));
        assert_eq!(
            Similarity::L2Norm.prepare(Element::Float, &mut [f32::INFINITY]),
            Err(BadVector::NotFinite)
        );
        assert_eq!(Similarity::L2Norm.prepare(Element::Float, &mut [3e38, 3e38]), Err(BadVector::NotFinite));
    }

    #[test]
    fn bytes_are_checked_and_never_scaled() {
        let mut vector = [3.0, -128.0, 127.0];
        Similarity::Cosine.prepare(Element::Byte, &mut vector).unwrap();
        assert_eq!(vector, [3.0, -128.0, 127.0]);
        assert_eq!(Similarity::DotProduct.prepare(Element::Byte, &mut [5.0, 5.0]), Ok(()));
        assert_eq!(Similarity::L2Norm.prepare(Element::Bit, &mut [0.0, -0.0]), Ok(()));
        let zero = Similarity::Cosine.prepare(Element::Byte, &mut [0.0, -0.0]);
        assert_eq!(zero, Err(BadVector::ZeroMagnitude));
        for bad in [1.5, 128.0, -129.0, f32::NAN, f32::INFINITY] {
            let judged = Similarity::L2Norm.prepare(Element::Byte, &mut [1.0, bad]);
            assert_eq!(judged, Err(BadVector::NotAByte), "{bad}");
        }
    }

    #[test]
    fn names_come_back() {
        for name in ["l2_norm", "cosine", "dot_product", "max_inner_product"] {
            assert_eq!(name.parse::<Similarity>().unwrap().name(), name);
        }
        assert!("l2".parse::<Similarity>().is_err());
    }
}
