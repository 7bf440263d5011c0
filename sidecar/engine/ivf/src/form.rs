//! How a vector is stored and compared: by its element type.
//!
//! A stored vector is a row of 32-bit words: float32 values, four bytes to a word, or 32 bits to a
//! word. Comparisons that clients see read rows as they are, and those of bytes and bits are exact.
//! Lists, codes and centroids work on an *expansion* to one float per dimension in which distances
//! keep their order: a byte is its number (for cosine the vector is scaled to unit length), a bit is
//! 0 or 1, so that the squared distance is the Hamming distance.

use std::borrow::Cow;

use knn_types::{Element, EngineError, FieldSpec, Metric};

use crate::exact;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    element: Element,
    dims: usize,
    /// Bytes compared by cosine: the squared length follows the values.
    with_length: bool,
}

/// A vector to compare with, stored and expanded.
pub(crate) struct Probe<'a> {
    pub(crate) row: Cow<'a, [u32]>,
    pub(crate) floats: Cow<'a, [f32]>,
}

impl Form {
    pub(crate) fn of(spec: &FieldSpec) -> Self {
        let with_length = spec.element == Element::Byte && spec.metric == Metric::Cosine;
        Self { element: spec.element, dims: spec.dims, with_length }
    }

    #[cfg(test)]
    pub(crate) fn floats(dims: usize) -> Self {
        Self { element: Element::Float, dims, with_length: false }
    }

    /// Values of an expansion.
    #[inline]
    pub(crate) fn dims(&self) -> usize {
        self.dims
    }

    /// Words of a row.
    pub(crate) fn words(&self) -> usize {
        match self.element {
            Element::Float => self.dims,
            Element::Byte => self.dims.div_ceil(4) + usize::from(self.with_length),
            Element::Bit => self.dims.div_ceil(32),
        }
    }

    /// Numbers of a vector at the ports.
    fn values(&self) -> usize {
        if self.element == Element::Bit { self.dims / 8 } else { self.dims }
    }

    /// How many vectors the numbers of a document are.
    pub(crate) fn count(&self, vectors: &[f32]) -> usize {
        vectors.len() / self.values()
    }

