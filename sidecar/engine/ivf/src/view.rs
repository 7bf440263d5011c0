//! One published state. It never changes; a search reads it without waiting for anybody.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use knn_types::{
    Allow, DocKey, EngineError, Epoch, Explanation, FieldSpec, Found, Hit, IvfOptions, KnnView, Query,
    SearchStats, SlotFilter,
};

use crate::budget::Budget;
use crate::cost::Costs;
use crate::effort::Effort;
use crate::exact;
use crate::filter::Filter;
use crate::filtered::{Expected, is_exact};
use crate::form::Probe;
use crate::lists::Lists;
use crate::search;
use crate::store::Store;
use crate::topk::{Ranked, TopK};

/// All that an effort depends on.
#[derive(Clone, Copy, PartialEq)]
struct Asked {
    generation: u64,
    options: IvfOptions,
    k: usize,
    candidates: usize,
}

thread_local! {
    /// Most searches of a thread ask for what the one before asked for.
    static LAST_EFFORT: Cell<Option<(Asked, Effort)>> = const { Cell::new(None) };
}

/// See [`KnnView`].
pub(crate) struct View {
    pub(crate) epoch: Epoch,
    pub(crate) spec: FieldSpec,
    pub(crate) store: Store,
    pub(crate) lists: Option<Lists>,
    pub(crate) costs: Arc<Costs>,
    /// There is no memory for lists: searches fail at once rather than compare everything.
    pub(crate) refused: Option<Arc<Budget>>,
}

impl KnnView for View {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn len(&self) -> usize {
        self.store.docs()
    }

    fn vectors(&self) -> usize {
        self.store.live()
    }

    fn search(&self, query: &Query<'_>) -> Result<Found, EngineError> {
        let probe = self.store.form().probe(query.vector)?;
        if let Some(budget) = &self.refused {
            return Err(budget.error(0));
        }
        let (best, stats) = match (query.filter, &self.lists) {
            (Some(filter), _) => self.search_allowed(Filter::of(filter, &self.store)?, query, &probe),
            (None, Some(lists)) => self.search_lists(lists, query, &probe),
            (None, None) => self.scan(query, &probe),
        };
        self.found(&best, stats)
    }

    fn search_exactly(&self, query: &Query<'_>) -> Result<Found, EngineError> {
        let probe = self.store.form().probe(query.vector)?;
        let (best, stats) = match query.filter {
            Some(filter) => self.compare_allowed(Filter::of(filter, &self.store)?, query, &probe),
            None => self.scan(query, &probe),
        };
        self.found(&best, stats)
    }

    fn filter(&self, allow: Allow<'_>) -> Arc<dyn SlotFilter> {
        let filter = Filter::new(&self.store, allow);
        self.prepare(&filter);
        Arc::new(filter)
    }

    fn extend_filter(
        &self,
        filter: &dyn SlotFilter,
        allow: Allow<'_>,
    ) -> Result<Arc<dyn SlotFilter>, EngineError> {
        let filter = Filter::of(filter, &self.store)?.extended(&self.store, allow);
        self.prepare(&filter);
        Ok(Arc::new(filter))
    }

    fn filter_debt(&self, filter: &dyn SlotFilter) -> Result<u64, EngineError> {
        let filter = Filter::of(filter, &self.store)?;
        let undecided = self.store.slots() as u64 - u64::from(filter.decided(&self.store));
        let lacks_subset = |lists| !is_exact(filter.count(), 1) && !filter.has_subset(&self.store, lists);
        let derived = if self.lists.as_ref().is_some_and(lacks_subset) { self.store.slots() } else { 0 };
        Ok(undecided + derived as u64)
    }

    fn allowed(&self, filter: &dyn SlotFilter) -> Result<u64, EngineError> {
        Ok(Filter::of(filter, &self.store)?.documents(&self.store) as u64)
    }

    fn explain(&self, query: &Query<'_>, doc: &DocKey) -> Result<Option<Explanation>, EngineError> {
        self.explained(query, doc)
    }

    fn predicted_cost(&self, query: &Query<'_>) -> Duration {
        match (&self.lists, query.filter) {
            (None, Some(filter)) => self.costs.exact(filter.len() as usize),
            (Some(lists), Some(filter)) => match self.expected_under(lists, filter.len() as usize, query) {
                Expected::Exact => self.costs.exact(filter.len() as usize),
                Expected::Lists(work) => self.costs.lists(lists.nlist(), &work),
            },
            (None, None) => self.costs.exact(self.store.live()),
            (Some(lists), None) => {
                let effort = self.effort(lists, &self.of_slots(query));
                let scanned = effort.nprobe * self.store.live() / lists.nlist();
                let expected = SearchStats { lists: effort.nprobe, scanned, reranked: effort.depth };
                self.costs.lists(lists.nlist(), &expected)
            }
        }
    }
}

