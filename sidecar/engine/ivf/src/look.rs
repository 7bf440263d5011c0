//! A look at all lists: which have grown, shrunk or filled with dead entries, and whether the
//! centroids still fit what is there. Upkeep looks again when enough has changed.

use rand::SeedableRng;
use rand::seq::index;
use rand_xoshiro::Xoshiro256Plus;
use rayon::prelude::*;

use crate::build::{SEED, nlist_for};
use crate::coarse::ListNo;
use crate::lists::{Drift, Lists};
use crate::local::Work;
use crate::store::{Slot, Store};
use crate::view::View;

/// Share of live vectors that may come and go before lists are looked at again.
const CHANGED: f64 = 0.05;
/// A list is split beyond so many times its planned size, if it has also grown by half since its
/// centroid was placed: the data may well want lists of different sizes.
const GROWN: f64 = 2.0;
const GROWN_SINCE: f64 = 1.5;
/// A list is dissolved below this share of its planned size, if it has also lost half.
const SHRUNK: f64 = 0.25;
const SHRUNK_SINCE: f64 = 0.5;
/// Lists that are split or dissolved at a time, and the share of all of them that may be.
const LISTS: usize = 16;
const LISTS_SHARE: usize = 64;
/// Share of dead entries beyond which a list is rewritten, and lists that are at a time.
const DEAD_SHARE: f64 = 0.25;
const PURGED: usize = 512;
/// Share of lists that may come or go before effort is measured anew.
const CHANGED_LISTS: f64 = 0.2;
/// Vectors that drift is measured on.
const SAMPLE: usize = 512;

/// What a look found.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) work: Work,
    /// Lists with too many dead entries.
    pub(crate) purge: Vec<ListNo>,
    /// The curve is that of other lists.
    pub(crate) calibrate: bool,
    /// Mean squared residual of all vectors, in units of that at training.
    pub(crate) inertia: f32,
    /// The same of those that were added since training, if there are any.
    pub(crate) drift: Option<f32>,
}

/// The state that was looked at last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen(Option<(u64, u64, usize, usize)>);

impl Seen {
    pub(crate) fn of(view: &View) -> Self {
        Self(view.lists.as_ref().map(|lists| {
            let store = &view.store;
            (lists.generation.id, store.lineage(), store.slots(), store.slots() - store.live())
        }))
    }

    /// Whether enough has changed to look again.
    pub(crate) fn is_old(self, view: &View) -> bool {
        let (Some(seen), Some(now)) = (self.0, Self::of(view).0) else { return view.lists.is_some() };
        let changed = now.2.abs_diff(seen.2) + now.3.abs_diff(seen.3);
        (seen.0, seen.1) != (now.0, now.1) || changed as f64 > CHANGED * view.store.live() as f64
    }
}

/// Looks at all lists. Runs on the current rayon pool.
pub(crate) fn look(store: &Store, lists: &Lists, nlist: Option<u32>) -> Look {
    let sizes: Vec<usize> = lists
        .lists
        .par_iter()
        .map(|list| list.members().filter(|&slot| !store.is_dead(slot)).count())
        .collect();
    let copies = lists.generation.copies();
    let planned = (store.live() * copies) as f64 / nlist_for(store.live(), nlist) as f64;
    let purge = |list: &ListNo| {
        let (live, all) = (sizes[*list as usize], lists.lists[*list as usize].len());
        (all - live) as f64 > DEAD_SHARE * all as f64
    };
    let changed = lists.generation.local.changed as f64;
    let (inertia, drift) = fit(store, lists);
    Look {
        work: work(&sizes, &lists.generation.local.founding, planned),
        purge: (0..lists.nlist() as ListNo).filter(purge).take(PURGED).collect(),
        calibrate: changed > CHANGED_LISTS * lists.nlist() as f64,
        inertia,
        drift,
    }
}

