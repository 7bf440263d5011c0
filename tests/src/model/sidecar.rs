//! A sidecar of the model: a real process that can die, pause, run out of disk and lose connections,
//! and always comes back on the same data directory.

use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use crate::{Api, FaultProxy, Faults, Outrigger};

/// Longest that a call through or past a sidecar may take.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(40);

/// Beyond so many bytes no file grows while the disk is "full".
const FULL: u64 = 700;

/// See the head of this file.
pub(super) struct Sidecar {
    number: usize,
    running: Option<Outrigger>,
    data: tempfile::TempDir,
    networks: Vec<FaultProxy>,
    shared: Arc<Shared>,
    /// Steps at which troubles end.
    back_at: Option<u64>,
    room_at: Option<u64>,
}

impl Sidecar {
    /// Starts it in front of these nodes.
    pub(super) async fn start(number: usize, nodes: &[String], seed: u64, shared: Arc<Shared>) -> Self {
        let mut networks = Vec::new();
        for node in nodes {
            networks.push(FaultProxy::start(node, seed.wrapping_add(number as u64 * 1_000_003)).await);
        }
        let data = tempfile::tempdir().expect("a directory");
        let mut this = Self { number, running: None, data, networks, shared, back_at: None, room_at: None };
        this.begin().await;
        this.ready().await;
        this
    }

    async fn begin(&mut self) {
        // Each sidecar prefers the node beside it.
        let count = self.networks.len();
        let urls: Vec<&str> = (0..count).map(|n| self.networks[(n + self.number) % count].url()).collect();
        let flags = ["--passed-knn-concurrency", "100", "--snapshot-interval", "300ms"];
        let outrigger = Outrigger::spawn(&urls.join(","), self.data.path(), &flags).await;
        let api = Api::with_timeout(outrigger.url(), CALL_LIMIT);
        self.running = Some(outrigger);
        *self.shared.sidecars[self.number].lock().expect("no panic") = Some(api);
    }

    fn lose(&mut self) -> Option<Outrigger> {
        *self.shared.sidecars[self.number].lock().expect("no panic") = None;
        self.room_at = None;
        self.running.take()
    }

    /// Waits until every index is learnt.
    pub(super) async fn ready(&self) {
        if let Some(outrigger) = &self.running {
            outrigger.ready().await;
        }
    }

    /// `kill -9`, until the step `back_at`.
    pub(super) fn kill(&mut self, back_at: u64) {
        if let Some(outrigger) = self.lose() {
            outrigger.kill();
            self.back_at = Some(back_at);
        }
    }

    /// An orderly end, and a start.
    pub(super) async fn terminate(&mut self) {
        if let Some(outrigger) = self.lose() {
            tokio::task::spawn_blocking(|| outrigger.terminate()).await.expect("it ends well");
            self.begin().await;
        }
    }

    /// SIGSTOP now, SIGCONT later.
    pub(super) fn pause(&self, time: Duration) {
        let Some(outrigger) = &self.running else { return };
        outrigger.signal("STOP");
        let pid = outrigger.pid();
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            crate::outrigger::signal(pid, "CONT");
        });
    }

    /// Its files cannot grow until a step.
    pub(super) fn fill_disk(&mut self, until: u64) {
        if let Some(outrigger) = &self.running {
            outrigger.limit_files(Some(FULL));
            self.room_at = Some(until);
        }
    }

    /// Faults of its connections to Elasticsearch for a while.
    pub(super) fn trouble_network(&self, faults: Faults, time: Duration) {
        self.networks.iter().for_each(|network| network.set_for(faults, time));
    }

    /// Whether its connections to Elasticsearch work.
    pub(super) fn is_connected(&self) -> bool {
        !self.networks.iter().any(FaultProxy::is_troubled)
    }

    /// Whether the process is there; a process that ended by itself is a failure.
    pub(super) fn is_up(&mut self) -> Result<bool, String> {
        let Some(outrigger) = &mut self.running else { return Ok(false) };
        if outrigger.is_running() {
            return Ok(true);
        }
        Err(format!("sidecar {} ended by itself; its log is {}", self.number, outrigger.log_file().display()))
    }

    /// Ends the troubles whose time has come.
    pub(super) async fn step(&mut self, step: u64) {
        let is_due = |at: Option<u64>| at.is_some_and(|at| at <= step);
        if step == u64::MAX {
            self.networks.iter().for_each(|network| network.set(None));
        }
        if is_due(self.room_at) {
            self.room_at = None;
            if let Some(outrigger) = &self.running {
                outrigger.limit_files(None);
            }
        }
        if is_due(self.back_at) {
            self.back_at = None;
            self.begin().await;
        }
    }

    /// No request is on its way to Elasticsearch at some moment from now on.
    pub(super) async fn drained(&self) {
        let limit = tokio::time::Instant::now() + Duration::from_secs(5);
        while self.networks.iter().any(|network| network.in_flight() > 0)
            && tokio::time::Instant::now() < limit
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Requests that faults hit.
    pub(super) fn hits(&self) -> u64 {
        self.networks.iter().map(FaultProxy::hit).sum()
    }
}
