//! How many requests may be served at once. When the number changes while requests are served, who holds a slot keeps
//! it and counts under the new number too: none can be had twice by a change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// See the head of this file. One word and one allocation, for there are some for each tenant and class.
#[derive(Debug)]
pub(super) struct Slots(Arc<Shared>);

/// What slots of one number and of the next have in common.
#[derive(Debug)]
struct Shared {
    free: Semaphore,
    size: AtomicU32,
    /// Held slots that are no more when they are given back.
    excess: AtomicU32,
}

/// One of them; free again when dropped.
#[derive(Debug)]
pub(super) struct Slot(Arc<Shared>);

impl Slots {
    /// So many; `before` they were others. One change at a time.
    pub(super) fn new(size: u32, before: Option<&Self>) -> Self {
        let Some(Self(all)) = before else {
            let free = Semaphore::new(size as usize);
            return Self(Arc::new(Shared { free, size: AtomicU32::new(size), excess: AtomicU32::new(0) }));
        };
        let size_before = all.size.swap(size, Ordering::AcqRel);
        if let Some(fewer) = size_before.checked_sub(size) {
            // No more than `fewer` are forgotten.
            let held = fewer - all.free.forget_permits(fewer as usize) as u32;
            all.excess.fetch_add(held, Ordering::AcqRel);
        } else {
            let more = size - size_before;
            let excess = all.excess.fetch_update(Ordering::AcqRel, Ordering::Acquire, |excess| {
                Some(excess.saturating_sub(more))
            });
            all.free.add_permits(more.saturating_sub(excess.unwrap_or(0)) as usize);
        }
        Self(Arc::clone(all))
    }

    /// One, if it is free.
    pub(super) fn try_take(&self) -> Option<Slot> {
        self.0.free.try_acquire().ok().map(|permit| self.slot(permit))
    }

    /// One, when it is free. Who comes first is served first.
    pub(super) async fn take(&self) -> Option<Slot> {
        self.0.free.acquire().await.ok().map(|permit| self.slot(permit))
    }

    /// The slot takes over what the permit holds.
    fn slot(&self, permit: SemaphorePermit<'_>) -> Slot {
        permit.forget();
        Slot(Arc::clone(&self.0))
    }

    /// How many are free.
    pub(super) fn free(&self) -> usize {
        self.0.free.available_permits()
    }
}

impl Shared {
    fn take_excess(&self) -> bool {
        let taken =
            self.excess.fetch_update(Ordering::AcqRel, Ordering::Acquire, |excess| excess.checked_sub(1));
        taken.is_ok()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.0.take_excess() {
            self.0.free.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn many_more_are_made_in_one_go() {
        let few = Slots::new(2, None);
        let held = [few.try_take(), few.try_take()].map(Option::unwrap);
        let one = Slots::new(1, Some(&few));
        let many = Slots::new(u32::MAX, Some(&one));
        assert_eq!(many.free(), u32::MAX as usize - 2);
        drop(held);
        assert_eq!(many.free(), u32::MAX as usize);
    }

    proptest! {
        #[test]
        fn there_are_as_many_as_the_last_change_says_whoever_held_one(
            steps in prop::collection::vec((0u8..3, 1u32..12), 1..200),
        ) {
            let mut slots = Slots::new(3, None);
            let size_of = |slots: &Slots| slots.0.size.load(Ordering::Relaxed) as usize;
            let mut held = Vec::new();
            for (what, number) in steps {
                match what {
                    0 => {
                        let size = held.len().max(number as usize);
                        while let Some(slot) = slots.try_take() {
                            held.push(slot);
                        }
                        prop_assert!(held.len() <= size.max(size_of(&slots)));
                        prop_assert!(held.len() >= size_of(&slots));
                    }
                    1 => drop(held.drain(..held.len().min(number as usize))),
                    _ => slots = Slots::new(number, Some(&slots)),
                }
                prop_assert_eq!(slots.free(), size_of(&slots).saturating_sub(held.len()));
            }
            held.clear();
            prop_assert_eq!(slots.free(), size_of(&slots));
        }
    }
}
