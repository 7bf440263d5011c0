//! Fast-scan: estimates for blocks of 32 entries whose codes are nibbles, by look-ups that stay in
//! registers.
//!
//! A block is a run of lines. Each code line holds four groups (one nibble each) of 32 entries:
//! bytes 0..32 carry group `4i` low and `4i + 2` high, bytes 32..64 group `4i + 1` low and `4i + 3`
//! high; entry `v < 16` stands at byte `2v`, entry `v >= 16` at `2 (v - 16) + 1`. After the code
//! lines come two lines of `add` factors and two of `mul` factors, one float per entry:
//!
//! `estimate = base + add + mul * (scale * sum of look-ups + bias + slack)`, smaller is nearer.
//!
//! Look-up entries have seven bits, so that two add up in a byte; the halves of a line are summed
//! apart in 16 bits, which holds 1,032 groups, and joined in 32.

use crate::{Level, Line, level, scalar};

/// Entries in a block.
pub const BLOCK: usize = 32;

/// Lines of factors after the code lines of a block.
const FACTOR_LINES: usize = 4;

/// Groups that 16-bit sums can hold.
const MAX_GROUPS: usize = 1_032;

/// Largest look-up entry.
const LARGEST: f32 = 127.0;

/// How many lines a block has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockShape {
    code_lines: usize,
}

impl BlockShape {
    /// Blocks with so many groups (nibbles) per entry.
    pub fn for_groups(groups: usize) -> Self {
        assert!((1..=MAX_GROUPS).contains(&groups));
        Self { code_lines: groups.div_ceil(4) }
    }

    /// Lines of codes.
    pub fn code_lines(self) -> usize {
        self.code_lines
    }

    /// Lines of a whole block.
    pub fn lines(self) -> usize {
        self.code_lines + FACTOR_LINES
    }

    /// Adds an empty block, whose entries no scan will report.
    pub fn push_block(self, lines: &mut Vec<Line>) {
        lines.resize(lines.len() + self.code_lines, Line::ZERO);
        let endless = bytemuck::cast::<[f32; 16], [u8; 64]>([f32::INFINITY; 16]);
        lines.extend([Line(endless), Line(endless), Line::ZERO, Line::ZERO]);
    }

    /// Writes entry `at` of a block: one nibble per group, and the factors.
    pub fn put(self, block: &mut [Line], at: usize, nibbles: &[u8], add: f32, mul: f32) {
        assert!(block.len() == self.lines() && at < BLOCK && nibbles.len() <= self.code_lines * 4);
        for (group, &nibble) in nibbles.iter().enumerate() {
            let (byte, shift) = position(group, at);
            let cell = &mut block[group / 4].0[byte];
            *cell = (*cell & !(0xf << shift)) | ((nibble & 0xf) << shift);
        }
        self.factors_mut(block)[at] = add;
        self.factors_mut(block)[BLOCK + at] = mul;
    }

    /// Reads entry `at` of a block back: nibbles into `nibbles`, returns `add` and `mul`.
    pub fn get(self, block: &[Line], at: usize, nibbles: &mut [u8]) -> (f32, f32) {
        assert!(block.len() == self.lines() && at < BLOCK && nibbles.len() <= self.code_lines * 4);
        for (group, nibble) in nibbles.iter_mut().enumerate() {
            let (byte, shift) = position(group, at);
            *nibble = block[group / 4].0[byte] >> shift & 0xf;
        }
        let factors: &[f32] = bytemuck::cast_slice(&block[self.code_lines..]);
        (factors[at], factors[BLOCK + at])
    }

    /// Copies entry `at` of one block to entry `to` of another: its codes and factors.
    pub fn copy(self, from: &[Line], at: usize, into: &mut [Line], to: usize) {
        assert!(from.len() == self.lines() && into.len() == self.lines() && at < BLOCK && to < BLOCK);
        // All groups of an entry stand at one byte of either half of each line.
        let ((source, _), (target, _)) = (position(0, at), position(0, to));
        for (from, into) in from.iter().zip(into.iter_mut()).take(self.code_lines) {
            into.0[target] = from.0[source];
            into.0[target + 32] = from.0[source + 32];
        }
        let factors: &[f32] = bytemuck::cast_slice(&from[self.code_lines..]);
        let (add, mul) = (factors[at], factors[BLOCK + at]);
        self.factors_mut(into)[to] = add;
        self.factors_mut(into)[BLOCK + to] = mul;
    }

