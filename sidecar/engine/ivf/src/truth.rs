//! The true nearest neighbours of stored vectors, many at a time, in one pass over all vectors.

use ivf_kernels::{Bounds, BytePanels, ByteRows, dot};
use knn_types::Metric;
use rayon::prelude::*;

use crate::nearest::margin;
use crate::store::{Slot, Store};

/// For each query, a stored vector, as many of the others as it wants, nearest first. Runs on the
/// current rayon pool.
pub(crate) fn nearest_neighbours(store: &Store, metric: Metric, queries: &[(Slot, usize)]) -> Vec<Vec<Slot>> {
    if queries.is_empty() {
        return Vec::new();
    }
    let own: Vec<Slot> = queries.iter().map(|&(slot, _)| slot).collect();
    let rows = store.gather(&own);
    let bytes = BytePanels::pack(&rows, store.dims());
    let longest = rows.chunks_exact(store.dims()).map(|row| dot(row, row)).fold(0.0, f32::max).sqrt();
    let asked = Queries { asked: queries, rows: &rows, coarsest: (bytes.largest_scale(), longest), bytes };
    let nothing = || -> Vec<Nearest> { queries.iter().map(|&(_, count)| Nearest::new(count)).collect() };
    let chunks: Vec<_> = store.chunks().collect();
    let pass = |best: Vec<Nearest>, chunk: &(Slot, &[u32], &[u64])| asked.meet(store, metric, *chunk, best);
    let best = chunks.par_iter().fold(nothing, pass).reduce(nothing, |best, other| {
        best.into_iter().zip(other).map(|(best, other)| best.joined(other)).collect()
    });
    best.into_iter().map(Nearest::into_slots).collect()
}

/// Queries, ready to meet all vectors.
struct Queries<'a> {
    asked: &'a [(Slot, usize)],
    /// Their vectors, expanded.
    rows: &'a [f32],
    bytes: BytePanels,
    /// Largest scale and norm.
    coarsest: (f32, f32),
}

impl Queries<'_> {
    /// Offers the vectors of a chunk to every query. Bytes say which may matter, floats decide.
    fn meet(
        &self,
        store: &Store,
        metric: Metric,
        (first, rows, dead): (Slot, &[u32], &[u64]),
        mut best: Vec<Nearest>,
    ) -> Vec<Nearest> {
        let dims = store.dims();
        let rows = &*store.form().expanded(rows);
        let row = |at: usize| &rows[at * dims..][..dims];
        let bytes = ByteRows::pack(rows, dims);
        // A rank is the row's offset less the product. It matters below the query's limit, which
        // is taken off the query's offset here, so that limits move with what was found.
        let offsets: Vec<f32> = best.iter().map(|best| -best.limit).collect();
        let mut bounds = Bounds::new(&offsets, bytes.len(), f32::NEG_INFINITY);
        let offset_of = |at: usize| if metric == Metric::L2 { dot(row(at), row(at)) * 0.5 } else { 0.0 };
        for at in (0..bytes.len()).filter(|at| dead[at / 64] >> (at % 64) & 1 == 0) {
            let norm = dot(row(at), row(at)).sqrt();
            let margin = margin((bytes.scale(at), norm), self.coarsest);
            bounds.set_limit(at, margin - offset_of(at));
        }
        self.bytes.below(&bytes, &mut bounds, |bounds, at, query, _| {
            let slot = first + at as Slot;
            let (own, wanted) = self.asked[query];
            if own != slot && wanted > 0 {
                let exact = offset_of(at) - dot(row(at), &self.rows[query * dims..][..dims]);
                best[query].offer(exact, slot);
                bounds.set_offset(query, -best[query].limit);
            }
        });
        best
    }
}

/// The `count` smallest of many, cut back whenever twice as many are held.
pub(crate) struct Nearest {
    count: usize,
    limit: f32,
    held: Vec<(f32, Slot)>,
}

impl Nearest {
    pub(crate) fn new(count: usize) -> Self {
        Self { count, limit: f32::INFINITY, held: Vec::with_capacity(2 * count) }
    }

    #[inline]
    pub(crate) fn offer(&mut self, rank: f32, slot: Slot) {
        if rank < self.limit {
            self.held.push((rank, slot));
            if self.held.len() == 2 * self.count {
                let (_, last, _) =
                    self.held.select_nth_unstable_by(self.count - 1, |a, b| a.0.total_cmp(&b.0));
                self.limit = last.0;
                self.held.truncate(self.count);
            }
        }
    }

    /// The rank that a further one must beat.
    pub(crate) fn limit(&self) -> f32 {
        self.limit
    }

    fn joined(mut self, other: Nearest) -> Self {
        other.held.into_iter().for_each(|(rank, slot)| self.offer(rank, slot));
        self
    }

    /// What is left, the smallest first.
    pub(crate) fn into_slots(mut self) -> Vec<Slot> {
        self.held.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        self.held.truncate(self.count);
        self.held.into_iter().map(|(_, slot)| slot).collect()
    }
}

#[cfg(test)]
mod tests {
    use knn_types::SeqNo;
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256Plus;

    use super::*;
    use crate::form::Form;

    #[test]
    fn neighbours_are_those_of_a_plain_loop_over_the_living() {
        let mut rng = Xoshiro256Plus::seed_from_u64(9);
        for (dims, rows, metric) in [(3, 2_000, Metric::L2), (40, 5_000, Metric::Dot), (130, 900, Metric::L2)]
        {
            let mut store = Store::new(Form::floats(dims));
            for n in 0..rows as u64 {
                let row: Vec<f32> = (0..dims).map(|_| 5.0 + rng.gen_range(-1f32..1.0)).collect();
                store.push(
                    &n.to_le_bytes(),
                    SeqNo { primary_term: 1, seq_no: n },
                    bytemuck::cast_slice(&row),
                );
            }
            (0..rows as Slot).step_by(7).for_each(|slot| store.kill(slot));
            let queries: Vec<(Slot, usize)> =
                (0..40).map(|n| (n * 20 + 1, [1, 10, 100][n as usize % 3])).collect();
            let found = nearest_neighbours(&store, metric, &queries);
            for (&(query, wanted), found) in queries.iter().zip(&found) {
                let float = |slot: Slot| bytemuck::cast_slice(store.row(slot));
                let rank = |slot: Slot| match metric {
                    Metric::L2 => ivf_kernels::l2_squared(float(query), float(slot)),
                    _ => -dot(float(query), float(slot)),
                };
                let mut all: Vec<f32> = store.live_slots().filter(|&slot| slot != query).map(rank).collect();
                all.sort_unstable_by(f32::total_cmp);
                assert_eq!(found.len(), wanted);
                for (&slot, want) in found.iter().zip(&all) {
                    assert!(slot != query && !store.is_dead(slot));
                    // Distances by way of products round otherwise.
                    assert!((rank(slot) - want).abs() <= 1e-5 * want.abs() + 1e-3, "{metric:?} {dims}");
                }
            }
        }
    }
}
