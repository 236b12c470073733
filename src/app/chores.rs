//! What the service does by itself while it serves.

use std::{sync::Arc, time::Duration};

use chrono::NaiveDate;
use tokio::{task::JoinSet, time};

use crate::{auth::Authenticator, ingest::Ingest, model::Clock, store::Store};

use super::health::Health;

/// How often it is looked whether a new day has begun.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The tasks.
pub(super) struct Chores(JoinSet<()>);

impl Chores {
    pub(super) fn begin(
        store: &Store,
        ingest: &Ingest,
        clock: Arc<dyn Clock>,
        authenticator: Authenticator,
        health: &Health,
    ) -> Self {
        let mut chores = JoinSet::new();
        chores.spawn(health.clone().probe(store.clone(), ingest.clone()));
        let today = clock.now().date_naive();
        chores.spawn(prepare_daily(store.clone(), clock, today));
        chores.spawn(end_frozen(store.clone()));
        chores.spawn(keep_keys_fresh(authenticator));
        Self(chores)
    }

    /// Ends all of them, and waits until none begins anything any more.
    pub(super) async fn end(mut self) {
        self.0.shutdown().await;
    }
}

/// Has the store made ready for the months to come, once on each day. The start has done it; failing for a day or two does no harm.
/// The days are the clock's: a machine that has slept is ready as soon as it wakes.
async fn prepare_daily(store: Store, clock: Arc<dyn Clock>, mut prepared: NaiveDate) {
    let mut ticks = time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let now = clock.now();
        if now.date_naive() == prepared {
            continue;
        }
        prepared = now.date_naive();
        if let Err(error) = store.prepare(now).await {
            tracing::error!(%error, "the store could not be made ready for the coming months");
        }
    }
}

/// Ends what replicas that are frozen have asked for, whoever finds it first. Who records and waits for one ends it at once. It looks
/// three times in `untaken_after`, so a reader's session is ended at four thirds of that at the latest.
async fn end_frozen(store: Store) {
    while store.is_on_server() {
        time::sleep(store.untaken_after() / 3).await;
        if let Err(error) = store.end_frozen().await {
            tracing::debug!(%error, "could not look for sessions of replicas that are frozen");
        }
    }
}

async fn keep_keys_fresh(authenticator: Authenticator) {
    if let Authenticator::Token(_, verifier) = authenticator {
        verifier.keep_fresh().await;
    }
}
