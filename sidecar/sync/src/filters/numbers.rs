//! What filters let through on one shard, as sets of `_seq_no`, and the order of events that makes such a
//! set right. No I/O. The argument stands in the head of [`super`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use es_wire::DocFilter;
use parking_lot::{Mutex, RwLock};
use roaring::RoaringTreemap;

use super::slots::Cells;

/// In place of the publication from which on a set is right: nobody may use it any more.
const FORGOTTEN: u64 = u64::MAX;
/// A set may grow to twice what was fetched, and by so many, before it is fetched anew: numbers of
/// documents that were replaced or deleted stay in it.
const GROWTH: u64 = 4_096;

/// The numbers of one filter on one shard.
#[derive(Debug)]
pub(crate) struct Numbers {
    filter: DocFilter,
    numbers: RwLock<RoaringTreemap>,
    progress: Mutex<Progress>,
    /// 0: not yet.
    ready_from: AtomicU64,
    /// What was made of it for each field.
    pub(super) cells: Cells,
}

#[derive(Debug, Default)]
struct Progress {
    /// When the point in time of the fetch was open.
    opened: Option<Tick>,
    /// So many were fetched.
    fetched: Option<u64>,
    /// The first publication of a pull whose point in time was opened after that of the fetch.
    shown_from: Option<u64>,
}

/// Points in time of one shard in the order in which they were opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u64);

impl Numbers {
    fn new(filter: DocFilter) -> Self {
        Self {
            filter,
            numbers: RwLock::default(),
            progress: Mutex::default(),
            ready_from: AtomicU64::new(0),
            cells: Cells::default(),
        }
    }

    pub(crate) fn filter(&self) -> &DocFilter {
        &self.filter
    }

    /// Whether the set is right for every view that was loaded after so many publications.
    pub(crate) fn is_right_after(&self, publications: u64) -> bool {
        let from = self.ready_from.load(Ordering::Acquire);
        from != 0 && publications >= from && from != FORGOTTEN
    }

    /// Whether it is right for views from now on.
    pub(crate) fn is_ready(&self) -> bool {
        !matches!(self.ready_from.load(Ordering::Acquire), 0 | FORGOTTEN)
    }

    pub(crate) fn is_forgotten(&self) -> bool {
        self.ready_from.load(Ordering::Acquire) == FORGOTTEN
    }

    /// Whether a pull was published that the fetch preceded.
    pub(crate) fn is_shown(&self) -> bool {
        self.progress.lock().shown_from.is_some()
    }

    /// Whether so much was added that a good part may be numbers of documents that are gone.
    pub(crate) fn has_grown(&self) -> bool {
        let fetched = self.progress.lock().fetched;
        fetched.is_some_and(|fetched| self.numbers.read().len() > 2 * fetched + GROWTH)
    }

    /// Adds what a filter let through. Numbers may be added again.
    pub(crate) fn add(&self, numbers: &RoaringTreemap) {
        *self.numbers.write() |= numbers;
    }

    pub(crate) fn with<T>(&self, read: impl FnOnce(&RoaringTreemap) -> T) -> T {
        read(&self.numbers.read())
    }

    /// As [`Numbers::with`], where nobody would have to be waited for.
    pub(crate) fn try_with<T>(&self, read: impl FnOnce(&RoaringTreemap) -> T) -> Option<T> {
        self.numbers.try_read().map(|numbers| read(&numbers))
    }

    /// Of all that it holds.
    pub(crate) fn memory_bytes(&self) -> u64 {
        size_of::<Self>() as u64
            + self.with(RoaringTreemap::serialized_size) as u64
            + self.cells.memory_bytes()
    }

    fn forget(&self) {
        self.ready_from.store(FORGOTTEN, Ordering::Release);
    }

    fn advance(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress.lock();
        change(&mut progress);
        if let (Some(_), Some(from)) = (progress.fetched, progress.shown_from) {
            // Once ready or forgotten it stays so.
            let _ = self.ready_from.compare_exchange(0, from, Ordering::AcqRel, Ordering::Acquire);
        }
    }
}

/// All filters that one shard keeps up.
#[derive(Debug, Default)]
pub(crate) struct ShardFilters {
    inner: Mutex<Inner>,
    /// Published pulls.
    publications: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    ticks: u64,
    /// The incarnation of the copy that the published state shows; `None` until a pull of it, with all
    /// fields built, is published.
    copy: Option<u64>,
    kept: Vec<Arc<Numbers>>,
    /// No two documents have one number. New ones get new numbers, so that it stays so.
    numbers_are_unique: bool,
    /// Numbers that were staged and are not covered by what pulls ask of everything new.
    owed: RoaringTreemap,
}

