//! The exports under way: why one of them ends early, and how all of them do when the service ends.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// How long the end of the service waits until the log tells how the last exports ended.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// How an export ended before its end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// Something failed here; what it was stands in the service's own log.
    Failed,
    /// The client left.
    Cancelled,
    /// The client was there and took nothing for too long.
    Stalled,
    /// The service ended first.
    CutOff,
}

/// All exports of a service. Clones are of the same.
#[derive(Clone, Debug, Default)]
pub(super) struct UnderWay {
    tracker: TaskTracker,
    cut_off: CancellationToken,
}

/// Why an export is dropped, for whoever drops it knowing better than that its client left. Clones are of one export.
#[derive(Clone, Debug)]
pub struct Interruption {
    cut_off: CancellationToken,
    said: Arc<OnceLock<Ending>>,
}

impl UnderWay {
    /// Of one export more.
    pub(super) fn interruption(&self) -> Interruption {
        Interruption { cut_off: self.cut_off.clone(), said: Arc::default() }
    }

    /// Has the end wait until it is dropped.
    pub(super) fn token(&self) -> TaskTrackerToken {
        self.tracker.token()
    }

    /// Interrupts all that are left, and waits until the log tells of it. Not without end: the store may be away.
    pub(super) async fn end(&self) {
        self.cut_off.cancel();
        self.tracker.close();
        if time::timeout(FLUSH_TIME, self.tracker.wait()).await.is_err() {
            tracing::error!(exports = self.tracker.len(), "the ends of exports could not be recorded before the end");
        }
    }
}

impl Interruption {
    /// Its reader takes nothing.
    pub fn stalled(&self) {
        // Where one was said before, that one holds.
        let _ = self.said.set(Ending::Stalled);
    }

    /// Waits until the service ends: then the export is to be dropped.
    pub async fn is_due(&self) {
        self.cut_off.cancelled().await;
    }

    pub(super) fn ending(&self) -> Ending {
        let otherwise = if self.cut_off.is_cancelled() { Ending::CutOff } else { Ending::Cancelled };
        self.said.get().copied().unwrap_or(otherwise)
    }
}
