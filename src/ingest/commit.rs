//! Committing a batch, and answering each caller truly whatever the store does.

use tokio::sync::mpsc;

use crate::{
    model::{Callers, Entry, IdOrigin},
    store::{Outcome, StoreError, Writer},
};

use super::{
    batch::{BatchBounds, Message, Queue, Submission},
    handle::IngestError,
};

/// What the worker appends to.
pub trait Log: Send {
    /// See [`Writer::append`].
    fn append(&mut self, batch: &[&[Entry]]) -> Result<Vec<Outcome>, StoreError>;
    /// See [`Writer::reconnect`].
    fn reconnect(&mut self) -> Result<(), StoreError>;
}

impl Log for Writer {
    fn append(&mut self, batch: &[&[Entry]]) -> Result<Vec<Outcome>, StoreError> {
        self.append(batch)
    }

    fn reconnect(&mut self) -> Result<(), StoreError> {
        self.reconnect()
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
    while let Some(batch) = queue.next_batch() {
        commit(&mut log, batch);
    }
}

/// Appends a batch; one that is refused is tried in halves, so that a bad row, or a log that went back or that
/// somebody has changed, sinks its own callers alone.
fn commit(log: &mut dyn Log, mut batch: Vec<Submission>) {
    let entries: Vec<&[Entry]> = batch.iter().map(|submission| &submission.entries[..]).collect();
    match append_truly(log, &entries) {
        Ok(outcomes) => {
            for (submission, outcome) in batch.into_iter().zip(outcomes) {
                submission.answer(outcome.map_err(IngestError::Rejected));
            }
        }
        Err(StoreError::Refused(_) | StoreError::RolledBack { .. } | StoreError::Corrupt(_)) if batch.len() > 1 => {
            let second = batch.split_off(batch.len() / 2);
            commit(log, batch);
            commit(log, second);
        }
        Err(error) => {
            tracing::error!(%error, callers = batch.len(), "a batch could not be appended");
            for submission in batch {
                let answer = failure(&error, &submission);
                submission.answer(Err(answer));
            }
        }
    }
}

/// Appends, and after a failure appends once more on a new connection: the ids are looked up first, so that an outcome
/// that was unknown becomes known, and nothing is stored twice.
fn append_truly(log: &mut dyn Log, batch: &[&[Entry]]) -> Result<Vec<Outcome>, StoreError> {
    let first = match log.append(batch) {
        Err(first @ (StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_))) => first,
        other => return other,
    };
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