impl View {
    /// Derives what searches want of a filter, unless it allows too little for that to be worth while.
    fn prepare(&self, filter: &Filter) {
        if let Some(lists) = &self.lists
            && !is_exact(filter.count(), 1)
        {
            filter.subset(&self.store, lists);
        }
    }

    pub(crate) fn effort(&self, lists: &Lists, query: &Query<'_>) -> Effort {
        let (generation, options) = (&lists.generation, &self.spec.options);
        if let Some(nprobe) = query.nprobe {
            return generation.curve.for_nprobe(query.k, nprobe, lists.nlist());
        }
        let asked = Asked {
            generation: generation.id,
            options: *options,
            k: query.k,
            candidates: query.num_candidates,
        };
        if let Some((last, effort)) = LAST_EFFORT.get()
            && last == asked
        {
            return effort;
        }
        let effort = generation.curve.pick(options, query.k, query.num_candidates, lists.nlist());
        LAST_EFFORT.set(Some((asked, effort)));
        effort
    }

    /// Visits more lists while fewer than `k` are found; estimates that are no numbers (vectors so
    /// large that sums overflow) are found by comparing everything.
    fn search_lists(
        &self,
        lists: &Lists,
        query: &Query<'_>,
        probe: &Probe<'_>,
    ) -> (Vec<Ranked>, SearchStats) {
        let wanted = query.k.min(self.store.docs());
        let slots = self.of_slots(query);
        let mut effort = self.effort(lists, &slots);
        loop {
            let started = Instant::now();
            let (best, stats) = search::with_scratch(|scratch| {
                search::search(scratch, lists, &self.store, probe, (query.k, slots.k), effort)
            });
            self.costs.lists_took(lists.nlist(), &stats, started.elapsed());
            if best.len() >= wanted {
                return self.settled(best, stats, query, probe);
            }
            if effort.nprobe >= lists.nlist() {
                return self.scan(query, probe);
            }
            effort.nprobe = (effort.nprobe * 4).min(lists.nlist());
            if self.store.is_grouped() {
                // What was read belongs to few documents.
                effort.depth = effort.depth.saturating_mul(4);
            }
        }
    }

    /// Hits by the nearest of all their vectors, where documents have several: a search may have met others.
    pub(crate) fn settled(
        &self,
        found: Vec<Ranked>,
        mut stats: SearchStats,
        query: &Query<'_>,
        probe: &Probe<'_>,
    ) -> (Vec<Ranked>, SearchStats) {
        if !self.store.is_grouped() {
            return (found, stats);
        }
        let mut best = TopK::over(&self.store, query.k, false);
        let slots = found.iter().flat_map(|entry| self.store.slots_from(entry.slot));
        stats.reranked += exact::compare(&self.store, self.spec.metric, &probe.row, slots, &mut best);
        (best.into_sorted(), stats)
    }

    /// The query for slots by whose effort documents are found: where those have several, the `k` nearest
    /// documents lie among as many times more slots, if they are not unlike others.
    pub(crate) fn of_slots<'a>(&self, query: &Query<'a>) -> Query<'a> {
        if !self.store.is_grouped() {
            return *query;
        }
        let (slots, docs) = (self.store.live(), self.store.docs().max(1));
        let times = |number: usize| number.saturating_mul(slots).div_ceil(docs);
        Query { k: times(query.k), num_candidates: times(query.num_candidates), ..*query }
    }

    /// Compares everything.
    fn scan(&self, query: &Query<'_>, probe: &Probe<'_>) -> (Vec<Ranked>, SearchStats) {
        let started = Instant::now();
        let best = exact::scan(&self.store, self.spec.metric, &probe.row, query.k);
        let reranked = self.store.live();
        self.costs.exact_took(reranked, started.elapsed());
        (best, SearchStats { lists: 0, scanned: 0, reranked })
    }

    /// Lists to visit instead of `nprobe` where only such a share of their entries is allowed.
    pub(crate) fn widened(&self, lists: &Lists, query: &Query<'_>, nprobe: usize, density: f32) -> usize {
        let curve = &lists.generation.curve;
        curve.widened(&self.spec.options, query.k, query.num_candidates, density, nprobe, lists.nlist())
    }

    fn found(&self, best: &[Ranked], stats: SearchStats) -> Result<Found, EngineError> {
        self.store.sound()?;
        Ok(Found { hits: best.iter().map(|entry| self.hit(entry)).collect(), stats })
    }

    fn hit(&self, entry: &Ranked) -> Hit {
        Hit {
            doc: self.store.doc(entry.slot),
            order: self.store.order(entry.slot),
            value: exact::rank(self.spec.metric, entry.rank),
        }
    }
}