    /// The vectors of a document one by one.
    pub(crate) fn each<'a>(&self, vectors: &'a [f32]) -> impl Iterator<Item = &'a [f32]> {
        vectors.chunks_exact(self.values())
    }

    /// Whether the vectors of a document are some, and each has the right length and values.
    pub(crate) fn check_all(&self, vectors: &[f32]) -> Result<(), EngineError> {
        let want = self.values();
        if vectors.is_empty() || !vectors.len().is_multiple_of(want) {
            return Err(EngineError::Dims { got: vectors.len(), want });
        }
        self.each(vectors).try_for_each(|vector| self.check(vector))
    }

    /// Whether a vector has the right length and values.
    pub(crate) fn check(&self, vector: &[f32]) -> Result<(), EngineError> {
        let want = self.values();
        if vector.len() != want {
            return Err(EngineError::Dims { got: vector.len(), want });
        }
        let is_byte = |x: f32| x.fract() == 0.0 && (-128.0..=127.0).contains(&x);
        match vector.iter().position(|&x| self.element != Element::Float && !is_byte(x)) {
            Some(at) => Err(EngineError::NotAByte { at, value: vector[at] }),
            None => Ok(()),
        }
    }

    /// The rows of vectors that were checked, end to end.
    pub(crate) fn rows(&self, vectors: Vec<f32>) -> Vec<u32> {
        match self.element {
            Element::Float => bytemuck::cast_vec(vectors),
            _ if vectors.len() == self.values() => self.packed(&vectors),
            _ => self.each(&vectors).flat_map(|vector| self.packed(vector)).collect(),
        }
    }

    /// A vector to search for.
    pub(crate) fn probe<'a>(&self, vector: &'a [f32]) -> Result<Probe<'a>, EngineError> {
        self.check(vector)?;
        Ok(match self.element {
            Element::Float => {
                Probe { row: Cow::Borrowed(bytemuck::cast_slice(vector)), floats: Cow::Borrowed(vector) }
            }
            _ => {
                let row = self.packed(vector);
                Probe { floats: Cow::Owned(self.expanded(&row).into_owned()), row: Cow::Owned(row) }
            }
        })
    }

    /// A stored vector to search for.
    pub(crate) fn stored<'a>(&self, row: &'a [u32]) -> Probe<'a> {
        Probe { row: Cow::Borrowed(row), floats: self.expanded(row) }
    }

    /// Bytes side by side, the last word filled up with zeros, which no comparison counts.
    fn packed(&self, vector: &[f32]) -> Vec<u32> {
        let mut row = vec![0u32; self.words()];
        let bytes: &mut [i8] = bytemuck::cast_slice_mut(&mut row);
        bytes.iter_mut().zip(vector).for_each(|(byte, &x)| *byte = x as i8);
        if self.with_length {
            let (values, length) = row.split_at_mut(self.dims.div_ceil(4));
            let values: &[i8] = bytemuck::cast_slice(values);
            length[0] = ivf_kernels::dot_i8(values, values) as u32;
        }
        row
    }

    /// Rows end to end, expanded.
    pub(crate) fn expanded<'a>(&self, rows: &'a [u32]) -> Cow<'a, [f32]> {
        if self.element == Element::Float {
            return Cow::Borrowed(bytemuck::cast_slice(rows));
        }
        let mut floats = Vec::with_capacity(rows.len() / self.words() * self.dims);
        rows.chunks_exact(self.words()).for_each(|row| self.expand(row, &mut floats));
        Cow::Owned(floats)
    }

    /// Appends the expansion of a row.
    pub(crate) fn expand(&self, row: &[u32], floats: &mut Vec<f32>) {
        match self.element {
            Element::Float => floats.extend_from_slice(bytemuck::cast_slice(row)),
            Element::Byte => {
                let (values, length) = row.split_at(self.dims.div_ceil(4));
                let scale = match length {
                    [0] | [] => 1.0,
                    [squared, ..] => 1.0 / (*squared as f32).sqrt(),
                };
                let values: &[i8] = bytemuck::cast_slice(values);
                floats.extend(values[..self.dims].iter().map(|&x| f32::from(x) * scale));
            }
            Element::Bit => {
                let bytes: &[u8] = bytemuck::cast_slice(row);
                floats.extend((0..self.dims).map(|at| f32::from(bytes[at / 8] >> (at % 8) & 1)));
            }
        }
    }

    /// The raw value that clients see of two rows; exact for bytes and bits.
    #[inline]
    pub(crate) fn value(&self, metric: Metric, a: &[u32], b: &[u32]) -> f32 {
        match self.element {
            Element::Float => exact::value(metric, bytemuck::cast_slice(a), bytemuck::cast_slice(b)),
            Element::Byte => self.byte_value(metric, a, b),
            Element::Bit => ivf_kernels::hamming(bytemuck::cast_slice(a), bytemuck::cast_slice(b)) as f32,
        }
    }

    fn byte_value(&self, metric: Metric, a: &[u32], b: &[u32]) -> f32 {
        let words = self.dims.div_ceil(4);
        let (x, y): (&[i8], &[i8]) = (bytemuck::cast_slice(&a[..words]), bytemuck::cast_slice(&b[..words]));
        match metric {
            Metric::L2 => ivf_kernels::l2_squared_i8(x, y) as f32,
            Metric::Dot | Metric::MaxInnerProduct => ivf_kernels::dot_i8(x, y) as f32,
            Metric::Cosine => {
                // As Lucene's `VectorUtil.cosine` does it: whole numbers, then one division in float64.
                let lengths = (f64::from(a[words]) * f64::from(b[words])).sqrt();
                let dot = f64::from(ivf_kernels::dot_i8(x, y));
                if lengths > 0.0 { (dot / lengths) as f32 } else { 0.0 }
            }
        }
    }
}

/// The field as the engine treats it, or why it cannot be one. Byte vectors under `dot_product` have
/// any length, other than float ones: theirs is the inner product of any vectors.
pub(crate) fn field(spec: &FieldSpec) -> Result<FieldSpec, EngineError> {
    match (spec.element, spec.metric) {
        (Element::Bit, Metric::L2) if !spec.dims.is_multiple_of(8) => {
            Err(EngineError::Field("a bit field has a multiple of 8 dimensions"))
        }
        (Element::Bit, Metric::L2) => Ok(*spec),
        (Element::Bit, _) => Err(EngineError::Field("bit vectors are compared by l2 only")),
        (Element::Byte, Metric::Dot) => Ok(FieldSpec { metric: Metric::MaxInnerProduct, ..*spec }),
        _ => Ok(*spec),
    }
}