    fn factors_mut(self, block: &mut [Line]) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut block[self.code_lines..])
    }
}

/// Byte within its line and bit shift of a group's nibble for an entry.
fn position(group: usize, at: usize) -> (usize, u32) {
    let half = group % 2 * 32;
    let byte = if at < 16 { 2 * at } else { 2 * (at - 16) + 1 };
    (half + byte, if group % 4 < 2 { 0 } else { 4 })
}

/// The look-up tables of one query.
#[derive(Clone, Debug, Default)]
pub struct Lut {
    /// Two lines per code line: tables for the low and for the high nibbles, each 16 bytes twice.
    pub(crate) lines: Vec<[Line; 2]>,
    pub(crate) scale: f32,
    pub(crate) bias: f32,
}

impl Lut {
    /// Rounds `tables` (16 values per group) to seven bits, with one scale for all.
    pub fn set(&mut self, shape: BlockShape, tables: &[[f32; 16]]) {
        assert!(tables.len() <= shape.code_lines * 4);
        self.lines.clear();
        self.lines.resize(shape.code_lines, [Line::ZERO; 2]);
        let least = |table: &[f32; 16]| table.iter().copied().fold(f32::INFINITY, f32::min);
        let most = |table: &[f32; 16]| table.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let spread = tables.iter().map(|table| most(table) - least(table)).fold(0f32, f32::max);
        self.scale = if spread > 0.0 && spread.is_finite() { spread / LARGEST } else { 1.0 };
        let inverse = 1.0 / self.scale;
        self.bias = 0.0;
        for (group, table) in tables.iter().enumerate() {
            let least = least(table);
            self.bias += least;
            let bytes = table.map(|value| ((value - least) * inverse + 0.5).min(LARGEST) as u8);
            let line = &mut self.lines[group / 4][group % 4 / 2].0;
            let half = group % 2 * 32;
            line[half..half + 16].copy_from_slice(&bytes);
            line[half + 16..half + 32].copy_from_slice(&bytes);
        }
    }

    /// Standard error that the rounding of the tables gives a product of so many groups.
    pub fn rounding_error(&self) -> f32 {
        self.scale * (self.lines.len() as f32 * 4.0 / 12.0).sqrt()
    }
}

/// What scans report: entries with an estimate below the limit, in order of appearance. The
/// buffers keep their size from one search to the next, so that no scan has to clear them.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    ranks: Vec<f32>,
    names: Vec<u32>,
    len: usize,
}

impl Candidates {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Estimated ranks.
    pub fn ranks(&self) -> &[f32] {
        &self.ranks[..self.len]
    }

    /// What the caller calls the entries.
    pub fn names(&self) -> &[u32] {
        &self.names[..self.len]
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds one.
    pub fn push(&mut self, rank: f32, name: u32) {
        self.reserve(1);
        (self.ranks[self.len], self.names[self.len]) = (rank, name);
        self.len += 1;
    }

    /// Forgets those from position `from` on whose name `keep` refuses.
    pub fn retain_from(&mut self, from: usize, mut keep: impl FnMut(u32) -> bool) {
        let mut kept = from;
        for at in from..self.len {
            (self.ranks[kept], self.names[kept]) = (self.ranks[at], self.names[at]);
            kept += usize::from(keep(self.names[at]));
        }
        self.len = kept;
    }

    /// Makes room for so many more. New room is filled once, not for every scan.
    fn reserve(&mut self, more: usize) {
        let wanted = self.len + more;
        if self.ranks.len() < wanted {
            self.ranks.resize(wanted.next_power_of_two(), 0.0);
            self.names.resize(wanted.next_power_of_two(), 0);
        }
    }
}

/// A run of blocks to be estimated, and against what.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Whole blocks.
    pub blocks: &'a [Line],
    /// One for every entry, padding included.
    pub names: &'a [u32],
    /// What all estimates of the run start from.
    pub base: f32,
    /// Added to every product of look-ups: with negative factors `mul` an estimate becomes a bound.
    pub slack: f32,
    /// Only entries below are reported.
    pub limit: f32,
    /// What will be read next; it is asked for while this run is computed.
    pub ahead: &'a [Line],
}

