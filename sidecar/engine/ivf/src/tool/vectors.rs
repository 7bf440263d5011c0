//! Files of vectors: .npy (f32, f16, u8, i8), .fvecs and .bvecs.

use std::path::Path;

use knn_types::{Element, EngineError, Metric};

use super::ToolError;
use crate::form::Form;

/// Rows of equal length.
#[derive(Clone, Debug, PartialEq)]
pub struct Vectors {
    values: Vec<f32>,
    dims: usize,
    /// Read from bytes without a sign.
    unsigned: bool,
}

impl Vectors {
    /// Rows of `dims` values, end to end; `None` if they are not whole rows.
    pub fn new(values: Vec<f32>, dims: usize) -> Option<Self> {
        (dims > 0 && !values.is_empty() && values.len().is_multiple_of(dims)).then_some(Self {
            values,
            dims,
            unsigned: false,
        })
    }

    /// Values per row.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.dims
    }

    /// Whether there is no row; never true of what was read.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The rows.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.dims)
    }

    /// The rows whose number `keep` accepts.
    pub(super) fn only(&self, keep: impl Fn(usize) -> bool) -> Vectors {
        let rows = self.rows().enumerate().filter(|(number, _)| keep(*number));
        Vectors { values: rows.flat_map(|(_, row)| row).copied().collect(), ..*self }
    }

    /// Takes the last rows off.
    pub fn split_last(&mut self, count: usize) -> Option<Vectors> {
        let at = self.len().checked_sub(count)?.checked_mul(self.dims)?;
        Vectors::new(self.values.split_off(at), self.dims)
            .map(|rest| Vectors { unsigned: self.unsigned, ..rest })
    }

    /// Makes rows what a field takes: floats get unit length where the metric wants that, and bytes
    /// without a sign are shifted by 128 for l2, which changes no distance; for bits they are taken as
    /// they are.
    pub fn prepare(&mut self, element: Element, metric: Metric) {
        if element == Element::Byte && metric == Metric::L2 && self.unsigned {
            self.values.iter_mut().for_each(|x| *x -= 128.0);
        } else if element == Element::Bit && self.unsigned {
            self.values.iter_mut().filter(|x| **x > 127.0).for_each(|x| *x -= 256.0);
        } else if element == Element::Float && metric == Metric::Cosine {
            for row in self.values.chunks_exact_mut(self.dims) {
                let length = ivf_kernels::dot(row, row).sqrt();
                if length > 0.0 {
                    row.iter_mut().for_each(|x| *x /= length);
                }
            }
        }
    }
}

impl Vectors {
    /// One float for every dimension, so that distances can be had without the engine.
    pub(super) fn expanded(&self, form: &Form) -> Result<Vectors, EngineError> {
        let mut values = Vec::with_capacity(self.len() * form.dims());
        for row in self.rows() {
            values.extend_from_slice(&form.probe(row)?.floats);
        }
        Ok(Vectors { values, dims: form.dims(), unsigned: false })
    }
}

/// Reads a file by its name's ending.
pub fn read_vectors(path: &Path) -> Result<Vectors, ToolError> {
    let bytes = std::fs::read(path).map_err(|error| ToolError::file(path, error))?;
    let parsed = match path.extension().and_then(|ending| ending.to_str()) {
        Some("npy") => npy(&bytes),
        Some("fvecs") => vecs(&bytes, 4, |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        Some("bvecs") => {
            vecs(&bytes, 1, |b| f32::from(b[0])).map(|vectors| Vectors { unsigned: true, ..vectors })
        }
        _ => Err("name ends in none of .npy, .fvecs, .bvecs"),
    };
    let vectors = parsed.map_err(|reason| ToolError::file(path, reason))?;
    if vectors.values.iter().any(|x| !x.is_finite()) {
        return Err(ToolError::file(path, "holds values that are no finite numbers"));
    }
    Ok(vectors)
}

/// Each row: its length as 32 bits, then its values.
fn vecs(bytes: &[u8], size: usize, value: impl Fn(&[u8]) -> f32) -> Result<Vectors, &'static str> {
    let (head, _) = bytes.split_first_chunk::<4>().ok_or("empty")?;
    let dims = u32::from_le_bytes(*head) as usize;
    let row = dims.checked_mul(size).and_then(|row| row.checked_add(4)).ok_or("rows too long")?;
    if !bytes.len().is_multiple_of(row) || bytes.chunks_exact(row).any(|row| row[..4] != *head) {
        return Err("rows differ in length");
    }
    let values = bytes.chunks_exact(row).flat_map(|row| row[4..].chunks_exact(size)).map(value).collect();
    Vectors::new(values, dims).ok_or("no rows")
}

fn npy(bytes: &[u8]) -> Result<Vectors, &'static str> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("not a .npy file")?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or("cut short")?;
    let (length, rest) = match version[0] {
        1 => rest.split_first_chunk::<2>().map(|(b, rest)| (usize::from(u16::from_le_bytes(*b)), rest)),
        2 | 3 => rest.split_first_chunk::<4>().map(|(b, rest)| (u32::from_le_bytes(*b) as usize, rest)),
        _ => return Err("unknown version of .npy"),
    }
    .ok_or("cut short")?;
    let (header, data) = rest.split_at_checked(length).ok_or("cut short")?;
    let header = std::str::from_utf8(header).map_err(|_| "header is no text")?;
    if header.contains("'fortran_order': True") {
        return Err("columns come first; save it in C order");
    }
    let shape =
        header.split("'shape': (").nth(1).and_then(|rest| rest.split(')').next()).ok_or("no shape")?;
    let mut sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty()).map(str::parse::<usize>);
    let (Some(Ok(rows)), Some(Ok(dims)), None) = (sizes.next(), sizes.next(), sizes.next()) else {
        return Err("not two-dimensional");
    };
    let kind = header.split("'descr': '").nth(1).and_then(|rest| rest.split('\'').next()).ok_or("no type")?;
    let values: Vec<f32> = match kind {
        "<f4" => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        "<f2" => data.chunks_exact(2).map(|b| half(u16::from_le_bytes([b[0], b[1]]))).collect(),
        "|u1" => data.iter().map(|&b| f32::from(b)).collect(),
        "|i1" => data.iter().map(|&b| f32::from(b as i8)).collect(),
        _ => return Err("type is none of f32, f16, u8, i8"),
    };
    if rows.checked_mul(dims) != Some(values.len()) {
        return Err("not as many values as its shape says");
    }
    let vectors = Vectors::new(values, dims).ok_or("no rows")?;
    Ok(Vectors { unsigned: kind == "|u1", ..vectors })
}

/// A half-precision number.
fn half(bits: u16) -> f32 {
    /// 2^112: the difference between the biases of the exponents.
    const REBIAS: f32 = f32::from_bits(0x7780_0000);
    let sign = u32::from(bits >> 15) << 31;
    let magnitude = match bits & 0x7fff {
        0x7c00 => f32::INFINITY,
        0x7c01.. => f32::NAN,
        // Subnormal numbers too: the product normalises them.
        magnitude => f32::from_bits(u32::from(magnitude) << 13) * REBIAS,
    };
    f32::from_bits(magnitude.to_bits() | sign)
}
