//! The audit of the audit: denied calls and reads become events in the log of the tenant that they are about.
//!
//! A [`ledger`] counts them, so that the same deed becomes at most one event in an interval. A denial is only counted
//! while the caller waits; looking whether the tenant has a log, and recording, is done by tasks of their own. A
//! read waits until the first event of its interval is in the log.

mod deed;
mod ledger;
mod logless;
mod shares;
mod story;
mod tally;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{self, Instant},
};

use crate::{
    auth::{Denied, Permit, authorize::Recorded},
    ingest::{Ingest, IngestError},
    metrics::Metrics,
    model::Clock,
    store::{Store, StoreError},
};

use self::{
    deed::Deed,
    ledger::{Begun, Due, Ledger, Noted, Read},
    story::{First, Story, Sum, Told},
    tally::Telling,
};

/// The most of what is due that is on its way into the log at a time: so few that other calls do not wait for the store
/// because of it.
const MAX_TELLING: usize = 2;
/// How long the end of the service waits for what was counted and not yet told.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// What is recorded.
#[derive(Clone, Copy, Debug)]
pub struct SelfAuditSettings {
    /// Whether denied calls are.
    pub denied: bool,
    /// Whether reads are.
    pub reads: bool,
    /// The same deed becomes at most one event in this time.
    pub interval: Duration,
}

/// Which call did it.
#[derive(Clone, Copy, Debug)]
pub struct Cause<'a> {
    /// The method, as in `auditlog.v1.AuditLogService/ListEvents`.
    pub method: &'a str,
    /// The call's name, which the service's log has too.
    pub request_id: &'a str,
}

/// Records what is done to the log itself. Clones share what they count.
#[derive(Clone)]
pub struct SelfAudit(Arc<Inner>);

struct Inner {
    store: Store,
    ingest: Ingest,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    settings: SelfAuditSettings,
    ledger: Mutex<Ledger>,
    /// There may be something to tell.
    wake: Notify,
    places: Arc<Semaphore>,
}

impl SelfAudit {
    /// Nothing has been counted yet. Nothing becomes an event before [`Self::run`] runs, but for reads.
    pub fn new(
        store: Store,
        ingest: Ingest,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        settings: SelfAuditSettings,
    ) -> Self {
        let ledger = Mutex::new(Ledger::new(settings.interval));
        let places = Arc::new(Semaphore::new(MAX_TELLING));
        Self(Arc::new(Inner { store, ingest, clock, metrics, settings, ledger, wake: Notify::new(), places }))
    }

    /// A call was denied. Takes no time to speak of: it is counted, and told later.
    pub fn denied(&self, denied: &Denied, cause: Cause<'_>) {
        if !self.0.settings.denied {
            return;
        }
        let (story, first) = (|| Story::of_denial(denied, cause), || First::of(cause, self.0.clock.now()));
        let deed = Deed::denial(denied, cause.method);
        let noted = self.0.ledger().note_denial(deed, story, first, Instant::now());
        match noted {
            Noted::Counted | Noted::NoLog => (),
            Noted::New => self.0.wake.notify_one(),
            Noted::NoRoom => self.0.metrics.calls().denials_lost(1),
        }
    }

    /// Something that `permit` allows is about to be shown. It must not be if this fails.
    pub async fn read<A: Recorded>(&self, permit: &Permit<A>, cause: Cause<'_>) -> Result<(), IngestError> {
        if !self.0.settings.reads {
            return Ok(());
        }
        let (story, first) = (|| Story::of_read(permit, cause), || First::of(cause, self.0.clock.now()));
        loop {
            let deed = Deed::read(permit, cause.method);
            let noted = self.0.ledger().note_read(deed, story, first, Instant::now());
            match noted {
                Read::Counted => return Ok(()),
                Read::NoRoom => {
                    let told = Told::new(story(), Sum { first: first(), count: 1 });
                    return self.0.append(&told).await.map(drop);
                }
                Read::Begin(begun) => {
                    let is_told = begun.is_for_reader;
                    self.tell_for_reader(begun).await?;
                    if is_told {
                        return Ok(());
                    }
                }
                // When that is in the log, this one can be counted.
                Read::Wait(telling) => ended(telling).await?,
            }
        }
    }

    /// In a task of its own, because others wait for it too, and this caller may go away.
    async fn tell_for_reader(&self, begun: Begun) -> Result<(), IngestError> {
        let telling = begun.telling.clone();
        tokio::spawn(Arc::clone(&self.0).tell(begun, None));
        ended(telling).await
    }

    /// Tells what is due, for ever.
    pub async fn run(self) {
        loop {
            let next = self.tell_due();
            tokio::select! {
                () = self.0.wake.notified() => (),
                () = until(next) => (),
            }
        }
    }

    /// Tells what was counted and not yet told, without waiting for its time. To be called when no call comes any more.
    pub async fn close(self) {
        self.0.ledger().close();
        let all_told = async {
            loop {
                self.tell_due();
                if self.0.ledger().is_empty() {
                    return;
                }
                self.0.wake.notified().await;
            }
        };
        if time::timeout(FLUSH_TIME, all_told).await.is_err() {
            tracing::error!("not all denials and reads that were counted could be recorded before the end");
        }
    }

    /// Begins to tell what is due, as far as there are places. Gives the time at which more is.
    fn tell_due(&self) -> Option<Instant> {
        while let Ok(place) = Arc::clone(&self.0.places).try_acquire_owned() {
            let due = self.0.ledger().due(Instant::now());
            match due {
                Due::Tell(begun) => drop(tokio::spawn(Arc::clone(&self.0).tell(begun, Some(place)))),
                Due::Forgotten => (),
                Due::Later(next) => return next,
            }
        }
        // The one that gives its place back wakes us.
        None
    }
}

impl Inner {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn tell(self: Arc<Self>, begun: Begun, place: Option<OwnedSemaphorePermit>) {
        let told = &begun.told;
        let result = self.append(told).await;
        if let Err(error) = &result {
            tracing::warn!(%error, tenant = told.tenant(), "could not be recorded: {}", told.message());
        }
        let lost = self.ledger().settle(&begun, &result, Instant::now());
        self.metrics.calls().denials_lost(lost);
        drop(place);
        // Nobody may be waiting.
        let _ = begun.done.send(result.map(drop));
        self.wake.notify_one();
    }

    /// Whether it is in the log now. Only a tenant that has a log gets an event: no stranger may begin logs.
    async fn append(&self, told: &Told) -> Result<bool, IngestError> {
        if self.store.log_size(told.tenant()).await.map_err(as_ingest_error)? == 0 {
            return Ok(false);
        }
        let event = told.event(&*self.clock)?;
        self.ingest.record(vec![event]).await.map(|_| true)
    }
}

async fn ended(telling: Telling) -> Result<(), IngestError> {
    telling.await.unwrap_or_else(|_| Err(IngestError::Internal("the task that records a read has ended".to_owned())))
}

async fn until(next: Option<Instant>) {
    match next {
        Some(next) => time::sleep_until(next).await,
        None => std::future::pending().await,
    }
}

fn as_ingest_error(error: StoreError) -> IngestError {
    match error {
        StoreError::RolledBack { tenant, .. } => IngestError::RolledBack { tenant },
        StoreError::Refused(_) | StoreError::Corrupt(_) => IngestError::Internal(error.to_string()),
        StoreError::Unavailable(_) | StoreError::Unusable(_) | StoreError::OutcomeUnknown(_) => {
            IngestError::Unavailable(error.to_string())
        }
    }
}
