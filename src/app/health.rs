//! Whether the service serves: found out once a second, and told to the health service and to `/readyz` alike.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{self, MissedTickBehavior},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    ingest::Ingest,
    rpc,
    store::{Store, StoreError},
};

/// How often the store is asked for a sign of life.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Under which names the health is asked for: that of the whole server, and the service's own.
const HEALTH_NAMES: [&str; 3] = ["", rpc::SERVICE_NAMES[0], rpc::SERVICE_NAMES[1]];

/// Tells whoever asks.
#[derive(Clone)]
pub(super) struct Health {
    pub(super) reporter: HealthReporter,
    pub(super) ready: watch::Sender<bool>,
}

impl Health {
    /// Asks for ever whether the store answers and takes what the append workers give it.
    pub(super) async fn probe(self, store: Store, ingest: Ingest) {
        let mut ticks = time::interval(PROBE_EVERY);
        // A store that is away lets each question wait; to ask all those that were missed at once helps nobody.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = None;
        loop {
            ticks.tick().await;
            let alive = ping(&store).await.and_then(|()| appending(&ingest));
            let is_ready = alive.is_ok();
            if last.replace(is_ready).is_none_or(|last| last != is_ready) {
                tracing::info!(is_ready, error = alive.err().map(tracing::field::display), "health");
                self.report(is_ready).await;
            }
        }
    }

    /// Tells it.
    pub(super) async fn report(&self, is_ready: bool) {
        self.ready.send_replace(is_ready);
        let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in HEALTH_NAMES {
            self.reporter.set_service_status(service, status).await;
        }
    }

    /// Ends the streams of those who watch the health, which would otherwise last until the grace has passed.
    pub(super) async fn end_watches(mut self) {
        for service in HEALTH_NAMES {
            self.reporter.clear_service_status(service).await;
        }
    }
}

/// A server that hangs and keeps its sockets open would be waited for without end. The thread that asked it is left there, with
/// the connection that it has; there are no more of them than the pool has connections.
async fn ping(store: &Store) -> Result<(), StoreError> {
    let limit = store.timeout().saturating_add(PROBE_EVERY);
    let late = |_| StoreError::Unavailable(format!("no answer within {limit:?}"));
    time::timeout(limit, store.ping()).await.map_err(late)?
}

fn appending(ingest: &Ingest) -> Result<(), StoreError> {
    let trouble = match (ingest.is_running(), ingest.is_refused()) {
        (false, _) => "an append worker waits without end for the store, or has ended",
        (true, true) => "it answers, and each batch has failed for some seconds",
        (true, false) => return Ok(()),
    };
    Err(StoreError::Unavailable(trouble.to_owned()))
}
