//! Local maintenance of lists after LIRE of SPFresh (arXiv 2410.14452): lists that grew are split,
//! lists that shrank are dissolved, and vectors at the borders of what changed move to the list
//! that is now nearest to them. Everything else stays as it is: the other centroids, their lists'
//! codes, the rotation and the curve.

use std::sync::Arc;

use hashbrown::HashMap;
use rayon::prelude::*;

use crate::build::{SEED, TASK_SLOTS};
use crate::coarse::{Coarse, ListNo, spherical};
use crate::generation::{Coded, Generation, Local, next_id};
use crate::kmeans;
use crate::lists::{List, Lists, Part};
use crate::nearest::{Centroids, Prepared};
use crate::store::{Slot, Store};

/// Neighbouring lists whose members may move to a new centroid (SPFresh looks at 64 postings).
const NEIGHBOURS: usize = 32;
/// A part of a split that is smaller than this share of an even one is no part.
const LEAST_PART: f64 = 0.2;
/// Most parts of one split.
const MOST_PARTS: usize = 16;
/// A list is only dissolved if the mean squared residual of its members from other centroids will be at
/// most so many times that of all vectors at training: few that lie far from all others need a list.
const FAR: f64 = 2.0;

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// Lists to split, and into how many parts.
    pub(crate) split: Vec<(ListNo, usize)>,
    /// Lists to dissolve into their neighbours, ascending; at least two more are left.
    pub(crate) merge: Vec<ListNo>,
}

/// What came of it.
pub(crate) struct Mended {
    pub(crate) lists: Lists,
    /// Lists that were split; one whose members cannot be told apart stays as it is.
    pub(crate) splits: u64,
    /// Lists that were dissolved; one that lies far from all others stays as it is.
    pub(crate) merges: u64,
    /// Vectors of other lists that moved.
    pub(crate) reassigned: u64,
}

/// One of the new lists.
struct Place<'a> {
    /// The list that it goes on from.
    old: Option<ListNo>,
    centroid: &'a [f32],
    residual: f32,
    founding: u32,
}

/// The vectors whose lists are found anew, and these lists.
struct Movers {
    /// Ascending.
    slots: Vec<Slot>,
    /// One for each slot of the store.
    bits: Vec<u64>,
    coded: Vec<Coded>,
    copies: usize,
}

/// Does the work. Runs on the current rayon pool.
pub(crate) fn mend(store: &Store, lists: &Lists, work: &Work) -> Mended {
    let before = &lists.generation;
    let parts: Vec<Option<Vec<f32>>> =
        work.split.par_iter().map(|&(list, count)| parts_of(store, lists, list, count)).collect();
    let split: HashMap<ListNo, Option<&[f32]>> =
        work.split.iter().zip(&parts).map(|(&(list, _), parts)| (list, parts.as_deref())).collect();
    let merged: Vec<ListNo> =
        work.merge.par_iter().copied().filter(|&list| can_go(store, lists, list, work)).collect();
    let (places, gone) = places(store, lists, work, &merged, &split);
    let fresh: Vec<f32> = parts.iter().flatten().flatten().copied().collect();
    let moving = moving(store, lists, &split, &gone, &fresh);

    let dims = store.dims();
    let centroids = places.iter().flat_map(|place| place.centroid).copied().collect();
    let coarse = Coarse::new(before.metric, dims, centroids);
    let mut generation = Generation { id: next_id(), coarse: Arc::new(coarse), ..(**before).clone() };
    let movers = Movers::new(store, &generation, moving);
    let (new_lists, left) = fill(store, lists, &generation, &places, &movers);

    let mut residuals = Means::new(places.len());
    movers.residuals(|list, energy| residuals.add(list, energy));
    let coarse = Arc::get_mut(&mut generation.coarse).expect("nobody else has it yet");
    let residual = |(number, place): (usize, &Place<'_>)| match place.old {
        Some(_) => place.residual,
        None => residuals.mean(number),
    };
    coarse.set_residuals(&places.iter().enumerate().map(residual).collect::<Vec<f32>>());
    let founding = |(place, list): (&Place<'_>, &Arc<List>)| match place.old {
        Some(_) => place.founding,
        None => list.len() as u32,
    };
    generation.local = Local {
        founding: places.iter().zip(&new_lists).map(founding).collect(),
        changed: before.local.changed + gone.len() + fresh.len() / dims,
    };
    Mended {
        lists: Lists { generation: Arc::new(generation), lists: new_lists, drift: lists.drift },
        splits: parts.iter().flatten().count() as u64,
        merges: merged.len() as u64,
        reassigned: left,
    }
}

