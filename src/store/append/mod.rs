//! The one write transaction: what it acknowledges is stored, searchable and in its place.
//!
//! A writer remembers the trees of the logs that it has appended to. Most batches are written on that memory alone: the
//! places are given, the trees grow, and one statement moves the heads and stores the rows, and tiles where some are
//! finished. A head that somebody else has moved, or an id that is stored already, fails that statement as a whole, and
//! the batch is written once more, as it is where rows are gone that memory counts on, the careful way: lock the heads, look up the ids, decide, write.

mod advance_heads;
mod epoch;
mod held;
mod look_up;
mod memory;
mod new_event;
mod plan;
mod postgres;
mod sqlite;
mod transaction;
mod trees;

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    metrics::Metrics,
    model::{Clock, Draft, Entry, NoteRules, Receipt, Rejection},
};

pub use self::epoch::EpochState;
use self::{
    memory::Memory,
    plan::{Known, Plan},
    transaction::{Failed, transaction},
};
use super::{
    conn::{Access, AnyConnection, Target, postgres as postgres_connection},
    error::StoreError,
    heads::SeenHeads,
    partitions,
    rows::{NewEvent, NewNote},
};

/// What becomes of one caller's entries.
pub type Outcome = Result<Vec<Receipt>, Rejection>;

/// What becomes of a batch.
#[derive(Debug)]
pub struct Appended {
    /// Of each submission.
    pub outcomes: Vec<Outcome>,
    /// How many events and notes were stored. Those that were stored before, with the same ids, are none of them.
    pub stored: usize,
}

/// How often a batch is written the careful way before it is given up. With the heads locked it fails only where two
/// replicas begin the same log at once.
const CAREFUL_ATTEMPTS: usize = 3;

/// Appends to the log. It owns its connection.
pub struct Writer {
    connection: AnyConnection,
    target: Target,
    clock: Arc<dyn Clock>,
    rules: Arc<NoteRules>,
    memory: Memory,
    metrics: Metrics,
}

/// A plan's rows, ready to be stored.
struct Rows<'p> {
    events: Vec<NewEvent<'p>>,
    notes: Vec<NewNote<'p>>,
}

impl Writer {
    pub(super) fn open(
        target: Target,
        seen: Arc<SeenHeads>,
        clock: Arc<dyn Clock>,
        rules: Arc<NoteRules>,
    ) -> Result<Self, StoreError> {
        let (connection, memory) = (connect(&target)?, Memory::new(seen));
        Ok(Self { connection, target, clock, rules, memory, metrics: Metrics::default() })
    }

    /// The same, and counts what it stores in `metrics`.
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Takes a new connection in place of one that failed, and forgets what it remembered.
    pub fn reconnect(&mut self) -> Result<(), StoreError> {
        self.memory.clear();
        self.target.require_in_place()?;
        let connection = connect(&self.target)?;
        // Again: where a file went meanwhile, SQLite has made another one for this connection alone, and what it writes there is lost.
        self.target.require_in_place()?;
        self.connection = connection;
        // What failed may have waited for a replica that is frozen.
        if let AnyConnection::Postgres(connection) = &mut self.connection {
            postgres_connection::end_frozen(connection, self.target.timeout())?;
        }
        Ok(())
    }

    /// Whether the store is there, after a failure.
    pub fn answers(&mut self) -> bool {
        self.connection.answers()
    }

    /// Appends a batch of submissions, each whole or not at all, in one transaction. Each submission is of one tenant.
    ///
    /// # Errors
    /// [`StoreError::OutcomeUnknown`] if the commit may have happened; after any other error it has not. Appending the
    /// same entries again is safe after either, and answers truly: a writer that failed looks up the ids first.
    pub fn append(&mut self, batch: &[&[Entry]]) -> Result<Appended, StoreError> {
        self.target.require_in_place()?;
        let appended = match self.append_once(batch) {
            Err(Failed::NoMonth(missing)) => self.make_months(&missing).and_then(|()| self.append_once(batch)),
            appended => appended,
        };
        let appended = appended.map_err(Failed::into_error);
        // A file that is gone now may have been gone at the commit.
        let still_there = |appended| match self.target.require_in_place() {
            Ok(()) => Ok(appended),
            Err(error) => Err(StoreError::OutcomeUnknown(error.to_string())),
        };
        appended.and_then(still_there).inspect_err(|error| {
            // A log that went back says nothing against the others.
            if !matches!(error, StoreError::RolledBack { .. }) {
                self.memory.clear();
            }
        })
    }

    fn append_once(&mut self, batch: &[&[Entry]]) -> Result<Appended, Failed> {
        match self.memory.take(batch) {
            Some(known) => match self.append_from_memory(batch, known) {
                Err(Failed::Conflict(_) | Failed::Taken(_)) => {
                    self.metrics.append().conflict();
                    self.append_carefully(batch)
                }
                // Rows that memory counts on are gone: who looks at the heads finds out whether the log went back.
                Err(Failed::Store(error @ StoreError::Corrupt(_))) => {
                    tracing::warn!(%error, "what was remembered of a log does not fit what is stored");
                    self.append_carefully(batch)
                }
                appended => appended,
            },
            None => self.append_carefully(batch),
        }
    }

    /// Makes months that are missing, if nobody else has meanwhile. They are made ahead once a day, but a machine may have slept for
    /// longer than they last.
    fn make_months(&mut self, missing: &str) -> Result<(), Failed> {
        tracing::warn!(missing, "making the months to come");
        match &mut self.connection {
            AnyConnection::Sqlite(_) => Ok(()),
            AnyConnection::Postgres(connection) => Ok(partitions::make_on(connection, self.clock.now())?),
        }
    }