/// A pull, as filters see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pulling {
    opened: Tick,
    copy: u64,
}

impl ShardFilters {
    /// Publications so far: to be read before views are.
    pub(crate) fn publications(&self) -> u64 {
        self.publications.load(Ordering::Acquire)
    }

    /// Begins to keep a filter, from before its fetch opens a point in time. `None` where the published
    /// state is not that of this incarnation: nothing could be kept.
    pub(crate) fn register(&self, filter: &DocFilter, copy: u64) -> Option<Arc<Numbers>> {
        let mut inner = self.inner.lock();
        if inner.copy != Some(copy) {
            return None;
        }
        let numbers = Arc::new(Numbers::new(filter.clone()));
        inner.kept.push(Arc::clone(&numbers));
        Some(numbers)
    }

    /// The point in time of a fetch is open.
    pub(crate) fn opened(&self, numbers: &Numbers) {
        let tick = self.inner.lock().tick();
        numbers.advance(|progress| progress.opened = Some(tick));
    }

    /// All that a fetch found.
    pub(crate) fn fetched(&self, numbers: &Numbers, found: &RoaringTreemap) {
        numbers.add(found);
        numbers.advance(|progress| progress.fetched = Some(found.len()));
    }

    pub(crate) fn numbers_are_unique(&self) -> bool {
        self.inner.lock().numbers_are_unique
    }

    /// It was looked at, while this set was fetched.
    pub(crate) fn found_unique(&self, numbers: &Numbers) {
        let mut inner = self.inner.lock();
        inner.numbers_are_unique |= !numbers.is_forgotten();
    }

    pub(crate) fn forget(&self, numbers: &Arc<Numbers>) {
        self.inner.lock().kept.retain(|kept| !Arc::ptr_eq(kept, numbers));
        numbers.forget();
    }

    /// Forgets everything, until a pull is published.
    pub(crate) fn forget_all(&self) {
        self.inner.lock().forget_all();
    }

    /// A pull is about to open its point in time on this incarnation. Sets of another one are forgotten,
    /// and all of them while some field is built for the first time.
    pub(crate) fn begin_pull(&self, copy: u64, all_built: bool) -> Pulling {
        let mut inner = self.inner.lock();
        if inner.copy != Some(copy) || !all_built {
            inner.forget_all();
        }
        Pulling { opened: inner.tick(), copy }
    }

    /// What a pull must keep up whose point in time is open now.
    pub(crate) fn kept(&self) -> Vec<Arc<Numbers>> {
        self.inner.lock().kept.clone()
    }

    /// Documents with these numbers are about to be staged.
    pub(crate) fn owe(&self, numbers: impl Iterator<Item = u64>) {
        let mut numbers = numbers.peekable();
        if numbers.peek().is_some() {
            self.inner.lock().owed.extend(numbers);
        }
    }

    pub(crate) fn owed(&self) -> RoaringTreemap {
        self.inner.lock().owed.clone()
    }

    /// Every set knows what it lets through of these.
    pub(crate) fn settled(&self, numbers: &RoaringTreemap) {
        self.inner.lock().owed -= numbers;
    }

    /// A pull that kept up `kept` is published, and perhaps all fields are built now.
    pub(crate) fn published(&self, pull: &Pulling, kept: &[Arc<Numbers>], all_built: bool) {
        let publication = self.publications.fetch_add(1, Ordering::AcqRel) + 1;
        if all_built {
            self.inner.lock().copy = Some(pull.copy);
        }
        for numbers in kept {
            numbers.advance(|progress| {
                if progress.opened.is_some_and(|fetch| fetch < pull.opened) {
                    progress.shown_from.get_or_insert(publication);
                }
            });
        }
    }
}

impl Inner {
    fn tick(&mut self) -> Tick {
        self.ticks += 1;
        Tick(self.ticks)
    }

