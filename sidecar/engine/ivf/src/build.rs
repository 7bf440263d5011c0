//! Building a state beside the one that serves: train, assign and code everything, calibrate, and
//! catch up with what was published meanwhile.

use std::sync::Arc;

use knn_types::{EngineError, FieldSpec};
use rand::SeedableRng;
use rand::seq::index;
use rand_xoshiro::Xoshiro256Plus;
use rayon::prelude::*;

use crate::calibrate::calibrate;
use crate::coarse::{Coarse, ListNo, spherical};
use crate::coder::Coder;
use crate::config::Spill;
use crate::effort::Curve;
use crate::generation::{Coded, Generation, Local, Trained, next_id};
use crate::heads::Heads;
use crate::kmeans;
use crate::lists::{Drift, Homes, List, Lists, PADDING, Part};
use crate::rotation::Rotation;
use crate::spill;
use crate::store::{Slot, Store};

/// Sample vectors per list.
const SAMPLE_PER_LIST: usize = 64;
/// Bytes that a training sample may take.
const SAMPLE_BYTES: usize = 1 << 30;
/// Slots that one task codes.
pub(crate) const TASK_SLOTS: usize = 512;
/// Seed of everything random here, so that a build can be repeated.
pub(crate) const SEED: u64 = 20_231_127;
/// Most lists of an index.
const MOST_LISTS: usize = 65_536;

/// What a build shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Centroids {
    /// Search exactly, without lists.
    None,
    /// Keep those of the present generation.
    Keep,
    /// Train new ones.
    Train,
}

/// A state under construction.
pub(crate) struct Build {
    /// The state that it is up to date with.
    base: Store,
    pub(crate) store: Store,
    pub(crate) lists: Option<Lists>,
    pub(crate) moved: Option<Moved>,
}

/// Slots have new numbers.
pub(crate) struct Moved {
    /// By old slot; [`PADDING`] where the entry is gone.
    slots: Vec<Slot>,
    pub(crate) heads: Heads,
}

impl Build {
    /// Builds from a published state. Runs on the current rayon pool.
    pub(crate) fn start(
        base: &Store,
        lists: Option<&Lists>,
        spec: &FieldSpec,
        centroids: Centroids,
        compact: bool,
        spill: Spill,
    ) -> Result<Build, EngineError> {
        let (store, moved) = if compact { compacted(base) } else { (base.clone(), None) };
        let lists = match (centroids, lists, &moved) {
            (Centroids::Train, ..) => Some(train(&store, spec, spill)?),
            (Centroids::Keep, Some(lists), Some(moved)) => Some(moved.renamed(lists)),
            (Centroids::Keep, lists, None) => lists.cloned(),
            _ => None,
        };
        Ok(Build { base: base.clone(), store, lists, moved })
    }

    /// A state whose slots are those of `base` and whose lists are these.
    pub(crate) fn of_lists(base: &Store, lists: Lists) -> Self {
        Build { base: base.clone(), store: base.clone(), lists: Some(lists), moved: None }
    }

    /// Slots published since, dead or alive.
    pub(crate) fn behind(&self, now: &Store) -> usize {
        now.slots() - self.base.slots()
    }

    /// Applies what happened between the base and `now`.
    pub(crate) fn catch_up(&mut self, now: &Store) {
        let new: Vec<Slot> = (self.base.slots() as Slot..now.slots() as Slot).collect();
        match &mut self.moved {
            None => self.store = now.clone(),
            Some(moved) => {
                for old in now.died_since(&self.base) {
                    let slot = moved.slots[old as usize];
                    // All slots of a document die at once.
                    if !now.is_follower(old) {
                        moved.heads.remove(&self.store, &now.key(old));
                    }
                    self.store.kill(slot);
                }
                for &slot in &new {
                    let alive = !now.is_dead(slot);
                    moved.slots.push(if alive {
                        let to = self.store.push_copy(now, slot);
                        if !now.is_follower(slot) {
                            moved.heads.insert(&self.store, to);
                        }
                        to
                    } else {
                        PADDING
                    });
                }
            }
        }
        if let Some(lists) = &mut self.lists {
            for group in new.chunks(TASK_SLOTS) {
                let alive: Vec<Slot> = group.iter().copied().filter(|&slot| !now.is_dead(slot)).collect();
                let mut rows = now.gather(&alive);
                for (slot, entry) in alive.iter().zip(lists.generation.encode_entries(&mut rows)) {
                    let slot = self.moved.as_ref().map_or(*slot, |moved| moved.slots[*slot as usize]);
                    lists.push(slot, &entry);
                }
            }
        }
        self.base = now.clone();
    }
}

