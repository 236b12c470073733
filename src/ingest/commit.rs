//! Committing a batch, and answering each caller truly whatever the store does.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    model::{Callers, Entry, IdOrigin},
    store::{Outcome, StoreError, Writer},
};

use super::{
    batch::{BatchBounds, Message, Queue, Submission},
    handle::IngestError,
    held::Held,
};

/// What the worker appends to.
pub trait Log: Send {
    /// See [`Writer::append`].
    fn append(&mut self, batch: &[&[Entry]]) -> Result<Vec<Outcome>, StoreError>;
    /// See [`Writer::reconnect`].
    fn reconnect(&mut self) -> Result<(), StoreError>;
    /// See [`Writer::answers`].
    fn answers(&mut self) -> bool;
    /// See [`Writer::held`].
    fn held(&mut self, tenants: &[&str]) -> Result<BTreeMap<String, String>, StoreError>;
}

/// What is left of a batch, to be appended in parts, the last one first.
type Left = Vec<Vec<Submission>>;

/// For how long, its first attempt included, a batch that a store which answers does not take is appended in ever smaller parts:
/// it may be a row, and it may be all of them, on a full disk say.
const SIFTING: Duration = Duration::from_secs(2);

impl Log for Writer {
    fn append(&mut self, batch: &[&[Entry]]) -> Result<Vec<Outcome>, StoreError> {
        self.append(batch)
    }

    fn reconnect(&mut self) -> Result<(), StoreError> {
        self.reconnect()
    }

    fn answers(&mut self) -> bool {
        self.answers()
    }

    fn held(&mut self, tenants: &[&str]) -> Result<BTreeMap<String, String>, StoreError> {
        self.held(tenants)
    }
}

/// Appends what comes until the queue is closed and empty.
pub(super) fn run(
    mut log: impl Log,
    messages: mpsc::UnboundedReceiver<Message>,
    bounds: BatchBounds,
    callers: Callers,
) {
    let mut queue = Queue::new(messages, bounds, callers);
    let mut held = Held::default();
    while let Some(batch) = queue.next_batch() {
        let batch = held.refuse(&mut log, batch);
        if !batch.is_empty() {
            commit_all(&mut log, &mut held, vec![batch]);
        }
    }
}

/// Not by calls within calls: there may be as many parts as there are callers.
fn commit_all(log: &mut dyn Log, held: &mut Held, mut left: Left) {
    while let Some(part) = left.pop() {
        left.extend(commit(log, held, part));
    }
}

/// Appends a batch. Where it fails because somebody else holds some of its logs, the others go on by themselves.
fn commit(log: &mut dyn Log, held: &mut Held, batch: Vec<Submission>) -> Left {
    let begun = Instant::now();
    match log.append(&entries(&batch)) {
        Err(error @ StoreError::Unavailable(_)) if held.find(log, &batch, &error) => commit_apart(log, held, batch),
        Err(error @ (StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_))) => {
            let result = append_again(log, error, &entries(&batch));
            sift_or_finish(log, batch, result, begun)
        }
        result => finish(batch, result),
    }
}

/// Appends what is of logs that nobody holds, then what is of the others, as far as their holders have gone meanwhile: a new
/// connection ends those that are frozen.
fn commit_apart(log: &mut dyn Log, held: &mut Held, batch: Vec<Submission>) -> Left {
    let (waiting, free) = held.part(batch);
    if !free.is_empty() {
        commit_all(log, held, vec![free]);
    }
    if let Err(error) = log.reconnect() {
        return fail(&error, waiting);
    }
    match held.refuse(log, waiting) {
        freed if freed.is_empty() => Left::new(),
        freed => commit_freed(log, held, freed),
    }
}

/// Appends what is of logs that were found to be free again. Whose log has gone into other hands since waits no longer.
fn commit_freed(log: &mut dyn Log, held: &mut Held, batch: Vec<Submission>) -> Left {
    let begun = Instant::now();
    match log.append(&entries(&batch)) {
        Err(error @ StoreError::Unavailable(_)) if held.find(log, &batch, &error) => {
            let (waiting, free) = held.part(batch);
            fail(&error, waiting);
            if free.is_empty() { Left::new() } else { vec![free] }
        }
        Err(error @ StoreError::OutcomeUnknown(_)) => {
            let result = append_again(log, error, &entries(&batch));
            sift_or_finish(log, batch, result, begun)
        }
        result => sift_or_finish(log, batch, result, begun),
    }
}

/// Answers a batch of which nobody can tell why it was not taken in parts. A row is refused at once: what took its time waited for
/// something, and each part would wait again.
fn sift_or_finish(
    log: &mut dyn Log,
    batch: Vec<Submission>,
    result: Result<Vec<Outcome>, StoreError>,
    begun: Instant,
) -> Left {
    match result {
        Err(error @ StoreError::Unavailable(_)) if batch.len() > 1 && begun.elapsed() < SIFTING && log.answers() => {
            sift(log, batch, &error, begun)
        }
        result => finish(batch, result),
    }
}

