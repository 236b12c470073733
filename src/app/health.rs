//! Whether the service serves: found out once a second, and told to the health service and to `/readyz` alike.

use std::time::Duration;

use tokio::{sync::watch, time};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{ingest::Ingest, rpc, store::Store};

/// How often the store is asked for a sign of life.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Tells whoever asks.
#[derive(Clone)]
pub(super) struct Health {
    pub(super) reporter: HealthReporter,
    pub(super) ready: watch::Sender<bool>,
}

impl Health {
    /// Asks for ever whether the store answers and the append worker is there.
    pub(super) async fn probe(self, store: Store, ingest: Ingest) {
        let mut ticks = time::interval(PROBE_EVERY);
        let mut last = None;
        loop {
            ticks.tick().await;
            let alive = store.ping().await;
            let is_ready = alive.is_ok() && ingest.is_running();
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
        for service in ["", rpc::SERVICE_NAME] {
            self.reporter.set_service_status(service, status).await;
        }
    }
}
