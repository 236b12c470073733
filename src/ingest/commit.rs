//! Committing a batch, and answering each caller truly whatever the store does.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    model::{Entry, IdOrigin},
    store::{Appended, StoreError, Writer},
};

use super::{
    acceptance::Acceptance,
    batch::{Queue, Submission},
    handle::IngestError,
    held::Held,
};

/// What the worker appends to.
pub trait Log: Send {
    /// See [`Writer::append`].
    fn append(&mut self, batch: &[&[Entry]]) -> Result<Appended, StoreError>;
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
    fn append(&mut self, batch: &[&[Entry]]) -> Result<Appended, StoreError> {
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
pub(super) fn run(log: impl Log, mut queue: Queue, acceptance: Acceptance) {
    let mut worker = Worker { log, held: Held::default(), acceptance };
    while let Some(batch) = queue.next_batch() {
        let batch = worker.refuse_held(batch);
        if !batch.is_empty() {
            worker.commit_all(vec![batch]);
        }
    }
}

/// Commits for callers who wait.
struct Worker<L> {
    log: L,
    held: Held,
    acceptance: Acceptance,
}

impl<L: Log> Worker<L> {
    /// Not by calls within calls: there may be as many parts as there are callers.
    fn commit_all(&mut self, mut left: Left) {
        while let Some(part) = left.pop() {
            left.extend(self.commit(part));
        }
    }

    /// Appends a batch. Where it fails because somebody else holds some of its logs, the others go on by themselves.
    fn commit(&mut self, mut batch: Vec<Submission>) -> Left {
        let begun = Instant::now();
        self.acceptance.begins();
        match self.log.append(&entries(&batch)) {
            Err(error @ StoreError::Unavailable(_)) if self.is_held(&batch, &error) => self.commit_apart(batch),
            Err(error @ (StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_))) => {
                let result = self.append_again(error, &mut batch);
                self.sift_or_finish(batch, result, begun)
            }
            result => self.finish(batch, result, begun),
        }
    }

    /// Appends what is of logs that nobody holds, then what is of the others, as far as their holders have gone meanwhile: a new
    /// connection ends those that are frozen.
    fn commit_apart(&mut self, batch: Vec<Submission>) -> Left {
        let (waiting, free) = self.held.part(batch);
        if !free.is_empty() {
            self.commit_all(vec![free]);
        }
        let begun = Instant::now();
        if let Err(error) = self.log.reconnect() {
            return self.finish(waiting, Err(error), begun);
        }
        match self.refuse_held(waiting) {
            freed if freed.is_empty() => Left::new(),
            freed => self.commit_freed(freed),
        }
    }

    /// Appends what is of logs that were found to be free again. Whose log has gone into other hands since waits no longer.
    fn commit_freed(&mut self, mut batch: Vec<Submission>) -> Left {
        let begun = Instant::now();
        match self.log.append(&entries(&batch)) {
            Err(error @ StoreError::Unavailable(_)) if self.is_held(&batch, &error) => {
                let (waiting, free) = self.held.part(batch);
                fail(&error, waiting);
                if free.is_empty() { Left::new() } else { vec![free] }
            }
            Err(error @ StoreError::OutcomeUnknown(_)) => {
                let result = self.append_again(error, &mut batch);
                self.sift_or_finish(batch, result, begun)
            }
            result => self.sift_or_finish(batch, result, begun),
        }
    }

    fn is_held(&mut self, batch: &[Submission], error: &StoreError) -> bool {
        let is_held = self.held.find(&mut self.log, batch, error);
        if is_held {
            self.acceptance.learned_nothing();
        }
        is_held
    }

    fn refuse_held(&mut self, batch: Vec<Submission>) -> Vec<Submission> {
        self.held.refuse(&mut self.log, batch)
    }

    /// Answers a batch of which nobody can tell why it was not taken in parts. A row is refused at once: what took its time waited
    /// for something, and each part would wait again.
    fn sift_or_finish(&mut self, batch: Vec<Submission>, result: Result<Appended, StoreError>, begun: Instant) -> Left {
        match result {
            Err(error @ StoreError::Unavailable(_))
                if batch.len() > 1 && begun.elapsed() < SIFTING && self.log.answers() =>
            {
                self.sift(batch, error, begun)
            }
            result => self.finish(batch, result, begun),
        }
    }

    /// Tries what has failed for a reason that the store has no name for in halves, such as a row that is too long for an index. What
    /// there is no time to try, or no store, fails as the last has.
    fn sift(&mut self, batch: Vec<Submission>, mut error: StoreError, begun: Instant) -> Left {
        let (mut parts, mut left) = (halves(batch), Left::new());
        let mut is_there = true;
        while let Some(mut part) = parts.pop() {
            if !is_there || begun.elapsed() >= SIFTING {
                self.acceptance.failed(begun);
                fail(&error, part);
                continue;
            }
            match self.append_part(&mut part) {
                Err(unavailable @ StoreError::Unavailable(_)) if part.len() > 1 => {
                    (is_there, error) = (self.log.answers(), unavailable);
                    parts.extend(halves(part));
                }
                result => left.extend(self.finish(part, result, begun)),
            }
        }
        left
    }

    /// A connection that breaks meanwhile is not the row's fault.
    fn append_part(&mut self, part: &mut [Submission]) -> Result<Appended, StoreError> {
        match self.log.append(&entries(part)) {
            Err(error @ StoreError::OutcomeUnknown(_)) => self.append_again(error, part),
            Err(error @ StoreError::Unavailable(_)) if !self.log.answers() => self.append_again(error, part),
            result => result,
        }
    }

    /// Appends once more, on a new connection: the ids are looked up first, so that an outcome that was unknown becomes known, and
    /// nothing is stored twice. What the first attempt may have stored, a second one that did nothing cannot rule out.
    fn append_again(&mut self, first: StoreError, batch: &mut [Submission]) -> Result<Appended, StoreError> {
        tracing::warn!(error = %first, "appending again on a new connection");
        if matches!(first, StoreError::OutcomeUnknown(_)) {
            batch.iter_mut().for_each(|submission| submission.is_unknown = true);
        }
        self.log.reconnect().and_then(|()| self.log.append(&entries(batch)))
    }

    /// Answers a batch; one that was refused is tried in halves, so that a bad row, or a log that somebody has changed,
    /// sinks its own callers alone.
    fn finish(&mut self, batch: Vec<Submission>, result: Result<Appended, StoreError>, begun: Instant) -> Left {
        self.acceptance.saw(&result, begun);
        match result {
            Ok(Appended { outcomes, .. }) => {
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
}

fn halves(mut batch: Vec<Submission>) -> Left {
    let second = batch.split_off(batch.len() / 2);
    vec![second, batch]
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

/// What a caller is told of a batch that failed.
pub(super) fn failure(error: &StoreError, submission: &Submission) -> IngestError {
    let from_client = |entry: &Entry| entry.draft.id_origin() == IdOrigin::Client;
    let unknown = || IngestError::OutcomeUnknown { retry_safe: submission.entries.iter().all(from_client) };
    match error {
        // Whatever became of an attempt before: a log that went back takes nothing.
        StoreError::RolledBack { tenant, .. } => IngestError::RolledBack { tenant: tenant.clone() },
        StoreError::OutcomeUnknown(_) => unknown(),
        _ if submission.is_unknown => unknown(),
        StoreError::Unavailable(reason) | StoreError::Unusable(reason) => IngestError::Unavailable(reason.clone()),
        StoreError::Refused(reason) | StoreError::Corrupt(reason) => IngestError::Internal(reason.clone()),
    }
}