/// The live members of a list, ascending as they came.
fn living(store: &Store, list: &List) -> Vec<Slot> {
    list.members().filter(|&slot| !store.is_dead(slot)).collect()
}

/// Rotated rows of slots, end to end.
fn rotated(store: &Store, generation: &Generation, slots: &[Slot]) -> Vec<f32> {
    let mut rows = store.gather(slots);
    rows.chunks_exact_mut(store.dims()).for_each(|row| generation.rotation.apply(row));
    rows
}

/// Centroids for the parts of a list; `None` if it does not fall into parts.
fn parts_of(store: &Store, lists: &Lists, list: ListNo, count: usize) -> Option<Vec<f32>> {
    let (generation, dims) = (&lists.generation, store.dims());
    let members = living(store, &lists.lists[list as usize]);
    let rows = rotated(store, generation, &members);
    let count = count.min(MOST_PARTS).min(members.len());
    let spherical = spherical(generation.metric);
    let problem = kmeans::Problem { sample: &rows, dims, count, spherical, seed: SEED ^ u64::from(list) };
    let centroids = kmeans::train(&problem);
    if count < 2 || centroids.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let centroids = Centroids::new(centroids, dims, spherical);
    let mut sizes = vec![0usize; centroids.len()];
    let nearest = centroids.nearest(&Prepared::new(&rows, dims));
    nearest.iter().for_each(|&(part, _)| sizes[part as usize] += 1);
    let least = (LEAST_PART * members.len() as f64 / count as f64).ceil() as usize;
    let parts: Vec<usize> = (0..sizes.len()).filter(|&part| sizes[part] >= least.max(1)).collect();
    (parts.len() > 1).then(|| parts.into_iter().flat_map(|part| centroids.row(part)).copied().collect())
}

/// Whether the neighbours of a list can take its members.
fn can_go(store: &Store, lists: &Lists, list: ListNo, work: &Work) -> bool {
    let (generation, members) = (&lists.generation, living(store, &lists.lists[list as usize]));
    if members.is_empty() {
        return true;
    }
    let rows = rotated(store, generation, &members);
    let others = near(generation, list, &work.merge);
    let nearest = |row: &[f32]| {
        let energies =
            others.iter().map(|&other| ivf_kernels::l2_squared(row, generation.coarse.centroid(other)));
        f64::from(energies.fold(f32::INFINITY, f32::min))
    };
    let sum: f64 = rows.chunks_exact(store.dims()).map(nearest).sum();
    sum <= FAR * f64::from(generation.trained.residual) * members.len() as f64
}

/// The new lists, and the old ones that are none of them. The first lists keep their numbers as far
/// as they can: what follows them is moved to where others went.
fn places<'a>(
    store: &Store,
    lists: &'a Lists,
    work: &Work,
    merged: &[ListNo],
    split: &HashMap<ListNo, Option<&'a [f32]>>,
) -> (Vec<Place<'a>>, Vec<ListNo>) {
    let generation = &lists.generation;
    let new = |centroid| Place { old: None, centroid, residual: 0.0, founding: 0 };
    let (mut places, mut more, mut gone) = (Vec::with_capacity(lists.nlist()), Vec::new(), merged.to_vec());
    for number in 0..lists.nlist() as ListNo {
        if let Some(Some(parts)) = split.get(&number) {
            let mut parts = parts.chunks_exact(store.dims());
            places.extend(parts.next().map(new));
            more.extend(parts.map(new));
            gone.push(number);
            continue;
        }
        // What could not be split or dissolved has to grow or shrink again before the next attempt.
        let founding = if split.contains_key(&number) || work.merge.contains(&number) {
            living(store, &lists.lists[number as usize]).len() as u32
        } else {
            generation.local.founding[number as usize]
        };
        let residual = generation.coarse.residuals()[number as usize];
        let centroid = generation.coarse.centroid(number);
        places.push(Place { old: Some(number), centroid, residual, founding });
    }
    places.extend(more);
    for &number in merged.iter().rev() {
        places.swap_remove(number as usize);
    }
    (places, gone)
}

