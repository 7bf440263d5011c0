//! Upkeep of one index: what is due, and doing it beside searches and changes.

use std::sync::atomic::Ordering;

use ivf_kernels::{BLOCK, Line};
use knn_types::{EngineError, FieldSpec};

use crate::build::{self, Build, Centroids, nlist_for};
use crate::coarse::ListNo;
use crate::coder::Coder;
use crate::form::Form;
use crate::index::Index;
use crate::lists::Lists;
use crate::local::{self, Mended, Work};
use crate::look::{Look, Seen, look};
use crate::store::{Slot, Store};
use crate::view::View;

/// Share of dead slots beyond which the originals are rewritten.
const DEAD_SHARE: f64 = 0.25;
/// Fewer dead slots than this are not worth it.
const DEAD_LEAST: usize = 1_024;
/// Growth or shrinkage since training that makes another number of lists fit better, whatever local
/// maintenance made of it.
const RESIZED: usize = 2;
/// Share of new vectors from which their residuals are compared with those at training.
const DRIFT_SHARE: f64 = 0.1;
/// Residuals of new vectors, or of all, against those at training that show another distribution.
const DRIFT_ENERGY: f32 = 1.2;
/// Share of entries in fresh parts beyond which they are frozen.
const FRESH_SHARE: f64 = 0.05;
/// Fewer fresh entries than this are not worth it.
const FRESH_LEAST: usize = 1_024;
/// Slots that may be coded with the writer locked.
const BEHIND: usize = 256;
/// Attempts to come that near without the lock.
const CHASES: usize = 8;

/// Vectors of more dimensions (only bits have) are always compared exactly: they are short, and their
/// codes would be no shorter.
const MOST_DIMS: usize = 4_096;

/// What an index needs.
#[derive(Debug)]
enum Due {
    Nothing,
    /// Everything is put together anew.
    Rebuild {
        centroids: Centroids,
        compact: bool,
    },
    /// These lists are rewritten: fresh parts become frozen ones, dead entries go.
    Freeze(Vec<ListNo>),
    /// Lists are split and dissolved.
    Mend(Work),
    /// Effort is measured anew.
    Calibrate,
}

/// Finds what is due by the numbers of a state.
fn due(view: &View, exact_below: usize) -> Due {
    let (live, slots) = (view.store.live(), view.store.slots());
    let dead = slots - live;
    let compact = dead >= DEAD_LEAST && dead as f64 > DEAD_SHARE * slots as f64;
    let centroids = match &view.lists {
        None if live >= exact_below && view.spec.dims <= MOST_DIMS => Centroids::Train,
        None => Centroids::None,
        Some(_) if live < exact_below / 2 => Centroids::None,
        Some(lists) if resized(lists, live) => Centroids::Train,
        Some(_) => Centroids::Keep,
    };
    let changes_lists =
        centroids == Centroids::Train || (centroids == Centroids::None && view.lists.is_some());
    if compact || changes_lists {
        return Due::Rebuild { centroids, compact };
    }
    let Some(lists) = &view.lists else { return Due::Nothing };
    let fresh = lists.fresh();
    if fresh >= FRESH_LEAST && fresh as f64 > FRESH_SHARE * slots as f64 {
        let has_fresh = |list: &ListNo| lists.lists[*list as usize].fresh.len > 0;
        return Due::Freeze((0..lists.nlist() as ListNo).filter(has_fresh).collect());
    }
    Due::Nothing
}

/// Finds what is due by what a look at the lists found. Whether training is due shows when splits
/// have absorbed what they can.
fn due_by(look: Look, lists: &Lists) -> Due {
    if look.work != Work::default() {
        Due::Mend(look.work)
    } else if look.inertia > DRIFT_ENERGY || drifted(&look, lists) {
        Due::Rebuild { centroids: Centroids::Train, compact: false }
    } else if !look.purge.is_empty() {
        Due::Freeze(look.purge)
    } else if look.calibrate {
        Due::Calibrate
    } else {
        Due::Nothing
    }
}

/// Whether an index has become so much larger or smaller since training.
fn resized(lists: &Lists, live: usize) -> bool {
    let trained = lists.generation.trained.vectors;
    live > trained * RESIZED || live * RESIZED < trained
}

/// Whether much was added since training that lay far from the centroids of its time, and still
/// does after lists were split for it.
fn drifted(look: &Look, lists: &Lists) -> bool {
    let added = lists.drift.added as f64 > DRIFT_SHARE * lists.generation.trained.vectors as f64;
    let is_far = |energy: Option<f32>| energy.is_some_and(|energy| energy > DRIFT_ENERGY);
    added && is_far(lists.drift()) && is_far(look.drift)
}

/// Bytes that the lists of so many vectors will take, about.
fn lists_bytes(spec: &FieldSpec, vectors: u64) -> u64 {
    // Room at the ends of lists, and the lists themselves.
    const SLACK: f64 = 1.25;
    let lines = Coder::for_field(spec.metric, spec.dims).shape().lines() * size_of::<Line>();
    let entry = lines as f64 / BLOCK as f64 + size_of::<Slot>() as f64;
    let centroid = (spec.dims * (size_of::<f32>() + 1)) as f64;
    (vectors as f64 * entry * SLACK + nlist_for(vectors as usize, spec.options.nlist) as f64 * centroid)
        as u64
}