    /// Which of `tenants` somebody else holds the log of at the moment, and who, by a name that tells one from another. No log is
    /// waited for.
    pub fn held(&mut self, tenants: &[&str]) -> Result<BTreeMap<String, String>, StoreError> {
        match &mut self.connection {
            // There a writer holds all logs.
            AnyConnection::Sqlite(_) => Ok(BTreeMap::new()),
            AnyConnection::Postgres(connection) => Ok(held::held(connection, tenants)?),
        }
    }

    /// Where the log of `tenant` stands; `None` where there is none.
    pub fn epoch_state(&mut self, tenant: &str) -> Result<Option<EpochState>, StoreError> {
        epoch::state(&mut self.connection, tenant)
    }

    /// Whether this writer has the right to [begin epochs](Self::begin_epoch).
    pub fn may_begin_epochs(&mut self) -> Result<bool, StoreError> {
        epoch::may_begin(&mut self.connection)
    }

    /// Begins the next epoch of a tenant's log, which must have a head, and answers its number.
    pub fn begin_epoch(&mut self, tenant: &str, acknowledged_by: &str, reason: &str) -> Result<i32, StoreError> {
        let now = self.clock.now();
        let began = transaction(&mut self.connection, |connection| {
            epoch::begin(connection, tenant, &epoch::Acknowledged { by: acknowledged_by, reason, time: now })
        });
        began.map_err(Failed::into_error)
    }

    fn append_from_memory(&mut self, batch: &[&[Entry]], known: Known) -> Result<Appended, Failed> {
        let Self { connection, clock, rules, .. } = self;
        let mut plan = Plan::new(known, rules, clock.now());
        let outcomes = plan.submit_all(batch);
        // What lies below the heads never changes, so it may be read before the transaction.
        plan.grow_trees(|tenant, tree, leaves| trees::grow(connection, tenant, tree, leaves))?;
        let rows = rows(&plan)?;
        if !plan.placed.is_empty() {
            match connection {
                AnyConnection::Sqlite(_) => transaction(connection, |connection| write(connection, &plan, rows))?,
                AnyConnection::Postgres(connection) => postgres::write_at_once(connection, &plan.moves(), rows.events)?,
            }
        }
        count(&self.metrics, &plan);
        let stored = plan.placed.len();
        self.memory.keep(plan);
        Ok(Appended { outcomes, stored })
    }

    fn append_carefully(&mut self, batch: &[&[Entry]]) -> Result<Appended, Failed> {
        let Self { connection, clock, rules, memory, metrics, .. } = self;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let written = transaction(connection, |connection| {
                let known = look_up::look_up(connection, batch, &memory.seen, metrics.append())?;
                let mut plan = Plan::new(known, rules, clock.now());
                let outcomes = plan.submit_all(batch);
                plan.grow_trees(|tenant, tree, leaves| trees::grow(connection, tenant, tree, leaves))?;
                write(connection, &plan, rows(&plan)?)?;
                Ok((outcomes, plan))
            });
            match written {
                Ok((outcomes, plan)) => {
                    count(metrics, &plan);
                    let stored = plan.placed.len();
                    memory.keep(plan);
                    return Ok(Appended { outcomes, stored });
                }
                Err(Failed::Conflict(_) | Failed::Taken(_)) if attempt < CAREFUL_ATTEMPTS => {
                    metrics.append().conflict();
                }
                Err(failed) => return Err(failed),
            }
        }
    }
}

fn connect(target: &Target) -> Result<AnyConnection, StoreError> {
    let mut connection = target.connect(Access::Append)?;
    if let AnyConnection::Postgres(connection) = &mut connection {
        new_event::learn(connection)?;
    }
    Ok(connection)
}

/// Moves the heads, and stores the tiles and the rows, inside a transaction.
fn write(connection: &mut AnyConnection, plan: &Plan<'_>, rows: Rows<'_>) -> Result<(), Failed> {
    let moves = plan.moves();
    if moves.is_empty() {
        return Ok(());
    }
    match connection {
        AnyConnection::Sqlite(connection) => sqlite::write(connection, &moves, rows),
        AnyConnection::Postgres(connection) => postgres::write(connection, &moves, rows),
    }
}

fn rows<'p>(plan: &'p Plan<'_>) -> Result<Rows<'p>, StoreError> {
    let mut rows = Rows { events: Vec::with_capacity(plan.placed.len()), notes: Vec::new() };
    for placed in &plan.placed {
        match &placed.entry.draft {
            Draft::Event(draft) => rows.events.push(NewEvent::new(placed.entry, draft, &placed.seal)?),
            Draft::Note(draft) => rows.notes.push(NewNote::new(placed.entry, draft, &placed.seal)),
        }
    }
    // In one order for everybody: who waits for somebody else's row holds only smaller ones, so nobody waits in a circle.
    rows.events.sort_unstable_by(|a, b| (a.event_id, a.tenant_id).cmp(&(b.event_id, b.tenant_id)));
    Ok(rows)
}

/// Counts what the plan has stored.
fn count(metrics: &Metrics, plan: &Plan<'_>) {
    for placed in &plan.placed {
        match &placed.entry.draft {
            Draft::Event(draft) => metrics.append().event(draft.action),
            Draft::Note(_) => metrics.append().note(),
        }
    }
}
