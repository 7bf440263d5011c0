//! The death of a follower: from then on its engine does nothing, and whoever plays it lets go of it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

#[derive(Default)]
pub(crate) struct Crash {
    happened: AtomicBool,
    told: Notify,
}

impl Crash {
    pub(crate) fn now(&self) {
        self.happened.store(true, Ordering::SeqCst);
        self.told.notify_one();
    }

    pub(crate) fn happened(&self) -> bool {
        self.happened.load(Ordering::SeqCst)
    }

    /// Returns when it happens.
    pub(crate) async fn wait(&self) {
        while !self.happened() {
            self.told.notified().await;
        }
    }

    /// Another process begins.
    pub(crate) fn is_over(&self) {
        self.happened.store(false, Ordering::SeqCst);
    }
}