/// The slots whose lists have to be found anew: members of lists that are gone, and members of
/// neighbours that lie nearer to a new centroid than to their own. (LIRE's second condition, that
/// they lie nearer to it than to the centroid that was split, follows from this one wherever it
/// matters; its first, that a member of a split list lies nearer to another one, is what the
/// assignment of all its members finds out.)
fn moving(
    store: &Store,
    lists: &Lists,
    split: &HashMap<ListNo, Option<&[f32]>>,
    gone: &[ListNo],
    fresh: &[f32],
) -> Vec<Slot> {
    let (generation, dims) = (&lists.generation, store.dims());
    let mut moving: Vec<Slot> =
        gone.iter().flat_map(|&list| living(store, &lists.lists[list as usize])).collect();
    if !fresh.is_empty() {
        let fresh = Centroids::new(fresh.to_vec(), dims, spherical(generation.metric));
        let crossing = |&list: &ListNo| -> Vec<Slot> {
            let members = living(store, &lists.lists[list as usize]);
            let rows = rotated(store, generation, &members);
            let nearest = fresh.nearest(&Prepared::new(&rows, dims));
            let pairs = members.iter().zip(rows.chunks_exact(dims)).zip(nearest);
            let crosses = |&((_, row), (_, rank)): &((&Slot, &[f32]), (u32, f32))| {
                rank < generation.coarse.rank(list, row)
            };
            pairs.filter(crosses).map(|((&slot, _), _)| slot).collect()
        };
        let split: Vec<ListNo> =
            split.iter().filter(|(_, parts)| parts.is_some()).map(|(&list, _)| list).collect();
        moving.par_extend(neighbours(generation, &split, gone).par_iter().flat_map_iter(crossing));
    }
    moving.par_sort_unstable();
    moving.dedup();
    moving
}

/// The lists nearest to any of some lists, without those that are gone.
fn neighbours(generation: &Generation, of: &[ListNo], gone: &[ListNo]) -> Vec<ListNo> {
    let mut lists: Vec<ListNo> = of.par_iter().flat_map_iter(|&list| near(generation, list, gone)).collect();
    lists.sort_unstable();
    lists.dedup();
    lists
}

/// The lists nearest to one, in no order, without `gone` ones.
fn near(generation: &Generation, list: ListNo, gone: &[ListNo]) -> Vec<ListNo> {
    let coarse = &generation.coarse;
    let others = (0..coarse.nlist() as ListNo).filter(|&other| other != list && !gone.contains(&other));
    let mut ranks: Vec<(f32, ListNo)> =
        others.map(|other| (coarse.rank(other, coarse.centroid(list)), other)).collect();
    if ranks.len() > NEIGHBOURS {
        ranks.select_nth_unstable_by(NEIGHBOURS, |a, b| a.0.total_cmp(&b.0));
        ranks.truncate(NEIGHBOURS);
    }
    ranks.into_iter().map(|(_, list)| list).collect()
}

impl Movers {
    fn new(store: &Store, generation: &Generation, slots: Vec<Slot>) -> Self {
        let mut bits = vec![0u64; store.slots().div_ceil(64)];
        slots.iter().for_each(|&slot| bits[slot as usize / 64] |= 1 << (slot % 64));
        let coded =
            slots.par_chunks(TASK_SLOTS).map(|slots| generation.encode(&mut store.gather(slots))).collect();
        Self { slots, bits, coded, copies: generation.copies() }
    }