#[cfg(test)]
mod tests {
    use knn_types::IvfOptions;

    use super::*;

    fn form(element: Element, dims: usize, metric: Metric) -> Form {
        Form::of(&FieldSpec { element, dims, metric, options: IvfOptions::default() })
    }

    #[test]
    fn expansions_keep_what_rows_say() {
        let noise = |seed: usize, len: usize| -> Vec<f32> {
            (0..len).map(|at| ((at * 37 + seed * 101) * 2_654_435_761 % 256) as f32 - 128.0).collect()
        };
        for (element, metric) in [
            (Element::Byte, Metric::L2),
            (Element::Byte, Metric::Cosine),
            (Element::Byte, Metric::MaxInnerProduct),
            (Element::Bit, Metric::L2),
        ] {
            for dims in [8, 16, 24, 40, 128, 1_032] {
                let form = form(element, dims, metric);
                let values = if element == Element::Bit { dims / 8 } else { dims };
                let (a, b) = (noise(1, values), noise(2, values));
                let (a, b) = (form.probe(&a).unwrap(), form.probe(&b).unwrap());
                assert_eq!((a.row.len(), a.floats.len()), (form.words(), dims));
                let (stored, expanded) =
                    (form.value(metric, &a.row, &b.row), exact::value(metric, &a.floats, &b.floats));
                assert!((stored - expanded).abs() <= 1e-4 * expanded.abs().max(1.0), "{element:?} {dims}");
            }
        }
    }

    #[test]
    fn values_are_exact() {
        let bytes = |metric, a: [f32; 3], b: [f32; 3]| {
            let form = form(Element::Byte, 3, metric);
            form.value(metric, &form.rows(a.into()), &form.rows(b.into()))
        };
        assert_eq!(bytes(Metric::L2, [127.0, 0.0, -128.0], [-128.0, 0.0, 127.0]), 130_050.0);
        assert_eq!(bytes(Metric::MaxInnerProduct, [1.0, -2.0, 3.0], [4.0, 5.0, -6.0]), -24.0);
        assert_eq!(bytes(Metric::Cosine, [2.0, 0.0, 0.0], [9.0, 0.0, 0.0]), 1.0);
        assert_eq!(bytes(Metric::Cosine, [0.0, 0.0, 0.0], [9.0, 0.0, 0.0]), 0.0);
        let form = form(Element::Bit, 24, Metric::L2);
        let (a, b) = (form.rows(vec![-1.0, 0.0, 1.0]), form.rows(vec![0.0, 0.0, -128.0]));
        assert_eq!(form.value(Metric::L2, &a, &b), 10.0);
    }

    #[test]
    fn what_is_no_byte_is_refused() {
        let form = form(Element::Byte, 2, Metric::L2);
        assert!(form.check(&[-128.0, 127.0]).is_ok());
        for (vector, at) in [([1.5, 0.0], 0), ([0.0, 128.0], 1), ([0.0, -129.0], 1), ([f32::NAN, 0.0], 0)] {
            assert!(
                matches!(form.check(&vector), Err(EngineError::NotAByte { at: found, .. }) if found == at)
            );
        }
        assert!(matches!(form.check(&[1.0]), Err(EngineError::Dims { got: 1, want: 2 })));
        assert!(form.check_all(&[1.0; 6]).is_ok() && form.check(&[1.0; 6]).is_err());
        assert!(form.check_all(&[]).is_err() && form.check_all(&[1.0; 5]).is_err());
        assert!(matches!(form.check_all(&[1.0, 1.0, 0.5, 1.0]), Err(EngineError::NotAByte { at: 0, .. })));
    }

    #[test]
    fn fields_that_cannot_be() {
        let spec =
            |element, dims, metric| FieldSpec { element, dims, metric, options: IvfOptions::default() };
        assert!(field(&spec(Element::Bit, 12, Metric::L2)).is_err());
        assert!(field(&spec(Element::Bit, 16, Metric::Cosine)).is_err());
        assert!(field(&spec(Element::Bit, 16, Metric::L2)).is_ok());
        let dot = field(&spec(Element::Byte, 3, Metric::Dot)).unwrap();
        assert_eq!(dot.metric, Metric::MaxInnerProduct);
    }
}