    fn forget_all(&mut self) {
        self.copy = None;
        self.numbers_are_unique = false;
        self.owed.clear();
        self.kept.drain(..).for_each(|numbers| numbers.forget());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COPY: u64 = 7;

    /// A shard of which one pull is published.
    fn followed() -> ShardFilters {
        let filters = ShardFilters::default();
        let pull = filters.begin_pull(COPY, true);
        filters.published(&pull, &filters.kept(), true);
        filters
    }

    fn register(filters: &ShardFilters) -> Arc<Numbers> {
        filters.register(&DocFilter::new("{}"), COPY).expect("the shard is followed")
    }

    fn set(numbers: &[u64]) -> RoaringTreemap {
        numbers.iter().copied().collect()
    }

    #[test]
    fn a_set_is_right_from_the_first_pull_that_began_after_its_fetch() {
        let filters = followed();
        let numbers = register(&filters);
        // Its point in time may be older than that of the fetch, though it is published later.
        let early = filters.begin_pull(COPY, true);
        let kept = filters.kept();
        filters.opened(&numbers);
        let late = filters.begin_pull(COPY, true);
        filters.published(&early, &kept, true);
        filters.fetched(&numbers, &set(&[1]));
        assert!(!numbers.is_ready());
        let before = filters.publications();
        filters.published(&late, &filters.kept(), true);
        assert!(numbers.is_ready());
        assert!(!numbers.is_right_after(before), "a view that was loaded then may be older");
        assert!(numbers.is_right_after(filters.publications()));
    }

    #[test]
    fn pulls_during_a_fetch_count() {
        let filters = followed();
        let numbers = register(&filters);
        filters.opened(&numbers);
        let pull = filters.begin_pull(COPY, true);
        numbers.add(&set(&[5]));
        filters.published(&pull, &filters.kept(), true);
        let first = filters.publications();
        let pull = filters.begin_pull(COPY, true);
        filters.published(&pull, &filters.kept(), true);
        filters.fetched(&numbers, &set(&[1, 2]));
        assert!(numbers.is_right_after(first), "the set holds what those pulls judged");
        assert!(numbers.with(|numbers| *numbers == set(&[1, 2, 5])));
    }

    #[test]
    fn another_copy_forgets_what_was_said_of_the_one_before() {
        let filters = followed();
        let numbers = register(&filters);
        filters.opened(&numbers);
        filters.owe([3].into_iter());
        let pull = filters.begin_pull(COPY + 1, true);
        assert!(numbers.is_forgotten() && filters.kept().is_empty() && filters.owed().is_empty());
        assert!(filters.register(&DocFilter::new("{}"), COPY).is_none(), "that copy is gone");
        assert!(filters.register(&DocFilter::new("{}"), COPY + 1).is_none(), "nothing of it is published");
        filters.published(&pull, &filters.kept(), true);
        assert!(filters.register(&DocFilter::new("{}"), COPY + 1).is_some());
        // What was under way ends as if nothing had been.
        filters.fetched(&numbers, &set(&[1]));
        assert!(!numbers.is_ready() && !numbers.is_right_after(u64::MAX));
    }

    #[test]
    fn while_a_field_is_learnt_nothing_is_kept() {
        let filters = followed();
        let numbers = register(&filters);
        let pull = filters.begin_pull(COPY, false);
        assert!(numbers.is_forgotten());
        filters.published(&pull, &filters.kept(), false);
        assert!(filters.register(&DocFilter::new("{}"), COPY).is_none());
        let pull = filters.begin_pull(COPY, false);
        filters.published(&pull, &filters.kept(), true);
        assert!(filters.register(&DocFilter::new("{}"), COPY).is_some());
    }

    #[test]
    fn what_is_owed_outlives_a_failed_pull() {
        let filters = followed();
        register(&filters);
        filters.begin_pull(COPY, true);
        filters.owe([3, 9].into_iter());
        filters.begin_pull(COPY, true);
        filters.owe([4].into_iter());
        let owed = filters.owed();
        assert_eq!(owed, set(&[3, 4, 9]));
        filters.owe([12].into_iter());
        filters.settled(&owed);
        assert_eq!(filters.owed(), set(&[12]));
    }

    #[test]
    fn a_set_with_many_new_numbers_has_grown() {
        let filters = followed();
        let numbers = register(&filters);
        numbers.add(&(0..3 * GROWTH).collect());
        assert!(!numbers.has_grown(), "nothing is known of one that is not fetched");
        filters.fetched(&numbers, &(0..GROWTH).collect());
        assert!(!numbers.has_grown());
        numbers.add(&(0..=3 * GROWTH).collect());
        assert!(numbers.has_grown());
    }
}
