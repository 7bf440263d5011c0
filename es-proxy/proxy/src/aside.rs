//! Work that would keep the other requests of a worker waiting.

/// So many bytes are read in less than 500 µs.
pub(crate) const LONG: usize = 128 << 10;

/// Does work on so many bytes: here if it is short, else on a thread that may take its time.
pub(crate) async fn aside<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes <= LONG {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            // A bug there is one of this request.
            Ok(panic) => std::panic::resume_unwind(panic),
            // The worker is stopping, and nobody waits for this any more.
            Err(_) => std::future::pending().await,
        },
    }
}