/// Answers a batch; one that was refused is tried in halves, so that a bad row, or a log that somebody has changed,
/// sinks its own callers alone.
fn finish(batch: Vec<Submission>, result: Result<Vec<Outcome>, StoreError>) -> Left {
    match result {
        Ok(outcomes) => {
            for (submission, outcome) in batch.into_iter().zip(outcomes) {
                submission.answer(outcome.map_err(IngestError::Rejected));
            }
            Left::new()
        }
        Err(ref error @ StoreError::RolledBack { ref tenant, .. }) => refuse_rolled_back(batch, tenant, error),
        Err(StoreError::Refused(_) | StoreError::Corrupt(_)) if batch.len() > 1 => halves(batch),
        Err(error) => fail(&error, batch),
    }
}

fn halves(mut batch: Vec<Submission>) -> Left {
    let second = batch.split_off(batch.len() / 2);
    vec![second, batch]
}

/// The same for what has failed for a reason that the store has no name for, such as a row that is too long for an index. What
/// there is no time to try fails as the whole has.
fn sift(log: &mut dyn Log, batch: Vec<Submission>, error: &StoreError, begun: Instant) -> Left {
    let (mut parts, mut left) = (halves(batch), Left::new());
    while let Some(part) = parts.pop() {
        if begun.elapsed() >= SIFTING {
            fail(error, part);
            continue;
        }
        match append_part(log, &entries(&part)) {
            Err(StoreError::Unavailable(_)) if part.len() > 1 => parts.extend(halves(part)),
            result => left.extend(finish(part, result)),
        }
    }
    left
}

/// A connection that breaks meanwhile is not the row's fault.
fn append_part(log: &mut dyn Log, part: &[&[Entry]]) -> Result<Vec<Outcome>, StoreError> {
    match log.append(part) {
        Err(error @ StoreError::OutcomeUnknown(_)) => append_again(log, error, part),
        Err(error @ StoreError::Unavailable(_)) if !log.answers() => append_again(log, error, part),
        result => result,
    }
}

/// Fails what is of the log that went back, and leaves the rest. In halves it would take two transactions for each of its callers.
fn refuse_rolled_back(batch: Vec<Submission>, tenant: &str, error: &StoreError) -> Left {
    let (back, rest): (Vec<_>, Vec<_>) = batch.into_iter().partition(|submission| submission.tenant() == Some(tenant));
    // If none were of that log, appending the rest would fail in the same way without end.
    if back.is_empty() || rest.is_empty() {
        return fail(error, back.into_iter().chain(rest).collect());
    }
    fail(error, back);
    vec![rest]
}

fn fail(error: &StoreError, batch: Vec<Submission>) -> Left {
    tracing::error!(%error, callers = batch.len(), "a batch could not be appended");
    for submission in batch {
        let answer = failure(error, &submission);
        submission.answer(Err(answer));
    }
    Left::new()
}

fn entries(batch: &[Submission]) -> Vec<&[Entry]> {
    batch.iter().map(|submission| &submission.entries[..]).collect()
}

/// Appends once more, on a new connection: the ids are looked up first, so that an outcome that was unknown becomes known, and
/// nothing is stored twice.
fn append_again(log: &mut dyn Log, first: StoreError, batch: &[&[Entry]]) -> Result<Vec<Outcome>, StoreError> {
    tracing::warn!(error = %first, "appending again on a new connection");
    let second = log.reconnect().and_then(|()| log.append(batch));
    match (first, second) {
        (_, Ok(outcomes)) => Ok(outcomes),
        // What the first attempt may have stored, a second one that did nothing cannot rule out.
        (StoreError::OutcomeUnknown(_), Err(error)) => Err(StoreError::OutcomeUnknown(error.to_string())),
        (_, Err(error)) => Err(error),
    }
}

fn failure(error: &StoreError, submission: &Submission) -> IngestError {
    let from_client = |entry: &Entry| entry.draft.id_origin() == IdOrigin::Client;
    match error {
        StoreError::Unavailable(reason) | StoreError::Unusable(reason) => IngestError::Unavailable(reason.clone()),
        StoreError::RolledBack { tenant, .. } => IngestError::RolledBack { tenant: tenant.clone() },
        StoreError::OutcomeUnknown(_) => {
            IngestError::OutcomeUnknown { retry_safe: submission.entries.iter().all(from_client) }
        }
        StoreError::Refused(reason) | StoreError::Corrupt(reason) => IngestError::Internal(reason.clone()),
    }
}