impl Moved {
    /// Lists with the new numbers, without what is gone.
    fn renamed(&self, lists: &Lists) -> Lists {
        let shape = lists.generation.coder.shape();
        let rename = |slot: Slot| Some(self.slots[slot as usize]).filter(|&slot| slot != PADDING);
        let renamed = |list: &Arc<List>| {
            let mut part = Part::with_capacity(shape, list.len());
            list.copy_into(shape, rename, &mut part);
            Arc::new(List::of(part))
        };
        let seen = self.slots.iter().take(lists.drift.since as usize);
        let since = seen.filter(|&&slot| slot != PADDING).count() as Slot;
        Lists {
            generation: Arc::clone(&lists.generation),
            lists: lists.lists.par_iter().map(renamed).collect(),
            drift: Drift { since, ..lists.drift },
        }
    }
}

/// Lists wanted for so many vectors: about a hundred in a list, growing slowly with the index.
pub(crate) fn nlist_for(vectors: usize, options: Option<u32>) -> usize {
    let list = ((vectors as f64).sqrt() / 3.0).clamp(100.0, 300.0);
    let nlist = options.map_or((vectors as f64 / list).round() as usize, |nlist| nlist as usize);
    nlist.clamp(1, MOST_LISTS).min(vectors.max(1))
}

/// The live entries alone, in their order.
fn compacted(base: &Store) -> (Store, Option<Moved>) {
    let mut store = Store::new(*base.form());
    let mut slots = vec![PADDING; base.slots()];
    for slot in base.live_slots() {
        slots[slot as usize] = store.push_copy(base, slot);
    }
    let heads = Heads::of(&store);
    (store, Some(Moved { slots, heads }))
}

fn train(store: &Store, spec: &FieldSpec, spill: Spill) -> Result<Lists, EngineError> {
    let dims = spec.dims;
    let wanted = nlist_for(store.live(), spec.options.nlist);
    let live: Vec<Slot> = store.live_slots().collect();
    if live.is_empty() {
        return Err(EngineError::Training("no vectors".into()));
    }
    let mut rng = Xoshiro256Plus::seed_from_u64(SEED);
    let size =
        (wanted * SAMPLE_PER_LIST).min(SAMPLE_BYTES / (dims * size_of::<f32>())).max(wanted).min(live.len());
    let chosen: Vec<Slot> = index::sample(&mut rng, live.len(), size).iter().map(|at| live[at]).collect();
    let sample = store.gather(&chosen);
    let problem = kmeans::Problem {
        sample: &sample,
        dims,
        count: wanted,
        spherical: spherical(spec.metric),
        seed: SEED,
    };
    let mut centroids = kmeans::train(&problem);
    if centroids.iter().any(|x| !x.is_finite()) {
        return Err(EngineError::Training("vectors are too large for float32 sums".into()));
    }
    drop(sample);
    let rotation = Arc::new(Rotation::new(dims, SEED));
    centroids.chunks_exact_mut(dims).for_each(|centroid| rotation.apply(centroid));
    let coder = Coder::for_field(spec.metric, dims);
    let coarse = Coarse::new(spec.metric, dims, centroids);
    let twice = match spill {
        _ if coarse.nlist() < 2 => false,
        Spill::Off => false,
        Spill::Auto => spill::is_small_enough(coder, &coarse, store.live()),
        Spill::On => true,
    };
    let mut generation = Generation {
        id: next_id(),
        metric: spec.metric,
        rotation,
        coder,
        coarse: Arc::new(coarse),
        spill: twice,
        trained: Trained { vectors: store.live(), residual: 0.0 },
        curve: Curve::default(),
        local: Local::default(),
    };
    if spill == Spill::Auto && twice {
        generation.spill = spill::pays(store, &generation);
    }
    let generation = Arc::new(generation);
    let mut filled = fill(store, &generation);
    drop(generation);
    let trained = Arc::get_mut(&mut filled.lists.generation).expect("nobody else has it yet");
    trained.trained.residual = filled.residual;
    trained.remember_sizes(&filled.lists.lists);
    let coarse = Arc::get_mut(&mut trained.coarse).expect("nobody else has it yet");
    coarse.set_residuals(&filled.residuals);
    let curve = calibrate(store, &filled.lists, &filled.homes);
    Arc::get_mut(&mut filled.lists.generation).expect("nobody else has it yet").curve = curve;
    Ok(filled.lists)
}