/// Checks one more file of vectors that no search has used as a whole. Returns whether there are more.
fn scrub(store: &Store) -> Result<bool, EngineError> {
    let mut unchecked = store.files().into_iter().filter(|file| !file.is_checked());
    if let Some(file) = unchecked.next() {
        file.check_all();
        store.sound()?;
    }
    Ok(unchecked.next().is_some())
}

impl Index {
    /// See [`knn_types::KnnIndex::maintain`].
    pub(crate) fn upkeep(&self) -> Result<bool, EngineError> {
        let mut seen = self.maintenance.lock();
        let view = self.published.load_full();
        let due = match (due(&view, self.exact_below), &view.lists) {
            (Due::Nothing, Some(lists)) if seen.is_old(&view) => {
                let nlist = self.spec().options.nlist;
                let look = self.pool.install(|| look(&view.store, lists, nlist));
                // What was read may be damaged.
                view.store.sound()?;
                self.done.lock().inertia = look.inertia;
                *seen = Seen::of(&view);
                due_by(look, lists)
            }
            (due, _) => due,
        };
        match due {
            Due::Nothing => {
                self.set_refused(false);
                return scrub(&view.store);
            }
            Due::Freeze(lists) => self.freeze(&view, &lists),
            Due::Mend(work) => self.mend(&view, &work)?,
            Due::Calibrate => self.calibrate(&view)?,
            Due::Rebuild { centroids, compact } => {
                if !self.may_rebuild(&view, centroids, compact) {
                    return Ok(false);
                }
                self.training.store(centroids == Centroids::Train, Ordering::Relaxed);
                let built = self.rebuild(&view, centroids, compact);
                self.training.store(false, Ordering::Relaxed);
                built?;
            }
        }
        // There may be more of the same.
        *seen = Seen::default();
        Ok(true)
    }

    /// Whether the budget has room for what a rebuild adds. Training that was refused is tried again
    /// whenever upkeep is; until then searches of a large index fail instead of comparing everything.
    fn may_rebuild(&self, view: &View, centroids: Centroids, compact: bool) -> bool {
        if !self.budget().is_limited() || centroids == Centroids::None {
            return true;
        }
        let spec = self.spec();
        let live = view.store.live() as u64;
        let rewritten = if compact { live * (Form::of(&spec).words() * size_of::<u32>()) as u64 } else { 0 };
        // Old and new lists are both there for a while.
        match self.make_room(rewritten + lists_bytes(&spec, live)) {
            Ok(()) => self.set_refused(false),
            Err(error) => {
                let has_lists = view.lists.is_some();
                tracing::warn!(%error, vectors = live, has_lists, "lists are not built for want of memory");
                self.set_refused(!has_lists);
                return false;
            }
        }
        true
    }

    /// Lets searches fail, or lets them work again.
    fn set_refused(&self, refused: bool) {
        if self.refused.swap(refused, Ordering::Relaxed) != refused {
            self.show(&mut self.writer.lock());
        }
    }

    fn rebuild(&self, view: &View, centroids: Centroids, compact: bool) -> Result<(), EngineError> {
        let start =
            || Build::start(&view.store, view.lists.as_ref(), &self.spec(), centroids, compact, self.spill);
        let build = self.pool.install(start)?;
        self.install(build)?;
        self.done.lock().trainings += u64::from(centroids == Centroids::Train);
        Ok(())
    }

    /// Lets a state that was built beside the serving one catch up with it and take its place.
    fn install(&self, mut build: Build) -> Result<(), EngineError> {
        for _ in 0..CHASES {
            let now = self.published.load_full();
            if build.behind(&now.store) <= BEHIND {
                break;
            }
            self.pool.install(|| build.catch_up(&now.store));
        }
        let mut writer = self.writer.lock();
        build.catch_up(&writer.store);
        // Nothing may come of rows that are damaged.
        writer.store.sound()?;
        writer.store = build.store;
        writer.lists = build.lists;
        if let Some(moved) = build.moved {
            writer.heads = moved.heads;
        }
        self.show(&mut writer);
        Ok(())
    }

    fn freeze(&self, view: &View, which: &[ListNo]) {
        let Some(lists) = &view.lists else { return };
        let frozen = self.pool.install(|| build::freeze(&view.store, lists, which));
        let mut writer = self.writer.lock();
        if let Some(lists) = &mut writer.lists {
            build::install_frozen(lists, frozen);
        }
        self.show(&mut writer);
    }

    fn mend(&self, view: &View, work: &Work) -> Result<(), EngineError> {
        let Some(lists) = &view.lists else { return Ok(()) };
        let Mended { lists, splits, merges, reassigned } =
            self.pool.install(|| local::mend(&view.store, lists, work));
        self.install(Build::of_lists(&view.store, lists))?;
        let mut done = self.done.lock();
        done.splits += splits;
        done.merges += merges;
        done.reassigned += reassigned;
        Ok(())
    }

    fn calibrate(&self, view: &View) -> Result<(), EngineError> {
        let Some(lists) = &view.lists else { return Ok(()) };
        let lists = self.pool.install(|| build::calibrated(&view.store, lists));
        self.install(Build::of_lists(&view.store, lists))?;
        self.done.lock().calibrations += 1;
        Ok(())
    }
}
