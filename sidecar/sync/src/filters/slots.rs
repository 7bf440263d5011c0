//! A filter in the engine's own form, one for each field of a shard: made from the numbers, and brought up
//! to date by the first search of each new view.
//!
//! One task at a time does that, and others wait for it: a search may not take an older form, which would
//! hide documents that the view shows. What may take longer than a search may hold its thread goes to the
//! blocking pool.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use knn_types::{Allow, EngineError, KnnView, SlotFilter};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinError;

use super::numbers::Numbers;

/// Looking at so many slots takes about 100 µs.
const SLOTS_IN_PLACE: u64 = 2_000;
/// Extending copies a filter: of so many bytes at once.
const BYTES_IN_PLACE: u64 = 64 << 10;

/// The forms of one set of numbers, by field.
#[derive(Debug, Default)]
pub(super) struct Cells {
    by_field: Mutex<Vec<(Arc<str>, Arc<Cell>)>>,
}

#[derive(Debug, Default)]
struct Cell {
    made: ArcSwapOption<Arc<dyn SlotFilter>>,
    /// Held by whoever makes the next one.
    making: tokio::sync::Mutex<()>,
}

/// A form that is ready.
pub(super) struct Made {
    pub(super) filter: Arc<dyn SlotFilter>,
    /// It was made from nothing.
    pub(super) is_new: bool,
}

/// Why there is no form.
#[derive(Debug, thiserror::Error)]
pub(super) enum CellError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("engine call ended badly: {0}")]
    Blocking(#[from] JoinError),
}

impl Cells {
    fn of(&self, field: &str) -> Arc<Cell> {
        let mut by_field = self.by_field.lock();
        if let Some((_, cell)) = by_field.iter().find(|(name, _)| **name == *field) {
            return Arc::clone(cell);
        }
        let cell = Arc::<Cell>::default();
        by_field.push((field.into(), Arc::clone(&cell)));
        cell
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        let made = |cell: &Cell| cell.made.load().as_ref().map_or(0, |filter| filter.memory_bytes());
        self.by_field.lock().iter().map(|(_, cell)| made(cell)).sum()
    }
}

impl Numbers {
    /// The filter as searches of `view` on this field want it; the numbers must be right for that view.
    pub(super) async fn slots(
        self: &Arc<Self>,
        field: &str,
        view: &Arc<dyn KnnView>,
        pool: &Handle,
    ) -> Result<Made, CellError> {
        let cell = self.cells.of(field);
        if let Some(filter) = cell.ready_for(view) {
            return Ok(Made { filter, is_new: false });
        }
        let _only_one = cell.making.lock().await;
        let held = cell.made.load().as_deref().cloned();
        let debt = held.as_ref().and_then(|held| view.filter_debt(&**held).ok());
        if let (Some(held), Some(debt)) = (&held, debt) {
            if debt == 0 {
                return Ok(Made { filter: Arc::clone(held), is_new: false });
            }
            if debt <= SLOTS_IN_PLACE
                && let Some(filter) = self.extend_in_place(&**view, &**held)
            {
                return Ok(cell.keep(filter?, false));
            }
        }
        let held = held.filter(|_| debt.is_some());
        let (numbers, of_view) = (Arc::clone(self), Arc::clone(view));
        let make = move || numbers.make(&*of_view, held.as_deref());
        Ok(cell.keep(pool.spawn_blocking(make).await??, debt.is_none()))
    }

    /// `None` where that may take long, or the numbers are in use elsewhere.
    fn extend_in_place(
        &self,
        view: &dyn KnnView,
        held: &dyn SlotFilter,
    ) -> Option<Result<Arc<dyn SlotFilter>, EngineError>> {
        self.try_with(|numbers| {
            let small = numbers.serialized_size() as u64 <= BYTES_IN_PLACE;
            small.then(|| view.extend_filter(held, Allow::SeqNos(numbers)))
        })?
    }

    fn make(
        &self,
        view: &dyn KnnView,
        held: Option<&dyn SlotFilter>,
    ) -> Result<Arc<dyn SlotFilter>, EngineError> {
        match held {
            Some(held) => self.with(|numbers| view.extend_filter(held, Allow::SeqNos(numbers))),
            None => Ok(self.with(|numbers| view.filter(Allow::SeqNos(numbers)))),
        }
    }
}

impl Cell {
    fn keep(&self, filter: Arc<dyn SlotFilter>, is_new: bool) -> Made {
        self.made.store(Some(Arc::new(Arc::clone(&filter))));
        Made { filter, is_new }
    }

    fn ready_for(&self, view: &Arc<dyn KnnView>) -> Option<Arc<dyn SlotFilter>> {
        let made = self.made.load();
        let filter: &Arc<dyn SlotFilter> = made.as_deref()?;
        matches!(view.filter_debt(&**filter), Ok(0)).then(|| Arc::clone(filter))
    }
}