/// The lists that need it most.
fn work(sizes: &[usize], founding: &[u32], planned: f64) -> Work {
    let most = LISTS.max(sizes.len() / LISTS_SHARE);
    let numbers = || (0..sizes.len() as ListNo).zip(sizes.iter().zip(founding));
    let mut split: Vec<(ListNo, usize)> = numbers()
        .filter(|(_, (size, founding))| {
            **size as f64 > GROWN * planned && **size as f64 > GROWN_SINCE * f64::from(**founding)
        })
        .map(|(list, (size, _))| (list, *size))
        .collect();
    let mut merge: Vec<(ListNo, usize)> = numbers()
        .filter(|(_, (size, founding))| {
            (**size as f64) < SHRUNK * planned && (**size as f64) < SHRUNK_SINCE * f64::from(**founding)
        })
        .map(|(list, (size, _))| (list, *size))
        .collect();
    split.sort_unstable_by_key(|&(list, size)| (std::cmp::Reverse(size), list));
    split.truncate(most);
    merge.sort_unstable_by_key(|&(list, size)| (size, list));
    // Two lists are left, whatever happens: vectors that stand in two need them.
    merge.truncate(most.min(sizes.len().saturating_sub(split.len()).saturating_sub(2)));
    let mut merge: Vec<ListNo> = merge.into_iter().map(|(list, _)| list).collect();
    merge.sort_unstable();
    let parts = |size: usize| ((size as f64 / planned).round() as usize).max(2);
    Work { split: split.into_iter().map(|(list, size)| (list, parts(size))).collect(), merge }
}

/// Inertia and drift on samples, in units of the mean squared residual at training.
fn fit(store: &Store, lists: &Lists) -> (f32, Option<f32>) {
    let trained = lists.generation.trained.residual;
    let Drift { since, .. } = lists.drift;
    let live: Vec<Slot> = store.live_slots().collect();
    let seen = live.partition_point(|&slot| slot < since);
    let mut rng = Xoshiro256Plus::seed_from_u64(SEED);
    let mut energy = |slots: &[Slot]| -> Option<f64> {
        let chosen: Vec<Slot> = index::sample(&mut rng, slots.len(), SAMPLE.min(slots.len()))
            .iter()
            .map(|at| slots[at])
            .collect();
        let mut rows = store.gather(&chosen);
        rows.chunks_exact_mut(store.dims()).for_each(|row| lists.generation.rotation.apply(row));
        let sum: f64 = lists.generation.coarse.energies(&rows).into_iter().map(f64::from).sum();
        (!chosen.is_empty()).then(|| sum / chosen.len() as f64)
    };
    // Nothing was left over at training: whatever is left over now is infinitely more.
    let relative = |energy: f64| if energy > 0.0 { (energy / f64::from(trained)) as f32 } else { 1.0 };
    let (of_seen, of_new) = (energy(&live[..seen]), energy(&live[seen..]));
    let share = seen as f64 / live.len().max(1) as f64;
    let of_all = of_seen.unwrap_or(0.0) * share + of_new.unwrap_or(0.0) * (1.0 - share);
    (relative(of_all), of_new.map(relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_grew_are_split_and_lists_that_shrank_dissolved() {
        // Large or small from the beginning is no reason; neither is growth below the plan.
        let sizes = [201, 201, 900, 199, 24, 24, 25, 100];
        let founding = [100, 200, 300, 100, 100, 30, 100, 10];
        let work = work(&sizes, &founding, 100.0);
        assert_eq!(work, Work { split: vec![(2, 9), (0, 2)], merge: vec![4] });
    }

    #[test]
    fn the_worst_come_first_and_two_lists_are_left() {
        let sizes: Vec<usize> = (0..64).map(|n| 300 + n).collect();
        let split = work(&sizes, &[100; 64], 100.0).split;
        assert_eq!(split.len(), LISTS);
        assert!(split.iter().all(|&(list, _)| list as usize >= 64 - LISTS));
        assert_eq!(work(&[0, 0, 0], &[10; 3], 10.0).merge, [0]);
        assert_eq!(work(&[0, 0], &[10; 2], 10.0).merge, [0; 0]);
    }
}
