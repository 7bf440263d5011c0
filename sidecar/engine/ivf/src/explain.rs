//! Why a search did or did not find a document: its lists, its estimate, its bound, its exact value,
//! and the place where it was lost. For people; it takes as long as finding the document takes.

use knn_types::{DocKey, EngineError, Explanation, Fate, KnnView, ListSeen, Query};

use crate::exact;
use crate::filter::Filter;
use crate::lists::Lists;
use crate::search;
use crate::store::Slot;
use crate::view::View;

impl View {
    /// See [`KnnView::explain`].
    pub(crate) fn explained(
        &self,
        query: &Query<'_>,
        doc: &DocKey,
    ) -> Result<Option<Explanation>, EngineError> {
        let probe = self.store.form().probe(query.vector)?;
        let metric = self.spec.metric;
        let value = |slot: Slot| self.store.form().value(metric, &probe.row, self.store.row(slot));
        let slots = self.store.live_slots().filter(|&slot| self.store.doc(slot) == *doc);
        // Of several vectors the nearest counts.
        let nearest =
            slots.min_by(|&a, &b| exact::rank(metric, value(a)).total_cmp(&exact::rank(metric, value(b))));
        let Some(slot) = nearest else { return Ok(None) };
        let allowed = match query.filter {
            Some(filter) => {
                Some(Filter::of(filter, &self.store)?.live(&self.store, slot).next() == Some(slot))
            }
            None => None,
        };
        let found = self.search(query)?;
        let value = value(slot);
        let worst = found.hits.last().map(|hit| hit.value).filter(|_| found.hits.len() >= query.k);
        let lists = match &self.lists {
            Some(lists) => self.lists_of(lists, slot, &probe.floats, found.stats.lists),
            None => Vec::new(),
        };
        let place = found.hits.iter().position(|hit| hit.doc == *doc);
        let fate = if let Some(place) = place {
            Fate::Hit { place }
        } else if allowed == Some(false) {
            Fate::Filtered
        } else if worst.is_some_and(|worst| exact::rank(metric, value) >= exact::rank(metric, worst)) {
            Fate::NearerOnes
        } else if lists.iter().any(|list| list.visited) {
            Fate::Bounded
        } else {
            Fate::NotVisited
        };
        let order = self.store.order(slot);
        Ok(Some(Explanation { order, value, allowed, lists, worst, fate, stats: found.stats }))
    }

    /// The lists that a slot stands in. A search under a filter may choose among fewer lists, so for it
    /// the places are those that it would have without the filter.
    fn lists_of(&self, lists: &Lists, slot: Slot, query: &[f32], visited: usize) -> Vec<ListSeen> {
        let metric = self.spec.metric;
        let holding: Vec<usize> = (0..lists.nlist())
            .filter(|&list| lists.lists[list].members().any(|member| member == slot))
            .collect();
        search::with_scratch(|scratch| {
            scratch.prepare(&lists.generation, query);
            let places = scratch.places();
            let seen = |&list: &usize| {
                let (_, rank, error) =
                    scratch.estimates(lists, list as u32).into_iter().find(|&(member, ..)| member == slot)?;
                let place = places[list] as usize;
                Some(ListSeen {
                    list,
                    place,
                    visited: place < visited,
                    entries: lists.lists[list].len(),
                    // A rank is a raw value, or its negative.
                    estimate: exact::rank(metric, rank),
                    error,
                })
            };
            holding.iter().filter_map(seen).collect()
        })
    }
}