/// Estimates all entries of a run and appends those below its limit to `found`.
///
/// # Panics
/// If `blocks` is no whole number of blocks, or `names` does not have a name for every entry.
pub fn scan(shape: BlockShape, lut: &Lut, run: &Run<'_>, found: &mut Candidates) {
    scan_at(level(), shape, lut, run, found);
}

#[inline]
fn scan_at(level: Level, shape: BlockShape, lut: &Lut, run: &Run<'_>, found: &mut Candidates) {
    let count = run.blocks.len() / shape.lines();
    assert_eq!(run.blocks.len(), count * shape.lines());
    assert_eq!(run.names.len(), count * BLOCK);
    assert_eq!(lut.lines.len(), shape.code_lines);
    // Room for every entry: the kernels store whole registers' worth of survivors.
    found.reserve(count * BLOCK);
    let held = found.len;
    let (ranks, names) = (&mut found.ranks[held..], &mut found.names[held..]);
    found.len += match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => crate::x86::avx512::scan(shape, lut, run, ranks, names),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => crate::x86::avx2::scan(shape, lut, run, ranks, names),
        #[cfg(target_arch = "aarch64")]
        Level::Neon => crate::aarch64::neon::scan(shape, lut, run, ranks, names),
        _ => scalar::scan(shape, lut, run, ranks, names),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{affordable, values};

    struct Sample {
        shape: BlockShape,
        blocks: Vec<Line>,
        tables: Vec<[f32; 16]>,
        nibbles: Vec<Vec<u8>>,
        factors: Vec<(f32, f32)>,
    }

    fn sample(groups: usize, entries: usize) -> Sample {
        let shape = BlockShape::for_groups(groups);
        let noise = values(groups as u64 * 31 + entries as u64, groups * (entries + 16) + 2 * entries);
        let (cells, factors) = noise.split_at(groups * (entries + 16));
        let (tables, codes) = cells.split_at(groups * 16);
        let tables: Vec<[f32; 16]> = tables.as_chunks().0.to_vec();
        let nibbles: Vec<Vec<u8>> =
            codes.chunks(groups).map(|c| c.iter().map(|x| ((x + 1.0) * 8.0) as u8 & 15).collect()).collect();
        let factors: Vec<(f32, f32)> = factors.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        let mut blocks = Vec::new();
        for (entry, (nibbles, &(add, mul))) in nibbles.iter().zip(&factors).enumerate() {
            if entry % BLOCK == 0 {
                shape.push_block(&mut blocks);
            }
            let last = blocks.len() - shape.lines();
            shape.put(&mut blocks[last..], entry % BLOCK, nibbles, add, mul);
        }
        Sample { shape, blocks, tables, nibbles, factors }
    }

    #[test]
    fn entries_come_back_as_they_were_put() {
        let sample = sample(13, 45);
        for (entry, want) in sample.nibbles.iter().enumerate() {
            let block = &sample.blocks[entry / BLOCK * sample.shape.lines()..][..sample.shape.lines()];
            let mut nibbles = vec![0; 13];
            let factors = sample.shape.get(block, entry % BLOCK, &mut nibbles);
            assert_eq!((&nibbles, factors), (want, sample.factors[entry]));
        }
    }

    #[test]
    fn copies_are_what_was_copied() {
        let sample = sample(13, 32);
        let mut copy = Vec::new();
        sample.shape.push_block(&mut copy);
        for entry in 0..BLOCK {
            sample.shape.copy(&sample.blocks, entry, &mut copy, BLOCK - 1 - entry);
        }
        for entry in 0..BLOCK {
            let mut nibbles = vec![0; 13];
            let factors = sample.shape.get(&copy, BLOCK - 1 - entry, &mut nibbles);
            assert_eq!((&nibbles, factors), (&sample.nibbles[entry], sample.factors[entry]));
        }
    }

    #[test]
    fn every_level_estimates_what_the_tables_say() {
        for groups in [1, 2, 3, 4, 5, 8, 31, 32, 96, 97, 515, 516, 517, 1024, 1032] {
            for entries in [1, 15, 31, 32, 33, 97] {
                if !affordable(groups * entries) {
                    continue;
                }
                let sample = sample(groups, entries);
                let mut lut = Lut::default();
                lut.set(sample.shape, &sample.tables);
                let names: Vec<u32> = (0..entries.next_multiple_of(BLOCK) as u32).map(|n| n + 1000).collect();
                let mut want = Candidates::default();
                let run = |limit| Run {
                    blocks: &sample.blocks,
                    names: &names,
                    base: 0.25,
                    slack: 0.125,
                    limit,
                    ahead: &sample.blocks,
                };
                scan_at(Level::Scalar, sample.shape, &lut, &run(f32::INFINITY), &mut want);
                assert_eq!(want.names(), &names[..entries], "padding is never reported");
                for (entry, &rank) in want.ranks().iter().enumerate() {
                    let product: f32 =
                        sample.nibbles[entry].iter().zip(&sample.tables).map(|(&n, t)| t[n as usize]).sum();
                    let (add, mul) = sample.factors[entry];
                    let slack = lut.scale * 0.51 * groups as f32 + 1e-3;
                    assert!(
                        (rank - (0.25 + add + mul * (product + 0.125))).abs() <= slack,
                        "{groups} {entry}"
                    );
                }
                for level in Level::supported() {
                    for limit in [f32::INFINITY, 0.3, -1e9] {
                        let mut got = Candidates::default();
                        got.push(7.0, 7);
                        scan_at(level, sample.shape, &lut, &run(limit), &mut got);
                        let expected: Vec<(f32, u32)> = want
                            .ranks()
                            .iter()
                            .copied()
                            .zip(want.names().iter().copied())
                            .filter(|(rank, _)| *rank < limit)
                            .collect();
                        let near_limit =
                            want.ranks().iter().filter(|rank| (**rank - limit).abs() < 1e-3).count();
                        assert!(
                            got.names().len().abs_diff(expected.len() + 1) <= near_limit,
                            "{level:?} {groups} {entries} {limit}"
                        );
                        if near_limit == 0 {
                            for ((rank, name), (want_rank, want_name)) in
                                got.ranks().iter().zip(got.names()).skip(1).zip(&expected)
                            {
                                assert!(
                                    (rank - want_rank).abs() < 1e-3 * (1.0 + want_rank.abs()),
                                    "{level:?} {groups}"
                                );
                                assert_eq!(name, want_name);
                            }
                        }
                        assert_eq!((got.ranks()[0], got.names()[0]), (7.0, 7), "what was held stays");
                    }
                }
            }
        }
    }

    #[test]
    fn candidates_are_retained_from_a_position() {
        let mut found = Candidates::default();
        (0..10).for_each(|n| found.push(n as f32, n));
        found.retain_from(4, |name| name % 3 == 0);
        assert_eq!(found.names(), [0, 1, 2, 3, 6, 9]);
        assert_eq!(found.ranks(), [0.0, 1.0, 2.0, 3.0, 6.0, 9.0]);
        found.clear();
        assert!(found.is_empty() && found.names().is_empty());
    }

    #[test]
    #[cfg_attr(miri, ignore = "33,000 entries take Miri minutes")]
    fn the_largest_sums_do_not_overflow() {
        let groups = MAX_GROUPS;
        let shape = BlockShape::for_groups(groups);
        let mut blocks = Vec::new();
        shape.push_block(&mut blocks);
        for entry in 0..BLOCK {
            shape.put(&mut blocks, entry, &vec![15; groups], 0.0, 1.0);
        }
        let table = std::array::from_fn(|n| n as f32);
        let mut lut = Lut::default();
        lut.set(shape, &vec![table; groups]);
        let names: Vec<u32> = (0..BLOCK as u32).collect();
        for level in Level::supported() {
            let mut found = Candidates::default();
            let run = Run {
                blocks: &blocks,
                names: &names,
                base: 0.0,
                slack: 0.0,
                limit: f32::INFINITY,
                ahead: &[],
            };
            scan_at(level, shape, &lut, &run, &mut found);
            assert_eq!(found.len(), BLOCK);
            for &rank in found.ranks() {
                assert!((rank - 15.0 * groups as f32).abs() < 1.0, "{level:?} {rank}");
            }
        }
    }
}