    /// The new lists of a slot, if it is one of those.
    fn homes(&self, slot: Slot) -> Option<&[ListNo]> {
        if self.bits[slot as usize / 64] >> (slot % 64) & 1 == 0 {
            return None;
        }
        let at = self.slots.binary_search(&slot).expect("its bit is set");
        Some(&self.coded[at / TASK_SLOTS].lists[at % TASK_SLOTS * self.copies..][..self.copies])
    }

    /// Squared residuals, each with the first list of its vector.
    fn residuals(&self, mut visit: impl FnMut(ListNo, f32)) {
        for coded in &self.coded {
            let firsts = coded.lists.iter().step_by(self.copies);
            firsts.zip(&coded.residuals).for_each(|(&list, &energy)| visit(list, energy));
        }
    }

    /// Where the codes for each list stand: slot, task and number in the task.
    fn by_list(&self, nlist: usize) -> Vec<Vec<(Slot, u32, u32)>> {
        let mut by_list = vec![Vec::new(); nlist];
        for (task, (coded, slots)) in self.coded.iter().zip(self.slots.chunks(TASK_SLOTS)).enumerate() {
            for (at, &list) in coded.lists.iter().enumerate() {
                by_list[list as usize].push((slots[at / self.copies], task as u32, at as u32));
            }
        }
        by_list
    }
}

/// The new lists, and how many entries left one that stays.
fn fill(
    store: &Store,
    lists: &Lists,
    generation: &Generation,
    places: &[Place<'_>],
    movers: &Movers,
) -> (Vec<Arc<List>>, u64) {
    let (shape, groups) = (generation.coder.shape(), generation.coder.groups());
    let coming = movers.by_list(places.len());
    let list = |number: usize| -> (Arc<List>, u64) {
        let old = places[number].old.map(|old| &lists.lists[old as usize]);
        let (mut left, mut stayed) = (0, Vec::new());
        for slot in old.into_iter().flat_map(|old| old.members()).filter(|&slot| !store.is_dead(slot)) {
            match movers.homes(slot) {
                Some(homes) if homes.contains(&(number as ListNo)) => stayed.push(slot),
                Some(_) => left += 1,
                None => {}
            }
        }
        stayed.sort_unstable();
        let is_new = |(slot, ..): &&(Slot, u32, u32)| stayed.binary_search(slot).is_err();
        let mut new = coming[number].iter().filter(is_new).peekable();
        match old {
            Some(old) if left == 0 && new.peek().is_none() => return (Arc::clone(old), 0),
            _ => {}
        }
        let mut part = Part::with_capacity(shape, old.map_or(0, |old| old.len()) + coming[number].len());
        if let Some(old) = old {
            let stays = |slot: Slot| {
                let leaves = movers.homes(slot).is_some_and(|homes| !homes.contains(&(number as ListNo)));
                (!store.is_dead(slot) && !leaves).then_some(slot)
            };
            old.copy_into(shape, stays, &mut part);
        }
        for &(slot, task, at) in new {
            let (coded, at) = (&movers.coded[task as usize], at as usize);
            let (add, mul) = coded.factors[at];
            part.push(shape, slot, &coded.nibbles[at * groups..][..groups], add, mul);
        }
        (Arc::new(List::of(part)), left)
    };
    let filled: Vec<(Arc<List>, u64)> = (0..places.len()).into_par_iter().map(list).collect();
    let left = filled.iter().map(|(_, left)| left).sum();
    (filled.into_iter().map(|(list, _)| list).collect(), left)
}

/// Mean values by list.
struct Means(Vec<(f64, usize)>);

impl Means {
    fn new(lists: usize) -> Self {
        Self(vec![(0.0, 0); lists])
    }

    fn add(&mut self, list: ListNo, value: f32) {
        let (sum, count) = &mut self.0[list as usize];
        *sum += f64::from(value);
        *count += 1;
    }

    fn mean(&self, list: usize) -> f32 {
        let (sum, count) = self.0[list];
        (sum / count.max(1) as f64) as f32
    }
}

#[cfg(test)]
mod tests;