/// Lists that hold everything that lives.
struct Filled {
    lists: Lists,
    homes: Homes,
    /// Mean squared length of residuals: of all, and by list.
    residual: f32,
    residuals: Vec<f32>,
}

/// Assigns and codes all live slots.
fn fill(store: &Store, generation: &Arc<Generation>) -> Filled {
    let live: Vec<Slot> = store.live_slots().collect();
    let coded: Vec<Coded> =
        live.par_chunks(TASK_SLOTS).map(|slots| generation.encode(&mut store.gather(slots))).collect();
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); generation.coarse.nlist()];
    let copies = generation.copies();
    let mut homes = Homes { copies, lists: vec![0; store.slots() * copies] };
    for (at, &list) in coded.iter().flat_map(|coded| &coded.lists).enumerate() {
        members[list as usize].push(at);
        homes.lists[live[at / copies] as usize * copies + at % copies] = list;
    }
    let (shape, groups) = (generation.coder.shape(), generation.coder.groups());
    let task_codes = TASK_SLOTS * copies;
    let list = |members: &Vec<usize>| {
        let mut frozen = Part::with_capacity(shape, members.len());
        for &at in members {
            let (coded, within) = (&coded[at / task_codes], at % task_codes);
            let (add, mul) = coded.factors[within];
            frozen.push(shape, live[at / copies], &coded.nibbles[within * groups..][..groups], add, mul);
        }
        Arc::new(List::of(frozen))
    };
    let lists = members.par_iter().map(list).collect();
    // Of each vector in its first list.
    let mut energies = vec![(0.0, 0usize); generation.coarse.nlist()];
    for coded in &coded {
        for (&list, &energy) in coded.lists.iter().step_by(copies).zip(&coded.residuals) {
            energies[list as usize].0 += f64::from(energy);
            energies[list as usize].1 += 1;
        }
    }
    let residuals = energies.iter().map(|&(sum, count)| (sum / count.max(1) as f64) as f32).collect();
    let drift = Drift { since: store.slots() as Slot, ..Drift::default() };
    Filled {
        lists: Lists { generation: Arc::clone(generation), lists, drift },
        homes,
        residual: (energies.iter().map(|(sum, _)| sum).sum::<f64>() / live.len().max(1) as f64) as f32,
        residuals,
    }
}

/// A list's fresh part merged into its frozen one, dead entries dropped.
pub(crate) struct Frozen {
    list: ListNo,
    part: Arc<Part>,
    /// Fresh entries that went into it.
    merged: usize,
}

/// Freezes the given lists.
pub(crate) fn freeze(store: &Store, lists: &Lists, which: &[ListNo]) -> Vec<Frozen> {
    let shape = lists.generation.coder.shape();
    let alive = |slot: Slot| (!store.is_dead(slot)).then_some(slot);
    let frozen = |&number: &ListNo| {
        let list = &lists.lists[number as usize];
        let mut part = Part::with_capacity(shape, list.len());
        list.copy_into(shape, alive, &mut part);
        Frozen { list: number, part: Arc::new(part), merged: list.fresh.len }
    };
    which.par_iter().map(frozen).collect()
}

/// Puts frozen parts in place, keeping what became fresh since.
pub(crate) fn install_frozen(lists: &mut Lists, frozen: Vec<Frozen>) {
    let shape = lists.generation.coder.shape();
    for Frozen { list, part, merged } in frozen {
        let list = &mut lists.lists[list as usize];
        let mut fresh = Part::default();
        list.fresh.copy_into(shape, merged..list.fresh.len, Some, &mut fresh);
        *list = Arc::new(List { frozen: part, fresh });
    }
}

/// The same lists with a curve measured anew.
pub(crate) fn calibrated(store: &Store, lists: &Lists) -> Lists {
    let before = &lists.generation;
    let curve = calibrate(store, lists, &lists.homes(store.slots()));
    let local = Local { changed: 0, ..before.local.clone() };
    let generation = Generation { id: next_id(), curve, local, ..(**before).clone() };
    Lists { generation: Arc::new(generation), ..lists.clone() }
}
