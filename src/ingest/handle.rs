//! The services' side of the append path.

use std::{sync::Arc, thread};

use tokio::sync::{Semaphore, TryAcquireError, mpsc, oneshot};

use crate::{
    auth::{Annotate, Permit, Record},
    model::{Draft, Entry, EventDraft, EventReceipt, NoteDraft, NoteReceipt, Receipt, Rejection},
};

use super::{
    batch::{BatchBounds, Message, Submission},
    commit::{self, Log},
};

/// Why something was not recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// More is waiting than the queue holds.
    #[error("the append queue is full")]
    QueueFull,
    /// The service is going down and takes nothing more.
    #[error("the service is shutting down")]
    ShuttingDown,
    /// The log does not take it.
    #[error(transparent)]
    Rejected(Rejection),
    /// The store is away; nothing was recorded.
    #[error("{0}")]
    Unavailable(String),
    /// The store went away in the middle of the commit: it may or may not have been recorded.
    #[error("the store went away during the commit: it may or may not have been recorded")]
    OutcomeUnknown {
        /// Whether sending it again is safe: all ids were the client's own.
        retry_safe: bool,
    },
    /// The store refused what the service had found good.
    #[error("{0}")]
    Internal(String),
}

/// How much may wait, and how much goes into one transaction.
#[derive(Clone, Copy, Debug)]
pub struct IngestSettings {
    /// The most events and notes that wait or are being committed.
    pub queue_events: usize,
    /// The most events and notes of one transaction.
    pub batch_events: usize,
    /// About the most bytes of one transaction.
    pub batch_bytes: usize,
}

/// Hands drafts to the worker and waits for their receipts. Clones share the queue.
#[derive(Clone)]
pub struct Ingest {
    queue: mpsc::UnboundedSender<Message>,
    /// What bounds the queue: a permit for each entry that waits or is being committed.
    room: Arc<Semaphore>,
}

/// The thread that appends.
pub struct Worker(thread::JoinHandle<()>);

impl Worker {
    /// Waits until all that was accepted is answered. Call [`Ingest::close`] first.
    pub async fn join(self) {
        let joined = tokio::task::spawn_blocking(|| self.0.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the append worker ended in a panic");
        }
    }
}

impl Ingest {
    /// Starts a worker that appends to `log`.
    pub fn start(log: impl Log + 'static, settings: IngestSettings) -> std::io::Result<(Self, Worker)> {
        let (queue, messages) = mpsc::unbounded_channel();
        let bounds = BatchBounds { entries: settings.batch_events, bytes: settings.batch_bytes };
        let work = move || commit::run(log, messages, bounds);
        let worker = thread::Builder::new().name("append".to_owned()).spawn(work)?;
        let room = Arc::new(Semaphore::new(settings.queue_events));
        Ok((Self { queue, room }, Worker(worker)))
    }

    /// Records events, all or none. The reply follows the commit, in the order of `work`.
    pub async fn record(&self, work: Vec<(Permit<Record>, EventDraft)>) -> Result<Vec<EventReceipt>, IngestError> {
        let entry = |(permit, draft): (Permit<Record>, EventDraft)| Entry {
            scope: permit.scope().clone(),
            recorder: permit.principal().clone(),
            draft: Draft::Event(draft),
        };
        let receipts = self.append(work.into_iter().map(entry).collect()).await?;
        receipts.into_iter().map(event_receipt).collect()
    }

    /// Adds a note. The reply follows the commit.
    pub async fn annotate(&self, permit: Permit<Annotate>, draft: NoteDraft) -> Result<NoteReceipt, IngestError> {
        let (scope, recorder) = (permit.scope().clone(), permit.principal().clone());
        let receipts = self.append(vec![Entry { scope, recorder, draft: Draft::Note(draft) }]).await?;
        receipts.into_iter().next().ok_or_else(mismatch).and_then(note_receipt)
    }

    /// Takes nothing more; the worker finishes what was accepted and ends.
    pub fn close(&self) {
        self.room.close();
        // The worker is gone already if this fails.
        let _ = self.queue.send(Message::Close);
    }

    /// Whether the worker is there.
    pub fn is_running(&self) -> bool {
        !self.queue.is_closed()
    }

    async fn append(&self, entries: Vec<Entry>) -> Result<Vec<Receipt>, IngestError> {
        let wanted = u32::try_from(entries.len()).map_err(|_| IngestError::QueueFull)?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(wanted).map_err(|error| match error {
            TryAcquireError::NoPermits => IngestError::QueueFull,
            TryAcquireError::Closed => IngestError::ShuttingDown,
        })?;
        let (reply, answer) = oneshot::channel();
        let submission = Submission::new(entries, reply, room);
        self.queue.send(Message::Append(submission)).map_err(|_| IngestError::ShuttingDown)?;
        answer.await.unwrap_or_else(|_| Err(IngestError::Internal("the append worker dropped a caller".to_owned())))
    }
}

fn event_receipt(receipt: Receipt) -> Result<EventReceipt, IngestError> {
    match receipt {
        Receipt::Event(receipt) => Ok(receipt),
        Receipt::Note(_) => Err(mismatch()),
    }
}

fn note_receipt(receipt: Receipt) -> Result<NoteReceipt, IngestError> {
    match receipt {
        Receipt::Note(receipt) => Ok(receipt),
        Receipt::Event(_) => Err(mismatch()),
    }
}

fn mismatch() -> IngestError {
    IngestError::Internal("the receipts do not match the entries".to_owned())
}
