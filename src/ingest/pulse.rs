//! Whether an append worker gets on. libpq waits without end for a server that hangs and keeps its sockets open, and nothing
//! can wake a thread that is in there; but others can see how long it has been.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::time;

use crate::{
    model::Entry,
    store::{Appended, StoreError},
};

use super::commit::Log;

/// What is queued has so long at least to be stored at the end: a short timeout of the database is none for all of it.
const SHORTEST_DRAIN: Duration = Duration::from_secs(5);
/// How often a worker is looked at by who waits for it to hang.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Since when a worker has been in what it does. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    /// When its present call of the log began; absent while it is in none.
    since: Arc<Mutex<Option<Instant>>>,
    /// How long one may take.
    patience: Duration,
}

impl Pulse {
    pub(super) fn new(patience: Duration) -> Self {
        Self { since: Arc::default(), patience }
    }

    /// Whether the worker has been in one call of the log for longer than any may take.
    pub(super) fn is_hung(&self) -> bool {
        self.lock().is_some_and(|since| since.elapsed() >= self.patience)
    }

    /// Waits until it is hung, or until a drain that began at `begun` has had its time.
    pub(super) async fn hung_or_late(&self, begun: Instant) {
        while !self.is_hung() && begun.elapsed() < self.patience.max(SHORTEST_DRAIN) {
            time::sleep(LOOK_EVERY).await;
        }
    }

    fn during<T>(&self, call: impl FnOnce() -> T) -> T {
        *self.lock() = Some(Instant::now());
        let _ended = Ended(self);
        call()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the present call when it is dropped: one that panics has ended, too.
struct Ended<'p>(&'p Pulse);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

/// A log whose calls are timed by a pulse.
pub(super) struct Watched<L> {
    log: L,
    pulse: Pulse,
}

impl<L> Watched<L> {
    pub(super) fn new(log: L, pulse: Pulse) -> Self {
        Self { log, pulse }
    }
}

impl<L: Log> Log for Watched<L> {
    fn append(&mut self, batch: &[&[Entry]]) -> Result<Appended, StoreError> {
        self.pulse.during(|| self.log.append(batch))
    }

    fn reconnect(&mut self) -> Result<(), StoreError> {
        self.pulse.during(|| self.log.reconnect())
    }

    fn answers(&mut self) -> bool {
        self.pulse.during(|| self.log.answers())
    }

    fn held(&mut self, tenants: &[&str]) -> Result<BTreeMap<String, String>, StoreError> {
        self.pulse.during(|| self.log.held(tenants))
    }
}
